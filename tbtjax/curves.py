"""Score curves: what a model scores after some benchmark-specific training.

A curve family is a record with the parameters of all models, models on the last axis, and three
methods, each on arrays `[..., n]` that may carry extra leading axes (rivals' scores are stacked in
front; no curve is ever sliced):

  score(effort)            v(θ, e): the score after `effort` training steps (Def. 2.1).
  effort_to_reach(score)   E(θ, s) = inf{e ≥ 0 : v(θ, e) ≥ s}; +inf where never.
  limit()                  v(θ, ∞): the saturated score.

A user's own family is a frozen dataclass, registered with `jax.tree_util.register_dataclass`,
that has these three; its fields are `[..., n]` arrays, or `[..., n, points]` where the class
attribute `event_ndims` says so (`{"field": 2}`). It must not fall with effort. Its scores should be
right to within two units in the last place: those that differ by four or fewer count as equal.
Where its curves saturate, thresholds have only the digits that such scores have.

Source: Chen, Zhang, Hardt (arXiv 2603.08371), section 2 and eq. 3.
"""

import dataclasses
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from tbtjax._checks import Problem, as_array, as_floating, check_broadcast
from tbtjax._records import Record


@runtime_checkable
class CurveFamily(Protocol):
    """What a family of score curves offers; see the module's text."""

    def score(self, effort: jax.Array, /) -> jax.Array:
        """Score after `effort` training steps, `[..., n]`."""
        ...

    def effort_to_reach(self, score: jax.Array, /) -> jax.Array:
        """Least effort that reaches `score`, `[..., n]`; +inf where never."""
        ...

    def limit(self) -> jax.Array:
        """Saturated score, `[..., n]`."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PowerLaw(Record):
    """Generalized power law: logit((v − lower)/(upper − lower)) = α + β·log(1 + e), eq. 3.

    Attributes:
      alpha: `[..., n]` logit of the normalized score without training.
      beta: `[..., n]` learning rate; the normalized score is a Hill curve in 1 + e.
      lower: `[..., n]`, `[..., 1]` or scalar lower limit of the score.
      upper: the same for the upper limit.
    """

    alpha: jax.Array
    beta: jax.Array
    lower: jax.Array
    upper: jax.Array

    @property
    def has_equal_limits(self) -> bool:
        """Whether all models of a game share their limits by shape, known when tracing."""
        return all(x.ndim == 0 or x.shape[-1] == 1 for x in (self.lower, self.upper))

    def score(self, effort: jax.Array) -> jax.Array:
        """V = lower + (upper − lower)·σ(α + β·log(1 + e)), `[..., n]`; the limit at +inf."""
        endless = jnp.isposinf(effort)  # where 0·log(1 + e) is NaN
        score = self._score(jnp.log1p(jnp.where(endless, 0, effort)))
        return jnp.where(endless, self.limit(), score)

    def _score(self, log_effort: jax.Array | float) -> jax.Array:
        logit = self.alpha + self.beta * log_effort
        return self.lower + (self.upper - self.lower) * jax.nn.sigmoid(logit)

    def effort_to_reach(self, score: jax.Array) -> jax.Array:
        """Least effort that reaches `score`, `[..., n]`, in training steps.

        0 where the untrained model is there already, +inf where the curve never gets there: at
        or above the upper limit, and above the start of a curve that does not rise (β ≤ 0).
        """
        above_lower = score - self.lower
        below_upper = self.upper - score
        start = self._score(0.0)
        there = score <= start
        reachable = (below_upper > 0) & (self.beta > 0)
        usable = reachable & ~there & (above_lower > 0)
        # Masked before the logarithms, so that a rival out of reach leaves no NaN in gradients.
        odds = jnp.where(usable, above_lower, 1) / jnp.where(usable, below_upper, 1)
        log_effort = (jnp.log(odds) - self.alpha) / jnp.where(usable, self.beta, 1)
        # Nor is an effort reachable that is no number of the dtype.
        reachable &= log_effort < jnp.log(jnp.finfo(self.alpha.dtype).max)
        effort = jnp.expm1(jnp.where(reachable, log_effort, 0))
        effort = jnp.where(there, 0, jnp.where(reachable, jnp.maximum(effort, 0), jnp.inf))
        return jnp.where(jnp.isnan(score - start), jnp.nan, effort)

    def limit(self) -> jax.Array:
        """Score after endless training, `[..., n]`: upper, or lower where the curve falls."""
        start = self._score(0.0)
        rising = jnp.where(self.beta > 0, self.upper, self.lower)
        return jnp.where(self.beta == 0, start, rising)

    def problems(self) -> list[Problem]:
        """Unusable parameters and where they are."""
        return [
            Problem("alpha", "finite", self.alpha, ~jnp.isfinite(self.alpha)),
            Problem("beta", "finite", self.beta, ~jnp.isfinite(self.beta)),
            Problem("lower", "finite", self.lower, ~jnp.isfinite(self.lower)),
            Problem(
                "upper",
                "finite and above `lower`",
                self.upper,
                ~(jnp.isfinite(self.upper) & (self.upper > self.lower)),
            ),
        ]


def power_law(alpha: Any, beta: Any, lower: Any = 0.0, upper: Any = 1.0) -> PowerLaw:
    """Generalized power-law curves, logit((v − lower)/(upper − lower)) = α + β·log(1 + e).

    Args:
      alpha: `[..., n]`, `[..., 1]` or scalar: logit of the normalized score at effort 0.
      beta: the same: learning rate. β ≤ 0 is a curve that does not rise.
      lower: the same: lower limit of the score (chance).
      upper: the same: upper limit of the score. Limits that are scalar or `[..., 1]` are equal
        for all models of a game, and thresholds then take a faster road.

    Returns:
      The curves, of the floating dtype of the arguments (Python numbers adapt to the others). A
      float64 NumPy array becomes float32 while JAX's 64-bit mode is off.

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: the shapes do not broadcast.

    Examples:
      >>> curves = power_law([1.0, 0.0], [0.9, 0.8])
      >>> curves.num_models, curves.batch_shape
      (2, ())

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), eq. 3.
    """
    alpha, beta, lower, upper = as_floating(alpha=alpha, beta=beta, lower=lower, upper=upper)
    check_broadcast(alpha=alpha.shape, beta=beta.shape, lower=lower.shape, upper=upper.shape)
    return PowerLaw(alpha, beta, lower, upper)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tabulated(Record):
    """Piecewise linear curves through measured points, constant after the last; they may fall.

    Attributes:
      efforts: `[..., n, points]` or `[points]`, from 0 on, rising; NaN pads the end.
      scores: `[..., n, points]`; NaN pads the end.
    """

    event_ndims: ClassVar[dict[str, int]] = {"efforts": 2, "scores": 2}

    efforts: jax.Array
    scores: jax.Array

    def _filled(self) -> tuple[jax.Array, jax.Array]:
        """Points with the padding made harmless: efforts +inf, scores those of the last point."""
        efforts, scores = jnp.broadcast_arrays(self.efforts, self.scores)
        measured = ~(jnp.isnan(efforts) | jnp.isnan(scores))
        last = jnp.sum(measured, axis=-1, keepdims=True) - 1
        final = jnp.take_along_axis(scores, jnp.maximum(last, 0), axis=-1)
        efforts = jnp.where(measured, efforts, jnp.inf)
        return efforts, jnp.where(measured, scores, final)

    def score(self, effort: jax.Array) -> jax.Array:
        """Interpolated score after `effort` training steps, `[..., n]`."""
        efforts, scores = self._filled()
        return _interpolate(efforts, scores, jnp.asarray(effort, scores.dtype))

    def effort_to_reach(self, score: jax.Array, start: Any = 0.0) -> jax.Array:
        """inf{x ≥ start : v(x) ≥ score}, `[..., n]`: total effort in steps, +inf where never."""
        start = jnp.asarray(start, self.scores.dtype)
        return self._first_effort(score, start, strictly=False)

    def effort_to_exceed(self, score: jax.Array, start: jax.Array) -> jax.Array:
        """inf{x ≥ start : v(x) > score}, `[..., n]`: total effort, +inf where never."""
        return self._first_effort(score, start, strictly=True)

    def _first_effort(self, score: jax.Array, start: jax.Array, *, strictly: bool) -> jax.Array:
        efforts, scores = self._filled()
        score, start = jnp.asarray(score)[..., None], jnp.asarray(start)[..., None]
        # Segment i runs from max(start, efforts[i]) to efforts[i + 1]; the curve is linear on it.
        begin = jnp.maximum(efforts[..., :-1], start)
        end = efforts[..., 1:]
        end_score = scores[..., 1:]
        rise = end_score - scores[..., :-1]
        real = jnp.isfinite(end) & (end > begin)
        high = end_score > score if strictly else end_score >= score
        run = jnp.where(real, end - efforts[..., :-1], 1)
        slope = jnp.where(real, rise, 0) / run
        begin_score = scores[..., :-1] + slope * jnp.where(real, begin - efforts[..., :-1], 0)
        at_begin = begin_score > score if strictly else begin_score >= score
        upward = real & high & (rise > 0)
        crossing = begin + (score - begin_score) / jnp.where(upward, slope, 1)
        crossing = jnp.where(upward, jnp.minimum(jnp.maximum(crossing, begin), end), jnp.inf)
        hits = jnp.where(real & at_begin, begin, crossing)
        first = jnp.min(hits, axis=-1, initial=jnp.inf)
        now = self.score(start[..., 0])
        there = now > score[..., 0] if strictly else now >= score[..., 0]
        first = jnp.where(there, start[..., 0], first)
        return jnp.where(jnp.isnan(now - score[..., 0]), jnp.nan, first)

    def limit(self) -> jax.Array:
        """Score of the last measured point, `[..., n]`."""
        return self._filled()[1][..., -1]

    def best_score(self, start: jax.Array, budget: jax.Array) -> jax.Array:
        """Max over start ≤ x ≤ start + budget of the score, `[..., n]`: the best on the way."""
        efforts, scores = self._filled()
        start, budget = jnp.asarray(start), jnp.asarray(budget)
        end = start + budget
        inside = (efforts >= start[..., None]) & (efforts <= end[..., None])
        on_the_way = jnp.max(jnp.where(inside, scores, -jnp.inf), axis=-1)
        at_ends = jnp.maximum(
            _interpolate(efforts, scores, start), _interpolate(efforts, scores, end)
        )
        return jnp.maximum(on_the_way, at_ends)

    def problems(self) -> list[Problem]:
        """Unusable points and where they are."""
        efforts, scores = jnp.broadcast_arrays(self.efforts, self.scores)
        measured = ~(jnp.isnan(efforts) | jnp.isnan(scores))
        gap = jnp.any(measured[..., 1:] & ~measured[..., :-1], axis=-1)
        both = measured[..., 1:] & measured[..., :-1]
        unsorted = jnp.any(both & ~(efforts[..., 1:] > efforts[..., :-1]), axis=-1)
        infinite = jnp.any(jnp.isinf(scores) | jnp.isinf(efforts), axis=-1)
        start = ~(efforts[..., 0] == 0)
        return [
            Problem("efforts", "0 at the first point", efforts[..., 0], start),
            Problem("efforts", "rising along the points", efforts[..., 0], unsorted),
            Problem("scores", "finite, NaN only at the end", scores[..., 0], gap | infinite),
        ]


def _interpolate(efforts: jax.Array, scores: jax.Array, effort: jax.Array) -> jax.Array:
    """Linear interpolation of `[..., n, points]` at `[..., n]`, constant after the last point."""
    count = jnp.sum(efforts <= effort[..., None], axis=-1)
    left = jnp.maximum(count - 1, 0)
    right = jnp.minimum(count, efforts.shape[-1] - 1)

    def at(values, index):
        wide = jnp.broadcast_to(values, (*index.shape, values.shape[-1]))
        return jnp.take_along_axis(wide, index[..., None], axis=-1)[..., 0]

    start, end = at(efforts, left), at(efforts, right)
    inside = (end > start) & jnp.isfinite(end)
    share = jnp.where(inside, effort - start, 0) / jnp.where(inside, end - start, 1)
    low, high = at(scores, left), at(scores, right)
    return low + share * (high - low)


def tabulated(efforts: Any, scores: Any) -> Tabulated:
    """Piecewise linear curves through measured points, constant after the last.

    Args:
      efforts: `[..., n, points]`, or `[points]` shared by all models: training steps, from 0 on
        and rising. NaN pads the end where models have fewer points.
      scores: `[..., n, points]` measured scores. They may fall: what counts against a rival is
        then the best score on the way.

    Returns:
      The curves, of the floating dtype of the arguments.

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: there is no points axis, or the shapes do not broadcast.

    Examples:
      >>> curves = tabulated([0.0, 10.0], [[0.5, 0.9], [0.4, 0.8]])
      >>> curves.effort_to_reach(0.75)
      Array([6.25, 8.75], dtype=float32)
    """
    efforts, scores = as_floating(efforts=as_array("efforts", efforts), scores=scores)
    if scores.ndim < 2 or efforts.ndim < 1 or scores.shape[-1] == 0:
        raise ValueError(
            "scores must be [..., models, points] and efforts [..., models, points] or [points], "
            f"with one point or more; got shapes {scores.shape} and {efforts.shape}"
        )
    check_broadcast(efforts=efforts.shape, scores=scores.shape)
    if efforts.shape[-1] != scores.shape[-1]:
        raise ValueError(
            f"efforts and scores must have the same number of points; got {efforts.shape[-1]} "
            f"and {scores.shape[-1]}"
        )
    return Tabulated(efforts, scores)
