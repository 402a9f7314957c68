"""Measured curves: reading scores along training, and fitting curves to them.

`read_trajectories` makes a validated table of any result files, `fit_power_law` and
`fit_logit_ols` turn its arrays into the curves of a `tbtjax.ranking_game`, `tabulate` joins their
points; `bootstrap_power_law` says how far they can be trusted, `estimate_pairs` what follows for
neighbours.
"""

from tbtjax.measure._fitted import FitFlag, PowerLawFit
from tbtjax.measure.agreement import (
    Agreement,
    DirectAndTuned,
    Swap,
    agreement,
    read_direct_and_tuned,
)
from tbtjax.measure.bootstrap import (
    Interval,
    PowerLawBootstrap,
    bootstrap_power_law,
    bootstrap_tabulated,
    interval,
    probability_of_stability,
)
from tbtjax.measure.estimators import (
    Estimate,
    PairEstimates,
    estimate_pairs,
    local_slope_ratio,
    overtake_brackets,
)
from tbtjax.measure.fit import fit_logit_ols, fit_power_law
from tbtjax.measure.ordered import OrderedFit, fit_power_law_in_order
from tbtjax.measure.readers import read_trajectories
from tbtjax.measure.tabulate import tabulate
from tbtjax.measure.trajectories import LeftOut, Trajectories, TrajectoryArrays, TrajectoryError

__all__ = [
    "Agreement",
    "DirectAndTuned",
    "Estimate",
    "FitFlag",
    "Interval",
    "LeftOut",
    "OrderedFit",
    "PairEstimates",
    "PowerLawBootstrap",
    "PowerLawFit",
    "Swap",
    "Trajectories",
    "TrajectoryArrays",
    "TrajectoryError",
    "agreement",
    "bootstrap_power_law",
    "bootstrap_tabulated",
    "estimate_pairs",
    "fit_logit_ols",
    "fit_power_law",
    "fit_power_law_in_order",
    "interval",
    "local_slope_ratio",
    "overtake_brackets",
    "probability_of_stability",
    "read_direct_and_tuned",
    "read_trajectories",
    "tabulate",
]
