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
import enum
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax import _implicit, _intervals, _pieces, _rays, _regular, _scan
from tbtjax._batch import Roads, chunk_size, map_games
from tbtjax._records import Record, align
from tbtjax._rivals import (
    Deviations,
    Rivals,
    check_deviations,
    gains_by_capability,
    next_stronger,
    stability_margin,
    stronger_rivals,
    weaker_of,
)
from tbtjax.curves import PowerLaw
from tbtjax.effort import just_overtake_effort
from tbtjax.game import RankingGame, check_game, is_valid, problems


class Status(enum.IntEnum):
    """What is known of a game's stabilizing levels; where several apply, the largest value wins."""

    FOUND = 0
    """A ray from Δ* > 0: every level from there on stabilizes."""
    STABLE_AT_ZERO = 1
    """A ray from 0: today's practice is stable already."""
    INTERVAL = 2
    """The first stretch ends: some higher level is not stable."""
    NOWHERE = 3
    """No level that is a finite number of the dtype stabilizes."""
    NOT_CONVERGED = 4
    """The solver ran out of rounds; the values are NaN."""
    INVALID = 5
    """An unusable parameter (`validate` names it); the values are NaN."""


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


class _Levels(NamedTuple):
    """What a road finds for a chunk of games: `[games]` each, levels as y = log(1 + Δ).

    `*_pair` and `*_rival` name the models that decide a level, −1 where nobody does.
    """

    first: jax.Array
    last: jax.Array
    settled: jax.Array
    first_pair: jax.Array
    first_rival: jax.Array
    last_pair: jax.Array
    last_rival: jax.Array
    settled_pair: jax.Array
    settled_rival: jax.Array
    status: jax.Array


def stabilizing_threshold(
    game: RankingGame, deviations: Deviations = "all", *, scan_levels: int = 256
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
    return _threshold(game, deviations, scan_levels)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _threshold(game: RankingGame, deviations: Deviations, scan_levels: int):
    n = game.num_models
    shape = game.batch_shape
    game = align(game)
    fixed = jax.lax.stop_gradient(game)
    if isinstance(game.curves, PowerLaw):
        complete = functools.partial(_all_levels, deviations=deviations)
        roads, pair_roads = Roads(complete), Roads(_all_by_pair)
        if n >= 2 and game.present is None:
            roads = Roads(functools.partial(_ray, deviations=deviations), complete)
            pair_roads = Roads(_ray_by_pair, _all_by_pair)
    else:
        roads = Roads(lambda chunk: _scanned(chunk, deviations, scan_levels))
        pair_roads = Roads(lambda chunk: _scanned_by_pair(chunk, scan_levels))
    found: _Levels = map_games(roads, fixed, entries_per_game=max(n, 1))
    each, each_rival = map_games(pair_roads, fixed, entries_per_game=max(n, 1))
    failed = found.status >= Status.NOT_CONVERGED

    def level(y, pair, rival):
        """Training steps, differentiable, `[...]` or `[..., n − 1]`."""
        one = y.ndim == len(shape)
        wide = [x[..., None] if one else x for x in (y, pair, rival)]
        y = _implicit.levels(game, *wide)
        finite = jnp.isfinite(y)
        delta = jnp.where(finite, jnp.expm1(jnp.where(finite, y, 0)), jnp.inf)
        delta = jnp.where(failed[..., None], jnp.nan, delta)
        return delta[..., 0] if one else delta

    weak = jnp.broadcast_to(jnp.arange(1, n), each.shape)
    decided = (each > 0) & jnp.isfinite(each)
    return StabilizingThreshold(
        delta=level(found.first, found.first_pair, found.first_rival),
        upper=level(found.last, found.last_pair, found.last_rival),
        settled=level(found.settled, found.settled_pair, found.settled_rival),
        pair=jnp.where(failed, -1, found.first_pair),
        rival=jnp.where(failed, -1, found.first_rival),
        by_pair=level(each, jnp.where(decided, weak, -1), jnp.where(decided, each_rival, -1)),
        status=found.status,
    )


def _status(valid, converged, first, last) -> jax.Array:
    """What applies; where several do, the largest `Status`."""
    status = jnp.where(first == 0, Status.STABLE_AT_ZERO, Status.FOUND)
    status = jnp.where(jnp.isfinite(last), Status.INTERVAL, status)
    status = jnp.where(jnp.isinf(first), Status.NOWHERE, status)
    status = jnp.where(converged, status, Status.NOT_CONVERGED)
    return jnp.where(valid, status, Status.INVALID).astype(jnp.int32)


def _levels(first, last, settled, deciding, status) -> _Levels:
    """The levels with their deciding (weak model, rival), in the same order."""
    (first_pair, first_rival), (last_pair, last_rival), (settled_pair, settled_rival) = deciding
    return _Levels(
        first=first,
        last=last,
        settled=settled,
        first_pair=first_pair,
        first_rival=first_rival,
        last_pair=last_pair,
        last_rival=last_rival,
        settled_pair=settled_pair,
        settled_rival=settled_rival,
        status=status,
    )


def _undecided(game: RankingGame) -> _Levels:
    """Games in which nobody has a rival: stable at zero."""
    size = chunk_size(game)
    nobody = jnp.full(size, -1, jnp.int32)
    zero, inf = jnp.zeros(size, game.dtype), jnp.full(size, jnp.inf, game.dtype)
    valid = jnp.broadcast_to(is_valid(game), (size,))
    status = _status(valid, True, zero, inf)
    return _Levels(zero, inf, zero, nobody, nobody, nobody, nobody, nobody, nobody, status)


def _budgets(game: RankingGame, rivals: Rivals) -> jax.Array:
    """`[rivals, games, n]` what passing each rival is worth to each model, in steps."""
    return game.cost.effort_worth(gains_by_capability(game, rivals))


class _PairRows(NamedTuple):
    """The pairs of a chunk of games and what turns per-model arrays into per-pair ones.

    Attributes:
      weak: takes `[games or 1, n or 1]` to the weak models' values `[pairs, games]`.
      rival: the same for their rivals.
      budget: `[pairs, games]` what passing is worth, in steps.
      free: `[pairs, games]` bool: constrains nothing.
      models: takes a pair's index `[games]` to its weak model and rival; −1 to −1.
    """

    weak: Any
    rival: Any
    budget: jax.Array
    free: jax.Array
    models: Any


def _pair_rows(game: RankingGame, deviations: Deviations) -> _PairRows:
    n = game.num_models
    size = chunk_size(game)
    rivals = stronger_rivals(game, deviations)
    count = rivals.real.shape[0]
    # Without a mask it is known when tracing who has such a rival.
    start = [s + 1 if game.present is None else 0 for s in range(count)]

    def rows(stacked):
        """`[rivals, games or 1, n or 1]` to `[pairs, games]`; impossible pairs left out."""
        stacked = jnp.broadcast_to(stacked, (count, size, n))
        return jnp.concatenate([stacked[s, :, start[s] :].T for s in range(count)])

    free = ~rows(rivals.real) | ~jnp.broadcast_to(is_valid(game), (size,))
    weak = rows(jnp.broadcast_to(jnp.arange(n), rivals.index.shape))
    rival = rows(rivals.index)

    def models(pair):
        here = jnp.arange(len(weak))[:, None] == pair
        return tuple(
            jnp.where(pair >= 0, jnp.sum(jnp.where(here, x, 0), axis=0), -1).astype(jnp.int32)
            for x in (weak, rival)
        )

    def of_rivals(x):
        return rows(rivals.of(jnp.broadcast_to(x, (x.shape[0], n))))

    return _PairRows(lambda x: rows(x[None]), of_rivals, rows(_budgets(game, rivals)), free, models)


def _equal_limit_pairs(game: RankingGame, rows: _PairRows) -> _intervals.Pairs:
    alpha, beta = game.curves.alpha, game.curves.beta
    beta_weak = rows.weak(beta)
    return _intervals.make_pairs(
        rows.rival(alpha) - rows.weak(alpha),
        rows.rival(beta) - beta_weak,
        beta_weak,
        rows.budget,
        rows.free,
    )


def _different_limit_pairs(game: RankingGame, rows: _PairRows) -> _pieces.LimitedPairs:
    curves = game.curves
    lower, upper = rows.rival(curves.lower), rows.rival(curves.upper)
    return _pieces.make_limited_pairs(
        rows.rival(curves.alpha),
        rows.rival(curves.beta),
        rows.weak(curves.alpha),
        rows.weak(curves.beta),
        (lower - rows.weak(curves.lower)) / (upper - lower),
        (rows.weak(curves.upper) - upper) / (upper - lower),
        rows.budget,
        rows.free,
    )


def _ray(game: RankingGame, deviations: Deviations) -> tuple[_Levels, jax.Array]:
    """The fast road of power laws, and the games that it leaves open, `[games]`."""
    n = game.num_models
    columns = _columns_of(game)
    most_ranks = n - 1 if deviations == "all" else 1
    found = _fast_level(game, columns.curves, columns.worth, columns.worth_of, most_ranks)
    settled = found.settled & _is_usable(game)
    y, unstable = found.y, found.y > 0
    pair = jnp.where(unstable, found.weak, -1)
    rival = jnp.where(unstable, found.weak - 1, -1)
    never = jnp.full_like(y, jnp.inf)
    nobody = jnp.full_like(pair, -1)
    status = jnp.where(unstable, Status.FOUND, Status.STABLE_AT_ZERO).astype(jnp.int32)
    levels = _Levels(y, never, y, pair, rival, nobody, nobody, pair, rival, status)
    return levels, ~settled


class _Columns(NamedTuple):
    """A chunk without a mask of models, games in contiguous lanes, models in the order given.

    Attributes:
      curves: alpha, beta, lower and upper, `[n, games]` each.
      rewards: `[n, games or 1]`.
      cost: the cost; its leaves are `[n or 1, games or 1, ...]`.
    """

    curves: tuple[jax.Array, ...]
    rewards: jax.Array
    cost: Any

    @property
    def worth(self) -> jax.Array:
        """`[n − 1, games]` what passing the next stronger model is worth, in steps."""
        rewards, shape = self.rewards, (len(self.rewards) - 1, self.curves[0].shape[1])
        cost = jax.tree.map(lambda x: x[1:] if len(x) > 1 else x, self.cost)
        return jnp.broadcast_to(_worth(cost, rewards[:-1] - rewards[1:]), shape)

    def worth_of(self, weak, rival) -> jax.Array:
        """`[games]` what passing the rival is worth to the weak model, in steps."""
        cost = jax.tree.map(lambda x: x[weak if len(x) > 1 else 0], self.cost)
        return _worth(cost, self.rewards[rival] - self.rewards[weak])


def _worth(cost: Any, gain: jax.Array) -> jax.Array:
    """The gain in steps; NaN where it is negative: a rising reward is invalid, not no gap."""
    return jnp.where(gain < 0, jnp.nan, cost.effort_worth(gain))


def _columns_of(game: RankingGame) -> _Columns:
    shape = (chunk_size(game), game.num_models)

    def turned(x):
        return jnp.swapaxes(x, 0, 1)

    curves = tuple(
        turned(jnp.broadcast_to(getattr(game.curves, name), shape))
        for name in ("alpha", "beta", "lower", "upper")
    )
    rewards = jnp.broadcast_to(game.rewards, (len(game.rewards), game.num_models))
    return _Columns(curves, turned(rewards), jax.tree.map(turned, game.cost))


def _fast_level(game: RankingGame, curves, worth, worth_of, most_ranks: int) -> _regular.FastLevel:
    """What the fast road for the game's curves finds of games in contiguous lanes."""
    alpha, beta, lower, upper = curves
    if game.curves.has_equal_limits:
        return _regular.regular_level(alpha, beta, worth, worth_of, most_ranks=most_ranks)
    return _rays.ray_level(alpha, beta, lower, upper, worth, worth_of, most_ranks=most_ranks)


def _is_usable(game: RankingGame) -> jax.Array:
    """Whether the parameters that the fast roads do not look at themselves are valid, `[games]`."""
    rest = [p for p in problems(game) if p.argument not in ("alpha", "beta", "rewards")]
    return functools.reduce(jnp.logical_and, [~jnp.any(p.bad, axis=-1) for p in rest])


def _all_levels(game: RankingGame, deviations: Deviations) -> _Levels:
    """The complete road of power laws: both ends of the first stretch and what comes after it.

    Every pair's stable levels are known exactly.
    """
    if game.num_models < 2:
        return _undecided(game)
    valid = jnp.broadcast_to(is_valid(game), (chunk_size(game),))
    rows = _pair_rows(game, deviations)
    if game.curves.has_equal_limits:
        interval = _intervals.stable_interval(_equal_limit_pairs(game, rows))
        first, last, converged = interval.first, interval.last, interval.converged
        ray = jnp.isfinite(first) & jnp.isinf(last)
        settled = jnp.where(ray, first, jnp.inf)
        first_pair, last_pair = interval.first_pair, interval.last_pair
        settled_pair = jnp.where(ray, first_pair, -1)
    else:
        first, last, settled, first_pair, last_pair, settled_pair = _pieces.stable_stretch(
            _different_limit_pairs(game, rows)
        )
        converged = True
    deciding = [rows.models(pair) for pair in (first_pair, last_pair, settled_pair)]
    return _levels(first, last, settled, deciding, _status(valid, converged, first, last))


def _ray_by_pair(game: RankingGame) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """The fast road to `_all_by_pair`, and the games that it leaves open, `[games]`."""
    shape = (game.num_models - 1, chunk_size(game))
    columns = _columns_of(game)
    # A pair is a game of two models.
    of_two = [jnp.stack([x[:-1].ravel(), x[1:].ravel()]) for x in columns.curves]
    found = _fast_level(game, of_two, columns.worth.reshape(1, -1), None, 1)
    settled = jnp.all(found.settled.reshape(shape), axis=0) & _is_usable(game)
    return (found.y.reshape(shape).T, _rivals_by_pair(game)), ~settled


def _all_by_pair(game: RankingGame) -> tuple[jax.Array, jax.Array]:
    """First stable y of each adjacent pair alone and its rival, `[games, n − 1]`."""
    size, n = chunk_size(game), game.num_models
    if n < 2:
        return jnp.zeros((size, 0), game.dtype), jnp.zeros((size, 0), int)
    rows = _pair_rows(game, "adjacent")
    if game.curves.has_equal_limits:
        # Each pair is a game of its own.
        pairs = [x.reshape(1, -1) for x in _equal_limit_pairs(game, rows)]
        first = _intervals.stable_interval(_intervals.Pairs(*pairs)).first
        first = first.reshape(rows.free.shape)
    else:
        first = _pieces.first_stable(_different_limit_pairs(game, rows))
    return first.T[:, first.shape[0] - (n - 1) :], _rivals_by_pair(game)


def _rivals_by_pair(game: RankingGame) -> jax.Array:
    """The next stronger model of each but the strongest, `[games, n − 1]`."""
    shape = (chunk_size(game), game.num_models)
    return jnp.broadcast_to(next_stronger(game).index[0], shape)[:, 1:]


def _scanned(game: RankingGame, deviations: Deviations, scan_levels: int) -> _Levels:
    """Any curves: levels classified by a scan, ends of stretches found by halvings."""
    size = chunk_size(game)
    valid = jnp.broadcast_to(is_valid(game), (size,))
    if game.num_models < 2:
        return _undecided(game)
    rivals = stronger_rivals(game, deviations)
    budgets = _budgets(game, rivals)

    def margins(y, *, lenient=False):
        margin = stability_margin(game, rivals, y[:, None], budgets, lenient=lenient)
        return jnp.where(rivals.real & valid[:, None], margin, jnp.inf)

    def is_stable(y, *, lenient):
        return jnp.all(margins(y, lenient=lenient) >= 0, axis=(0, 2))

    like = jnp.zeros(size, game.dtype) + jnp.where(valid, 0, 0)
    found = _scan.stable_stretches(is_stable, scan_levels, like)
    count, n = rivals.real.shape[0], game.num_models
    index = jnp.broadcast_to(rivals.index, (count, size, n))

    def deciding(stretch_end):
        """Who is worst off a few rounding errors on the unstable side of y; −1 if nobody."""
        y, side = stretch_end
        some = jnp.isfinite(y) & (y > 0)
        at = jnp.where(some, y, 0)
        margin = margins(at + side * 64 * jnp.finfo(game.dtype).eps * (1 + at))
        flat = jnp.moveaxis(margin, 1, 0).reshape(size, -1)
        which = jnp.argmin(flat, axis=-1)
        rival = jnp.moveaxis(index, 1, 0).reshape(size, -1)
        rival = jnp.take_along_axis(rival, which[:, None], axis=-1)[:, 0]
        return tuple(jnp.where(some, x, -1).astype(jnp.int32) for x in (which % n, rival))

    sides = jnp.array([-1, 1, -1], game.dtype)
    weak, rival = jax.lax.map(deciding, (jnp.stack(found), sides))
    pairs = list(zip(weak, rival, strict=True))
    return _levels(*found, pairs, _status(valid, True, found.first, found.last))


def _scanned_by_pair(game: RankingGame, scan_levels: int) -> tuple[jax.Array, jax.Array]:
    """First stable y of each adjacent pair alone and its rival, `[games, n − 1]`."""
    size = chunk_size(game)
    n = game.num_models
    if n < 2:
        return jnp.zeros((size, 0), game.dtype), jnp.zeros((size, 0), int)
    valid = jnp.broadcast_to(is_valid(game), (size,))[:, None]
    rivals = next_stronger(game)
    budgets = _budgets(game, rivals)
    real = (jnp.broadcast_to(rivals.real, (1, size, n)) & valid)[0]

    def is_stable(y, *, lenient):
        """Each model at a level of its own, `[games, n]`."""
        theirs = weaker_of(game, y)
        margin = stability_margin(game, rivals, y, budgets, rival_y=theirs, lenient=lenient)[0]
        return jnp.where(real, margin, jnp.inf) >= 0

    like = jnp.zeros((size, n), game.dtype) + jnp.where(valid, 0, 0)
    first = _scan.first_levels(is_stable, scan_levels, like)
    rival = jnp.broadcast_to(rivals.index[0], (size, n))
    return first[:, 1:], rival[:, 1:]


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
    levels, is_open = _ray(align(game), deviations)
    return _in_steps(levels), ~is_open


def complete_threshold(game: RankingGame, deviations: Deviations) -> PlainThreshold:
    """The complete road of power laws alone; as `fast_threshold`, and one model is enough."""
    return _in_steps(_all_levels(align(game), deviations))


def _in_steps(found: _Levels) -> PlainThreshold:
    failed = found.status >= Status.NOT_CONVERGED

    def steps(y):
        return jnp.where(failed, jnp.nan, jnp.expm1(y))

    return PlainThreshold(
        delta=steps(found.first),
        upper=steps(found.last),
        settled=steps(found.settled),
        pair=jnp.where(failed, -1, found.first_pair),
        rival=jnp.where(failed, -1, found.first_rival),
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
    g = _budgets(game, rivals)[0, ..., 1:]
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
