"""An analysis as text for a terminal; numbers have five significant digits."""

import itertools
import textwrap
from typing import Any

import numpy as np

from tbtjax.report._format import between, given, number, short, text_table
from tbtjax.report.audit import Levels
from tbtjax.report.families import FAMILIES, Intervals
from tbtjax.report.records import Analysis, Thresholds
from tbtjax.threshold import Status

#: So many worths at which the two conditions differ are put in words.
_MOST_DISAGREEMENTS = 3
#: So many models are named that pay most for the capability order.
_MOST_PAYERS = 3
#: A level is called stable where so large a share of the resamples is.
_SURE = 0.95
_ORDERS = {
    "size": "by size, largest first",
    "score": "by score at each model's last step, highest first",
}


def to_text(analysis: Analysis) -> str:
    """The whole analysis as tables for a terminal of 100 columns."""
    parts = [_opening(analysis), _fits(analysis), _pairs(analysis), _least(analysis)]
    parts += [_threshold_table(analysis), *_families(analysis), _assumptions(analysis)]
    parts += [*_capability_order(analysis), _neighbours(analysis)]
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


def _intervals(analysis: Analysis) -> Intervals | None:
    return None if analysis.families is None else analysis.families.intervals


def _share(analysis: Analysis) -> str:
    return f"{analysis.settings.doubt.confidence:.0%}"


def _fits(analysis: Analysis) -> str:
    settings, intervals = analysis.settings, _intervals(analysis)
    rows = []
    for row, model in enumerate(analysis.models):
        doubt = [number(x) for x in (model.alpha_deviation, model.beta_deviation)]
        if intervals is not None:
            ends = (intervals.alpha, intervals.beta)
            doubt = [between(low[row], high[row]) for low, high in ends]
        used = f"{model.points_used}/{model.points_used + model.points_left_out}"
        rows.append(
            [
                short(model.name),
                given(model.parameters_billion),
                used,
                number(model.alpha),
                doubt[0],
                number(model.beta),
                doubt[1],
                *map(given if settings.limits == "fixed" else number, (model.lower, model.upper)),
                number(model.chi2),
                number(model.reduced_chi2),
                ", ".join(filter(None, (model.shape, model.flags.words()))),
            ]
        )
    sign = "±" if intervals is None else _share(analysis)
    header = f"model,size/B,points,alpha,{sign},beta,{sign},lower,upper,chi2,chi2/dof,flags"
    how = {
        "weighted": "weighted least squares on the score",
        "logit-ols": "unweighted least squares on the logit",
    }[settings.fit]
    title = (
        "Fitted curves: logit((score - lower)/(upper - lower)) = alpha + beta log(1 + step),\n"
        f"{how}, limits {settings.limits}"
    )
    return f"{title}\n{text_table(header.split(','), rows, text_columns=(0, 11))}"


def _pairs(analysis: Analysis) -> str:
    levels, names, intervals = analysis.effort.levels, analysis.names, _intervals(analysis)
    rows = []
    for pair, (rho, efforts) in enumerate(
        zip(analysis.rho, analysis.effort.by_pair.T, strict=True)
    ):
        rows.append([short(names[pair + 1]), short(names[pair]), *map(number, (rho, *efforts))])
        if intervals is not None:
            ends = [(intervals.rho.low[pair], intervals.rho.high[pair])]
            ends += zip(
                intervals.by_pair.low[:, pair], intervals.by_pair.high[:, pair], strict=True
            )
            rows.append(["", _share(analysis), *(between(*x) for x in ends)])
    header = ["model", "passes", "rho", "e0 = at 0"]
    header += [f"at {given(level)}" for level in levels[1:]]
    title = (
        "Just-overtake effort of each model against the next more capable one after Δ steps for "
        "all, in\ntraining steps (0: ahead already; inf: never), and learning-rate ratio rho"
    )
    return f"{title}\n{text_table(header, rows, text_columns=(0, 1))}"


def _least(analysis: Analysis) -> str:
    effort, intervals = analysis.effort, _intervals(analysis)
    rows = []
    for row, level in enumerate(effort.levels):
        weak, rival = effort.weak[row], effort.rival[row]
        by = f"{_name(analysis, weak)} passes {_name(analysis, rival)}" if weak >= 0 else "nobody"
        rows.append(
            [given(level), number(effort.least[row]), by, "yes" if effort.in_order[row] else "no"]
        )
        if intervals is not None:
            rows[-1].insert(2, between(intervals.least.low[row], intervals.least.high[row]))
    header = ["Δ", "least effort", "by which", "ranking follows capability"]
    if intervals is not None:
        header.insert(2, _share(analysis))
    title = "Least effort that changes the ranking, against the tune-before-test level Δ"
    return f"{title}\n{text_table(header, rows, text_columns=(len(header) - 2, len(header) - 1))}"


def _threshold_table(analysis: Analysis) -> str:
    thresholds, intervals = analysis.thresholds, _intervals(analysis)
    rows = []
    for row, worth in enumerate(thresholds.worths):
        weak, rival = thresholds.pair[row], thresholds.rival[row]
        decided = f"{_name(analysis, weak)} against {_name(analysis, rival)}" if weak >= 0 else "-"
        delta = thresholds.delta[row]
        shown = "none" if np.isinf(delta) else number(delta)
        rows.append([given(worth), shown, decided, case_in_words(analysis, thresholds, row)])
        if intervals is not None:
            assert analysis.families is not None
            most = float(analysis.families.levels[-1])
            low, high = intervals.delta.low[row], intervals.delta.high[row]
            rows[-1].insert(2, between(low, high, most))
    header = ["worth", "Δ*", "decided by", "case"]
    if intervals is not None:
        header.insert(2, _share(analysis))
    title = "Δ*: from how many steps of tune-before-test on does no effort pay?"
    return f"{title}\n{text_table(header, rows, text_columns=(len(header) - 2, len(header) - 1))}"


def _families(analysis: Analysis) -> list[str]:
    """Δ* and first efforts by family, with intervals, and the measured brackets."""
    families = analysis.families
    if families is None:
        return []
    most, doubt = float(families.levels[-1]), families.doubt
    rows = []
    for row, worth in enumerate(analysis.thresholds.worths):
        cells = [given(worth)]
        for reading in families.readings:
            ends = reading.delta_interval
            value = reading.delta[row]
            shown = f"> {number(most, 3)}" if value > most else number(value)
            cells.append(f"{shown} {between(ends.low[row], ends.high[row], most)}")
        cells.append(", ".join(_sure_from(analysis, row)))
        rows.append(cells)
    names = [FAMILIES[reading.family] for reading in families.readings]
    header = ["worth", *(f"Δ*, {name}" for name in names), "stable in 95% from"]
    title = (
        f"Δ* by {'three' if len(names) == 3 else 'four'} families of curves, with "
        f"{_share(analysis)} intervals over "
        f"{doubt.resamples:,} resamples, and from where on 95%\nof these are stable. Scores are "
        "drawn anew by their noise, or by what a curve misses them by where\nthat is more"
    )
    parts = [f"{title}\n{text_table(header, rows, text_columns=range(1, len(header)))}"]
    rows = []
    for pair, (strong, weak) in enumerate(itertools.pairwise(analysis.names)):
        cells = [short(weak), short(strong)]
        for reading in families.readings:
            ends = reading.e0_interval
            cells.append(f"{number(reading.e0[pair])} {between(ends.low[pair], ends.high[pair])}")
        rows.append([*cells, _bracket(families.brackets.low[pair], families.brackets.high[pair])])
    header = ["model", "passes", *(f"e0, {name}" for name in names), "measured"]
    title = (
        "Just-overtake efforts at Δ = 0 by family, and the checkpoints between which the weak "
        "model is\nmeasured to pass"
    )
    parts.append(f"{title}\n{text_table(header, rows, text_columns=range(len(header)))}")
    return parts


def _sure_from(analysis: Analysis, row: int) -> list[str]:
    """The first level that stabilizes 95 % of the resamples, for each family."""
    families, found = analysis.families, []
    assert families is not None
    for reading in families.readings:
        sure = np.flatnonzero(reading.stability[row] >= _SURE)
        found.append(number(float(families.levels[sure[0]]), 3) if len(sure) else "nowhere")
    return found


def _bracket(low: Any, high: Any) -> str:
    if np.isnan(low):
        return "-"
    if high == 0:
        return "ahead already"
    return f"not up to {given(low)}" if np.isinf(high) else f"{given(low)} to {given(high)}"


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


def _capability_order(analysis: Analysis) -> list[str]:
    """What it costs to make the curves follow the capability order, in words."""
    found = analysis.capability_order
    if found is None:
        return []
    limits = FAMILIES[found.limits]
    if not found.ties:
        return [
            _paragraph(
                f"Capability order: curves with {limits} follow it as they are: neither alpha nor "
                "beta rises from a model to the next weaker one."
            )
        ]
    names, excess = [short(name) for name in analysis.names], found.chi2_per_degree
    per_tie = found.price / found.ties
    text = (
        f"Capability order: curves with {limits} of which neither alpha nor beta rises from a "
        f"model to the next weaker one (C1) cost {number(found.price)} more in chi2, for "
        f"{found.ties} of {2 * len(found.tied)} possible ties: {number(per_tie, 3)} per tie"
    )
    if np.isnan(excess):
        text += "; the scores' noise is not known, so that this cannot be weighed against it"
    else:
        noise = "the scores' noise"
        if excess > 1:
            noise = (
                f"noise of the size of what the curves miss their points by without the order "
                f"({number(excess, 3)} per degree of freedom)"
            )
        text += (
            f", where {noise} costs about {number(max(excess, 1), 3)}. If the order is true, as "
            f"much or more comes about with probability {number(found.p_value, 2)}"
        )
    costs = sorted(zip(found.cost.tolist(), names, strict=True), reverse=True)[:_MOST_PAYERS]
    text += ". Who pays most: " + ", ".join(
        f"{name} ({number(cost, 3)})" for cost, name in costs if cost > 0
    )
    for parameter, tied in zip(("alpha", "beta"), found.tied.T, strict=True):
        runs = _runs(names, tied)
        text += f". Tied in {parameter}: {'; '.join(runs)}" if runs else ""
    worths = analysis.thresholds.worths
    levels = ", ".join(
        f"{'none' if np.isinf(delta) else number(float(delta))} at a worth of {given(worth)}"
        for worth, delta in zip(worths, found.delta, strict=True)
    )
    return [_paragraph(f"{text}. Δ* of these curves: {levels}.")]


def _runs(names: list[str], tied: np.ndarray) -> list[str]:
    """Runs of tied models, in words."""
    runs: list[list[str]] = [names[:1]]
    for name, is_tied in zip(names[1:], tied, strict=True):
        if is_tied:
            runs[-1].append(name)
        else:
            runs.append([name])
    return [" = ".join(run) for run in runs if len(run) > 1]


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
