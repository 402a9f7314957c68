"""CSV, in and out: cells hold JSON values."""

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from tbtjax.stream.answers import Question
from tbtjax.stream.json_lines import JsonLinesWriter
from tbtjax.stream.records import RecordError, stack_records
from tbtjax.stream.texts import as_texts, id_as_text, ids_of, no_constant
from tbtjax.stream.windows import (
    LONGEST_LINE,
    MISSING,
    StreamError,
    Window,
    check_columns,
    line_windows,
    numbered,
)


class CsvReader:
    """A header with the keys of a record, and a game a line.

    Cells hold JSON values; text needs no quotation marks of JSON's, and an empty cell is a key that
    is not there. `cost.kind`, `cost.rate`, … stand for the keys of `cost`.
    """

    def __init__(self, stream: BinaryIO):
        self._windows = line_windows(stream)
        self._rest: list[Any] = []
        for window in self._windows:
            if window is None:
                continue
            first, lines = window
            line = lines[0]
            if line is None:
                raise StreamError("line 1 is too long for a header")
            try:
                self._header = _cells(line.removeprefix(b"\xef\xbb\xbf"))
            except RecordError as error:
                raise StreamError(f"line 1: {error}") from error
            check_columns(self._header)
            self._rest = [(first + 1, lines[1:])]
            break
        else:
            raise StreamError("is empty; expected a header with the keys of a record")

    def windows(self) -> Iterator[Any]:
        """First line number and lines of each window, without the header."""
        yield from self._rest
        yield from self._windows

    def read(self, raw: Any) -> Window:
        """The games of a window."""
        numbers: list[int] = []
        ids: list[Any] = []
        records: list[tuple[int, Any]] = []
        errors: dict[int, str] = {}
        for number, line in numbered(raw):
            place = len(numbers)
            numbers.append(number)
            ids.append(MISSING)
            try:
                cells = _cells(line)
                if len(cells) != len(self._header):
                    raise RecordError(f"has {len(cells)} cells; expected {len(self._header)}")
                cells = dict(zip(self._header, cells, strict=True))
                if cells.get("id"):
                    ids[place] = _id_of_cell(cells["id"])
                records.append((place, _record_of_cells(cells)))
            except RecordError as error:
                errors[place] = str(error)
        stacks, more = stack_records(records)
        return Window(numbers, ids, stacks, errors | more)


class CsvWriter:
    """A header, and a line for each game; pairs' numbers are a JSON array in one cell."""

    def __init__(self, stream: BinaryIO, question: Question, id_type: Any):
        self._stream, self._question = stream, question
        names = ["id", *question.outputs, "line", "error"]
        self.write((",".join(names) + "\n").encode())

    def format(self, window: Window, answers: dict[str, Any]) -> bytes:
        """The lines of a window."""
        count = len(window.lines)
        ids = ids_of(window)
        columns: list[list[Any]] = [[""] * count if ids is None else [id_as_text(x) for x in ids]]
        for name, kind in self._question.outputs.items():
            texts = as_texts(answers[name], kind, window.errors)
            if kind != "pairs":
                texts = ["" if text == "null" else text.strip('"') for text in texts]
            columns.append(texts)
        lines: list[Any] = [""] * count
        errors = [""] * count
        for place, text in window.errors.items():
            lines[place], errors[place] = window.lines[place], text
            for column in columns[1:]:
                column[place] = ""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(zip(*columns, lines, errors, strict=True))
        return out.getvalue().encode()

    write, close = JsonLinesWriter.write, JsonLinesWriter.close


def _cells(line: bytes | None) -> list[str]:
    """The cells of a line of CSV; a quoted cell does not reach over the end of the line."""
    if line is None:
        raise RecordError(f"is longer than {LONGEST_LINE >> 20} MiB")
    try:
        return next(csv.reader([line.decode().rstrip("\r")], strict=True), [])
    except UnicodeDecodeError as error:
        raise RecordError(f"not UTF-8: byte {error.start + 1} of the line") from None
    except csv.Error as error:
        raise RecordError(f"not CSV: {error}") from None


def _record_of_cells(cells: dict[str, str]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, cell in cells.items():
        cell = cell.strip()
        if not cell or name == "id":
            continue
        try:
            value = json.loads(cell, parse_constant=no_constant)
        except (ValueError, RecursionError):
            value = cell
        if name.startswith("cost."):
            cost = record.setdefault("cost", {})
            if type(cost) is not dict:
                raise RecordError("has cost and also a part of it in a column of its own")
            cost[name[5:]] = value
        elif name == "cost" and "cost" in record:
            raise RecordError("has cost and also a part of it in a column of its own")
        else:
            record[name] = value
    return record


def _id_of_cell(cell: str) -> Any:
    """A number where the cell is a plain integer, else the text."""
    with contextlib.suppress(ValueError):
        if str(int(cell)) == cell:
            return int(cell)
    return cell
