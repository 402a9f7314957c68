"""The game on a grid of efforts, solved for all its pure equilibria by brute force.

    >>> from tbtjax import linear_cost, power_law, ranking_game
    >>> from tbtjax.enumeration import grid_equilibria
    >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
    >>> levels = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]
    >>> [int(grid_equilibria(game, delta, levels).count) for delta in (0.0, 10.0)]
    [0, 1]

Every profile of effort levels is looked at, and no theorem is used: an independent check of what
`is_zero_effort_pne` and `best_response` say, for small games. Between levels a grid sees nothing,
so it can have equilibria that the game has not, and others' equilibria can be missing from it.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax._batch import Roads, chunk_size, map_games
from tbtjax._checks import as_argument, check_broadcast
from tbtjax._records import Record, align
from tbtjax._rivals import compare_scores, is_ahead
from tbtjax.effort import aligned_at, checked_level
from tbtjax.game import RankingGame, models_present
from tbtjax.response import Ties, developer_utility, standing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GridEquilibria(Record):
    """All pure equilibria on a grid of efforts; see `grid_equilibria`.

    Attributes:
      count: `[...]` int: how many there are; −1 for an unusable game.
      efforts: `[..., max_equilibria, n]` efforts of the first of them, those with low levels of the
        strongest models first; NaN where there are no more.
      zero_effort: `[...]` bool: whether it is one of them that nobody exerts effort.
      consistent: `[...]` bool: whether the ranking follows capability in all of them.
    """

    event_ndims: ClassVar[dict[str, int]] = {
        "count": 0, "efforts": 2, "zero_effort": 0, "consistent": 0,
    }  # fmt: skip
    event_dims: ClassVar[dict[str, tuple[str, ...]]] = {"efforts": ("equilibrium", "model")}

    count: jax.Array
    efforts: jax.Array
    zero_effort: jax.Array
    consistent: jax.Array


def payoff_array(
    game: RankingGame, delta: Any, levels: Any, *, ties: Ties = "baseline"
) -> jax.Array:
    """Utilities at every profile of effort levels: the game in normal form.

    For one game the result is what `quantecon.game_theory.NormalFormGame` takes, as a NumPy array.

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.
      levels: `[levels]` additional efforts in training steps that all models choose from, or
        `[..., n, levels]` with a set for each; they broadcast with the games.
      ties: who is ranked first where scores tie, see `developer_utility`.

    Returns:
      `[..., levels, …, levels, n]`: entry (l_0, …, l_{n−1}, i) is model i's utility where each
      model j plays its level l_j; as `developer_utility` has it.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: shapes do not broadcast, or `ties` is not one of those described.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.25))
      >>> payoff_array(game, 0.0, [0.0, 2.0])[0].tolist()
      [[1.0, 0.0], [0.0, 0.5]]
    """
    level, levels = _checked(game, delta, levels)
    return _payoffs(game, level, levels, ties)


@functools.partial(jax.jit, static_argnums=3)
def _payoffs(game: RankingGame, delta: jax.Array, levels: jax.Array, ties: Ties) -> jax.Array:
    levels = _of_each_model(game, levels)
    n, count = game.num_models, levels.shape[-1]
    profile = []
    for model in range(n):
        own = jnp.moveaxis(levels[..., model, :], -1, 0)  # [levels, ...]
        own = own.reshape(*(count if axis == model else 1 for axis in range(n)), *own.shape[1:])
        profile.append(jnp.broadcast_to(own, ((count,) * n) + own.shape[n:]))
    # Games' axes are last to broadcast, so profiles go in front of them and then behind.
    batch = jnp.broadcast_shapes(game.batch_shape, jnp.shape(delta), levels.shape[:-2])
    efforts = jnp.stack(profile, axis=-1)
    efforts = jnp.broadcast_to(
        efforts.reshape(*(count,) * n, *(1,) * (len(batch) + 1 + n - efforts.ndim),
                        *efforts.shape[n:]),
        (*(count,) * n, *batch, n),
    )  # fmt: skip
    utility = developer_utility(game, delta, efforts, ties=ties)
    return jnp.moveaxis(utility, range(n), range(-1 - n, -1))


def grid_equilibria(
    game: RankingGame,
    delta: Any,
    levels: Any,
    *,
    ties: Ties = "baseline",
    max_equilibria: int = 8,
) -> GridEquilibria:
    """All pure Nash equilibria among given effort levels, by brute force.

    A profile is one if no model has a level with more utility. All levels^n profiles of a game are
    looked at, game after game on a CPU: 64 levels are fine for 2 and 3 models, 16 for 4.

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.
      levels: `[levels]` additional efforts in training steps that all models choose from, or
        `[..., n, levels]` with a set for each; ≥ 0; they broadcast with the games. An absent model
        plays its first one.
      ties: who is ranked first where scores tie, see `developer_utility`.
      max_equilibria: how many of them to list for a game.

    Returns:
      The record. Where scores of three or more models are within rounding of each other, though
      not all within rounding of all, ranks can be shared.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: shapes do not broadcast, or `ties` or `max_equilibria` is not as described.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
      >>> found = grid_equilibria(game, 10.0, [0.0, 1.0, 2.0], max_equilibria=1)
      >>> int(found.count), found.efforts.tolist()
      (1, [[0.0, 0.0]])
    """
    if (
        isinstance(max_equilibria, bool)
        or not isinstance(max_equilibria, int)
        or max_equilibria < 1
    ):
        raise ValueError(f"max_equilibria must be an integer of 1 or more; got {max_equilibria!r}")
    level, levels = _checked(game, delta, levels)
    return _enumerate(game, level, levels, ties, max_equilibria)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Grid(Record):
    """Games, each with its level and the efforts to choose from."""

    event_ndims: ClassVar[dict[str, int]] = {"delta": 0, "levels": 2}

    game: RankingGame
    delta: jax.Array
    levels: jax.Array


def _checked(game: RankingGame, delta: Any, levels: Any) -> tuple[Any, Any]:
    """Δ `[...]` and effort levels `[levels]` or `[..., n or 1, levels]`, of the game's dtype."""
    delta = checked_level(game, delta)
    levels = as_argument("levels", levels, game.dtype)
    n = game.num_models
    models = levels.shape[-2:-1]
    if levels.shape[-1:] in ((), (0,)) or models not in ((), (1,), (n,)):
        raise ValueError(
            f"levels must be [levels], or [..., {n}, levels] with a set for each model, of one or "
            f"more levels; got shape {levels.shape}"
        )
    games = np.broadcast_shapes(game.batch_shape, delta.shape)
    check_broadcast(game=(*games, n), levels=(*levels.shape[:-2], n))
    return delta, levels


def _of_each_model(game: RankingGame, levels: jax.Array) -> jax.Array:
    """Effort levels as `[..., n, levels]`."""
    return jnp.broadcast_to(levels, (*levels.shape[:-2], game.num_models, levels.shape[-1]))


@functools.partial(jax.jit, static_argnums=(3, 4))
def _enumerate(
    game: RankingGame, delta: jax.Array, levels: jax.Array, ties: Ties, max_equilibria: int
) -> GridEquilibria:
    grid = _Grid(game, delta, _of_each_model(game, levels))
    n, count = grid.levels.shape[-2:]
    grid = align(jax.lax.stop_gradient(grid))
    solve = functools.partial(_solve, ties=ties, max_equilibria=max_equilibria)
    return map_games(Roads(solve), grid, entries_per_game=max(n, 1) * count**n)


def _solve(grid: _Grid, ties: Ties, max_equilibria: int) -> GridEquilibria:
    """A chunk of games: all profiles at once."""
    n, count = grid.levels.shape[-2:]
    size = chunk_size(grid)
    present = jnp.broadcast_to(models_present(grid.game), (size, n))
    ahead, utility_of, valid = _duels(grid, ties)
    index = jnp.arange(count)

    def along(values, *models):
        """`[levels, ..., games]`, levels of each of `models`, to `[games, *profile]`."""
        values = jnp.moveaxis(values, -1, 0)
        if len(models) == 2 and models[0] > models[1]:
            values = values.swapaxes(1, 2)
        shape = [count if axis in models else 1 for axis in range(n)]
        return values.reshape(values.shape[0], *shape)

    equilibrium = jnp.ones((size, *(count,) * n), bool)
    misranked = jnp.zeros((size, *(count,) * n), bool)
    zero = jnp.ones((size, *(count,) * n), bool)
    for model in range(n):
        rank = jnp.zeros((size, *(1,) * n), jnp.int8)
        for rival in range(n):
            if rival != model:
                passed = along(ahead[rival, ..., model], model, rival)
                rank = rank + passed.astype(jnp.int8)
                if rival > model:
                    misranked |= passed
        utility = along(utility_of(model, n - 1), model)
        for place in range(n - 2, -1, -1):
            utility = jnp.where(rank <= place, along(utility_of(model, place), model), utility)
        here = present[:, model].reshape(size, *(1,) * n)
        best = jnp.max(utility, axis=1 + model, keepdims=True)
        first = along(jnp.broadcast_to((index == 0)[:, None], (count, size)), model)
        equilibrium &= jnp.where(here, utility >= best, first)
        idle = along(jnp.broadcast_to(grid.levels[:, model] == 0, (size, count)).T, model)
        zero &= idle | ~here
    equilibrium &= valid.reshape(-1, *(1,) * n)
    flat = equilibrium.reshape(size, -1)
    number = jnp.sum(flat, axis=-1)
    # The positions of the first few: the k-th is where the running count reaches k.
    running = jnp.cumsum(flat, axis=-1)
    wanted = jnp.arange(1, max_equilibria + 1)
    where = jax.vmap(lambda row: jnp.searchsorted(row, wanted))(running)
    found = jnp.minimum(where, flat.shape[-1] - 1)
    efforts = []
    for model in range(n):
        chosen = found // count ** (n - 1 - model) % count
        own = jnp.broadcast_to(grid.levels[:, model], (size, count))
        efforts.append(jnp.take_along_axis(own, chosen, axis=-1))
    efforts = jnp.stack(efforts, axis=-1) if n else jnp.zeros((size, max_equilibria, 0))
    listed = wanted <= number[:, None]
    wrong = equilibrium & misranked
    profiles = tuple(range(1, n + 1))
    return GridEquilibria(
        count=jnp.where(valid, number, -1),
        efforts=jnp.where(listed[..., None], efforts, jnp.nan),
        zero_effort=jnp.any(equilibrium & zero, axis=profiles),
        consistent=~jnp.any(wrong, axis=profiles) & valid,
    )


def _duels(grid: _Grid, ties: Ties):
    """Who is ahead at each pair of levels, `[n, levels, levels, games, n]` (rival, own, its, …)."""
    levels = jnp.moveaxis(grid.levels, -1, 0)  # [levels, games, n]
    game, level = aligned_at(grid.game, grid.delta, 3)
    at = standing(game, level, ties)
    own, theirs = at.total(levels[:, None]), at.total(levels[None])
    compared = compare_scores(at.game, at.rivals, own, theirs)
    ahead = is_ahead(at.game, at.rivals, *compared, at.order)
    size = chunk_size(grid)
    n, count = grid.levels.shape[-2:]
    ahead = jnp.broadcast_to(ahead, (n, count, count, size, n))
    usable = (levels >= 0) | ~models_present(grid.game)
    valid = at.valid[0, 0] & jnp.all(usable, axis=(0, -1))

    def utility_of(model, place):
        rank = jnp.full((1, n), place)
        return jnp.broadcast_to(at.utility(rank, levels), (1, count, size, n))[0, ..., model]

    return ahead, utility_of, jnp.broadcast_to(valid, (size,))
