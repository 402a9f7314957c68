"""What developers get from their efforts, and the best each could do against the others.

    >>> from tbtjax import linear_cost, power_law, ranking_game
    >>> from tbtjax.response import best_response, deviation_gain
    >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
    >>> response = best_response(game, 0.0, [0.0, 0.0])
    >>> [f"{effort:.3f}" for effort in response.effort], response.rank.tolist()
    (['0.000', '1.718'], [0, 0])
    >>> [f"{gain:.3f}" for gain in deviation_gain(game, 0.0, [0.0, 0.0])]
    ['0.000', '0.828']

Against fixed rivals a developer's only sensible moves are no effort at all or just enough to rank
before one of them: a best response is the best of n moves, found without any grid of efforts.

Who ranks before whom is decided by one comparator (`tbtjax._rivals.compare_scores`): scores within
rounding of each other tie. Ties go to the model that is ahead at Δ without additional effort, and
there to the more capable.

Source: Chen, Zhang, Hardt (arXiv 2603.08371), eq. 1 and section 4; the exact best response is ours.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._batch import Roads, chunk_size, map_games
from tbtjax._checks import as_argument, check_broadcast
from tbtjax._records import Record
from tbtjax._rivals import (
    Rivals,
    compare_scores,
    every_model,
    is_ahead,
    ranks,
    rewards_of_ranks,
)
from tbtjax.effort import aligned_profile, checked_profile, effort_to_outrank
from tbtjax.game import RankingGame, is_valid, models_present

Ties = Literal["baseline", "capability"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BestResponse(Record):
    """The best each model could do against the others' efforts; see `best_response`.

    Attributes:
      utility: `[..., n]` supremum of its utility.
      effort: `[..., n]` least additional effort that brings or approaches it, in training steps.
      rank: `[..., n]` int: 0-based rank that it buys; −1 for an absent model or an unusable game.
    """

    utility: jax.Array
    effort: jax.Array
    rank: jax.Array


class Standing(NamedTuple):
    """Games at their levels, aligned, and how ties are broken there.

    Attributes:
      game: the aligned game.
      rivals: `every_model(game)`.
      level: `[..., 1]` tune-before-test level; 0 where it is unusable.
      order: `[..., n]` int: ties go to the model with the smaller number.
      valid: `[...]` bool: whether game and level are usable.
    """

    game: RankingGame
    rivals: Rivals
    level: jax.Array
    order: jax.Array
    valid: jax.Array

    @property
    def tie_suffices(self) -> jax.Array:
        """`[rivals, ..., n]` bool: whether a model ranks before a rival with the same score."""
        return self.rivals.real & (self.rivals.of(self.order) > self.order)

    def total(self, efforts: jax.Array) -> jax.Array:
        """Total effort Δ + e; an endless effort counts as the largest number there is."""
        return jnp.minimum(self.level + efforts, jnp.finfo(self.game.dtype).max)

    def utility(self, rank: jax.Array, efforts: jax.Array) -> jax.Array:
        """R_rank − c(e), −inf at endless effort, 0 for an absent model."""
        return self.net(rewards_of_ranks(self.game, rank), efforts)

    def net(self, reward: jax.Array, efforts: jax.Array) -> jax.Array:
        """`reward` − c(e), −inf at endless effort, 0 for an absent model."""
        finite = jnp.isfinite(efforts)
        paid = self.game.cost(jnp.where(finite, efforts, 0))
        utility = jnp.where(finite, reward - paid, -jnp.inf)
        return jnp.where(models_present(self.game), utility, 0)

    def reward_behind(self, count: int) -> jax.Array:
        """`[..., n or 1]` reward of a model that ranks before `count` of the others present."""
        n = self.game.num_models
        if self.game.present is None:
            rewards = jnp.broadcast_to(self.game.rewards, (*self.game.rewards.shape[:-1], n))
            return rewards[..., n - 1 - count : n - count]
        others = jnp.sum(self.rivals.real, axis=0)
        return rewards_of_ranks(self.game, jnp.maximum(others - count, 0))


def standing(game: RankingGame, level: jax.Array, ties: Ties) -> Standing:
    """What the functions of efforts need to know of an aligned game at the levels `[..., 1]`."""
    if ties not in ("baseline", "capability"):
        raise ValueError(f'ties must be "baseline" or "capability"; got {ties!r}')
    valid = is_valid(game) & ~jnp.isnan(level[..., 0])
    level = jnp.where(jnp.isnan(level), 0, level)
    rivals = every_model(game)
    order = jnp.arange(game.num_models).reshape(*(1,) * (level.ndim - 1), -1)
    if ties == "baseline":
        order = ranks(game, rivals, compare_scores(game, rivals, level))
    return Standing(game, rivals, level, order, valid)


def developer_utility(
    game: RankingGame, delta: Any, efforts: Any, *, ties: Ties = "baseline"
) -> jax.Array:
    """Utility of each developer at the given efforts.

    U_i = R_rank(i) − c_i(e_i), ranked by the scores v(θ_i, Δ + e_i).

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.
      efforts: `[..., n]` additional efforts over Δ in training steps, ≥ 0; they broadcast with the
        games.
      ties: who is ranked first where scores tie. "baseline": who is ahead at Δ without additional
        effort, and the more capable where that is a tie too; where capability decides the ranking
        at Δ, as under C1, that is the paper's rule. "capability": the more capable at any level.

    Returns:
      `[..., n]` utilities, in units of reward; −inf at endless effort; 0 for an absent model; NaN
      for unusable parameters or efforts and for a negative level. Scores within a few rounding
      errors of each other tie: an effort that just reaches a rival ties with it.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: shapes do not broadcast, or `ties` is not one of those described.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.25))
      >>> developer_utility(game, 0.0, [0.0, 2.0]).tolist()
      [0.0, 0.5]

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), eq. 1.
    """
    return _utility(game, *checked_profile(game, delta, efforts), ties)


def best_response(
    game: RankingGame, delta: Any, efforts: Any, *, ties: Ties = "baseline"
) -> BestResponse:
    """The best each developer could do against the efforts of the others.

    max over e_i ≥ 0 of R_rank − c_i(e_i) with the others' scores fixed: over no effort and the
    least efforts to rank before each rival (ours). Passing a rival to which ties go is an infimum
    that is not attained: the utility is then a supremum and the effort one at which scores still
    tie. Costs are taken to be continuous there.

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.
      efforts: `[..., n]` additional efforts over Δ in training steps, ≥ 0; they broadcast with the
        games. A model's own effort does not matter to its own response.
      ties: who is ranked first where scores tie, see `developer_utility`.

    Returns:
      The record `[..., n]`: where several moves are best, the one with the least effort. For an
      absent model utility and effort are 0. NaN and rank −1 for unusable parameters or efforts and
      for a negative level. Utility and effort can be differentiated in every parameter and in the
      rivals' efforts; at a kink the derivative is that of the move that is returned.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: shapes do not broadcast, or `ties` is not one of those described.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
      >>> [f"{u:.3f}" for u in best_response(game, 0.0, [5.0, 0.0]).utility]
      ['1.000', '0.000']
    """
    return _best_response(game, *checked_profile(game, delta, efforts), ties)


def deviation_gain(
    game: RankingGame, delta: Any, efforts: Any, *, ties: Ties = "baseline"
) -> jax.Array:
    """What each developer could gain by another effort, the others' efforts fixed.

    max over e_i' of U_i(e_i', e_−i) − U_i(e): the profile is an ε-equilibrium iff none exceeds ε.

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.
      efforts: `[..., n]` additional efforts over Δ in training steps, ≥ 0; they broadcast with the
        games.
      ties: who is ranked first where scores tie, see `developer_utility`.

    Returns:
      `[..., n]` gains in units of reward, a supremum and so not negative but for rounding; +inf at
      endless effort; 0 for an absent model; NaN for unusable parameters or efforts and for a
      negative level.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: shapes do not broadcast, or `ties` is not one of those described.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.25))
      >>> [f"{gain:.2f}" for gain in deviation_gain(game, 0.0, [1.0, 0.0])]
      ['0.25', '0.00']
    """
    return _deviation_gain(game, *checked_profile(game, delta, efforts), ties)


def is_epsilon_pne(
    game: RankingGame, delta: Any, efforts: Any, epsilon: Any = 0.0, *, ties: Ties = "baseline"
) -> jax.Array:
    """Whether nobody gains more than ε by another effort.

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.
      efforts: `[..., n]` additional efforts over Δ in training steps, ≥ 0; they broadcast with the
        games.
      epsilon: gain that is let pass, in units of reward; broadcasts with the games' axes.
      ties: who is ranked first where scores tie, see `developer_utility`.

    Returns:
      `[...]` bool; False for unusable parameters or efforts and for a negative level.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: shapes do not broadcast, or `ties` is not one of those described.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
      >>> [bool(is_epsilon_pne(game, 0.0, [0.0, 0.0], epsilon)) for epsilon in (0.8, 0.9)]
      [False, True]
    """
    level, efforts = checked_profile(game, delta, efforts)
    epsilon = as_argument("epsilon", epsilon, game.dtype)
    return _is_epsilon_pne(game, level, efforts, epsilon, ties)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Profiles(Record):
    """Aligned games, their levels `[..., 1]` and efforts `[..., n]`."""

    game: RankingGame
    level: jax.Array
    efforts: jax.Array


class _Move(NamedTuple):
    """What each model does best, `[..., n]` each.

    Attributes:
      rank: the rank that it buys.
      rival: the rival that it passes, −1 for nobody.
      tie_suffices: whether a tie suffices for it.
    """

    rank: jax.Array
    rival: jax.Array
    tie_suffices: jax.Array


@functools.partial(jax.jit, static_argnums=3)
def _utility(game: RankingGame, delta: jax.Array, efforts: jax.Array, ties: Ties) -> jax.Array:
    profiles = _Profiles(*aligned_profile(game, delta, efforts))
    rank = _by_chunks(lambda chunk: _ranks(*_profile(chunk, ties)[:2]), profiles)
    return _utility_of(profiles, rank)


@functools.partial(jax.jit, static_argnums=3)
def _best_response(
    game: RankingGame, delta: jax.Array, efforts: jax.Array, ties: Ties
) -> BestResponse:
    profiles = _Profiles(*aligned_profile(game, delta, efforts))
    move = _by_chunks(lambda chunk: _best_moves(*_profile(chunk, ties)[:2]), profiles)
    return _response_of(profiles, move)


@functools.partial(jax.jit, static_argnums=3)
def _deviation_gain(
    game: RankingGame, delta: jax.Array, efforts: jax.Array, ties: Ties
) -> jax.Array:
    profiles = _Profiles(*aligned_profile(game, delta, efforts))

    def now_and_best(chunk: _Profiles) -> tuple[jax.Array, _Move]:
        at, efforts, _ = _profile(chunk, ties)
        return _ranks(at, efforts), _best_moves(at, efforts)

    rank, move = _by_chunks(now_and_best, profiles)
    return _response_of(profiles, move).utility - _utility_of(profiles, rank)


@functools.partial(jax.jit, static_argnums=4)
def _is_epsilon_pne(game, delta, efforts, epsilon: jax.Array, ties: Ties) -> jax.Array:
    gain = _deviation_gain(game, delta, efforts, ties)
    check_broadcast(games=gain.shape[:-1], epsilon=epsilon.shape)
    return jnp.max(gain, axis=-1, initial=-jnp.inf) <= epsilon


def _utility_of(profiles: _Profiles, rank: jax.Array) -> jax.Array:
    """Utilities at the efforts, `[..., n]`, from the ranks that they bring."""
    at, efforts, valid = _profile(profiles, "capability")
    return _finished(at, at.utility(rank, efforts), valid, jnp.nan)


def _response_of(profiles: _Profiles, move: _Move) -> BestResponse:
    """The best responses: which move is best has no derivative, what it brings and takes has."""
    at, efforts, valid = _profile(profiles, "capability")
    moves = move.rival >= 0
    index = jnp.maximum(move.rival, 0)

    def of(x):
        shape = jnp.broadcast_shapes(x.shape, index.shape)
        return jnp.take_along_axis(
            jnp.broadcast_to(x, shape), jnp.broadcast_to(index, shape), axis=-1
        )[None]

    best_rival = Rivals(of, moves[None], index[None])
    effort = effort_to_outrank(
        at.game, best_rival, at.level, at.total(efforts), move.tie_suffices[None]
    )[0]
    effort = jnp.where(moves, effort, 0)
    present = models_present(at.game)
    return BestResponse(
        _finished(at, at.utility(move.rank, effort), valid, jnp.nan),
        _finished(at, jnp.where(present, effort, 0), valid, jnp.nan),
        _finished(at, jnp.where(present, move.rank, -1), valid, -1),
    )


def _by_chunks(solve: Any, profiles: _Profiles) -> Any:
    """`solve` on chunks of games that fit the cache, `[..., n]` each; without derivatives."""
    n = profiles.game.num_models

    def solve_all(chunk: _Profiles) -> Any:
        size = chunk_size(chunk)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (size, n)), solve(chunk))

    tree = jax.lax.stop_gradient(profiles)
    return map_games(Roads(solve_all), tree, entries_per_game=max(n * n, 1))


def _ranks(at: Standing, efforts: jax.Array) -> jax.Array:
    """Each model's rank at the efforts, `[games, n]`."""
    compared = compare_scores(at.game, at.rivals, at.total(efforts))
    return ranks(at.game, at.rivals, compared, at.order)


def _best_moves(at: Standing, efforts: jax.Array) -> _Move:
    """Each model's best move, `[games, n]`."""
    game, total = at.game, at.total(efforts)
    moves = effort_to_outrank(game, at.rivals, at.level, total, at.tie_suffices)
    moves = jax.lax.optimization_barrier(moves)  # or each of its uses works them out again
    compared = compare_scores(game, at.rivals, at.level, total)
    idle_rank = jnp.sum(is_ahead(game, at.rivals, *compared, at.order), axis=0)
    idle_utility = at.utility(idle_rank, jnp.zeros((), game.dtype))
    least = _least_of_few if game.num_models <= _MOST_ORDERED else _least_of_many
    best = jax.lax.optimization_barrier(least(at, moves, idle_utility))
    is_best = at.rivals.real & (moves == best)
    rival = jnp.max(jnp.where(is_best, at.rivals.index, -1), axis=0, initial=-1)
    # Rivals that take the same effort are outranked together.
    outranking = jnp.sum(at.rivals.real & (moves > best), axis=0)
    rank = jnp.where(best >= 0, outranking, idle_rank)
    return _Move(rank, rival, jnp.any(is_best & at.tie_suffices, axis=0))


#: Moves of so many models are put in order: of more, it is faster to count who is outranked.
_MOST_ORDERED = 12


def _least_of_few(at: Standing, moves: jax.Array, idle_utility: jax.Array) -> jax.Array:
    """`[games, n]` least of the efforts `[rivals, games, n]` that are worth most.

    −1 where none is worth more than `idle_utility`.
    """
    # In order of effort each move outranks one rival more than the one before it.
    ordered, last = list(moves), len(moves) - 1
    for round in range(len(moves)):
        for i in range(round % 2, last, 2):
            low, high = ordered[i], ordered[i + 1]
            ordered[i], ordered[i + 1] = jnp.minimum(low, high), jnp.maximum(low, high)
    most = idle_utility
    best = jnp.full(most.shape, -1, moves.dtype)
    for outranked, effort in enumerate(ordered[:-1], start=1):
        utility = at.net(at.reward_behind(outranked), effort)
        better = utility > most
        most, best = jnp.where(better, utility, most), jnp.where(better, effort, best)
    return best


def _least_of_many(at: Standing, moves: jax.Array, idle_utility: jax.Array) -> jax.Array:
    """As `_least_of_few`; each move outranks all rivals that take no more effort."""
    outranked = sum((effort <= moves).astype(jnp.int32) for effort in moves)
    reward = jnp.zeros_like(moves)
    for count in range(1, at.game.num_models):
        reward = jnp.where(outranked == count, at.reward_behind(count), reward)
    utility = jax.lax.optimization_barrier(at.net(reward, moves))
    most = jnp.max(utility, axis=0)
    least = jnp.min(jnp.where(utility == most, moves, jnp.inf), axis=0)
    return jnp.where(most > idle_utility, least, -1)


def _profile(profiles: _Profiles, ties: Ties) -> tuple[Standing, jax.Array, jax.Array]:
    """The games at their levels, usable efforts `[..., n]`, and which games are usable, `[...]`."""
    at = standing(profiles.game, profiles.level, ties)
    unusable = jnp.isnan(profiles.efforts)
    valid = at.valid & ~jnp.any(unusable & models_present(profiles.game), axis=-1)
    return at, jnp.where(unusable, 0, profiles.efforts), valid


def _finished(at: Standing, values: jax.Array, valid: jax.Array, unusable: Any) -> jax.Array:
    """`values` in the shape of all games, with `unusable` where a game is not valid."""
    shape = jnp.broadcast_shapes(values.shape[:-1], valid.shape)
    values = jnp.broadcast_to(values, (*shape, at.game.num_models))
    return jnp.where(valid[..., None], values, unusable)
