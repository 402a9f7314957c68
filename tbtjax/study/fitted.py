"""Priors fitted to measured leaderboards."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax.measure import PowerLawFit, Trajectories, fit_power_law
from tbtjax.study.prior import Population


def fitted_population(
    measured: Trajectories | PowerLawFit,
    *,
    draw: Literal["measured", "resampled", "normal"] = "resampled",
    lower: float = 0.0,
    limits: Literal["fixed", "free"] = "fixed",
    order: Literal["size", "score"] | None = None,
    models: tuple[str, ...] = (),
) -> Population:
    """The models of a measured leaderboard as a population that games are drawn from.

    Args:
      measured: trajectories of one task and one metric, or curves fitted to them, strongest model
        first.
      draw: how games are drawn; see `Population`.
      lower: lower limit of the score (chance), for trajectories.
      limits: "fixed" or "free", for trajectories; as in `fit_power_law`.
      order: capability order, for trajectories: by size or by score.
      models: names of the models, for a fit.

    Returns:
      The population: α and β with their standard deviations. Models whose curve could not be
      fitted are left out; a standard deviation that is not known counts as 0.

    Raises:
      TypeError: `measured` is neither of the two.
      ValueError: fewer than two models are left.

    Examples:
      >>> import numpy as np
      >>> from tbtjax.measure import fit_power_law
      >>> scores = [[0.6, 0.8, 0.9], [0.4, 0.6, 0.8]]
      >>> fit = fit_power_law([0, 10, 100], np.array(scores), questions=1000)
      >>> len(fitted_population(fit).alpha)
      2
    """
    if isinstance(measured, Trajectories):
        table = measured.arrays(order)
        with jax.enable_x64(True):
            fit = fit_power_law(
                table.steps,
                table.scores,
                questions=table.questions,
                stderr=table.stderr,
                limits=limits,
                lower=lower,
            )
        models = table.models
    elif isinstance(measured, PowerLawFit):
        fit = measured
    else:
        raise TypeError(
            f"measured must be Trajectories or a PowerLawFit; got {type(measured).__name__}"
        )
    shape = jnp.shape(fit.curves.alpha)
    if len(shape) != 1:
        raise ValueError(f"measured must hold one leaderboard, curves [n]; got shape {shape}")

    def wide(x: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(x, np.float64), shape)

    curves = fit.curves
    alpha, beta, low, high = map(wide, (curves.alpha, curves.beta, curves.lower, curves.upper))
    usable = np.isfinite(alpha) & np.isfinite(beta) & (low < high)
    if usable.sum() < 2:
        raise ValueError(f"expected two fitted curves or more; got {usable.sum()} of {len(alpha)}")
    deviation = np.asarray(fit.deviation, np.float64)[:, :2]
    deviation = np.where(np.isfinite(deviation), deviation, 0.0)[usable]

    def numbers(x: np.ndarray) -> tuple[float, ...]:
        return tuple(x[usable].tolist())

    def shared(x: np.ndarray) -> float | tuple[float, ...]:
        values = numbers(x)
        return values[0] if len(set(values)) == 1 else values

    return Population(
        draw=draw,
        alpha=numbers(alpha),
        beta=numbers(beta),
        alpha_deviation=tuple(deviation[:, 0].tolist()),
        beta_deviation=tuple(deviation[:, 1].tolist()),
        lower=shared(low),
        upper=shared(high),
        models=tuple(m for m, use in zip(models, usable, strict=False) if use),
    )
