"""The minimisation behind `fit_power_law`: one curve, by variable projection and L-BFGS.

Given the logit z = level + rate·(x − x̄) with x = log(1 + step), the limits enter the score
linearly, v = lower·σ(−z) + upper·σ(z), so the best limits within their box are a small problem in
closed form. What is left to minimise is a function of (level, rate) alone, for free and for fixed
limits alike, and by the envelope theorem its gradient is the one at the best limits. A grid finds
the basin, the Gauss-Newton matrix there whitens the coordinates, L-BFGS does the rest.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

#: Largest |rate|. Over a doubling of the effort such a curve runs from 0.1 % to 99.9 % of its
#: rise: measurements at usual efforts cannot tell it from a jump.
STEEPEST = 20.0
#: Starts: midpoints over the measured range and half a unit of x beyond, and rates.
_MIDPOINTS, _RATES, _SLOWEST, _FASTEST = 18, 8, 0.15, 12.0
#: In whitened coordinates nearly all fits end within 10 steps.
_STEPS, _LINE_SEARCH_STEPS, _MEMORY = 24, 15, 10
#: Deviations of (level, rate) that steps are measured against where the points say little.
_FARTHEST = (10.0, 3.0)
#: Rounds of reweighting that solve for the limits under the deviance.
_REWEIGHTINGS = 6
#: Converged: what the descent may have left of the loss, in units of σ², or of the loss per degree
#: of freedom where that is more.
_SHARE_LEFT = 1e-3


class Points(NamedTuple):
    """The measurements of one curve, each `[points]`; an unused point is 0 throughout.

    Attributes:
      effort: x − x̄: log(1 + step), less its mean over the used points.
      score: measured score.
      weight: 1/σ².
      questions: number of questions behind the score; read under the deviance alone.
    """

    effort: jax.Array
    score: jax.Array
    weight: jax.Array
    questions: jax.Array


class Curve(NamedTuple):
    """A curve and its values at the points.

    `rise` = σ(z) and `fall` = σ(−z), `[points]`, are both kept: 1 − σ(z) has no digits left where
    it is small.
    """

    level: jax.Array
    rate: jax.Array
    lower: jax.Array
    upper: jax.Array
    rise: jax.Array
    fall: jax.Array

    @property
    def score(self) -> jax.Array:
        """v, `[points]`."""
        return self.lower * self.fall + self.upper * self.rise

    @property
    def failure(self) -> jax.Array:
        """1 − v, `[points]`."""
        return (1 - self.lower) * self.fall + (1 - self.upper) * self.rise


class Minimum(NamedTuple):
    """The best curve of one model: scalars, but for the last two.

    `gradient` of the loss and `deviation` (standard deviation at unit scale), `[4]`, are in the
    order alpha, beta, lower, upper, with 0 for what was not fitted or is held at its bound;
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
    """One curve to fit.

    Attributes:
      points: its measurements.
      low: the lower limit; where limits are free, the least value that either may take.
      high: the upper limit; where limits are free, the largest value that either may take.
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
        """The curve with these parameters."""
        rate = jnp.clip(rate, -STEEPEST, STEEPEST)
        logit = level + rate * self.points.effort
        return Curve(level, rate, lower, upper, jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit))

    def best_curve(self, level, rate, reweightings: int) -> Curve:
        """The curve with this logit and, where they are free, the best limits for it."""
        curve = self.curve(level, rate, self.low, self.high)
        if not self.free:
            return curve
        weight = self.points.weight
        lower, upper = _best_limits(self.points, weight, curve, self.low, self.high)
        for _ in range(reweightings):
            weight = self.fisher_weight(curve._replace(lower=lower, upper=upper))
            lower, upper = _best_limits(self.points, weight, curve, self.low, self.high)
        # At the best limits the loss does not depend on them to first order.
        lower, upper = jax.lax.stop_gradient((lower, upper))
        return curve._replace(lower=lower, upper=upper)

    def constant(self) -> Curve:
        """The best curve that neither rises nor falls, between the outermost limits."""
        weight = self.points.questions if self.loss == "deviance" else self.points.weight
        share = (_mean(weight, self.points.score) - self.low) / (self.high - self.low)
        eps = jnp.finfo(share.dtype).eps
        level = jax.scipy.special.logit(jnp.clip(share, eps, 1 - eps))
        return self.curve(level, jnp.zeros_like(level), self.low, self.high)

    def chi2(self, curve: Curve) -> jax.Array:
        """Σ weight·(score − v)²."""
        return jnp.sum(self.points.weight * (self.points.score - curve.score) ** 2)

    def total(self, curve: Curve) -> jax.Array:
        """The loss of `curve`: χ² or the binomial deviance."""
        if self.loss == "chi2":
            return self.chi2(curve)
        # Where a curve touches 0 or 1 by underflow, a count that contradicts it costs a finite lot.
        tiny = jnp.finfo(self.low.dtype).tiny
        xlogy = jax.scipy.special.xlogy
        right, wrong = self.points.score, 1 - self.points.score
        terms = xlogy(right, right) - xlogy(right, jnp.maximum(curve.score, tiny))
        terms += xlogy(wrong, wrong) - xlogy(wrong, jnp.maximum(curve.failure, tiny))
        return 2 * jnp.sum(self.points.questions * terms)

    def fisher_weight(self, curve: Curve) -> jax.Array:
        """1/σ² at each point: as measured, or under the deviance the curve's own."""
        if self.loss == "chi2":
            return self.points.weight
        # At least that of a tenth of an expected count, or one point would decide everything.
        least = 0.1 / jnp.maximum(self.points.questions, 1)
        return self.points.questions / jnp.maximum(curve.score * curve.failure, least)

    def fitted(self, curve: Curve) -> jax.Array:
        """`[4]`: whether level, rate, lower and upper limit are fitted and not at a bound."""
        if self.free:
            limits = [(x > self.low) & (x < self.high) for x in (curve.lower, curve.upper)]
        else:
            limits = [jnp.zeros((), bool)] * 2
        return jnp.stack([jnp.ones((), bool), jnp.abs(curve.rate) < STEEPEST, *limits])

    def sensitivities(self, curve: Curve) -> jax.Array:
        """Derivatives of the score in what is fitted, `[4, points]`; 0 for what is not."""
        by_level = (curve.upper - curve.lower) * curve.rise * curve.fall
        by_rate = by_level * self.points.effort
        slopes = jnp.stack([by_level, by_rate, curve.fall, curve.rise])
        return jnp.where(self.fitted(curve)[:, None], slopes, 0)


def minimize(problem: Problem, center: jax.Array) -> Minimum:
    """Fits one curve; `center` is x̄, what `effort` in its points is relative to."""
    reweightings = _REWEIGHTINGS if problem.loss == "deviance" else 0

    def best_curve(level, rate):
        return problem.best_curve(level, rate, reweightings)

    level, rate = _start(problem)
    curve = best_curve(level, rate)
    reach, _ = _covariance(problem, curve, _least_precision(problem, curve))
    level, rate = _descend(
        lambda *place: problem.total(best_curve(*place)), level, rate, reach[:2, :2]
    )
    curve = best_curve(level, rate)
    eps = jnp.finfo(level.dtype).eps
    rounding = jnp.sum(problem.points.weight * (2 * eps * problem.points.score) ** 2)
    if problem.free:
        # Where no rise is worth it, the constant, whose limits stay apart.
        flat = problem.constant()
        flat_loss = problem.total(flat)
        is_flat = flat_loss <= problem.total(curve) + 10 * eps * flat_loss + rounding
        curve = jax.tree.map(lambda x, y: jnp.where(is_flat, x, y), flat, curve)
        # The same curve with lower < upper: where σ rose it falls.
        sign = jnp.where(curve.lower > curve.upper, -1, 1).astype(level.dtype)
        limits = jnp.sort(jnp.stack([curve.lower, curve.upper]))
        curve = problem.curve(sign * curve.level, sign * curve.rate, limits[0], limits[1])

    fitted = problem.fitted(curve)
    parameters = jnp.stack([curve.level, curve.rate, curve.lower, curve.upper])
    loss, gradient = jax.value_and_grad(lambda p: problem.total(problem.curve(*p)))(parameters)
    gradient = jnp.where(fitted, gradient, 0)
    precisions = _least_precision(problem, curve)
    (covariance, reach), (informed, roots) = jax.vmap(
        lambda least: _covariance(problem, curve, least)
    )(jnp.stack([jnp.zeros_like(precisions), precisions]))
    # From (level, rate) to (alpha, beta): alpha = level − x̄·rate.
    variance = jnp.diagonal(covariance)
    variance = variance.at[0].add(center * (center * variance[1] - 2 * covariance[0, 1]))
    deviation = jnp.where(informed > 0, jnp.sqrt(jnp.maximum(variance, 0)), jnp.inf)
    # How far the loss would still fall, by its quadratic model, and what of that is rounding: of
    # the residuals and of the gradient's sums, magnified where parameters are hard to tell apart.
    left = jnp.sum(gradient[:, None] * reach * gradient[None]) / 4
    magnified = jnp.sum(roots**2 * jnp.diagonal(reach))
    enough = _SHARE_LEFT * jnp.maximum(loss / _degrees(problem), problem.noise)
    enough += (rounding + (2 * eps) ** 2 * loss) * magnified
    return Minimum(
        alpha=curve.level - center * curve.rate,
        beta=curve.rate,
        lower=curve.lower,
        upper=curve.upper,
        loss=loss,
        converged=left <= enough,
        at_bound=~jnp.all(fitted if problem.free else fitted[:2]),
        gradient=gradient.at[1].add(jnp.where(fitted[1], center * gradient[0], 0)),
        deviation=jnp.where(fitted, deviation, 0),
    )


def _degrees(problem: Problem) -> jax.Array:
    """Degrees of freedom of the fit, at least 1."""
    used = jnp.sum(problem.points.weight > 0)
    return jnp.maximum(used - (4 if problem.free else 2), 1).astype(problem.low.dtype)


def _divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """The quotient; 0 where the denominator is not positive."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), 0)


def _mean(weight: jax.Array, values: jax.Array) -> jax.Array:
    """Weighted mean over the last axis; 0 without weight."""
    return _divide(jnp.sum(weight * values, axis=-1), jnp.sum(weight, axis=-1))


def weighted_line(
    weight: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Least squares y ≈ intercept + slope·x over the last axis.

    Returns:
      Intercept, slope and Σ weight·(x − mean)².
    """
    mean_x, mean_y = _mean(weight, x), _mean(weight, y)
    from_mean = x - mean_x[..., None]
    spread = jnp.sum(weight * from_mean**2, axis=-1)
    slope = _divide(jnp.sum(weight * from_mean * (y - mean_y[..., None]), axis=-1), spread)
    return mean_y - slope * mean_x, slope, spread


def _best_limits(
    points: Points, weight: jax.Array, curve: Curve, low: jax.Array, high: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Limits within [low, high] that minimise Σ weight·(score − v)² for the sigmoid of `curve`.

    A convex problem in two unknowns: its free solution where that is inside, else the best of
    the four edges. The lower limit may come out above the upper one: the curve then falls.
    """
    score, rise, fall = points.score, curve.rise, curve.fall
    lower, slope, _ = weighted_line(weight, rise, score)
    upper = lower + slope

    def beside(held, basis):  # the other limit, whose basis this is, where one is held
        moment = jnp.sum(weight * basis * (score - held))
        return jnp.clip(held + _divide(moment, jnp.sum(weight * basis**2)), low, high)

    lowers = jnp.stack([lower, low, high, beside(low, fall), beside(high, fall)])[:, None]
    uppers = jnp.stack([upper, beside(low, rise), beside(high, rise), low, high])[:, None]
    errors = score[None] - lowers * fall[None] - uppers * rise[None]
    losses = jnp.sum(weight[None] * errors**2, axis=-1)
    inside = (jnp.minimum(lower, upper) >= low) & (jnp.maximum(lower, upper) <= high)
    best = jnp.where(inside, 0, 1 + jnp.argmin(losses[1:]))
    return lowers[best, 0], uppers[best, 0]


def _start(problem: Problem) -> tuple[jax.Array, jax.Array]:
    """The best (level, rate) of a grid and of a regression on the logits between the limits."""
    points, low, high = problem.points, problem.low, problem.high
    share = jnp.clip((points.score - low) / (high - low), 0.01, 0.99)
    weight = points.weight * (share * (1 - share)) ** 2
    level, rate, _ = weighted_line(weight, points.effort, jax.scipy.special.logit(share))
    # Unused points lie at the mean, within the range.
    first, last = jnp.min(points.effort) - 0.5, jnp.max(points.effort) + 0.5
    midpoints = first + (last - first) * jnp.linspace(0, 1, _MIDPOINTS, dtype=level.dtype)
    rates = jnp.geomspace(_SLOWEST, _FASTEST, _RATES, dtype=level.dtype)
    if not problem.free:  # free limits may change places, which turns the sign
        rates = jnp.concatenate([-rates, rates])
    midpoints, rates = jnp.meshgrid(midpoints, rates)
    levels, rates = jnp.append(-rates * midpoints, level), jnp.append(rates, rate)

    def loss_at(level, rate):
        return problem.chi2(problem.best_curve(level, rate, reweightings=0))

    best = jnp.argmin(jax.vmap(loss_at)(levels, rates))
    return levels[best], rates[best]


def _least_precision(problem: Problem, curve: Curve) -> jax.Array:
    """`[4]` precisions that keep the covariance at `curve` within `_FARTHEST`."""
    spread = problem.total(curve) / _degrees(problem)
    return spread / jnp.asarray([*_FARTHEST, jnp.inf, jnp.inf], spread.dtype) ** 2


def _covariance(problem: Problem, curve: Curve, least: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse of the Gauss-Newton (Fisher) matrix, half the Hessian of the loss, at `curve`.

    Args:
      problem: the curve to fit.
      curve: where the matrix is taken.
      least: `[4]` precisions added for level, rate, lower and upper.

    Returns:
      `[4, 4]` covariance of level, rate, lower and upper at unit scale, 0 beside what is not
      fitted, and `[4]` square roots of the precisions: where one is 0 nothing is known.
    """
    slopes = problem.sensitivities(curve)
    weighted = problem.fisher_weight(curve)[None] * slopes
    matrix = jnp.sum(weighted[:, None] * slopes[None], axis=-1)
    identity = jnp.eye(4, dtype=matrix.dtype)
    matrix += identity * least[None]
    roots = jnp.sqrt(jnp.diagonal(matrix))
    scales = jnp.where(roots > 0, roots, 1)
    scales = scales[:, None] * scales[None]
    # As correlations, with the least ridge that keeps a singular matrix invertible.
    ridge = 8 * jnp.finfo(matrix.dtype).eps
    correlations = jnp.where(identity > 0, 1 + ridge, matrix / scales)
    return _inverse(correlations) / scales, roots


def _inverse(matrix: jax.Array) -> jax.Array:
    """Inverse of a small positive definite matrix, by Gauss-Jordan sweeps without pivoting."""
    size = matrix.shape[0]

    def sweep(k, matrix):
        here = jnp.arange(size) == k
        pivot, row, column = matrix[k, k], matrix[k] / matrix[k, k], matrix[:, k]
        swept = matrix - column[:, None] * row[None]
        swept = jnp.where(here[None], -(column / pivot)[:, None], swept)
        swept = jnp.where(here[:, None], row[None], swept)
        return jnp.where(here[:, None] & here[None], 1 / pivot, swept)

    return jax.lax.fori_loop(0, size, sweep, matrix)


def _descend(
    loss_at: Callable[[jax.Array, jax.Array], jax.Array],
    level: jax.Array,
    rate: jax.Array,
    covariance: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """L-BFGS from (level, rate): the best place met.

    In coordinates in which `covariance`, `[2, 2]`, is the identity the Hessian is about twice the
    identity, so that a first step of 1 is right and few steps are needed.
    """
    tiny = jnp.finfo(level.dtype).tiny
    first = jnp.sqrt(jnp.maximum(covariance[0, 0], tiny))
    mixed = covariance[0, 1] / first
    second = jnp.sqrt(jnp.maximum(covariance[1, 1] - mixed**2, tiny))

    def parameters(place):
        return level + first * place[0], rate + mixed * place[0] + second * place[1]

    def value(place):
        return loss_at(*parameters(place))

    line_search = optax.scale_by_zoom_linesearch(
        max_linesearch_steps=_LINE_SEARCH_STEPS, initial_guess_strategy="one"
    )
    optimizer = optax.lbfgs(memory_size=_MEMORY, linesearch=line_search)

    def better(best, place, loss):
        # A line search that fails, by rounding mostly, may leave a good place for a bad one.
        improves = loss < best[1]
        return jnp.where(improves, place, best[0]), jnp.where(improves, loss, best[1])

    def step(carry, _):
        place, loss, gradient, state, best = carry
        updates, state = optimizer.update(
            gradient, state, place, value=loss, grad=gradient, value_fn=value
        )
        place = optax.apply_updates(place, updates)
        # The line search knows them where it stopped.
        loss, gradient = (optax.tree_utils.tree_get(state, name) for name in ("value", "grad"))
        return (place, loss, gradient, state, better(best, place, loss)), None

    place = jnp.zeros(2, level.dtype)
    loss, gradient = jax.value_and_grad(value)(place)
    carry = (place, loss, gradient, optimizer.init(place), (place, loss))
    # In 64-bit mode Optax mixes int32 and int64 counters, which a caller may have forbidden.
    with jax.numpy_dtype_promotion("standard"):
        (*_, (place, _)), _ = jax.lax.scan(step, carry, length=_STEPS)
    return parameters(place)
