"""Measured scores as the arrays that a fit works on: checked, broadcast, weighted."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._checks import as_floating
from tbtjax.measure._joint import over_groups


class Measurements(NamedTuple):
    """Checked measurements of all curves.

    Attributes:
      effort: `[..., n, points]` log(1 + step).
      score: `[..., n, points]`.
      weight: `[..., n, points]` 1/σ², 1 throughout a curve that is not weighted.
      questions: `[..., n, points]`, 0 where not known.
      measured: `[..., n, points]` bool: the other arrays mean nothing elsewhere.
      weighted: `[..., n]` bool: whether σ is known at every measured point.
      invalid: `[..., n]` bool: whether a measured value or a limit is unusable.
      low: `[..., n]` lower limit, 0 for an invalid curve.
      high: `[..., n]` upper limit, 1 for an invalid curve.
    """

    effort: jax.Array
    score: jax.Array
    weight: jax.Array
    questions: jax.Array
    measured: jax.Array
    weighted: jax.Array
    invalid: jax.Array
    low: jax.Array
    high: jax.Array


def as_arguments(
    steps: Any, scores: Any, questions: Any, stderr: Any, lower: Any, upper: Any
) -> list[jax.Array | None]:
    """The arguments as arrays of their one floating dtype, with shapes that fit together."""
    given = {"steps": steps, "scores": scores, "questions": questions, "stderr": stderr}
    given = {name: value for name, value in given.items() if value is not None}
    arrays = dict(
        zip([*given, "lower", "upper"], as_floating(**given, lower=lower, upper=upper), strict=True)
    )
    shapes = {name: arrays[name].shape for name in given}
    limits = {name: (*arrays[name].shape, 1) for name in ("lower", "upper")}
    found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if min(map(len, (shapes["steps"], shapes["scores"]))) == 0 or 0 in shapes["scores"][-1:]:
        raise ValueError(
            f"steps and scores must be [..., points], with one point or more; got shapes {found}"
        )
    try:
        jnp.broadcast_shapes(*shapes.values(), *limits.values())
    except ValueError as error:
        found += "".join(f", {name} {arrays[name].shape}" for name in limits)
        raise ValueError(
            f"shapes do not broadcast: {found}; expected points on the last axis of the "
            "measurements and models on the one before, which is the last axis of the limits"
        ) from error
    names = ("steps", "scores", "questions", "stderr", "lower", "upper")
    return [arrays.get(name) for name in names]


def full_shape(arguments: list[jax.Array | None]) -> tuple[int, ...]:
    """`[..., n, points]` of all curves, of the arguments as `as_arguments` gives them."""
    measured = [x.shape for x in arguments[:4] if x is not None]
    limits = [(*x.shape, 1) for x in arguments[4:] if x is not None]
    return jnp.broadcast_shapes(*measured, *limits)


def as_measurements(
    steps: jax.Array,
    scores: jax.Array,
    questions: jax.Array | None,
    stderr: jax.Array | None,
    lower: jax.Array,
    upper: jax.Array,
    *,
    deviance: bool,
) -> Measurements:
    """Measurements and limits broadcast to all curves, with σ worked out."""
    unknown = jnp.zeros((), scores.dtype)
    questions = unknown if questions is None else questions
    stderr = unknown if stderr is None else stderr
    columns = (steps, scores, questions, stderr)
    limits = (lower[..., None], upper[..., None])
    shape = jnp.broadcast_shapes(*(x.shape for x in (*columns, *limits)))
    steps, scores, questions, stderr = (jnp.broadcast_to(x, shape) for x in columns)
    lower, upper = (jnp.broadcast_to(x, shape[:-1]) for x in (lower, upper))

    measured = ~(jnp.isnan(steps) | jnp.isnan(scores))
    usable = (scores >= 0) & (scores <= 1) & (steps >= 0) & jnp.isfinite(steps)
    questions = jnp.where(jnp.isfinite(questions) & (questions > 0), questions, 0)
    stderr = jnp.where(jnp.isfinite(stderr) & (stderr > 0), stderr, 0)
    # The share of one more question, half right: counts of 0 and of all keep a finite weight.
    count = jnp.round(scores * questions)
    share = (count + 0.5) / (questions + 1)
    binomial = share * (1 - share) / jnp.where(questions > 0, questions, 1)
    variance = jnp.where(questions > 0, binomial, stderr**2)
    known = (questions > 0) | (stderr > 0)
    weighted = jnp.all(known | ~measured, axis=-1)

    invalid = jnp.any(measured & ~usable, axis=-1)
    invalid |= ~(jnp.isfinite(lower) & jnp.isfinite(upper) & (lower < upper))
    if deviance:
        invalid |= jnp.any(measured & (questions == 0), axis=-1) | (lower < 0) | (upper > 1)
    keep = measured & usable
    weighing = keep & weighted[..., None]
    return Measurements(
        effort=jnp.log1p(jnp.where(keep, steps, 0)),
        score=jnp.where(keep, scores, 0),
        weight=1 / jnp.where(weighing, variance, 1),
        questions=questions,
        measured=measured,
        weighted=weighted,
        invalid=invalid,
        low=jnp.where(invalid, 0, lower),
        high=jnp.where(invalid, 1, upper),
    )


def usable_points(
    data: Measurements, points: jax.Array, parameters: Any
) -> tuple[jax.Array, jax.Array]:
    """Which of `points` a fit uses, `[..., n, points]`, and which curves have too few, `[..., n]`.

    A curve without an answer uses none.
    """
    too_few = ~data.invalid & (different_efforts(data, points) < parameters)
    return points & ~(data.invalid | too_few)[..., None], too_few


def different_efforts(data: Measurements, points: jax.Array) -> jax.Array:
    """`[..., n]` at how many different efforts `points` are."""
    ordered = jnp.sort(jnp.where(points, data.effort, jnp.inf), axis=-1)
    rising = jnp.diff(ordered, axis=-1, prepend=-1) > 0  # an effort is at least 0
    return jnp.sum(rising & jnp.isfinite(ordered), axis=-1)


def centered(effort: jax.Array, used: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean effort of the used points, `[..., n]`, and efforts relative to it."""
    count = jnp.maximum(jnp.sum(used, axis=-1), 1).astype(effort.dtype)
    center = jnp.sum(jnp.where(used, effort, 0), axis=-1) / count
    return center, jnp.where(used, effort - center[..., None], 0)


def joined(data: Measurements, group: jax.Array) -> Measurements:
    """Measurements of which those of a group have one unit of noise and one pair of bounds.

    A group is weighted where all of its valid models are; its limits lie within the bounds of each
    of them. Where no limits do, the whole group is invalid.

    Args:
      data: of each curve for itself.
      group: `[..., n]` numbers of the groups.
    """
    valid = ~data.invalid
    unweighted = over_groups((valid & ~data.weighted).astype(jnp.int32), group) > 0
    low = jnp.where(valid, data.low, -jnp.inf)
    high = jnp.where(valid, data.high, jnp.inf)
    low = over_groups(low, group, jax.ops.segment_max)
    high = over_groups(high, group, jax.ops.segment_min)
    invalid = data.invalid | (low >= high)
    nothing = jnp.isinf(low) | (low >= high)
    return data._replace(
        weight=jnp.where(unweighted[..., None], 1, data.weight),
        weighted=data.weighted & ~unweighted,
        invalid=invalid,
        low=jnp.where(nothing, 0, low),
        high=jnp.where(nothing, 1, high),
    )
