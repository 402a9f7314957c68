"""What a fit reports of the curves that a search has ended at."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tbtjax.measure._minimize import Curve, Problem, indistinct
from tbtjax.measure._precision import covariance_at, diagonal, least_precision
from tbtjax.measure._sums import divide

#: Converged: what the search may have left of the loss, in units of σ², or of the loss per degree
#: of freedom where that is more.
_SHARE_LEFT = 1e-3


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


def summarize(problem: Problem, curve: Curve, center: jax.Array) -> Minimum:
    """What is to be reported of the curves that a search has ended at.

    Args:
      problem: the curves to fit.
      curve: where the search has ended.
      center: `[curves]` x̄, what `effort` in the points is relative to.
    """
    rounding = problem.rounding
    if problem.free:
        eps = jnp.finfo(curve.level.dtype).eps
        # Where no rise is worth it, the constant, whose limits stay apart.
        flat = problem.constant()
        flat_loss = problem.total(flat)
        is_flat = flat_loss <= problem.total(curve) + 10 * eps * flat_loss + rounding
        curve = jax.tree.map(
            lambda x, y: jnp.where(is_flat if x.ndim == 1 else is_flat[None], x, y), flat, curve
        )
        # The same curve with lower < upper: where σ rose it falls.
        sign = jnp.where(curve.lower > curve.upper, -1, 1).astype(curve.level.dtype)
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
    step = -jnp.sum(reach * gradient[None], axis=1) / 2
    left = -jnp.sum(gradient * step, axis=0) / 2
    if problem.free:
        limits = jnp.stack([curve.lower, curve.upper])
        least, most = problem.low[None] - limits, problem.high[None] - limits
        left -= held_back(step[2:], reach[2:, 2:], least, most)
    magnified = jnp.sum(roots**2 * diagonal(reach), axis=0)
    enough = enough_left(loss, problem.degrees, problem.noise, rounding, magnified)
    return minimum_at(
        curve,
        center,
        fitted,
        gradient,
        deviation,
        loss=loss,
        converged=left <= enough,
        at_bound=~jnp.all(fitted if problem.free else fitted[:2], axis=0),
    )


def minimum_at(
    curve: Curve,
    center: jax.Array,
    fitted: jax.Array,
    gradient: jax.Array,
    deviation: jax.Array,
    **others: jax.Array,
) -> Minimum:
    """The record of a curve, from (level, rate) to (alpha, beta): alpha = level − x̄·rate.

    Args:
      curve: where the search ended.
      center: `[curves]` x̄.
      fitted: `[4, curves]` what is fitted and not at a bound.
      gradient: `[4, curves]` of the loss in level, rate and limits, 0 for what is not fitted.
      deviation: `[4, curves]` of alpha, beta and limits; not read for what is not fitted.
      **others: the other fields of the record.
    """
    return Minimum(
        alpha=curve.level - center * curve.rate,
        beta=curve.rate,
        lower=curve.lower,
        upper=curve.upper,
        gradient=gradient.at[1].add(jnp.where(fitted[1], center * gradient[0], 0)),
        deviation=jnp.where(fitted, deviation, 0),
        **others,
    )


def held_back(
    step: jax.Array, covariance: jax.Array, least: jax.Array, most: jax.Array
) -> jax.Array:
    """By how much less a quadratic model of the loss falls because limits have bounds.

    Args:
      step: `[2, curves]` of the limits to where the model is least without bounds.
      covariance: `[2, 2, curves]` of the limits: inverse of half the model's Hessian.
      least: `[2, curves]` the least step that the bounds allow, ≤ 0.
      most: `[2, curves]` the largest, ≥ 0.
    """

    def with_first(one, other):
        # One goes as far as it may, the other to its best for that or to its own bound.
        missed = jnp.clip(step[one], least[one], most[one]) - step[one]
        follows = divide(covariance[one, other], covariance[one, one])
        best = step[other] + follows * missed
        also_missed = jnp.clip(best, least[other], most[other]) - best
        alone = covariance[other, other] - follows * covariance[one, other]
        return divide(missed**2, covariance[one, one]) + divide(also_missed**2, alone)

    return jnp.minimum(with_first(0, 1), with_first(1, 0))


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
