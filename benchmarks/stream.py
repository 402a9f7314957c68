"""`tbtjax threshold` on a stream of games beside Python's `json`: `python -m benchmarks.stream`.

Each measurement is a process of its own, its start included: the command on JSON Lines and on
Parquet, with and without programs compiled by an earlier run, and a loop of `json.loads` and
`json.dumps` over the same lines. Wall time and the largest memory in use. A process starts with the
memory of the one that starts it as its largest, so this one imports little.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

_MODELS = 10

_JSON_LOOP = """\
import json, sys
with open(sys.argv[1]) as source, open(sys.argv[2], "w") as sink:
    for line in source:
        sink.write(json.dumps(json.loads(line)) + "\\n")
"""


def write_inputs(count: int, folder: pathlib.Path) -> None:
    """Games as JSON Lines and as Parquet, `games.jsonl` and `games.parquet` in the folder."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    from benchmarks.workloads import draw_games

    games = draw_games("equal", count, _MODELS, "float64")
    lines, table = folder / "games.jsonl", folder / "games.parquet"
    cost = {"kind": "linear", "rate": 1}
    with lines.open("w") as file:
        for i, rows in enumerate(zip(games.alpha, games.beta, games.rewards, strict=True)):
            alpha, beta, rewards = (row.tolist() for row in rows)
            record = {"id": i, "alpha": alpha, "beta": beta, "lower": 0, "upper": 1}
            file.write(json.dumps(record | {"rewards": rewards, "cost": cost}) + "\n")
    offsets = np.arange(0, (count + 1) * _MODELS, _MODELS, dtype=np.int32)

    def lists(x):
        return pa.ListArray.from_arrays(offsets, x.ravel())

    columns = {
        "id": pa.array(np.arange(count)),
        "alpha": lists(games.alpha),
        "beta": lists(games.beta),
        "lower": pa.array(np.zeros(count)),
        "upper": pa.array(np.ones(count)),
        "rewards": lists(games.rewards),
        "cost.kind": pa.array(["linear"] * count),
        "cost.rate": pa.array(np.ones(count)),
    }
    parquet.write_table(pa.table(columns), table)


def measure(command: list[str], variables: dict[str, str]) -> dict:
    """Seconds and largest memory (MiB) of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} failed: {said}")
    return {
        "seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "memory_mib": usage.ru_maxrss / 1024,
        "said": said.strip(),
    }


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; prints a line for each measurement and the ratios asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    parser.add_argument("--games", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, help="results file (JSON)")
    options = parser.parse_args(arguments)
    threshold = [sys.executable, "-m", "tbtjax.cli", "threshold"]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write = (
            f"import pathlib; from benchmarks import stream; stream.write_inputs({options.games},"
        )
        subprocess.run([sys.executable, "-c", f"{write} pathlib.Path({name!r}))"], check=True)
        lines, table = str(folder / "games.jsonl"), str(folder / "games.parquet")
        kept = {"JAX_COMPILATION_CACHE_DIR": str(folder / "programs")}
        fresh = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        to_lines, to_table = str(folder / "out.jsonl"), str(folder / "out.parquet")
        measured = {
            "json.loads and json.dumps": ([sys.executable, "-c", _JSON_LOOP, lines, to_lines], {}),
            "JSON Lines": ([*threshold, lines, "--out", to_lines], kept),
            "Parquet": ([*threshold, table, "--out", to_table], kept),
            "JSON Lines, compiling": ([*threshold, lines, "--out", to_lines], fresh),
            "Parquet, compiling": ([*threshold, table, "--out", to_table], fresh),
        }
        measure(*measured["Parquet"])  # compiles what the others find compiled
        found: dict[str, list[dict]] = {name: [] for name in measured}
        for _ in range(options.repeats):
            for name, what in measured.items():
                found[name].append(measure(*what))
    best = {name: min(runs, key=lambda run: run["seconds"]) for name, runs in found.items()}
    loop = best["json.loads and json.dumps"]["seconds"]
    print(f"{options.games:,} games of {_MODELS} models, best of {options.repeats}")
    for name, run in best.items():
        print(
            f"{name:26} {run['seconds']:8.2f} s  {loop / run['seconds']:6.2f} × json  "
            f"{run['processor_seconds']:8.2f} s of processors  {run['memory_mib']:7.0f} MiB"
        )
    if options.out is not None:
        from benchmarks import environment

        about = environment.describe()
        result = {"environment": about, "games": options.games, "runs": found}
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
