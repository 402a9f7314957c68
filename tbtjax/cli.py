"""The command `tbtjax`.

Everything heavy is imported where it is used, so that `tbtjax --help` answers at once. Commands
compute in float64; the library itself never touches JAX's configuration.
"""

import argparse
import contextlib
import hashlib
import io
import os
import platform
import sys
from collections.abc import Sequence
from typing import NoReturn

from tbtjax._version import __version__
from tbtjax.commands import analyze, compare, export, plot, report, schema, sweep, threshold

_COMMANDS = (analyze, compare, threshold, sweep, plot, report, export, schema)

_DESCRIPTION = """\
From measured scores along post-training to the stabilizing tune-before-test threshold: from how
many steps of training for all on does it pay nobody to train a model more for the benchmark?
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      arguments: the words after `tbtjax`; those of the process if None.

    Returns:
      Exit code: 0, or 2 where the input or an option is unusable (one line on stderr says why).
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that has no Δ gets a question mark for it, not a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if arguments is None:
        _keep_programs()  # before options are read, which imports JAX for some of them
    options = _parser().parse_args(arguments)
    try:
        code = options.run(options)
        if arguments is None and getattr(options, "leaves_at_once", False):
            _leave(code)
        return code
    except BrokenPipeError:
        # The reader has left (`| head`): nothing more to say, also not when the streams are closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _leave(code: int) -> NoReturn:
    """Ends the process without taking JAX apart first, which takes a good part of a second."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _keep_programs() -> None:
    """Has JAX keep what it compiles for the next run, unless the environment says where or not to.

    For each kind of processor apart: a program compiled for one may not run on another, and home
    folders are shared between machines.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or "jax" in sys.modules:
        return
    processor = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        known = ("model name", "flags", "Features", "CPU part")
        processor += "".join(sorted({line for line in file if line.startswith(known)}))
    kind = hashlib.sha256(f"{platform.machine()} {processor}".encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(home, "tbtjax", kind)
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        # Small programs too: they are many.
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _parser() -> _Parser:
    parser = _Parser(prog="tbtjax", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"tbtjax {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
