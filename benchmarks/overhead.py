"""What a call costs beyond its computation, for one game: `python -m benchmarks.overhead`.

Building a game of 20 models from lists, NumPy and JAX arrays; warm calls of the public functions on
a built game, in turn with the same program compiled for flat arrays (the computation and JAX's own
dispatch). Least and median of many calls, in microseconds. On a machine that others use too the
least is what a call takes when nobody is in its way.
"""

import argparse
import gc
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
from tbtjax.enumeration import grid_equilibria, payoff_array
from tbtjax.game import problems

_MODELS = 20
# Brute force looks at all profiles: a game of few models.
_FEW_MODELS = 3


def microseconds(calls: list[Callable[[], Any]], repeats: int) -> np.ndarray:
    """Times of warm calls, made in turn, `[calls, repeats]`."""
    for call in calls * 3:
        jax.block_until_ready(call())
    times = np.empty((len(calls), repeats))
    gc.disable()
    for i in range(repeats):
        for j, call in enumerate(calls):
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[j, i] = time.perf_counter() - start
    gc.enable()
    return 1e6 * times


def built(models: int, kind: Callable[[np.ndarray], Any]) -> Callable[[], tbtjax.RankingGame]:
    """Builds a game from arrays of a kind."""
    games = draw_games("equal", 1, models, "float32")
    alpha, beta, rewards = (kind(x[0]) for x in games.arrays())

    def build():
        curves = tbtjax.power_law(alpha, beta)
        return tbtjax.ranking_game(curves, rewards, tbtjax.linear_cost(1.0))

    return build


def calls() -> dict[str, Callable[[tbtjax.RankingGame], Any]]:
    """Every public function of a built game that compiles to a program."""
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
        "best_response_dynamics": lambda game: tbtjax.best_response_dynamics(
            game, 1.0, efforts, rounds=2, margin=0.1
        ),
        "designer_utility": lambda game: tbtjax.designer_utility(game, 1.0, efforts, 1.0, 1.0),
        "optimal_tbt": lambda game: tbtjax.optimal_tbt(game, 1.0, 1.0),
        "check_assumptions": lambda game: tbtjax.check_assumptions(game, 1e6),
    }


def calls_of_few() -> dict[str, Callable[[tbtjax.RankingGame], Any]]:
    """Public functions of a built game of few models."""
    levels = np.linspace(0, 10, 4, dtype=np.float32)
    return {
        "payoff_array": lambda game: payoff_array(game, 1.0, levels),
        "grid_equilibria": lambda game: grid_equilibria(game, 1.0, levels),
    }


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints a line for each measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--only", default="", metavar="TEXT", help="calls with this in their name")
    parser.add_argument("--out", type=pathlib.Path, help="results file (JSON)")
    options = parser.parse_args(arguments)
    results = {}
    print(f"{'least of':25} {'the call':>9} {'the program':>11} {'beyond':>9} {'(medians)':>9}")

    def measure(name: str, *both: Callable[[], Any]) -> None:
        if options.only not in name:
            return
        times = microseconds(list(both), options.repeats)
        least, median = np.min(times, axis=1).tolist(), np.median(times, axis=1).tolist()
        results[name] = {"least": least, "median": median}
        line = f"{name:25} {least[0]:9.1f}"
        if len(both) == 2:
            line += f" {least[1]:11.1f} {least[0] - least[1]:9.1f} {median[0] - median[1]:9.1f}"
        print(line)

    kinds = {"lists": lambda x: x.tolist(), "NumPy arrays": np.asarray, "JAX arrays": jnp.asarray}
    for name, kind in kinds.items():
        measure(f"building from {name}", built(_MODELS, kind))
    for models, functions in ((_MODELS, calls()), (_FEW_MODELS, calls_of_few())):
        game = built(models, np.asarray)()
        programs = {name: (call, call) for name, call in functions.items()}
        if models == _MODELS:
            programs["validate"] = (tbtjax.validate, problems)
        leaves, structure = jax.tree.flatten(game)
        for name, (call, computes) in programs.items():
            program = jax.jit(
                lambda *x, f=computes, s=structure: jax.tree.leaves(f(jax.tree.unflatten(s, x)))
            )
            measure(name, lambda f=call, g=game: f(g), lambda f=program, x=leaves: f(*x))
    if options.out is not None:
        result = {"environment": environment.describe(), "microseconds": results}
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
