"""Curves through measured points, without a family."""

from typing import Any

import jax
import jax.numpy as jnp

from tbtjax._checks import as_floating
from tbtjax.curves import Tabulated, tabulated


def tabulate(steps: Any, scores: Any) -> Tabulated:
    """The curves through measured scores, piecewise linear in the steps: no family is assumed.

    The fallback where no family fits, and the check on one that does. Beyond the last measured
    step a curve is constant, so that what is not reached there is never reached.

    Args:
      steps: `[..., points]` efforts, in training steps, ≥ 0, in any order, each once; NaN = not
        measured.
      scores: `[..., points]` scores; NaN = not measured. The axis before the points is that of
        the models.

    Returns:
      The curves, fields `[..., n, points + 1]`, measured points first and by step, then NaN. A
      curve without a score at step 0 has that of its first step there. A curve without any score
      has NaN at 0.

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: no points axis, or shapes that do not broadcast.

    Examples:
      >>> curves = tabulate([100, 0, 10], [[0.8, 0.5, 0.6], [0.7, float("nan"), 0.4]])
      >>> print(curves.efforts[1], curves.scores[1])
      [  0.  10. 100.  nan] [0.4 0.4 0.7 nan]
    """
    steps, scores = as_floating(steps=steps, scores=scores)
    if min(steps.ndim, scores.ndim) == 0 or scores.shape[-1] == 0:
        raise ValueError(
            "steps and scores must be [..., points], with one point or more; got shapes "
            f"{steps.shape} and {scores.shape}"
        )
    try:
        shape = jnp.broadcast_shapes(steps.shape, scores.shape)
    except ValueError as error:
        raise ValueError(
            f"shapes do not broadcast: steps {steps.shape}, scores {scores.shape}; expected the "
            "points on the last axis"
        ) from error
    at_least_2d = (*(1,) * (2 - len(shape)), *shape)
    return _tabulate(*(jnp.broadcast_to(x, at_least_2d) for x in (steps, scores)))


@jax.jit
def _tabulate(steps: jax.Array, scores: jax.Array) -> Tabulated:
    measured = ~(jnp.isnan(steps) | jnp.isnan(scores))
    first = jnp.argmin(jnp.where(measured, steps, jnp.inf), axis=-1, keepdims=True)
    start = jnp.take_along_axis(jnp.where(measured, scores, jnp.nan), first, axis=-1)
    later = measured & (steps > 0)
    steps = jnp.concatenate([jnp.zeros_like(start), jnp.where(later, steps, jnp.nan)], axis=-1)
    scores = jnp.concatenate([start, jnp.where(later, scores, jnp.nan)], axis=-1)
    order = jnp.argsort(steps, axis=-1)  # NaN last
    steps, scores = (jnp.take_along_axis(x, order, axis=-1) for x in (steps, scores))
    return tabulated(steps, scores)
