"""The page's interactive charts, as Vega-Lite specifications of plain dictionaries.

Light and dark colours are set by the page when it draws. A chart with the parameter `hidden`, a
list of models, leaves those out. Values that are no numbers (infinite, not known) are left out.
"""

import itertools
import math
from typing import Any

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
#: Points at which a fitted curve is drawn.
_CURVE_POINTS = 81
#: Efforts beyond so many times the last measured step are not drawn: they would squeeze the others.
_FARTHEST = 1e4


def is_number(value: Any) -> bool:
    """Whether a value of the document is a finite number (not "inf", not null)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def analysis_charts(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The charts of an analysis by the id of their place: spec, colours, whether models switch.

    Thresholds and efforts that are nowhere a number have no chart.

    Args:
      document: what `analysis.json` holds.
    """
    charts = {
        "thresholds": {"spec": _thresholds(document)},
        "curves": {"spec": _curves(document), "switchable": True},
        "efforts": {"spec": _efforts(document), "switchable": True},
    }
    return with_colours({name: entry for name, entry in charts.items() if entry["spec"]})


def with_colours(charts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The charts with the part of the colour map that can be read on light and on dark ground."""
    colours = {"lightRange": [0, 0.85], "darkRange": [0.2, 1]}
    return {name: entry | colours for name, entry in charts.items()}


def chart(description: str, height: int, **parts: Any) -> dict[str, Any]:
    """A specification that fills its place's width; `description` is read to who does not see."""
    return {
        "$schema": _SCHEMA,
        "description": description,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        **parts,
    }


def steps_axis(field: str, title: str, last: float) -> dict[str, Any]:
    """Steps from 0 on, spaced as log(1 + steps)."""
    powers = [0, *(10**k for k in range(16) if 10**k <= max(last, 1))]
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"type": "symlog", "constant": 1, "nice": False},
        "axis": {"values": powers, "labelExpr": "format(datum.value, '~s')"},
    }


def log_axis(field: str, title: str) -> dict[str, Any]:
    """A positive quantity on a logarithmic scale."""
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "nice": False},
        "axis": {"format": "~s"},
    }


def _by_strength(field: str, names: list[str], *, legend: bool) -> dict[str, Any]:
    """Colours along the capability order, strongest first."""
    return {
        "field": field,
        "type": "ordinal",
        "sort": names,
        "scale": {"domain": names},
        "legend": {
            "title": None,
            "orient": "bottom",
            "columns": 3,
            "symbolType": "stroke",
            "symbolStrokeWidth": 3,
            "symbolOpacity": 1,
        }
        if legend
        else None,
    }


def _curves(document: dict[str, Any]) -> dict[str, Any]:
    models, last = document["models"], document["data"]["last_step"]
    names = [model["model"] for model in models]
    points, lines = [], []
    for model in models:
        for step, score, error in zip(
            model["steps"], model["scores"], model["errors"], strict=True
        ):
            if is_number(score):
                around = error if is_number(error) else 0.0
                points.append(
                    {"model": model["model"], "step": step, "score": score}
                    | {"low": score - around, "high": score + around}
                )
        for i in range(_CURVE_POINTS):
            y = math.log1p(last) * i / (_CURVE_POINTS - 1)
            z = model["alpha"] + model["beta"] * y
            odds = math.exp(-abs(z))
            share = (1 if z >= 0 else odds) / (1 + odds)
            score = model["lower"] + (model["upper"] - model["lower"]) * share
            lines.append({"model": model["model"], "step": math.expm1(y), "fitted": score})
    x = steps_axis("step", "post-training steps", last)
    score_axis = {"type": "quantitative", "title": "score", "scale": {"zero": False}}
    colour = _by_strength("model", names, legend=len(names) <= 12)
    tooltip = [
        {"field": "model", "title": "model"},
        {"field": "step", "title": "steps", "format": ",.4~r"},
    ]
    shown = [{"filter": "indexof(hidden, datum.model) < 0"}]
    return chart(
        "Measured scores with standard errors and fitted curves of each model over training steps",
        380,
        params=[{"name": "hidden", "value": []}],
        layer=[
            {
                "data": {"values": lines},
                "transform": shown,
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {
                    "x": x,
                    "y": {"field": "fitted", **score_axis},
                    "color": colour,
                    "tooltip": [*tooltip, {"field": "fitted", "title": "curve", "format": ".4f"}],
                },
            },
            {
                "data": {"values": points},
                "transform": shown,
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {
                    "x": x,
                    "y": {"field": "low", **score_axis},
                    "y2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "data": {"values": points},
                "transform": shown,
                "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": {"field": "score", **score_axis},
                    "color": colour,
                    "tooltip": [*tooltip, {"field": "score", "title": "measured", "format": ".4f"}],
                },
            },
        ],
    )


def _efforts(document: dict[str, Any]) -> dict[str, Any] | None:
    names = [model["model"] for model in document["models"]]
    rows = []
    most = _FARTHEST * max(document["data"]["last_step"], 1)
    for level in document["effort_curve"]:
        for (strong, weak), effort in zip(itertools.pairwise(names), level["by_pair"], strict=True):
            # 0 is a model that is ahead already: there is nothing to overtake.
            if is_number(effort) and 0 < effort <= most:
                rows.append(
                    {"delta": level["delta"], "effort": effort, "weak": weak, "strong": strong}
                )
    if not rows:
        return None
    return chart(
        "Just-overtake effort of each model against the next stronger one over the level of "
        "tune-before-test, both on logarithmic axes",
        380,
        params=[{"name": "hidden", "value": []}],
        data={"values": rows},
        transform=[
            {"filter": "indexof(hidden, datum.weak) < 0 && indexof(hidden, datum.strong) < 0"}
        ],
        mark={"type": "line", "strokeWidth": 2, "point": {"size": 12, "opacity": 0.01}},
        encoding={
            "x": steps_axis(
                "delta", "tune-before-test level Δ (steps)", document["data"]["last_step"]
            ),
            "y": log_axis("effort", "effort to overtake (steps)"),
            "color": _by_strength("weak", names[1:], legend=len(names) <= 12),
            "detail": [{"field": "strong"}],
            "tooltip": [
                {"field": "weak", "title": "passes"},
                {"field": "strong", "title": "rival"},
                {"field": "delta", "title": "Δ", "format": ",.4~r"},
                {"field": "effort", "title": "effort", "format": ",.4~r"},
            ],
        },
    )


def _thresholds(document: dict[str, Any]) -> dict[str, Any] | None:
    curve = document["threshold_curve"]
    rows = [
        {key: row[key] for key in ("worth", "delta", "weak", "rival")}
        for row in curve
        if is_number(row["delta"])
    ]
    last = max([row["delta"] for row in rows] + [1.0])
    x = log_axis("worth", "what the largest reward gap is worth (steps)")
    layers = []
    families = document.get("families") or {}
    if families.get("intervals"):
        # Ends beyond the levels looked at stand at the highest of these.
        most = families["levels"][-1]
        ends = families["intervals"]["delta_curve"]
        low, high = ([most if x == "inf" else x for x in ends[key]] for key in ("low", "high"))
        band = [
            {"worth": row["worth"], "low": low, "high": min(high, most)}
            for row, low, high in zip(curve, low, high, strict=True)
            if is_number(low) and is_number(high) and low < most
        ]
        last = max([last, *(row["high"] for row in band)])
        words = f"{families['confidence']:.0%} interval"
        layers.append(
            {
                "data": {"values": band},
                "mark": {"type": "area", "opacity": 0.3},
                "encoding": {
                    "x": x,
                    "y": steps_axis("low", "stabilizing level Δ* (steps)", last),
                    "y2": {"field": "high"},
                    "tooltip": [
                        {"field": "worth", "title": "worth", "format": ",.4~r"},
                        {"field": "low", "title": f"{words} from", "format": ",.4~r"},
                        {"field": "high", "title": "to", "format": ",.4~r"},
                    ],
                },
            }
        )
    layers.append(
        {
            "data": {"values": rows},
            "mark": {"type": "line", "strokeWidth": 2.5, "point": {"size": 12, "opacity": 0.01}},
            "encoding": {
                "x": x,
                "y": steps_axis("delta", "stabilizing level Δ* (steps)", last),
                "tooltip": [
                    {"field": "worth", "title": "worth", "format": ",.4~r"},
                    {"field": "delta", "title": "Δ*", "format": ",.5~r"},
                    {"field": "weak", "title": "decided by"},
                    {"field": "rival", "title": "against"},
                ],
            },
        }
    )
    layers = [layer for layer in layers if layer["data"]["values"]]
    if not layers:
        return None
    return chart(
        "Stabilizing tune-before-test level, with its interval where known, against what the "
        "largest reward gap is worth",
        340,
        layer=layers,
    )
