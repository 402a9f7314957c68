"""The page of a sweep, from the store that `tbtjax sweep` writes."""

import html
import itertools
import json
import math
import pathlib
from typing import Any

import numpy as np

from tbtjax.report.page._html import PageError, count, figure, page, shown, table
from tbtjax.report.page.charts import chart, is_number, steps_axis, with_colours
from tbtjax.threshold import Status

#: A table on the page has so many cells at the most; all are in the numbers to download.
_MOST_ROWS = 200
#: A number on an axis: 0.316, 31.6, 3.16k.
_SHORT = "format(datum.value, abs(datum.value) < 1000 ? '.3~g' : '.3~s')"
_SOLVED = (Status.FOUND, Status.STABLE_AT_ZERO)


def read_sweep(path: pathlib.Path) -> dict[str, Any]:
    """What the page shows of a finished store.

    Args:
      path: a store of `tbtjax sweep`.

    Returns:
      A document of plain values: `title`, `about` (attributes of the store), `axes` (`name`,
      `label`, `units`, `values`), `cells` (values of the axes, `delta_median`, `delta_low`,
      `delta_high` (quantiles), `quantiles`, `always` (share of games with a ray of stable levels),
      `never`), `stability` (values of the axes, `delta`, `share`) and `sensitivity` (`parameter`,
      `value`, mean over the cells of |∂ log(1 + Δ*)|).

    Raises:
      PageError: it is no such store, or not finished.
    """
    from tbtjax.study.export import open_results
    from tbtjax.study.store import StoreError

    try:
        data, _ = open_results(path)
    except StoreError as error:
        raise PageError(str(error)) from None
    names = list(data["delta_mean"].dims)
    axes = [
        {
            "name": name,
            "label": str(data[name].attrs.get("long_name", name)),
            "units": str(data[name].attrs.get("units", "1")),
            "values": [_plain(x) for x in data[name].values],
        }
        for name in names
    ]
    places = [
        dict(zip(names, values, strict=True))
        for values in itertools.product(*(axis["values"] for axis in axes))
    ]
    quantiles = data["quantile"].values
    which = [0, int(np.argmin(np.abs(quantiles - 0.5))), len(quantiles) - 1]
    levels = data["delta_quantile"].values.reshape(-1, len(quantiles))[:, which]
    statuses = data["status_count"].values.reshape(len(places), -1)
    share = statuses / np.maximum(statuses.sum(axis=-1, keepdims=True), 1)
    cells = [
        place
        | dict(zip(("delta_low", "delta_median", "delta_high"), map(_plain, level), strict=True))
        | {"always": _plain(row[list(_SOLVED)].sum()), "never": _plain(row[Status.NOWHERE])}
        for place, level, row in zip(places, levels, share, strict=True)
    ]
    document = {
        "title": str(data.attrs.get("title") or pathlib.Path(path).name),
        "about": {key: str(value) for key, value in data.attrs.items()},
        "axes": axes,
        "quantiles": [_plain(quantiles[i]) for i in which],
        "cells": cells,
        "stability": [],
        "sensitivity": [],
    }
    if "equilibrium_share" in data and data.sizes["delta"] > 1:
        shares = data["equilibrium_share"].values.reshape(len(places), -1)
        document["stability"] = [
            place | {"delta": _plain(delta), "share": _plain(value)}
            for place, row in zip(places, shares, strict=True)
            for delta, value in zip(data["delta"].values, row, strict=True)
        ]
    if "log_sensitivity" in data:
        slopes = np.abs(data["log_sensitivity"].values.reshape(len(places), -1))
        finite = np.isfinite(slopes)
        means = np.where(finite, slopes, 0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
        document["sensitivity"] = [
            {"parameter": str(name), "value": _plain(value)}
            for name, value in zip(data["parameter"].values, means, strict=True)
        ]
    return document


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def sweep_page(document: dict[str, Any]) -> str:
    """The page of a sweep.

    Args:
      document: what `read_sweep` returns.

    Returns:
      HTML.

    Raises:
      ModuleNotFoundError: vl-convert-python (extra `report`) is not installed.
    """
    axes, cells = document["axes"], document["cells"]
    charts = {"map": {"spec": _map(document)}}
    sections = [
        f"<h1>{html.escape(document['title'])}</h1>",
        f'<p class="quiet">{count(len(cells), "cell")}: '
        f"{html.escape(' × '.join(_label(axis) for axis in axes))}</p>",
        f'<p class="verdict">{html.escape(_verdict(document))}</p>',
        figure(
            "map",
            "The stabilizing level Δ*",
            "Median of Δ* over the random games of a cell, in training steps. Blank: more than "
            "half of the games have no stabilizing level.",
        ),
    ]
    if document["stability"]:
        charts["stability"] = {"spec": _stability(document)}
        text = (
            "Share of games in which a tune-before-test level Δ leaves nobody a gain: there is an "
            "equilibrium."
        )
        sections.append(figure("stability", "Which levels are stable?", text))
    if document["sensitivity"]:
        charts["sensitivity"] = {"spec": _sensitivity(document)}
        text = (
            "By how much log(1 + Δ*) moves with a unit of each parameter: the mean size of the "
            "derivative, over games and cells. capability.1 is the strongest model's."
        )
        sections.append(figure("sensitivity", "What moves Δ*", text))
    header = [_label(axis) for axis in axes]
    low, _, high = document["quantiles"]
    header += ["Δ* median", f"{low:.0%} quantile", f"{high:.0%} quantile", "share always stable"]
    keys = [axis["name"] for axis in axes]
    keys += ["delta_median", "delta_low", "delta_high", "always"]
    rows = [[row[key] for key in keys] for row in cells[:_MOST_ROWS]]
    more = f"; the first {_MOST_ROWS} of {len(cells)}" if len(cells) > _MOST_ROWS else ""
    listed = "\n".join(
        f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>"
        for key, value in document["about"].items()
        if key not in ("configuration", "Conventions", "title")
    )
    configuration = document["about"].get("configuration", "{}")
    sections += [
        "<section><h2>Cells</h2>",
        table("cell-table", f"Δ* in training steps, cell by cell{more}", header, rows),
        "</section>",
        f"<section><h2>Data and method</h2>\n<dl>\n{listed}\n</dl>",
        "<details><summary>Configuration</summary><pre>"
        f"{html.escape(json.dumps(json.loads(configuration), indent=1, ensure_ascii=False))}"
        "</pre></details>",
        '<button type="button" data-json="sweep.json">Download all numbers (JSON)</button>',
        "</section>",
    ]
    return page(
        title=document["title"],
        body="\n".join(sections),
        data=document,
        charts=with_colours(charts),
    )


def _verdict(document: dict[str, Any]) -> str:
    medians = [row["delta_median"] for row in document["cells"] if is_number(row["delta_median"])]
    if not medians:
        return "In no cell does half of the games have a stabilizing level."
    always = [row["always"] for row in document["cells"]]
    return (
        f"The median Δ* goes from {shown(min(medians))} to {shown(max(medians))} training steps "
        f"over the map; {min(always):.1%} to {max(always):.1%} of a cell's games have a level from "
        "which on everything is stable."
    )


def _label(axis: dict[str, Any]) -> str:
    units = "" if axis["units"] in ("1", "") else f" ({axis['units']})"
    return f"{axis['label']}{units}"


def _others(axes: list[dict[str, Any]]) -> dict[str, Any]:
    """Lists from which the values of further axes are chosen, and the filters that they set."""
    params, filters = [], []
    for i, axis in enumerate(axes):
        choice = {"input": "select", "options": axis["values"], "name": f"{_label(axis)}: "}
        params.append({"name": f"chosen{i}", "value": axis["values"][0], "bind": choice})
        filters.append({"filter": f"datum[{json.dumps(axis['name'])}] == chosen{i}"})
    return {"params": params, "transform": filters} if axes else {}


def _axis(axis: dict[str, Any]) -> dict[str, Any]:
    """A cell's place along an axis: one band for each value, its number in short."""
    numbers = all(is_number(x) for x in axis["values"])
    shown = {"labelOverlap": True} | ({"labelExpr": _SHORT} if numbers else {})
    return {
        "field": axis["name"].replace(".", "\\."),
        "type": "ordinal",
        "sort": axis["values"],
        "title": _label(axis),
        "axis": shown,
    }


def _tooltip(axes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"field": axis["name"].replace(".", "\\."), "title": _label(axis)}
        | ({"format": ",.4~r"} if all(is_number(x) for x in axis["values"]) else {})
        for axis in axes
    ]


def _map(document: dict[str, Any]) -> dict[str, Any]:
    axes = document["axes"]
    rows = [row for row in document["cells"] if is_number(row["delta_median"])]
    last = max([row["delta_median"] for row in rows] + [1.0])
    tooltip = [
        *_tooltip(axes),
        {"field": "delta_median", "title": "Δ* median", "format": ",.4~r"},
        {"field": "delta_low", "title": "low quantile"},
        {"field": "delta_high", "title": "high quantile"},
        {"field": "always", "title": "share always stable", "format": ".3f"},
    ]
    description = "Median stabilizing level of each cell of the sweep"
    if len(axes) < 2:
        place = _axis(axes[0]) if axes else {"datum": "all games"}
        return chart(
            description,
            340,
            data={"values": rows},
            mark={"type": "line", "point": True},
            encoding={
                "x": place,
                "y": steps_axis("delta_median", "Δ* (steps)", last),
                "tooltip": tooltip,
            },
        )
    levels = steps_axis("delta_median", "Δ* (steps)", last)
    return chart(
        description,
        420,
        data={"values": rows},
        mark="rect",
        encoding={
            "x": _axis(axes[0]),
            "y": _axis(axes[1]) | {"sort": axes[1]["values"][::-1]},
            "color": {
                "field": "delta_median",
                "type": "quantitative",
                "scale": {"type": "symlog", "constant": 1, "scheme": "viridis"},
                "legend": {
                    "title": "Δ* (steps)",
                    "values": levels["axis"]["values"],
                    "labelExpr": "format(datum.value, '~s')",
                },
            },
            "tooltip": tooltip,
        },
        **_others(axes[2:]),
    )


def _stability(document: dict[str, Any]) -> dict[str, Any]:
    axes = document["axes"]
    rows = [row for row in document["stability"] if is_number(row["share"])]
    last = max([row["delta"] for row in rows] + [1.0])
    colour = (
        {
            "color": {
                "field": axes[0]["name"].replace(".", "\\."),
                "type": "ordinal",
                "sort": axes[0]["values"],
                "legend": {"title": _label(axes[0]), "orient": "bottom", "columns": 6},
            }
        }
        if axes
        else {}
    )
    return chart(
        "Share of games with an equilibrium over the tune-before-test level",
        360,
        data={"values": rows},
        mark={"type": "line", "strokeWidth": 2},
        encoding={
            "x": steps_axis("delta", "tune-before-test level Δ (steps)", last),
            "y": {
                "field": "share",
                "type": "quantitative",
                "title": "share of games",
                "scale": {"domain": [0, 1]},
            },
            **colour,
            "tooltip": [
                *_tooltip(axes),
                {"field": "delta", "title": "Δ", "format": ",.4~r"},
                {"field": "share", "title": "share", "format": ".3f"},
            ],
        },
        **_others(axes[1:]),
    )


def _sensitivity(document: dict[str, Any]) -> dict[str, Any]:
    rows = [row for row in document["sensitivity"] if is_number(row["value"]) and row["value"] > 0]
    return chart(
        "Mean size of the derivative of log(1 + Δ*) in each parameter",
        max(120, 18 * len(rows)),
        data={"values": rows},
        mark="bar",
        encoding={
            "y": {"field": "parameter", "type": "nominal", "sort": "-x", "title": None},
            "x": {"field": "value", "type": "quantitative", "title": "mean |∂ log(1 + Δ*)|"},
            "tooltip": [
                {"field": "parameter"},
                {"field": "value", "title": "mean size", "format": ".4~r"},
            ],
        },
    )
