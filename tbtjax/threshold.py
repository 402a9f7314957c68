"""The stabilizing threshold Δ*: from which tune-before-test level on does nobody gain by effort?

    >>> from tbtjax import linear_cost, power_law, ranking_game, stabilizing_threshold
    >>> curves = power_law([2.6488, 0.0], [1.2394, 1.0])  # the paper's pair: e_req(0) near 13
    >>> game = ranking_game(curves, [100.0, 0.0], linear_cost(1.0))
    >>> threshold = stabilizing_threshold(game)
    >>> threshold.status_names()
    'FOUND'

Source: Chen, Zhang, Hardt (arXiv 2603.08371), section 5. Parts that go past the paper (all
deviations, the shape of the stabilizing set, derivatives, bounds) are marked "ours".
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax import _implicit
from tbtjax._batch import Roads, map_games
from tbtjax._records import Record, align
from tbtjax._rivals import (
    Deviations,
    check_deviations,
    next_stronger,
)
from tbtjax._roads import (
    PAIRS_AT_ONCE,
    Levels,
    all_by_pair,
    all_levels,
    budgets_of,
    in_order,
    ray,
    ray_by_pair,
    scanned,
    scanned_by_pair,
)
from tbtjax._status import Status
from tbtjax.curves import PowerLaw
from tbtjax.effort import just_overtake_effort
from tbtjax.game import RankingGame, check_game

#: Levels looked at before ends of stretches are located.
_SCAN_LEVELS = 256


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StabilizingThreshold(Record):
    """Stabilizing levels of a batch of games; see `stabilizing_threshold`.

    Attributes:
      delta: `[...]` Δ*, the first stabilizing level, in training steps; +inf if there is none.
      upper: `[...]` where that stretch ends; +inf where it does not.
      settled: `[...]` the level from which on every level stabilizes; +inf if there is none.
      pair: `[...]` int: index of the weak model that decides Δ*; −1 where nobody does.
      rival: `[...]` int: index of the model it would pass; −1 where nobody does.
      by_pair: `[..., n − 1]` Δ* of each adjacent pair alone.
      status: `[...]` int32, one of `Status`.
    """

    event_ndims: ClassVar[dict[str, int]] = dict.fromkeys(
        ("delta", "upper", "settled", "pair", "rival", "status"), 0
    )
    event_dims: ClassVar[dict[str, tuple[str, ...]]] = {"by_pair": ("pair_of_neighbours",)}
    enums: ClassVar[dict[str, Any]] = {"status": Status}

    delta: jax.Array
    upper: jax.Array
    settled: jax.Array
    pair: jax.Array
    rival: jax.Array
    by_pair: jax.Array
    status: jax.Array

    def status_names(self) -> Any:
        """The names of the statuses: a string for one game, else nested lists of them."""
        names = np.vectorize(lambda s: Status(int(s)).name, otypes=[object])
        status = np.asarray(self.status)
        return names(status).tolist() if status.size else status.astype(object).tolist()

    def raise_if_failed(self) -> None:
        """Raises where a game has no answer (INVALID, NOT_CONVERGED); for use outside jit.

        Raises:
          ValueError: with the count and first index of the games of each cause.
        """
        status = np.asarray(self.status)
        remedies = {
            Status.INVALID: "unusable parameters: `validate(game)` names them",
            Status.NOT_CONVERGED: "the solver ran out of rounds: try float64",
        }
        for case, remedy in remedies.items():
            games = np.argwhere(status == case)
            if len(games):
                first = tuple(int(i) for i in games[0])
                raise ValueError(
                    f"{len(games)} of {status.size} games have status {case.name} ({remedy}); "
                    f"first at index {first}"
                )


def stabilizing_threshold(
    game: RankingGame, deviations: Deviations = "all", *, scan_levels: int = _SCAN_LEVELS
) -> StabilizingThreshold:
    """The first tune-before-test level from which on nobody gains by additional effort.

    Δ* = inf{Δ ≥ 0 : c(e_{r→k}(Δ)) ≥ R_k − R_r for all r and all k above r}: Def. 5.4 with the
    exact condition (ours) instead of the adjacent one. A level counts only if the baseline ranking
    follows capability there. Where the paper's assumptions hold, the stabilizing levels are a ray
    [Δ*, ∞); otherwise they may be a stretch [Δ*, upper], more after it, or none.

    Args:
      game: any batch `[...]` of games.
      deviations: "all" for the exact condition, over all more capable rivals; "adjacent" for the
        paper's (Prop. 4.5), over the next one, which can miss profitable jumps where assumptions
        fail.
      scan_levels: number of levels at which curves other than power laws with equal limits are
        looked at before any end of a stretch is located (`tbtjax._scan` gives their spacing).
        Stretches or interruptions shorter than the spacing can be missed; more levels find them.

    Returns:
      The record, of the game's dtype, levels in training steps. Power laws whose limits are scalar
      or `[..., 1]` are solved exactly. `delta`, `upper`, `settled` and `by_pair` can be
      differentiated in every parameter: 0 where the value is 0 or +inf, the deciding pair's
      derivative at a kink. Under jit, what is not used is not computed.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: `deviations` or `scan_levels` is not one of those described.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [10.0, 0.0], linear_cost(1.0))
      >>> round(float(stabilizing_threshold(game).delta), 2)  # (g − e⁰)/e⁰ at ρ = 1
      4.82

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), Def. 5.4, Prop. 4.5, Cor. 5.5.
    """
    check_game(game)
    check_deviations(deviations)
    if isinstance(scan_levels, bool) or not isinstance(scan_levels, int) or scan_levels < 2:
        raise ValueError(f"scan_levels must be an integer of 2 or more; got {scan_levels!r}")
    return _threshold(game, deviations, scan_levels, True)


def threshold_of_few(game: RankingGame, deviations: Deviations) -> StabilizingThreshold:
    """`stabilizing_threshold` by the complete roads alone: half to compile, slower for many games.

    Args:
      game: any batch `[...]` of games.
      deviations: as in `stabilizing_threshold`.
    """
    return _threshold(game, deviations, _SCAN_LEVELS, False)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _threshold(game: RankingGame, deviations: Deviations, scan_levels: int, has_fast_roads: bool):
    n = game.num_models
    game = align(game)

    def in_all(roads, game):
        return map_games(roads, game, entries_per_game=max(n, 1))

    def roads_of(fast, complete):
        """The roads of power laws."""
        if not has_fast_roads or n < 2 or game.present is not None:
            return Roads(complete)
        return Roads(
            functools.partial(fast, thorough=False),
            complete,
            again=fast,
            check=None if game.curves.has_equal_limits else in_order,
            on_accelerator=functools.partial(fast, unroll=PAIRS_AT_ONCE),
        )

    def steps(y, pair, rival):
        return _implicit.steps(game, y, pair, rival)[0]

    def one_level(*found):
        return steps(*(x[..., None] for x in found))[..., 0]

    if isinstance(game.curves, PowerLaw):

        def solve(game, with_rates):
            how = {"deviations": deviations, "with_rates": with_rates}
            fast, complete = (functools.partial(road, **how) for road in (ray, all_levels))
            found, rates = in_all(roads_of(fast, complete), game)
            if deviations == "adjacent" and game.present is None:
                found = found.with_rivals_next()
            return found, rates

        delta, found = _implicit.first_steps(game, solve)
        pair_roads = roads_of(ray_by_pair, all_by_pair)
    else:
        fixed = jax.lax.stop_gradient(game)
        found = in_all(Roads(lambda chunk: scanned(chunk, deviations, scan_levels)), fixed)
        delta = one_level(found.first, found.first_pair, found.first_rival)
        pair_roads = Roads(lambda chunk: scanned_by_pair(chunk, scan_levels))
    each, each_rival = in_all(pair_roads, jax.lax.stop_gradient(game))
    failed = (found.status >= Status.NOT_CONVERGED)[..., None]
    each = jnp.where(failed, jnp.nan, each)
    weak = jnp.broadcast_to(jnp.arange(1, n), each.shape)
    decided = (each > 0) & jnp.isfinite(each)
    return StabilizingThreshold(
        delta=delta,
        upper=one_level(found.last, found.last_pair, found.last_rival),
        settled=one_level(found.settled, found.settled_pair, found.settled_rival),
        pair=found.first_pair,
        rival=found.first_rival,
        by_pair=steps(each, jnp.where(decided, weak, -1), jnp.where(decided, each_rival, -1)),
        status=found.status,
    )


class PlainThreshold(NamedTuple):
    """`StabilizingThreshold` without `by_pair` and without derivatives, `[games]` each."""

    delta: jax.Array
    upper: jax.Array
    settled: jax.Array
    pair: jax.Array
    rival: jax.Array
    status: jax.Array


def fast_threshold(game: RankingGame, deviations: Deviations) -> tuple[PlainThreshold, jax.Array]:
    """The fast road of power laws alone, for who compiles the other only where a game needs it.

    Args:
      game: games along one axis, few enough to be worked on at once; power-law curves, two or more
        models, all present.
      deviations: as in `stabilizing_threshold`.

    Returns:
      The answers, and for which games they hold, `[games]` bool; `complete_threshold` has the
      others'.
    """
    (levels, _), is_open = ray(align(game), deviations)
    return _in_steps(levels), ~is_open


def complete_threshold(game: RankingGame, deviations: Deviations) -> PlainThreshold:
    """The complete road of power laws alone; as `fast_threshold`, and one model is enough."""
    return _in_steps(all_levels(align(game), deviations)[0])


def _in_steps(found: Levels) -> PlainThreshold:
    return PlainThreshold(
        delta=jnp.expm1(found.first),
        upper=jnp.expm1(found.last),
        settled=jnp.expm1(found.settled),
        pair=found.first_pair,
        rival=found.first_rival,
        status=found.status,
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RuleOfThumb(Record):
    """The rule of thumb Δ* ≈ κ^ρ for each adjacent pair, and bounds; see `rule_of_thumb`.

    Attributes:
      e0: `[..., n − 1]` baseline catch-up difficulty e_req(0), in training steps.
      rho: `[..., n − 1]` learning-rate ratio β_weak/β_strong.
      kappa: `[..., n − 1]` reward gap in steps over e0.
      delta: `[..., n − 1]` κ^ρ in training steps, 0 where κ ≤ 1.
      upper_bound: `[..., n − 1]` ours; +inf where it does not hold.
      lower_bound: `[..., n − 1]` ours; 0 where it does not hold.
    """

    event_dims: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(
        ("e0", "rho", "kappa", "delta", "upper_bound", "lower_bound"), ("pair_of_neighbours",)
    )

    e0: jax.Array
    rho: jax.Array
    kappa: jax.Array
    delta: jax.Array
    upper_bound: jax.Array
    lower_bound: jax.Array


def rule_of_thumb(game: RankingGame) -> RuleOfThumb:
    """The paper's approximation of each adjacent pair's Δ*, with bounds of our own beside it.

    κ = g/e⁰, Δ*_r ≈ κ^ρ (Prop. 5.6). For equal limits, ρ ≤ 1 and κ ≥ 1 (ours):

        ((1 + g)/(1 + e⁰))^ρ ≤ 1 + Δ* ≤ ((g + κ^ρ)/(1 + e⁰))^ρ ≤ κ^ρ.

    For ρ > 1 or different limits the rule can be far below Δ*: the bounds are then 0 and +inf.

    Args:
      game: a batch `[...]` of games with power-law curves.

    Returns:
      The record. e0 is +inf where the rival is out of reach, and κ = 0 then; κ = +inf where e0 = 0
      and the gap is worth something. Where a model of the pair is absent: e0 = +inf, ρ = NaN.

    Raises:
      TypeError: `game` is not a `RankingGame`, or its curves are not power laws.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([2.9444, 0.0], [1.2394, 1.0]), [100, 0], linear_cost(1.0))
      >>> round(float(rule_of_thumb(game).delta[0]), 2)
      3.99

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), Prop. 5.6.
    """
    check_game(game)
    if not isinstance(game.curves, PowerLaw):
        raise TypeError(
            "rule_of_thumb needs power-law curves (power_law(...)): it is a statement about their "
            f"learning rates; got {type(game.curves).__name__}"
        )
    return _rule_of_thumb(game)


@jax.jit
def _rule_of_thumb(game: RankingGame) -> RuleOfThumb:
    e0 = just_overtake_effort(game, jnp.zeros((), game.dtype))
    game = align(game)
    rivals = next_stronger(game)
    beta = jnp.broadcast_to(game.curves.beta, (*game.curves.beta.shape[:-1], game.num_models))
    beta_strong = rivals.of(beta)[0]
    divisible = beta_strong != 0
    rho = jnp.where(divisible, beta / jnp.where(divisible, beta_strong, 1), jnp.inf)
    rho = jnp.where(rivals.real[0], rho, jnp.nan)[..., 1:]
    g = budgets_of(game, rivals)[0, ..., 1:]
    reachable = (e0 > 0) & jnp.isfinite(e0)
    kappa = jnp.where(reachable, g, 0) / jnp.where(reachable, e0, 1)
    kappa = jnp.where((e0 == 0) & (g > 0), jnp.inf, kappa)
    kappa = jnp.where(jnp.isnan(e0) | jnp.isnan(g), jnp.nan, kappa)
    needed = kappa > 1
    exponent = jnp.where(jnp.isfinite(rho) & (rho > 0), rho, 1)
    power = jnp.where(needed, kappa, 1) ** exponent
    holds = (kappa >= 1) & reachable & (rho <= 1) & (rho > 0) & game.curves.has_equal_limits
    base = jnp.where(holds, 1 + e0, 1)
    upper = (jnp.where(holds, g + power, 1) / base) ** exponent - 1
    lower = (jnp.where(holds, 1 + g, 1) / base) ** exponent - 1
    safe_zero = (kappa <= 1) & game.curves.has_equal_limits & (rho <= 1) & (rho > 0)
    return RuleOfThumb(
        e0=e0,
        rho=rho,
        kappa=kappa,
        delta=jnp.where(jnp.isnan(kappa), jnp.nan, jnp.where(needed, power, 0)),
        upper_bound=jnp.where(holds, upper, jnp.where(safe_zero, 0, jnp.inf)),
        lower_bound=jnp.where(holds, lower, 0),
    )
