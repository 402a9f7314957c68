"""What the paper estimates for pairs of neighbours, with intervals, and checks without a curve.

`estimate_pairs` gives the catch-up effort e⁰, the learning-rate ratio ρ, κ and the rule of thumb
with an interval each. `overtake_brackets` and `local_slope_ratio` read e⁰ and ρ off the
measurements themselves: no curve is assumed.

    >>> import jax
    >>> from tbtjax import linear_cost
    >>> from tbtjax.measure import bootstrap_power_law
    >>> steps, scores = [0, 10, 100, 1000], [[0.5, 0.6, 0.7, 0.8], [0.4, 0.5, 0.6, 0.7]]
    >>> drawn = bootstrap_power_law(jax.random.key(0), steps, scores, questions=1000, resamples=200)
    >>> value, low, high = estimate_pairs(drawn, [100.0, 0.0], linear_cost(1.0)).e0
    >>> print(f"{value[0]:.1f} steps, {low[0]:.0f} to {high[0]:.0f}")
    7.4 steps, 2 to 19
    >>> low, high = overtake_brackets(steps, scores)
    >>> print(f"measured: {low[0]:.0f} to {high[0]:.0f}")
    measured: 10 to 100

Source: Chen, Zhang, Hardt (arXiv 2603.08371), Prop. 5.6 and App. D and E.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._checks import as_floating
from tbtjax.game import ranking_game
from tbtjax.measure.bootstrap import Interval, PowerLawBootstrap, interval
from tbtjax.threshold import rule_of_thumb


class Estimate(NamedTuple):
    """A figure and the interval around it.

    Attributes:
      value: `[..., n − 1]` by the fit to what was measured.
      low: `[..., n − 1]` lower end.
      high: `[..., n − 1]` upper end.
    """

    value: jax.Array
    low: jax.Array
    high: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairEstimates:
    """Estimates of each adjacent pair, entry j being model j + 1 against model j.

    Attributes:
      e0: baseline catch-up difficulty e_req(0), in training steps.
      rho: learning-rate ratio β_weak/β_strong.
      kappa: reward gap in steps over e0.
      delta: the rule of thumb κ^ρ in training steps, 0 where κ ≤ 1.
      upper_bound: ours, on the pair's Δ*; see `tbtjax.rule_of_thumb`.
      lower_bound: ours.
    """

    e0: Estimate
    rho: Estimate
    kappa: Estimate
    delta: Estimate
    upper_bound: Estimate
    lower_bound: Estimate


def estimate_pairs(
    drawn: PowerLawBootstrap, rewards: Any, cost: Any, level: float = 0.9
) -> PairEstimates:
    """The paper's estimators of each adjacent pair, with intervals.

    Args:
      drawn: resampled fits of models, strongest first, by `bootstrap_power_law`.
      rewards: `[..., n]` as in `ranking_game`.
      cost: the same.
      level: share of the resamples inside each interval, in (0, 1).

    Returns:
      The estimates, each `[..., n − 1]`.

    Raises:
      TypeError: an argument is not what `ranking_game` takes.
      ValueError: the same, or `level` is not in (0, 1).

    Examples:
      >>> import jax
      >>> from tbtjax import linear_cost
      >>> from tbtjax.measure import bootstrap_power_law
      >>> scores = [[0.5, 0.6, 0.7, 0.8], [0.4, 0.5, 0.6, 0.7]]
      >>> drawn = bootstrap_power_law(
      ...     jax.random.key(0), [0, 10, 100, 1000], scores, questions=1000, resamples=200
      ... )
      >>> estimates = estimate_pairs(drawn, [100, 0], linear_cost(1.0))
      >>> print(f"e0 {estimates.e0.value[0]:.1f}, rho {estimates.rho.value[0]:.2f}")
      e0 7.4, rho 0.91

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), Prop. 5.6; the bounds are ours.
    """
    measured = rule_of_thumb(ranking_game(drawn.fit.curves, rewards, cost))
    resampled = rule_of_thumb(ranking_game(drawn.curves, rewards, cost))
    return PairEstimates(
        **{
            field.name: Estimate(
                getattr(measured, field.name), *interval(getattr(resampled, field.name), level)
            )
            for field in dataclasses.fields(PairEstimates)
        }
    )


def overtake_brackets(steps: Any, scores: Any) -> Interval:
    """Between which measured steps each model passes the start of the next stronger one.

    A check on the just-overtake effort at Δ = 0 that assumes no curve. Scores have noise: the first
    one above may be above by luck.

    Args:
      steps: `[..., points]` efforts, in training steps, ≥ 0, in any order; NaN = not measured.
      scores: `[..., n, points]` scores, strongest model first; NaN = not measured.

    Returns:
      `[..., n − 1]` ends: the upper one is the least step at which the weak model scores above the
      strong one's score at step 0, the lower one the last measured step before it. (0, 0) where it
      starts above; +inf as the upper end where it is never measured above. NaN where one of the
      two is not measured at step 0.

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: shapes that do not broadcast, or no axis of models.

    Examples:
      >>> print(*overtake_brackets([0, 10, 100], [[0.5, 0.6, 0.7], [0.4, 0.45, 0.6]]))
      [10.] [100.]
    """
    steps, scores = _points(steps, scores)
    return _overtake_brackets(steps, scores)


def local_slope_ratio(
    steps: Any, scores: Any, efforts: Any, *, lower: Any = 0.0, upper: Any = 1.0
) -> jax.Array:
    """Ratio of the measured slopes of neighbours, weak over strong: ρ without a curve.

    The slope of logit ((score − lower)/(upper − lower)) against log(1 + step) is that between the
    two checkpoints around the effort. Its noise is that of four scores: put resampled ones in
    (`bootstrap_tabulated`) for an interval.

    Args:
      steps: `[..., points]` efforts, in training steps, ≥ 0, in any order; NaN = not measured.
      scores: `[..., n, points]` scores, strongest model first; NaN = not measured.
      efforts: `[efforts]` where the slopes are compared.
      lower: `[..., n]`, `[..., 1]` or scalar: lower limit of the score (chance).
      upper: the same: upper limit.

    Returns:
      `[..., n − 1, efforts]` ratios; NaN outside the checkpoints, and where a logit does not exist.

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: shapes that do not broadcast, or no axis of models.

    Examples:
      >>> scores = jax.nn.sigmoid(jnp.array([[0.0, 0.5, 1.0], [-1.0, -0.6, -0.2]]))
      >>> ratio = local_slope_ratio([0, 10, 120], scores, [50.0])
      >>> print(f"{ratio[0, 0]:.2f}")
      0.80

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), App. D.
    """
    steps, scores = _points(steps, scores)
    lower, upper, efforts = as_floating(lower=lower, upper=upper, efforts=efforts)
    return _local_slope_ratio(steps, scores, jnp.atleast_1d(efforts), lower, upper)


def _points(steps: Any, scores: Any) -> tuple[jax.Array, jax.Array]:
    steps, scores = as_floating(steps=steps, scores=scores)
    if scores.ndim < 2 or steps.ndim < 1:
        raise ValueError(
            "scores must be [..., models, points] and steps [..., points]; got shapes "
            f"{scores.shape} and {steps.shape}"
        )
    try:
        steps, scores = jnp.broadcast_arrays(steps, scores)
    except ValueError as error:
        raise ValueError(
            f"shapes do not broadcast: steps {steps.shape}, scores {scores.shape}; expected the "
            "points on the last axis"
        ) from error
    return jnp.where(jnp.isnan(scores), jnp.nan, steps), scores


@jax.jit
def _overtake_brackets(steps: jax.Array, scores: jax.Array) -> Interval:
    start = jnp.max(jnp.where(steps == 0, scores, -jnp.inf), axis=-1)
    weak_steps, weak_scores = steps[..., 1:, :], scores[..., 1:, :]
    above = weak_scores > start[..., :-1, None]  # NaN is above nothing
    high = jnp.min(jnp.where(above, weak_steps, jnp.inf), axis=-1)
    before = weak_steps < high[..., None]
    low = jnp.max(jnp.where(before, weak_steps, 0), axis=-1)
    known = jnp.isfinite(start[..., 1:]) & jnp.isfinite(start[..., :-1])
    low, high = (jnp.where(known, x, jnp.nan) for x in (low, high))
    return Interval(low, high)


@jax.jit
def _local_slope_ratio(steps, scores, efforts, lower, upper):
    order = jnp.argsort(steps, axis=-1)  # NaN last
    steps, scores = (jnp.take_along_axis(x, order, axis=-1) for x in (steps, scores))
    inside = (scores > lower[..., None]) & (scores < upper[..., None])
    above, below = (
        jnp.where(inside, x, 1) for x in (scores - lower[..., None], upper[..., None] - scores)
    )
    logit = jnp.where(inside, jnp.log(above) - jnp.log(below), jnp.nan)
    slopes = jnp.diff(logit, axis=-1) / jnp.diff(jnp.log1p(steps), axis=-1)
    # The checkpoints at or below each effort; the last one belongs to the segment before it.
    passed = jnp.sum(steps[..., None, :] <= efforts[:, None], axis=-1)
    last = jnp.nanmax(steps, axis=-1, keepdims=True)
    segment = passed - 1 - (efforts == last)
    outside = (segment < 0) | (efforts > last)
    at = jnp.take_along_axis(slopes, jnp.clip(segment, 0, slopes.shape[-1] - 1), axis=-1)
    at = jnp.where(outside, jnp.nan, at)
    return at[..., 1:, :] / at[..., :-1, :]
