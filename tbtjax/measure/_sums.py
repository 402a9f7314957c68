"""Weighted sums over the points of many curves, and the limits that suit a sigmoid best."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


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


def weighted_mean(weight: jax.Array, values: jax.Array, axis: int = 0) -> jax.Array:
    """Weighted mean over an axis; 0 without weight."""
    return divide(jnp.sum(weight * values, axis=axis), jnp.sum(weight, axis=axis))


def weighted_line(
    weight: jax.Array, x: jax.Array, y: jax.Array, axis: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Least squares y ≈ intercept + slope·x over an axis.

    Returns:
      Intercept, slope and Σ weight·(x − mean)².
    """
    mean_x, mean_y = weighted_mean(weight, x, axis), weighted_mean(weight, y, axis)
    from_mean = x - jnp.expand_dims(mean_x, axis)
    spread = jnp.sum(weight * from_mean**2, axis=axis)
    moment = jnp.sum(weight * from_mean * (y - jnp.expand_dims(mean_y, axis)), axis=axis)
    slope = divide(moment, spread)
    return mean_y - slope * mean_x, slope, spread


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
