"""What the choice of the curve and the noise of the scores do to efforts and Δ*.

The same measurements are read in three ways: by power laws with fixed limits, by power laws with
free limits, and by straight lines that join the points, which assume no family; where asked for,
also by power laws that share their limits. Each is resampled: an interval tells of noise alone, so
they stand side by side, and beside them the checkpoints between which the weak model is measured to
pass.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax.curves import PowerLaw, Tabulated
from tbtjax.measure import (
    FitFlag,
    PowerLawBootstrap,
    PowerLawFit,
    TrajectoryArrays,
    bootstrap_power_law,
    bootstrap_tabulated,
    interval,
    overtake_brackets,
    tabulate,
)
from tbtjax.report.stable_worths import (
    StableWorths,
    Sweep,
    first_levels,
    least_efforts,
    sharpened,
)

FamilyName = Literal["fixed", "shared", "free", "interpolated"]
#: In the order of the tables, what assumes more first, and how text calls them.
FAMILIES: dict[FamilyName, str] = {
    "fixed": "fixed limits",
    "shared": "shared limits",
    "free": "free limits",
    "interpolated": "joined points",
}
#: Which random numbers a family is resampled with.
_STREAMS: dict[FamilyName, int] = {"fixed": 0, "free": 1, "interpolated": 2, "shared": 3}
#: The grid of levels, equally spaced in log(1 + Δ), and how far beyond the last measured step.
_LEVELS, _BEYOND = 57, 10.0
#: Families differ where an estimate lies outside the interval of another, widened by a factor: none
#: for fitted limits, half as much again for joined points, which bend where curves are straight
#: between checkpoints. Without an interval: where one is more than `_TIMES` the other. A step is no
#: difference.
_WIDER: dict[FamilyName, float] = {"shared": 1.0, "free": 1.0, "interpolated": 1.5}
_TIMES = 2.0
#: Columns whose intervals are worked out at once: always as many, by one program.
_COLUMNS = 128
_interval = jax.jit(interval, static_argnums=1)
#: Two limits more lower χ² by less than this with probability 0.999 where they are not needed.
_BETTER = 13.8


class Ends(NamedTuple):
    """Ends of intervals, NumPy's arrays; +inf is an end like any other, NaN is not known."""

    low: np.ndarray
    high: np.ndarray


@dataclasses.dataclass(frozen=True)
class Doubt:
    """What is asked of the resamples.

    Attributes:
      resamples: how many; 0 for none, nor other families.
      confidence: share of the resamples inside an interval.
      seed: of the random numbers.
    """

    resamples: int = 0
    confidence: float = 0.9
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Board:
    """The game that is played, in numbers.

    Attributes:
      unit_rewards: `[n]` rewards whose largest adjacent gap is 1.
      worths: `[worths]` what that gap is worth, in training steps.
      curve_worths: `[curve worths]` those of the figure.
      levels: `[table levels]` tune-before-test levels of the tables.
      deviations: as in `stabilizing_threshold`.
    """

    unit_rewards: np.ndarray
    worths: np.ndarray
    curve_worths: np.ndarray
    levels: np.ndarray
    deviations: Literal["all", "adjacent"]


@dataclasses.dataclass(frozen=True)
class Reading:
    """One family's reading of the measurements.

    Attributes:
      family: "fixed", "shared", "free" or "interpolated".
      missing: models that the family cannot be fitted to; without them it says nothing.
      e0: `[n − 1]` just-overtake effort of each adjacent pair at Δ = 0.
      e0_interval: its interval.
      delta: `[worths]` Δ*, +inf where no level of `Families.levels` stabilizes.
      delta_interval: its interval.
      stability: `[worths, levels]` share of the resamples that each level stabilizes.
    """

    family: FamilyName
    missing: tuple[str, ...]
    e0: np.ndarray
    e0_interval: Ends
    delta: np.ndarray
    delta_interval: Ends
    stability: np.ndarray


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Intervals of what the analysis reports, in the family that it uses.

    Attributes:
      alpha: `[n]`.
      beta: `[n]`.
      rho: `[n − 1]`.
      by_pair: `[table levels, n − 1]` of the just-overtake efforts.
      least: `[table levels]` of the least effort that changes the ranking.
      by_pair_curve: `[levels, n − 1]`, at `Families.levels`.
      delta: `[worths]` of Δ*.
      delta_curve: `[curve worths]`.
    """

    alpha: Ends
    beta: Ends
    rho: Ends
    by_pair: Ends
    least: Ends
    by_pair_curve: Ends
    delta: Ends
    delta_curve: Ends


@dataclasses.dataclass(frozen=True)
class Families:
    """All readings of the measurements, and what they leave open.

    Attributes:
      readings: the families, in the order of `FAMILIES`.
      used: the family whose fits the analysis uses; None for fits of another kind.
      levels: `[levels]` tune-before-test levels at which `stability` is worked out.
      brackets: `[n − 1]` ends: the measured steps between which the weak model of each adjacent
        pair passes the strong one's start; see `overtake_brackets`.
      delta_differs: `[worths]` bool: whether Δ* depends on the family.
      e0_differs: `[n − 1]` bool: whether the just-overtake effort at Δ = 0 does.
      starts_convex: `[n]` bool: whether the curve with free limits starts convex, where it is
        better than that with fixed ones by more than noise (C2 then fails).
      intervals: those of the analysis; None where `used` is.
      doubt: how the resamples were drawn.
    """

    readings: tuple[Reading, ...]
    used: FamilyName | None
    levels: np.ndarray
    brackets: Ends
    delta_differs: np.ndarray
    e0_differs: np.ndarray
    starts_convex: np.ndarray
    intervals: Intervals | None
    doubt: Doubt


def draw_power_law(
    data: TrajectoryArrays, family: FamilyName, lower: float, loss: str, doubt: Doubt
) -> PowerLawBootstrap:
    """Fits of a family of power laws to the measurements and to resamples of them."""
    key = jax.random.fold_in(jax.random.key(doubt.seed), _STREAMS[family])
    return bootstrap_power_law(
        key,
        data.steps,
        data.scores,
        resamples=doubt.resamples,
        questions=data.questions,
        stderr=data.stderr,
        limits=family,
        lower=lower,
        loss=loss,
    )


def read_in_families(
    data: TrajectoryArrays,
    drawn: dict[FamilyName, PowerLawBootstrap],
    used: FamilyName | None,
    board: Board,
    doubt: Doubt,
    progress: Callable[[float], None] = lambda share: None,
) -> Families:
    """Reads measurements by each family, with resamples of each.

    Args:
      data: the measurements, `[n, points]`, strongest model first.
      drawn: the resampled fits of the power laws.
      used: the family that the analysis uses; None for another.
      board: the game.
      doubt: how the resamples were drawn.
      progress: is told the share that is done.

    Returns:
      The record.
    """
    last = float(np.nanmax(data.steps))
    grid = np.expm1(np.linspace(0, np.log1p(_BEYOND * last), _LEVELS))
    levels = np.unique(np.concatenate([grid, board.levels]))
    stacked: dict[FamilyName, Any] = {name: stacked_curves(found) for name, found in drawn.items()}
    stacked["interpolated"] = _interpolated(data, doubt)
    names: list[FamilyName] = [name for name in FAMILIES if name in stacked]
    readings, intervals = [], None
    for place, name in enumerate(names):
        curves = stacked[name]
        sweep = Sweep(curves, board.unit_rewards, board.deviations)
        parts = []
        for part in range(len(sweep.parts)):
            parts.append(sweep.at(levels, part))
            progress((place + (part + 1) / len(sweep.parts)) / len(names))
        found = StableWorths(
            levels, *(np.concatenate(x, axis=1) for x in list(zip(*parts, strict=True))[1:])
        )
        readings.append(_reading(name, data, drawn.get(name), sweep, found, board, doubt))
        if name == used:
            intervals = _intervals(curves, found, readings[-1].delta_interval, board, doubt)
    return Families(
        readings=tuple(readings),
        used=used,
        levels=levels,
        brackets=_as_numpy(overtake_brackets(data.steps, data.scores)),
        delta_differs=differ({x.family: (x.delta, x.delta_interval) for x in readings}),
        e0_differs=differ({x.family: (x.e0, x.e0_interval) for x in readings}),
        starts_convex=_starts_convex(drawn["fixed"].fit, drawn["free"].fit),
        intervals=intervals,
        doubt=doubt,
    )


def _starts_convex(fixed: PowerLawFit, free: PowerLawFit) -> np.ndarray:
    better = np.asarray(fixed.chi2 - free.chi2 > _BETTER)
    flags = np.asarray(free.has(FitFlag.NOT_CONCAVE) & ~free.has(FitFlag.UNWEIGHTED))
    return better & flags


def stacked_curves(drawn: PowerLawBootstrap) -> PowerLaw:
    """`[1 + resamples, n]` curves: those of the measurements come first."""
    first, others = drawn.fit.curves, drawn.curves

    def column(name):
        one, many = getattr(first, name), getattr(others, name)
        return jnp.concatenate([one[None], many]) if many.ndim > 1 else one

    return PowerLaw(*(column(name) for name in ("alpha", "beta", "lower", "upper")))


def _interpolated(data: TrajectoryArrays, doubt: Doubt) -> Tabulated:
    """`[1 + resamples, n]` curves through the points."""
    key = jax.random.fold_in(jax.random.key(doubt.seed), _STREAMS["interpolated"])
    drawn = bootstrap_tabulated(
        key,
        data.steps,
        data.scores,
        resamples=doubt.resamples,
        questions=data.questions,
        stderr=data.stderr,
    )
    one = tabulate(data.steps, data.scores)
    return jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), one, drawn)


def _reading(
    name: FamilyName,
    data: TrajectoryArrays,
    drawn: PowerLawBootstrap | None,
    sweep: Sweep,
    found: StableWorths,
    board: Board,
    doubt: Doubt,
) -> Reading:
    lost = np.zeros(len(data.models), bool)
    if drawn is not None:
        lost = np.asarray(drawn.fit.has(FitFlag.INVALID | FitFlag.TOO_FEW_POINTS))
    delta, _ = first_levels(found, board.worths)
    return Reading(
        family=name,
        missing=tuple(model for model, gone in zip(data.models, lost, strict=True) if gone),
        e0=found.by_pair[0, 0],
        e0_interval=_between(found.by_pair[0, 1:], doubt),
        delta=sharpened(sweep, found, board.worths),
        delta_interval=_between(delta[1:], doubt, delta[0]),
        stability=np.mean(found.critical[None, :, 1:] >= board.worths[:, None, None], axis=-1),
    )


def _intervals(
    curves: Any, found: StableWorths, delta: Ends, board: Board, doubt: Doubt
) -> Intervals:
    resampled = jax.tree.map(lambda x: x[1:] if x.ndim > 1 else x, curves)
    alpha, beta = np.asarray(resampled.alpha), np.asarray(resampled.beta)
    by_pair = np.moveaxis(found.by_pair[:, 1:], 1, 0)
    table = np.searchsorted(found.levels, board.levels)
    least = np.asarray(least_efforts(curves, jnp.asarray(board.levels))).T
    delta_curve, _ = first_levels(found, board.curve_worths)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = beta[:, 1:] / beta[:, :-1]
    return Intervals(
        alpha=_between(alpha, doubt),
        beta=_between(beta, doubt),
        rho=_between(rho, doubt),
        by_pair=_between(by_pair[:, table], doubt),
        least=_between(least[1:], doubt, least[0]),
        by_pair_curve=_between(by_pair, doubt),
        delta=delta,
        delta_curve=_between(delta_curve[1:], doubt, delta_curve[0]),
    )


def _between(samples: np.ndarray, doubt: Doubt, extreme: np.ndarray | None = None) -> Ends:
    """The interval over the first axis, as NumPy's arrays.

    Of what is the largest or the least over pairs the estimate is given too: noise shifts such a
    figure one way, and `interval` corrects for that.
    """
    shape = samples.shape[1:]
    columns = samples.reshape(len(samples), -1)
    estimate = np.full(shape, np.nan) if extreme is None else extreme
    rows = np.concatenate([columns, estimate.reshape(1, -1)])
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % _COLUMNS)), constant_values=np.nan)
    parts = np.split(rows, rows.shape[1] // _COLUMNS, axis=1)
    found = (_interval(part[:-1], doubt.confidence, part[-1]) for part in parts)
    ends = (np.concatenate(x)[: columns.shape[1]] for x in zip(*found, strict=True))
    return Ends(*(x.reshape(shape) for x in ends))


def _as_numpy(ends: Any) -> Ends:
    return Ends(*(np.asarray(x) for x in ends))


def differ(estimates: dict[FamilyName, tuple[np.ndarray, Ends]]) -> np.ndarray:
    """Whether a family's estimate is outside the interval of one that assumes less.

    Not the other way round: what assumes less scatters more.

    Args:
      estimates: value and interval by each family, all of one shape, in the order of `FAMILIES`.

    Returns:
      bool, of that shape.
    """
    found = np.zeros(estimates["fixed"][0].shape, bool)
    for more, less in itertools.combinations(estimates, 2):
        (value, _), (other, ends) = estimates[more], estimates[less]
        unknown = np.isnan(ends.low)
        low = np.where(unknown, other / _TIMES, ends.low / _WIDER[less])
        high = np.where(unknown, other * _TIMES, ends.high * _WIDER[less])
        found |= (value < low - 1) | (value > high + 1)
    return found
