"""What `fit_power_law` minimises: many curves at once, by variable projection.

Given the logit z = level + rate·(x − x̄) with x = log(1 + step), the limits enter the score
linearly, v = lower·σ(−z) + upper·σ(z), so the best limits within their box are a small problem in
closed form. What is left to minimise is a function of (level, rate) alone, for free and for fixed
limits alike. A grid (`_starts`) finds the basin; a Levenberg-Marquardt iteration (`_levenberg`) or
L-BFGS (`_lbfgs`) does the rest.

Arrays are `[points, curves]`, parameters `[curves]`: sums over the points of one curve are then
sums of rows, which the compiler vectorizes over curves.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tbtjax.measure._sums import Regression, divide, sigmoids, weighted_mean

#: Largest |rate|. Over a doubling of the effort such a curve runs from 0.1 % to 99.9 % of its
#: rise: measurements at usual efforts cannot tell it from a jump.
STEEPEST = 20.0
#: Rounds of reweighting that solve for the limits under the deviance.
_REWEIGHTINGS = 6
#: A search ends with a step by which the loss should have fallen by less than this, in units of σ²,
#: or of the loss per degree of freedom where that is more.
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

    @property
    def columns(self) -> jax.Array:
        """All that belongs to a curve in a column, `[rows, curves]`."""
        rows = [*self.points, self.low[None], self.high[None], self.noise[None]]
        return jnp.concatenate(rows)

    def of_columns(self, columns: jax.Array) -> "Problem":
        """The problem of other curves, given by such columns."""
        points = columns[:-3].reshape(len(self.points), -1, columns.shape[1])
        low, high, noise = columns[-3:]
        return dataclasses.replace(self, points=Points(*points), low=low, high=high, noise=noise)

    @property
    def rounding(self) -> jax.Array:
        """What rounding of the scores does to χ², `[curves]`."""
        eps = jnp.finfo(self.low.dtype).eps
        return jnp.sum(self.points.weight * (2 * eps * self.points.score) ** 2, axis=0)

    @property
    def degrees(self) -> jax.Array:
        """Degrees of freedom of each fit, at least 1."""
        used = jnp.sum(self.points.weight > 0, axis=0)
        return jnp.maximum(used - (4 if self.free else 2), 1).astype(self.low.dtype)

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
        share = (weighted_mean(weight, self.points.score) - self.low) / (self.high - self.low)
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
        right, wrong = self.points.score, 1 - self.points.score
        error = self.error(curve)
        terms = _divergence(right, curve.score, -error) + _divergence(wrong, curve.failure, error)
        return 2 * jnp.sum(self.points.questions * terms, axis=0)

    def error(self, curve: Curve) -> jax.Array:
        """Measured score less v, `[points, curves]`, to all its digits where v is near 0 or 1."""
        return self.points.score * curve.failure - (1 - self.points.score) * curve.score

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
        tiny = jnp.finfo(self.low.dtype).tiny
        product = jnp.maximum(curve.score * curve.failure, tiny)
        return self.points.questions * self.error(curve) / product

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


def _divergence(share: jax.Array, expected: jax.Array, excess: jax.Array) -> jax.Array:
    """share·log(share/expected), 0 where the share is 0.

    Args:
      share: measured.
      expected: the curve's.
      excess: expected − share. Rounded once for right and for wrong answers it cancels between
        their terms; what rounding does to the logarithm of each share would be left.
    """
    # Where a curve touches 0 or 1 by underflow, a count that contradicts it costs a finite lot.
    expected = jnp.maximum(expected, jnp.finfo(share.dtype).tiny)
    divisor = jnp.where(share > 0, share, 1)
    change = excess / divisor
    is_small = jnp.abs(change) < 0.5
    change = jnp.where(is_small, change, 0)
    ratio = jnp.where(is_small, jnp.log1p(change), jnp.log(expected) - jnp.log(divisor))
    return -share * ratio


def unsettled(problem: Problem, fall: jax.Array, loss: jax.Array, better: jax.Array) -> jax.Array:
    """`[curves]` whether a search goes on after a step.

    Args:
      problem: the curves to fit.
      fall: by how much the loss should have fallen.
      loss: what it is now.
      better: whether it fell.
    """
    least = _SETTLED * jnp.maximum(loss / problem.degrees, problem.noise)
    # A step that failed where rounding decides.
    lost = jnp.where(better, 0, indistinct(problem, loss))
    return fall > least + jnp.finfo(loss.dtype).eps * loss + lost


def indistinct(problem: Problem, loss: jax.Array) -> jax.Array:
    """By how much the loss may seem to differ by rounding of the scores, `[curves]`."""
    return jnp.sqrt(problem.rounding * loss)
