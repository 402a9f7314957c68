"""One self-contained page from an analysis: opens offline, everything in it.

The charts are Vega-Lite's; its library travels inside the page (package vl-convert-python). Tables
hold the same numbers for those who do not see or hover, and can be downloaded.
"""

import html
import importlib.resources
import json
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from tbtjax.report.page.charts import analysis_charts, is_number
from tbtjax.report.tables import number


class PageError(ValueError):
    """The input cannot be made a page of; the text is for the user, on one line."""


def read_analysis(path: pathlib.Path) -> dict[str, Any]:
    """The document that `tbtjax analyze` wrote.

    Args:
      path: an `analysis.json`, or the folder that holds one.

    Raises:
      PageError: there is no such file, or it is not one of an analysis.
    """
    file = path / "analysis.json" if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PageError(
            f"{file}: no such file; expected an analysis.json, or the folder that `tbtjax analyze "
            "--out` wrote it to"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PageError(f"{file}: not readable as JSON ({error})") from None
    wanted = ("tbtjax", "data", "settings", "models", "pairs", "thresholds", "effort_curve")
    missing = [key for key in wanted if not isinstance(document, dict) or key not in document]
    if missing:
        raise PageError(
            f"{file}: key {missing[0]!r} is missing; expected the analysis.json of `tbtjax analyze`"
        )
    return document


def analysis_page(document: dict[str, Any]) -> str:
    """The page of an analysis.

    Args:
      document: what `analysis.json` holds.

    Returns:
      HTML.

    Raises:
      ModuleNotFoundError: vl-convert-python (extra `report`) is not installed.
    """
    data = document["data"]
    about = data["task"] or pathlib.Path(str(data["source"])).name
    sections = [
        f"<h1>How much tune-before-test does {html.escape(about)} need?</h1>",
        f'<p class="quiet">{_count(len(document["models"]), "model")}, up to '
        f"{number(data['last_step'])} training steps each</p>",
        f'<p class="verdict">{html.escape(verdict(document))}</p>',
        *(f'<p class="warning">{html.escape(text)}</p>' for text in document["warnings"]),
        _thresholds(document),
        _switches(document),
        _figure(
            "curves",
            "What was measured, and the curves fitted to it",
            "Points are measured scores with their standard errors; lines are the fitted curves. "
            "Darker and lighter follow capability. The horizontal axis is spaced as "
            "log(1 + steps).",
        ),
        _figure(
            "efforts",
            "What it takes to overtake",
            "Training steps with which each model passes the next stronger one, when every model "
            "has had Δ steps before. Where a line is missing, the model is ahead already or the "
            "rival is out of its reach.",
        ),
        _stability(document),
        _audit(document),
        _fits(document),
        _pairs(document),
        _method(document),
    ]
    return _page(
        title=f"Tune-before-test: {about}",
        body="\n".join(sections),
        data=document,
        charts=analysis_charts(document),
    )


def verdict(document: dict[str, Any]) -> str:
    """The answer in a sentence or two."""
    rows = document["thresholds"]
    found = [row for row in rows if row["status"] in ("FOUND", "INTERVAL")]
    if not found:
        words = {
            "STABLE_AT_ZERO": "At every worth looked at nobody gains by training further: no "
            "tune-before-test is needed.",
            "NOWHERE": "At no worth looked at does any level of tune-before-test end the race.",
        }
        kinds = {row["status"] for row in rows}
        return words.get(
            kinds.pop() if len(kinds) == 1 else "",
            "No worth looked at has a stabilizing level above zero: see the table.",
        )
    row = min(found, key=lambda row: abs(math.log10(row["worth"]) - 3))
    text = (
        f"Where the largest step up the ranking is worth {number(row['worth'])} training steps, "
        f"{number(row['delta'])} steps of tune-before-test for all end the race"
    )
    interval = row.get("delta_interval")
    if interval and all(is_number(x) or x == "inf" for x in interval):
        text += f" (interval {_number(interval[0])} to {_number(interval[1])})"
    if row["status"] == "INTERVAL":
        text += f", but only up to {_number(row['upper'])} steps"
    if row["weak"]:
        text += f"; {row['weak']} against {row['rival']} decides"
    return text + "."


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _number(value: Any) -> str:
    """A value of the document for a reader: ∞ for "inf", a dash for what is not known."""
    if value in ("inf", "-inf"):
        return "∞" if value == "inf" else "−∞"
    if not is_number(value):
        return "–"
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


_CASES = {
    "FOUND": "found: stable from there on",
    "STABLE_AT_ZERO": "stable already, without tune-before-test",
    "INTERVAL": "stable up to {upper} only",
    "NOWHERE": "never: no level keeps the ranking",
    "NOT_CONVERGED": "no answer: the solver did not converge",
    "INVALID": "no answer: unusable parameters",
}


def _table(
    identifier: str, caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> str:
    """A table with a button that downloads it; strings are words, the rest numbers."""

    def is_words(value: Any) -> bool:
        return isinstance(value, str) and value not in ("inf", "-inf")

    def cell(value: Any) -> str:
        if is_words(value):
            return f'<td class="words">{html.escape(value)}</td>'
        exact = "" if value is None else html.escape(str(value))
        return f'<td data-value="{exact}">{_number(value)}</td>'

    rows = list(rows)
    kinds = ["words" if rows and is_words(value) else "" for value in (rows or [header])[0]]
    head = "".join(
        f'<th scope="col" class="{kind}">{html.escape(text)}</th>'
        for text, kind in zip(header, kinds, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(cell(value) for value in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f'<table id="{identifier}"><caption>{html.escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n"
        f'<p><button type="button" data-table="{identifier}">Download as CSV</button></p>'
    )


def _figure(identifier: str, title: str, caption: str) -> str:
    return (
        f"<section><h2>{html.escape(title)}</h2>\n"
        f'<figure><div class="chart" id="{identifier}" role="group" '
        f'aria-label="Chart: {html.escape(title)}"></div>\n'
        f"<figcaption>{html.escape(caption)}</figcaption></figure></section>"
    )


def _thresholds(document: dict[str, Any]) -> str:
    rows = document["thresholds"]
    with_interval = any(row.get("delta_interval") for row in rows)
    header = ["worth (steps)", "Δ* (steps)", "from", "to", "decided by", "case"]
    if not with_interval:
        header = [*header[:2], *header[4:]]

    def line(row):
        decided = f"{row['weak']} against {row['rival']}" if row["weak"] else "nobody"
        interval = row.get("delta_interval") or [None, None]
        case = _CASES[row["status"]].format(upper=_number(row["upper"]))
        between = interval if with_interval else []
        return [row["worth"], row["delta"], *between, decided, case]

    figure = _figure(
        "thresholds",
        "From how many steps on does no effort pay?",
        "The stabilizing level Δ* against the worth of the largest step up the ranking: steps of "
        "training that its reward would pay for.",
    )
    table = _table("threshold-table", "Δ* for each worth", header, map(line, rows))
    return f"{figure}\n{table}"


def _switches(document: dict[str, Any]) -> str:
    boxes = "\n".join(
        f'<label><input type="checkbox" name="model" value="{html.escape(model["model"])}" '
        f"checked> {html.escape(model['model'])}</label>"
        for model in document["models"]
    )
    return (
        "<section><h2>Models in the charts below</h2>\n"
        '<button type="button" data-models="all">Show all</button>'
        '<button type="button" data-models="none">Show none</button>\n'
        f"<fieldset><legend>Strongest first</legend>\n{boxes}\n</fieldset></section>"
    )


def _stability(document: dict[str, Any]) -> str:
    if not document.get("stability"):
        return ""
    return _figure(
        "stability",
        "How sure is it?",
        "Share of resampled leaderboards that a level Δ stabilizes, for each worth.",
    )


def _audit(document: dict[str, Any]) -> str:
    sentences = document.get("audit", {}).get("sentences", [])
    if not sentences:
        return ""
    items = "\n".join(f"<li>{html.escape(text)}</li>" for text in sentences)
    return f"<section><h2>Do the theory's assumptions hold?</h2>\n<ul>\n{items}\n</ul></section>"


def _fits(document: dict[str, Any]) -> str:
    header = ["model", "α", "± α", "β", "± β", "lower", "upper", "χ²", "degrees", "flags"]
    keys = ("alpha", "alpha_deviation", "beta", "beta_deviation", "lower", "upper", "chi2", "dof")
    rows = [
        [model["model"], *(model[key] for key in keys), ", ".join(model["flags"]).lower() or "none"]
        for model in document["models"]
    ]
    table = _table("fit-table", "logit of the normalized score = α + β·log(1 + e)", header, rows)
    return f"<section><h2>The fits</h2>\n{table}</section>"


def _pairs(document: dict[str, Any]) -> str:
    rows = [[row["weak"], row["strong"], row["rho"], row["e0"]] for row in document["pairs"]]
    header = ["weak", "strong", "learning-rate ratio ρ", "catch-up effort today e⁰ (steps)"]
    table = _table("pair-table", "Neighbours in capability", header, rows)
    return f"<section><h2>Neighbours</h2>\n{table}</section>"


def _method(document: dict[str, Any]) -> str:
    data, settings = document["data"], document["settings"]
    entries = {
        "Data": data["source"],
        "Task": data["task"] or "–",
        "Metric": data["metric"] or "–",
        "Capability order": data["order"],
        **{key.replace("_", " ").capitalize(): value for key, value in settings.items()},
        "Made by": f"tbtjax {document['tbtjax']}",
    }
    listed = "\n".join(
        f"<dt>{html.escape(key)}</dt><dd>{html.escape(str(value))}</dd>"
        for key, value in entries.items()
    )
    left_out = "".join(f"<li>{html.escape(item['reason'])}</li>" for item in data["left_out"])
    return (
        "<section><h2>Data and method</h2>\n"
        f"<dl>\n{listed}\n</dl>\n"
        + (f"<p>Left out:</p><ul>{left_out}</ul>\n" if left_out else "")
        + "<p>Each model's scores along training are fitted by a curve. A developer moves up when "
        "that pays more than the training costs, with cost linear in steps; Δ* is the least number "
        "of training steps, given to every model before it is scored, from which on no such move "
        "pays. The model is that of Chen, Zhang and Hardt, arXiv 2603.08371.</p>\n"
        '<button type="button" data-json="analysis.json">Download all numbers (JSON)</button>'
        "</section>"
    )


def _page(*, title: str, body: str, data: Any, charts: Any) -> str:
    import vl_convert

    def embedded(value: Any) -> str:
        # Inside a script element no "<" may begin a tag or a comment.
        return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")

    folder = importlib.resources.files(__package__)
    parts = {
        "title": html.escape(title),
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "body": body,
        "data": embedded(data),
        "charts": embedded(charts),
        "library": vl_convert.javascript_bundle().replace("</script", "<\\/script"),
        "script": (folder / "page.js").read_text(encoding="utf-8"),
    }
    text = (folder / "page.html").read_text(encoding="utf-8")
    pieces = [piece for chunk in text.split("{{") for piece in chunk.split("}}")]
    # Text and names of parts alternate.
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))
