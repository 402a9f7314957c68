"""Which tune-before-test level would hold real leaderboards still? 55 language models on MMLU.

Reads accuracies along fine-tuning (`mmlu_finetuning.csv` in the folder that `TBTJAX_DATA` names, by
default `../shared/data`; Dominguez-Olmedo, Dorner, Hardt, arXiv 2407.07890), fits every model with
fixed and with free limits, and works out Δ* for the leaderboard of each family, by size, and for
that of the ten best models, by final score. All leaderboards are one batch of games, padded with
absent models.

    python examples/case_study_mmlu.py [FIGURE.png]
"""

import os
import pathlib
import sys

import jax
import numpy as np

import tbtjax
from tbtjax.measure import FitFlag, Trajectories, fit_power_law, read_trajectories

#: What first place is worth, in training steps, and the score by chance.
WORTH, CHANCE = 1000.0, 0.25
TOP = 10


def data_path() -> pathlib.Path:
    """Where the measurements are."""
    default = pathlib.Path(__file__).parents[1] / ".." / "shared" / "data"
    return pathlib.Path(os.environ.get("TBTJAX_DATA") or default) / "mmlu_finetuning.csv"


def leaderboards(table: Trajectories) -> dict[str, list[str]]:
    """Models of each leaderboard, strongest first: families by size, and the top by score."""
    boards = {f"top {TOP}": list(table.arrays(order="score").models[:TOP])}
    for family in table.families:
        models = list(table.select(family=family).arrays(order="size").models)
        if 2 <= len(models) <= TOP:
            boards[family] = models
    return boards


def study(table: Trajectories) -> list[dict]:
    """Δ* of each leaderboard by both kinds of curves, and what speaks against trusting it."""
    data = table.arrays(order="size")
    boards = leaderboards(table)
    place = {name: index for index, name in enumerate(data.models)}
    index = np.zeros((len(boards), TOP), int)
    present = np.zeros((len(boards), TOP), bool)
    for row, models in enumerate(boards.values()):
        index[row, : len(models)] = [place[name] for name in models]
        present[row, : len(models)] = True
    rewards = WORTH * np.asarray(tbtjax.winner_take_all(TOP))
    rows = [
        {"board": board, "models": models, "odd": 0, "reversed": 0}
        for board, models in boards.items()
    ]
    for limits in ("fixed", "free"):
        fit = fit_power_law(
            data.steps,
            data.scores,
            questions=data.questions,
            limits=limits,
            lower=CHANCE * (limits == "fixed"),
        )
        flags = np.asarray(fit.flags)[index]
        lower, upper = (
            (CHANCE, 1.0)
            if limits == "fixed"
            else (fit.curves.lower[index], fit.curves.upper[index])
        )
        curves = tbtjax.power_law(fit.curves.alpha[index], fit.curves.beta[index], lower, upper)
        game = tbtjax.ranking_game(curves, rewards, tbtjax.linear_cost(1.0), present=present)
        answer = tbtjax.stabilizing_threshold(game)
        for row, found in enumerate(rows):
            misfits = (flags[row] & FitFlag.MISFIT) != 0
            falling = (flags[row] & FitFlag.DECREASING) != 0
            found[limits] = float(answer.delta[row])
            found[f"{limits}_upper"] = float(answer.upper[row])
            found[f"{limits}_misfits"] = int(np.sum(misfits & present[row]))
            found["odd"] = max(found["odd"], int(np.sum(falling & present[row])))
    last = np.array([row[np.isfinite(row)][-1] for row in data.scores])
    for row, found in enumerate(rows):
        scores = last[index[row, present[row]]]
        found["reversed"] = int(np.sum(np.diff(scores) > 0))
    return rows


def _level(delta: float, upper: float) -> str:
    if np.isinf(delta):
        return "none"
    # Beyond ten times what was measured an end says nothing.
    return f"{delta:,.0f}" + (f" up to {upper:,.0f}" if upper < 40_000 else "")


def draw(rows: list[dict], path: str) -> None:
    """Δ* of every leaderboard, by both kinds of curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    axes = figure.subplots()
    none = 1e5
    for offset, limits, colour, marker in (
        (0.12, "fixed", "#332288", "o"),
        (-0.12, "free", "#CC6677", "s"),
    ):
        levels = np.array([row[limits] for row in rows])
        places = np.arange(len(rows))[::-1] + offset
        axes.plot(
            np.where(np.isinf(levels), none, levels),
            places,
            marker,
            color=colour,
            ms=6,
            ls="none",
            label=f"{limits} limits",
        )
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks(
        [0, 1, 10, 100, 1000, 10000, none], ["0", "1", "10", "100", "1,000", "10,000", "none"]
    )
    axes.axvline(4000, color="#666666", lw=1, ls="-.", label="last measured step")
    axes.set_yticks(
        np.arange(len(rows))[::-1], [f"{row['board']} ({len(row['models'])})" for row in rows]
    )
    axes.set_xlabel(f"Δ* for a first place worth {WORTH:,.0f} steps (training steps)")
    axes.grid(alpha=0.25, lw=0.6)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=130)


def main() -> int:
    """Prints the table; draws the figure if a path is given."""
    path = data_path()
    if not path.exists():
        print(f"{path} is not there; set TBTJAX_DATA to the folder that has it", file=sys.stderr)
        return 2
    with jax.enable_x64(True):
        rows = study(read_trajectories(path))
    print(f"Δ* for a first place worth {WORTH:,.0f} steps, 55 models on MMLU")
    print(
        f"{'leaderboard':14}{'models':>7}  {'fixed limits':22}{'free limits':22}{'misfits':>9}"
        f"{'falling':>9}{'reversed':>10}"
    )
    for row in rows:
        misfits = f"{row['fixed_misfits']}, {row['free_misfits']}"
        fixed, free = (_level(row[x], row[f"{x}_upper"]) for x in ("fixed", "free"))
        print(
            f"{row['board']:14}{len(row['models']):7}  {fixed:22}{free:22}{misfits:>9}"
            f"{row['odd']:9}{row['reversed']:10}"
        )
    if sys.argv[1:]:
        draw(rows, sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
