"""The public names of `tbtjax`; `tbtjax/__init__.py` brings them in when one is asked for."""

from tbtjax._version import __version__
from tbtjax.assumptions import AssumptionReport, check_assumptions
from tbtjax.costs import linear_cost, piecewise_linear_cost, power_cost, quadratic_cost
from tbtjax.curves import power_law, tabulated
from tbtjax.designer import OptimalTbt, designer_utility, optimal_tbt
from tbtjax.dynamics import best_response_dynamics
from tbtjax.effort import baseline_scores, just_overtake_effort, overtake_effort
from tbtjax.equilibrium import is_zero_effort_pne
from tbtjax.game import RankingGame, ranking_game, validate
from tbtjax.response import (
    BestResponse,
    best_response,
    developer_utility,
    deviation_gain,
    is_epsilon_pne,
)
from tbtjax.rewards import equal_gaps, geometric_rewards, reward_gaps, top_k, winner_take_all
from tbtjax.threshold import (
    RuleOfThumb,
    StabilizingThreshold,
    Status,
    rule_of_thumb,
    stabilizing_threshold,
)

__all__ = [
    "AssumptionReport",
    "BestResponse",
    "OptimalTbt",
    "RankingGame",
    "RuleOfThumb",
    "StabilizingThreshold",
    "Status",
    "__version__",
    "baseline_scores",
    "best_response",
    "best_response_dynamics",
    "check_assumptions",
    "designer_utility",
    "developer_utility",
    "deviation_gain",
    "equal_gaps",
    "geometric_rewards",
    "is_epsilon_pne",
    "is_zero_effort_pne",
    "just_overtake_effort",
    "linear_cost",
    "optimal_tbt",
    "overtake_effort",
    "piecewise_linear_cost",
    "power_cost",
    "power_law",
    "quadratic_cost",
    "ranking_game",
    "reward_gaps",
    "rule_of_thumb",
    "stabilizing_threshold",
    "tabulated",
    "top_k",
    "validate",
    "winner_take_all",
]
