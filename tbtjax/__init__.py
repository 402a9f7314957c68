"""Leaderboard games and tune-before-test thresholds, vectorized in JAX.

The core is here: curves, costs and rewards make a game; from it follow just-overtake efforts, Nash
verdicts and the stabilizing threshold Δ*. Reading and fitting measured curves is in
`tbtjax.measure`, tables and figures in `tbtjax.report`.

The model is that of Chen, Zhang, Hardt, "Leaderboard Incentives: Model Rankings under Strategic
Post-Training" (arXiv 2603.08371).
"""

from tbtjax._version import __version__
from tbtjax.costs import linear_cost, piecewise_linear_cost, power_cost, quadratic_cost
from tbtjax.curves import power_law, tabulated
from tbtjax.game import RankingGame, ranking_game, validate
from tbtjax.rewards import equal_gaps, geometric_rewards, reward_gaps, top_k, winner_take_all

__all__ = [
    "RankingGame",
    "__version__",
    "equal_gaps",
    "geometric_rewards",
    "linear_cost",
    "piecewise_linear_cost",
    "power_cost",
    "power_law",
    "quadratic_cost",
    "ranking_game",
    "reward_gaps",
    "tabulated",
    "top_k",
    "validate",
    "winner_take_all",
]
