"""The minimisation behind `fit_power_law`: many curves at once, by variable projection.

Given the logit z = level + rate·(x − x̄) with x = log(1 + step), the limits enter the score
linearly, v = lower·σ(−z) + upper·σ(z), so the best limits within their box are a small problem in
closed form. What is left to minimise is a function of (level, rate) alone, for free and for fixed
limits alike. A grid finds the basin; a Levenberg-Marquardt iteration (`_levenberg`) or L-BFGS
(`_lbfgs`) does the rest.

Arrays are `[points, curves]`, parameters `[curves]`: sums over the points of one curve are then
sums of rows, which the compiler vectorizes over curves.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

#: Largest |rate|. Over a doubling of the effort such a curve runs from 0.1 % to 99.9 % of its
#: rise: measurements at usual efforts cannot tell it from a jump.
STEEPEST = 20.0
#: Starts: midpoints over the measured range and half a unit of x beyond, and rates.
_MIDPOINTS, _RATES, _SLOWEST, _FASTEST = 18, 8, 0.15, 12.0
#: A curve with a larger |rate| jumps: hardly more than a point lies on the way up.
_STEEP = 2.0
#: The most searches that are run at once: few enough for their points to stay in cache.
_WIDTH = 128
#: Logits of starts are cut off here, where odds are not yet beyond single precision.
_REACH = 85.0
#: Deviations of (level, rate) that steps are measured against where the points say little.
_FARTHEST = (10.0, 3.0)
#: Rounds of reweighting that solve for the limits under the deviance.
_REWEIGHTINGS = 6
#: Converged: what the search may have left of the loss, in units of σ², or of the loss per degree
#: of freedom where that is more.
_SHARE_LEFT = 1e-3
#: A search ends with a step by which the loss should have fallen by less than this, in such units.
_SETTLED = 1e-9


class Points(NamedTuple):
    """The measurements, each `[points, curves]`; an unused point is 0 throughout.

    Attributes:
      effort: x − x̄: log(1 + step), less its mean over the used points of the curve.
      score: measured score.
      weight: 1/σ².
      questions: number of questions behind the score; read under the deviance alone.
    """

    effort: jax.Array
    score: jax.Array
    weight: jax.Array
    questions: jax.Array


class Curve(NamedTuple):
    """Curves and their values at the points.

    `rise` = σ(z) and `fall` = σ(−z), `[points, curves]`, are both kept: 1 − σ(z) has no digits
    left where it is small.
    """

    level: jax.Array
    rate: jax.Array
    lower: jax.Array
    upper: jax.Array
    rise: jax.Array
    fall: jax.Array

    @property
    def score(self) -> jax.Array:
        """v, `[points, curves]`."""
        return self.lower[None] * self.fall + self.upper[None] * self.rise

    @property
    def failure(self) -> jax.Array:
        """1 − v, `[points, curves]`."""
        return (1 - self.lower)[None] * self.fall + (1 - self.upper)[None] * self.rise


class Minimum(NamedTuple):
    """The best curves: `[curves]`, but for the last two.

    `gradient` of the loss and `deviation` (standard deviation at unit scale), `[4, curves]`, are
    in the order alpha, beta, lower, upper, with 0 for what was not fitted or is held at its bound;
    `at_bound` tells whether something fitted is. A deviation is +inf where the points say nothing.
    """

    alpha: jax.Array
    beta: jax.Array
    lower: jax.Array
    upper: jax.Array
    loss: jax.Array
    converged: jax.Array
    at_bound: jax.Array
    gradient: jax.Array
    deviation: jax.Array


@dataclasses.dataclass(frozen=True)
class Problem:
    """Curves to fit, each for itself.

    Attributes:
      points: their measurements.
      low: the lower limits; where limits are free, the least value that either may take.
      high: the upper limits; where limits are free, the largest value that either may take.
      noise: 1 where the weights are known to be 1/σ², else 0: the unit of the loss.
      free: whether the limits are fitted.
      loss: "chi2" or "deviance".
    """

    points: Points
    low: jax.Array
    high: jax.Array
    noise: jax.Array
    free: bool
    loss: str

    def of(self, index: jax.Array) -> "Problem":
        """The problem of the curves of these numbers; one too large counts as the last."""
        named = {name: getattr(self, name) for name in ("points", "low", "high", "noise")}
        return dataclasses.replace(
            self, **jax.tree.map(lambda x: jnp.take(x, index, axis=-1, mode="clip"), named)
        )

    @property
    def rounding(self) -> jax.Array:
        """What rounding of the scores does to χ², `[curves]`."""
        eps = jnp.finfo(self.low.dtype).eps
        return jnp.sum(self.points.weight * (2 * eps * self.points.score) ** 2, axis=0)

    def curve(self, level, rate, lower, upper) -> Curve:
        """The curves with these parameters."""
        rate = jnp.clip(rate, -STEEPEST, STEEPEST)
        rise, fall = sigmoids(level[None] + rate[None] * self.points.effort)
        return Curve(level, rate, lower, upper, rise, fall)

    def best_curve(self, level, rate) -> Curve:
        """The curves with this logit and, where they are free, the best limits for it."""
        curve = self.curve(level, rate, self.low, self.high)
        if not self.free:
            return curve

        def limited(weight):
            lower, upper = _best_limits(self.points, weight, curve, self.low, self.high)
            return curve._replace(lower=lower, upper=upper)

        found = limited(self.points.weight)
        if self.loss == "chi2":
            return found
        return jax.lax.fori_loop(
            0, _REWEIGHTINGS, lambda _, found: limited(self.fisher_weight(found)), found
        )

    def constant(self) -> Curve:
        """The best curves that neither rise nor fall, between the outermost limits."""
        weight = self.points.questions if self.loss == "deviance" else self.points.weight
        share = (_mean(weight, self.points.score) - self.low) / (self.high - self.low)
        eps = jnp.finfo(share.dtype).eps
        level = jax.scipy.special.logit(jnp.clip(share, eps, 1 - eps))
        return self.curve(level, jnp.zeros_like(level), self.low, self.high)

    def chi2(self, curve: Curve) -> jax.Array:
        """Σ weight·(score − v)², `[curves]`."""
        return jnp.sum(self.points.weight * (self.points.score - curve.score) ** 2, axis=0)

    def total(self, curve: Curve) -> jax.Array:
        """The loss of each of `curve`: χ² or the binomial deviance."""
        if self.loss == "chi2":
            return self.chi2(curve)
        # Where a curve touches 0 or 1 by underflow, a count that contradicts it costs a finite lot.
        tiny = jnp.finfo(self.low.dtype).tiny
        xlogy = jax.scipy.special.xlogy
        right, wrong = self.points.score, 1 - self.points.score
        terms = xlogy(right, right) - xlogy(right, jnp.maximum(curve.score, tiny))
        terms += xlogy(wrong, wrong) - xlogy(wrong, jnp.maximum(curve.failure, tiny))
        return 2 * jnp.sum(self.points.questions * terms, axis=0)

    def fisher_weight(self, curve: Curve) -> jax.Array:
        """1/σ² at each point: as measured, or under the deviance the curve's own."""
        if self.loss == "chi2":
            return self.points.weight
        # At least that of a tenth of an expected count, or one point would decide everything.
        least = 0.1 / jnp.maximum(self.points.questions, 1)
        return self.points.questions / jnp.maximum(curve.score * curve.failure, least)

    def pull(self, curve: Curve) -> jax.Array:
        """Minus half the derivative of the loss in the score of each point."""
        if self.loss == "chi2":
            return self.points.weight * (self.points.score - curve.score)
        right = self.points.score
        tiny = jnp.finfo(self.low.dtype).tiny
        error = right * curve.failure - (1 - right) * curve.score
        return self.points.questions * error / jnp.maximum(curve.score * curve.failure, tiny)

    def curvature(self, curve: Curve) -> jax.Array:
        """Half the second derivative of the loss in the score of each point."""
        if self.loss == "chi2":
            return self.points.weight
        right = self.points.score
        tiny = jnp.finfo(self.low.dtype).tiny
        # Squares of odds, where squares of the scores might underflow.
        odds = curve.failure / jnp.maximum(curve.score, tiny)
        against = curve.score / jnp.maximum(curve.failure, tiny)
        product = jnp.maximum(curve.score * curve.failure, tiny)
        return self.points.questions * (right * odds + (1 - right) * against) / product

    def fitted(self, curve: Curve) -> jax.Array:
        """`[4, curves]`: whether level, rate and limits are fitted and not at a bound."""
        if self.free:
            limits = [(x > self.low) & (x < self.high) for x in (curve.lower, curve.upper)]
        else:
            limits = [jnp.zeros(curve.rate.shape, bool)] * 2
        steep = jnp.abs(curve.rate) < STEEPEST
        return jnp.stack([jnp.ones_like(steep), steep, *limits])

    def slopes(self, curve: Curve) -> jax.Array:
        """Derivatives of the score in level, rate and limits, `[4, points, curves]`."""
        by_level = (curve.upper - curve.lower)[None] * curve.rise * curve.fall
        return jnp.stack([by_level, by_level * self.points.effort, curve.fall, curve.rise])

    def sensitivities(self, curve: Curve) -> jax.Array:
        """The same in what is fitted; 0 for what is not."""
        return jnp.where(self.fitted(curve)[:, None], self.slopes(curve), 0)

    def gradient(self, curve: Curve) -> jax.Array:
        """Derivatives of the loss in level, rate and limits, `[4, curves]`."""
        return -2 * jnp.sum(self.slopes(curve) * self.pull(curve)[None], axis=1)


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
    middle, mean = (first + last) / 2, _mean(points.weight, points.score)
    weight = divide(points.weight, jnp.max(points.weight, axis=0)[None])
    columns = points.effort - middle[None], points.score - mean[None], weight
    dtype = level.dtype
    columns, (low, high, level, rate, first, last, middle) = jax.tree.map(
        lambda x: x.astype(jnp.float32),
        (columns, (low - mean, high - mean, level, rate, first, last, middle)),
    )
    rates = jnp.geomspace(_SLOWEST, _FASTEST, _RATES, dtype=jnp.float32)
    if not problem.free:  # free limits may change places, which turns the sign
        rates = jnp.concatenate([-rates, rates])
    shares = jnp.linspace(0, 1, _MIDPOINTS, dtype=jnp.float32)
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
    is_steep = jnp.abs(jnp.append(rates[:1], rates)) > _STEEP
    # The slowest of the rates that jump: the one before it bends, and is of the same sign.
    is_border = is_steep & ~jnp.roll(is_steep, 1)
    nodes = jnp.concatenate([steepest[None], rates[:, None] + jnp.zeros_like(rate)[None]])
    none = jnp.stack([jnp.zeros_like(level)] * 2)
    best = none + jnp.inf, none + level[None], none + rate[None]
    found = (none[0], none[0] > 0, *best)
    (_, apart, _, level, rate), _ = jax.lax.scan(
        look, found, (nodes, jnp.arange(len(nodes)) > 0, is_border)
    )
    return Starts(level.astype(dtype), rate.astype(dtype), apart)


def best_from_starts(
    descend: Callable[[Problem, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    problem: Problem,
) -> tuple[jax.Array, jax.Array]:
    """The better (level, rate), `[curves]`, of where `descend` leads from the starts."""
    level, rate, apart = start(problem)
    size = problem.low.size
    width = min(size, _WIDTH)
    wanted = jnp.concatenate([jnp.ones_like(apart), apart])
    # All first starts, and those of the second that are worth it, closed up.
    (number,) = jnp.nonzero(wanted, size=-(-2 * size // width) * width, fill_value=2 * size)

    rounds = -(-jnp.sum(wanted, dtype=jnp.int32) // width)

    def goes_on(carry):
        return carry[0] < rounds

    def further(carry):
        count, found = carry
        index = jax.lax.dynamic_slice_in_dim(number, count * width, width)
        part = problem.of(index % size)
        first_level, first_rate = (x.at[index].get(mode="clip") for x in starts)
        here = descend(part, first_level, first_rate, index < 2 * size)
        new = (*here, part.total(part.best_curve(*here)))
        found = tuple(x.at[index].set(y, mode="drop") for x, y in zip(found, new, strict=True))
        return count + 1, found

    starts = level.reshape(-1), rate.reshape(-1)
    found = (*starts, jnp.full_like(starts[0], jnp.inf))
    _, found = jax.lax.while_loop(goes_on, further, (jnp.int32(0), found))
    level, rate, losses = (x.reshape(2, -1) for x in found)
    is_first = losses[0] <= losses[1]
    return jnp.where(is_first, *level), jnp.where(is_first, *rate)


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
    weights, mean = jnp.sum(weight, axis=0)[None], _mean(weight, score)[None]
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


def summarize(problem: Problem, level: jax.Array, rate: jax.Array, center: jax.Array) -> Minimum:
    """What is to be reported of the curves that a search has ended at.

    Args:
      problem: the curves to fit.
      level: `[curves]` logit at the mean effort.
      rate: `[curves]` learning rate.
      center: `[curves]` x̄, what `effort` in the points is relative to.
    """
    curve = problem.best_curve(level, rate)
    rounding = problem.rounding
    if problem.free:
        eps = jnp.finfo(level.dtype).eps
        # Where no rise is worth it, the constant, whose limits stay apart.
        flat = problem.constant()
        flat_loss = problem.total(flat)
        is_flat = flat_loss <= problem.total(curve) + 10 * eps * flat_loss + rounding
        curve = jax.tree.map(
            lambda x, y: jnp.where(is_flat if x.ndim == 1 else is_flat[None], x, y), flat, curve
        )
        # The same curve with lower < upper: where σ rose it falls.
        sign = jnp.where(curve.lower > curve.upper, -1, 1).astype(level.dtype)
        lower = jnp.minimum(curve.lower, curve.upper)
        upper = jnp.maximum(curve.lower, curve.upper)
        curve = problem.curve(sign * curve.level, sign * curve.rate, lower, upper)
        # A limit that its bound is as good as, to rounding, is there.
        for name, bound in (("lower", problem.low), ("upper", problem.high)):
            there = curve._replace(**{name: bound})
            loss = problem.total(curve)
            as_good = problem.total(there) <= loss + indistinct(problem, loss)
            limit = jnp.where(as_good, bound, getattr(curve, name))
            curve = curve._replace(**{name: limit})

    fitted = problem.fitted(curve)
    loss = problem.total(curve)
    gradient = jnp.where(fitted, problem.gradient(curve), 0)
    precisions = least_precision(problem, loss)
    (covariance, reach), (informed, roots) = jax.vmap(
        lambda least: covariance_at(problem, curve, least)
    )(jnp.stack([jnp.zeros_like(precisions), precisions]))
    # From (level, rate) to (alpha, beta): alpha = level − x̄·rate.
    variance = diagonal(covariance)
    variance = variance.at[0].add(center * (center * variance[1] - 2 * covariance[0, 1]))
    deviation = jnp.where(informed > 0, jnp.sqrt(jnp.maximum(variance, 0)), jnp.inf)
    # How far the loss would still fall, by its quadratic model, and what of that is rounding: of
    # the residuals and of the gradient's sums, magnified where parameters are hard to tell apart.
    left = jnp.sum(gradient[:, None] * reach * gradient[None], axis=(0, 1)) / 4
    magnified = jnp.sum(roots**2 * diagonal(reach), axis=0)
    enough = enough_left(loss, _degrees(problem), problem.noise, rounding, magnified)
    return Minimum(
        alpha=curve.level - center * curve.rate,
        beta=curve.rate,
        lower=curve.lower,
        upper=curve.upper,
        loss=loss,
        converged=left <= enough,
        at_bound=~jnp.all(fitted if problem.free else fitted[:2], axis=0),
        gradient=gradient.at[1].add(jnp.where(fitted[1], center * gradient[0], 0)),
        deviation=jnp.where(fitted, deviation, 0),
    )


def _degrees(problem: Problem) -> jax.Array:
    """Degrees of freedom of each fit, at least 1."""
    used = jnp.sum(problem.points.weight > 0, axis=0)
    return jnp.maximum(used - (4 if problem.free else 2), 1).astype(problem.low.dtype)


def sigmoids(logit: jax.Array) -> tuple[jax.Array, jax.Array]:
    """σ(logit) and σ(−logit), to all their digits."""
    odds = jnp.exp(-jnp.abs(logit))
    large = 1 / (1 + odds)
    small = odds * large
    rises = logit > 0
    return jnp.where(rises, large, small), jnp.where(rises, small, large)


def divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """The quotient; 0 where the denominator is not positive."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), 0)


def _mean(weight: jax.Array, values: jax.Array, axis: int = 0) -> jax.Array:
    """Weighted mean over an axis; 0 without weight."""
    return divide(jnp.sum(weight * values, axis=axis), jnp.sum(weight, axis=axis))


def weighted_line(
    weight: jax.Array, x: jax.Array, y: jax.Array, axis: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Least squares y ≈ intercept + slope·x over an axis.

    Returns:
      Intercept, slope and Σ weight·(x − mean)².
    """
    mean_x, mean_y = _mean(weight, x, axis), _mean(weight, y, axis)
    from_mean = x - jnp.expand_dims(mean_x, axis)
    spread = jnp.sum(weight * from_mean**2, axis=axis)
    moment = jnp.sum(weight * from_mean * (y - jnp.expand_dims(mean_y, axis)), axis=axis)
    slope = divide(moment, spread)
    return mean_y - slope * mean_x, slope, spread


def _best_limits(
    points: Points, weight: jax.Array, curve: Curve, low: jax.Array, high: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Limits within [low, high] that minimise Σ weight·(score − v)² for the sigmoid of `curve`.

    The lower limit may come out above the upper one: the curve then falls.
    """
    # Relative to the sigmoid at mean effort, which is between those of the points, sums of squares
    # keep their digits.
    middle, beyond = sigmoids(curve.level)
    from_middle = curve.rise - middle[None]
    weights = jnp.sum(weight, axis=0)
    mean = divide(jnp.sum(weight * points.score, axis=0), weights)
    offset = jnp.sum(weight * from_middle, axis=0)
    mean_offset = divide(offset, weights)
    spread = jnp.sum(weight * from_middle**2, axis=0) - offset * mean_offset
    moment = jnp.sum(weight * from_middle * points.score, axis=0) - offset * mean
    regression = Regression(
        weights, mean, middle + mean_offset, beyond - mean_offset, jnp.maximum(spread, 0), moment
    )
    return regression.best_limits(low, high)[:2]


class Regression(NamedTuple):
    """Sums over the points that tell which limits suit a sigmoid best.

    Attributes:
      weights: Σ weight.
      mean: weighted mean of the scores.
      rise: weighted mean of the sigmoid.
      fall: 1 − rise.
      spread: Σ weight·(sigmoid − rise)².
      moment: Σ weight·(sigmoid − rise)·(score − mean).
    """

    weights: jax.Array
    mean: jax.Array
    rise: jax.Array
    fall: jax.Array
    spread: jax.Array
    moment: jax.Array

    def best_limits(
        self, low: jax.Array, high: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The best limits in [low, high], and the sum of squares less that of scores about a mean.

        A convex problem in two unknowns. Where its free solution is outside, a limit that is
        outside is at its bound, and the other at its best for that: the better of two.
        """
        slope = divide(self.moment, self.spread)
        lower, upper = self.mean - slope * self.rise, self.mean + slope * self.fall
        at_lower = jnp.clip(lower, low, high)
        pull = self.moment + self.weights * self.rise * (self.mean - at_lower)
        norm = self.spread + self.weights * self.rise**2
        by_lower = at_lower, jnp.clip(at_lower + divide(pull, norm), low, high)
        at_upper = jnp.clip(upper, low, high)
        pull = self.moment + self.weights * self.fall * (at_upper - self.mean)
        norm = self.spread + self.weights * self.fall**2
        by_upper = jnp.clip(at_upper - divide(pull, norm), low, high), at_upper
        excess, other = self._excess(*by_lower), self._excess(*by_upper)
        inside = (jnp.minimum(lower, upper) >= low) & (jnp.maximum(lower, upper) <= high)
        is_other = other < excess
        lower, upper = (
            jnp.where(inside, x, jnp.where(is_other, z, y))
            for x, y, z in zip((lower, upper), by_lower, by_upper, strict=True)
        )
        return lower, upper, jnp.where(is_other, other, excess)

    def _excess(self, lower: jax.Array, upper: jax.Array) -> jax.Array:
        span, miss = upper - lower, self.mean - lower * self.fall - upper * self.rise
        return span * (span * self.spread - 2 * self.moment) + self.weights * miss**2


def least_precision(problem: Problem, loss: jax.Array) -> jax.Array:
    """`[4, curves]` precisions that keep the covariance within `_FARTHEST` at such a loss."""
    spread = loss / _degrees(problem)
    farthest = jnp.asarray([*_FARTHEST, jnp.inf, jnp.inf], spread.dtype)
    return spread[None] / farthest[:, None] ** 2


def covariance_at(problem: Problem, curve: Curve, least: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse of the Gauss-Newton (Fisher) matrix, half the Hessian of the loss, at `curve`.

    Args:
      problem: the curves to fit.
      curve: where the matrix is taken.
      least: `[4, curves]` precisions added for level, rate, lower and upper.

    Returns:
      `[4, 4, curves]` covariance of level, rate, lower and upper at unit scale, 0 beside what is
      not fitted, and `[4, curves]` square roots of the precisions: where one is 0 nothing is known.
    """
    matrix = products(problem.fisher_weight(curve), problem.sensitivities(curve))
    matrix += jnp.where(jnp.eye(4, dtype=bool)[..., None], least[None], 0)
    return inverse_of_precision(matrix)


def products(weight: jax.Array, rows: jax.Array) -> jax.Array:
    """Σ weight·row·row over the points, `[k, k, curves]`, of `[k, points, curves]`."""
    return jnp.sum((weight[None] * rows)[:, None] * rows[None], axis=2)


def inverse_of_precision(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse of precision matrices, `[k, k, curves]`, and the square roots of their diagonals.

    0 beside what has no precision, where the root is 0.
    """
    roots = jnp.sqrt(diagonal(matrix))
    scales = jnp.where(roots > 0, roots, 1)
    scales = scales[:, None] * scales[None]
    # As correlations, with the least ridge that keeps a singular matrix invertible.
    ridge = 8 * jnp.finfo(matrix.dtype).eps
    is_diagonal = jnp.eye(len(matrix), dtype=bool)[..., None]
    correlations = jnp.where(is_diagonal, 1 + ridge, matrix / scales)
    return _inverse(correlations) / scales, roots


def enough_left(
    loss: jax.Array,
    degrees: jax.Array,
    noise: jax.Array,
    rounding: jax.Array,
    magnified: jax.Array,
) -> jax.Array:
    """How much of the loss a search may leave and count as converged.

    Args:
      loss: where it ended.
      degrees: degrees of freedom, 1 or more.
      noise: as in `Problem`.
      rounding: what rounding of the scores does to the loss.
      magnified: by how much rounding grows where parameters are hard to tell apart.
    """
    eps = jnp.finfo(loss.dtype).eps
    enough = _SHARE_LEFT * jnp.maximum(loss / degrees, noise)
    return enough + (rounding + (2 * eps) ** 2 * loss) * magnified


def unsettled(problem: Problem, fall: jax.Array, loss: jax.Array, better: jax.Array) -> jax.Array:
    """`[curves]` whether a search goes on after a step.

    Args:
      problem: the curves to fit.
      fall: by how much the loss should have fallen.
      loss: what it is now.
      better: whether it fell.
    """
    least = _SETTLED * jnp.maximum(loss / _degrees(problem), problem.noise)
    # A step that failed where rounding decides.
    lost = jnp.where(better, 0, indistinct(problem, loss))
    return fall > least + jnp.finfo(loss.dtype).eps * loss + lost


def indistinct(problem: Problem, loss: jax.Array) -> jax.Array:
    """By how much the loss may seem to differ by rounding of the scores, `[curves]`."""
    return jnp.sqrt(problem.rounding * loss)


def diagonal(matrix: jax.Array) -> jax.Array:
    """`[k, curves]` diagonal of `[k, k, curves]`."""
    return jnp.diagonal(matrix, axis1=0, axis2=1).T


def _inverse(matrix: jax.Array) -> jax.Array:
    """Inverse of small positive definite matrices, by Gauss-Jordan sweeps without pivoting."""

    def sweep(k, matrix):
        pivot, column = matrix[k, k], matrix[:, k]
        row = matrix[k] / pivot[None]
        swept = matrix - column[:, None] * row[None]
        swept = swept.at[:, k].set(-(column / pivot[None]))
        return swept.at[k].set(row).at[k, k].set(1 / pivot)

    return jax.lax.fori_loop(0, matrix.shape[0], sweep, matrix)
