"""The audit of costs and of single curves: who breaks an assumption, by how much and where.

Arrays are `[games, n]`; where costs or curves are looked at in several places, those come in front,
`[count, games, n]`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._intervals import largest_level
from tbtjax.costs import LinearCost, PiecewiseLinearCost, PowerCost, QuadraticCost
from tbtjax.curves import PowerLaw, Tabulated
from tbtjax.game import RankingGame

#: Efforts at which curves and costs of the user's own are looked at.
GRID_EFFORTS = 256
#: How many rounding errors of its terms a violation must exceed.
_ROUNDINGS = 16


class Finding(NamedTuple):
    """Who breaks a condition, `[games, n]` or `[rivals, games, n]` each.

    Attributes:
      fails: bool.
      amount: by how much.
      start: the effort or score from which on.
      end: the effort or score up to which.
    """

    fails: jax.Array
    amount: jax.Array
    start: jax.Array
    end: jax.Array


def nothing(shape: tuple[int, ...], dtype: Any) -> Finding:
    """The finding that the condition holds."""
    zeros = jnp.zeros(shape, dtype)
    return Finding(jnp.zeros(shape, bool), zeros, zeros, zeros)


def rounding(dtype: Any) -> float:
    """How far from zero, relative to its terms, a difference must be to count."""
    return _ROUNDINGS * float(jnp.finfo(dtype).eps)


def effort_grid(max_effort: jax.Array, count: int) -> jax.Array:
    """Efforts `[count, *max_effort.shape]` from 0 to `max_effort`, dense where they are small.

    log(1 + e) = a·sinh(t) with t evenly spaced and a = 4: even in log(1 + e) up to e^a, and ever
    wider beyond. +inf stands for the largest number of the dtype.
    """
    top = jnp.minimum(jnp.log1p(max_effort), largest_level(max_effort.dtype))
    share = jnp.linspace(0, 1, count, dtype=top.dtype).reshape(-1, *(1,) * top.ndim)
    efforts = jnp.expm1(4 * jnp.sinh(share * jnp.arcsinh(top / 4)))
    # Rounding must not step over the end, which belongs to the grid.
    last = jnp.minimum(max_effort, jnp.finfo(top.dtype).max)
    return jnp.where(share == 1, last, jnp.minimum(efforts, last))


def grid_resolution(efforts: jax.Array) -> jax.Array:
    """Largest step of a grid `[count, ...]` in log(1 + effort)."""
    levels = jnp.log1p(efforts)
    return jnp.max(levels[1:] - levels[:-1], axis=0)


def take(values: jax.Array, index: jax.Array) -> jax.Array:
    """The entry of `[count, ...]` that `index` `[...]` names."""
    values = jnp.broadcast_to(values, (values.shape[0], *index.shape))
    return jnp.take_along_axis(values, index[None], axis=0)[0]


def largest_fall(values, noise, starts, ends, usable) -> Finding:
    """The largest fall along the first axis that is more than noise.

    Args:
      values: `[count, ...]`, in order.
      noise: how far each value may be off, ≥ 0.
      starts: where each value begins to apply.
      ends: where it ends.
      usable: bool, which values count.
    """
    lowest = jnp.where(usable, values - noise, -jnp.inf)
    highest = values + noise
    before = jax.lax.cummax(lowest, axis=0)
    falls = usable & (highest < before)
    bottom = jnp.argmax(jnp.where(falls, before - jnp.where(falls, highest, 0), 0), axis=0)
    position = jnp.arange(lowest.shape[0]).reshape(-1, *(1,) * bottom.ndim)
    peak = jnp.argmax(jnp.where(position <= bottom, lowest, -jnp.inf), axis=0)
    fails = take(falls, bottom)
    amount = take(values, peak) - jnp.where(fails, take(values, bottom), 0)
    return Finding(fails, jnp.where(fails, amount, 0), take(starts, peak), take(ends, bottom))


def _largest_rise_of_slope(efforts, values) -> Finding:
    """Where a piecewise linear function, or one seen on a grid, breaks concavity.

    Args:
      efforts: `[count, ...]`, non-decreasing.
      values: `[count, ...]`.
    """
    run = efforts[1:] - efforts[:-1]
    usable = (run > 0) & jnp.isfinite(values[1:]) & jnp.isfinite(values[:-1])
    run = jnp.where(usable, run, 1)  # +inf for a plateau without end
    begin, end = jnp.where(usable, values[:-1], 0), jnp.where(usable, values[1:], 0)
    slope = (end - begin) / run
    noise = rounding(slope.dtype) * (jnp.abs(begin) + jnp.abs(end)) / run
    return largest_fall(-slope, noise, efforts[:-1], efforts[1:], usable)


# --- Costs ---------------------------------------------------------------------------------------


class CostFindings(NamedTuple):
    """Assumption 4.1, `[games, n]` each: see `tbtjax.assumptions.AssumptionReport`."""

    zero: Finding
    positive: Finding
    convex: Finding
    common: Finding


def cost_is_exact(cost: Any) -> bool:
    """Whether `cost_findings` decides c(0) = 0, c > 0 and convexity without a grid."""
    return isinstance(cost, (LinearCost, PowerCost, QuadraticCost, PiecewiseLinearCost))


def cost_findings(
    game: RankingGame, max_effort: jax.Array, present: jax.Array
) -> tuple[CostFindings, jax.Array]:
    """Findings on the costs of additional efforts up to `max_effort` `[games, 1]`.

    Returns:
      The findings, and `[games, n]` bool: where the cost is NaN.
    """
    cost = game.cost
    shape, dtype = present.shape, game.dtype
    grid = effort_grid(max_effort, GRID_EFFORTS)
    paid = cost(grid)
    shared = paid.shape[-1] == 1
    paid = jnp.broadcast_to(paid, (GRID_EFFORTS, *shape))
    grid = jnp.broadcast_to(grid, paid.shape)
    none = nothing(shape, dtype)
    common = none if shared else _different_costs(grid, paid, present)
    if not cost_is_exact(cost):
        at_zero = jnp.abs(paid[0])
        zero = Finding(at_zero > 0, at_zero, none.start, none.end)
        free = jnp.max(jnp.where(paid <= 0, grid, 0), axis=0)
        positive = Finding(free > 0, free, none.start, free)
        convex = _largest_rise_of_slope(grid, -paid)
        broken = jnp.any(jnp.isnan(paid), axis=0)
        return CostFindings(zero, positive, convex, common), broken
    convex = none
    if isinstance(cost, LinearCost):
        free_until = jnp.where(cost.rate > 0, 0, jnp.inf)
    elif isinstance(cost, PowerCost):
        free_until = jnp.where(cost.scale > 0, 0, jnp.inf)
        concave = (cost.exponent < 1) & (cost.scale > 0) & (max_effort > 0)
        infinite = jnp.full(shape, jnp.inf, dtype)  # the first step's marginal cost
        end = jnp.broadcast_to(max_effort, shape)
        convex = Finding(jnp.broadcast_to(concave, shape), infinite, none.start, end)
    elif isinstance(cost, QuadraticCost):
        free_until = jnp.where((cost.linear > 0) | (cost.quadratic > 0), 0, jnp.inf)
    else:
        begin = jnp.concatenate([jnp.zeros_like(cost.breakpoints[..., :1]), cost.breakpoints], -1)
        free_until = jnp.min(jnp.where(cost.slopes > 0, begin, jnp.inf), axis=-1)
    free = jnp.broadcast_to(jnp.minimum(free_until, max_effort).astype(dtype), shape)
    positive = Finding(free > 0, free, none.start, free)
    return CostFindings(none, positive, convex, common), jnp.zeros(shape, bool)


def _different_costs(grid: jax.Array, paid: jax.Array, present: jax.Array) -> Finding:
    """Relative difference to the cost of the strongest model present."""
    first = jnp.argmax(present, axis=-1)
    index = jnp.broadcast_to(first[None, ..., None], (*paid.shape[:-1], 1))
    reference = jnp.take_along_axis(paid, index, axis=-1)
    largest = jnp.maximum(jnp.abs(paid), jnp.abs(reference))
    comparable = jnp.isfinite(largest) & (largest > 0)
    difference = jnp.where(comparable, paid - reference, 0)
    relative = jnp.abs(difference) / jnp.where(comparable, largest, 1)
    worst = jnp.argmax(relative, axis=0)
    amount, effort = take(relative, worst), take(grid, worst)
    return Finding(amount > rounding(paid.dtype), amount, effort, effort)


# --- C2: each curve on its own -------------------------------------------------------------------


class CurveFindings(NamedTuple):
    """C2, `[games, n]` each: see `tbtjax.assumptions.AssumptionReport`."""

    rising: Finding
    concave: Finding
    bounded: Finding


def looks(game: RankingGame, max_effort: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Efforts up to `max_effort` `[games, 1]` at which curves are looked at, and their scores.

    Returns:
      `[count, games, n]` each. Of tabulated curves every point, and `max_effort`: nothing happens
      between them. Of other curves a grid.
    """
    curves, n = game.curves, game.num_models
    if isinstance(curves, Tabulated):
        efforts = jnp.where(jnp.isnan(curves.efforts), jnp.inf, curves.efforts)
        points = jnp.moveaxis(jnp.minimum(efforts, max_effort[..., None]), -1, 0)
        end = jnp.broadcast_to(max_effort, points.shape[1:])
        efforts = jnp.concatenate([points, end[None]])
    else:
        efforts = effort_grid(max_effort, GRID_EFFORTS)
    shape = (*efforts.shape[:2], n)
    return jnp.broadcast_to(efforts, shape), jnp.broadcast_to(curves.score(efforts), shape)


def curve_findings(game: RankingGame, max_effort: jax.Array) -> CurveFindings:
    """Findings on each curve at efforts from 0 to `max_effort` `[games, 1]`."""
    curves, dtype = game.curves, game.dtype
    shape = (max_effort.shape[0], game.num_models)
    bounded = nothing(shape, dtype)
    if isinstance(curves, PowerLaw):
        found = _power_law_findings(curves, max_effort)
        rising, concave = (
            Finding(*(jnp.broadcast_to(x, shape) for x in finding)) for finding in found
        )
        return CurveFindings(rising, concave, bounded)
    efforts, scores = looks(game, max_effort)
    noise = rounding(dtype) * jnp.abs(scores)
    everywhere = jnp.ones_like(scores, bool)
    rising = largest_fall(scores, noise, efforts, efforts, everywhere)
    concave = _largest_rise_of_slope(efforts, scores)
    if not isinstance(curves, Tabulated):
        endless = jnp.full(shape, jnp.inf, dtype)
        unbounded = jnp.broadcast_to(~jnp.isfinite(curves.limit()), shape)
        bounded = Finding(unbounded, endless, endless, endless)
    return CurveFindings(rising, concave, bounded)


def _power_law_findings(curves: PowerLaw, max_effort: jax.Array) -> tuple[Finding, Finding]:
    """Whether power laws rise, and are concave: exact.

    v″ has the sign of −β·(1 + β·tanh(z/2)), z = α + β·log(1 + e): a rising curve is convex where
    tanh(z/2) < −1/β, at small efforts if at all; a falling one where tanh(z/2) < 1/|β|, at large
    ones.
    """
    alpha, beta = curves.alpha, curves.beta
    width = curves.upper - curves.lower
    level = jnp.log1p(max_effort)
    zero = jnp.zeros_like(alpha + beta + max_effort)
    trained = zero + max_effort

    def slope(level):
        inside = jnp.isfinite(level)
        z = alpha + beta * jnp.where(inside, level, 0)
        rate = jnp.exp(jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z) - jnp.where(inside, level, 0))
        return jnp.where(inside, width * beta * rate, 0)

    falls = (beta < 0) & (max_effort > 0)
    loss = curves.score(jnp.zeros_like(max_effort)) - jnp.where(
        jnp.isfinite(max_effort), curves.score(jnp.where(falls, max_effort, 0)), curves.limit()
    )
    steep = jnp.abs(beta) > 1
    size = jnp.where(steep, jnp.abs(beta), 2)
    turn = jnp.log(size - 1) - jnp.log(size + 1)  # logit of the turn where a curve rises
    noise = rounding(alpha.dtype) * (1 + jnp.abs(alpha) + jnp.abs(turn))
    turn = jnp.where(beta > 0, turn, -turn)
    turn_level = jnp.where(steep, turn - alpha, 0) / jnp.where(steep, beta, 1)
    turn_level = jnp.maximum(turn_level, 0)
    rising_convex = (beta > 0) & steep & (alpha < turn - noise) & (max_effort > 0)
    falling_convex = falls & (turn_level < level)
    start = jnp.where(rising_convex, 0, turn_level)
    end = jnp.where(rising_convex, jnp.minimum(turn_level, level), level)
    convex = rising_convex | falling_convex
    steps = [jnp.where(y < level, jnp.expm1(y), max_effort) for y in (start, end)]
    return (
        Finding(falls & (zero == 0), jnp.where(falls, loss, zero), zero, trained),
        Finding(convex, slope(end) - slope(start), *steps),
    )
