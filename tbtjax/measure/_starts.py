"""Where searches start, and which of them are run."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax.measure._minimize import STEEPEST, Curve, Problem
from tbtjax.measure._queue import Method, run
from tbtjax.measure._sums import Regression, divide, weighted_line, weighted_mean

#: Starts: midpoints over the measured range and half a unit of x beyond, and rates.
_MIDPOINTS, _RATES, _SLOWEST, _FASTEST = 18, 8, 0.15, 12.0
#: A curve with a larger |rate| jumps: hardly more than a point lies on the way up.
_STEEP = 2.0
#: Logits of starts are cut off here, where odds are not yet beyond single precision.
_REACH = 85.0


class Starts(NamedTuple):
    """Two places to search from: a curve that bends and one that jumps.

    Attributes:
      level: `[2, curves]` logit at the mean effort.
      rate: `[2, curves]` learning rate.
      apart: `[curves]` whether the second is worth a search: on the grid it lies in a valley of its
        own, not on a slope that falls all the way to curves that bend.
    """

    level: jax.Array
    rate: jax.Array
    apart: jax.Array


def start(problem: Problem) -> Starts:
    """The best of their kind of a grid and of a regression on the logits between the limits.

    Each may lead to a minimum, and where the grid is better says little of which is lower. Losses
    are χ², in single precision: to tell which start is best needs no more digits.
    """
    points, low, high = problem.points, problem.low, problem.high
    share = jnp.clip((points.score - low[None]) / (high - low)[None], 0.01, 0.99)
    weight = points.weight * (share * (1 - share)) ** 2
    level, rate, _ = weighted_line(weight, points.effort, jax.scipy.special.logit(share), axis=0)
    # Unused points lie at the mean, within the range.
    first, last = jnp.min(points.effort, axis=0) - 0.5, jnp.max(points.effort, axis=0) + 0.5
    middle, mean = (first + last) / 2, weighted_mean(points.weight, points.score)
    weight = divide(points.weight, jnp.max(points.weight, axis=0)[None])
    columns = points.effort - middle[None], points.score - mean[None], weight
    dtype = level.dtype
    columns, (low, high, level, rate, first, last, middle) = jax.tree.map(
        lambda x: x.astype(jnp.float32),
        (columns, (low - mean, high - mean, level, rate, first, last, middle)),
    )
    rates = np.geomspace(_SLOWEST, _FASTEST, _RATES, dtype=np.float32)
    if not problem.free:  # free limits may change places, which turns the sign
        rates = np.concatenate([-rates, rates])
    shares = np.linspace(0, 1, _MIDPOINTS, dtype=np.float32)
    midpoints = first[None] + (last - first)[None] * shares[:, None]
    limits = low[None], high[None]
    kinds = jnp.asarray([[False], [True]])

    def look(found, node):
        before, apart, *best = found
        rate, is_of_grid, is_border = node
        levels = jnp.where(is_of_grid, -rate[None] * midpoints, level[None])
        at_middle = levels + (rate * middle)[None]
        losses = _coarse_chi2(columns, at_middle, rate, limits, problem.free)
        least = jnp.min(losses, axis=0)
        levels = jnp.min(jnp.where(losses == least[None], levels, jnp.inf), axis=0)
        # The best of each kind, of curves that bend and of curves that jump.
        better = (least[None] < best[0]) & ((jnp.abs(rate) > _STEEP)[None] == kinds)
        apart = jnp.where(better[1], ~is_border | (least < before), apart)
        now = (least, levels, rate)
        best = (jnp.where(better, x[None], y) for x, y in zip(now, best, strict=True))
        return (least, apart, *best), None

    steepest = jnp.clip(rate, -STEEPEST, STEEPEST)
    is_steep = np.abs(np.append(rates[:1], rates)) > _STEEP
    # The slowest of the rates that jump: the one before it bends, and is of the same sign.
    is_border = is_steep & ~np.roll(is_steep, 1)
    nodes = jnp.concatenate([steepest[None], rates[:, None] + jnp.zeros_like(rate)[None]])
    none = jnp.stack([jnp.zeros_like(level)] * 2)
    best = none + jnp.inf, none + level[None], none + rate[None]
    found = (none[0], none[0] > 0, *best)
    (_, apart, _, level, rate), _ = jax.lax.scan(
        look, found, (nodes, np.arange(len(nodes)) > 0, is_border)
    )
    return Starts(level.astype(dtype), rate.astype(dtype), apart)


def best_from_starts(method: Method, problem: Problem) -> Curve:
    """The best of the curves that searches from the starts end at."""
    level, rate, apart = start(problem)
    wanted = jnp.concatenate([jnp.ones_like(apart), apart])
    ends = run(method, problem, level.reshape(-1), rate.reshape(-1), wanted)
    *found, losses = (x.reshape(2, -1) for x in ends)
    return problem.curve(*(jnp.where(losses[0] <= losses[1], *x) for x in found))


def _coarse_chi2(
    columns: tuple[jax.Array, ...],
    level: jax.Array,
    rate: jax.Array,
    limits: tuple[jax.Array, jax.Array],
    free: bool,
) -> jax.Array:
    """χ² of many curves through the same points, `[k, curves]`, but for a constant.

    Args:
      columns: efforts about some middle of the range, scores and weights, each `[points, curves]`.
      level: `[k, curves]` logit in that middle.
      rate: `[curves]`.
      limits: the limits or their bounds, each `[1, curves]`.
      free: whether the limits are at their best for each curve.
    """
    # An exponential for each level and each point does for all pairs of them.
    reach = jnp.asarray(_REACH, level.dtype)
    by_level = jnp.exp(jnp.clip(-level, -reach, reach))
    middle = 1 / (1 + by_level)

    def add(total, row):
        effort, score, weight = (x[None] for x in row)
        rise = 1 / (1 + by_level * jnp.exp(jnp.clip(-rate[None] * effort, -reach, reach)))
        if free:
            offset = rise - middle
            weighted = weight * offset
            terms = weighted, weighted * offset, weighted * score
        else:
            terms = (weight * (score - limits[0] - (limits[1] - limits[0]) * rise) ** 2,)
        return tuple(x + y for x, y in zip(total, terms, strict=True)), None

    none = jnp.zeros_like(level)
    (sums, *others), _ = jax.lax.scan(add, (none, none, none) if free else (none,), columns)
    if not free:
        return sums
    square, product = others
    _, score, weight = columns
    weights, mean = jnp.sum(weight, axis=0)[None], weighted_mean(weight, score)[None]
    mean_offset = divide(sums, weights)
    regression = Regression(
        weights,
        mean,
        middle + mean_offset,
        1 - middle - mean_offset,
        jnp.maximum(square - sums * mean_offset, 0),
        product - sums * mean,
    )
    return regression.best_limits(*limits)[2]
