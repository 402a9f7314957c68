"""What it costs to make the fitted curves follow the capability order.

The paper's assumption C1 says that a more capable model scores more at every effort; with equal
limits, that neither α nor β of a power law rises from a model to a weaker one. Curves are fitted
under that condition, and the χ² that they lose by it is weighed against the noise.
"""

import dataclasses
from typing import Literal

import numpy as np

from tbtjax.costs import linear_cost
from tbtjax.curves import power_law
from tbtjax.game import ranking_game
from tbtjax.measure import TrajectoryArrays, fit_power_law_in_order
from tbtjax.threshold import threshold_of_few


@dataclasses.dataclass(frozen=True)
class CapabilityOrder:
    """Curves fitted in capability order; arrays are NumPy's.

    Attributes:
      limits: "fixed" or "shared": what is known of the limits.
      price: χ² of these curves less that of the ones fitted without the order, ≥ 0.
      ties: by how many equalities, of α or β with those of the next stronger model.
      chi2_per_degree: χ² per degree of freedom of the curves without the order; NaN where the noise
        is not known.
      p_value: probability that so many ties cost as much where the order is true, with noise of the
        size of what the curves miss their points by where that is more than the scores' own; NaN
        where that is not known.
      alpha: `[n]`.
      beta: `[n]`.
      chi2: `[n]`.
      cost: `[n]` χ² less that without the order; below 0 for who gains by it.
      tied: `[n − 1, 2]` bool: whether α and β of a model are those of the next stronger one.
      delta: `[worths]` Δ* of these curves; +inf where no level stabilizes.
    """

    limits: Literal["fixed", "shared"]
    price: float
    ties: int
    chi2_per_degree: float
    p_value: float
    alpha: np.ndarray
    beta: np.ndarray
    chi2: np.ndarray
    cost: np.ndarray
    tied: np.ndarray
    delta: np.ndarray


def in_capability_order(
    data: TrajectoryArrays,
    rewards: np.ndarray,
    *,
    limits: Literal["fixed", "shared"],
    lower: float,
    loss: Literal["chi2", "deviance"],
    deviations: Literal["all", "adjacent"],
) -> CapabilityOrder:
    """Fits curves in capability order and works out what that costs, and their Δ*.

    Args:
      data: the measurements, `[n, points]`, strongest model first.
      rewards: `[worths, n]` rewards in training steps: cost is linear, one per step.
      limits: "fixed" at `lower` and 1, or "shared".
      lower: lower limit of the score.
      loss: as in `fit_power_law`.
      deviations: as in `stabilizing_threshold`.

    Returns:
      The record.
    """
    from scipy.special import gammaincc  # whose import takes a while

    found = fit_power_law_in_order(
        data.steps,
        data.scores,
        questions=data.questions,
        stderr=data.stderr,
        limits=limits,
        lower=lower,
        loss=loss,
        method="levenberg-marquardt",
    )
    chi2, apart = np.asarray(found.fit.chi2), np.asarray(found.apart.chi2)
    points = np.asarray(found.fit.points)
    degrees = np.sum(points - 2) - (2 if limits == "shared" else 0)
    known = degrees > 0 and not np.isnan(float(found.p_value))
    per_degree = float(np.sum(apart) / degrees) if known else float("nan")
    price, ties = float(found.price), int(found.ties)
    excess = max(per_degree, 1.0) if known else float("nan")
    curves = found.fit.curves
    limits_of_all = (float(np.max(x)) for x in (curves.lower, curves.upper))
    game = ranking_game(
        power_law(curves.alpha, curves.beta, *limits_of_all), rewards, linear_cost(1.0)
    )
    return CapabilityOrder(
        limits=limits,
        price=price,
        ties=ties,
        chi2_per_degree=per_degree,
        p_value=float(gammaincc(ties / 2, price / excess / 2)) if ties else 1.0,
        alpha=np.asarray(curves.alpha),
        beta=np.asarray(curves.beta),
        chi2=chi2,
        cost=chi2 - apart,
        tied=np.asarray(found.tied),
        delta=np.asarray(threshold_of_few(game, deviations).delta),
    )
