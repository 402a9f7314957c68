"""The figures of a sweep, by matplotlib (the extra `report`).

Which figures there are follows from what the store holds: maps of Δ* over two numeric axes, the
stability region over the levels, quantile fans along an axis, bars by scheme, sensitivity bars and
maps, overtaking effort. Axes that a figure does not show are held at their middle value, and said.
"""

import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from tbtjax.study.config import Axis, Sweep

#: Paul Tol's "muted" scheme, made for colour-blind readers.
_COLOURS = ("#332288", "#CC6677", "#117733", "#88CCEE", "#882255", "#DDCC77", "#44AA99", "#AA4499")
_LEVELS, _SHARES, _SIGNED = "viridis", "cividis", "RdBu_r"
_NEVER, _ZERO = "#BBBBBB", "#FFFFFF"
_MOST_MAPS = 6


def write_figures(data: xr.Dataset, sweep: Sweep, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes every figure that the data allow as PNG and SVG; returns their paths.

    Args:
      data: a finished store's dataset.
      sweep: what it is of.
      folder: where to; must exist.
    """
    paths = []
    for name, figure in figures(data, sweep):
        for suffix in ("png", "svg"):
            path = folder / f"{name}.{suffix}"
            figure.savefig(path, dpi=130)
            paths.append(path)
    return paths


def figures(data: xr.Dataset, sweep: Sweep) -> Iterator[tuple[str, Figure]]:
    """The figures by name."""
    data = data.load()
    numeric = [a for a in sweep.grid_axes if _is_numeric(a) and len(a.coordinates()) > 1]
    named = [a for a in sweep.grid_axes if not _is_numeric(a)]
    continuous = [a for a in numeric if a.is_scalar] or numeric
    if len(continuous) >= 2:
        yield "threshold_map", draw_map(data, sweep, continuous[0], continuous[1])
    if "equilibrium_share" in data and len(sweep.levels) > 1 and continuous:
        yield "stability_region", draw_stability(data, sweep, continuous[0])
    if named:
        yield "threshold_by_" + named[0].dimension, draw_groups(data, sweep, named[0], numeric)
    elif numeric:
        yield "threshold_fan", draw_fan(data, sweep, continuous[0])
    if "log_sensitivity" in data:
        yield "sensitivity_bars", draw_sensitivity(data, sweep)
        if len(continuous) >= 2:
            yield "sensitivity_maps", draw_sensitivity_maps(data, sweep, *continuous[:2])
    if "overtake_quantile" in data and len(sweep.levels) > 1:
        yield "overtaking_effort", draw_overtake(data, sweep)


def draw_map(data: xr.Dataset, sweep: Sweep, x: Axis, y: Axis) -> Figure:
    """Median Δ* over two axes: colours on a log scale, contours at powers of ten."""
    part, held = _slice(data, sweep, (x, y))
    values = _median(part).transpose(y.dimension, x.dimension).values
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    axes = figure.subplots()
    mapped = _draw_levels(axes, values, x, y)
    figure.colorbar(mapped, ax=axes, label="median Δ* (training steps)")
    _finish(axes, x, y)
    _title(figure, "Stabilizing threshold Δ*", sweep, held)
    _note(axes, values)
    return figure


def _draw_levels(axes: Axes, values: np.ndarray, x: Axis, y: Axis) -> ScalarMappable:
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (1.0, 10.0)
    if low == high:
        low, high = low / 2, high * 2
    # Levels far below a step are as good as none.
    low = max(low, min(1e-2, high / 10))
    shown = np.ma.masked_where(~np.isfinite(values) | (values <= 0), values)
    axes.set_facecolor(_ZERO)
    norm = LogNorm(low, high, clip=True)
    mapped = axes.pcolormesh(
        *(_edges(a) for a in (x, y)), shown, norm=norm, cmap=_LEVELS, rasterized=True
    )
    never = np.ma.masked_where(~np.isposinf(values), np.ones_like(values))
    if never.count():
        axes.pcolormesh(
            *(_edges(a) for a in (x, y)), never, cmap=_one_colour(_NEVER), rasterized=True
        )
    powers = 10.0 ** np.arange(np.ceil(np.log10(low)), np.floor(np.log10(high)) + 1)
    if len(powers) and min(values.shape) > 1 and positive.size:
        inside = np.where(np.isfinite(values), np.maximum(values, low / 10), np.nan)
        lines = axes.contour(
            *(a.coordinates() for a in (x, y)),
            np.log10(inside),
            levels=np.log10(powers),
            colors="white",
            linewidths=0.9,
        )
        axes.clabel(lines, fmt=lambda v: f"{10**v:,.10g}", fontsize=8)
    return mapped


def draw_stability(data: xr.Dataset, sweep: Sweep, x: Axis) -> Figure:
    """Share of games with an equilibrium over the levels, with quantiles of Δ*."""
    part, held = _slice(data, sweep, (x,))
    share = part.equilibrium_share.transpose("delta", x.dimension).values
    level = next(a for a in sweep.axes if a.parameter == "delta")
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    axes = figure.subplots()
    mapped = axes.pcolormesh(
        _edges(x), _edges(level), share, norm=Normalize(0, 1), cmap=_SHARES, rasterized=True
    )
    figure.colorbar(mapped, ax=axes, label="share of games with an equilibrium")
    along = np.asarray(x.coordinates(), float)
    bottom, top = _edges(level)[[0, -1]]
    for style, p in (("--", 0.05), ("-", 0.5), ("--", 0.95)):
        quantile = _quantile(part.delta_quantile, p)
        if quantile is None:
            continue
        values = quantile.transpose(x.dimension).values
        values = np.where((values >= bottom) & (values <= top), values, np.nan)
        axes.plot(along, values, style, color="white", lw=2.6, solid_capstyle="round")
        axes.plot(along, values, style, color="#CC3311", lw=1.5, label=_quantile_name("Δ*", p))
    _finish(axes, x, level, y_label="tune-before-test level Δ (training steps)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", fontsize=8, framealpha=0.9)
    _title(figure, "Where there is an equilibrium", sweep, held)
    return figure


def draw_fan(data: xr.Dataset, sweep: Sweep, x: Axis) -> Figure:
    """Quantiles of Δ* along an axis, as nested bands."""
    part, held = _slice(data, sweep, (x,))
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    axes = figure.subplots()
    along = np.asarray(x.coordinates(), float)
    _fan(axes, along, part.delta_quantile.transpose(x.dimension, "quantile"), "Δ*", _COLOURS[0])
    _level_axis(axes, part.delta_quantile.values)
    _finish(axes, x, None, y_label="Δ* (training steps)")
    axes.legend(fontsize=8, loc="upper left")
    _title(figure, "Stabilizing threshold Δ*", sweep, held)
    return figure


def _fan(axes: Axes, along: np.ndarray, q: xr.DataArray, name: str, colour: str) -> None:
    p = q["quantile"].values
    for low, high in zip(p[p < 0.5], p[p > 0.5][::-1], strict=False):
        axes.fill_between(
            along,
            q.sel(quantile=low).values,
            q.sel(quantile=high).values,
            color=colour,
            alpha=0.22,
            lw=0,
            label=f"{low * 100:g} % to {high * 100:g} % of games",
        )
    middle = _quantile(q, 0.5)
    if middle is not None:
        axes.plot(along, middle.values, color=colour, lw=1.8, label=f"median {name}")


def draw_groups(data: xr.Dataset, sweep: Sweep, group: Axis, numeric: list[Axis]) -> Figure:
    """Δ* by a named axis such as the reward scheme, along a numeric axis where there is one."""
    x = numeric[0] if numeric else None
    part, held = _slice(data, sweep, (group, x) if x else (group,))
    figure = Figure(figsize=(7.6, 5.0), layout="constrained")
    axes = figure.subplots()
    names = [str(v) for v in group.coordinates()]
    places = np.arange(len(x.coordinates())) if x else np.zeros(1)
    q = part.delta_quantile
    lowest, highest = (_quantile(q, p) for p in (q["quantile"].min(), q["quantile"].max()))
    for i, name in enumerate(names):
        offset = (i - (len(names) - 1) / 2) * 0.8 / len(names)
        where = {group.dimension: i}

        def at(v: xr.DataArray, where=where) -> np.ndarray:
            return np.atleast_1d(v.isel(where).values)

        middle = at(_median(part))
        assert lowest is not None
        assert highest is not None
        colour = _COLOURS[i % len(_COLOURS)]
        for ends, width in (((lowest, highest), 2), (_inner(q), 6)):
            if ends is not None:
                low, high = (np.minimum(at(e), 1e300) for e in ends)
                axes.vlines(places + offset, low, high, color=colour, lw=width, alpha=0.55)
        axes.plot(places + offset, middle, "o", color=colour, mec="white", ms=8, label=name)
    _level_axis(axes, q.values)
    axes.set_xticks(places, [_number(v) for v in x.coordinates()] if x else [""])
    axes.set_xlabel(_label(x) if x else "")
    axes.set_ylabel("Δ* (training steps)")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
    )
    p = q["quantile"].values
    spread = f"dot: median; bars: {p.min() * 100:g} % to {p.max() * 100:g} % of games"
    inner = _inner(q)
    if inner is not None:
        ends = [float(e["quantile"]) * 100 for e in inner]
        spread += f", thick: {ends[0]:g} % to {ends[1]:g} %"
    axes.set_title(spread, fontsize=8, loc="left")
    _title(figure, f"Stabilizing threshold Δ* by {_label(group)}", sweep, held)
    return figure


def _inner(q: xr.DataArray) -> list[xr.DataArray] | None:
    """The quantiles next to the median on both sides, where they are not the outermost."""
    p = q["quantile"].values
    below, above = np.sort(p[p < 0.5]), np.sort(p[p > 0.5])
    if len(below) < 2 or len(above) < 2:
        return None
    return [q.sel(quantile=below[-1]), q.sel(quantile=above[0])]


def draw_sensitivity(data: xr.Dataset, sweep: Sweep) -> Figure:
    """Mean derivatives of log(1 + Δ*) at one cell, with two standard errors."""
    part, held = _slice(data, sweep, ())
    names = [str(n) for n in part["parameter"].values]
    values, errors = part.log_sensitivity.values, part.log_sensitivity_error.values
    kept = [i for i in range(len(names)) if np.isfinite(values[i])]
    scale = np.ones(len(names))
    for i, name in enumerate(names):
        if name.startswith(("rewards.", "cost.")):
            scale[i] = _scalar_value(sweep, name)
    values, errors = values * scale, errors * np.abs(scale)
    # What moves nothing in any game is left out.
    kept = [i for i in kept if np.isfinite(values[i]) and values[i] != 0]
    figure = Figure(figsize=(7.2, 1.6 + 0.24 * len(kept)), layout="constrained")
    axes = figure.subplots()
    colours = {"rewards": _COLOURS[0], "cost": _COLOURS[1], "capability": _COLOURS[2]}
    colours["learning_rate"] = _COLOURS[4]
    places = np.arange(len(kept))[::-1]
    axes.barh(
        places,
        values[kept],
        xerr=2 * np.nan_to_num(errors[kept]),
        color=[colours.get(names[i].split(".")[0], _COLOURS[6]) for i in kept],
        error_kw={"lw": 1.2, "capsize": 2},
    )
    axes.set_yticks(places, [_parameter_name(names[i]) for i in kept], fontsize=8)
    axes.axvline(0, color="black", lw=0.8)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(
        "change of log(1 + Δ*): rewards and costs per change of their logarithm,\n"
        "the others per unit (bars: mean over games; lines: two standard errors)",
        fontsize=9,
    )
    _title(figure, "What moves Δ*", sweep, held)
    return figure


def draw_sensitivity_maps(data: xr.Dataset, sweep: Sweep, x: Axis, y: Axis) -> Figure:
    """Maps of the mean derivative of Δ* in each number of rewards and costs, and in capabilities.

    Each times its parameter (rewards and costs), so that all are in steps.
    """
    part, held = _slice(data, sweep, (x, y))
    names = [str(n) for n in part["parameter"].values]
    scalars = [n for n in names if n.startswith(("rewards.", "cost."))]
    strongest = [n for n in ("capability.1", "capability.2", "learning_rate.1", "learning_rate.2")]
    shown = [*scalars, *(n for n in strongest if n in names)][:_MOST_MAPS]
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.5 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in itertools.zip_longest(panels, shown):
        if name is None:
            axes.set_axis_off()
            continue
        values = part.log_sensitivity.sel(parameter=name)
        if name.startswith(("rewards.", "cost.")):
            axis = next((a for a in (x, y) if a.parameter == name), None)
            values = values * (part[axis.dimension] if axis else _scalar_value(sweep, name))
        values = values.transpose(y.dimension, x.dimension).values
        most = np.nanmax(np.abs(values), initial=1e-12)
        mapped = axes.pcolormesh(
            _edges(x),
            _edges(y),
            values,
            norm=TwoSlopeNorm(0, -most, most),
            cmap=_SIGNED,
            rasterized=True,
        )
        figure.colorbar(mapped, ax=axes)
        per = "log " if name in scalars else ""
        axes.set_title(f"∂ log(1 + Δ*) / ∂ {per}{_parameter_name(name)}", fontsize=9)
        _finish(axes, x, y)
    _title(figure, "Sensitivity of Δ*", sweep, held)
    return figure


def draw_overtake(data: xr.Dataset, sweep: Sweep) -> Figure:
    """Least effort to overtake the next model, by rank, along the levels."""
    fixed = [a for a in sweep.grid_axes if not a.is_scalar]
    part, held = _slice(data[["overtake_quantile"]], sweep, (), fixed)
    level = next(a for a in sweep.axes if a.parameter == "delta")
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    axes = figure.subplots()
    along = np.asarray(level.coordinates(), float)
    ranks = part["rank"].values
    for i, rank in enumerate(ranks):
        if i >= len(_COLOURS):
            break
        q = _quantile(part.overtake_quantile.sel(rank=rank), 0.5)
        if q is None:
            q = part.overtake_quantile.sel(rank=rank).isel(quantile=0)
        values = q.transpose("delta").values
        axes.plot(
            along,
            np.where(np.isfinite(values), values, np.nan),
            color=_COLOURS[i],
            label=f"rank {rank} overtakes rank {rank - 1}",
        )
    _level_axis(axes, part.overtake_quantile.values)
    _finish(
        axes,
        level,
        None,
        x_label="tune-before-test level Δ (training steps)",
        y_label="median least effort to overtake (steps)",
    )
    axes.legend(fontsize=8)
    _title(figure, "Effort to overtake the next model", sweep, held)
    return figure


def _is_numeric(axis: Axis) -> bool:
    return not any(isinstance(v, str) for v in axis.coordinates())


def _slice(
    data: xr.Dataset, sweep: Sweep, shown: Any, among: list[Axis] | None = None
) -> tuple[xr.Dataset, str]:
    """The data at the middle value of each axis that is not shown, and a text that says so."""
    held = []
    for axis in sweep.grid_axes if among is None else among:
        if axis in shown:
            continue
        values = axis.coordinates()
        middle = len(values) // 2
        data = data.isel({axis.dimension: middle})
        if len(values) > 1:
            held.append(f"{_label(axis, units=False)} = {_number(values[middle])}")
    return data, ", ".join(held)


def _quantile(q: xr.DataArray, p: Any) -> xr.DataArray | None:
    known = q["quantile"].values
    close = np.flatnonzero(np.isclose(known, float(p)))
    return q.isel(quantile=int(close[0])) if len(close) else None


def _median(data: xr.Dataset) -> xr.DataArray:
    """The median of Δ*, or the quantile next to it where it was not asked for."""
    q = data.delta_quantile
    return q.isel(quantile=int(np.argmin(np.abs(q["quantile"].values - 0.5))))


def _quantile_name(name: str, p: float) -> str:
    return f"median {name}" if p == 0.5 else f"{p * 100:g} % quantile of {name}"


def _is_log(axis: Axis) -> bool:
    values = np.asarray(axis.coordinates(), float)
    if len(values) < 2 or values.min() <= 0:
        return False
    return axis.log is not None or values.max() / values.min() >= 30


def _edges(axis: Axis) -> np.ndarray:
    """Ends of cells around the values, halfway on the scale shown."""
    values = np.asarray(axis.coordinates(), float)
    log = _is_log(axis)
    place = np.log(values) if log else values
    if len(place) == 1:
        edges = np.array([place[0] - 0.5, place[0] + 0.5])
    else:
        middle = (place[1:] + place[:-1]) / 2
        edges = np.concatenate([[2 * place[0] - middle[0]], middle, [2 * place[-1] - middle[-1]]])
    return np.exp(edges) if log else edges


def _label(axis: Axis, *, units: bool = True) -> str:
    name = axis.label or axis.dimension.replace("_", " ")
    shown = axis.unit if units and axis.unit not in ("", "1", "models", "ranks") else ""
    return f"{name} ({shown})" if shown else name


def _number(value: Any) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else str(value)


def _finish(
    axes: Axes, x: Axis, y: Axis | None, *, x_label: str | None = None, y_label: str | None = None
) -> None:
    """Scales, ticks and labels."""
    for axis, scale, label, text in (
        (x, axes.set_xscale, axes.set_xlabel, x_label),
        (y, axes.set_yscale, axes.set_ylabel, y_label),
    ):
        if axis is not None and _is_log(axis):
            scale("log")
        label(text or (_label(axis) if axis is not None else ""))


def _level_axis(axes: Axes, values: np.ndarray) -> None:
    """A vertical axis for steps: logarithmic, but where there are levels below 1 linear to 1."""
    finite = values[np.isfinite(values)]
    top = max(float(finite.max(initial=1.0)), 1.0)
    if top <= 30:
        axes.set_ylim(0, top * 1.05)
        return
    if finite.min() > 1:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(_steps))
        return
    axes.set_yscale("symlog", linthresh=1.0)
    ticks = 10.0 ** np.arange(0, np.floor(np.log10(top)) + 1)
    axes.set_yticks([0.0, *ticks[:: max(1, -(-len(ticks) // 8))]])
    axes.yaxis.set_major_formatter(FuncFormatter(_steps))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, top * 2)


def _steps(value: float, _: Any = None) -> str:
    return f"{value:,.0f}" if value < 1e7 else f"{value:.0e}"


def _one_colour(colour: str) -> Any:
    return ListedColormap([colour])


def _note(axes: Axes, values: np.ndarray) -> None:
    parts = []
    if (values == 0).any():
        parts.append("white: Δ* = 0")
    if np.isposinf(values).any():
        parts.append("grey: no level stabilizes")
    if parts:
        axes.set_title("; ".join(parts), fontsize=8, loc="left")


def _title(figure: Figure, what: str, sweep: Sweep, held: str) -> None:
    lines = [what, sweep.title, held]
    figure.suptitle("\n".join(line for line in lines if line), fontsize=10, wrap=True)


def _scalar_value(sweep: Sweep, name: str) -> float:
    """The value of a number of rewards or costs at the middle of its axis, or the constant."""
    for axis in sweep.grid_axes:
        if axis.parameter == name:
            values = axis.coordinates()
            return float(values[len(values) // 2])
    part, scalar = name.split(".")
    distribution = getattr(getattr(sweep.games, part), scalar)
    return getattr(distribution, "value", np.nan) if distribution is not None else np.nan


def _parameter_name(name: str) -> str:
    part, _, last = name.partition(".")
    if part == "capability":
        return f"α of model {last}"
    if part == "learning_rate":
        return f"β of model {last}"
    return {"lower": "lower limit", "upper": "upper limit"}.get(name, name.replace("rewards.", ""))
