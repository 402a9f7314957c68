"""The page of an analysis, from the document that `tbtjax analyze` writes."""

import html
import json
import math
import pathlib
from typing import Any

from tbtjax.report._format import number
from tbtjax.report.page._html import PageError, count, figure, page, shown, table
from tbtjax.report.page.charts import analysis_charts


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
    charts = analysis_charts(document)
    sections = [
        f"<h1>How much tune-before-test does {html.escape(about)} need?</h1>",
        f'<p class="quiet">{count(len(document["models"]), "model")}, up to '
        f"{data['last_step']:,g} training steps each</p>",
        f'<p class="verdict">{html.escape(verdict(document))}</p>',
        *(f'<p class="warning">{html.escape(text)}</p>' for text in document["warnings"]),
        _thresholds(document, drawn="thresholds" in charts),
        _switches(document),
        figure(
            "curves",
            "What was measured, and the curves fitted to it",
            "Points are measured scores with their standard errors; lines are the fitted curves. "
            "Darker and lighter follow capability. The horizontal axis is spaced as "
            "log(1 + steps).",
        ),
        figure(
            "efforts",
            "What it takes to overtake",
            "Training steps with which each model passes the next stronger one, when every model "
            "has had Δ steps before. Where a line is missing, the model is ahead already or the "
            "rival is out of its reach, or 10,000 times the measured steps away.",
        )
        if "efforts" in charts
        else "<p>No model can overtake the next stronger one at the levels looked at.</p>",
        _audit(document),
        _order(document),
        _fits(document),
        _pairs(document),
        _method(document),
    ]
    return page(
        title=f"Tune-before-test: {about}",
        body="\n".join(sections),
        data=document,
        charts=charts,
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
    if row["status"] == "INTERVAL":
        text += f", but only up to {shown(row['upper'])} steps"
    if row["weak"]:
        text += f"; {row['weak']} against {row['rival']} decides"
    return text + "."


_CASES = {
    "FOUND": "found: stable from there on",
    "STABLE_AT_ZERO": "stable already, without tune-before-test",
    "INTERVAL": "stable up to {upper} only",
    "NOWHERE": "never: no level keeps the ranking",
    "NOT_CONVERGED": "no answer: the solver did not converge",
    "INVALID": "no answer: unusable parameters",
}


def _thresholds(document: dict[str, Any], *, drawn: bool) -> str:
    header = ["worth (steps)", "Δ* (steps)", "decided by", "case"]
    families = document.get("families") or {}
    intervals = families.get("intervals")
    if intervals:
        header[2:2] = [f"{families['confidence']:.0%} interval from", "to"]

    def line(numbered):
        number_of, row = numbered
        decided = f"{row['weak']} against {row['rival']}" if row["weak"] else "nobody"
        case = _CASES[row["status"]].format(upper=shown(row["upper"]))
        ends = [intervals["delta"][end][number_of] for end in ("low", "high")] if intervals else []
        return [row["worth"], row["delta"], *ends, decided, case]

    title = "From how many steps on does no effort pay?"
    chart = figure(
        "thresholds",
        title,
        "The stabilizing level Δ* against the worth of the largest step up the ranking: steps of "
        "training that its reward would pay for."
        + " The band is an interval: what noise in the scores leaves open."
        * bool(intervals),
    )
    if not drawn:
        chart = f"<h2>{title}</h2>\n<p>At none of these worths is Δ* a number of steps to draw.</p>"
    numbers = table(
        "threshold-table", "Δ* for each worth", header, map(line, enumerate(document["thresholds"]))
    )
    return f"{chart}\n{numbers}"


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


_ASSUMPTIONS = {
    "c1": "C1: a more capable model scores higher at every effort",
    "c2_rising": "C2: scores do not fall with training",
    "c2_concave": "C2: scores rise ever more slowly",
    "c3": "C3: the weaker model's extra effort for a score grows with the score",
}
#: So many violations are listed; all are in the numbers to download.
_MOST_VIOLATIONS = 100


def _audit(document: dict[str, Any]) -> str:
    """The theory's assumptions: which hold, and where they are broken."""
    reports = document.get("assumptions") or []
    if not reports:
        return ""
    measured = reports[0]
    found = {key: [] for key in _ASSUMPTIONS}
    for violation in measured["violations"]:
        found.setdefault(violation["condition"], []).append(violation)
    items = []
    for key, text in _ASSUMPTIONS.items():
        broken = found[key]
        verdict_of = f"broken {count(len(broken), 'time')}" if broken else "holds"
        items.append(f"<li>{html.escape(text)}: <strong>{verdict_of}</strong></li>")
    differ = [row for row in document.get("conditions") or [] if row.get("differ")]
    words = (
        "Neighbours in the ranking are not all that matters: at worths of "
        + ", ".join(shown(row["worth"]) for row in differ)
        + " steps a jump over several ranks pays where no single step does."
        if differ
        else "Looking at neighbours in the ranking gives the same answers as looking at all pairs."
    )
    rows = [
        [row["condition"], row["model"], row["rival"] or "–"]
        + [row[key] for key in ("amount", "start", "end")]
        for row in measured["violations"][:_MOST_VIOLATIONS]
    ]
    header = ["condition", "model", "rival", "by how much", "from", "to"]
    numbers = table("audit-table", "Violations, in efforts (c3: in scores)", header, rows)
    return (
        "<section><h2>Do the theory's assumptions hold?</h2>\n"
        f"<p>For the fitted curves, at efforts up to {shown(measured['max_effort'])} steps:</p>\n"
        f"<ul>\n{''.join(items)}\n</ul>\n<p>{html.escape(words)}</p>\n"
        f"{numbers if rows else ''}</section>"
    )


def _order(document: dict[str, Any]) -> str:
    """What it costs to make the curves follow the capability order; empty where not asked for."""
    found = document.get("capability_order")
    if not found:
        return ""
    curves = f"Curves with {found['limits']} limits"
    follow = "neither α nor β rises from a model to the next weaker one"
    if found["ties"]:
        words = (
            f"{curves} that follow it, so that {follow}, cost {shown(found['price'])} more in χ², "
            f"for {count(found['ties'], 'tie')}. "
        )
        if found["p_value"] is None:
            words += "The scores' noise is not known, so that this cannot be weighed against it."
        else:
            words += (
                "If the order is true, as much or more comes about with probability "
                f"{number(found['p_value'], 2)}, noise taken as large as what the curves miss "
                "their points by where that is more than the scores' own."
            )
    else:
        words = f"{curves} follow it as they are: {follow}."

    def cost(row):
        return 0 if abs(row["cost"]) < 1e-9 * max(row["chi2"], 1) else row["cost"]  # rounding

    rows = [
        [row["model"], row["alpha"], row["beta"], row["chi2"], cost(row)]
        + ["as the model before" if row[key] else "own" for key in ("alpha_tied", "beta_tied")]
        for row in found["models"]
    ]
    header = ["model", "α", "β", "χ²", "more than without the order", "α is", "β is"]
    models = table("order-table", "Curves that follow the order, strongest first", header, rows)
    levels = table(
        "order-threshold-table",
        "Δ* of these curves, and of those that were fitted without the order",
        ["worth (steps)", "Δ* in order (steps)", "Δ* (steps)"],
        [
            [row["worth"], delta, row["delta"]]
            for row, delta in zip(document["thresholds"], found["delta"], strict=True)
        ],
    )
    return (
        "<section><h2>What does the capability order cost?</h2>\n"
        f"<p>{html.escape(words)}</p>\n{models}\n{levels}</section>"
    )


def _fits(document: dict[str, Any]) -> str:
    header = ["model", "α", "± α", "β", "± β", "lower", "upper", "χ²", "degrees", "flags"]
    keys = ("alpha", "alpha_deviation", "beta", "beta_deviation", "lower", "upper", "chi2", "dof")
    rows = [
        [model["model"], *(model[key] for key in keys), ", ".join(model["flags"]).lower() or "none"]
        for model in document["models"]
    ]
    numbers = table("fit-table", "logit of the normalized score = α + β·log(1 + e)", header, rows)
    return f"<section><h2>The fits</h2>\n{numbers}</section>"


def _pairs(document: dict[str, Any]) -> str:
    rows = [[row["weak"], row["strong"], row["rho"], row["e0"]] for row in document["pairs"]]
    header = ["weak", "strong", "learning-rate ratio ρ", "catch-up effort today e⁰ (steps)"]
    numbers = table("pair-table", "Neighbours in capability", header, rows)
    return f"<section><h2>Neighbours</h2>\n{numbers}</section>"


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
