"""`tbtjax report`: an analysis in, one self-contained HTML page out."""

import argparse
import pathlib
from typing import Any

from tbtjax.commands import failed

_REPORT = """\
Makes one HTML page of what `tbtjax analyze` wrote: it opens offline, with interactive curves and
efforts, and all numbers to download.
"""


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of `tbtjax`."""
    report = commands.add_parser(
        "report", help="an analysis in, one HTML page out", description=_REPORT
    )
    report.set_defaults(run=run)
    report.add_argument(
        "path",
        type=pathlib.Path,
        metavar="PATH",
        help="the folder that `tbtjax analyze --out` wrote, or its analysis.json",
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
    from tbtjax.report.page import PageError, analysis_page, read_analysis

    try:
        page = analysis_page(read_analysis(options.path))
        options.out.write_text(page, encoding="utf-8")
    except PageError as error:
        return failed("report", str(error))
    except ModuleNotFoundError as error:
        wanted = "expected vl-convert-python (pip install 'tbtjax[report]')"
        return failed("report", f"{error.name} is not installed; {wanted}")
    except OSError as error:
        reason = error.strerror or error
        return failed("report", f"--out {options.out}: {reason}; expected a file to write")
    print(f"Written to {options.out} ({len(page.encode()) / 1e6:.1f} MB)")
    return 0
