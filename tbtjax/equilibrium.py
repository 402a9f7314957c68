"""Is it an equilibrium that nobody exerts additional effort?

    >>> from tbtjax import is_zero_effort_pne, linear_cost, power_law, ranking_game
    >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
    >>> [bool(is_zero_effort_pne(game, delta)) for delta in (0.0, 10.0)]
    [False, True]

Source: Chen, Zhang, Hardt (arXiv 2603.08371), section 4.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._batch import Roads, chunk_size, map_games
from tbtjax._margins import stability_margin
from tbtjax._rivals import (
    Deviations,
    Rivals,
    check_deviations,
    compare_scores,
    gains_by_capability,
    is_ahead,
    next_stronger,
    other_models,
    rewards_of_ranks,
    score_lead,
    stronger_rivals,
)
from tbtjax._roads import columns_of, is_usable
from tbtjax._verdicts import sure_verdicts
from tbtjax.curves import PowerLaw
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
    game, level = jax.lax.stop_gradient(aligned_at(game, delta))
    n = game.num_models
    surely, if_ordered, any_order = (
        functools.partial(road, deviations=deviations)
        for road in (_surely, _if_ordered, _any_order)
    )
    roads = Roads(if_ordered, any_order)
    entries = n if deviations == "adjacent" else n * (n - 1)
    if isinstance(game.curves, PowerLaw) and game.present is None and n >= 2:
        roads = Roads(
            surely,
            any_order,
            again=if_ordered,
            on_accelerator=if_ordered,
            more_entries=entries // n,
        )
        entries = n
    return map_games(roads, _Levelled(game, level), entries_per_game=max(entries, 1))


class _Levelled(NamedTuple):
    """A chunk of games, and the level of each: `[games or 1, 1]`."""

    game: RankingGame
    level: jax.Array

    def wide(self, x: jax.Array) -> jax.Array:
        """`[games or 1]` to `[games]`."""
        return jnp.broadcast_to(x, (chunk_size(self),))

    def is_stable(self, rivals: Rivals, gain: jax.Array) -> jax.Array:
        """Whether no model gains by passing one of its rivals, `[games]`; gain `[rivals, …, n]`."""
        game, level = self
        budget = game.cost.effort_worth(gain)
        margin = stability_margin(game, rivals, jnp.log1p(level), budget)
        stable = jnp.all(~(gain > 0) | (margin >= 0), axis=(0, -1))
        return self.wide(stable & is_valid(game) & ~jnp.isnan(level[..., 0]))


def _surely(chunk: _Levelled, deviations: Deviations) -> tuple[jax.Array, jax.Array]:
    """The verdict on power laws where it is easily told, and the games where it is not."""
    game, level = chunk
    stable, is_sure = sure_verdicts(
        columns_of(game),
        chunk.wide(level[:, 0]),
        has_equal_limits=game.curves.has_equal_limits,
        most_ranks=game.num_models - 1 if deviations == "all" else 1,
    )
    return stable, ~(is_sure & is_usable(game))


def _if_ordered(chunk: _Levelled, deviations: Deviations) -> tuple[jax.Array, jax.Array]:
    """The verdict where scores surely follow capability, and the games where they may not."""
    game, level = chunk
    neighbours = next_stronger(game)
    above = compare_scores(game, neighbours, level).above
    is_open = ~chunk.wide(jnp.all(~neighbours.real | above, axis=(0, -1)))

    def ordered():
        rivals = stronger_rivals(game, deviations)
        return chunk.is_stable(rivals, gains_by_capability(game, rivals)), is_open

    def not_ordered():
        return _any_order(chunk, deviations), is_open & False

    # Where many are open, gathering them would cost more than it saves.
    return jax.lax.cond(jnp.mean(is_open) > 1 / 8, not_ordered, ordered)


def _any_order(chunk: _Levelled, deviations: Deviations) -> jax.Array:
    """The verdict whatever the baseline ranking is."""
    game, level = chunk
    rivals = other_models(game)
    ahead = is_ahead(game, rivals, score_lead(game, rivals, level))
    rank = jnp.sum(ahead, axis=0)
    if deviations == "adjacent":
        ahead &= rivals.of(rank) == rank - 1
    rewards = rewards_of_ranks(game, rank)
    return chunk.is_stable(rivals, jnp.where(ahead, rivals.of(rewards) - rewards, 0))
