"""`tbtjax analyze`: measured scores in, fitted curves and Δ* out."""

import argparse
import contextlib
import dataclasses
import importlib.resources
import importlib.util
import pathlib
import sys
from typing import Any

from tbtjax.commands import failed

#: The data of `tbtjax analyze` without PATH (examples/post_training_digits.py makes them), and
#: the score that guessing one of ten digits gets.
_PACKAGED, _PACKAGED_CHANCE = "digits_post_training.csv", 0.1

_ANALYZE = """\
Reads measured scores, fits a power-law curve to each model, and prints what it takes to overtake
and the threshold Δ*, for several worths of a better rank. Without PATH it reads the data that come
with the package. Figures and all numbers go to the --out folder.
"""

_PATH = """\
a CSV or Parquet table with columns model, step, score and, optional, task, metric, filter, stderr,
questions, family, parameters_billion; a result file of lm-evaluation-harness; a trainer_state.json
of Hugging Face; or a folder with such JSON files
"""


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of `tbtjax`."""
    analyze = commands.add_parser(
        "analyze", help="measured scores in, fitted curves and Δ* out", description=_ANALYZE
    )
    analyze.set_defaults(run=run)
    analyze.add_argument("path", nargs="?", metavar="PATH", help=_PATH)

    which = analyze.add_argument_group("which measurements")
    which.add_argument(
        *("--task", "--benchmark"), metavar="NAME", help="the task, where PATH holds several"
    )
    which.add_argument("--metric", metavar="NAME", help="the metric, where PATH holds several")
    which.add_argument("--filter", metavar="NAME", help="the filter, where PATH holds several")
    which.add_argument("--models", nargs="+", metavar="NAME", help="these models only, exact names")
    which.add_argument("--family", nargs="+", metavar="NAME", help="these families only")
    which.add_argument(
        "--order",
        choices=("size", "score"),
        help="capability order: parameters_billion, or the score at the largest step "
        "(default: size where all models have one)",
    )

    files = analyze.add_argument_group("result files that are no tables")
    files.add_argument(
        "--step-pattern",
        metavar="REGEX",
        help=r"where a path or the model's arguments name the step: one group, such as "
        r"'epoch_(\d+)' (default: step, checkpoint, iter and the like with a number)",
    )
    files.add_argument(
        "--model-pattern",
        metavar="REGEX",
        help="the same for the model's name (default: the name in the file, else the folder's)",
    )
    files.add_argument(
        "--default-step",
        type=float,
        metavar="STEP",
        help="step of the files that name none, such as 0 for untrained models (default: they are "
        "left out)",
    )

    curves = analyze.add_argument_group("the curves")
    curves.add_argument(
        "--lower",
        type=_share,
        metavar="SCORE",
        help="lower limit of the score, such as chance (default: 0; the packaged data: chance)",
    )
    curves.add_argument(
        "--fit",
        choices=("weighted", "logit-ols"),
        default="weighted",
        help="weighted: least squares on the score, each weighted by its noise (default); "
        "logit-ols: ordinary least squares on the logit, the paper's way",
    )
    curves.add_argument(
        "--limits",
        choices=("fixed", "free", "shared"),
        default="fixed",
        help="fixed: --lower and 1 (default); free: both limits are fitted for each model; shared: "
        "one pair for all models",
    )
    curves.add_argument(
        "--loss",
        choices=("chi2", "deviance"),
        default="chi2",
        help="what weighted fits minimise: chi2 (default), or the binomial deviance, which is "
        "better where right or wrong answers are few and needs the number of questions",
    )

    curves.add_argument(
        "--ordered",
        action="store_true",
        help="also fit curves that follow the capability order (alpha and beta fall from model to "
        "model), and say what that costs in chi2; with --limits fixed or shared",
    )

    game = analyze.add_argument_group("the game")
    game.add_argument(
        "--rewards",
        type=_rewards,
        default="winner-take-all",
        metavar="SCHEME",
        help="winner-take-all (default), top-k:K, equal-gaps or geometric:R",
    )
    game.add_argument(
        "--worth",
        type=_steps,
        nargs="+",
        default=[10.0, 100.0, 1000.0, 10000.0],
        metavar="STEPS",
        help="what the largest reward gap between neighbouring ranks is worth, in training steps "
        "(default: 10 100 1000 10000)",
    )
    game.add_argument(
        "--deviations",
        choices=("all", "adjacent"),
        default="all",
        help="all: a model may pass any stronger one (default, exact); adjacent: the next one only",
    )
    noise = analyze.add_argument_group("intervals and families of curves")
    noise.add_argument(
        "--resamples",
        type=_count,
        default=1000,
        metavar="N",
        help="how often the scores are drawn anew and fitted, for intervals by fixed and by free "
        "limits and by the joined points (default: 1000; 0: none of it)",
    )
    noise.add_argument(
        "--confidence",
        type=_confidence,
        default=0.9,
        metavar="SHARE",
        help="share of the resamples inside an interval (default: 0.9)",
    )
    noise.add_argument(
        "--seed", type=_count, default=0, metavar="N", help="of the resamples (default: 0)"
    )
    analyze.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("tbtjax-analysis"),
        metavar="DIR",
        help="folder for figures, analysis.json and CSV files, made where it is missing; files of "
        "an earlier run are replaced (default: ./tbtjax-analysis)",
    )


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a score from 0 to below 1; got {text!r}")


def _steps(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a positive number of training steps; got {text!r}")


def _count(text: str) -> int:
    with contextlib.suppress(ValueError):
        if 0 <= int(text) < 2**31:
            return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more; got {text!r}")


def _confidence(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a share between 0 and 1; got {text!r}")


def _progress(share: float) -> None:
    """A bar on stderr, on a terminal alone."""
    if sys.stderr.isatty():
        filled = round(40 * share)
        end = "\r" + " " * 70 + "\r" if share >= 1 else ""
        bar = "#" * filled + "." * (40 - filled)
        print(f"\rresampling [{bar}] {share:4.0%}{end}", end="", file=sys.stderr, flush=True)


def _rewards(text: str) -> Any:
    from tbtjax.report.settings import AnalysisError, RewardScheme

    try:
        return RewardScheme.parse(text)
    except AnalysisError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    import jax

    from tbtjax.measure import TrajectoryError
    from tbtjax.report.analysis import analyze
    from tbtjax.report.families import Doubt
    from tbtjax.report.files import write_files
    from tbtjax.report.settings import AnalysisError, Settings
    from tbtjax.report.text import to_text

    try:
        trajectories, lower = _selected(options)
        settings = Settings(
            order=options.order,
            lower=lower,
            fit=options.fit,
            limits=options.limits,
            rewards=options.rewards,
            worths=tuple(options.worth),
            deviations=options.deviations,
            loss=options.loss,
            doubt=Doubt(options.resamples, options.confidence, options.seed),
            ordered=options.ordered,
        )
        with jax.enable_x64(True):
            analysis = analyze(trajectories, settings, _progress)
    except (TrajectoryError, AnalysisError, FileNotFoundError) as error:
        return failed("analyze", str(error))
    print(to_text(analysis))
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        written = write_files(analysis, options.out)
        if importlib.util.find_spec("matplotlib") is None:
            note = "; no figures: matplotlib is not installed (pip install 'tbtjax[report]')"
        else:
            from tbtjax.report.figures import write_figures

            written += write_figures(analysis, options.out)
            note = ""
    except OSError as error:
        reason = error.strerror or error
        wanted = "expected a folder that can be written"
        return failed("analyze", f"--out {options.out}: {reason}; {wanted}")
    print(f"Written to {options.out}: {', '.join(path.name for path in written)}{note}")
    return 0


def _selected(options: argparse.Namespace) -> tuple[Any, float]:
    """The trajectories that the options ask for, and the lower limit of the score."""
    from tbtjax.measure import read_trajectories

    lower = 0.0 if options.lower is None else options.lower
    if options.path is None:
        data = importlib.resources.files("tbtjax") / "data" / _PACKAGED
        with importlib.resources.as_file(data) as path:
            trajectories = read_trajectories(path)
        trajectories = dataclasses.replace(trajectories, source=f"packaged data {_PACKAGED}")
        lower = _PACKAGED_CHANCE if options.lower is None else lower
    else:
        trajectories = read_trajectories(
            options.path,
            task=options.task,
            metric=options.metric,
            filter=options.filter,
            step_pattern=options.step_pattern,
            model_pattern=options.model_pattern,
            default_step=options.default_step,
        )
    trajectories = trajectories.select(
        models=options.models,
        family=options.family,
        task=options.task,
        metric=options.metric,
        filter=options.filter,
    )
    return trajectories.within_limits(lower), lower
