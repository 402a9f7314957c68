"""The computation behind `tbtjax analyze`: trajectories in, plain numbers out.

Nothing here prints, draws or writes. Arrays of the record are NumPy's, in the dtype of the
computation: call `analyze` with JAX's 64-bit mode on (`with jax.enable_x64(True):`) for float64.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax.costs import linear_cost
from tbtjax.curves import PowerLaw, power_law
from tbtjax.effort import just_overtake_effort, overtake_effort
from tbtjax.game import RankingGame, ranking_game
from tbtjax.measure import (
    FitFlag,
    PowerLawBootstrap,
    PowerLawFit,
    Trajectories,
    TrajectoryArrays,
    fit_logit_ols,
    fit_power_law,
)
from tbtjax.report.audit import Audit, audit, levels_of
from tbtjax.report.families import (
    FAMILIES,
    Board,
    Doubt,
    Families,
    FamilyName,
    draw_power_law,
    read_in_families,
)
from tbtjax.report.order import CapabilityOrder, in_capability_order
from tbtjax.rewards import equal_gaps, geometric_rewards, top_k, winner_take_all
from tbtjax.threshold import Status, rule_of_thumb, stabilizing_threshold

#: What the largest adjacent reward gap is worth where the user does not say, in training steps.
DEFAULT_WORTHS = (10.0, 100.0, 1000.0, 10000.0)
#: Levels and worths at which the figures' curves are drawn.
_CURVE_POINTS = 161
#: A warning names so many models or pairs, and counts the others.
_MOST_LISTED = 6


class AnalysisError(ValueError):
    """The data or an option do not allow an analysis; the text is for the user, on one line."""


@dataclasses.dataclass(frozen=True)
class RewardScheme:
    """A reward scheme by name: winner-take-all, top-k:K, equal-gaps or geometric:R.

    Attributes:
      name: as the user writes it, such as "top-k:3".
      kind: the part before the colon.
      parameter: the number after it; 0 for schemes without one.
    """

    name: str
    kind: str
    parameter: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "RewardScheme":
        """The scheme that `text` names.

        Args:
          text: "winner-take-all", "top-k:K" with K ≥ 1, "equal-gaps" or "geometric:R", 0 ≤ R < 1.

        Raises:
          AnalysisError: `text` is none of these.

        Examples:
          >>> RewardScheme.parse("geometric:0.5").parameter
          0.5
        """
        kind, colon, number = text.partition(":")
        try:
            if kind in ("winner-take-all", "equal-gaps") and not colon:
                return cls(text, kind)
            if kind == "top-k" and int(number) >= 1:
                return cls(text, kind, int(number))
            if kind == "geometric" and 0 <= float(number) < 1:
                return cls(text, kind, float(number))
        except ValueError:
            pass
        raise AnalysisError(
            f"rewards {text!r} are not known; expected winner-take-all, top-k:K (K = 1, 2, ...), "
            "equal-gaps or geometric:R (0 <= R < 1)"
        )

    def unit_rewards(self, n: int) -> np.ndarray:
        """`[n]` rewards, rank 1 first, whose largest adjacent gap is 1.

        Raises:
          AnalysisError: with n models every rank would be paid alike.
        """
        if self.kind == "top-k":
            if self.parameter >= n:
                raise AnalysisError(
                    f"rewards {self.name} pay all of the {n} models alike; expected K below {n}"
                )
            return np.asarray(top_k(n, int(self.parameter)))
        if self.kind == "geometric":
            rewards = np.asarray(geometric_rewards(n, self.parameter))
            return rewards / (rewards[0] - rewards[1])
        return np.asarray(winner_take_all(n) if self.kind == "winner-take-all" else equal_gaps(n))


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the user chose; see `tbtjax analyze --help`.

    Attributes:
      order: the capability order, "size" or "score"; None for size where all models have one.
      lower: lower limit of the score (chance); the upper one is 1.
      fit: "weighted" (`fit_power_law`) or "logit-ols" (`fit_logit_ols`).
      limits: "fixed" at `lower` and 1, "free": both fitted for each model, or "shared": both fitted
        for all models together.
      rewards: the reward scheme.
      worths: what the largest adjacent reward gap is worth, in training steps; cost is linear.
      deviations: "all" or "adjacent", as in `stabilizing_threshold`.
      loss: "chi2" or "deviance", as in `fit_power_law`.
      doubt: how scores are resampled; without resamples no families of curves are compared.
      ordered: whether curves are fitted in capability order too; not with free limits.
    """

    order: Literal["size", "score"] | None = None
    lower: float = 0.0
    fit: Literal["weighted", "logit-ols"] = "weighted"
    limits: Literal["fixed", "free", "shared"] = "fixed"
    rewards: RewardScheme = RewardScheme("winner-take-all", "winner-take-all")
    worths: tuple[float, ...] = DEFAULT_WORTHS
    deviations: Literal["all", "adjacent"] = "all"
    loss: Literal["chi2", "deviance"] = "chi2"
    doubt: Doubt = dataclasses.field(default_factory=Doubt)
    ordered: bool = False


@dataclasses.dataclass(frozen=True)
class FittedModel:
    """One model: what was measured and the curve through it.

    Attributes:
      name: the model's name.
      family: its family; None where the data name none.
      parameters_billion: its size; None where the data give none.
      steps: `[points]` efforts measured, in training steps.
      scores: `[points]` scores measured.
      errors: `[points]` standard errors of the scores; NaN where not known.
      alpha: fitted logit of the normalized score without training.
      alpha_deviation: its standard deviation.
      beta: fitted learning rate.
      beta_deviation: its standard deviation.
      lower: lower limit of the score.
      upper: upper limit of the score.
      chi2: Σ (score − v)²/σ² over the points used.
      dof: degrees of freedom.
      points_used: number of points in the fit.
      points_left_out: number of points that the fit could not use.
      flags: what is remarkable about the fit (`FitFlag`).
      shape: what is remarkable about the measured scores, in words; see `shape_in_words`.
    """

    name: str
    family: str | None
    parameters_billion: float | None
    steps: np.ndarray
    scores: np.ndarray
    errors: np.ndarray
    alpha: float
    alpha_deviation: float
    beta: float
    beta_deviation: float
    lower: float
    upper: float
    chi2: float
    dof: int
    points_used: int
    points_left_out: int
    flags: FitFlag
    shape: str

    @property
    def reduced_chi2(self) -> float:
        """chi2/dof; NaN without degrees of freedom or without known errors."""
        known = self.dof > 0 and not self.flags & FitFlag.UNWEIGHTED
        return self.chi2 / self.dof if known else float("nan")

    def score(self, effort: np.ndarray) -> np.ndarray:
        """The fitted curve at `effort`."""
        logit = self.alpha + self.beta * np.log1p(effort)
        return self.lower + (self.upper - self.lower) / (1 + np.exp(-logit))


@dataclasses.dataclass(frozen=True)
class Efforts:
    """What it takes to overtake, at several tune-before-test levels.

    Attributes:
      levels: `[levels]` Δ in training steps.
      by_pair: `[levels, n − 1]` just-overtake effort of each model but the strongest against the
        next more capable one; 0 where it is ahead already, +inf where it never passes.
      least: `[levels]` least effort by which any model passes one that ranks above it at that
        level: what it takes to change the ranking.
      weak: `[levels]` index of the model that does.
      rival: `[levels]` index of the model it passes.
      in_order: `[levels]` bool: whether the ranking without effort follows capability.
    """

    levels: np.ndarray
    by_pair: np.ndarray
    least: np.ndarray
    weak: np.ndarray
    rival: np.ndarray
    in_order: np.ndarray


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Δ* at several worths of the largest reward gap; fields as in `StabilizingThreshold`.

    Attributes:
      worths: `[worths]` in training steps.
      delta: `[worths]` first stabilizing level; +inf if there is none.
      upper: `[worths]` where that stretch ends; +inf where it does not.
      settled: `[worths]` from where on every level stabilizes; +inf if there is none.
      pair: `[worths]` index of the weak model that decides; −1 where nobody does.
      rival: `[worths]` index of the model it would pass; −1 where nobody does.
      by_pair: `[worths, n − 1]` Δ* of each adjacent pair alone.
      status: `[worths]` one of `Status` each.
    """

    worths: np.ndarray
    delta: np.ndarray
    upper: np.ndarray
    settled: np.ndarray
    pair: np.ndarray
    rival: np.ndarray
    by_pair: np.ndarray
    status: np.ndarray


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Everything `tbtjax analyze` reports.

    Attributes:
      source: where the trajectories came from.
      task: name of the benchmark; None where the data name none.
      metric: name of the score; None where the data name none.
      settings: what the user chose.
      order: the capability order used, "size" or "score".
      models: the models, most capable first.
      rho: `[n − 1]` learning-rate ratio β_weak/β_strong of each adjacent pair.
      effort: overtaking at the levels of the table.
      effort_curve: overtaking at the levels of the figure.
      thresholds: Δ* at the worths asked for.
      threshold_curve: Δ* at the worths of the figure.
      audit: which assumptions the curves break, and whether that matters at the worths asked for.
      families: efforts and Δ* by each family of curves, with intervals; None without resamples.
      capability_order: curves in capability order and what these cost; None where not asked for.
      last_step: the largest step measured for any model.
      left_out: (model, why) for each model that was read but is not analysed, and ("", why) for
        each file or score that is not.
      warnings: what a reader must know before relying on the numbers, in words.
    """

    source: str
    task: str | None
    metric: str | None
    settings: Settings
    order: str
    models: tuple[FittedModel, ...]
    rho: np.ndarray
    effort: Efforts
    effort_curve: Efforts
    thresholds: Thresholds
    threshold_curve: Thresholds
    audit: Audit
    families: Families | None
    capability_order: CapabilityOrder | None
    last_step: float
    left_out: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names, most capable first."""
        return tuple(model.name for model in self.models)


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
    fit, drawn = _fit(arrays, settings)
    models, unfitted = _fitted_models(trajectories, arrays, fit, settings)
    left_out += unfitted
    _check_count(trajectories, [model.name for model in models], left_out)
    curves = _curves(models, free=settings.limits == "free")
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
            dataclasses.replace(model, shape=_shape(model, settings, bool(convex)))
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
    return dataclasses.replace(analysis, warnings=tuple(_warnings(analysis)))


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


def _fit(
    arrays: TrajectoryArrays, settings: Settings
) -> tuple[PowerLawFit, PowerLawBootstrap | None]:
    """The fits that the analysis uses, and those to resamples where they are of that kind."""
    known = {"questions": arrays.questions, "stderr": arrays.stderr, "lower": settings.lower}
    if settings.fit == "logit-ols":
        return fit_logit_ols(arrays.steps, arrays.scores, **known), None
    if settings.doubt.resamples:
        drawn = draw_power_law(
            arrays, settings.limits, settings.lower, settings.loss, settings.doubt
        )
        return drawn.fit, drawn
    fit = fit_power_law(
        arrays.steps,
        arrays.scores,
        limits=settings.limits,
        loss=settings.loss,
        method="levenberg-marquardt",
        **known,
    )
    return fit, None


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


def _fitted_models(
    trajectories: Trajectories, arrays: TrajectoryArrays, fit: PowerLawFit, settings: Settings
) -> tuple[tuple[FittedModel, ...], tuple[tuple[str, str], ...]]:
    """The models with their curves, and (name, why) of those that cannot be fitted."""
    steps, scores, stderr, questions = arrays[1:5]
    binomial = np.sqrt(scores * (1 - scores) / questions)
    errors = np.where(np.isfinite(stderr), stderr, binomial)
    columns = {
        "alpha": fit.curves.alpha,
        "alpha_deviation": fit.deviation[:, 0],
        "beta": fit.curves.beta,
        "beta_deviation": fit.deviation[:, 1],
        "lower": np.broadcast_to(fit.curves.lower, fit.chi2.shape),
        "upper": np.broadcast_to(fit.curves.upper, fit.chi2.shape),
        "chi2": fit.chi2,
    }
    columns = {name: np.asarray(column) for name, column in columns.items()}
    models, unfitted = [], []
    for row, name in enumerate(arrays.models):
        measured = np.isfinite(scores[row])
        flags = FitFlag(int(fit.flags[row]))
        if flags & (FitFlag.INVALID | FitFlag.TOO_FEW_POINTS):
            reason = _why_not_fitted(scores[row, measured], settings)
            unfitted.append((name, f"{trajectories.source}: model {name!r}: {reason}"))
            continue
        first = np.flatnonzero(trajectories.model == name)[0]
        size = float(trajectories.parameters_billion[first])
        models.append(
            FittedModel(
                name=name,
                family=str(trajectories.family[first]) or None,
                parameters_billion=None if np.isnan(size) else size,
                steps=steps[row, measured],
                scores=scores[row, measured],
                errors=errors[row, measured],
                **{field: float(column[row]) for field, column in columns.items()},
                dof=int(fit.dof[row]),
                points_used=int(fit.points[row]),
                points_left_out=int(fit.left_out[row]),
                flags=flags,
                shape="",
            )
        )
        models[-1] = dataclasses.replace(models[-1], shape=_shape(models[-1], settings, False))
    return tuple(models), tuple(unfitted)


def _shape(model: FittedModel, settings: Settings, free_starts_convex: bool) -> str:
    convex = free_starts_convex or bool(model.flags & FitFlag.NOT_CONCAVE)
    return shape_in_words(model.scores, model.errors, settings.lower, convex)


def shape_in_words(
    scores: np.ndarray, errors: np.ndarray, lower: float, starts_convex: bool
) -> str:
    """What is remarkable about measured scores: flat, falling, S-shaped, below chance.

    Differences count beyond three standard errors, with unknown errors whatever they are.

    Args:
      scores: `[points]` scores, by step.
      errors: `[points]` standard errors; NaN where not known.
      lower: the score by chance; 0 for none.
      starts_convex: whether the curve through them does.

    Returns:
      The words, comma-separated; empty where nothing is remarkable.

    Examples:
      >>> shape_in_words(np.array([0.5, 0.6, 0.4]), np.full(3, 0.01), 0.0, False)
      'ends below its start'
    """
    noise = 3 * np.nan_to_num(errors)
    words = []
    if np.isfinite(errors).any() and np.all(np.abs(scores - scores.mean()) <= noise):
        words.append("flat")
    elif scores[0] - scores[-1] > np.hypot(noise[0], noise[-1]):
        words.append("ends below its start")
    elif np.any(np.maximum.accumulate(scores) - scores > np.sqrt(2) * noise):
        words.append("falls on the way")
    if starts_convex:
        words.append("S-shaped")
    below = int(np.sum(scores <= lower))
    if below and lower > 0:
        words.append(f"{below} of {len(scores)} at or below chance")
    return ", ".join(words)


def _why_not_fitted(scores: np.ndarray, settings: Settings) -> str:
    needed = 4 if settings.limits == "free" else 2
    usable = scores
    if settings.limits == "shared" and len(usable) >= needed:
        return "limits shared by all models need two more measured steps than two for each of them"
    if settings.fit == "logit-ols":
        usable = scores[(scores > settings.lower) & (scores < 1)]
        if len(usable) < len(scores):
            return (
                f"{len(usable)} of {len(scores)} scores lie between the limits {settings.lower:g} "
                f"and 1, where a logit exists; expected {needed} or more at different steps"
            )
    return f"{len(usable)} measured points; expected {needed} or more at different steps"


def _curves(models: tuple[FittedModel, ...], *, free: bool) -> PowerLaw:
    """The fitted curves; fixed limits are shared, so that thresholds take the exact road."""

    def column(name):
        return np.array([getattr(model, name) for model in models])

    if free:
        return power_law(column("alpha"), column("beta"), column("lower"), column("upper"))
    return power_law(column("alpha"), column("beta"), models[0].lower, models[0].upper)


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
    found = stabilizing_threshold(game, deviations)
    fields = ("delta", "upper", "settled", "pair", "rival", "by_pair", "status")
    return Thresholds(worths, *(np.asarray(getattr(found, name)) for name in fields))


def _rows(record: Any, rows: slice) -> Any:
    """A record of arrays, restricted to some of its rows."""
    fields = (field.name for field in dataclasses.fields(record))
    return dataclasses.replace(record, **{name: getattr(record, name)[rows] for name in fields})


def _warnings(analysis: Analysis) -> list[str]:
    """What a reader must know before relying on the numbers."""
    models, thresholds = analysis.models, analysis.thresholds
    found = []
    misfits = [model for model in models if model.flags & FitFlag.MISFIT]
    if misfits:
        worst = max(misfits, key=lambda model: model.reduced_chi2)
        remedy = (
            "compare the points with the curves"
            if analysis.settings.limits == "free"
            else "compare the points with the curves, and with --limits free"
        )
        found.append(
            f"the curves of {_listed(model.name for model in misfits)} miss their points by more "
            f"than noise (chi2 per degree of freedom up to {worst.reduced_chi2:.4g}, "
            f"{worst.name}; about 1 is expected): efforts and thresholds can be off by a "
            f"multiple, and the standard deviations are too small; {remedy}"
        )
    unweighted = [model.name for model in models if model.flags & FitFlag.UNWEIGHTED]
    if unweighted:
        found.append(
            f"no standard error or number of questions for all scores of {_listed(unweighted)}: "
            "chi2 is a plain sum of squares there, and a misfit cannot be told"
        )
    unconverged = [model.name for model in models if model.flags & FitFlag.NOT_CONVERGED]
    if unconverged:
        found.append(f"the fit of {_listed(unconverged)} did not converge")
    falling = [model.name for model in models if model.beta <= 0]
    if falling:
        found.append(
            f"{_listed(falling)} {'does' if len(falling) == 1 else 'do'} not rise with training "
            "(beta <= 0), so that no training passes a model above: stable then says only that "
            "nobody gains by effort where nobody exerts any"
        )
    small = [model.name for model in models if model.flags & FitFlag.SMALL_COUNTS]
    if small:
        found.append(
            f"fewer than ten right or fewer than ten wrong answers at some step of {_listed(small)}"
            ": least squares leans to what such a count happens to be; fit with --loss deviance"
        )
    found += _shapes(models)
    found += _families_in_words(analysis)
    found += _contradictions(models)
    levels = np.concatenate([thresholds.delta, thresholds.upper])
    if np.any(np.isfinite(levels) & (levels > analysis.last_step)):
        found.append(
            f"levels beyond the last measured step ({analysis.last_step:g}) extrapolate the "
            "fitted curves"
        )
    failed = thresholds.status >= Status.NOT_CONVERGED
    if failed.any():
        names = sorted({Status(int(status)).name for status in thresholds.status[failed]})
        found.append(f"no threshold for {failed.sum()} of {failed.size} worths: {_listed(names)}")
    return found


def _shapes(models: tuple[FittedModel, ...]) -> list[str]:
    """Curves that are not what the theory takes for granted, every one of them by name."""
    by_shape: dict[str, list[str]] = {}
    for model in models:
        for shape in filter(None, model.shape.split(", ")):
            by_shape.setdefault(shape, []).append(model.name)
    if not by_shape:
        return []
    odd = sum(bool(model.shape) for model in models)
    words = "; ".join(f"{shape}: {', '.join(names)}" for shape, names in by_shape.items())
    return [f"{odd} of {len(models)} measured curves do not plainly rise ever more slowly: {words}"]


def _families_in_words(analysis: Analysis) -> list[str]:
    """Where efforts and Δ* depend on the family of curves."""
    families, found = analysis.families, []
    if families is None:
        return []
    for reading in families.readings:
        if reading.missing:
            found.append(
                f"{FAMILIES[reading.family]} cannot be fitted to {_listed(reading.missing)}: too "
                "few points; that column is empty"
            )

    def sides(values, most):
        return ", ".join(
            f"{value:,.4g} by {FAMILIES[reading.family]}"
            if value < most
            else f"none up to {most:,.4g} by {FAMILIES[reading.family]}"
            for reading, value in zip(families.readings, values, strict=True)
            if not np.isnan(value)
        )

    rows = np.flatnonzero(families.delta_differs)
    if len(rows):
        cases = [
            f"at a worth of {analysis.settings.worths[row]:g} "
            + sides([reading.delta[row] for reading in families.readings], families.levels[-1])
            for row in rows
        ]
        found.append(
            "Δ* depends on the family of curves by more than noise, so trust none of them alone: "
            + "; ".join(cases)
        )
    pairs = np.flatnonzero(families.e0_differs)
    if len(pairs):
        names = analysis.names
        cases = _listed(f"{names[pair + 1]} passes {names[pair]}" for pair in pairs)
        found.append(
            f"the just-overtake efforts of {len(pairs)} of {len(names) - 1} pairs depend on the "
            f"family of curves by more than noise ({cases}): look at the measured checkpoints"
        )
    return found


def _contradictions(models: tuple[FittedModel, ...]) -> list[str]:
    """Neighbours whose measured scores at step 0 contradict the capability order."""
    started = [model for model in models if model.steps[0] == 0]
    reversed_pairs = []
    for strong, weak in itertools.pairwise(started):
        lead = weak.scores[0] - strong.scores[0]
        if lead > 0:
            error = np.hypot(weak.errors[0], strong.errors[0])
            noise = f", by {lead / error:.1f} standard errors" if error > 0 else ""
            reversed_pairs.append(
                f"{weak.name} ({weak.scores[0]:.4f}) is above {strong.name} "
                f"({strong.scores[0]:.4f}){noise}"
            )
    if not reversed_pairs:
        return []
    more = len(reversed_pairs) > _MOST_LISTED
    return [
        "at step 0 the measured ranking contradicts the capability order: "
        + "; ".join(reversed_pairs[:_MOST_LISTED])
        + (f"; and {len(reversed_pairs) - _MOST_LISTED} pairs more" * more)
    ]


def _listed(names: Any) -> str:
    """Names for a sentence; a long list is cut."""
    names = list(names)
    shown = ", ".join(names[:_MOST_LISTED])
    more = len(names) - _MOST_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
