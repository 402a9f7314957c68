"""The records of an analysis. Arrays are NumPy's, in the dtype of the computation."""

import dataclasses

import numpy as np

from tbtjax.measure import FitFlag
from tbtjax.report.audit import Audit
from tbtjax.report.families import Families
from tbtjax.report.order import CapabilityOrder
from tbtjax.report.settings import Settings


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
      shape: what is remarkable about the measured scores, in words; see `fitted.shape_in_words`.
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
