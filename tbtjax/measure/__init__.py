"""Measured curves: reading scores along training, and fitting curves to them.

`read_trajectories` makes a validated table of any result files, `fit_power_law` and
`fit_logit_ols` turn its arrays into the curves of a `tbtjax.ranking_game`.
"""

from tbtjax.measure.agreement import (
    Agreement,
    DirectAndTuned,
    Swap,
    agreement,
    read_direct_and_tuned,
)
from tbtjax.measure.fit import FitFlag, PowerLawFit, fit_logit_ols, fit_power_law
from tbtjax.measure.readers import read_trajectories
from tbtjax.measure.trajectories import LeftOut, Trajectories, TrajectoryArrays, TrajectoryError

__all__ = [
    "Agreement",
    "DirectAndTuned",
    "FitFlag",
    "LeftOut",
    "PowerLawFit",
    "Swap",
    "Trajectories",
    "TrajectoryArrays",
    "TrajectoryError",
    "agreement",
    "fit_logit_ols",
    "fit_power_law",
    "read_direct_and_tuned",
    "read_trajectories",
]
