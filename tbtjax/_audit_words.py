"""An audit of one game in words."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def report_in_words(report: Any, names: Sequence[str] | None, most: int) -> str:
    """`AssumptionReport.describe`."""
    _check_single(report)
    reach = steps_in_words(report.max_effort)
    if not report.valid:
        return (
            f"Not checked: a parameter is unusable (`validate(game)` names it), or max_effort "
            f"({reach}) is."
        )
    lines = [
        f"{condition}: {'fails: ' + '; '.join(found) if found else 'holds'}."
        for condition, found in violations_in_words(report, names, most).items()
    ]
    if report.holds:
        follows = (
            "neighbours alone decide whether nobody gains, and a level that stabilizes does so "
            "with all higher ones"
        )
    else:
        follows = (
            "passing several models at once can pay where passing one does not, and a level above "
            "a stabilizing one need not stabilize"
        )
    return "\n".join([*lines, f"At efforts up to {reach} steps: {follows}."])


def violations_in_words(
    report: Any, names: Sequence[str] | None, most: int
) -> dict[str, list[str]]:
    """`AssumptionReport.violations`."""
    _check_single(report)
    if not report.valid:
        raise ValueError(
            "the game is not valid: `validate(game)` names the parameter, or max_effort is not ≥ 0"
        )
    n = report.c2_rising.fails.shape[-1]
    names = [f"model {i}" for i in range(n)] if names is None else list(names)
    if len(names) != n:
        raise ValueError(f"names must have {n} entries, one per model; got {len(names)}")

    def of_models(check: Any, text: str) -> list[str]:
        """Phrases on the models that break a condition, worst first."""

        def phrase(index, amount, start, end):
            start, end = steps_in_words(start), steps_in_words(end)
            return text.format(name=names[index[0]], amount=amount, start=start, end=end)

        values = [np.asarray(x) for x in (check.amount, check.start, check.end)]
        if n > 1 and np.all(check.fails) and all(np.all(x == x[0]) for x in values):
            every = text.format(
                name="every model",
                amount=values[0][0],
                start=steps_in_words(values[1][0]),
                end=steps_in_words(values[2][0]),
            )
            return [every, *_resolution(check)]
        return _phrases(check, phrase, "model", most)

    def of_pairs(check: Any, text: Callable[..., str]) -> list[str]:
        def phrase(index, *values):
            return text(names[index[0]], names[index[1]], *values)

        return _phrases(check, phrase, "pair", most)

    return {
        "4.1, one convex cost for all, c(0) = 0, c(e) > 0": [
            *of_models(report.cost_zero, "{name} pays {amount:.3g} for no effort"),
            *of_models(report.cost_positive, "{name} trains free of charge up to {end} steps"),
            *of_models(
                report.cost_convex,
                "{name}'s marginal cost falls by {amount:.3g} from {start} to {end} steps",
            ),
            *of_models(
                report.cost_common,
                "{name}'s cost differs from the strongest model's by {amount:.0%} (at {end} steps)",
            ),
        ],
        "C1, stronger models score higher": of_pairs(report.c1, _misorder),
        "C2, scores rise, ever slower, to a limit": [
            *of_models(
                report.c2_rising, "{name} falls by {amount:.3g} from {start} to {end} steps"
            ),
            *of_models(
                report.c2_concave,
                "{name}'s gain per step rises by {amount:.3g} from {start} to {end} steps",
            ),
            *of_models(report.c2_bounded, "{name} has no finite limit"),
        ],
        "C3, stronger models' lead in effort grows with the score": of_pairs(report.c3, _gap_fall),
    }


def _check_single(report: Any) -> None:
    if report.valid.ndim:
        raise ValueError(
            f"describe takes one game, this is a batch of shape {report.valid.shape}: pick one, as "
            "in report[0].describe()"
        )


def _misorder(weak: str, strong: str, amount: float, effort: float, _: float) -> str:
    if amount == 0:
        return f"{weak} ties with {strong} (at {steps_in_words(effort)} steps)"
    return f"{weak} is ahead of {strong} by up to {amount:.3g} (at {steps_in_words(effort)} steps)"


def _gap_fall(weak: str, strong: str, amount: float, start: float, end: float) -> str:
    by = f"by {steps_in_words(amount)} steps" if math.isfinite(amount) else "without bound"
    return (
        f"the effort that {weak} needs beyond {strong}'s falls {by} from score {start:.4g} "
        f"to {end:.4g}"
    )


def _phrases(check: Any, phrase: Callable[..., str], kind: str, most: int) -> list[str]:
    """The violations of one condition, worst first, and how many there are besides."""
    arrays = [np.asarray(x) for x in (check.amount, check.start, check.end)]
    failing = [tuple(index) for index in np.argwhere(np.asarray(check.fails))]
    failing.sort(key=lambda index: -arrays[0][index])
    found = [phrase(index, *(x[index] for x in arrays)) for index in failing[:most]]
    others = len(failing) - len(found)
    if others:
        found.append(f"so it is with {others} more {kind}{'s' if others > 1 else ''}")
    return found + (_resolution(check) if failing else [])


def _resolution(check: Any) -> list[str]:
    """How finely a condition was looked at, where it is not decided exactly."""
    if float(check.resolution) == 0:
        return []
    return [
        f"seen at efforts between which 1 + e grows by up to {math.expm1(check.resolution):.1%}"
    ]


def steps_in_words(effort: Any) -> str:
    """An effort in words."""
    effort = float(effort)
    if not math.isfinite(effort):
        return "infinitely many" if effort > 0 else str(effort)
    return f"{effort:,.0f}" if 1e4 <= effort < 1e9 else f"{effort:.4g}"
