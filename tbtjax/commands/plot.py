"""`tbtjax plot`: the figures of a finished sweep."""

import argparse
import pathlib
from typing import Any

from tbtjax.commands import failed

_PLOT = """\
Draws what a store of `tbtjax sweep` holds, as PNG and SVG: maps of Δ*, stability regions, quantile
fans, sensitivities.
"""


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of `tbtjax`."""
    parser = commands.add_parser("plot", help="the figures of a sweep", description=_PLOT)
    parser.set_defaults(run=run)
    parser.add_argument("store", type=pathlib.Path, metavar="STORE", help="of `tbtjax sweep`")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="DIR",
        help="folder for the figures, made where it is missing (default: STORE-figures)",
    )


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    try:
        from tbtjax.study import StoreError
        from tbtjax.study.export import open_results
        from tbtjax.study.figures import write_figures
    except ModuleNotFoundError as error:
        return failed("plot", f"{error.name} is missing: pip install 'tbtjax[study,report]'")
    folder = options.out or options.store.with_name(options.store.stem + "-figures")
    try:
        data, sweep = open_results(options.store)
        folder.mkdir(parents=True, exist_ok=True)
        written = write_figures(data, sweep, folder)
    except StoreError as error:
        return failed("plot", str(error))
    except OSError as error:
        return failed("plot", f"--out {folder}: {error.strerror or error}")
    if not written:
        return failed("plot", f"{options.store}: one cell and one level leave nothing to draw")
    print(f"Written to {folder}: {', '.join(path.name for path in written)}")
    return 0
