"""An analysis as a document for JSON.

Every number is written in full. Files say "inf" for infinity (strict JSON has no word for it) and
null for what is not known.
"""

import dataclasses
from typing import Any

import numpy as np

from tbtjax._version import __version__
from tbtjax.assumptions import AssumptionReport
from tbtjax.report.audit import Levels
from tbtjax.report.records import Analysis, Efforts, Thresholds
from tbtjax.threshold import Status

#: The conditions of the audit, by the names of `AssumptionReport`.
_CONDITIONS = (
    *("cost_zero", "cost_positive", "cost_convex", "cost_common"),
    *("c1", "c2_rising", "c2_concave", "c2_bounded", "c3"),
)


def to_document(analysis: Analysis) -> dict[str, Any]:
    """The analysis as a dictionary, with the keys that `tbtjax schema analysis` describes."""
    settings, names = analysis.settings, analysis.names
    return {
        "tbtjax": __version__,
        "data": {
            "source": analysis.source,
            "task": analysis.task,
            "metric": analysis.metric,
            "last_step": analysis.last_step,
            "order": analysis.order,
            "left_out": [
                {"model": model or None, "reason": reason} for model, reason in analysis.left_out
            ],
        },
        "settings": {
            "fit": settings.fit,
            "limits": settings.limits,
            "lower": settings.lower,
            "rewards": settings.rewards.name,
            "deviations": settings.deviations,
            "loss": settings.loss,
        },
        "warnings": analysis.warnings,
        "models": [
            {
                "model": model.name,
                "family": model.family,
                "parameters_billion": model.parameters_billion,
                "alpha": model.alpha,
                "alpha_deviation": model.alpha_deviation,
                "beta": model.beta,
                "beta_deviation": model.beta_deviation,
                "lower": model.lower,
                "upper": model.upper,
                "chi2": model.chi2,
                "dof": model.dof,
                "points_used": model.points_used,
                "points_left_out": model.points_left_out,
                "flags": [flag.name for flag in model.flags],
                "shape": model.shape,
                "steps": model.steps,
                "scores": model.scores,
                "errors": model.errors,
            }
            for model in analysis.models
        ],
        "pairs": [
            {"weak": weak, "strong": strong, "rho": rho, "e0": e0}
            for weak, strong, rho, e0 in zip(
                names[1:], names[:-1], analysis.rho, analysis.effort.by_pair[0], strict=True
            )
        ],
        "families": _family_rows(analysis),
        "effort": _effort_rows(analysis, analysis.effort),
        "effort_curve": _effort_rows(analysis, analysis.effort_curve),
        "thresholds": _threshold_rows(analysis, analysis.thresholds),
        "threshold_curve": _threshold_rows(analysis, analysis.threshold_curve),
        "capability_order": _order_rows(analysis),
        "conditions": _condition_rows(analysis),
        "assumptions": [
            {
                "max_effort": report.max_effort,
                "holds": {name: bool(getattr(report, name).holds) for name in _CONDITIONS},
                "violations": _violations(analysis, report),
            }
            for report in (analysis.audit.measured, analysis.audit.endless)
        ],
    }


def _family_rows(analysis: Analysis) -> dict[str, Any] | None:
    families = analysis.families
    if families is None:
        return None

    def ends(interval):
        return {"low": interval.low, "high": interval.high}

    intervals = families.intervals
    if intervals is not None:
        fields = (field.name for field in dataclasses.fields(intervals))
        intervals = {name: ends(getattr(intervals, name)) for name in fields}
    return {
        "used": families.used,
        "resamples": families.doubt.resamples,
        "confidence": families.doubt.confidence,
        "seed": families.doubt.seed,
        "levels": families.levels,
        "brackets": ends(families.brackets),
        "delta_differs": families.delta_differs,
        "e0_differs": families.e0_differs,
        "intervals": intervals,
        "readings": [
            {
                "family": reading.family,
                "missing": reading.missing,
                "e0": reading.e0,
                "e0_interval": ends(reading.e0_interval),
                "delta": reading.delta,
                "delta_interval": ends(reading.delta_interval),
                "stability": reading.stability,
            }
            for reading in families.readings
        ],
    }


def _order_rows(analysis: Analysis) -> dict[str, Any] | None:
    found = analysis.capability_order
    if found is None:
        return None
    names = analysis.names
    return {
        "limits": found.limits,
        "price": found.price,
        "ties": found.ties,
        "chi2_per_degree": found.chi2_per_degree,
        "p_value": found.p_value,
        "delta": found.delta,
        "models": [
            {
                "model": names[row],
                "alpha": found.alpha[row],
                "beta": found.beta[row],
                "chi2": found.chi2[row],
                "cost": found.cost[row],
                "alpha_tied": bool(row and found.tied[row - 1, 0]),
                "beta_tied": bool(row and found.tied[row - 1, 1]),
            }
            for row in range(len(names))
        ],
    }


def _effort_rows(analysis: Analysis, efforts: Efforts) -> list[dict[str, Any]]:
    return [
        {
            "delta": efforts.levels[row],
            "by_pair": efforts.by_pair[row],
            "least": efforts.least[row],
            "weak": _model_or_none(analysis, efforts.weak[row]),
            "rival": _model_or_none(analysis, efforts.rival[row]),
            "in_order": bool(efforts.in_order[row]),
        }
        for row in range(len(efforts.levels))
    ]


def _threshold_rows(analysis: Analysis, thresholds: Thresholds) -> list[dict[str, Any]]:
    return [
        {
            "worth": worth,
            "delta": thresholds.delta[row],
            "upper": thresholds.upper[row],
            "settled": thresholds.settled[row],
            "status": Status(int(thresholds.status[row])).name,
            "weak": _model_or_none(analysis, thresholds.pair[row]),
            "rival": _model_or_none(analysis, thresholds.rival[row]),
            "by_pair": thresholds.by_pair[row],
        }
        for row, worth in enumerate(thresholds.worths)
    ]


def _violations(analysis: Analysis, report: AssumptionReport) -> list[dict[str, Any]]:
    """Every violation, those of one condition together and the largest first."""
    names, rows = analysis.names, []
    for condition in _CONDITIONS:
        check = getattr(report, condition)
        failing = [tuple(index) for index in np.argwhere(check.fails)]
        for index in sorted(failing, key=lambda index: -check.amount[index]):
            rows.append(
                {
                    "condition": condition,
                    "model": names[index[0]],
                    "rival": names[index[1]] if len(index) > 1 else None,
                    "amount": check.amount[index],
                    "start": check.start[index],
                    "end": check.end[index],
                }
            )
    return rows


def _condition_rows(analysis: Analysis) -> list[dict[str, Any]]:
    audit = analysis.audit

    def levels(levels: Levels, row: int) -> dict[str, Any]:
        return {
            "delta": levels.delta[row],
            "upper": levels.upper[row],
            "settled": levels.settled[row],
            "status": Status(int(levels.status[row])).name,
        }

    return [
        {
            "worth": worth,
            "differ": bool(audit.differ[row]),
            "exact": levels(audit.exact, row),
            "adjacent": levels(audit.adjacent, row),
            "at": audit.level[row],
            "weak": _model_or_none(analysis, audit.weak[row]),
            "rival": _model_or_none(analysis, audit.rival[row]),
            "gain": audit.gain[row],
        }
        for row, worth in enumerate(analysis.thresholds.worths)
    ]


def _model_or_none(analysis: Analysis, index: int) -> str | None:
    return analysis.names[index] if index >= 0 else None
