"""Derivatives of levels that solve an equation, by the implicit function theorem.

A level y = log(1 + Δ) at which a deciding pair is exactly indifferent solves F(y, p) = 0 for every
parameter p of the game; so dy/dp = −(∂F/∂p)/(∂F/∂y) and dΔ/dp = e^y·dy/dp (ours; MODEL: sensitivity
of Δ*). The solver itself is never differentiated. Levels that nobody decides (0, +inf) do not move,
nor do those too high for Δ to be a number.

For power laws F depends on a few numbers of the deciding pair. How fast Δ moves with each of them
is worked out in chunks of games as the level itself is (`tbtjax._batch`), and for the first level
together with it (`first_steps`); what is left is to spread these rates over the models.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero, zero_from_primal

from tbtjax._batch import Roads, map_games
from tbtjax._elementary import log1p
from tbtjax._margins import best_score
from tbtjax._records import num_models
from tbtjax.curves import PowerLaw
from tbtjax.game import RankingGame, rewards_by_capability


@jax.custom_jvp
def steps(
    game: RankingGame, y: jax.Array, weak: jax.Array, rival: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Δ and y as differentiable functions of the game's parameters.

    Args:
      game: an aligned game, batch `[...]`.
      y: `[..., levels]` log(1 + Δ), each solving its pair's condition.
      weak: `[..., levels]` int: the weak model of the deciding pair; −1 where nobody decides.
      rival: `[..., levels]` int: the model it would pass.

    Returns:
      Δ in training steps, and `y`.
    """
    del game, weak, rival
    return _expm1(y), y


def _expm1(y: jax.Array) -> jax.Array:
    # The compiler vectorizes it where it need not look for infinity itself.
    finite = jnp.isfinite(y)
    return jnp.where(finite, jnp.expm1(jnp.where(finite, y, 0)), y)


def _steps_jvp(primals, tangents):
    game, y, weak, rival = primals
    delta, y = steps(game, y, weak, rival)
    deciding = Deciding(game, y, weak, rival)
    if isinstance(game.curves, PowerLaw):
        moved = _power_law_moves(deciding, _rates(deciding), tangents[0])
    else:
        moved = _moves(deciding, tangents[0])
    return (delta, y), (moved, moved * jnp.exp(-deciding.point))


# What does not move has a symbolic zero, and nothing is computed for it.
steps.defjvp(_steps_jvp, symbolic_zeros=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def first_steps(game: RankingGame, solve: Callable[..., Any]) -> tuple[jax.Array, Any]:
    """Δ* of power laws as a differentiable function of the game's parameters.

    Args:
      game: an aligned game, batch `[...]`.
      solve: takes a game and whether to return rates to `Levels`, `[...]` each, and the `Rates` of
        the first ones, `[...]` each, or None.

    Returns:
      Δ* in training steps, and the `Levels`, which do not move.
    """
    found, _ = solve(game, False)
    return _expm1(found.first), found


def _first_steps_jvp(solve, primals, tangents):
    game, (moved,) = primals[0], tangents
    (delta, y, rates), found = _moving_steps(game, solve)
    deciding = Deciding.of_first(game, found)._replace(y=y)  # which moves
    change = _power_law_moves(deciding, rates, moved)
    return (delta, found), (change[..., 0], jax.tree.map(zero_from_primal, found))


first_steps.defjvp(_first_steps_jvp, symbolic_zeros=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _moving_steps(game: RankingGame, solve: Callable[..., Any]) -> tuple[Any, Any]:
    """What moves (Δ* `[...]`, its y and the `Rates`, `[..., 1]` each), and the `Levels`."""
    found, rates = solve(game, True)
    y, rates = jax.tree.map(lambda x: x[..., None], (found.first, rates))
    return (_expm1(found.first), y, rates), found


@_moving_steps.defjvp
def _moving_steps_jvp(solve, primals, tangents):
    game, (moved,) = primals[0], tangents
    moving, found = _moving_steps(game, solve)
    _, y, rates = moving
    deciding = Deciding.of_first(game, found)._replace(y=y)
    change = _power_law_moves(deciding, rates, moved)
    y_change = change * jnp.exp(-deciding.point)
    _, rates_change = jax.jvp(
        lambda game, y: rates_of(deciding._replace(game=game, y=y)), (game, y), (moved, y_change)
    )
    changes = change[..., 0], y_change, rates_change
    return (moving, found), (changes, jax.tree.map(zero_from_primal, found))


class Deciding(NamedTuple):
    """Games, their levels and who decides them; see `steps`."""

    game: RankingGame
    y: jax.Array
    weak: jax.Array
    rival: jax.Array

    @classmethod
    def of_first(cls, game: RankingGame, found: Any) -> "Deciding":
        """The first of the `Levels` found, `[..., 1]`."""
        first = (found.first, found.first_pair, found.first_rival)
        return cls(game, *(x[..., None] for x in first))

    @property
    def decided(self) -> jax.Array:
        """Bool, `[..., levels]`: whether there is somebody who decides a level that can move.

        A level too high for Δ to be a number does not.
        """
        highest = np.log(jnp.finfo(self.y.dtype).max)
        return (self.weak >= 0) & (self.y > 0) & (self.y < highest)

    @property
    def point(self) -> jax.Array:
        """The level, 0 where nobody decides it."""
        return jnp.where(self.decided, self.y, 0)

    def pick(self, x: jax.Array, index: jax.Array, filler: float) -> jax.Array:
        """`[..., n or 1]` to `[..., levels]`: the indexed entry, `filler` where there is none."""
        if x.shape[-1] == 1 < self.game.num_models:
            return jnp.where(self.weak >= 0, x, filler)
        return jnp.where(self.weak >= 0, _pick(x, index), filler)

    def pick_both(self, x: jax.Array, filler_weak: float, filler_rival: float):
        """The weak model's entry of `[..., n or 1]` and the rival's, `[..., levels]` each."""
        return self.pick(x, self.weak, filler_weak), self.pick(x, self.rival, filler_rival)

    def gain(self) -> jax.Array:
        """By how much the rival's reward is higher, `[..., levels]`."""
        own, theirs = self.pick_both(rewards_by_capability(self.game), 0, 0)
        return theirs - own

    def budget(self, gain: jax.Array, cost: Any) -> jax.Array:
        """What each level's gain is worth to its weak model, `[..., levels]`, in steps."""
        if num_models(cost) == 1:
            return cost.effort_worth(gain)
        wide = (*gain.shape[:-1], self.game.num_models)
        worth = [
            _pick(
                jnp.broadcast_to(cost.effort_worth(gain[..., i : i + 1]), wide),
                self.weak[..., i : i + 1],
            )
            for i in range(gain.shape[-1])
        ]
        return jnp.concatenate(worth, axis=-1)

    def budget_and_slope(self) -> tuple[jax.Array, jax.Array]:
        """What passing is worth, and how fast that grows with the gain, `[..., levels]` each."""
        gain = self.gain()
        return jax.jvp(lambda x: self.budget(x, self.game.cost), (gain,), (jnp.ones_like(gain),))


@jax.custom_jvp
def _pick(x: jax.Array, index: jax.Array) -> jax.Array:
    """The indexed entries of `[..., n]`, `[..., levels]`; anything where the index is −1."""
    wide = jnp.broadcast_to(x, (*index.shape[:-1], x.shape[-1]))
    return jnp.take_along_axis(wide, jnp.maximum(index, 0), axis=-1, mode="promise_in_bounds")


@_pick.defjvp
def _pick_jvp(primals, tangents):
    x, index = primals
    return _pick(x, index), _spread(tangents[0], (index, 1))


def _spread(moved: jax.Array, *terms: tuple[jax.Array, Any]) -> jax.Array:
    """The sum of the indexed entries of `[..., n]`, each times its factor.

    A sum over a mask: its transpose spreads by the same mask, where a gather's would scatter.
    """
    model = jnp.arange(moved.shape[-1], dtype=jnp.int32)

    def term(index, factor):
        here = model == index[..., None]
        return jnp.sum(jnp.where(here, moved[..., None, :], 0), axis=-1) * factor

    return functools.reduce(jnp.add, [term(*x) for x in terms])


def _change(function: Callable[[Any], jax.Array], at: Any, moved: Any) -> jax.Array | None:
    """The tangent of a function of a record; None where nothing moves."""
    leaves, structure = jax.tree.flatten(at)
    tangents = jax.tree.leaves(moved)
    moving = [i for i, x in enumerate(tangents) if not isinstance(x, SymbolicZero)]
    if not moving:
        return None

    def of_moving(*values):
        new = list(leaves)
        for i, value in zip(moving, values, strict=True):
            new[i] = value
        return function(structure.unflatten(new))

    return jax.jvp(of_moving, [leaves[i] for i in moving], [tangents[i] for i in moving])[1]


class Rates(NamedTuple):
    """By how many steps levels of power laws move, `[..., levels]` each; see `rates_of`.

    Those of two move with the weak model's parameter and with the rival's.

    Attributes:
      alpha: with α; the rival's is None where all share their limits: minus the weak model's.
      beta: with the weak model's β; with the rival's y times as much as with its α.
      budget: with what passing is worth, in steps.
      gain: with the difference of rewards; None where nobody has worked that out yet.
      lower: with the lower limits; None where all share theirs.
      upper: the same for the upper limits.
    """

    alpha: tuple[jax.Array, jax.Array | None]
    beta: jax.Array
    budget: jax.Array
    gain: Any = None
    lower: tuple[jax.Array, jax.Array] | None = None
    upper: tuple[jax.Array, jax.Array] | None = None


def within_dtype(x: jax.Array) -> jax.Array:
    """What leaves the dtype's numbers is its largest."""
    largest = jnp.finfo(x.dtype).max
    return jnp.clip(x, -largest, largest)


def _power_law_moves(deciding: Deciding, rates: Rates, moved: RankingGame) -> jax.Array:
    """The tangents of Δ of power laws."""
    game = deciding.game
    total = jnp.zeros_like(deciding.y)

    def spread(tangent, by_weak, by_rival):
        if tangent.shape[-1] == 1 < game.num_models:
            return tangent * (by_weak + by_rival)
        return _spread(tangent, (deciding.weak, by_weak), (deciding.rival, by_rival))

    by_weak, by_rival = rates.alpha
    by_rival = -by_weak if by_rival is None else by_rival
    by_curve = {
        "alpha": (by_weak, by_rival),
        "beta": (rates.beta, within_dtype(by_rival * deciding.point)),
        "lower": rates.lower,
        "upper": rates.upper,
    }
    for name, rate in by_curve.items():
        tangent = getattr(moved.curves, name)
        if rate is not None and not isinstance(tangent, SymbolicZero):
            total += spread(tangent, *rate)

    def by_capability(rewards):
        return rewards_by_capability(dataclasses.replace(game, rewards=rewards))

    tangent = _change(by_capability, game.rewards, moved.rewards)
    if tangent is not None:
        total += spread(tangent, -rates.gain, rates.gain)
    tangent = _change(lambda x: deciding.budget(deciding.gain(), x), game.cost, moved.cost)
    if tangent is not None:
        total += jnp.where(rates.budget != 0, tangent, 0) * rates.budget
    return total


@jax.custom_jvp
def _rates(deciding: Deciding) -> Rates:
    entries = max(deciding.game.num_models, deciding.y.shape[-1])
    return map_games(Roads(rates_of), deciding, entries_per_game=entries)


@_rates.defjvp
def _rates_jvp(primals, tangents):
    return jax.jvp(rates_of, primals, tangents)


def rates_of(deciding: Deciding) -> Rates:
    """−e^y·(∂F/∂p)/(∂F/∂y) with F = v_k(z) − v_w(T), the rival's score less the weak model's.

    z = α_k + β_k·y, T = α_w + β_w·(y + log(1 + q)), q = g·e^{−y}. Where both models are close to
    a limit, the slopes of F are as small as e^{−|z|} and e^{−|T|}: the larger of the two is divided
    out.
    """
    game, y = deciding.game, deciding.point
    curves = game.curves
    budget, worth = deciding.budget_and_slope()
    alpha, alpha_rival = deciding.pick_both(curves.alpha, 0, 1)
    beta, beta_rival = deciding.pick_both(curves.beta, 1, 1)
    usable = (beta > 0) & jnp.isfinite(budget)
    growth, decay = jnp.exp(y), jnp.exp(-y)
    q = jnp.where(usable, budget, 0) * decay
    share = 1 / (1 + q)
    faster = beta_rival - beta
    limits: list[Any] = [None, None]
    if curves.has_equal_limits:
        # z = T at the level: no logarithm is needed.
        rises = jnp.where(beta != 0, beta, 1)
        reached = y + jnp.where(usable, (alpha_rival - alpha + faster * y) / rises, 0)
        by_z = jnp.ones_like(y)
        by_own = -by_z
    else:
        lower, lower_rival = deciding.pick_both(curves.lower, 0, 0)
        upper, upper_rival = deciding.pick_both(curves.upper, 1, 1)
        reached = y + log1p(q)
        z, own = alpha_rival + beta_rival * y, alpha + beta * reached
        far_z, far_own = jnp.exp(-jnp.abs(z)), jnp.exp(-jnp.abs(own))
        near_z, near_own = 1 / (1 + far_z), 1 / (1 + far_own)
        apart = jnp.abs(z) - jnp.abs(own)
        smaller = jnp.exp(-jnp.abs(apart))
        by_z = (upper_rival - lower_rival) * jnp.where(apart > 0, smaller, 1) * near_z**2
        by_own = -(upper - lower) * jnp.where(apart > 0, 1, smaller) * near_own**2
        # A limit moves its score by what is no smaller: finite as far as the dtype goes.
        scale = 1 / jnp.maximum(jnp.maximum(far_z, far_own), jnp.finfo(y.dtype).tiny ** 0.9)

        def halves(x, far, near):
            """σ(−x) and σ(x), scaled."""
            small, large = far * near * scale, near * scale
            return jnp.where(x > 0, small, large), jnp.where(x > 0, large, small)

        of_own, of_rival = halves(own, far_own, near_own), halves(z, far_z, near_z)
        limits = [(-of_own[i], of_rival[i]) for i in range(2)]
    slope = by_z * faster + (by_z + by_own) * beta - by_own * beta * q * share
    moving = deciding.decided & (slope != 0) & jnp.isfinite(slope)
    inverse = jnp.where(moving, -1, 0) / jnp.where(moving, slope, 1)

    def rate(x, growth=growth):
        # Of the inverse alone: what it comes from would be worked out anew for each rate. Growth
        # comes last: within the slope it would take that out of the dtype's numbers.
        return within_dtype(within_dtype(jnp.where(inverse != 0, x, 0) * inverse) * growth)

    own, rivals = rate(by_own), rate(by_z)
    # Steps gained per step of the budget: growth times decay.
    budget = rate(by_own * beta * share, jnp.where(usable, 1, 0))
    return Rates(
        alpha=(own, None if curves.has_equal_limits else rivals),
        beta=rate(by_own * reached),
        budget=budget,
        gain=within_dtype(budget * jnp.where(usable, worth, 0)),
        lower=limits[0] and (rate(limits[0][0]), rate(limits[0][1])),
        upper=limits[1] and (rate(limits[1][0]), rate(limits[1][1])),
    )


def _moves(deciding: Deciding, moved: RankingGame) -> jax.Array:
    """The tangents of Δ of any curves."""
    point = deciding.point
    change = _change(
        lambda game: _residual(deciding._replace(game=game), point), deciding.game, moved
    )
    if change is None:
        return jnp.zeros_like(point)
    _, slope = jax.jvp(lambda y: _residual(deciding, y), (point,), (jnp.ones_like(point),))
    usable = deciding.decided & (slope != 0) & jnp.isfinite(slope)
    return jnp.where(usable, -change, 0) / jnp.where(usable, slope, 1) * jnp.exp(point)


def _residual(deciding: Deciding, y: jax.Array) -> jax.Array:
    """F(y) of any curves: how far the weak model, with all that passing is worth, stays below."""
    game = deciding.game
    curves, n = game.curves, game.num_models
    budget = deciding.budget(deciding.gain(), game.cost)
    delta = jnp.expm1(y)

    def pick_score(score_at, index):
        """Each level's score of one model: curves are evaluated for all, never sliced."""
        scores = [
            _pick(
                jnp.broadcast_to(score_at(slice(i, i + 1)), (*y.shape[:-1], n)),
                index[..., i : i + 1],
            )
            for i in range(y.shape[-1])
        ]
        return jnp.where(deciding.weak >= 0, jnp.concatenate(scores, axis=-1), 0)

    theirs = pick_score(lambda i: curves.score(delta[..., i]), deciding.rival)
    own = pick_score(lambda i: best_score(curves, delta[..., i], budget[..., i]), deciding.weak)
    return theirs - own
