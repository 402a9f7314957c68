"""Is it an equilibrium that nobody exerts additional effort?

    >>> from tbtjax import is_zero_effort_pne, linear_cost, power_law, ranking_game
    >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
    >>> [bool(is_zero_effort_pne(game, delta)) for delta in (0.0, 10.0)]
    [False, True]

Source: Chen, Zhang, Hardt (arXiv 2603.08371), section 4.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from tbtjax._rivals import (
    Deviations,
    check_deviations,
    is_ahead,
    other_models,
    rewards_of_ranks,
    score_lead,
    stability_margin,
)
from tbtjax.effort import aligned_at, checked_level
from tbtjax.game import RankingGame, is_valid


def is_zero_effort_pne(game: RankingGame, delta: Any, deviations: Deviations = "all") -> jax.Array:
    """Whether the all-zero effort profile is a pure Nash equilibrium at level Δ.

    c_r(e_{r→k}(Δ)) ≥ R_k − R_r for every model r and every k above it in the baseline ranking at Δ
    (ours, the exact condition), or for its neighbour above alone (Prop. 4.5). Decided in the
    budget form: with all the effort that passing is worth, r still does not pass k (for curves
    other than power laws: not by more than scores are rounded). At a level at which the baseline
    ranking does not follow capability, the verdict is on that ranking.

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.
      deviations: "all", the exact condition, or "adjacent", the paper's.

    Returns:
      `[...]` bool; False for unusable parameters and for a negative level. Where curves rise
      strictly and costs do, there is another equilibrium nowhere (Thm. 4.6); on a plateau or a
      falling curve the verdict speaks of the all-zero profile only.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: `delta` does not broadcast with the games' axes, or `deviations` is not one of
        those described.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
      >>> bool(is_zero_effort_pne(game, 10.0))
      True

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), Prop. 4.5, Thm. 4.6.
    """
    check_deviations(deviations)
    return _is_zero_effort_pne(game, checked_level(game, delta), deviations)


@functools.partial(jax.jit, static_argnums=2)
def _is_zero_effort_pne(game: RankingGame, delta: jax.Array, deviations: Deviations) -> jax.Array:
    game, level = aligned_at(game, delta)
    rivals = other_models(game)
    ahead = is_ahead(game, rivals, score_lead(game, rivals, level))
    rank = jnp.sum(ahead, axis=0)
    if deviations == "adjacent":
        ahead &= rivals.of(rank) == rank - 1
    rewards = rewards_of_ranks(game, rank)
    gain = jnp.where(ahead, rivals.of(rewards) - rewards, 0)
    budget = game.cost.effort_worth(gain)
    margin = stability_margin(game, rivals, jnp.log1p(level), budget, lenient=True)
    stable = jnp.all(~(ahead & (gain > 0)) | (margin >= 0), axis=(0, -1))
    return stable & is_valid(game) & ~jnp.isnan(level[..., 0])
