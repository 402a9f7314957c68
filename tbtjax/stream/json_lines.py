"""JSON Lines, in and out."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from tbtjax.stream.answers import Question
from tbtjax.stream.records import RecordError, stack_records
from tbtjax.stream.texts import as_texts, ids_of, json_of, no_constant
from tbtjax.stream.windows import LONGEST_LINE, MISSING, Window, line_windows, numbered

try:
    import orjson
except ImportError:  # an optional accelerator
    orjson = None


class JsonLinesReader:
    """One JSON object a line; empty lines are passed over."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream

    def windows(self) -> Iterator[Any]:
        """First line number and lines of each window."""
        yield from line_windows(self._stream)

    def read(self, raw: Any) -> Window:
        """The games of a window."""
        numbers: list[int] = []
        ids: list[Any] = []
        records: list[tuple[int, Any]] = []
        errors: dict[int, str] = {}
        for number, line in numbered(raw):
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


class JsonLinesWriter:
    """One JSON object for each game; infinities are the strings "inf" and "-inf"."""

    def __init__(self, stream: BinaryIO, question: Question, id_type: Any):
        self._stream, self._question = stream, question

    def format(self, window: Window, answers: dict[str, Any]) -> bytes:
        """The lines of a window."""
        ids = ids_of(window)
        if ids is None:
            starts = ["{"] * len(window.lines)
        else:
            starts = ["{" if x is MISSING else f'{{"id": {json_of(x)}, ' for x in ids]
        columns = [starts]
        for name, kind in self._question.outputs.items():
            texts = as_texts(answers[name], kind, window.errors)
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


def _parsed(line: bytes | None) -> Any:
    """The JSON value of a line."""
    if line is None:
        raise RecordError(f"is longer than {LONGEST_LINE >> 20} MiB")
    if orjson is not None:
        # What it does not take is read again, so that the same lines are good with and without it.
        with contextlib.suppress(ValueError):
            return orjson.loads(line)
    try:
        return json.loads(line.decode("utf-8-sig"), parse_constant=no_constant)
    except UnicodeDecodeError as error:
        raise RecordError(f"not UTF-8: byte {error.start + 1} of the line") from None
    except json.JSONDecodeError as error:
        raise RecordError(f"not JSON: {error.msg} at column {error.colno}") from None
    except ValueError as error:
        raise RecordError(f"not JSON: {str(error)[:80]}") from None
    except RecursionError:
        raise RecordError("not JSON that can be read: nested too deep") from None


_ID_FIRST = re.compile(rb'^\s*\{\s*"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)\s*,')


def _id_of_damaged(line: bytes | None) -> Any:
    """The id of a line that is no JSON, where it comes first and is whole."""
    found = _ID_FIRST.match(line) if line is not None else None
    if found is not None:
        with contextlib.suppress(ValueError):
            return json.loads(found[1])
    return MISSING
