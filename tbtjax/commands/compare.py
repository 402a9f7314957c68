"""`tbtjax compare`: rankings by direct evaluation against rankings after tuning."""

import argparse
import importlib.util
import pathlib
from typing import Any

from tbtjax.commands import failed

_COMPARE = """\
Reads scores of models before and after tune-before-test, and prints how far the two rankings of
each benchmark agree (Kendall's τ-b), which models swap and by how many standard errors, and how far
the rankings of different benchmarks agree. Tables, numbers and a figure go to the --out folder.
"""


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of `tbtjax`."""
    compare = commands.add_parser(
        "compare", help="rankings before and after tuning", description=_COMPARE
    )
    compare.set_defaults(run=run)
    compare.add_argument(
        "path",
        metavar="PATH",
        help="a CSV or Parquet table with columns benchmark, model, direct, tuned and, optional, "
        "direct_stderr, tuned_stderr (also before and after for direct and tuned)",
    )
    compare.add_argument(
        *("--benchmark", "--task"),
        nargs="+",
        metavar="NAME",
        help="these benchmarks only, exact names",
    )
    compare.add_argument(
        "--without", nargs="+", default=(), metavar="NAME", help="benchmarks to leave out"
    )
    compare.add_argument(
        "--lower-is-better",
        nargs="+",
        default=(),
        metavar="NAME",
        help="benchmarks on which less is better, such as bits per byte",
    )
    compare.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("tbtjax-comparison"),
        metavar="DIR",
        help="folder for agreement.json, CSV files and the figure, made where it is missing; files "
        "of an earlier run are replaced (default: ./tbtjax-comparison)",
    )


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from tbtjax.measure import TrajectoryError, agreement, read_direct_and_tuned
    from tbtjax.report import comparison

    try:
        scores = read_direct_and_tuned(
            options.path,
            benchmarks=options.benchmark,
            without=options.without,
            lower_is_better=options.lower_is_better,
        )
    except (TrajectoryError, FileNotFoundError) as error:
        return failed("compare", str(error))
    found = agreement(scores)
    print(comparison.to_text(scores, found))
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        written = comparison.write_files(scores, found, options.out)
        if importlib.util.find_spec("matplotlib") is None:
            note = "; no figure: matplotlib is not installed (pip install 'tbtjax[report]')"
        else:
            written += comparison.write_figure(found, options.out)
            note = ""
    except OSError as error:
        reason = error.strerror or error
        wanted = "expected a folder that can be written"
        return failed("compare", f"--out {options.out}: {reason}; {wanted}")
    print(f"Written to {options.out}: {', '.join(path.name for path in written)}{note}")
    return 0
