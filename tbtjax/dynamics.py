"""The arms race: what happens when developers keep answering each other's efforts.

    >>> from tbtjax import linear_cost, power_law, ranking_game
    >>> from tbtjax.dynamics import best_response_dynamics
    >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
    >>> [int(best_response_dynamics(game, delta, 0.0, 100, 0.5).period) for delta in (0.0, 10.0)]
    [34, 1]

Without an equilibrium (Thm. 4.6) the race never settles: models pass each other until passing is
not worth its cost, somebody gives up, the others fall back, and it starts again. Where zero effort
is an equilibrium it dies.

Source: Chen, Zhang, Hardt (arXiv 2603.08371), section 4; the dynamics are ours.
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax._checks import as_argument, as_level
from tbtjax._rivals import compare_scores, is_ahead, ranks
from tbtjax.effort import aligned_profile, checked_profile, effort_to_outrank
from tbtjax.game import RankingGame, models_present
from tbtjax.response import Standing, Ties, standing

Order = Literal["simultaneous", "sequential"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ArmsRace:
    """A race in rounds; see `best_response_dynamics`.

    Attributes:
      efforts: `[rounds + 1, ..., n]` additional efforts in training steps, the start first.
      scores: `[rounds + 1, ..., n]` scores v(θ_i, Δ + e_i).
      period: `[...]` int: after so many rounds the last profile returns, again and again; 1 where
        the race has settled, 0 where no repetition was seen.
      total_effort: `[..., n]` efforts summed over the rounds, without the start.
      wrong_ranking: `[...]` share of the rounds after which the ranking does not follow capability.
    """

    efforts: jax.Array
    scores: jax.Array
    period: jax.Array
    total_effort: jax.Array
    wrong_ranking: jax.Array


def best_response_dynamics(
    game: RankingGame,
    delta: Any,
    efforts: Any,
    rounds: int,
    margin: Any,
    *,
    order: Order = "simultaneous",
    ties: Ties = "baseline",
) -> ArmsRace:
    """Lets every model answer the others' efforts, round after round.

    A model's moves are its current effort, none, and for each rival the least effort that ranks
    before it: where a tie suffices the infimum itself (`best_response`), else the infimum and
    `margin` on top. Each is valued as it would be played, margin paid and ranked by the score it
    reaches; the model takes the best. It stays where nothing is better, and of equals it takes the
    least effort. So where the margin eats up a gain, the next best move is taken, often no effort:
    just below Δ* the race may settle although there is no equilibrium.

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.
      efforts: `[..., n]` additional efforts over Δ of the start, in training steps, ≥ 0; they
        broadcast with the games.
      rounds: number of rounds, ≥ 1. Memory is used for all of them.
      margin: effort on top of an infimum, in training steps, > 0; broadcasts with the games' axes.
        Scores within rounding tie: a margin of less than some ten units in the last place of
        (1 + Δ + e)·log(1 + Δ + e) passes nobody.
      order: "simultaneous": in a round all models answer the profile that the last round left.
        "sequential": in a round each model moves once, the strongest first, and sees the moves
        made before its own.
      ties: who is ranked first where scores tie, see `developer_utility`.

    Returns:
      The record. An absent model's efforts are 0 and its scores NaN. Unusable parameters, levels,
      efforts or margins give NaN, and period 0, for their game alone.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: shapes do not broadcast, or `rounds`, `order` or `ties` is not as described.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
      >>> race = best_response_dynamics(game, 0.0, 0.0, rounds=3, margin=0.1)
      >>> [[f"{effort:.2f}" for effort in profile] for profile in race.efforts]
      [['0.00', '0.00'], ['0.00', '1.82'], ['0.04', '1.82'], ['0.04', '1.92']]
    """
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise ValueError(f"rounds must be an integer of 1 or more; got {rounds!r}")
    if order not in ("simultaneous", "sequential"):
        raise ValueError(f'order must be "simultaneous" or "sequential"; got {order!r}')
    level, efforts = checked_profile(game, delta, efforts)
    step = as_argument("margin", margin, game.dtype)
    return _race(game, level, efforts, step, rounds, order, ties)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _race(game, level, efforts, margin, rounds: int, order: Order, ties: Ties) -> ArmsRace:
    game, level, efforts = aligned_profile(game, level, efforts)
    shape = np.broadcast_shapes(game.batch_shape, level.shape[:-1], efforts.shape[:-1])
    margin = as_level("margin", margin, game.dtype, shape)
    margin = margin.reshape(*(1,) * (level.ndim - 1 - margin.ndim), *margin.shape, 1)
    at = standing(game, level, ties)
    n, present = game.num_models, models_present(game)
    usable = present & ~jnp.isnan(efforts)
    valid = at.valid & jnp.all(usable | ~present, axis=-1) & (margin[..., 0] >= 0)
    margin = jnp.where(margin >= 0, margin, 0)
    shape = (*valid.shape, n)
    start = jnp.broadcast_to(jnp.where(usable, efforts, 0), shape)

    def all_at_once(profile):
        return jnp.broadcast_to(_answers(at, profile, margin), shape)

    def one_by_one(profile):
        def move(model, profile):
            return jnp.where(jnp.arange(n) == model, all_at_once(profile), profile)

        return jax.lax.fori_loop(0, n, move, profile)

    play = all_at_once if order == "simultaneous" else one_by_one

    def play_round(profile, _):
        profile = play(profile)
        return profile, (profile, _is_misranked(at, profile))

    last, (played, misranked) = jax.lax.scan(play_round, start, length=rounds)
    history = jnp.concatenate([start[None], played])
    # A round depends on the profile before it alone: once a profile returns, it returns for ever.
    same = jnp.all(history[:-1] == last, axis=-1)
    ago = rounds - jnp.arange(rounds).reshape(-1, *(1,) * valid.ndim)
    period = jnp.min(jnp.where(same, ago, rounds + 1), axis=0)
    period = jnp.where(valid & (period <= rounds), period, 0)
    scores = at.game.curves.score(at.total(history))
    return ArmsRace(
        efforts=jnp.where(valid[..., None], history, jnp.nan),
        scores=jnp.where(valid[..., None] & present, scores, jnp.nan),
        period=period,
        total_effort=jnp.where(valid[..., None], jnp.sum(played, axis=0), jnp.nan),
        wrong_ranking=jnp.where(valid, jnp.mean(misranked, axis=0, dtype=game.dtype), jnp.nan),
    )


def _answers(at: Standing, profile: jax.Array, margin: jax.Array) -> jax.Array:
    """`[..., n]` what each model plays against the profile, all moves valued as they are played."""
    game, rivals, total = at.game, at.rivals, at.total(profile)
    efforts = effort_to_outrank(game, rivals, at.level, total, at.tie_suffices)
    efforts = jnp.where(at.tie_suffices, efforts, efforts + margin)
    efforts = jnp.concatenate(
        [jnp.broadcast_to(x, (1, *efforts.shape[1:])) for x in (profile, jnp.zeros_like(profile))]
        + [efforts]
    )
    compared = compare_scores(game, rivals, at.total(efforts)[:, None], total)
    rank = jnp.sum(is_ahead(game, rivals, *compared, at.order), axis=1)
    utility = at.utility(rank, efforts)
    # The current effort comes first and is left only for a gain.
    best_effort, best_utility = efforts[1], utility[1]
    for effort, value in zip(efforts[2:], utility[2:], strict=True):
        better = (value > best_utility) | ((value == best_utility) & (effort < best_effort))
        best_effort = jnp.where(better, effort, best_effort)
        best_utility = jnp.where(better, value, best_utility)
    return jnp.where(best_utility > utility[0], best_effort, efforts[0])


def _is_misranked(at: Standing, profile: jax.Array) -> jax.Array:
    """`[...]` bool: whether a less capable model ranks before a more capable one."""
    compared = compare_scores(at.game, at.rivals, at.total(profile))
    rank = ranks(at.game, at.rivals, compared, at.order)
    before = (at.rivals.of(rank) < rank) & (at.rivals.index > jnp.arange(at.game.num_models))
    return jnp.any(before & at.rivals.real, axis=(0, -1))
