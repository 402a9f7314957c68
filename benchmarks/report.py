"""From times to figures: rates, ratios, shares of the floor, goals; and the printed tables."""

import jax
import numpy as np

from benchmarks import roofline as roofline_module
from benchmarks.rows import Row, on_devices
from benchmarks.timing import Times, paired_ratio


def row_result(row: Row, times: dict[str, Times], roofline: dict | None) -> dict:
    """The record of one row: every contestant's figures and how long it takes beside ours."""
    contestants = []
    for contestant in row.contestants:
        measured = times[contestant.name]
        seconds = float(np.median(measured.seconds))
        rate = contestant.games / seconds
        entry = {
            "name": contestant.name,
            "games": contestant.games,
            "devices": contestant.devices,
            "ours": contestant.ours,
            "milliseconds": 1e3 * seconds,
            "milliseconds_quartiles": [
                1e3 * float(x) for x in np.quantile(measured.seconds, [0.25, 0.75])
            ],
            "games_per_second": rate,
            "pairs_per_second": rate * (row.games.num_models - 1),
            "first_call_seconds": measured.first,
        }
        if contestant.answers is not None:
            worst, wrong, checked = row.check(contestant, contestant.answers(measured.result))
            entry.update(worst_error=worst, wrong=wrong, checked=checked)
        share = _share_of_floor(row, contestant, measured, roofline)
        if share is not None:
            entry["share_of_floor"] = share
        contestants.append(entry)
    return {
        "row": row.name,
        "workload": row.facts,
        "contestants": contestants,
        "ratios": _ratios(row, times),
    }


def _share_of_floor(row, contestant, measured, roofline) -> float | None:
    work = _work_of(row.name, contestant.name)
    if roofline is None or work is None or not contestant.ours:
        return None
    moved = sum(x.nbytes for x in row.games.arrays())
    moved += sum(np.size(x) * x.dtype.itemsize for x in jax.tree.leaves(measured.result))
    models, dtype = row.games.num_models, row.games.dtype.name
    floor = roofline_module.floor_seconds(
        roofline, work, dtype, models, contestant.games, moved, contestant.devices
    )
    return floor / float(np.median(measured.seconds))


def _work_of(row_name: str, contestant_name: str) -> str | None:
    """Whose floor applies to one of our contestants; None for the others."""
    kind, limits = row_name.split("/")[:2]
    mine = {
        "tbtjax": "threshold" if kind == "threshold" else kind,
        "power law": "threshold",
        "any curve": "general",
        "adjacent": "threshold",
        "all": "all",
        "value": "threshold",
        "value and gradient": "gradient",
        "decreasing β": "all",
        "shuffled β": "all",
    }
    found = mine.get(contestant_name.rpartition(", ")[0])
    return None if found is None else f"{found}/{limits}"


def _per_game(row: Row, times: dict[str, Times], name: str) -> np.ndarray:
    games = next(c.games for c in row.contestants if c.name == name)
    return times[name].seconds / games


def _ratios(row: Row, times: dict[str, Times]) -> list[dict]:
    """Every contestant's time per game over that of each of the row's first kind."""
    names = [contestant.name for contestant in row.contestants]
    kind = names[0].rpartition(", ")[0]
    bases = [name for name in names if name.rpartition(", ")[0] == kind]
    return [
        {
            "of": name,
            "to": base,
            **paired_ratio(_per_game(row, times, name), _per_game(row, times, base)),
        }
        for base in bases
        for name in names
        if name != base
    ]


def goals(row: Row, times: dict[str, Times]) -> list[dict]:
    """The project's goals that this row speaks to, with what was reached."""
    found = []
    most = max(c.devices or 1 for c in row.contestants)
    work, limits, models, dtype = row.name.split("/")

    def per_game(name):
        """Time per game of the contestant, or the better of those whose name begins so."""
        names = [c.name for c in row.contestants if c.name.startswith(name)]
        return np.min([_per_game(row, times, x) for x in names], axis=0) if names else None

    def add(what, numerator, denominator, goal, *, at_least):
        top, bottom = per_game(numerator), per_game(denominator)
        if top is None or bottom is None:
            return
        reached = paired_ratio(top, bottom)
        met = reached["median"] >= goal if at_least else reached["median"] <= goal
        found.append(
            {
                "row": row.name,
                "work": what,
                "reached": reached,
                "goal": goal,
                "at_least": at_least,
                "met": bool(met),
            }
        )

    where = on_devices(most)
    if work == "threshold" and dtype == "float64":
        mine = f"tbtjax, {where}"
        equal = limits == "equal"
        add("× SciPy brentq loop", "SciPy brentq", mine, 300 if equal else 100, at_least=True)
        if equal:
            add("× optimistix Newton (the better)", "optimistix Newton", mine, 15, at_least=True)
            goal = 1.5 if models == "n5" else 1.0
            add("× numba Newton", "numba newton", mine, goal, at_least=True)
        else:
            add("× numba (the better)", "numba", mine, 1.2, at_least=True)
    if work == "gradient":
        value, gradient = f"value, {where}", f"value and gradient, {where}"
        add("gradient too, × value", gradient, value, 1.5, at_least=False)
    if work == "all":
        add("all pairs, × adjacent", f"all, {where}", f"adjacent, {where}", 6, at_least=False)
    if jax.default_backend() != "cpu" and row.name == "threshold/equal/n5/float32":
        rates = 1 / _per_game(row, times, f"tbtjax, {where}")
        reached = paired_ratio(rates, np.ones_like(rates))
        found.append(
            {
                "row": row.name,
                "work": "games per second",
                "reached": reached,
                "goal": 1e9,
                "at_least": True,
                "met": reached["median"] >= 1e9,
            }
        )
    return found


def print_row(result: dict) -> None:
    facts = result["workload"]
    print(
        f"\n{result['row']}: {facts['games']:,} games, Δ* > 0 in "
        f"{facts['share_of_games_unstable_at_0']:.0%} ({facts['share_of_pairs_unstable_at_0']:.0%} "
        "of pairs)"
    )
    bases = list(dict.fromkeys(x["to"] for x in result["ratios"]))
    ratios = {(x["of"], x["to"]): x["median"] for x in result["ratios"]}
    shown = [f"× {base}" for base in bases]
    print(
        f"{'':30}{'games':>9}{'ms':>10}{'games/s':>10}{'pairs/s':>10}{'floor':>7}"
        + "".join(f"{x:>26}" for x in shown)
        + f"{'first call':>12}{'worst':>9}{'wrong':>7}"
    )
    for entry in result["contestants"]:
        share = f"{entry['share_of_floor']:.1%}" if "share_of_floor" in entry else ""
        beside = [ratios.get((entry["name"], base), 1.0) for base in bases]
        checked = f"{entry['worst_error']:9.1e}{entry['wrong']:7d}" if "checked" in entry else ""
        print(
            f"{entry['name']:30}{entry['games']:9,}{entry['milliseconds']:10.2f}"
            f"{entry['games_per_second']:10.3g}{entry['pairs_per_second']:10.3g}{share:>7}"
            + "".join(f"{x:26.3g}" for x in beside)
            + f"{entry['first_call_seconds']:10.2f} s{checked}"
        )


def print_goals(found: list[dict]) -> None:
    print("\nGoals")
    for entry in found:
        sign = "≥" if entry["at_least"] else "≤"
        reached = entry["reached"]
        print(
            f"{'met' if entry['met'] else 'NOT MET':8}{entry['row']:32}{entry['work']:34}"
            f"{reached['median']:10.4g}  ({reached['low']:.4g} to {reached['high']:.4g})  "
            f"goal {sign} {entry['goal']:g}"
        )


def print_roofline(roofline: dict) -> None:
    print("\nRates of this machine (billions per second; copy: gigabytes per second)")
    for entry in roofline["rates"]:
        rate = entry.get("per_second", entry.get("bytes_per_second"))
        print(
            f"{entry['function']:8}{entry.get('dtype', ''):9}"
            f"{on_devices(entry['devices']):10}{rate / 1e9:9.3g}"
        )


def print_memory(entries: list[dict]) -> None:
    print("\nMemory by the compiler's analysis, 10⁶ games of 20 models (MB)")
    print(f"{'':50}{'inputs':>9}{'outputs':>9}{'temporary':>11}{'temporary/(in+out)':>20}")
    for entry in entries:
        name = f"{entry['call']}, {entry['limits']} limits, {entry['dtype']}"
        inputs, outputs = entry["input_bytes"] / 1e6, entry["output_bytes"] / 1e6
        print(
            f"{name:50}{inputs:9.1f}{outputs:9.1f}{entry['temporary_bytes'] / 1e6:11.1f}"
            f"{entry['ratio']:20.2f}"
        )
