"""Power-law curves fitted to measured scores, many models at once.

`fit_power_law` minimises χ² (or the binomial deviance) on the score scale; `fit_logit_ols` is the
ordinary regression of logits that Chen, Zhang and Hardt use. Both return a `PowerLawFit`, whose
`curves` go straight into `tbtjax.ranking_game`. Neither repairs what the data say: a curve that
falls is fitted as falling, and flagged.

Source: Chen, Zhang, Hardt (arXiv 2603.08371), eq. 3, App. D and E.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from tbtjax._checks import as_array
from tbtjax.curves import PowerLaw
from tbtjax.measure._fitted import FitFlag, PowerLawFit, per_degree, record_of
from tbtjax.measure._joint import group_numbers, over_groups
from tbtjax.measure._measurements import (
    Measurements,
    as_arguments,
    as_measurements,
    centered,
    different_efforts,
    full_shape,
    joined,
    usable_points,
)
from tbtjax.measure._minimize import STEEPEST, Points
from tbtjax.measure._search import METHODS, Batch, in_chunks, out_of_chunks, search
from tbtjax.measure._summary import Minimum
from tbtjax.measure._sums import weighted_line

#: Where fewer answers than this are right, or wrong, a count is far from normal.
_FEW_ANSWERS = 9.5


def fit_power_law(
    steps: Any,
    scores: Any,
    *,
    questions: Any = None,
    stderr: Any = None,
    limits: Literal["fixed", "free", "shared"] = "fixed",
    groups: Any = None,
    lower: Any = 0.0,
    upper: Any = 1.0,
    loss: Literal["chi2", "deviance"] = "chi2",
    method: Literal["lbfgs", "levenberg-marquardt"] = "lbfgs",
) -> PowerLawFit:
    """Fits v(e) = lower + (upper − lower)·σ(α + β·log(1 + e)) to measured scores.

    Minimises χ² = Σ (score − v)²/σ² on the score scale. σ² is that of a share of `questions`,
    p̃(1 − p̃)/questions with p̃ = (k + ½)/(questions + 1) and k = score·questions to the next whole
    number: a count of 0 or of all then keeps a finite weight. Else it is stderr², and 1 where a
    point of the curve has neither (flag UNWEIGHTED). Scores below `lower` count like all others.

    Fixed limits are the paper's way and misfit many measured curves; free ones fit, often with a
    convex start (flag NOT_CONCAVE). Look at both. Shared ones stand between them: one pair of
    limits for all models of a group, which has to fit all of their points.

    Args:
      steps: `[..., points]` efforts, in training steps, ≥ 0; NaN = not measured.
      scores: `[..., points]` scores in [0, 1]; NaN = not measured. The axis before the points is
        that of the models. All arrays broadcast against each other.
      questions: `[..., points]` or scalar: number of questions behind a score; NaN = not known.
      stderr: `[..., points]` or scalar: standard error of a score, read where `questions` is not
        known; NaN, 0 and below = not known.
      limits: "fixed": `lower` and `upper` are the limits. "free": both are fitted too, for each
        model, and `lower` and `upper` bound them. "shared": the same for each group of models. A
        group is unweighted where one of its models is.
      groups: `[..., n]` or broadcastable: whole numbers, alike for the models that share limits;
        all models of the axis where None. For limits="shared" alone.
      lower: `[..., n]`, `[..., 1]` or scalar: lower limit of the score (chance).
      upper: the same: upper limit of the score.
      loss: "chi2", or "deviance": the binomial deviance, which needs `questions` and is better
        than χ² where counts of right or wrong answers are small (flag SMALL_COUNTS).
      method: how the minimum is searched from the two best starts of a grid: "lbfgs" by Optax, or
        "levenberg-marquardt", which takes about the same time and leaves a few fits in a thousand
        short of the last thousandth of χ² (flag NOT_CONVERGED). Shared limits have a search of
        their own: all unknowns of a group at once by Levenberg-Marquardt.

    Returns:
      Curves with χ², degrees of freedom, gradient, standard deviations and flags per model, of
      the floating dtype of the arguments. A curve that cannot be fitted is NaN, its flags say why;
      its neighbours are untouched.

    Raises:
      TypeError: an argument is not an array of real numbers, or `groups` not one of whole numbers.
      ValueError: an unknown option; shapes that do not broadcast; no points axis; the deviance
        without `questions`; `groups` without limits="shared", or shared limits without a models
        axis.

    Examples:
      >>> fit = fit_power_law([0, 10, 100, 1000], [[0.5, 0.6, 0.7, 0.8]], questions=1000)
      >>> print(f"beta {fit.curves.beta[0]:.3f}, {fit.dof[0]} degrees of freedom")
      beta 0.198, 2 degrees of freedom

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), eq. 3 and App. D; the weights, free limits and
    flags are ours.
    """
    check_option("limits", limits, ("fixed", "free", "shared"))
    check_option("loss", loss, ("chi2", "deviance"))
    check_option("method", method, tuple(METHODS))
    if loss == "deviance" and questions is None:
        raise ValueError(
            'loss="deviance" needs the number of questions behind each score; got questions=None'
        )
    arguments = as_arguments(steps, scores, questions, stderr, lower, upper)
    if limits == "shared":
        labels = as_groups(groups, arguments)
    elif groups is not None:
        raise ValueError(f'groups are read with limits="shared" alone; got limits={limits!r}')
    else:
        labels = None
    traced = any(isinstance(x, Tracer) for x in (*arguments, labels))
    parameters = 4 if limits == "free" else 2
    given, chunks = _prepare(
        *arguments, labels, parameters, is_joint=limits == "shared", loss=loss, fill=not traced
    )
    best = search(chunks, free=limits == "free", loss=loss, method=method)
    return _conclude(given, best, *arguments[-2:], limits=limits, loss=loss)


def fit_logit_ols(
    steps: Any,
    scores: Any,
    *,
    questions: Any = None,
    stderr: Any = None,
    lower: Any = 0.0,
    upper: Any = 1.0,
) -> PowerLawFit:
    """Fits the power law by ordinary least squares on the logit: the paper's way.

    Regresses logit((score − lower)/(upper − lower)) on log(1 + step), unweighted, in closed form.
    A score at or beyond a limit has no logit: it is left out and counted in `left_out`. Scores
    just above `lower` have wild logits and pull as much as all others; `fit_power_law` weighs
    each score by its noise.

    Args:
      steps: `[..., points]` efforts, in training steps, ≥ 0; NaN = not measured.
      scores: `[..., points]` scores in [0, 1]; NaN = not measured. The axis before the points is
        that of the models. All arrays broadcast against each other.
      questions: as in `fit_power_law`; it and `stderr` enter `chi2` alone, not the curve.
      stderr: the same.
      lower: `[..., n]`, `[..., 1]` or scalar: lower limit of the score (chance).
      upper: the same: upper limit of the score.

    Returns:
      As `fit_power_law`: `chi2` is that of the curve on the score scale over the used points, so
      that both ways can be compared; `gradient` is of the sum of squared logit residuals; the
      standard deviations are those of the regression.

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: shapes that do not broadcast; no points axis.

    Examples:
      >>> fit = fit_logit_ols([0, 10, 100, 1000], [[0.5, 0.6, 0.7, 0.8]], questions=1000)
      >>> print(f"beta {fit.curves.beta[0]:.3f} ± {fit.deviation[0, 1]:.3f}")
      beta 0.200 ± 0.011

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), App. D and E.
    """
    return _fit_logit_ols(*as_arguments(steps, scores, questions, stderr, lower, upper))


class Given(NamedTuple):
    """What is given of all curves.

    Attributes:
      data: the measurements.
      used: `[..., n, points]` which of them are used.
      too_few: `[..., n]` where too few are.
      group: `[..., n]` numbers of the groups that are fitted jointly; None where none are.
    """

    data: Measurements
    used: jax.Array
    too_few: jax.Array
    group: jax.Array | None


def as_given(
    steps, scores, questions, stderr, lower, upper, labels, parameters, *, is_joint, loss
) -> Given:
    """The arguments of a fit, looked at.

    Args:
      steps: this and the others are as `as_arguments` gives them.
      scores: the same.
      questions: the same.
      stderr: the same.
      lower: the same.
      upper: the same.
      labels: what the models of a group have in common; None where each is fitted for itself.
      parameters: of each curve: 2, or 4 where its limits are fitted.
      is_joint: whether the models of a group share limits.
      loss: as in `fit_power_law`.
    """
    data = as_measurements(
        steps, scores, questions, stderr, lower, upper, deviance=loss == "deviance"
    )
    group = None if labels is None else group_numbers(labels, data.invalid.shape)
    if group is not None and is_joint:
        data = joined(data, group)
    # A curve without an answer becomes one without points: nothing in it can disturb the others.
    used, too_few = usable_points(data, data.measured, parameters)
    if group is not None and is_joint:
        spare = jnp.maximum(different_efforts(data, used).astype(jnp.int32) - 2, 0)
        too_few |= ~data.invalid & (over_groups(spare, group) < 2)
        used &= ~too_few[..., None]
    return Given(data, used, too_few, group)


@functools.partial(jax.jit, static_argnames=("is_joint", "loss", "fill"))
def _prepare(*arguments, is_joint, loss, fill):
    """What is given, and the batch to search."""
    given = as_given(*arguments, is_joint=is_joint, loss=loss)
    data, used = given.data, given.used
    center, effort = centered(data.effort, used)
    columns = (effort, data.score, data.weight, data.questions)
    points = Points(*(jnp.where(used, x, 0) for x in columns))
    noise = data.weighted.astype(center.dtype)
    batch = Batch(points, center, data.low, data.high, noise, given.group)
    return given, in_chunks(batch, fill)


@functools.partial(jax.jit, static_argnames=("limits", "loss"))
def _conclude(given, best, lower, upper, *, limits, loss):
    """The record of the best curves found."""
    best = out_of_chunks(best, given.too_few.shape)
    return conclude(given, best, lower, upper, limits=limits, loss=loss)


def conclude(
    given: Given,
    best: Minimum,
    lower: jax.Array,
    upper: jax.Array,
    *,
    limits: str,
    loss: str,
) -> PowerLawFit:
    """The record of the best curves, `[..., n]` and `[..., n, 4]`.

    Args:
      given: what they were fitted to.
      best: the curves.
      lower: the lower limit as it was given.
      upper: the upper one.
      limits: as in `fit_power_law`.
      loss: the same.
    """
    data, used, too_few, group = given
    dof = jnp.sum(used, axis=-1, dtype=jnp.int32) - (4 if limits == "free" else 2)
    scatter = per_degree(best.loss, dof)
    if group is not None:
        dof, scatter = _in_groups(used, best.loss, group, 2 if limits == "shared" else 0)
    scale = jnp.where(data.weighted, 1, jnp.sqrt(scatter))
    # What is held has no deviation and what is unknown no finite one, whatever the scatter.
    scaled = (best.deviation > 0) & jnp.isfinite(best.deviation)
    deviation = jnp.where(scaled, best.deviation * scale[..., None], best.deviation)
    vague = (deviation[..., 1] > STEEPEST) | jnp.isinf(deviation[..., 0])
    at_edge = (best.upper <= data.low) | (best.upper >= data.high)
    wide = deviation[..., 3] > (best.upper - best.lower) / 2
    fitted = limits != "fixed"
    if fitted:
        lost = data.invalid | too_few
        lower, upper = (jnp.where(lost, jnp.nan, x) for x in (best.lower, best.upper))
    return record_of(
        data,
        used,
        too_few,
        PowerLaw(best.alpha, best.beta, lower, upper),
        chi2=best.loss,
        dof=dof,
        gradient=best.gradient,
        deviation=deviation,
        flags={
            FitFlag.SMALL_COUNTS: _has_small_counts(data, used) & (loss == "chi2"),
            FitFlag.NOT_CONVERGED: ~best.converged,
            FitFlag.AT_BOUND: best.at_bound | vague,
            FitFlag.UPPER_UNIDENTIFIED: (at_edge | wide) & fitted,
        },
    )


@jax.jit
def _fit_logit_ols(steps, scores, questions, stderr, lower, upper):
    data = as_measurements(steps, scores, questions, stderr, lower, upper, deviance=False)
    low, high = data.low[..., None], data.high[..., None]
    inside = data.measured & (data.score > low) & (data.score < high)
    used, too_few = usable_points(data, inside, 2)
    center, effort = centered(data.effort, used)
    above, below = (jnp.where(used, x, 1) for x in (data.score - low, high - data.score))
    logit = jnp.log(above) - jnp.log(below)
    weight = used.astype(logit.dtype)
    level, rate, spread = weighted_line(weight, effort, logit, axis=-1)
    fitted = level[..., None] + rate[..., None] * effort
    residual = weight * (logit - fitted)
    dof = jnp.sum(used, axis=-1, dtype=jnp.int32) - 2
    scatter = jnp.sqrt(per_degree(jnp.sum(residual**2, axis=-1), dof))
    by_rate = 1 / jnp.sqrt(spread)
    by_level = jnp.sqrt(1 / jnp.sum(weight, axis=-1) + (center * by_rate) ** 2)
    held = jnp.zeros_like(level)
    slopes = [jnp.sum(residual, axis=-1), jnp.sum(residual * effort, axis=-1)]
    slopes[1] += center * slopes[0]
    error = data.score - (low + (high - low) * jax.nn.sigmoid(fitted))
    return record_of(
        data,
        used,
        too_few,
        PowerLaw(level - center * rate, rate, lower, upper),
        chi2=jnp.sum(jnp.where(used, data.weight * error**2, 0), axis=-1),
        dof=dof,
        gradient=-2 * jnp.stack([*slopes, held, held], axis=-1),
        deviation=jnp.stack([scatter * by_level, scatter * by_rate, held, held], axis=-1),
        flags={},
    )


def check_option(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raises unless `value` is one of the known values of option `name`."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}")


def as_groups(groups: Any, arguments: list[jax.Array | None]) -> jax.Array:
    """`groups` of `fit_power_law` as whole numbers that fit the other arguments of a fit."""
    shape = full_shape(arguments)[:-1]
    if not shape:
        raise ValueError(
            'limits="shared" needs a models axis, scores [..., n, points]; got one curve'
        )
    labels = jnp.zeros((), jnp.int32) if groups is None else as_array("groups", groups)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"groups must be whole numbers, one per model; got dtype {labels.dtype}")
    try:
        fits = jnp.broadcast_shapes(labels.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"groups must be [..., n], one number per model of {shape}; got shape {labels.shape}"
        )
    return labels


def _in_groups(
    used: jax.Array, loss: jax.Array, group: jax.Array, limits: int
) -> tuple[jax.Array, jax.Array]:
    """Degrees of freedom of each curve, and the group's loss per degree of freedom, `[..., n]`.

    A curve has two parameters of its own and its share of the fitted `limits` of its group.
    """
    points = jnp.sum(used, axis=-1, dtype=jnp.int32)
    present = (points > 0).astype(jnp.int32)
    members = jnp.maximum(over_groups(present, group), 1).astype(loss.dtype)
    share = jnp.round(limits / members).astype(jnp.int32)
    degrees = over_groups(points - 2 * present, group) - limits
    return points - 2 - share, per_degree(over_groups(loss, group), degrees)


def _has_small_counts(data: Measurements, used: jax.Array) -> jax.Array:
    """`[..., n]` whether too few answers are right or wrong at some used point of known count."""
    counts = jnp.minimum(data.score, 1 - data.score) * data.questions
    return jnp.any(used & (data.questions > 0) & (counts < _FEW_ANSWERS), axis=-1)
