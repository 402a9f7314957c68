"""An analysis as text for a terminal, as JSON and as CSV files.

Every number is written with five significant digits as text, and in full in the files. Files say
"inf" for infinity (strict JSON has no word for it) and leave out what is not known: null in
JSON, an empty cell in CSV.
"""

import pathlib
import textwrap
from typing import Any

import numpy as np

from tbtjax._version import __version__
from tbtjax.assumptions import AssumptionReport
from tbtjax.report._format import given, number, plain, short, text_table, write_csv
from tbtjax.report._format import to_json as _to_json
from tbtjax.report.analysis import Analysis, Efforts, Thresholds
from tbtjax.report.audit import Levels
from tbtjax.threshold import Status

#: So many worths at which the two conditions differ are put in words.
_MOST_DISAGREEMENTS = 3
_ORDERS = {
    "size": "by size, largest first",
    "score": "by score at each model's last step, highest first",
}


def to_text(analysis: Analysis) -> str:
    """The whole analysis as tables for a terminal of 100 columns."""
    parts = [_opening(analysis), _fits(analysis), _pairs(analysis), _least(analysis)]
    parts += [_threshold_table(analysis), _assumptions(analysis), _neighbours(analysis)]
    return "\n\n".join([*parts, *_closing(analysis)]) + "\n"


def case_in_words(analysis: Analysis, thresholds: Thresholds, row: int) -> str:
    """Which case one row of `thresholds` is: found, only up to …, never, stable already."""
    status = Status(int(thresholds.status[row]))
    if status == Status.NOWHERE:
        return "never: " + _why_never(analysis, thresholds, row)
    if status == Status.STABLE_AT_ZERO:
        return "stable already, without tune-before-test"
    if status == Status.FOUND:
        return "found: stable from there on"
    if status == Status.INTERVAL:
        start = "stable already, but only" if thresholds.delta[row] == 0 else "only"
        words = f"{start} up to {number(thresholds.upper[row])}"
        settled = thresholds.settled[row]
        return words + (f"; for good from {number(settled)} on" if np.isfinite(settled) else "")
    return f"no answer: {status.name}"


def _why_never(analysis: Analysis, thresholds: Thresholds, row: int) -> str:
    names = analysis.names
    alone = [
        f"{names[j + 1]} below {names[j]}"
        for j in np.flatnonzero(np.isinf(thresholds.by_pair[row]))
    ]
    if not alone:
        return "no level suits all pairs at once"
    shown = ", ".join(alone[:3]) + (f" and {len(alone) - 3} pairs more" if len(alone) > 3 else "")
    return f"no level keeps {shown}"


def _opening(analysis: Analysis) -> str:
    settings = analysis.settings
    points = sum(len(model.steps) for model in analysis.models)
    last = given(analysis.last_step)
    what = ", ".join(x for x in (analysis.task, analysis.metric) if x)
    lines = [
        ("Data", f"{analysis.source}{f' ({what})' if what else ''}"),
        (
            "Models",
            f"{len(analysis.models)} with {points} points, up to step {last}; capability order "
            f"{_ORDERS[analysis.order]}",
        ),
        *(("Left out", reason) for _, reason in analysis.left_out),
        (
            "Game",
            f"rewards {settings.rewards.name}, linear cost, deviations: {settings.deviations}; "
            "worth = the largest reward",
        ),
        ("", "gap between neighbouring ranks, in training steps"),
    ]
    return "\n".join(f"{label:10}{text}" for label, text in lines)


def _fits(analysis: Analysis) -> str:
    settings = analysis.settings
    rows = []
    for model in analysis.models:
        used = f"{model.points_used}/{model.points_used + model.points_left_out}"
        rows.append(
            [
                short(model.name),
                given(model.parameters_billion),
                used,
                number(model.alpha),
                number(model.alpha_deviation),
                number(model.beta),
                number(model.beta_deviation),
                *map(number if settings.limits == "free" else given, (model.lower, model.upper)),
                number(model.chi2),
                number(model.reduced_chi2),
                model.flags.words(),
            ]
        )
    header = "model,size/B,points,alpha,±,beta,±,lower,upper,chi2,chi2/dof,flags".split(",")
    how = {
        "weighted": "weighted least squares on the score",
        "logit-ols": "unweighted least squares on the logit",
    }[settings.fit]
    title = (
        "Fitted curves: logit((score - lower)/(upper - lower)) = alpha + beta log(1 + step),\n"
        f"{how}, limits {settings.limits}"
    )
    return f"{title}\n{text_table(header, rows, text_columns=(0, 11))}"


def _pairs(analysis: Analysis) -> str:
    levels = analysis.effort.levels
    rows = [
        [short(weak), short(strong), number(rho), *map(number, efforts)]
        for weak, strong, rho, efforts in zip(
            analysis.names[1:],
            analysis.names[:-1],
            analysis.rho,
            analysis.effort.by_pair.T,
            strict=True,
        )
    ]
    header = ["model", "passes", "rho", "e0 = at 0"]
    header += [f"at {given(level)}" for level in levels[1:]]
    title = (
        "Just-overtake effort of each model against the next more capable one after Δ steps for "
        "all, in\ntraining steps (0: ahead already; inf: never), and learning-rate ratio rho"
    )
    return f"{title}\n{text_table(header, rows, text_columns=(0, 1))}"


def _least(analysis: Analysis) -> str:
    effort = analysis.effort
    rows = [
        [
            given(level),
            number(least),
            f"{_name(analysis, weak)} passes {_name(analysis, rival)}" if weak >= 0 else "nobody",
            "yes" if in_order else "no",
        ]
        for level, least, weak, rival, in_order in zip(
            effort.levels, effort.least, effort.weak, effort.rival, effort.in_order, strict=True
        )
    ]
    header = ["Δ", "least effort", "by which", "ranking follows capability"]
    title = "Least effort that changes the ranking, against the tune-before-test level Δ"
    return f"{title}\n{text_table(header, rows, text_columns=(2, 3))}"


def _threshold_table(analysis: Analysis) -> str:
    thresholds = analysis.thresholds
    rows = []
    for row, worth in enumerate(thresholds.worths):
        weak, rival = thresholds.pair[row], thresholds.rival[row]
        decided = f"{_name(analysis, weak)} against {_name(analysis, rival)}" if weak >= 0 else "-"
        delta = thresholds.delta[row]
        rows.append(
            [
                given(worth),
                "none" if np.isinf(delta) else number(delta),
                decided,
                case_in_words(analysis, thresholds, row),
            ]
        )
    header = ["worth", "Δ*", "decided by", "case"]
    title = "Δ*: from how many steps of tune-before-test on does no effort pay?"
    return f"{title}\n{text_table(header, rows, text_columns=(2, 3))}"


def _assumptions(analysis: Analysis) -> str:
    """Each assumption with its worst violation; all of them are in the files."""
    names = [short(name) for name in analysis.names]
    measured = analysis.audit.measured.violations(names, most=1)
    endless = analysis.audit.endless.violations(names, most=1)
    lines = [
        "The paper's assumptions on these curves, at efforts up to "
        f"{given(analysis.last_step)} steps, the last one measured"
    ]
    for condition, found in measured.items():
        lines.append(_item(f"{condition}: {'fails: ' + '; '.join(found) if found else 'holds'}"))
    beyond = {name: found for name, found in endless.items() if found and not measured[name]}
    for condition, found in beyond.items():
        lines.append(_item(f"beyond, extrapolated: {condition}: fails: {'; '.join(found)}"))
    return "\n".join(lines)


def _item(text: str) -> str:
    return textwrap.fill(
        text, 100, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )


def _neighbours(analysis: Analysis) -> str:
    """Where the adjacent condition and the exact one disagree, in words."""
    audit, worths = analysis.audit, analysis.thresholds.worths
    rows = np.flatnonzero(audit.differ)
    if not len(rows):
        return _paragraph(
            "Neighbours decide: the paper's condition, by which nobody gains by passing the next "
            "more capable model, gives the same stable levels as the exact one, by which nobody "
            f"gains by passing any, at {'every worth' if len(worths) > 1 else 'this worth'}."
        )
    cases = [_disagreement(analysis, row) for row in rows[:_MOST_DISAGREEMENTS]]
    others = len(rows) - len(cases)
    return _paragraph(
        "Neighbours do not decide: the paper's condition, by which nobody gains by passing the "
        f"next more capable model, is not enough at {len(rows)} of {len(worths)} worths: "
        + "; ".join(cases)
        + (f"; so it is with {others} more worth{'s' * (others > 1)}." if others else ".")
    )


def _disagreement(analysis: Analysis, row: int) -> str:
    audit = analysis.audit
    text = (
        f"at {given(analysis.thresholds.worths[row])} neighbours alone say "
        f"{_stable_levels(audit.adjacent, row)}, all models {_stable_levels(audit.exact, row)}"
    )
    weak, rival = audit.weak[row], audit.rival[row]
    if weak < 0:
        return text
    between = [_name(analysis, index) for index in range(rival + 1, weak)]
    over = " and ".join(between) if len(between) <= 2 else f"{len(between)} models"
    return (
        f"{text}: at Δ = {number(audit.level[row])} {_name(analysis, weak)} gains "
        f"{number(audit.gain[row])} steps by passing {_name(analysis, rival)}, over {over}"
    )


def _stable_levels(levels: Levels, row: int) -> str:
    delta, upper, settled = levels.delta[row], levels.upper[row], levels.settled[row]
    if np.isinf(delta):
        return "never stable"
    if np.isinf(upper):
        return f"stable from {number(delta)} on"
    again = f" and from {number(settled)} on" if np.isfinite(settled) else ""
    return f"stable from {number(delta)} to {number(upper)}{again}"


def _closing(analysis: Analysis) -> list[str]:
    return [_paragraph(f"Warning: {text}.") for text in analysis.warnings]


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 100, subsequent_indent="  ", break_on_hyphens=False)


def _name(analysis: Analysis, index: int) -> str:
    return short(analysis.names[index])


def to_json(analysis: Analysis) -> str:
    """The analysis as strict JSON; README.md describes the keys."""
    return _to_json(_document(analysis))


def _document(analysis: Analysis) -> dict[str, Any]:
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
        "effort": _effort_rows(analysis, analysis.effort),
        "effort_curve": _effort_rows(analysis, analysis.effort_curve),
        "thresholds": _threshold_rows(analysis, analysis.thresholds),
        "threshold_curve": _threshold_rows(analysis, analysis.threshold_curve),
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


#: The conditions of the audit, by the names of `AssumptionReport`.
_CONDITIONS = (
    *("cost_zero", "cost_positive", "cost_convex", "cost_common"),
    *("c1", "c2_rising", "c2_concave", "c2_bounded", "c3"),
)


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


def write_files(analysis: Analysis, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes analysis.json and the CSV files into `folder`; returns their paths."""
    document = plain(_document(analysis))
    pairs = [f"{pair['weak']} passes {pair['strong']}" for pair in document["pairs"]]
    path = folder / "analysis.json"
    path.write_text(to_json(analysis) + "\n", encoding="utf-8")
    fits = [
        {key: value for key, value in model.items() if key not in ("steps", "scores", "errors")}
        | {"flags": " ".join(model["flags"])}
        for model in document["models"]
    ]
    points = [
        {
            "model": model.name,
            "step": step,
            "score": score,
            "stderr": error,
            "fitted": model.score(step),
        }
        for model in analysis.models
        for step, score, error in zip(model.steps, model.scores, model.errors, strict=True)
    ]
    return [
        path,
        write_csv(folder / "models.csv", fits),
        write_csv(folder / "points.csv", plain(points)),
        write_csv(folder / "pairs.csv", document["pairs"]),
        write_csv(
            folder / "efforts.csv", _widened(document["effort"] + document["effort_curve"], pairs)
        ),
        write_csv(
            folder / "thresholds.csv",
            _widened(document["thresholds"] + document["threshold_curve"], pairs),
        ),
        write_csv(folder / "conditions.csv", [_flat(row) for row in document["conditions"]]),
        write_csv(
            folder / "assumptions.csv",
            [
                {"max_effort": report["max_effort"], **row}
                for report in document["assumptions"]
                for row in report["violations"]
            ],
            ["max_effort", "condition", "model", "rival", "amount", "start", "end"],
        ),
    ]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the entries of inner objects in columns of their own, "exact delta"."""
    flat = {}
    for key, value in row.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat |= {f"{key} {name}".strip(): item for name, item in inner.items()}
    return flat


def _widened(rows: list[dict[str, Any]], pairs: list[str]) -> list[dict[str, Any]]:
    """Rows by their first column, once each, with `by_pair` spread over one column per pair."""
    by_first = {next(iter(row.values())): row for row in rows}
    rows = [by_first[first] for first in sorted(by_first)]
    return [
        {key: value for key, value in row.items() if key != "by_pair"}
        | dict(zip(pairs, row["by_pair"], strict=True))
        for row in rows
    ]
