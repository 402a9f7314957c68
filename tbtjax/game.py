"""The leaderboard game: curves, rewards and costs of n models, in batches.

    >>> import tbtjax
    >>> curves = tbtjax.power_law([1.0, 0.0], [0.9, 0.8])
    >>> game = tbtjax.ranking_game(curves, tbtjax.winner_take_all(2), tbtjax.linear_cost(0.01))
    >>> game.num_models, game.batch_shape
    (2, ())

Models are indexed in decreasing capability: entry 0 of the last axis is the strongest.

Source: Chen, Zhang, Hardt (arXiv 2603.08371), section 2.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax._checks import Problem, as_array, check_broadcast, common_dtype
from tbtjax._records import Record, batch_shape, num_models, register_with_types


@register_with_types
@dataclasses.dataclass(frozen=True)
class RankingGame(Record):
    """A batch of leaderboard games; see `ranking_game`.

    Attributes:
      curves: a curve family (`tbtjax.curves`), parameters `[..., n]`, strongest model first.
      rewards: `[..., n]` value of each rank, rank 1 first.
      cost: a cost (`tbtjax.costs`).
      present: None, or `[..., n]` bool: which models take part.
    """

    curves: Any
    rewards: jax.Array
    cost: Any
    present: jax.Array | None = None

    @property
    def dtype(self) -> Any:
        """Floating dtype of the game's parameters."""
        return self.rewards.dtype


def _floating_leaves(tree: Any) -> list[jax.Array]:
    leaves = [x for x in jax.tree.leaves(tree) if hasattr(x, "dtype")]
    return [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]


def ranking_game(curves: Any, rewards: Any, cost: Any, present: Any = None) -> RankingGame:
    """Puts a game, or a batch of games, together.

    Args:
      curves: score curves of the n models, strongest first (`power_law`, `tabulated` or a family
        of your own).
      rewards: `[..., n]` value of each rank, rank 1 first, non-increasing; scalar or `[..., 1]`
        pays every rank alike.
      cost: cost of additional effort (`linear_cost`, …, or one of your own).
      present: `[..., n]` bool mask for games of different size in one batch: an absent model takes
        no rank, constrains nothing and has zero gradient; its parameters may be anything. The m
        present models share the first m ranks.

    Returns:
      The game; all floating parameters brought to their one common dtype.

    Raises:
      TypeError: an argument is not of the kind described.
      ValueError: the shapes do not broadcast.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> ranking_game(power_law([1.0, 0.0], 0.9), [1.0, 0.0], linear_cost(0.01)).num_models
      2

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), section 2.
    """
    for method in ("score", "effort_to_reach", "limit"):
        if not callable(getattr(curves, method, None)):
            raise TypeError(
                "curves must be a curve family with score, effort_to_reach and limit, such as "
                f"power_law(...); got {type(curves).__name__} without `{method}`"
            )
    if not callable(cost) or not callable(getattr(cost, "effort_worth", None)):
        raise TypeError(
            "cost must be callable on an effort and have effort_worth(value), such as "
            f"linear_cost(rate); got {type(cost).__name__}"
        )
    rewards = as_array("rewards", rewards)
    if rewards.ndim == 0:
        rewards = rewards[None]
    dtype = common_dtype([rewards, *_floating_leaves(curves), *_floating_leaves(cost)])

    def cast(x):
        if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        if isinstance(x, jax.Array) and x.dtype == dtype and not x.weak_type:
            return x
        return jnp.asarray(x, dtype)

    curves, cost, rewards = jax.tree.map(cast, (curves, cost, rewards))
    if not jnp.issubdtype(rewards.dtype, jnp.floating):
        rewards = rewards.astype(dtype)
    if present is not None:
        present = jnp.asarray(present)
        if present.dtype != jnp.bool_:
            raise TypeError(f"present must be a bool mask; got dtype {present.dtype}")
        if present.ndim == 0:
            present = present[None]
    parts = {"curves": curves, "rewards": rewards, "cost": cost, "present": present}
    check_broadcast(
        **{name: (*batch_shape(part), num_models(part)) for name, part in parts.items()}
    )
    n = np.broadcast_shapes(*((num_models(part),) for part in (curves, cost, present)))[0]
    if rewards.shape[-1] not in (1, n):
        raise ValueError(
            f"rewards must have {n} entries on the last axis, one per model (or 1 for all alike); "
            f"got shape {rewards.shape}"
        )
    return RankingGame(curves, rewards, cost, present)


def check_game(game: Any) -> None:
    """Raises unless `game` is a `RankingGame`."""
    if not isinstance(game, RankingGame):
        raise TypeError(
            f"game must be a RankingGame (ranking_game(...)); got {type(game).__name__}"
        )


def models_present(game: RankingGame) -> jax.Array:
    """`[..., n]` or `[n]` bool: which models take part."""
    if game.present is None:
        return jnp.ones(game.num_models, bool)
    return jnp.broadcast_to(game.present, (*game.present.shape[:-1], game.num_models))


def rewards_by_capability(game: RankingGame) -> jax.Array:
    """`[..., n]`: each model's reward where the present models rank by capability.

    Absent models get the reward of the rank before them; nothing may depend on it.
    """
    rewards = jnp.broadcast_to(game.rewards, (*game.rewards.shape[:-1], game.num_models))
    if game.present is None:
        return rewards
    rank = jnp.maximum(jnp.cumsum(models_present(game), axis=-1) - 1, 0)
    shape = np.broadcast_shapes(rank.shape, rewards.shape)
    return jnp.take_along_axis(
        jnp.broadcast_to(rewards, shape), jnp.broadcast_to(rank, shape), axis=-1
    )


def problems(game: RankingGame) -> list[Problem]:
    """Unusable parameters of present models, and where they are, `[..., n]`."""
    present = models_present(game)
    found = []
    for part in (game.curves, game.cost):
        if hasattr(part, "problems"):
            found += part.problems()
    if not hasattr(game.curves, "problems"):
        start = game.curves.score(jnp.zeros((), game.dtype))
        limit = game.curves.limit()
        unusable = jnp.isnan(start) | jnp.isnan(limit)
        found.append(Problem("curves", "without NaN at effort 0 and in the limit", start, unusable))
    # Absent models mask curves and costs; rewards belong to ranks, of which the first m are used.
    found = [dataclasses.replace(p, bad=p.bad & present) for p in found]
    rewards = jnp.broadcast_to(game.rewards, (*game.rewards.shape[:-1], game.num_models))
    used = jnp.arange(game.num_models) < jnp.sum(present, axis=-1, keepdims=True)
    found.append(Problem("rewards", "finite", rewards, ~jnp.isfinite(rewards) & used))
    rising = jnp.concatenate(
        [jnp.zeros_like(rewards[..., :1], bool), rewards[..., 1:] > rewards[..., :-1]], axis=-1
    )
    found.append(Problem("rewards", "non-increasing", rewards, rising & used))
    return found


_problems = jax.jit(problems)


def is_valid(game: RankingGame) -> jax.Array:
    """`[...]` bool: whether every parameter of the game's present models is usable."""
    shape = game.batch_shape
    valid = jnp.ones(shape, bool)
    for problem in problems(game):
        valid &= ~jnp.any(problem.bad, axis=-1)
    return valid


def validate(game: RankingGame) -> None:
    """Raises where a game has unusable values: NaN, rising rewards, negative rates, empty ranges.

    The core itself never raises for values: such a game gets status INVALID and NaN, and its
    neighbours are not touched. Call this outside jit, on data you did not make yourself.

    Args:
      game: any batch of games.

    Raises:
      ValueError: naming the argument, how many values are unusable, the first one's index
        (games' axes, then model) and what is expected.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> validate(ranking_game(power_law([1.0, 0.0], 0.9), [0.0, 1.0], linear_cost(0.01)))
      Traceback (most recent call last):
      ValueError: rewards must be non-increasing; 1 of 2 values is not, first at index (1,): 1.0
    """
    for problem in _problems(game):
        bad = np.asarray(problem.bad)
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            value = np.broadcast_to(np.asarray(problem.values), bad.shape)[index]
            count = int(bad.sum())
            raise ValueError(
                f"{problem.argument} must be {problem.expected}; {count} of {bad.size} values "
                f"{'is' if count == 1 else 'are'} not, first at index {index}: {value}"
            )
