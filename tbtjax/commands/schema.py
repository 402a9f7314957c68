"""`tbtjax schema`: what the records of the streaming commands hold, as JSON Schema."""

import argparse
import json
from typing import Any

_NAMES = ("game", "threshold", "effort", "verdict", "rule-of-thumb", "analysis")


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of `tbtjax`."""
    parser = commands.add_parser(
        "schema",
        help="what the streaming commands and analyze read and write, as JSON Schema",
        description="Prints the JSON Schema (draft 2020-12) of the records that go in (game), of "
        "the answers of a command, or of analysis.json.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("name", nargs="?", choices=_NAMES, default="game", metavar="NAME")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from tbtjax.stream.schemas import schema

    print(json.dumps(schema(options.name), indent=2, ensure_ascii=False))
    return 0
