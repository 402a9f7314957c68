"""The arms race on a leaderboard: what happens without tune-before-test, and with enough of it?

Three models, a prize for each rank, and every developer answers the others round after round with
its best response, going a few steps past a rival where a tie would not do. Below the stabilizing
threshold Δ* there is no equilibrium: efforts climb until somebody gives up, all fall back, and it
starts again, with the ranking wrong much of the time. Above it, a race that somebody starts is over
in a few rounds.

Run it with `python examples/arms_race.py`; it writes arms_race.png. Needs Matplotlib.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import tbtjax
from tbtjax.dynamics import ArmsRace, best_response_dynamics

ROUNDS = 120
MARGIN = 25.0  # steps past the infimum
HEAD_START = 900.0  # steps with which the weakest model opens the race


def leaderboard() -> tbtjax.RankingGame:
    """Three models that learn at about the same rate; first place is worth 600 steps more."""
    curves = tbtjax.power_law([1.6, 1.0, 0.5], [0.62, 0.60, 0.57], lower=0.25, upper=0.95)
    return tbtjax.ranking_game(curves, [1000.0, 400.0, 100.0], tbtjax.linear_cost(1.0))


def races() -> tuple[float, list[tuple[float, ArmsRace]]]:
    """Δ*, and the races below and above it."""
    with jax.enable_x64(True):
        game = leaderboard()
        threshold = float(tbtjax.stabilizing_threshold(game).delta)
        levels = [0.0, 0.5 * threshold, 1.1 * threshold]
        start = jnp.array([0.0, 0.0, HEAD_START])
        played = [best_response_dynamics(game, delta, start, ROUNDS, MARGIN) for delta in levels]
        played = [jax.tree.map(np.asarray, race) for race in played]
        return threshold, list(zip(levels, played, strict=True))


def describe(threshold: float, played: list[tuple[float, ArmsRace]]) -> str:
    """A line for each race."""
    lines = [f"stabilizing threshold: {threshold:.1f} steps"]
    for delta, race in played:
        period = int(race.period)
        outcome = {0: "has not repeated", 1: "settles"}.get(
            period, f"repeats every {period} rounds"
        )
        lines.append(
            f"Δ = {delta:5.1f}: {outcome}; {float(race.total_effort.sum()):,.0f} steps spent in "
            f"{ROUNDS} rounds, ranking wrong in {float(race.wrong_ranking):.0%} of them"
        )
    return "\n".join(lines)


def draw(threshold: float, played: list[tuple[float, ArmsRace]], path: pathlib.Path) -> None:
    """Efforts against rounds, one panel for each level."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(len(played), sharex=True, sharey=True, figsize=(7.5, 6.5))
    for panel, (delta, race) in zip(panels, played, strict=True):
        efforts = np.asarray(race.efforts)
        for model, color in enumerate(("#1b4965", "#ca6702", "#94a89a")):
            panel.step(
                np.arange(ROUNDS + 1),
                efforts[:, model],
                where="post",
                color=color,
                label=("strongest", "second", "weakest")[model],
            )
        side = "below" if delta < threshold else "above"
        panel.set_title(
            f"Δ = {delta:.0f} steps, {side} Δ* = {threshold:.0f}", fontsize=10, loc="left"
        )
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.01)
    panels[-1].legend(frameon=False, ncols=3, fontsize=9, loc="upper right")
    panels[len(played) // 2].set_ylabel("additional effort (training steps)")
    panels[-1].set_xlabel("round")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Prints what happens and draws it."""
    parser = argparse.ArgumentParser(description="An arms race below and above Δ*.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("arms_race.png"))
    options = parser.parse_args(arguments)
    threshold, played = races()
    print(describe(threshold, played))
    draw(threshold, played, options.out)
    print(f"figure: {options.out}")


if __name__ == "__main__":
    main()
