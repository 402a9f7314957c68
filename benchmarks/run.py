"""Measures tbtjax beside its peers, in one process, interleaved: `python -m benchmarks.run`.

See `benchmarks/README.md` for what the columns mean.
"""

import argparse
import fnmatch
import functools
import json
import os
import pathlib
import sys

# Two host devices, so that batches can be split; read when JAX is first imported.
_FLAG = "--xla_force_host_platform_device_count"
if "jax" not in sys.modules and _FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=2".strip()

import jax  # noqa: E402

from benchmarks import environment, memory, report, roofline, rows, timing  # noqa: E402

_RESULTS = pathlib.Path(__file__).resolve().parent / "results"
_SIZES = ((5, 1), (20, 4))  # models, and by how much smaller their batch is


# What a trial run covers.
_QUICK = (
    "threshold/equal/n5/float64",
    "threshold/different/n5/float64",
    "gradient/equal/n5/float64",
    "overtake/equal/n5/float64",
    "verdict/equal/n5/float64",
)


def planned_rows(games: int) -> dict:
    """The rows by name, each a function that draws its games and sets its contestants up."""
    planned = {}

    def plan(work, limits, make, *first):
        for models, smaller in _SIZES:
            for dtype in ("float64", "float32"):
                row = functools.partial(make, *first, models, dtype, max(1, games // smaller))
                planned[f"{work}/{limits}/n{models}/{dtype}"] = row

    for limits in ("equal", "different"):
        plan("threshold", limits, rows.threshold_row, limits)
        plan("gradient", limits, rows.gradient_row, limits)
        for work in ("overtake", "verdict"):
            plan(work, limits, rows.effort_row, work, limits)
    plan("all", "equal", rows.deviations_row)
    plan("general", "equal", rows.general_row)
    plan("shuffled", "equal", rows.shuffled_row)
    plan("response", "equal", rows.response_row)
    # A race keeps all its rounds: fewer games, and float64, in which two computations of the same
    # race take the same turns.
    planned["dynamics/equal/n5/float64"] = functools.partial(
        rows.dynamics_row, 5, "float64", max(1, games // 256)
    )
    return planned


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 0 unless one of tbtjax's answers was wrong."""
    options = _parse(arguments)
    keeps = not options.release_memory and environment.keep_freed_memory()
    on_cpu = jax.default_backend() == "cpu"
    games = options.games or ((1 << 12 if options.quick else 1 << 20) if on_cpu else 1 << 22)
    repeats = options.repeats or (3 if options.quick else 9)
    planned = planned_rows(games)
    everything = [*planned, "memory", "roofline"]
    if options.quick and not options.only:
        wanted = [*_QUICK, "memory", "roofline"]
    else:
        patterns = [f"*{x}*" for x in options.only or [""]]
        wanted = [x for x in everything if any(fnmatch.fnmatch(x, y) for y in patterns)]
    if not wanted:
        asked = ", ".join(options.only)
        print(f"--only {asked} matches none of: {', '.join(everything)}", file=sys.stderr)
        return 2

    about = environment.describe() | {"keeps_freed_memory": keeps}
    _print_environment(about)
    results: dict = {"environment": about, "repeats": repeats, "bounds": rows.BOUND}
    found, wrong = [], 0
    rates = None
    if "roofline" in wanted:
        rates = roofline.measure(rows.meshes(), quick=options.quick)
        results["roofline"] = rates
        report.print_roofline(rates)
    results["rows"] = []
    out = options.out or _RESULTS / f"{about['device']}.json"
    out.parent.mkdir(parents=True, exist_ok=True)

    def write():
        about["load_after"] = [round(x, 2) for x in os.getloadavg()]
        out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")

    for name in wanted:
        if name not in planned:
            continue
        # 64-bit mode only where a row needs it, as a user of float32 would have it.
        jax.config.update("jax_enable_x64", name.endswith("float64"))
        row = planned[name]()
        times = timing.time_interleaved(row.contestants, repeats)
        result = report.row_result(row, times, rates)
        report.print_row(result)
        results["rows"].append(result)
        found += report.goals(row, times)
        wrong += sum(entry.get("wrong", 0) for entry in result["contestants"] if entry["ours"])
        write()
    if "memory" in wanted:
        results["memory"] = memory.measure(quick=options.quick)
        report.print_memory(results["memory"])
        found += memory.goals(results["memory"])
    if not options.quick:  # small batches say nothing about the goals
        results["goals"] = found
        report.print_goals(found)
    write()
    print(f"\nWritten to {out}")
    if wrong:
        print(f"{wrong} of tbtjax's answers are wrong", file=sys.stderr)
    return 1 if wrong else 0


def _parse(arguments):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a trial: small batches and, without --only, a few rows",
    )
    parser.add_argument("--games", type=int, help="games of 5 models; a quarter of it for 20")
    parser.add_argument("--repeats", type=int, help="timed calls of each contestant")
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="rows whose name contains it; may be given several times",
    )
    parser.add_argument(
        "--release-memory",
        action="store_true",
        help="leave the C library as it is: it may return freed memory to the system, and the page "
        "faults of the next call are timed with it",
    )
    parser.add_argument("--out", type=pathlib.Path, help="results file (JSON)")
    options = parser.parse_args(arguments)
    for name in ("games", "repeats"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be 1 or more; got {value}")
    return options


def _print_environment(about: dict) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    print(
        f"{about['processor']}, {about['cores']} cores; {about['devices']} × {about['device_kind']}"
    )
    print(f"{versions}; commit {about['commit'][:12] or 'unknown'}")
    if not about["keeps_freed_memory"]:
        print("freed memory may be returned to the system between calls")
    numba = about["numba"]
    if numba is not None and not numba["svml"]:
        print("numba without SVML: its logarithms are the C library's, one at a time")
    if about["changed_since_commit"]:
        print(
            f"WARNING: {len(about['changed_since_commit'])} files differ from the commit: these "
            "figures belong to no commit",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
