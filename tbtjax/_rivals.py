"""Who may pass whom: each model set beside its rivals, and comparisons of their scores.

Arrays of this module are `[rivals, ..., n]`: for every model on the last axis its rivals are
stacked in front, so that parameters of the passing model broadcast as they are. Games are aligned
(`tbtjax._records.align`): every parameter has the same number of games' axes.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._records import num_models
from tbtjax.curves import PowerLaw
from tbtjax.game import RankingGame, models_present

Deviations = Literal["all", "adjacent"]


class Rivals(NamedTuple):
    """Rivals of each model.

    Attributes:
      of: takes a parameter `[..., n]` or `[..., 1]` to its rivals' values `[rivals, ..., n]`.
      real: bool, `[rivals, ..., n]`: False where there is no such rival.
      index: int, the same shape: which model the rival is.
    """

    of: Callable[[jax.Array], jax.Array]
    real: jax.Array
    index: jax.Array


def check_deviations(deviations: str) -> None:
    """Raises unless `deviations` is one of the two known kinds."""
    if deviations not in ("all", "adjacent"):
        raise ValueError(f'deviations must be "all" or "adjacent"; got {deviations!r}')


def stronger_rivals(game: RankingGame, deviations: Deviations) -> Rivals:
    """The more capable models that each model may pass: all of them, or the next present one."""
    if deviations == "all":
        everyone = other_models(game)
        n = game.num_models
        return everyone._replace(real=everyone.real & (everyone.index < jnp.arange(n)))
    return next_stronger(game)


def next_stronger(game: RankingGame) -> Rivals:
    """The next more capable model that is present, one rival each."""
    n = game.num_models
    if game.present is None:
        axes = (1,) * (1 + len(game.rewards.shape[:-1]))
        index = (jnp.arange(n) - 1).reshape(*axes, n)
        return Rivals(lambda x: jnp.roll(_wide(x, n), 1, axis=-1)[None], index >= 0, index)
    present = models_present(game)
    last = jax.lax.cummax(jnp.where(present, jnp.arange(n), -1), axis=present.ndim - 1)
    before = jnp.concatenate([jnp.full_like(last[..., :1], -1), last[..., :-1]], axis=-1)

    def of(x):
        x = _wide(x, n)
        shape = jnp.broadcast_shapes(x.shape, before.shape)
        x, index = jnp.broadcast_to(x, shape), jnp.broadcast_to(jnp.maximum(before, 0), shape)
        return jnp.take_along_axis(x, index, axis=-1)[None]

    return Rivals(of, (present & (before >= 0))[None], before[None])


def weaker_of(game: RankingGame, x: jax.Array) -> jax.Array:
    """`[..., n]` to the value of each model's next weaker one: undoes `next_stronger(game).of`."""
    n = game.num_models
    if game.present is None:
        return jnp.roll(_wide(x, n), -1, axis=-1)
    present = models_present(game)
    axis = present.ndim - 1
    here = jnp.where(present, jnp.arange(n), n)
    after = jnp.flip(jax.lax.cummin(jnp.flip(here, axis), axis=axis), axis)
    index = jnp.concatenate([after[..., 1:], jnp.full_like(after[..., :1], n)], axis=-1)
    x = _wide(x, n)
    index = jnp.broadcast_to(jnp.minimum(index, n - 1), x.shape)
    return jnp.take_along_axis(x, index, axis=-1)


def other_models(game: RankingGame) -> Rivals:
    """All other models, n − 1 rivals each."""
    n = game.num_models
    present = models_present(game)
    present = present.reshape(*(1,) * (game.rewards.ndim - present.ndim), *present.shape)
    shifts = jnp.arange(1, n).reshape(-1, *(1,) * game.rewards.ndim)

    def of(x):
        x = _wide(x, n)
        rolled = [jnp.roll(x, shift, axis=-1) for shift in range(1, n)]
        return jnp.stack(rolled) if rolled else jnp.zeros((0, *x.shape), x.dtype)

    index = (jnp.arange(n) - shifts) % max(n, 1)
    return Rivals(of, of(present) & present, index)


def _wide(x: jax.Array, n: int) -> jax.Array:
    return jnp.broadcast_to(x, (*x.shape[:-1], n))


def rival_logit(curves: PowerLaw, rivals: Rivals, level: jax.Array) -> jax.Array:
    """The rivals' scores at `level`, as logits of each model's own normalized score.

    logit_w(s_k) = log((s_k − l_w)/(u_w − s_k)): the rival's own logit where limits are equal; +inf
    where it is out of the model's reach, −inf where it is below the model's lower limit. Both
    differences are formed from ṽ and 1 − ṽ of the rival, never as 1 − (…).

    Args:
      curves: aligned curves, parameters `[..., n]` or `[..., 1]`.
      rivals: who is compared.
      level: `[..., 1]` or `[..., n]` log1p of the rivals' efforts, y = log(1 + e).

    Returns:
      `[rivals, ..., n]` logits.
    """
    n = num_models(curves)
    z = rivals.of(_wide(curves.alpha + curves.beta * level, n))
    if curves.has_equal_limits:
        return z
    lower, upper = rivals.of(curves.lower), rivals.of(curves.upper)
    log_width = jnp.log(upper - lower)
    return limited_logit(z, log_width, lower - curves.lower, curves.upper - upper)


def limited_logit(z, log_width, below, above):
    """log((below + w·σ(z))/(above + w·σ(−z))), ±inf where a part is not positive."""

    def log_part(offset, log_tail):
        # With no offset the tail may underflow where its log does not.
        tail = log_width + log_tail
        total = offset + jnp.exp(tail)
        positive = (offset != 0) & (total > 0)
        log_total = jnp.where(positive, jnp.log(jnp.where(positive, total, 1)), -jnp.inf)
        return jnp.where(offset == 0, tail, log_total)

    low = log_part(below, jax.nn.log_sigmoid(z))
    high = log_part(above, jax.nn.log_sigmoid(-z))
    reachable = jnp.isfinite(high)
    logit = jnp.where(reachable, low, 0) - jnp.where(reachable, high, 0)
    return jnp.where(reachable, logit, jnp.inf)


def score_lead(game: RankingGame, rivals: Rivals, effort: jax.Array) -> jax.Array:
    """By how much each rival's score is above the model's own; antisymmetric, only signs count.

    Power laws are compared where their digits are: by logits where limits are equal, else by the
    distance to the limit that is near.

    Args:
      game: an aligned game.
      rivals: who is compared.
      effort: `[..., 1]` or `[..., n]` total effort (Δ included) of each model.

    Returns:
      `[rivals, ..., n]`: positive where the rival is ahead, 0 in a tie.
    """
    curves, n = game.curves, game.num_models
    if not isinstance(curves, PowerLaw):
        scores = _wide(curves.score(effort), n)
        return rivals.of(scores) - scores
    own = _wide(curves.alpha + curves.beta * jnp.log1p(effort), n)
    theirs = rivals.of(own)
    if curves.has_equal_limits:
        return theirs - own
    lower, upper = rivals.of(curves.lower), rivals.of(curves.upper)
    width, own_width = upper - lower, curves.upper - curves.lower
    near_top = (own > 0) & (theirs > 0)
    below_top = (
        curves.upper - upper,
        width * jax.nn.sigmoid(-theirs),
        own_width * jax.nn.sigmoid(-own),
    )
    above_bottom = (
        lower - curves.lower,
        width * jax.nn.sigmoid(theirs),
        own_width * jax.nn.sigmoid(own),
    )
    lead = jnp.where(
        near_top,
        (below_top[2] - below_top[1]) - below_top[0],
        above_bottom[0] + (above_bottom[1] - above_bottom[2]),
    )
    # With one limit shared, what is left to it may underflow where its log does not.
    log_ratio = jnp.log(own_width) - jnp.log(width)
    to_top = log_ratio + (jax.nn.log_sigmoid(-own) - jax.nn.log_sigmoid(-theirs))
    from_bottom = (jax.nn.log_sigmoid(theirs) - jax.nn.log_sigmoid(own)) - log_ratio
    lead = jnp.where(near_top & (below_top[0] == 0), to_top, lead)
    lead = jnp.where(~near_top & (above_bottom[0] == 0), from_bottom, lead)
    return jnp.where((below_top[0] == 0) & (above_bottom[0] == 0), theirs - own, lead)


def is_ahead(game: RankingGame, rivals: Rivals, lead: jax.Array) -> jax.Array:
    """`[rivals, ..., n]` bool: whether the rival ranks before the model; ties to the more capable.

    Args:
      game: an aligned game.
      rivals: `other_models(game)`.
      lead: `[rivals, ..., n]` by how much each rival's score is above the model's own.
    """
    more_capable = rivals.index < jnp.arange(game.num_models)
    return rivals.real & ((lead > 0) | ((lead == 0) & more_capable))


def rewards_of_ranks(game: RankingGame, ranks: jax.Array) -> jax.Array:
    """`[..., n]` reward of each model's 0-based rank `[..., n]`."""
    rewards = _wide(game.rewards, game.num_models)
    shape = jnp.broadcast_shapes(rewards.shape, ranks.shape)
    return jnp.take_along_axis(
        jnp.broadcast_to(rewards, shape), jnp.broadcast_to(ranks, shape), axis=-1
    )


def best_score(curves: Any, level: jax.Array, budget: jax.Array) -> jax.Array:
    """Best score on the way from effort `level` to `level + budget`, `[..., n]`.

    The end's or the start's for a monotone curve; a family whose curves may fall in between offers
    a `best_score` of its own.
    """
    if hasattr(curves, "best_score"):
        return curves.best_score(level, budget)
    return jnp.maximum(curves.score(level + budget), curves.score(level))


def stability_margin(
    game: RankingGame,
    rivals: Rivals,
    y: jax.Array,
    budget: jax.Array,
    rival_y: jax.Array | None = None,
) -> jax.Array:
    """How far a model that spends its budget stays below each rival at zero effort.

    The budget form (ours): passing k does not pay for w iff v_w(Δ + g) ≤ v_k(Δ) with g the reward
    difference in steps. Power laws are compared by logits, other families by scores.

    Args:
      game: an aligned game.
      rivals: who is compared.
      y: `[..., 1]` log(1 + Δ), or `[..., n]` with a level for each passing model.
      budget: `[rivals, ..., n]` effort in steps, ≥ 0.
      rival_y: the level of each model as a rival; `y` where all have the same.

    Returns:
      `[rivals, ..., n]` of which the sign counts: negative where passing pays.
    """
    curves = game.curves
    rival_y = y if rival_y is None else rival_y
    if isinstance(curves, PowerLaw):
        # A model that does not rise gains nothing by effort.
        used = jnp.where(curves.beta > 0, budget, 0)
        end = y + jnp.log1p(used * jnp.exp(-y))
        own = curves.alpha + curves.beta * end
        own = jnp.where(jnp.isfinite(used), own, jnp.inf)
        rival = rival_logit(curves, rivals, rival_y)
        reachable = rival < jnp.inf
        return jnp.where(reachable, jnp.where(reachable, rival, 0) - own, jnp.inf)
    delta = jnp.expm1(y)
    finite = jnp.isfinite(budget)
    best = best_score(curves, delta, jnp.where(finite, budget, 0))
    # An endless budget brings a curve to its limit, or to its best on the way.
    endless = best_score(curves, delta, jnp.full_like(budget, jnp.finfo(game.dtype).max))
    best = jnp.where(finite, best, jnp.maximum(endless, curves.limit()))
    return rivals.of(_wide(curves.score(jnp.expm1(rival_y)), game.num_models)) - best
