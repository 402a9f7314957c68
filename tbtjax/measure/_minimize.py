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
from typing import NamedTuple

import jax
import jax.numpy as jnp

#: Largest |rate|. Over a doubling of the effort such a curve runs from 0.1 % to 99.9 % of its
#: rise: measurements at usual efforts cannot tell it from a jump.
STEEPEST = 20.0
#: Starts: midpoints over the measured range and half a unit of x beyond, and rates.
_MIDPOINTS, _RATES, _SLOWEST, _FASTEST = 18, 8, 0.15, 12.0
#: Deviations of (level, rate) that steps are measured against where the points say little.
_FARTHEST = (10.0, 3.0)
#: Rounds of reweighting that solve for the limits under the deviance.
_REWEIGHTINGS = 6
#: Converged: what the search may have left of the loss, in units of σ², or of the loss per degree
#: of freedom where that is more.
_SHARE_LEFT = 1e-3


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

    def curve(self, level, rate, lower, upper) -> Curve:
        """The curves with these parameters."""
        rate = jnp.clip(rate, -STEEPEST, STEEPEST)
        logit = level[None] + rate[None] * self.points.effort
        return Curve(level, rate, lower, upper, jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit))

    def best_curve(self, level, rate) -> Curve:
        """The curves with this logit and, where they are free, the best limits for it."""
        curve = self.curve(level, rate, self.low, self.high)
        if not self.free:
            return curve
        # At the best limits the loss does not depend on them to first order.
        fixed = jax.lax.stop_gradient(curve)

        def reweighted(_, limits_and_weight):
            *_, weight = limits_and_weight
            lower, upper, _ = _best_limits(self.points, weight, fixed, self.low, self.high)
            return lower, upper, self.fisher_weight(fixed._replace(lower=lower, upper=upper))

        rounds = 1 if self.loss == "chi2" else 1 + _REWEIGHTINGS
        first = (fixed.lower, fixed.upper, self.points.weight)
        lower, upper, _ = jax.lax.fori_loop(0, rounds, reweighted, first)
        return curve._replace(lower=lower, upper=upper)

    def least_chi2(self, level: jax.Array, rate: jax.Array) -> jax.Array:
        """χ² of the best curves with this logit, `[curves]`."""
        curve = self.curve(level, rate, self.low, self.high)
        if not self.free:
            return self.chi2(curve)
        return _best_limits(self.points, self.points.weight, curve, self.low, self.high)[2]

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


def start(problem: Problem) -> tuple[jax.Array, jax.Array]:
    """The best (level, rate) of a grid and of a regression on the logits between the limits."""
    points, low, high = problem.points, problem.low, problem.high
    share = jnp.clip((points.score - low[None]) / (high - low)[None], 0.01, 0.99)
    weight = points.weight * (share * (1 - share)) ** 2
    level, rate, _ = weighted_line(weight, points.effort, jax.scipy.special.logit(share), axis=0)
    dtype = level.dtype
    # Unused points lie at the mean, within the range.
    first, last = jnp.min(points.effort, axis=0) - 0.5, jnp.max(points.effort, axis=0) + 0.5
    rates = jnp.geomspace(_SLOWEST, _FASTEST, _RATES, dtype=dtype)
    if not problem.free:  # free limits may change places, which turns the sign
        rates = jnp.concatenate([-rates, rates])
    shares, rates = jnp.meshgrid(jnp.linspace(0, 1, _MIDPOINTS, dtype=dtype), rates)

    def look(best, node):
        share, rate = node
        rate = jnp.full_like(first, rate)
        level = -rate * (first + (last - first) * share)
        loss = problem.least_chi2(level, rate)
        better = loss < best[0]
        return tuple(
            jnp.where(better, x, y) for x, y in zip((loss, level, rate), best, strict=True)
        ), None

    regressed = (problem.least_chi2(level, rate), level, rate)
    (_, level, rate), _ = jax.lax.scan(look, regressed, (shares.ravel(), rates.ravel()))
    return level, rate


def summarize(problem: Problem, level: jax.Array, rate: jax.Array, center: jax.Array) -> Minimum:
    """What is to be reported of the curves that a search has ended at.

    Args:
      problem: the curves to fit.
      level: `[curves]` logit at the mean effort.
      rate: `[curves]` learning rate.
      center: `[curves]` x̄, what `effort` in the points is relative to.
    """
    curve = problem.best_curve(level, rate)
    eps = jnp.finfo(level.dtype).eps
    rounding = jnp.sum(problem.points.weight * (2 * eps * problem.points.score) ** 2, axis=0)
    if problem.free:
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

    fitted = problem.fitted(curve)
    parameters = jnp.stack([curve.level, curve.rate, curve.lower, curve.upper])
    loss = problem.total(curve)
    gradient = jax.grad(lambda p: jnp.sum(problem.total(problem.curve(*p))))(parameters)
    gradient = jnp.where(fitted, gradient, 0)
    precisions = least_precision(problem, curve)
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
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Limits within [low, high] that minimise Σ weight·(score − v)² for the sigmoid of `curve`.

    A convex problem in two unknowns: its free solution where that is inside, else the best of
    the four edges. The lower limit may come out above the upper one: the curve then falls.

    Returns:
      Lower limit, upper limit and the sum of squares, `[curves]`.
    """
    weights = jnp.sum(weight, axis=0)
    mean = _mean(weight, points.score)
    mean_rise, mean_fall = _mean(weight, curve.rise), _mean(weight, curve.fall)
    rise, score = curve.rise - mean_rise[None], points.score - mean[None]
    spread = jnp.sum(weight * rise**2, axis=0)
    moment = jnp.sum(weight * rise * score, axis=0)
    scatter = jnp.sum(weight * score**2, axis=0)
    slope = divide(moment, spread)

    # Lower and upper limits, [5, curves]: the free solution, then a limit held at each bound.
    held = jnp.stack([low, high])
    above, below = mean[None] - held, held - mean[None]
    pull_up = moment[None] + (weights * mean_rise)[None] * above
    pull_down = moment[None] + (weights * mean_fall)[None] * below
    upper = held + divide(pull_up, (spread + weights * mean_rise**2)[None])
    lower = held - divide(pull_down, (spread + weights * mean_fall**2)[None])
    free = mean - slope * mean_rise, mean + slope * mean_fall
    lower = jnp.concatenate([free[0][None], held, jnp.clip(lower, low[None], high[None])])
    upper = jnp.concatenate([free[1][None], jnp.clip(upper, low[None], high[None]), held])
    span, miss = upper - lower, mean[None] - lower * mean_fall[None] - upper * mean_rise[None]
    bent = span * (span * spread[None] - 2 * moment[None])
    loss = scatter[None] + bent + weights[None] * miss**2

    inside = (jnp.minimum(*free) >= low) & (jnp.maximum(*free) <= high)
    is_free = jnp.arange(5)[:, None] == 0
    loss = jnp.where(is_free == inside[None], loss, jnp.inf)
    chosen = jnp.arange(5)[:, None] == jnp.argmin(loss, axis=0)[None]

    def of_chosen(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(chosen, values, 0), axis=0)

    return of_chosen(lower), of_chosen(upper), of_chosen(loss)


def least_precision(problem: Problem, curve: Curve) -> jax.Array:
    """`[4, curves]` precisions that keep the covariance at `curve` within `_FARTHEST`."""
    spread = problem.total(curve) / _degrees(problem)
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
