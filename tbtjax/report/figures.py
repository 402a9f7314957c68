"""The figures of an analysis, by matplotlib (the extra `report`).

Both use log(1 + step) axes, so that today's practice, 0 steps, has a place on them.
"""

import pathlib
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tbtjax.report.families import FAMILIES, Ends
from tbtjax.report.records import Analysis
from tbtjax.threshold import Status

#: Paul Tol's "muted" scheme, made for colour-blind readers, and black.
_COLOURS = (
    *("#332288", "#CC6677", "#117733", "#88CCEE", "#882255"),
    *("#DDCC77", "#44AA99", "#AA4499", "#999933", "#000000"),
)
_MARKERS = "osD^vP*X<>"
_GREY = "#666666"
#: Colour, line and marker of each family of curves.
_OTHERS = {
    "fixed": ("#332288", "-", "v"),
    "shared": ("#999933", "-.", "^"),
    "free": ("#CC6677", "--", "s"),
    "interpolated": ("#AA4499", ":", "D"),
}
_THRESHOLD, _STABLE, _DISORDER = "#117733", "#C9E4D8", "#EFE3D5"
#: With more models than this the legend stands below the panels.
_MOST_INSIDE = 6


def draw_curves_and_effort(analysis: Analysis) -> Figure:
    """Fitted curves through the measured points, and least effort against Δ, side by side.

    The two panels of the paper's Figure 1.
    """
    count = len(analysis.models)
    crowded = count > _MOST_INSIDE
    columns = 5
    height = 4.6 + (0.18 * -(-count // columns) if crowded else 0)
    figure = Figure(figsize=(11, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_curves(left, analysis)
    _draw_least_effort(right, analysis)
    handles, labels = left.get_legend_handles_labels()
    if crowded:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=7)
    else:
        left.legend(handles, labels, fontsize=8)
    return figure


def draw_thresholds(analysis: Analysis) -> Figure:
    """Δ* against the worth of the largest reward gap, with the levels that stabilize shaded."""
    figure = Figure(figsize=(6.8, 4.8), layout="constrained")
    _draw_thresholds(figure.subplots(), analysis)
    return figure


def draw_stability(analysis: Analysis) -> Figure:
    """Probability that a level stabilizes, against the level, for each worth and family.

    Raises:
      ValueError: the analysis has no resamples.
    """
    families, worths = analysis.families, analysis.thresholds.worths
    if families is None:
        raise ValueError("the analysis has no resamples: expected Settings(doubt=Doubt(1000))")
    columns = min(len(worths), 4)
    rows = -(-len(worths) // columns)
    figure = Figure(figsize=(3.2 * columns + 0.8, 3.2 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in panels.flat[len(worths) :]:
        axes.remove()
    for row, (axes, worth) in enumerate(zip(panels.flat, worths, strict=False)):
        _log1p_axis(axes, "x", families.levels[-1])
        for reading in families.readings:
            axes.plot(
                families.levels,
                reading.stability[row],
                color=_OTHERS[reading.family][0],
                ls=_OTHERS[reading.family][1],
                lw=1.8,
                label=FAMILIES[reading.family],
            )
        axes.axvline(analysis.last_step, color=_GREY, lw=1, ls="-.", label="last measured step")
        axes.set_ylim(-0.03, 1.03)
        axes.set_title(f"a worth of {worth:,.6g} steps", fontsize=10)
        axes.set_xlabel("level Δ (training steps)")
        axes.tick_params(axis="x", labelrotation=45)
        axes.grid(alpha=0.25, lw=0.6)
    panels[0, 0].set_ylabel("probability that Δ stabilizes")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def write_figures(analysis: Analysis, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes all figures as PNG and SVG into `folder`; returns their paths."""
    figures = {
        "curves_and_effort": draw_curves_and_effort(analysis),
        "thresholds": draw_thresholds(analysis),
    }
    if analysis.families is not None:
        figures["stability"] = draw_stability(analysis)
    paths = []
    for name, figure in figures.items():
        for suffix in ("png", "svg"):
            path = folder / f"{name}.{suffix}"
            figure.savefig(path, dpi=130)
            paths.append(path)
            figure.set_layout_engine("none")  # what has been laid out once stays as it is
    return paths


def _style(index: int) -> dict[str, Any]:
    """A colour and, from the eleventh model on, another marker."""
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "marker": _MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)],
    }


def _draw_curves(axes: Axes, analysis: Analysis) -> None:
    _log1p_axis(axes, "x", analysis.last_step)
    efforts = np.expm1(np.linspace(0, np.log1p(analysis.last_step), 200))
    for index, model in enumerate(analysis.models):
        style = _style(index)
        errors = np.where(np.isfinite(model.errors), model.errors, 0)
        axes.errorbar(
            model.steps, model.scores, errors, **style, linestyle="none", ms=4, capsize=2, lw=1
        )
        axes.plot(efforts, model.score(efforts), color=style["color"], lw=1.3)
        axes.plot([], [], **style, ms=4, lw=1.3, label=model.name)
    axes.set_xlabel("effort (training steps)")
    axes.set_ylabel(analysis.metric or "score")
    axes.set_title("Measured scores, ± standard error, and fitted curves", fontsize=10)
    axes.grid(alpha=0.25, lw=0.6)


def _draw_least_effort(axes: Axes, analysis: Analysis) -> None:
    efforts = analysis.effort_curve
    axes.set_yscale("log")
    _log1p_axis(axes, "x", analysis.last_step)
    # Beneath the pairs' lines and wider, so that the pair that decides shows through.
    handles: list[Artist] = []
    handles += axes.plot(efforts.levels, _drawable(efforts.least), color="#BBBBBB", lw=6)
    intervals = None if analysis.families is None else analysis.families.intervals
    if analysis.families is not None and intervals is not None and len(efforts.by_pair.T) < 6:
        _draw_bands(axes, analysis.families.levels, intervals.by_pair_curve, analysis.last_step)
    for pair, values in enumerate(efforts.by_pair.T):
        axes.plot(efforts.levels, _drawable(values), color=_style(pair + 1)["color"], lw=1.5)
    handles += axes.plot([], [], color=_GREY, lw=1.5)
    labels = ["any change of the ranking", "a model (its colour) passes the next more capable one"]
    if not efforts.in_order.all():
        axes.fill_between(
            efforts.levels,
            0,
            1,
            where=~efforts.in_order,
            transform=axes.get_xaxis_transform(),
            color=_DISORDER,
            lw=0,
            zorder=0,
        ).set_in_layout(False)
        handles.append(Patch(color=_DISORDER))
        labels.append("ranking does not follow capability")
    drawn = np.append(_drawable(efforts.by_pair), _drawable(efforts.least))
    drawn = drawn[np.isfinite(drawn)]
    if drawn.size:
        # Below a hundredth of a step, and beyond any training run, a line leaves the panel.
        low, high = np.clip([drawn.min(), drawn.max()], 0.01, 1e4 * max(1, analysis.last_step))
        axes.set_ylim(low / 1.5, high * 1.5)
    axes.set_xlabel("tune-before-test level Δ (training steps)")
    axes.set_ylabel("additional effort (training steps)")
    axes.set_title("Least effort that overtakes", fontsize=10)
    axes.legend(handles, labels, fontsize=8)
    axes.grid(alpha=0.25, lw=0.6)


def _draw_bands(axes: Axes, levels: np.ndarray, ends: Ends, last: float) -> None:
    """Intervals of the just-overtake efforts, each in its model's colour."""
    measured = levels <= last
    for pair in range(ends.low.shape[1]):
        low, high = (x[measured, pair] for x in ends)
        axes.fill_between(
            levels[measured],
            np.clip(low, np.finfo(float).tiny, np.finfo(float).max),
            np.minimum(high, np.finfo(float).max),
            where=high > 0,
            color=_style(pair + 1)["color"],
            alpha=0.18,
            lw=0,
        )


def _draw_thresholds(axes: Axes, analysis: Analysis) -> None:
    curve, marked = analysis.threshold_curve, analysis.thresholds
    finite = [x[np.isfinite(x)] for x in (curve.delta, curve.upper, curve.settled)]
    highest = np.max(np.concatenate([*finite, [0.0]]))
    top = 3 * np.clip(highest, analysis.last_step, 100 * analysis.last_step)
    above = 10 * top
    axes.set_xscale("log")
    axes.set_xlim(curve.worths[0], curve.worths[-1])
    _log1p_axis(axes, "y", top)
    stretch = {"color": _STABLE, "lw": 0}
    exists, settles = np.isfinite(curve.delta), np.isfinite(curve.settled)
    ends = exists & np.isfinite(curve.upper)
    axes.fill_between(curve.worths, curve.settled, above, where=settles, **stretch)
    axes.fill_between(
        curve.worths, curve.delta, np.minimum(curve.upper, above), where=ends, **stretch
    )
    families = analysis.families
    band = None
    if families is not None and families.intervals is not None:
        band = families.intervals.delta_curve
    if families is not None and band is not None and np.isfinite(band.low).any():
        axes.fill_between(
            curve.worths,
            np.minimum(band.low, above),
            np.minimum(band.high, above),
            color=_THRESHOLD,
            alpha=0.35,
            lw=0,
            label=f"{families.doubt.confidence:.0%} interval of Δ*",
        )
    if families is not None:
        for reading in families.readings:
            known = np.isfinite(reading.delta)
            if reading.family != families.used and known.any():
                axes.plot(
                    marked.worths,
                    np.where(known, reading.delta, np.nan),
                    _OTHERS[reading.family][2],
                    color=_OTHERS[reading.family][0],
                    ms=5,
                    clip_on=False,
                    label=f"Δ*, {FAMILIES[reading.family]}",
                )
    again = settles & (curve.settled > curve.upper)
    if again.any():
        axes.plot(
            curve.worths,
            np.where(again, curve.settled, np.nan),
            color=_GREY,
            lw=1.5,
            ls=":",
            label="stable again from here on",
        )
    # Where a stretch vanishes Δ* jumps to the next one: no line joins the two.
    jumps = np.flatnonzero(exists[1:] & (curve.delta[1:] > curve.upper[:-1])) + 1
    axes.plot(
        np.insert(curve.worths, jumps, np.nan),
        np.insert(np.where(exists, curve.delta, np.nan), jumps, np.nan),
        color=_THRESHOLD,
        lw=2,
        label="Δ*" if exists.any() else None,
    )
    if exists.any():
        axes.fill_between([], [], [], **stretch, label="stabilizing levels")
    shown = np.isfinite(marked.delta)
    axes.plot(marked.worths[shown], marked.delta[shown], "o", color=_THRESHOLD, ms=5, clip_on=False)
    if ends.any():
        axes.plot(
            curve.worths,
            np.where(ends, curve.upper, np.nan),
            color="#882255",
            lw=1.5,
            ls="--",
            label="where the stretch ends"
            + ", past this range" * bool(curve.upper[ends].max() > top),
        )
    never = curve.status == Status.NOWHERE
    if never.any():
        axes.fill_between(
            curve.worths,
            0,
            1,
            where=never,
            transform=axes.get_xaxis_transform(),
            facecolor="#EEEEEE",
            edgecolor="#BBBBBB",
            hatch="//",
            lw=0,
            label="never: no level stabilizes",
        ).set_in_layout(False)
    axes.axhline(analysis.last_step, color=_GREY, lw=1, ls="-.", label="last measured step")
    axes.set_xlabel("worth of the largest reward gap (training steps)")
    axes.set_ylabel("tune-before-test level Δ (training steps)")
    axes.set_title(f"Stabilizing threshold Δ*, {analysis.settings.rewards.name}", fontsize=10)
    axes.grid(alpha=0.25, lw=0.6)
    axes.legend(fontsize=8)


def _drawable(efforts: np.ndarray) -> np.ndarray:
    """Efforts with a place on a log axis: neither 0 nor infinite."""
    return np.where(np.isfinite(efforts) & (efforts > 0), efforts, np.nan)


def _log1p_axis(axes: Axes, which: Literal["x", "y"], last: float) -> None:
    """Makes an axis from 0 to `last` linear in log(1 + value), with ticks at powers of ten."""
    room = 0.03 * np.log1p(last)
    limits = (np.expm1(-room), np.expm1(np.log1p(last) + room))
    # The layout asks for places off the axes as well, where the logarithm does not exist.
    functions = (lambda value: np.log1p(np.maximum(value, -0.99)), np.expm1)
    if which == "x":
        axes.set_xscale("function", functions=functions)
        axes.set_xlim(*limits)
    else:
        axes.set_yscale("function", functions=functions)
        axes.set_ylim(*limits)
    axis = axes.xaxis if which == "x" else axes.yaxis
    powers = 10.0 ** np.arange(0, np.floor(np.log10(max(last, 1))) + 1)
    axis.set_major_locator(FixedLocator([0.0, *powers]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value < 1e6 else f"$10^{{{np.log10(value):.0f}}}$"
