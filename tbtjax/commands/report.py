"""`tbtjax report`: an analysis or a sweep in, one self-contained HTML page out."""

import argparse
import pathlib
from typing import Any

from tbtjax.commands import failed

_REPORT = """\
Makes one HTML page of what `tbtjax analyze` or `tbtjax sweep` wrote: it opens offline, with
interactive charts, and all numbers to download.
"""


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of `tbtjax`."""
    report = commands.add_parser(
        "report", help="an analysis or a sweep in, one HTML page out", description=_REPORT
    )
    report.set_defaults(run=run)
    report.add_argument(
        "path",
        type=pathlib.Path,
        metavar="PATH",
        help="the folder that `tbtjax analyze --out` wrote, its analysis.json, or the store of a "
        "finished `tbtjax sweep`",
    )
    report.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("report.html"),
        metavar="FILE",
        help="the page; an earlier one is replaced (default: ./report.html)",
    )


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from tbtjax.report import page as pages

    try:
        if (options.path / "zarr.json").is_file():
            page = pages.sweep_page(pages.read_sweep(options.path))
        else:
            page = pages.analysis_page(pages.read_analysis(options.path))
        options.out.write_text(page, encoding="utf-8")
    except pages.PageError as error:
        return failed("report", str(error))
    except ModuleNotFoundError as error:
        wanted = "expected the extras of pages and stores (pip install 'tbtjax[report,study]')"
        return failed("report", f"{error.name} is not installed; {wanted}")
    except OSError as error:
        reason = error.strerror or error
        return failed("report", f"--out {options.out}: {reason}; expected a file to write")
    print(f"Written to {options.out} ({len(page.encode()) / 1e6:.1f} MB)")
    return 0
