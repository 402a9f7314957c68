"""The curves of an analysis: one fit for each model, and what is remarkable about its scores."""

import dataclasses

import numpy as np

from tbtjax.curves import PowerLaw, power_law
from tbtjax.measure import (
    FitFlag,
    PowerLawBootstrap,
    PowerLawFit,
    Trajectories,
    TrajectoryArrays,
    fit_logit_ols,
    fit_power_law,
)
from tbtjax.report.families import draw_power_law
from tbtjax.report.records import FittedModel
from tbtjax.report.settings import Settings


def fit_curves(
    arrays: TrajectoryArrays, settings: Settings
) -> tuple[PowerLawFit, PowerLawBootstrap | None]:
    """The fits that the analysis uses, and those to resamples where they are of that kind."""
    known = {"questions": arrays.questions, "stderr": arrays.stderr, "lower": settings.lower}
    if settings.fit == "logit-ols":
        return fit_logit_ols(arrays.steps, arrays.scores, **known), None
    if settings.doubt.resamples:
        drawn = draw_power_law(
            arrays, settings.limits, settings.lower, settings.loss, settings.doubt
        )
        return drawn.fit, drawn
    fit = fit_power_law(
        arrays.steps,
        arrays.scores,
        limits=settings.limits,
        loss=settings.loss,
        method="levenberg-marquardt",
        **known,
    )
    return fit, None


def fitted_models(
    trajectories: Trajectories, arrays: TrajectoryArrays, fit: PowerLawFit, settings: Settings
) -> tuple[tuple[FittedModel, ...], tuple[tuple[str, str], ...]]:
    """The models with their curves, and (name, why) of those that cannot be fitted."""
    steps, scores, stderr, questions = arrays[1:5]
    binomial = np.sqrt(scores * (1 - scores) / questions)
    errors = np.where(np.isfinite(stderr), stderr, binomial)
    columns = {
        "alpha": fit.curves.alpha,
        "alpha_deviation": fit.deviation[:, 0],
        "beta": fit.curves.beta,
        "beta_deviation": fit.deviation[:, 1],
        "lower": np.broadcast_to(fit.curves.lower, fit.chi2.shape),
        "upper": np.broadcast_to(fit.curves.upper, fit.chi2.shape),
        "chi2": fit.chi2,
    }
    columns = {name: np.asarray(column) for name, column in columns.items()}
    models, unfitted = [], []
    for row, name in enumerate(arrays.models):
        measured = np.isfinite(scores[row])
        flags = FitFlag(int(fit.flags[row]))
        if flags & (FitFlag.INVALID | FitFlag.TOO_FEW_POINTS):
            reason = _why_not_fitted(scores[row, measured], settings)
            unfitted.append((name, f"{trajectories.source}: model {name!r}: {reason}"))
            continue
        first = np.flatnonzero(trajectories.model == name)[0]
        size = float(trajectories.parameters_billion[first])
        models.append(
            FittedModel(
                name=name,
                family=str(trajectories.family[first]) or None,
                parameters_billion=None if np.isnan(size) else size,
                steps=steps[row, measured],
                scores=scores[row, measured],
                errors=errors[row, measured],
                **{field: float(column[row]) for field, column in columns.items()},
                dof=int(fit.dof[row]),
                points_used=int(fit.points[row]),
                points_left_out=int(fit.left_out[row]),
                flags=flags,
                shape="",
            )
        )
        models[-1] = dataclasses.replace(models[-1], shape=shape_of(models[-1], settings, False))
    return tuple(models), tuple(unfitted)


def curves_of(models: tuple[FittedModel, ...], *, free: bool) -> PowerLaw:
    """The fitted curves; fixed limits are shared, so that thresholds take the exact road."""

    def column(name):
        return np.array([getattr(model, name) for model in models])

    if free:
        return power_law(column("alpha"), column("beta"), column("lower"), column("upper"))
    return power_law(column("alpha"), column("beta"), models[0].lower, models[0].upper)


def shape_of(model: FittedModel, settings: Settings, free_starts_convex: bool) -> str:
    """`shape_in_words` of a model, whose curve with free limits may start convex."""
    convex = free_starts_convex or bool(model.flags & FitFlag.NOT_CONCAVE)
    return shape_in_words(model.scores, model.errors, settings.lower, convex)


def shape_in_words(
    scores: np.ndarray, errors: np.ndarray, lower: float, starts_convex: bool
) -> str:
    """What is remarkable about measured scores: flat, falling, S-shaped, below chance.

    Differences count beyond three standard errors, with unknown errors whatever they are.

    Args:
      scores: `[points]` scores, by step.
      errors: `[points]` standard errors; NaN where not known.
      lower: the score by chance; 0 for none.
      starts_convex: whether the curve through them does.

    Returns:
      The words, comma-separated; empty where nothing is remarkable.

    Examples:
      >>> shape_in_words(np.array([0.5, 0.6, 0.4]), np.full(3, 0.01), 0.0, False)
      'ends below its start'
    """
    noise = 3 * np.nan_to_num(errors)
    words = []
    if np.isfinite(errors).any() and np.all(np.abs(scores - scores.mean()) <= noise):
        words.append("flat")
    elif scores[0] - scores[-1] > np.hypot(noise[0], noise[-1]):
        words.append("ends below its start")
    elif np.any(np.maximum.accumulate(scores) - scores > np.sqrt(2) * noise):
        words.append("falls on the way")
    if starts_convex:
        words.append("S-shaped")
    below = int(np.sum(scores <= lower))
    if below and lower > 0:
        words.append(f"{below} of {len(scores)} at or below chance")
    return ", ".join(words)


def _why_not_fitted(scores: np.ndarray, settings: Settings) -> str:
    needed = 4 if settings.limits == "free" else 2
    usable = scores
    if settings.limits == "shared" and len(usable) >= needed:
        return "limits shared by all models need two more measured steps than two for each of them"
    if settings.fit == "logit-ols":
        usable = scores[(scores > settings.lower) & (scores < 1)]
        if len(usable) < len(scores):
            return (
                f"{len(usable)} of {len(scores)} scores lie between the limits {settings.lower:g} "
                f"and 1, where a logit exists; expected {needed} or more at different steps"
            )
    return f"{len(usable)} measured points; expected {needed} or more at different steps"
