"""JSON Lines, CSV and Parquet, in and out.

A reader yields windows: some lines or rows as they are in the file, which a worker turns into games
(`read`) and answers into lines or rows (a writer's `format`). Only `windows` and `write` touch the
streams, so that windows can be worked on side by side.
"""

import contextlib
import csv
import io
import itertools
import json
import os
import re
import select
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tbtjax.stream.answers import STATUS_NAMES, Question, Ragged
from tbtjax.stream.records import KEYS, RecordError, Stack, shown, stack_records

try:
    import orjson
except ImportError:  # an optional accelerator
    orjson = None

#: Names of the formats and the endings of their files.
FORMATS = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv",),
    "parquet": (".parquet", ".pq"),
}

# Whole blocks of `tbtjax.stream.answers`, where games are alike.
_WINDOW_LINES, _WINDOW_BYTES, _WINDOW_ROWS = 4000, 8 << 20, 32_000
_LONGEST_LINE = 16 << 20
_READ = 1 << 20


class StreamError(ValueError):
    """An input that cannot be read at all, and why."""


class Window(NamedTuple):
    """Some games of a stream.

    Attributes:
      lines: the line (1 is the first) or row of each place.
      ids: the JSON value of each place's id, `MISSING` where it has none; None where no place has.
      stacks: the games, in stacks of one layout.
      errors: what is wrong with the others, by place.
      arrow_ids: the ids as an Arrow array, where the source is a table.
    """

    lines: Sequence[int]
    ids: Sequence[Any] | None
    stacks: list[Stack]
    errors: dict[int, str]
    arrow_ids: Any = None


#: Instead of an id that is not there; null is one.
MISSING = object()


class JsonLinesReader:
    """One JSON object a line; empty lines are passed over."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream

    def windows(self) -> Iterator[Any]:
        """First line number and lines of each window."""
        yield from _line_windows(self._stream)

    def read(self, raw: Any) -> Window:
        """The games of a window."""
        first, lines = raw
        numbers: list[int] = []
        ids: list[Any] = []
        records: list[tuple[int, Any]] = []
        errors: dict[int, str] = {}
        for number, line in enumerate(lines, first):
            if line is not None and not line.strip():
                continue
            place = len(numbers)
            numbers.append(number)
            try:
                record = _parsed(line)
            except RecordError as error:
                errors[place] = str(error)
                ids.append(_id_of_damaged(line))
                continue
            ids.append(record.get("id", MISSING) if type(record) is dict else MISSING)
            records.append((place, record))
        stacks, more = stack_records(records)
        return Window(numbers, ids, stacks, errors | more)


class CsvReader:
    """A header with the keys of a record, and a game a line.

    Cells hold JSON values; text needs no quotation marks of JSON's, and an empty cell is a key that
    is not there. `cost.kind`, `cost.rate`, … stand for the keys of `cost`.
    """

    def __init__(self, stream: BinaryIO):
        self._windows = _line_windows(stream)
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
            _check_columns(self._header)
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
        first, lines = raw
        numbers: list[int] = []
        ids: list[Any] = []
        records: list[tuple[int, Any]] = []
        errors: dict[int, str] = {}
        for number, line in enumerate(lines, first):
            if line is not None and not line.strip():
                continue
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


class ParquetReader:
    """A table with the keys of a record as columns; see `tbtjax.stream.tables`."""

    def __init__(self, stream: BinaryIO):
        pa, parquet = _pyarrow()
        if not _is_seekable(stream):
            # The table of contents is at the end of the file.
            spooled = tempfile.TemporaryFile()
            while piece := stream.read(_READ):
                spooled.write(piece)
            stream = spooled
        self._errors = (pa.ArrowException, OSError)
        try:
            # A file that Arrow opens itself is read without Python's lock.
            path = getattr(stream, "name", None)
            is_path = isinstance(path, str) and os.path.isfile(path)
            file = pa.OSFile(path) if is_path else pa.PythonFile(stream, mode="r")
            self._file = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        except self._errors as error:
            raise StreamError(f"is no Parquet file: {error}") from error
        schema = self._file.schema_arrow
        _check_columns(schema.names)
        self.id_type = schema.field("id").type if "id" in schema.names else None
        # Dictionaries within structs are read from one group of rows at a time alone.
        structs = [field.type for field in schema if pa.types.is_struct(field.type)]
        self._by_group = any(
            pa.types.is_dictionary(part.type) for type_ in structs for part in type_
        )

    def windows(self) -> Iterator[Any]:
        """First row number and rows of each window."""
        first = 1
        groups = [[i] for i in range(self._file.num_row_groups)] if self._by_group else [None]
        try:
            for group in groups:
                for batch in self._file.iter_batches(_WINDOW_ROWS, row_groups=group):
                    yield first, batch
                    first += batch.num_rows
        except self._errors as error:
            raise StreamError(f"row {first} and later ones cannot be read: {error}") from error

    def read(self, raw: Any) -> Window:
        """The games of a window."""
        from tbtjax.stream.tables import stack_table, to_records

        first, batch = raw
        stacks, rest = stack_table(batch)
        more, errors = (
            stack_records(to_records(batch, np.flatnonzero(rest)))
            if rest.any()
            else (
                [],
                {},
            )
        )
        ids = batch.column("id") if self.id_type is not None else None
        lines = range(first, first + batch.num_rows)
        return Window(lines, None, stacks + more, errors, ids)


class JsonLinesWriter:
    """One JSON object for each game; infinities are the strings "inf" and "-inf"."""

    def __init__(self, stream: BinaryIO, question: Question, id_type: Any):
        self._stream, self._question = stream, question

    def format(self, window: Window, answers: dict[str, Any]) -> bytes:
        """The lines of a window."""
        ids = _ids(window)
        if ids is None:
            starts = ["{"] * len(window.lines)
        else:
            starts = ["{" if x is MISSING else f'{{"id": {_json(x)}, ' for x in ids]
        columns = [starts]
        for name, kind in self._question.outputs.items():
            texts = _texts(answers[name], kind, window.errors)
            columns.append([f'"{name}": {text}' for text in texts])
        lines = [start + ", ".join(rest) for start, *rest in zip(*columns, strict=True)]
        for place, text in window.errors.items():
            line = f'"line": {window.lines[place]}, "error": {json.dumps(text)}'
            lines[place] = starts[place] + line
        return "".join([f"{line}}}\n" for line in lines]).encode()

    def write(self, formatted: bytes) -> None:
        """Writes the lines of a window."""
        self._stream.write(formatted)
        self._stream.flush()

    def close(self) -> None:
        """Ends the file."""


class CsvWriter:
    """A header, and a line for each game; pairs' numbers are a JSON array in one cell."""

    def __init__(self, stream: BinaryIO, question: Question, id_type: Any):
        self._stream, self._question = stream, question
        names = ["id", *question.outputs, "line", "error"]
        self.write((",".join(names) + "\n").encode())

    def format(self, window: Window, answers: dict[str, Any]) -> bytes:
        """The lines of a window."""
        count = len(window.lines)
        ids = _ids(window)
        columns: list[list[Any]] = [[""] * count if ids is None else [_id_as_text(x) for x in ids]]
        for name, kind in self._question.outputs.items():
            texts = _texts(answers[name], kind, window.errors)
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


class ParquetWriter:
    """A table with a row for each game; what an error leaves out is null."""

    def __init__(self, stream: BinaryIO, question: Question, id_type: Any):
        self._pa, parquet = _pyarrow()
        pa = self._pa
        self._question = question
        kinds = {
            "number": pa.float64(),
            "index": pa.int32(),
            "bool": pa.bool_(),
            "status": pa.string(),
            "pairs": pa.list_(pa.float64()),
        }
        fields = [("id", id_type or pa.string())]
        fields += [(name, kinds[kind]) for name, kind in question.outputs.items()]
        self._schema = pa.schema([*fields, ("line", pa.int64()), ("error", pa.string())])
        # Levels hardly ever repeat: no dictionary is tried for them.
        repeated = [name for name, kind in question.outputs.items() if kind == "status"]
        self._writer = parquet.ParquetWriter(
            stream, self._schema, use_dictionary=[*repeated, "error"]
        )

    def format(self, window: Window, answers: dict[str, Any]) -> Any:
        """The rows of a window."""
        pa, count = self._pa, len(window.lines)
        bad = np.zeros(count, bool)
        bad[list(window.errors)] = True
        if window.arrow_ids is not None:
            ids = window.arrow_ids
        else:
            texts = [None if x is MISSING else _id_as_text(x) for x in window.ids or ()]
            ids = pa.array(texts or [None] * count, pa.string())
        columns = [ids]
        for field in list(self._schema)[1:-2]:
            values = answers[field.name]
            if isinstance(values, Ragged):
                offsets = pa.array(values.offsets, pa.int32(), mask=np.append(bad, False))
                columns.append(pa.ListArray.from_arrays(offsets, pa.array(values.values)))
            elif self._question.outputs[field.name] == "status":
                names = pa.DictionaryArray.from_arrays(pa.array(values, mask=bad), STATUS_NAMES)
                columns.append(names.cast(pa.string()))
            else:
                columns.append(pa.array(values, mask=bad).cast(field.type))
        lines: list[int | None] = [None] * count
        errors: list[str | None] = [None] * count
        for place, text in window.errors.items():
            lines[place], errors[place] = window.lines[place], text
        columns += [pa.array(lines, pa.int64()), pa.array(errors, pa.string())]
        return pa.record_batch(columns, schema=self._schema)

    def write(self, formatted: Any) -> None:
        """Writes the rows of a window."""
        self._writer.write_batch(formatted)

    def close(self) -> None:
        """Writes the table of contents."""
        self._writer.close()


READERS = {"jsonl": JsonLinesReader, "csv": CsvReader, "parquet": ParquetReader}
WRITERS = {"jsonl": JsonLinesWriter, "csv": CsvWriter, "parquet": ParquetWriter}


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise StreamError("Parquet needs pyarrow (pip install 'tbtjax[backend]')") from None
    return pyarrow, parquet


def _is_seekable(stream: BinaryIO) -> bool:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return stream.seekable()
    return False


def _check_columns(names: Sequence[str]) -> None:
    """Raises where a column is unknown or there twice."""
    known = {*KEYS, "cost"}
    for name in names:
        if name not in known and not name.startswith("cost."):
            raise StreamError(
                f"column {shown(name)} is unknown; expected some of {', '.join(sorted(known))}, "
                "or parts of a cost such as cost.kind"
            )
        if list(names).count(name) > 1:
            raise StreamError(f"column {shown(name)} is there more than once")


def _line_windows(stream: BinaryIO) -> Iterator[tuple[int, list[bytes | None]] | None]:
    """Number of the first line, and lines; None for a line that is too long to be one.

    A window ends when it is full, and when the stream has nothing more to give at the moment; then
    a None is yielded before the wait for more.
    """
    number, held, tail = 1, 0, b""
    lines: list[bytes | None] = []
    too_long = False
    while True:
        if not _has_more(stream):
            yield None
        piece = stream.read(_READ)
        if not piece:
            break
        *parts, tail = (tail + piece).split(b"\n")
        if too_long and parts:
            lines.append(None)
            parts, too_long = parts[1:], False
        if len(tail) > _LONGEST_LINE or too_long:
            tail, too_long = b"", True
        lines += parts
        held += len(piece)
        while len(lines) >= _WINDOW_LINES or (
            lines and (held >= _WINDOW_BYTES or not _has_more(stream))
        ):
            yield number, lines[:_WINDOW_LINES]
            number += len(lines[:_WINDOW_LINES])
            lines, held = lines[_WINDOW_LINES:], 0
    if tail or too_long:
        lines.append(None if too_long else tail)
    if lines:
        yield number, lines


def _has_more(stream: BinaryIO) -> bool:
    """Whether a read would give something (or the end) at once; True where that is not known."""
    try:
        return bool(select.select([stream], [], [], 0)[0])
    except (OSError, ValueError, TypeError, io.UnsupportedOperation):
        return True


def _parsed(line: bytes | None) -> Any:
    """The JSON value of a line."""
    if line is None:
        raise RecordError(f"is longer than {_LONGEST_LINE >> 20} MiB")
    if orjson is not None:
        # What it does not take is read again, so that the same lines are good with and without it.
        with contextlib.suppress(ValueError):
            return orjson.loads(line)
    try:
        return json.loads(line.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise RecordError(f"not UTF-8: byte {error.start + 1} of the line") from None
    except json.JSONDecodeError as error:
        raise RecordError(f"not JSON: {error.msg} at column {error.colno}") from None
    except ValueError as error:
        raise RecordError(f"not JSON: {str(error)[:80]}") from None
    except RecursionError:
        raise RecordError("not JSON that can be read: nested too deep") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f'{name} is no JSON value; infinities are written "inf" and "-inf"')


_ID_FIRST = re.compile(rb'^\s*\{\s*"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)\s*,')


def _id_of_damaged(line: bytes | None) -> Any:
    """The id of a line that is no JSON, where it comes first and is whole."""
    found = _ID_FIRST.match(line) if line is not None else None
    if found is not None:
        with contextlib.suppress(ValueError):
            return json.loads(found[1])
    return MISSING


def _cells(line: bytes | None) -> list[str]:
    """The cells of a line of CSV; a quoted cell does not reach over the end of the line."""
    if line is None:
        raise RecordError(f"is longer than {_LONGEST_LINE >> 20} MiB")
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
            value = json.loads(cell, parse_constant=_no_constant)
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


def _ids(window: Window) -> Sequence[Any] | None:
    return window.ids if window.arrow_ids is None else window.arrow_ids.to_pylist()


def _id_as_text(value: Any) -> str:
    if value is MISSING or value is None:
        return ""
    return value if type(value) is str else _json(value)


def _json(value: Any) -> str:
    """JSON of an id; what JSON has not (a date, NaN) as a string."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(str(value))


def _texts(values: Any, kind: str, errors: dict[int, str]) -> list[str]:
    """JSON of each row's answer."""
    if isinstance(values, Ragged):
        numbers = _numbers_as_text(values.values)
        bounds = values.offsets.tolist()
        return [f"[{', '.join(numbers[start:end])}]" for start, end in itertools.pairwise(bounds)]
    if kind == "number":
        return _numbers_as_text(values)
    if kind == "bool":
        return ["true" if value else "false" for value in values.tolist()]
    if kind == "status":
        return [f'"{STATUS_NAMES[value]}"' for value in values.tolist()]
    return [str(value) for value in values.tolist()]


def _numbers_as_text(values: np.ndarray) -> list[str]:
    """Shortest texts that read as the same float64s, as Python's `json` writes them."""
    texts = list(map(float.__repr__, values.tolist()))
    for place in np.flatnonzero(~np.isfinite(values)).tolist():
        value = values[place]
        texts[place] = "null" if value != value else '"inf"' if value > 0 else '"-inf"'
    return texts


def open_input(path: str) -> BinaryIO:
    """The file, or stdin for "-", unbuffered: a read gives what is there."""
    if path != "-":
        return open(path, "rb", buffering=0)
    stream: Any = getattr(sys.stdin, "buffer", sys.stdin)
    return getattr(stream, "raw", stream)


def format_of(path: str) -> str | None:
    """The format that a file's ending stands for; None where it is none of them."""
    ending = os.path.splitext(path)[1].lower()
    return next((name for name, endings in FORMATS.items() if ending in endings), None)
