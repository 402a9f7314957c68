"""What a call costs beyond its computation, for one game: `python -m benchmarks.overhead`.

Building a game of 20 models from lists, NumPy and JAX arrays; warm calls of the public functions on
a built game, beside the same compiled program called on its flat arrays (the computation and JAX's
own dispatch). Medians and least of many calls, in microseconds.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tbtjax
from benchmarks import environment
from benchmarks.workloads import draw_games

_MODELS = 20


def microseconds(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median and least time of a warm call."""
    for _ in range(3):
        jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return 1e6 * float(np.median(times)), 1e6 * min(times)


def buildings() -> dict[str, Callable[[], Any]]:
    """A game of 20 models, built from arrays of three kinds."""
    games = draw_games("equal", 1, _MODELS, "float32")
    arrays = [x[0] for x in games.arrays()]

    def build(alpha, beta, rewards):
        cost = tbtjax.linear_cost(1.0)
        return tbtjax.ranking_game(tbtjax.power_law(alpha, beta), rewards, cost)

    kinds = {"lists": lambda x: x.tolist(), "NumPy arrays": np.asarray, "JAX arrays": jnp.asarray}
    made = {name: [make(x) for x in arrays] for name, make in kinds.items()}
    return {f"building from {k}": lambda v=values: build(*v) for k, values in made.items()}


def calls(game: tbtjax.RankingGame) -> dict[str, Callable[[tbtjax.RankingGame], Any]]:
    """Public functions of a built game."""
    efforts = np.zeros(_MODELS, np.float32)
    return {
        "stabilizing_threshold": tbtjax.stabilizing_threshold,
        "is_zero_effort_pne": lambda game: tbtjax.is_zero_effort_pne(game, 1.0),
        "just_overtake_effort": lambda game: tbtjax.just_overtake_effort(game, 1.0),
        "overtake_effort": lambda game: tbtjax.overtake_effort(game, 1.0),
        "baseline_scores": lambda game: tbtjax.baseline_scores(game, 1.0),
        "rule_of_thumb": tbtjax.rule_of_thumb,
        "best_response": lambda game: tbtjax.best_response(game, 1.0, efforts),
        "developer_utility": lambda game: tbtjax.developer_utility(game, 1.0, efforts),
        "deviation_gain": lambda game: tbtjax.deviation_gain(game, 1.0, efforts),
        "is_epsilon_pne": lambda game: tbtjax.is_epsilon_pne(game, 1.0, efforts),
        "optimal_tbt": lambda game: tbtjax.optimal_tbt(game, 1.0, 1.0),
    }


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints a line for each measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--out", type=pathlib.Path, help="results file (JSON)")
    options = parser.parse_args(arguments)
    results = {}
    print(f"{'microseconds':28} {'median':>9} {'least':>9} {'program alone':>14} {'beyond':>9}")
    for name, build in buildings().items():
        median, least = microseconds(build, options.repeats)
        results[name] = {"median": median, "least": least}
        print(f"{name:28} {median:9.1f} {least:9.1f}")
    game = next(iter(buildings().values()))()
    leaves, structure = jax.tree.flatten(game)
    for name, call in calls(game).items():
        median, least = microseconds(lambda call=call: call(game), options.repeats)
        program = jax.jit(
            lambda *x, call=call: jax.tree.leaves(call(jax.tree.unflatten(structure, x)))
        )
        alone = microseconds(lambda program=program: program(*leaves), options.repeats)
        results[name] = {"median": median, "least": least, "alone": alone}
        beyond = median - alone[0]
        print(f"{name:28} {median:9.1f} {least:9.1f} {alone[0]:14.1f} {beyond:9.1f}")
    if options.out is not None:
        result = {"environment": environment.describe(), "microseconds": results}
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
