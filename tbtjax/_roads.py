"""How the stabilizing levels of a chunk of games are found: fast roads, complete ones, and a scan.

Each function takes games whose leaves are `[games, *event]` or `[1, *event]` (`tbtjax._batch`), and
gives levels as y = log(1 + Δ). Fast roads (`_regular`, `_rays`) know power laws and say which games
they leave open; complete ones (`_intervals`, `_pieces`) know all of these; a scan, any curves.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax import _intervals, _pieces, _rays, _regular, _scan
from tbtjax._batch import chunk_size
from tbtjax._implicit import Deciding, Rates, rates_of, within_dtype
from tbtjax._margins import score_margin, scores_with_budget
from tbtjax._records import num_models
from tbtjax._rivals import (
    Deviations,
    Rivals,
    gains_by_capability,
    next_stronger,
    stronger_rivals,
    weaker_of,
)
from tbtjax._status import Status
from tbtjax.game import RankingGame, is_valid, problems

# On an accelerator a turn of a loop is a launch of kernels, which costs more than what little a
# pair asks for: there so many pairs are worked on in one turn.
PAIRS_AT_ONCE = 32


class Levels(NamedTuple):
    """What a road finds for a chunk of games: `[games]` each, levels as y = log(1 + Δ).

    `*_pair` and `*_rival` name the models that decide a level, −1 where nobody does. A game without
    an answer has NaN and −1.
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

    def with_rivals_next(self) -> "Levels":
        """The same where every rival is the model before: nobody needs to have kept them."""
        first, last, settled = (
            jnp.maximum(pair - 1, -1)
            for pair in (self.first_pair, self.last_pair, self.settled_pair)
        )
        return self._replace(first_rival=first, last_rival=last, settled_rival=settled)


def _status(valid, converged, first, last) -> jax.Array:
    """What applies; where several do, the largest `Status`."""
    status = jnp.where(first == 0, Status.STABLE_AT_ZERO, Status.FOUND)
    status = jnp.where(jnp.isfinite(last), Status.INTERVAL, status)
    status = jnp.where(jnp.isinf(first), Status.NOWHERE, status)
    status = jnp.where(converged, status, Status.NOT_CONVERGED)
    return jnp.where(valid, status, Status.INVALID).astype(jnp.int32)


def _levels(first, last, settled, deciding, status) -> Levels:
    """The levels with their deciding (weak model, rival), in the same order."""
    failed = status >= Status.NOT_CONVERGED

    def known(x, otherwise):
        return jnp.where(failed, otherwise, x)

    (first_pair, first_rival), (last_pair, last_rival), (settled_pair, settled_rival) = (
        [known(model, -1) for model in models] for models in deciding
    )
    return Levels(
        first=known(first, jnp.nan),
        last=known(last, jnp.nan),
        settled=known(settled, jnp.nan),
        first_pair=first_pair,
        first_rival=first_rival,
        last_pair=last_pair,
        last_rival=last_rival,
        settled_pair=settled_pair,
        settled_rival=settled_rival,
        status=status,
    )


def _undecided(game: RankingGame) -> Levels:
    """Games in which nobody has a rival: stable at zero."""
    size = chunk_size(game)
    nobody = jnp.full(size, -1, jnp.int32)
    zero, inf = jnp.zeros(size, game.dtype), jnp.full(size, jnp.inf, game.dtype)
    valid = jnp.broadcast_to(is_valid(game), (size,))
    return _levels(zero, inf, zero, [(nobody, nobody)] * 3, _status(valid, True, zero, inf))


def budgets_of(game: RankingGame, rivals: Rivals) -> jax.Array:
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

    return _PairRows(
        lambda x: rows(x[None]), of_rivals, rows(budgets_of(game, rivals)), free, models
    )


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


def ray(
    game: RankingGame,
    deviations: Deviations,
    *,
    with_rates: bool = False,
    thorough: bool = True,
    unroll: int = 1,
) -> tuple[tuple[Levels, Rates | None], Any]:
    """The fast road of power laws, and the games that it leaves open, `[games]`.

    Where limits differ and it is not thorough, besides those that it leaves open unless they are
    in order (`in_order`).

    Args:
      game: the chunk.
      deviations: as in `stabilizing_threshold`.
      with_rates: whether to return how the first levels move, `[games]` each.
      thorough: as in `_regular.regular_level`.
      unroll: as in `_regular.regular_level`.
    """
    columns = columns_of(game)
    apart = deviations == "all" and not _are_neighbours_enough(game)
    how = {
        "most_ranks": game.num_models - 1 if apart else 1,
        "with_rates": with_rates,
        "thorough": thorough,
        "unroll": unroll,
    }
    found = _fast_level(game, columns.curves, columns.worth_of, how)
    settled = found.settled & is_usable(game)
    y, unstable = found.y, found.y > 0
    pair = jnp.where(unstable, found.weak, -1)
    rival = jnp.where(unstable, found.weak - 1, -1)
    never = jnp.full_like(y, jnp.inf)
    nobody = jnp.full_like(pair, -1)
    status = jnp.where(unstable, Status.FOUND, Status.STABLE_AT_ZERO).astype(jnp.int32)
    levels = Levels(y, never, y, pair, rival, nobody, nobody, pair, rival, status)
    rates = found.rates
    if rates is not None:
        deciding = Deciding.of_first(game, levels)
        worth = deciding.budget_and_slope()[1][:, 0]
        rates = rates._replace(gain=rates.budget * worth)
        rates = jax.tree.map(lambda x: jnp.where(unstable, within_dtype(x), 0), rates)
    return (levels, rates), ~settled if found.unless is None else (~settled, found.unless)


def in_order(game: RankingGame) -> jax.Array:
    """Whether β and the upper limits do not increase along the models, `[games]`."""
    ordered = _rays.is_ordered(game.curves.beta, game.curves.upper, axis=-1)
    return jnp.broadcast_to(ordered, (chunk_size(game),))


def _are_neighbours_enough(game: RankingGame) -> bool:
    """Whether all pairs are stable from a level on where all neighbours are (ours).

    So it is with a convex cost that all models share. Passing a rival is then worth at most what
    passing each next one is worth, g ≤ g₁ + g₂ + …; with all that, at effort E + g, a weak model is
    behind the next one's score at E + g − g₁ ≥ E, where this pair is stable too, and so on up to
    the rival's score at E. Curves may be of any kind; but neighbours must stay stable, which fast
    roads show of them, and which one level alone does not tell.
    """
    return num_models(game.cost) == 1 and getattr(game.cost, "is_convex", False)


class Columns(NamedTuple):
    """A chunk without a mask of models, games in contiguous lanes, models in the order given.

    Attributes:
      curves: alpha, beta, lower and upper, `[n, games]` each.
      rewards: `[n, games or 1]`.
      cost: the cost; its leaves are `[n or 1, games or 1, ...]`.
    """

    curves: tuple[jax.Array, ...]
    rewards: jax.Array
    cost: Any

    def worth_of(self, weak, rival) -> jax.Array:
        """What passing the rival is worth to the weak model, in steps; NaN where rewards rise.

        Args:
          weak: an index, or a slice of models.
          rival: the same.

        Returns:
          `[games]`, or `[models, games]`.
        """
        cost = jax.tree.map(lambda x: x[weak if len(x) > 1 else 0], self.cost)
        gain = self.rewards[rival] - self.rewards[weak]
        worth = jnp.where(gain < 0, jnp.nan, cost.effort_worth(gain))
        return jnp.broadcast_to(worth, (*worth.shape[:-1], self.curves[0].shape[1]))


def columns_of(game: RankingGame) -> Columns:
    shape = (chunk_size(game), game.num_models)

    def turned(x):
        return jnp.swapaxes(x, 0, 1)

    def turned_alone(x):
        # The comparison changes nothing: where something is to be done with a number besides, the
        # compiler turns a chunk while it reads it; else it makes a copy first.
        x = turned(x)
        return jnp.where(x >= jnp.inf, jnp.inf, x)

    # Where limits differ, what reads the curves rounds them.
    turn = turned_alone if game.curves.has_equal_limits else turned
    curves = tuple(
        turn(jnp.broadcast_to(getattr(game.curves, name), shape))
        for name in ("alpha", "beta", "lower", "upper")
    )
    rewards = jnp.broadcast_to(game.rewards, (len(game.rewards), game.num_models))
    return Columns(curves, turned_alone(rewards), jax.tree.map(turned, game.cost))


def _fast_level(game: RankingGame, curves, worth_of, how) -> _regular.FastLevel:
    """What the fast road for the game's curves finds of games in contiguous lanes."""
    alpha, beta, lower, upper = curves
    if game.curves.has_equal_limits:
        return _regular.regular_level(alpha, beta, worth_of, **how)
    return _rays.ray_level(alpha, beta, lower, upper, worth_of, **how)


def is_usable(game: RankingGame) -> jax.Array:
    """Whether the parameters that the fast roads do not look at themselves are valid, `[games]`."""
    looked_at = ["alpha", "beta", "rewards"]
    if not game.curves.has_equal_limits:
        looked_at += ["lower", "upper"]
    rest = [p for p in problems(game) if p.argument not in looked_at]
    return functools.reduce(jnp.logical_and, [~jnp.any(p.bad, axis=-1) for p in rest])


def all_levels(
    game: RankingGame, deviations: Deviations, *, with_rates: bool = False
) -> tuple[Levels, Rates | None]:
    """The complete road of power laws: both ends of the first stretch and what comes after it.

    Every pair's stable levels are known exactly. The rest is as in `ray`.
    """
    levels = _all_levels(game, deviations)
    if not with_rates:
        return levels, None
    rates = rates_of(Deciding.of_first(game, levels))
    return levels, jax.tree.map(lambda x: x[:, 0], rates)


def _all_levels(game: RankingGame, deviations: Deviations) -> Levels:
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


def ray_by_pair(
    game: RankingGame, *, thorough: bool = True, unroll: int = 1
) -> tuple[tuple[jax.Array, jax.Array], Any]:
    """The fast road to `all_by_pair`, and the games that it leaves open, `[games]`; see `ray`."""
    shape = (game.num_models - 1, chunk_size(game))
    columns = columns_of(game)
    # A pair is a game of two models.
    of_two = [jnp.stack([x[:-1].ravel(), x[1:].ravel()]) for x in columns.curves]
    worth = columns.worth_of(slice(1, None), slice(None, -1)).ravel()
    worth = jnp.stack([0 * worth, worth])
    how = {"most_ranks": 1, "thorough": thorough, "unroll": unroll}
    found = _fast_level(game, of_two, lambda weak, _: worth[weak], how)
    is_open = ~jnp.all(found.settled.reshape(shape), axis=0) | ~is_usable(game)
    if found.unless is not None:
        is_open = is_open, jnp.any(found.unless.reshape(shape), axis=0)
    return (found.y.reshape(shape).T, _rivals_by_pair(game)), is_open


def all_by_pair(game: RankingGame) -> tuple[jax.Array, jax.Array]:
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


def scanned(game: RankingGame, deviations: Deviations, scan_levels: int) -> Levels:
    """Any curves: levels classified by a scan, ends of stretches found by halvings."""
    size = chunk_size(game)
    valid = jnp.broadcast_to(is_valid(game), (size,))
    if game.num_models < 2:
        return _undecided(game)
    rivals = stronger_rivals(game, deviations)
    budgets = budgets_of(game, rivals)

    def scores(y):
        return scores_with_budget(game, y[:, None], budgets, y[:, None])

    def margins(scores, *, lenient=False):
        margin = score_margin(game, rivals, scores, lenient=lenient)
        return jnp.where(rivals.real & valid[:, None], margin, jnp.inf)

    def hold(scores, *, lenient):
        return jnp.all(margins(scores, lenient=lenient) >= 0, axis=(0, 2))

    like = jnp.zeros(size, game.dtype) + jnp.where(valid, 0, 0)
    found = _scan.stable_stretches(_scan.Conditions(scores, hold), scan_levels, like)
    count, n = rivals.real.shape[0], game.num_models
    index = jnp.broadcast_to(rivals.index, (count, size, n))

    def deciding(stretch_end):
        """Who is worst off a few rounding errors on the unstable side of y; −1 if nobody."""
        y, side = stretch_end
        some = jnp.isfinite(y) & (y > 0)
        at = jnp.where(some, y, 0)
        margin = margins(scores(at + side * 64 * jnp.finfo(game.dtype).eps * (1 + at)))
        flat = jnp.moveaxis(margin, 1, 0).reshape(size, -1)
        which = jnp.argmin(flat, axis=-1)
        rival = jnp.moveaxis(index, 1, 0).reshape(size, -1)
        rival = jnp.take_along_axis(rival, which[:, None], axis=-1)[:, 0]
        return tuple(jnp.where(some, x, -1).astype(jnp.int32) for x in (which % n, rival))

    sides = jnp.array([-1, 1, -1], game.dtype)
    weak, rival = jax.lax.map(deciding, (jnp.stack(found), sides))
    pairs = list(zip(weak, rival, strict=True))
    return _levels(*found, pairs, _status(valid, True, found.first, found.last))


def scanned_by_pair(game: RankingGame, scan_levels: int) -> tuple[jax.Array, jax.Array]:
    """First stable y of each adjacent pair alone and its rival, `[games, n − 1]`."""
    size = chunk_size(game)
    n = game.num_models
    if n < 2:
        return jnp.zeros((size, 0), game.dtype), jnp.zeros((size, 0), int)
    valid = jnp.broadcast_to(is_valid(game), (size,))[:, None]
    rivals = next_stronger(game)
    budgets = budgets_of(game, rivals)
    real = (jnp.broadcast_to(rivals.real, (1, size, n)) & valid)[0]

    def scores(y):
        """Each model at a level of its own, `[games, n]`; as a rival at the weaker one's."""
        return scores_with_budget(game, y, budgets, weaker_of(game, y))

    def hold(scores, *, lenient):
        margin = score_margin(game, rivals, scores, lenient=lenient)[0]
        return jnp.where(real, margin, jnp.inf) >= 0

    like = jnp.zeros((size, n), game.dtype) + jnp.where(valid, 0, 0)
    first = _scan.first_levels(_scan.Conditions(scores, hold), scan_levels, like)
    rival = jnp.broadcast_to(rivals.index[0], (size, n))
    return first[:, 1:], rival[:, 1:]
