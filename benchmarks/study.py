"""A Monte Carlo map beside the bare solver on games already drawn: `python -m benchmarks.study`.

The map is the whole of `tbtjax.study.sweep`: drawing, thresholds, statistics, and a Zarr store on
disk. The bare solver is `stabilizing_threshold(game).delta` alone on the same games, drawn before
the clock starts, as many cells at a time as the sweep takes, split over the same devices. Both run
in one process, in turn; compilation is timed apart. The cells' means are compared.
"""

import argparse
import json
import os
import pathlib
import resource
import sys
import tempfile
import time

_MODELS = 10
#: The ends of the axes, both logarithmic.
_PRIZES, _RATES = (1.0, 1e4), (1e-2, 1e2)


def configuration(side: int, draws: int):
    """A map of `side` × `side` cells over the prize and the cost of a training step."""
    from tbtjax.study import Sweep

    prize = {"parameter": "rewards.prize", "log": list(_PRIZES), "points": side}
    rate = {"parameter": "cost.rate", "log": list(_RATES), "points": side}
    return Sweep.model_validate(
        {
            "seed": 1,
            "draws": draws,
            "quantities": ["threshold"],
            "games": {
                "count": _MODELS,
                "capability": {"kind": "normal", "mean": 0.0, "deviation": 1.0},
                "learning_rate": {"kind": "uniform", "low": 0.5, "high": 1.0},
                "rewards": {"scheme": "winner-take-all", "prize": 100.0},
                "cost": {"kind": "linear", "rate": 1.0},
            },
            "axes": [prize, rate],
        }
    )


def bare_solver(config):
    """The solver alone over all cells of a map: a function that returns the means of Δ*."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    import tbtjax
    from tbtjax.study.grid import make_grid
    from tbtjax.study.kernel import drawn_models

    grid, models = make_grid(config), drawn_models(config)
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    place = NamedSharding(mesh, PartitionSpec("devices"))
    chunks = [grid.chunk(i).cells for i in range(grid.chunks)]
    width = max(len(cells["cost.rate"]) for cells in chunks)
    shape = (width, config.draws, _MODELS)
    alpha, beta = (
        jax.device_put(np.broadcast_to(models[x], shape), place) for x in ("alpha", "beta")
    )

    @jax.jit
    def solve(alpha, beta, prizes, rates):
        rewards = prizes[:, None, None] * tbtjax.winner_take_all(_MODELS)
        cost = tbtjax.linear_cost(rates[:, None, None])
        game = tbtjax.ranking_game(tbtjax.power_law(alpha, beta), rewards, cost)
        return tbtjax.stabilizing_threshold(game).delta

    def means():
        found = []
        for cells in chunks:
            count = len(cells["cost.rate"])
            # A narrower chunk is filled up, so that one program serves all.
            values = [np.resize(cells[name], width) for name in ("rewards.prize", "cost.rate")]
            delta = solve(alpha, beta, *(jax.device_put(x, place) for x in values))
            found.append(np.mean(np.asarray(delta)[:count], axis=-1))
        return np.concatenate(found)

    return means


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 0 if the map's means are those of the bare solver."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.add_argument("--side", type=int, default=64, help="cells along each axis")
    parser.add_argument("--draws", type=int, default=10_000, help="games in a cell")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, help="results file (JSON)")
    options = parser.parse_args(arguments)
    # As `tbtjax sweep` does: a device for each core.
    devices = f"--xla_force_host_platform_device_count={os.cpu_count()}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {devices}".strip()

    import jax
    import numpy as np
    import xarray as xr

    from benchmarks import environment
    from benchmarks.timing import paired_ratio
    from tbtjax.study import sweep

    config = configuration(options.side, options.draws)
    games = options.side**2 * options.draws
    # For the whole process: a mode set for one thread alone leaves the batch on one device.
    jax.config.update("jax_enable_x64", True)
    with tempfile.TemporaryDirectory() as folder:

        def whole(number):
            path = f"{folder}/{number}.zarr"
            start = time.perf_counter()
            sweep(config, path)
            return time.perf_counter() - start, path

        first, path = whole("first")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        bare = bare_solver(config)
        means = bare()
        with xr.open_zarr(path) as store:
            agree = np.allclose(store["delta_mean"].values.ravel(), means, rtol=1e-9)
        seconds = np.empty((options.repeats, 2))
        for i in range(options.repeats):
            seconds[i, 0] = whole(i)[0]
            start = time.perf_counter()
            bare()
            seconds[i, 1] = time.perf_counter() - start
    ratio = paired_ratio(seconds[:, 1], seconds[:, 0])
    print(f"{options.side} × {options.side} cells × {options.draws:,} games of {_MODELS} models")
    print(f"first sweep, compiling {first:8.2f} s   largest memory {memory:.0f} MiB")
    for name, x in zip(("sweep", "bare solver"), np.median(seconds, axis=0), strict=True):
        print(f"{name:22} {x:8.2f} s   {games / x / 1e6:.2f} million games/s")
    print(f"throughput of the bare solver's: {ratio['median']:.2f}; means agree: {agree}")
    if options.out is not None:
        result = {
            "environment": environment.describe(),
            "cells": options.side**2,
            "draws": options.draws,
            "models": _MODELS,
            "first_seconds": first,
            "memory_mib": memory,
            "sweep_seconds": seconds[:, 0].tolist(),
            "bare_seconds": seconds[:, 1].tolist(),
            "throughput": ratio,
        }
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
