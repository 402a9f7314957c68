"""Parts of a page: numbers, tables, places of charts, and the page around them."""

import html
import importlib.resources
import json
from collections.abc import Iterable, Sequence
from typing import Any

from tbtjax.report._format import number
from tbtjax.report.page.charts import is_number


class PageError(ValueError):
    """The input cannot be made a page of; the text is for the user, on one line."""


def count(number_of: int, noun: str) -> str:
    """A number of things in words."""
    return f"{number_of} {noun}{'' if number_of == 1 else 's'}"


def shown(value: Any) -> str:
    """A value of the document for a reader: ∞ for "inf", a dash for what is not known."""
    if value in ("inf", "-inf"):
        return "∞" if value == "inf" else "−∞"
    if not is_number(value):
        return "–"
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def table(
    identifier: str, caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> str:
    """A table with a button that downloads it; strings are words, the rest numbers."""

    def is_words(value: Any) -> bool:
        return isinstance(value, str) and value not in ("inf", "-inf")

    def cell(value: Any) -> str:
        if is_words(value):
            return f'<td class="words">{html.escape(value)}</td>'
        exact = "" if value is None else html.escape(str(value))
        return f'<td data-value="{exact}">{shown(value)}</td>'

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


def figure(identifier: str, title: str, caption: str) -> str:
    """A section with the place of a chart, drawn by the page's script."""
    return (
        f"<section><h2>{html.escape(title)}</h2>\n"
        f'<figure><div class="chart" id="{identifier}" role="group" '
        f'aria-label="Chart: {html.escape(title)}"></div>\n'
        f"<figcaption>{html.escape(caption)}</figcaption></figure></section>"
    )


def page(*, title: str, body: str, data: Any, charts: Any) -> str:
    """The whole page: style, body, data, charts, and the library that draws them."""
    import vl_convert

    def embedded(value: Any) -> str:
        # Inside a script element no "<" may begin a tag or a comment.
        return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")

    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    folder = importlib.resources.files("tbtjax.report.page")
    parts = {
        "title": html.escape(title),
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "body": body,
        "data": embedded(data),
        "charts": embedded(charts),
        "library": library.replace("</script", "<\\/script"),
        "script": (folder / "page.js").read_text(encoding="utf-8"),
    }
    text = (folder / "page.html").read_text(encoding="utf-8")
    pieces = [piece for chunk in text.split("{{") for piece in chunk.split("}}")]
    # Text and names of parts alternate.
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))
