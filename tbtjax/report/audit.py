"""Which of the paper's assumptions fitted curves break, and whether that matters for Δ*.

The paper's condition looks at neighbours in the ranking alone. Where its assumptions fail a model
may gain by passing several others at once: the two conditions are set beside each other.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from tbtjax._rivals import Deviations
from tbtjax.assumptions import AssumptionReport, check_assumptions
from tbtjax.costs import linear_cost
from tbtjax.curves import PowerLaw
from tbtjax.effort import overtake_effort
from tbtjax.game import RankingGame, ranking_game
from tbtjax.threshold import Status, threshold_of_few


class Levels(NamedTuple):
    """Stabilizing levels under one condition; fields as in `StabilizingThreshold`.

    Attributes:
      delta: `[worths]`.
      upper: `[worths]`.
      settled: `[worths]`.
      pair: `[worths]`.
      rival: `[worths]`.
      status: `[worths]`.
    """

    delta: np.ndarray
    upper: np.ndarray
    settled: np.ndarray
    pair: np.ndarray
    rival: np.ndarray
    status: np.ndarray


@dataclasses.dataclass(frozen=True)
class Audit:
    """The audit of the fitted curves; see `audit`. Arrays are NumPy's.

    Attributes:
      measured: the assumptions at efforts up to the last measured step.
      endless: the assumptions at all efforts, where curves are extrapolated.
      exact: `[worths]` stabilizing levels where a model may pass any stronger one.
      adjacent: `[worths]` stabilizing levels where it may pass its neighbour alone.
      differ: `[worths]` bool: whether these are not the same.
      level: `[worths]` a level Δ in training steps that stabilizes by the adjacent condition and
        not by the exact one; NaN where they agree.
      weak: `[worths]` index of the model that gains most by a jump at that level; −1 where they
        agree.
      rival: `[worths]` index of the strongest model that it passes; −1 where they agree.
      gain: `[worths]` what it gains, in training steps; NaN where they agree.
    """

    measured: AssumptionReport
    endless: AssumptionReport
    exact: Levels
    adjacent: Levels
    differ: np.ndarray
    level: np.ndarray
    weak: np.ndarray
    rival: np.ndarray
    gain: np.ndarray


def audit(
    curves: PowerLaw, rewards: np.ndarray, last_step: float, found: Levels, deviations: Deviations
) -> Audit:
    """Checks the assumptions on fitted curves and compares the adjacent condition with the exact.

    Args:
      curves: the fitted curves.
      rewards: `[worths, n]` rewards in training steps: cost is linear, one per step.
      last_step: up to which effort the curves were measured, in training steps.
      found: the stabilizing levels of these games that are known already.
      deviations: under which condition.

    Returns:
      The record.
    """
    reaches = np.array([last_step, np.inf])
    report = _report(ranking_game(curves, rewards[0], linear_cost(1.0)), reaches)
    measured, endless = (
        jax.tree.map(lambda x, row=row: np.asarray(x)[row], report) for row in range(len(reaches))
    )
    game = ranking_game(curves, rewards, linear_cost(1.0))
    if deviations == "adjacent":
        exact, adjacent = levels_of(threshold_of_few(game, "all")), found
    elif curves.has_equal_limits and _neighbours_decide(found).all():
        exact = adjacent = found
    else:
        exact, adjacent = found, levels_of(threshold_of_few(game, "adjacent"))
    differ, level = _disagreement(exact, adjacent)
    weak, rival, gain = _best_jumps(game, level)
    return Audit(measured, endless, exact, adjacent, differ, level, weak, rival, gain)


#: One program: it compiles several times faster than its operations one by one.
_report = jax.jit(check_assumptions)


def levels_of(threshold: Any) -> Levels:
    """The levels of a record that has those of `StabilizingThreshold`, as NumPy arrays."""
    return Levels(*(np.asarray(getattr(threshold, name)) for name in Levels._fields))


def _neighbours_decide(exact: Levels) -> np.ndarray:
    """Whether the adjacent condition must give the exact levels, where limits are equal.

    It holds on the exact ray, and fails below it where a pair of neighbours decides Δ*; as each
    pair's stable levels are one interval it then fails at all lower levels.
    """
    by_neighbours = (exact.status == Status.FOUND) & (exact.pair - exact.rival == 1)
    return by_neighbours | (exact.status == Status.STABLE_AT_ZERO)


def _disagreement(exact: Levels, adjacent: Levels) -> tuple[np.ndarray, np.ndarray]:
    """Whether the conditions differ, and a level at which only the adjacent one holds.

    Every level that is stable by the exact condition is so by the adjacent one. So the adjacent
    stretch begins earlier, or ends later, or is followed by a ray that begins earlier. An end is
    left by a small step, for the pair that decides it to be the one that gains.
    """

    def same(one, other):
        return np.isclose(one, other, rtol=1e-8, atol=1e-8)

    begins, ends, settles = (
        ~same(one, other) for one, other in zip(exact[:3], adjacent[:3], strict=True)
    )
    known = np.maximum(exact.status, adjacent.status) < Status.NOT_CONVERGED
    differ = (begins | ends | settles) & known

    def step_from(end, towards):
        """A little from one level towards another, at most half of the way."""
        end = np.log1p(np.where(np.isfinite(end), end, 2 * np.where(settles, towards, 0)))
        way = np.log1p(np.where(differ, towards, 0)) - end
        return np.expm1(end + np.sign(way) * np.minimum(1e-3, np.abs(way) / 2))

    level = step_from(exact.settled, adjacent.settled)
    level = np.where(ends, step_from(exact.upper, adjacent.upper), level)
    level = np.where(begins, adjacent.delta, level)
    return differ, np.where(differ, level, np.nan)


def _best_jumps(game: RankingGame, level: np.ndarray) -> tuple[np.ndarray, ...]:
    """Who gains most by passing whom at the levels `[worths]`, and how much; −1 and NaN if nobody.

    The ranking follows capability at these levels, and cost is one per step.
    """
    weak, rival, gain = (
        np.full(len(level), -1),
        np.full(len(level), -1),
        np.full(len(level), np.nan),
    )
    rows = np.flatnonzero(np.isfinite(level))
    if len(rows):
        needed = np.asarray(overtake_effort(game, np.where(np.isfinite(level), level, 0)))
        rewards = np.asarray(game.rewards)
        gains = rewards[:, None, :] - rewards[:, :, None] - needed
    for row in rows:
        index = np.unravel_index(np.argmax(gains[row]), gains[row].shape)
        if gains[row][index] > 0:
            (weak[row], rival[row]), gain[row] = index, gains[row][index]
    return weak, rival, gain
