"""The designer: what a tune-before-test level is worth, and which one to commit to.

    >>> from tbtjax import linear_cost, optimal_tbt, power_law, ranking_game
    >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [10.0, 0.0], linear_cost(1.0))
    >>> best = optimal_tbt(game, reward=50.0, cost_rate=1.0)
    >>> f"{best.delta:.2f} steps each, {best.paid:.2f} in all, worth {best.utility:.2f}"
    '4.82 steps each, 9.64 in all, worth 40.36'

The designer moves first and the developers answer: with `best.delta` and `best.efforts` this is the
Stackelberg–Nash pair.

Source: Chen, Zhang, Hardt (arXiv 2603.08371), eq. 2 and section 5. The choice at a finite reward is
ours.
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from tbtjax._checks import as_argument, as_level, check_broadcast
from tbtjax._records import Record
from tbtjax._rivals import compare_scores, ranks
from tbtjax.effort import aligned_profile, checked_profile
from tbtjax.equilibrium import is_zero_effort_pne
from tbtjax.game import RankingGame, check_game, models_present
from tbtjax.response import Ties, standing
from tbtjax.threshold import stabilizing_threshold

Agreement = Literal["exact", "kendall"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OptimalTbt(Record):
    """The designer's choice and what it brings and costs; see `optimal_tbt`.

    Attributes:
      delta: `[...]` the level to commit to, in training steps.
      utility: `[...]` the designer's utility there.
      stabilizes: `[...]` bool: whether at that level nobody gains by effort and the ranking follows
        capability.
      efforts: `[..., n]` the developers' answer: 0; NaN where there is no equilibrium.
      paid_by_model: `[..., n]` what tuning each model costs the designer.
      paid: `[...]` what it costs in total.
    """

    event_ndims: ClassVar[dict[str, int]] = dict.fromkeys(
        ("delta", "utility", "stabilizes", "paid"), 0
    )

    delta: jax.Array
    utility: jax.Array
    stabilizes: jax.Array
    efforts: jax.Array
    paid_by_model: jax.Array
    paid: jax.Array


def designer_utility(
    game: RankingGame,
    delta: Any,
    efforts: Any,
    reward: Any,
    cost_rate: Any,
    *,
    agreement: Agreement = "exact",
    ties: Ties = "baseline",
) -> jax.Array:
    """Utility of the designer at a tune-before-test level and the developers' efforts.

    U_D = B·1[the final ranking follows capability] − Σ_i c_i·Δ over the n present models, which is
    n·c·Δ where one rate is common to all; or with Kendall's τ in place of the indicator.

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.
      efforts: `[..., n]` additional efforts over Δ in training steps, ≥ 0; they broadcast with the
        games.
      reward: B ≥ 0, what a right ranking is worth; broadcasts with the games' axes.
      cost_rate: scalar, `[..., 1]` or `[..., n]`: cost of tuning a model by one step, ≥ 0.
      agreement: "exact", or "kendall": (concordant − discordant pairs)/(all pairs), 1 where fewer
        than two models are present.
      ties: who is ranked first where scores tie, as in `developer_utility`.

    Returns:
      `[...]` utility, in units of B; NaN for unusable games, levels, efforts, rewards or rates.

    Raises:
      TypeError: `game` is not a `RankingGame`, or an argument not an array of real numbers.
      ValueError: shapes do not broadcast, or `agreement` or `ties` is not one of those described.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
      >>> [float(designer_utility(game, 2.0, [0.0, e], 10.0, 0.5)) for e in (1.0, 20.0)]
      [8.0, -2.0]

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), eq. 2.
    """
    if agreement not in ("exact", "kendall"):
        raise ValueError(f'agreement must be "exact" or "kendall"; got {agreement!r}')
    level, efforts = checked_profile(game, delta, efforts)
    reward, rates = _designer_terms(game, reward, cost_rate)
    return _designer_utility(game, level, efforts, reward, rates, agreement, ties)


@functools.partial(jax.jit, static_argnums=(5, 6))
def _designer_utility(game, level, efforts, reward, rates, agreement: Agreement, ties: Ties):
    game, level, efforts = aligned_profile(game, level, efforts)
    reward, rates = _usable_terms(game, reward, rates)
    present = models_present(game)
    at = standing(game, level, ties)
    usable = at.valid & ~jnp.any(jnp.isnan(efforts) & present, axis=-1)
    total = at.total(jnp.where(jnp.isnan(efforts), 0, efforts))
    rank = ranks(game, at.rivals, compare_scores(game, at.rivals, total), at.order)
    if agreement == "exact":
        by_capability = jnp.cumsum(present, axis=-1) - 1
        agreed = jnp.all((rank == by_capability) | ~present, axis=-1).astype(game.dtype)
    else:
        agreed = _kendall(rank, present, game.dtype)
    utility = reward * agreed - _times(jnp.sum(rates, axis=-1), at.level[..., 0])
    return jnp.where(usable, utility, jnp.nan)


def _kendall(rank: jax.Array, present: jax.Array, dtype: Any) -> jax.Array:
    """Kendall's τ between the ranking and capability, `[...]`; ranks of present models differ."""
    n = rank.shape[-1]
    pair = present[..., :, None] & present[..., None, :] & jnp.tri(n, k=-1, dtype=bool)
    wrong = pair & (rank[..., :, None] < rank[..., None, :])
    pairs, wrongs = (jnp.sum(x, axis=(-2, -1)).astype(dtype) for x in (pair, wrong))
    return 1 - 2 * wrongs / jnp.maximum(pairs, 1)


def _times(rate: jax.Array, steps: jax.Array) -> jax.Array:
    """rate·steps, 0 where a rate of 0 meets endless steps."""
    return jnp.where(rate == 0, 0, rate * jnp.where(rate == 0, 0, steps))


def _designer_terms(game: RankingGame, reward: Any, cost_rate: Any) -> tuple[jax.Array, jax.Array]:
    """B `[...]` and the rate of each model `[..., n or 1]`, as arrays of the game's dtype."""
    shape, n = game.batch_shape, game.num_models
    reward = as_level("reward", reward, game.dtype, shape)
    rates = as_argument("cost_rate", cost_rate, game.dtype)
    rates = rates.reshape(rates.shape or (1,))
    if rates.shape[-1] not in (1, n):
        raise ValueError(
            f"cost_rate must have {n} entries on the last axis, one per model (or 1 for all "
            f"alike); got shape {rates.shape}"
        )
    check_broadcast(game=(*shape, n), cost_rate=(*rates.shape[:-1], n))
    return reward, rates


def _usable_terms(game: RankingGame, reward: Any, rates: Any) -> tuple[jax.Array, jax.Array]:
    """B `[...]`, and the rate of each present model `[..., n]` (0 for others); NaN if unusable."""
    rates = jnp.where(rates >= 0, rates, jnp.nan)
    rates = jnp.where(models_present(game), rates, 0)
    return jnp.where(reward >= 0, reward, jnp.nan), rates


def optimal_tbt(game: RankingGame, reward: Any, cost_rate: Any) -> OptimalTbt:
    """The tune-before-test level that is best for the designer, at a finite reward.

    A level pays B if nobody gains by effort there and the ranking follows capability; Δ* is the
    first such level, and cost rises with Δ. So the best level is Δ* where B − Σ_i c_i·Δ* ≥ 0, and 0
    else: without an equilibrium the ranking pays nothing.

    Args:
      game: any batch `[...]` of games.
      reward: B ≥ 0, what a right ranking is worth to the designer; broadcasts with the games' axes.
        +inf is the paper's large B.
      cost_rate: scalar, `[..., 1]` or `[..., n]`: cost of tuning a model by one step, ≥ 0.

    Returns:
      The record. Level 0 with utility B where no tuning is needed; level 0 with utility 0 where the
      level that stabilizes does not exist or costs more than B. NaN, and `stabilizes` False, for
      unusable games, rewards or rates. Can be differentiated in every parameter, through Δ*; where
      B just pays for Δ* the choice jumps and has the derivative of the side that is returned.

    Raises:
      TypeError: `game` is not a `RankingGame`, or an argument not an array of real numbers.
      ValueError: shapes do not broadcast.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [10.0, 0.0], linear_cost(1.0))
      >>> [f"{delta:.2f}" for delta in optimal_tbt(game, [20.0, 5.0], 1.0).delta]
      ['4.82', '0.00']

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), section 5; finite rewards are ours.
    """
    check_game(game)
    reward, rates = _designer_terms(game, reward, cost_rate)
    return _optimal_tbt(game, reward, rates)


@jax.jit
def _optimal_tbt(game: RankingGame, reward: jax.Array, rates: jax.Array) -> OptimalTbt:
    first = stabilizing_threshold(game).delta
    # Where nobody gains at Δ = 0 either, zero effort is the answer to that level too.
    still = is_zero_effort_pne(game, jnp.zeros((), game.dtype))
    reward, rates = _usable_terms(game, reward, rates)
    rate = jnp.sum(rates, axis=-1)
    # Masked before the product, so that a game without an answer leaves no NaN in gradients.
    exists = jnp.isfinite(first)
    needed = jnp.where(exists, first, 0)
    left = reward - rate * needed
    usable = ~(jnp.isnan(first) | jnp.isnan(left))
    stabilizes = exists & (left >= 0)

    def answer(x):
        return jnp.where(usable, jnp.where(stabilizes, x, 0), jnp.nan)

    delta = answer(needed)
    shape = (*jnp.broadcast_shapes(delta.shape, rates.shape[:-1]), game.num_models)
    efforts = jnp.where((still | stabilizes) & usable, 0, jnp.nan).astype(game.dtype)
    paid_by_model = jnp.broadcast_to(rates * delta[..., None], shape)
    return OptimalTbt(
        delta=delta,
        utility=answer(left),
        stabilizes=stabilizes,
        efforts=jnp.broadcast_to(efforts[..., None], shape),
        paid_by_model=paid_by_model,
        paid=jnp.sum(paid_by_model, axis=-1),
    )
