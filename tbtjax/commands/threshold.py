"""`tbtjax threshold`, `effort`, `verdict`, `rule-of-thumb`: games in, answers out, as a stream."""

import argparse
import contextlib
import gc
import os
import sys
from typing import Any

from tbtjax.commands import failed

_FORMATS = ("jsonl", "csv", "parquet")

_ABOUT = {
    "threshold": (
        "games in, stabilizing thresholds Δ* out, for tools that are not in Python",
        "From which tune-before-test level on does nobody gain by additional effort? For each game "
        "of a stream: the threshold, where its stretch of levels ends, who decides it, the case.",
    ),
    "effort": (
        "games in, efforts to overtake out",
        "With how much additional effort does each model pass the next stronger one at a "
        "tune-before-test level?",
    ),
    "verdict": (
        "games in, verdicts out: is zero effort an equilibrium?",
        "Is it an equilibrium at a tune-before-test level that nobody exerts additional effort?",
    ),
    "rule-of-thumb": (
        "games in, approximate thresholds of each adjacent pair out",
        "The paper's rule of thumb κ^ρ for each adjacent pair, with bounds.",
    ),
}

_FORMAT_TEXT = """
Input is JSON Lines, CSV or Parquet, told by the file's ending (stdin: JSON Lines); `tbtjax schema`
prints what a record holds. Answers come in the order of the games, an error in the place of a
record that cannot be used; totals go to stderr. Exit code 0, 1 if a record was bad, 2 if none could
be read. Computes in float64, in constant memory.
"""


def add_to(commands: Any) -> None:
    """Adds the commands to the subparsers of `tbtjax`."""
    for name, (help_text, description) in _ABOUT.items():
        parser = commands.add_parser(name, help=help_text, description=description + _FORMAT_TEXT)
        parser.set_defaults(run=run, question=name, leaves_at_once=True)
        parser.add_argument(
            *("path",), nargs="?", default="-", metavar="INPUT", help="games (default: stdin)"
        )
        parser.add_argument("--out", default="-", metavar="FILE", help="answers (default: stdout)")
        parser.add_argument(
            *("--from",),
            dest="source_format",
            choices=_FORMATS,
            help="format of INPUT (default: by its ending; jsonl for stdin)",
        )
        parser.add_argument(
            *("--to",),
            dest="sink_format",
            choices=_FORMATS,
            help="format of the answers (default: by the ending of --out; that of INPUT)",
        )
        if name in ("effort", "verdict"):
            parser.add_argument(
                "--delta",
                type=_level,
                metavar="STEPS",
                help="tune-before-test level of the games that give none",
            )
        if name in ("threshold", "verdict"):
            parser.add_argument(
                "--deviations",
                choices=("all", "adjacent"),
                default="all",
                help="all: a model may pass any stronger one (default, exact); adjacent: the next "
                "one only",
            )


def _level(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"expected training steps, 0 or more; got {text!r}")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    # Libraries and records are many small objects without cycles: looking for some is a quarter of
    # importing, and a third of reading.
    thresholds = gc.get_threshold()
    gc.set_threshold(200_000)
    try:
        return _run(options)
    finally:
        gc.set_threshold(*thresholds)


def _run(options: argparse.Namespace) -> int:
    # As a module: the package's own names, which it would otherwise bring in first, are not needed.
    import tbtjax.stream as stream
    from tbtjax.stream.answers import Solver
    from tbtjax.stream.formats import format_of, open_input

    command = options.question
    given = options.source_format or (None if options.path == "-" else format_of(options.path))
    if given is None and options.path != "-":
        return failed(
            command, f"{options.path}: expected a .jsonl, .csv or .parquet file, or --from FORMAT"
        )
    source_format = given or "jsonl"
    sink_format = options.sink_format or format_of(options.out) or source_format
    solver = Solver(command, getattr(options, "deviations", "all"), getattr(options, "delta", None))
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(open_input(options.path))
        except OSError as error:
            return failed(command, f"{options.path}: {error.strerror or error}")
        try:
            if options.out == "-":
                sink = sys.stdout.buffer
            elif os.path.exists(options.out) and os.path.samefile(options.out, options.path):
                return failed(command, f"--out {options.out}: would overwrite the input")
            else:
                sink = stack.enter_context(open(options.out, "wb"))
        except OSError as error:
            return failed(command, f"--out {options.out}: {error.strerror or error}")
        try:
            totals = stream.run(solver, source, source_format, sink, sink_format)
            sink.flush()
        except BrokenPipeError:
            raise
        except (stream.StreamError, OSError) as error:
            name = "stdin" if options.path == "-" else options.path
            return failed(command, f"{name}: {getattr(error, 'strerror', None) or error}")
        except KeyboardInterrupt:
            return 130
    return _report(command, totals)


def _report(command: str, totals: Any) -> int:
    """Prints the totals; returns the exit code."""
    text = f"{totals.answered} answered, {totals.bad} bad"
    if totals.bad:
        text += f"; first at line {totals.first_line}: {totals.first_error}"
    if totals.failure:
        text += f"; then {totals.failure}"
    print(f"tbtjax {command}: {text}", file=sys.stderr)
    if not totals.answered:
        return 2
    return 1 if totals.bad or totals.failure else 0
