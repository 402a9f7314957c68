"""Games drawn from a prior: each depends on the key and on its own index, and on nothing else.

Game i is drawn from `fold_in(key, i)`, each of its parameters from a key of its own, and each
model's value from the model's place. So chunks, devices and order cannot matter, larger games
extend smaller ones, and a study's cells see the same games (common random numbers).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax.costs import linear_cost, power_cost, quadratic_cost
from tbtjax.curves import power_law
from tbtjax.game import RankingGame, ranking_game
from tbtjax.rewards import geometric_rewards
from tbtjax.study.distributions import Constant, Integers, pick
from tbtjax.study.prior import Costs, Population, Prior, Rewards

#: Each parameter's own key; a new one takes a new number, so that earlier draws stay.
_KEYS = {
    "count": 0,
    "capability": 1,
    "learning_rate": 2,
    "lower": 3,
    "upper": 4,
    "prize": 5,
    "k": 6,
    "decay": 7,
    "rate": 8,
    "scale": 9,
    "exponent": 10,
    "linear": 11,
    "quadratic": 12,
    "member": 13,
}
_COSTS = {"linear": linear_cost, "power": power_cost, "quadratic": quadratic_cost}
#: Games drawn at once: a whole number of the widest vectors, whatever the number asked for.
_BLOCK = 1024


def sample_games(
    key: jax.Array,
    prior: Prior,
    shape: int | tuple[int, ...] = (),
    *,
    start: int = 0,
    dtype: Any = None,
) -> RankingGame:
    """Draws games from a prior.

    Args:
      key: a key of `jax.random`.
      prior: what to draw from.
      shape: leading axes of the games.
      start: index of the first game; `sample_games(key, prior, 10)` followed by
        `sample_games(key, prior, 10, start=10)` are the twenty of `sample_games(key, prior, 20)`.
      dtype: float32 or float64; JAX's default if None.

    Returns:
      Games with these leading axes, strongest model first; what the prior holds constant is
      stored once. Games of different size have a mask `present`.

    Raises:
      TypeError: `prior` is not a `Prior`.
      ValueError: `shape` or `start` is negative.

    Examples:
      >>> from tbtjax.study import Costs, Normal, Prior, Rewards, Uniform
      >>> prior = Prior(
      ...     count=3,
      ...     capability=Normal(mean=0.0, deviation=1.0),
      ...     learning_rate=Uniform(low=0.5, high=1.0),
      ...     rewards=Rewards(scheme="winner-take-all"),
      ...     cost=Costs(rate=0.01),
      ... )
      >>> games = sample_games(jax.random.key(0), prior, (4, 5))
      >>> games.batch_shape, games.num_models
      ((4, 5), 3)
    """
    if not isinstance(prior, Prior):
        raise TypeError(f"prior must be a Prior; got {type(prior).__name__}")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if start < 0 or any(size < 0 for size in shape):
        raise ValueError(f"shape and start must not be negative; got {shape} and {start}")
    dtype = jnp.zeros((), dtype or float).dtype
    size = math.prod(shape)
    firsts = range(start, start + size, _BLOCK)
    drawn = _as_drawn(prior)
    blocks = [draw_block(key, drawn, first, _BLOCK, dtype) for first in firsts]
    if not blocks:
        blocks = [jax.tree.map(lambda x: x[:0], draw_block(key, drawn, start, _BLOCK, dtype))]

    def join(*parts):
        games = jnp.concatenate(parts)[:size]
        return games.reshape(*shape, *games.shape[1:])

    return assemble(prior, jax.tree.map(join, *blocks), constants(prior, dtype), dtype)


def _as_drawn(prior: Prior) -> Prior:
    """The prior as its draws see it: with rewards and costs that are constant, the same ones.

    Priors that differ in them alone share a compiled program.
    """

    def is_constant(part: Rewards | Costs) -> bool:
        return all(isinstance(getattr(part, name), Constant) for name in part.scalars)

    changes: dict[str, Any] = {}
    if is_constant(prior.rewards):
        changes["rewards"] = Rewards(scheme="winner-take-all")
    if is_constant(prior.cost):
        changes["cost"] = Costs(rate=Constant(value=1.0))
    return prior.model_copy(update=changes)


@functools.partial(jax.jit, static_argnums=(1, 3, 4))
def draw_block(
    key: jax.Array, prior: Prior, first: Any, size: int, dtype: Any
) -> dict[str, jax.Array]:
    """Draws of the games `first`, …, `first + size − 1`; see `draw_game`.

    Returns:
      A dictionary of what varies: "alpha", "beta" `[size, n]`, "lower", "upper" `[size, 1 or n]`,
      "present" `[size, n]`, and scalars such as "rewards.prize" `[size, 1]`.
    """
    index = jnp.asarray(first, jnp.uint32) + jnp.arange(size, dtype=jnp.uint32)
    return jax.vmap(lambda i: draw_game(jax.random.fold_in(key, i), prior, dtype))(index)


def draw_game(key: jax.Array, prior: Prior, dtype: Any) -> dict[str, jax.Array]:
    """What varies of one game, drawn from its key."""
    n = prior.most_models
    keys = _Keys(key)
    game = {}
    size = n
    if isinstance(prior.count, Integers):
        size = prior.count.draw(keys["count"], (), jnp.int32)
        game["present"] = jnp.arange(n) < size
    if prior.population is None:
        game |= _models(keys, prior, size, dtype)
    else:
        game |= _members(keys, prior, prior.population, size, dtype)
    for name in prior.rewards.scalars:
        _add_scalar(game, keys, f"rewards.{name}", getattr(prior.rewards, name), (1,), dtype)
    shape = (n,) if prior.cost.per == "model" else (1,)
    for name in prior.cost.scalars:
        _add_scalar(game, keys, f"cost.{name}", getattr(prior.cost, name), shape, dtype)
    return game


class _Keys:
    """Keys of the parameters by name, made when asked for."""

    def __init__(self, key: jax.Array):
        self._key = key

    def __getitem__(self, name: str) -> jax.Array:
        return jax.random.fold_in(self._key, _KEYS[name])


def _add_scalar(game, keys, name, distribution, shape, dtype) -> None:
    if not isinstance(distribution, Constant):
        game[name] = distribution.draw(keys[name.rsplit(".", 1)[-1]], shape, dtype)


def _models(keys, prior: Prior, size: Any, dtype: Any) -> dict[str, jax.Array]:
    """Independent models, sorted by capability."""
    n = prior.most_models
    assert prior.capability is not None
    assert prior.learning_rate is not None
    alpha = prior.capability.draw(keys["capability"], (n,), dtype)
    beta = prior.learning_rate.draw(keys["learning_rate"], (n,), dtype)
    alpha, beta = _ordered(alpha, beta, prior.rate_order, size)
    game = {"alpha": alpha, "beta": beta}
    shape = (1,) if prior.limits == "shared" else (n,)
    for name in ("lower", "upper"):
        _add_scalar(game, keys, name, getattr(prior, name), shape, dtype)
    return game


def _ordered(alpha, beta, rate_order: str, size: Any):
    """The first `size` models by falling capability, their rates in the order asked for."""
    takes_part = jnp.arange(len(alpha)) < size
    order = jnp.argsort(jnp.where(takes_part, -alpha, jnp.inf))
    alpha, drawn = alpha[order], beta[order]
    if rate_order == "common":
        return alpha, jnp.broadcast_to(beta[:1], beta.shape)
    if rate_order == "descending":
        drawn = -jnp.sort(jnp.where(takes_part, -beta, jnp.inf))
    elif rate_order == "ascending":
        drawn = jnp.sort(jnp.where(takes_part, beta, jnp.inf))
    # Absent models hold an ordinary number.
    return alpha, jnp.where(takes_part, drawn, beta)


def _members(keys, prior: Prior, population: Population, size, dtype) -> dict[str, jax.Array]:
    """Models of a measured population."""
    n, measured = prior.most_models, len(population.alpha)
    alphas, betas = jnp.asarray(population.alpha, dtype), jnp.asarray(population.beta, dtype)
    noise = [jax.random.normal(keys[name], (n,), dtype) for name in ("capability", "learning_rate")]
    limits = {
        name: jnp.asarray(getattr(population, name), dtype)
        for name in ("lower", "upper")
        if isinstance(getattr(population, name), tuple)
    }
    if population.draw == "normal":
        pairs = np.stack([population.alpha, np.log(population.beta)])
        root = np.linalg.cholesky(np.cov(pairs) + 1e-12 * np.eye(2)).astype(dtype)
        mean = pairs.mean(axis=1).astype(dtype)
        alpha = mean[0] + root[0, 0] * noise[0]
        beta = jnp.exp(mean[1] + root[1, 0] * noise[0] + root[1, 1] * noise[1])
        alpha, beta = _ordered(alpha, beta, prior.rate_order, size)
        return {"alpha": alpha, "beta": beta}
    if population.draw == "measured":
        member = jnp.arange(measured)
    else:
        member = pick(keys["member"], (n,), measured)
        # Strongest first, as measured; models that are absent come last.
        member = jnp.sort(jnp.where(jnp.arange(n) < size, member, measured - 1))
    game = {name: values[member] for name, values in limits.items()}
    for name, values, move in (("alpha", alphas, noise[0]), ("beta", betas, noise[1])):
        deviation = getattr(population, f"{name}_deviation")
        spread = 0 if deviation is None else jnp.asarray(deviation, dtype)[member] * move
        game[name] = values[member] + spread
    if prior.learning_rate_order is not None:
        index = jnp.arange(n, dtype=dtype)
        game["beta"] = _ordered(-index, game["beta"], prior.rate_order, size)[1]
    return game


def assemble(
    prior: Prior, draws: dict[str, jax.Array], cell: dict[str, Any], dtype: Any
) -> RankingGame:
    """The games of some draws, with the scalars of a cell in place of the prior's.

    Args:
      prior: where the draws are from.
      draws: what `draw_block` returns; any leading axes.
      cell: scalars such as "rewards.prize", as `[]`, `[1]` or `[..., 1]` arrays.
      dtype: of the games.

    Returns:
      The games; differentiable in draws and cell.
    """

    def value(name: str, distribution: Any) -> jax.Array:
        found = cell.get(name, draws.get(name))
        return jnp.asarray(distribution.value if found is None else found, dtype)

    scalars = {
        name: value(f"cost.{name}", getattr(prior.cost, name)) for name in prior.cost.scalars
    }
    lower, upper = value("lower", prior.lower), value("upper", prior.upper)
    rewards = cell.get("rewards.unit")
    if rewards is None:
        rewards = unit_rewards(prior, draws, cell, dtype)
    return ranking_game(
        power_law(draws["alpha"], draws["beta"], lower, upper),
        value("rewards.prize", prior.rewards.prize) * rewards,
        _COSTS[prior.cost.kind](**scalars),
        draws.get("present"),
    )


def unit_rewards(
    prior: Prior, draws: dict[str, jax.Array], cell: dict[str, Any], dtype: Any
) -> jax.Array:
    """`[..., n]` rewards of a scheme before the prize multiplies them; arguments as `assemble`."""
    rewards, n = prior.rewards, prior.most_models
    present = draws.get("present")

    def value(name: str) -> jax.Array:
        key, fixed = f"rewards.{name}", getattr(rewards, name)
        found = cell.get(key, draws.get(key))
        return jnp.asarray(fixed.value if found is None else found, dtype)

    rank = jnp.arange(n, dtype=dtype)
    size = n if present is None else jnp.sum(present, axis=-1, keepdims=True, dtype=dtype)
    if rewards.scheme == "values":
        unit = jnp.asarray(rewards.values, dtype)
    elif rewards.scheme == "equal-gaps":
        unit = jnp.maximum(size - 1 - rank, 0) / (size - 1)
    elif rewards.scheme == "geometric":
        decay = value("decay")
        unit = geometric_rewards(n, decay[..., 0] if decay.ndim else decay)
    else:
        k = value("k") if rewards.scheme == "top-k" else 1
        unit = jnp.where(rank < k, 1, 0).astype(dtype)
    if rewards.prize_of == "all":
        unit = unit / jnp.sum(jnp.where(rank < size, unit, 0), axis=-1, keepdims=True)
    return unit


def constants(prior: Prior, dtype: Any) -> dict[str, np.ndarray]:
    """What the prior holds constant, by the names of `assemble`'s cells: `[]`, or `[n]` limits."""
    named = {f"rewards.{name}": getattr(prior.rewards, name) for name in prior.rewards.scalars}
    named |= {f"cost.{name}": getattr(prior.cost, name) for name in prior.cost.scalars}
    if prior.population is None:
        named |= {"lower": prior.lower, "upper": prior.upper}
    fixed = {name: x.value for name, x in named.items() if isinstance(x, Constant)}
    if prior.population is not None and prior.population.has_shared_limits:
        fixed |= {"lower": prior.population.lower, "upper": prior.population.upper}
    return {name: np.asarray(x, dtype) for name, x in fixed.items()}
