"""What a reader of an analysis must know before relying on its numbers, in words."""

import itertools
from typing import Any

import numpy as np

from tbtjax.measure import FitFlag
from tbtjax.report.families import FAMILIES
from tbtjax.report.records import Analysis, FittedModel
from tbtjax.threshold import Status

#: A warning names so many models or pairs, and counts the others.
_MOST_LISTED = 6


def cautions(analysis: Analysis) -> list[str]:
    """What a reader must know before relying on the numbers."""
    models, thresholds = analysis.models, analysis.thresholds
    found = []
    misfits = [model for model in models if model.flags & FitFlag.MISFIT]
    if misfits:
        worst = max(misfits, key=lambda model: model.reduced_chi2)
        remedy = (
            "compare the points with the curves"
            if analysis.settings.limits == "free"
            else "compare the points with the curves, and with --limits free"
        )
        found.append(
            f"the curves of {_listed(model.name for model in misfits)} miss their points by more "
            f"than noise (chi2 per degree of freedom up to {worst.reduced_chi2:.4g}, "
            f"{worst.name}; about 1 is expected): efforts and thresholds can be off by a "
            f"multiple, and the standard deviations are too small; {remedy}"
        )
    unweighted = [model.name for model in models if model.flags & FitFlag.UNWEIGHTED]
    if unweighted:
        found.append(
            f"no standard error or number of questions for all scores of {_listed(unweighted)}: "
            "chi2 is a plain sum of squares there, and a misfit cannot be told"
        )
    unconverged = [model.name for model in models if model.flags & FitFlag.NOT_CONVERGED]
    if unconverged:
        found.append(f"the fit of {_listed(unconverged)} did not converge")
    falling = [model.name for model in models if model.beta <= 0]
    if falling:
        found.append(
            f"{_listed(falling)} {'does' if len(falling) == 1 else 'do'} not rise with training "
            "(beta <= 0), so that no training passes a model above: stable then says only that "
            "nobody gains by effort where nobody exerts any"
        )
    small = [model.name for model in models if model.flags & FitFlag.SMALL_COUNTS]
    if small:
        found.append(
            f"fewer than ten right or fewer than ten wrong answers at some step of {_listed(small)}"
            ": least squares leans to what such a count happens to be; fit with --loss deviance"
        )
    found += _shapes(models)
    found += _families_in_words(analysis)
    found += _contradictions(models)
    levels = np.concatenate([thresholds.delta, thresholds.upper])
    if np.any(np.isfinite(levels) & (levels > analysis.last_step)):
        found.append(
            f"levels beyond the last measured step ({analysis.last_step:g}) extrapolate the "
            "fitted curves"
        )
    failed = thresholds.status >= Status.NOT_CONVERGED
    if failed.any():
        names = sorted({Status(int(status)).name for status in thresholds.status[failed]})
        found.append(f"no threshold for {failed.sum()} of {failed.size} worths: {_listed(names)}")
    return found


def _shapes(models: tuple[FittedModel, ...]) -> list[str]:
    """Curves that are not what the theory takes for granted, every one of them by name."""
    by_shape: dict[str, list[str]] = {}
    for model in models:
        for shape in filter(None, model.shape.split(", ")):
            by_shape.setdefault(shape, []).append(model.name)
    if not by_shape:
        return []
    odd = sum(bool(model.shape) for model in models)
    words = "; ".join(f"{shape}: {', '.join(names)}" for shape, names in by_shape.items())
    return [f"{odd} of {len(models)} measured curves do not plainly rise ever more slowly: {words}"]


def _families_in_words(analysis: Analysis) -> list[str]:
    """Where efforts and Δ* depend on the family of curves."""
    families, found = analysis.families, []
    if families is None:
        return []
    for reading in families.readings:
        if reading.missing:
            found.append(
                f"{FAMILIES[reading.family]} cannot be fitted to {_listed(reading.missing)}: too "
                "few points; that column is empty"
            )

    def sides(values, most):
        return ", ".join(
            f"{value:,.4g} by {FAMILIES[reading.family]}"
            if value < most
            else f"none up to {most:,.4g} by {FAMILIES[reading.family]}"
            for reading, value in zip(families.readings, values, strict=True)
            if not np.isnan(value)
        )

    rows = np.flatnonzero(families.delta_differs)
    if len(rows):
        cases = [
            f"at a worth of {analysis.settings.worths[row]:g} "
            + sides([reading.delta[row] for reading in families.readings], families.levels[-1])
            for row in rows
        ]
        found.append(
            "Δ* depends on the family of curves by more than noise, so trust none of them alone: "
            + "; ".join(cases)
        )
    pairs = np.flatnonzero(families.e0_differs)
    if len(pairs):
        names = analysis.names
        cases = _listed(f"{names[pair + 1]} passes {names[pair]}" for pair in pairs)
        found.append(
            f"the just-overtake efforts of {len(pairs)} of {len(names) - 1} pairs depend on the "
            f"family of curves by more than noise ({cases}): look at the measured checkpoints"
        )
    return found


def _contradictions(models: tuple[FittedModel, ...]) -> list[str]:
    """Neighbours whose measured scores at step 0 contradict the capability order."""
    started = [model for model in models if model.steps[0] == 0]
    reversed_pairs = []
    for strong, weak in itertools.pairwise(started):
        lead = weak.scores[0] - strong.scores[0]
        if lead > 0:
            error = np.hypot(weak.errors[0], strong.errors[0])
            noise = f", by {lead / error:.1f} standard errors" if error > 0 else ""
            reversed_pairs.append(
                f"{weak.name} ({weak.scores[0]:.4f}) is above {strong.name} "
                f"({strong.scores[0]:.4f}){noise}"
            )
    if not reversed_pairs:
        return []
    more = len(reversed_pairs) > _MOST_LISTED
    return [
        "at step 0 the measured ranking contradicts the capability order: "
        + "; ".join(reversed_pairs[:_MOST_LISTED])
        + (f"; and {len(reversed_pairs) - _MOST_LISTED} pairs more" * more)
    ]


def _listed(names: Any) -> str:
    """Names for a sentence; a long list is cut."""
    names = list(names)
    shown = ", ".join(names[:_MOST_LISTED])
    more = len(names) - _MOST_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
