"""How numbers, names and tables are written: as text, in JSON and in CSV.

Text has five significant digits, files have all. Files say "inf" for infinity (strict JSON has no
word for it) and leave out what is not known: null in JSON, an empty cell in CSV.
"""

import csv
import json
import math
import pathlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

#: Names are shortened in tables, so that a row fits on a line.
_NAME_WIDTH = 32


def number(value: float, digits: int = 5) -> str:
    """`value` with so many significant digits, thousands apart: 2.2013, 402.12, 384,668."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -5 <= exponent < 9:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def between(low: Any, high: Any, most: float = math.inf) -> str:
    """An interval with three significant digits; ends above `most` are not known: [0.25, > 400]."""
    if math.isnan(low):
        return "-"
    ends = (f"> {number(most, 3)}" if end > most else number(end, 3) for end in (low, high))
    return f"[{', '.join(ends)}]"


def given(value: float | None) -> str:
    """A number as the user or the data gave it: 10, 0.25, 1,000."""
    return "-" if value is None else f"{value:,.6g}"


def text_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: Collection[int]
) -> str:
    """Columns two blanks apart, numbers to the right and text to the left."""
    rows = [list(header), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = []
    for row in rows:
        cells = (
            cell.ljust(width) if column in text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(f"  {line}" for line in lines)


def short(name: str) -> str:
    """A name that fits into a table; a long one loses its start."""
    return name if len(name) <= _NAME_WIDTH else "…" + name[1 - _NAME_WIDTH :]


def plain(value: Any) -> Any:
    """`value` in types of strict JSON: infinities as "inf", NaN as null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def to_json(document: Any) -> str:
    """A document as strict JSON."""
    return json.dumps(plain(document), indent=1, ensure_ascii=False, allow_nan=False)


def write_csv(
    path: pathlib.Path, rows: list[dict[str, Any]], columns: Sequence[str] | None = None
) -> pathlib.Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
