"""A stream of games answered in constant memory, order kept."""

import collections
import concurrent.futures
import os
from typing import BinaryIO, NamedTuple

from tbtjax.stream.answers import Solver
from tbtjax.stream.formats import READERS, WRITERS
from tbtjax.stream.windows import StreamError

__all__ = ["StreamError", "Totals", "run"]


class Totals(NamedTuple):
    """What became of a stream's games.

    Attributes:
      answered: number of good records.
      bad: number of records with an error in their place.
      first_line: line or row of the first bad one; 0 if there is none.
      first_error: what is wrong with it.
      failure: why the stream could not be read to its end; empty if it was.
    """

    answered: int = 0
    bad: int = 0
    first_line: int = 0
    first_error: str = ""
    failure: str = ""


def run(
    solver: Solver,
    source: BinaryIO,
    source_format: str,
    sink: BinaryIO,
    sink_format: str,
) -> Totals:
    """Answers every game of a stream.

    Windows of the stream are read and written here, in order; between the two a few of them are
    worked on side by side.

    Args:
      solver: what is asked.
      source: where games come from, in `source_format`.
      source_format: one of `FORMATS`.
      sink: where answers go, in `sink_format`.
      sink_format: one of `FORMATS`.

    Returns:
      The totals.

    Raises:
      StreamError: nothing of the stream can be read.
      OSError: the streams fail.
    """
    reader = READERS[source_format](source)
    writer = WRITERS[sink_format](sink, solver.question, getattr(reader, "id_type", None))

    def work(raw):
        window = reader.read(raw)
        answers = solver.answer(window.stacks, len(window.lines), window.errors)
        first = min(window.errors, default=None)
        totals = Totals(
            len(window.lines) - len(window.errors),
            len(window.errors),
            0 if first is None else window.lines[first],
            "" if first is None else window.errors[first],
        )
        return totals, writer.format(window, answers)

    totals = Totals()
    workers = min(2, os.cpu_count() or 1)
    waiting: collections.deque = collections.deque()
    failure: Exception | None = None

    def windows():
        nonlocal failure
        try:
            yield from reader.windows()
        except (StreamError, OSError) as error:
            failure = error

    def write_next():
        nonlocal totals
        more, formatted = waiting.popleft().result()
        writer.write(formatted)
        first = totals if totals.bad else more
        totals = Totals(
            totals.answered + more.answered,
            totals.bad + more.bad,
            first.first_line,
            first.first_error,
        )

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            for raw in windows():
                if raw is not None:
                    waiting.append(pool.submit(work, raw))
                # At a pause in the stream all is written: who waits for an answer before the next
                # game gets it.
                while waiting and (raw is None or len(waiting) > workers or waiting[0].done()):
                    write_next()
            while waiting:
                write_next()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failure is not None and not totals.answered + totals.bad:
        raise failure
    writer.close()
    return totals if failure is None else totals._replace(failure=str(failure))
