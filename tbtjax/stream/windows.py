"""Windows of a stream: what readers yield, and how lines are gathered.

A reader yields windows: some lines or rows as they are in the file, which a worker turns into games
(`read`) and answers into lines or rows (a writer's `format`). Only `windows` and `write` touch the
streams, so that windows can be worked on side by side.
"""

import io
import select
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from tbtjax.stream.records import KEYS, Stack, shown

# Whole blocks of `tbtjax.stream.answers`, where games are alike.
_WINDOW_LINES, _WINDOW_BYTES = 4000, 8 << 20
#: In bytes: a line that is longer is none, and what is read at once.
LONGEST_LINE = 16 << 20
READ = 1 << 20


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


def check_columns(names: Sequence[str]) -> None:
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


def line_windows(stream: BinaryIO) -> Iterator[tuple[int, list[bytes | None]] | None]:
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
        piece = stream.read(READ)
        if not piece:
            break
        *parts, tail = (tail + piece).split(b"\n")
        if too_long and parts:
            lines.append(None)
            parts, too_long = parts[1:], False
        if len(tail) > LONGEST_LINE or too_long:
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


def numbered(raw: tuple[int, list[bytes | None]]) -> Iterator[tuple[int, bytes | None]]:
    """The lines of a window that are not empty, and their numbers."""
    first, lines = raw
    for number, line in enumerate(lines, first):
        if line is None or line.strip():
            yield number, line


def _has_more(stream: BinaryIO) -> bool:
    """Whether a read would give something (or the end) at once; True where that is not known."""
    try:
        return bool(select.select([stream], [], [], 0)[0])
    except (OSError, ValueError, TypeError, io.UnsupportedOperation):
        return True
