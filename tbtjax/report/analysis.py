"""The computation behind `tbtjax analyze`: trajectories in, plain numbers out.

Nothing here prints, draws or writes. Arrays of the record are NumPy's, in the dtype of the
computation: call `analyze` with JAX's 64-bit mode on (`with jax.enable_x64(True):`) for float64.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax.costs import linear_cost
from tbtjax.curves import PowerLaw
from tbtjax.effort import just_overtake_effort, overtake_effort
from tbtjax.game import RankingGame, ranking_game
from tbtjax.measure import PowerLawBootstrap, Trajectories, TrajectoryArrays
from tbtjax.report.audit import audit, levels_of
from tbtjax.report.cautions import cautions
from tbtjax.report.families import Board, Families, FamilyName, draw_power_law, read_in_families
from tbtjax.report.fitted import curves_of, fit_curves, fitted_models, shape_of
from tbtjax.report.order import in_capability_order
from tbtjax.report.records import Analysis, Efforts, Thresholds
from tbtjax.report.settings import AnalysisError, Settings
from tbtjax.threshold import rule_of_thumb, threshold_of_few

#: Levels and worths at which the figures' curves are drawn.
_CURVE_POINTS = 161


def analyze(
    trajectories: Trajectories,
    settings: Settings,
    progress: Callable[[float], None] = lambda share: None,
) -> Analysis:
    """Fits curves to trajectories and works out what follows for tune-before-test.

    Args:
      trajectories: one task's measurements of two or more models.
      settings: what the user chose.
      progress: is told the share of the resampling that is done.

    Returns:
      The record; models that cannot be fitted or ordered are in `left_out`, with the reason.

    Raises:
      AnalysisError: fewer than two models are left, or a setting does not fit the data.
    """
    if settings.fit == "logit-ols" and settings.limits != "fixed":
        raise AnalysisError(f"--limits {settings.limits} needs --fit weighted; got --fit logit-ols")
    if settings.ordered and settings.limits == "free":
        raise AnalysisError(
            "--ordered needs --limits fixed or shared: alpha and beta tell the order of curves "
            "with the same limits alone; got --limits free"
        )
    arrays = trajectories.arrays(settings.order)
    left_out = tuple(("", line) for line in trajectories.skipped_files)
    left_out += tuple((item.model, item.reason) for item in trajectories.left_out)
    _check_count(trajectories, arrays.models, left_out)
    fit, drawn = fit_curves(arrays, settings)
    models, unfitted = fitted_models(trajectories, arrays, fit, settings)
    left_out += unfitted
    _check_count(trajectories, [model.name for model in models], left_out)
    curves = curves_of(models, free=settings.limits == "free")
    unit_rewards = settings.rewards.unit_rewards(len(models))
    last_step = max(float(model.steps[-1]) for model in models)

    table_levels = _table_levels(last_step)
    curve_levels = np.expm1(np.linspace(0, np.log1p(last_step), _CURVE_POINTS))
    game = ranking_game(curves, unit_rewards, linear_cost(1.0))
    efforts, rho = _efforts(game, np.concatenate([table_levels, curve_levels]))
    worths = np.asarray(settings.worths, float)
    thresholds = _thresholds(
        curves, unit_rewards, np.concatenate([worths, _curve_worths(worths)]), settings.deviations
    )
    at_worths = _rows(thresholds, slice(None, len(worths)))
    rewards = worths[:, None] * unit_rewards
    rows = [arrays.models.index(model.name) for model in models]
    data = arrays._replace(
        models=tuple(model.name for model in models),
        **{name: getattr(arrays, name)[rows] for name in arrays._fields[1:5]},
    )
    families, capability_order = None, None
    if settings.doubt.resamples:
        board = Board(
            unit_rewards, worths, _curve_worths(worths), table_levels, settings.deviations
        )
        reusable = drawn if len(data.models) == len(arrays.models) else None
        families = _families(data, reusable, board, settings, progress)
        models = tuple(
            dataclasses.replace(model, shape=shape_of(model, settings, bool(convex)))
            for model, convex in zip(models, families.starts_convex, strict=True)
        )
    if settings.ordered:
        capability_order = in_capability_order(
            data,
            rewards,
            limits="shared" if settings.limits == "shared" else "fixed",
            lower=settings.lower,
            loss=settings.loss,
            deviations=settings.deviations,
        )
    analysis = Analysis(
        source=trajectories.source,
        task=trajectories.tasks[0] or None,
        metric=",".join(filter(None, (trajectories.metrics[0], trajectories.filters[0]))) or None,
        settings=settings,
        order=arrays.order,
        models=models,
        rho=rho,
        effort=_rows(efforts, slice(None, len(table_levels))),
        effort_curve=_rows(efforts, slice(len(table_levels), None)),
        thresholds=at_worths,
        threshold_curve=_rows(thresholds, slice(len(worths), None)),
        audit=audit(curves, rewards, last_step, levels_of(at_worths), settings.deviations),
        families=families,
        capability_order=capability_order,
        last_step=last_step,
        left_out=left_out,
        warnings=(),
    )
    return dataclasses.replace(analysis, warnings=tuple(cautions(analysis)))


def _check_count(
    trajectories: Trajectories, names: Sequence[str], left_out: tuple[tuple[str, str], ...]
) -> None:
    if len(names) < 2:
        found = ", ".join([str(len(names)), *names])
        why = "".join(f"; {reason}" for _, reason in left_out[:1])
        raise AnalysisError(
            f"{trajectories.source}: expected 2 or more models that can be analysed; found "
            f"{found}{why}"
        )


def _families(
    data: TrajectoryArrays,
    drawn: PowerLawBootstrap | None,
    board: Board,
    settings: Settings,
    progress: Callable[[float], None],
) -> Families:
    """The measurements of the fitted models, read by each family.

    Args:
      data: the measurements.
      drawn: their resampled fits with the limits of `settings`, where these are there already.
      board: the game.
      settings: what the user chose.
      progress: is told the share that is done.
    """
    power_laws: dict[FamilyName, PowerLawBootstrap] = {}
    families: list[FamilyName] = ["fixed", "free"]
    if settings.limits == "shared":
        families.append("shared")
    for family in families:
        if drawn is not None and family == settings.limits:
            power_laws[family] = drawn
        else:
            power_laws[family] = draw_power_law(
                data, family, settings.lower, settings.loss, settings.doubt
            )
    used = settings.limits if settings.fit == "weighted" else None
    return read_in_families(data, power_laws, used, board, settings.doubt, progress)


def _table_levels(last_step: float) -> np.ndarray:
    """0, 10, 100, … below the last measured step, and that step."""
    powers = 10.0 ** np.arange(1, 16)
    return np.concatenate([[0.0], powers[powers < last_step], [last_step]])


def _curve_worths(worths: np.ndarray) -> np.ndarray:
    """The figure's worths: the range asked for, widened to two decades at least."""
    low, high = np.log10(np.min(worths)), np.log10(np.max(worths))
    widen = max(0.0, 2 - (high - low)) / 2
    return np.logspace(low - widen, high + widen, _CURVE_POINTS)


@jax.jit
def _at_levels(game: RankingGame, levels: jax.Array) -> tuple[jax.Array, ...]:
    """One program, for it compiles several times faster than its operations one by one."""
    efforts = overtake_effort(game, levels), just_overtake_effort(game, levels)
    return *efforts, rule_of_thumb(game).rho


def _efforts(game: RankingGame, levels: np.ndarray) -> tuple[Efforts, np.ndarray]:
    """Overtaking at `levels`, and the learning-rate ratios."""
    effort, by_pair, rho = map(np.asarray, _at_levels(game, jnp.asarray(levels)))
    n = game.num_models
    # An effort of 0 is a model that is ahead already; where both are 0 it is a tie, and a tie
    # ranks by capability. No scores are compared: near saturation they have no digits left.
    there = effort == 0
    tie = there & there.swapaxes(1, 2)
    weaker = np.arange(n)[:, None] > np.arange(n)
    ahead = there & ~(tie & weaker)
    behind = ~ahead & ~np.eye(n, dtype=bool)
    candidates = np.where(behind, effort, np.inf).reshape(len(levels), -1)
    which = np.argmin(candidates, axis=-1)
    least = candidates[np.arange(len(levels)), which]
    nobody = np.isinf(least)
    efforts = Efforts(
        levels=levels,
        by_pair=by_pair,
        least=least,
        weak=np.where(nobody, -1, which // n),
        rival=np.where(nobody, -1, which % n),
        in_order=~np.any(ahead & weaker, axis=(1, 2)),
    )
    return efforts, rho


def _thresholds(
    curves: PowerLaw, unit_rewards: np.ndarray, worths: np.ndarray, deviations: Any
) -> Thresholds:
    game = ranking_game(curves, worths[:, None] * unit_rewards, linear_cost(1.0))
    found = threshold_of_few(game, deviations)
    fields = ("delta", "upper", "settled", "pair", "rival", "by_pair", "status")
    return Thresholds(worths, *(np.asarray(getattr(found, name)) for name in fields))


def _rows(record: Any, rows: slice) -> Any:
    """A record of arrays, restricted to some of its rows."""
    fields = (field.name for field in dataclasses.fields(record))
    return dataclasses.replace(record, **{name: getattr(record, name)[rows] for name in fields})
