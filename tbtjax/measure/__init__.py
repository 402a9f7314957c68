"""Measured curves: reading tables of scores along training, and fitting curves to them.

`read_trajectories` gives a validated table, `fit_power_law` and `fit_logit_ols` turn its arrays
into the curves of a `tbtjax.ranking_game`.
"""

from tbtjax.measure.fit import FitFlag, PowerLawFit, fit_logit_ols, fit_power_law
from tbtjax.measure.trajectories import (
    LeftOut,
    Trajectories,
    TrajectoryArrays,
    TrajectoryError,
    read_trajectories,
)

__all__ = [
    "FitFlag",
    "LeftOut",
    "PowerLawFit",
    "Trajectories",
    "TrajectoryArrays",
    "TrajectoryError",
    "fit_logit_ols",
    "fit_power_law",
    "read_trajectories",
]
