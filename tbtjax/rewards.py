"""Reward schemes: what each rank of the leaderboard is worth.

A scheme is an array `[..., n]`, rank 1 first, non-increasing. The schemes here are weakly typed
(`geometric_rewards` if its ratio is): they take on the dtype of the curves they are put together
with.

Source: Chen, Zhang, Hardt (arXiv 2603.08371), Ex. 2.2.
"""

from typing import Any

import jax
import jax.numpy as jnp

from tbtjax._checks import as_array


def _check_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer; got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more; got {value}")


def winner_take_all(n: int) -> jax.Array:
    """R = (1, 0, …, 0), `[n]`.

    Args:
      n: number of models, ≥ 0.

    Returns:
      `[n]` rewards, rank 1 first.

    Raises:
      TypeError: `n` is not an integer.
      ValueError: `n` is negative.

    Examples:
      >>> winner_take_all(3).tolist()
      [1.0, 0.0, 0.0]

    Source: arXiv 2603.08371, Ex. 2.2.
    """
    return top_k(n, 1)


def top_k(n: int, k: int) -> jax.Array:
    """R_r = 1 for the first k ranks, else 0, `[n]`.

    Args:
      n: number of models, ≥ 0.
      k: number of rewarded ranks, ≥ 0; all where k ≥ n.

    Returns:
      `[n]` rewards, rank 1 first.

    Raises:
      TypeError: `n` or `k` is not an integer.
      ValueError: `n` or `k` is negative.

    Examples:
      >>> top_k(4, 2).tolist()
      [1.0, 1.0, 0.0, 0.0]

    Source: arXiv 2603.08371, Ex. 2.2.
    """
    _check_count("n", n, 0)
    _check_count("k", k, 0)
    return jnp.where(jnp.arange(n) < k, 1.0, 0.0)


def equal_gaps(n: int) -> jax.Array:
    """R = (n − 1, n − 2, …, 0), `[n]`: every adjacent gap is 1.

    Args:
      n: number of models, ≥ 0.

    Returns:
      `[n]` rewards, rank 1 first.

    Raises:
      TypeError: `n` is not an integer.
      ValueError: `n` is negative.

    Examples:
      >>> equal_gaps(3).tolist()
      [2.0, 1.0, 0.0]
    """
    _check_count("n", n, 0)
    return jnp.arange(n - 1, -1, -1) * 1.0  # weakly typed, as times a Python number


def geometric_rewards(n: int, ratio: Any) -> jax.Array:
    """R_r = ratio^(r − 1), `[..., n]`.

    Args:
      n: number of models, ≥ 0.
      ratio: `[...]` reward of a rank over that of the rank before it, in [0, 1]; its axes become
        games.

    Returns:
      `[..., n]` rewards, rank 1 first.

    Raises:
      TypeError: `n` is not an integer, or `ratio` not an array of real numbers.
      ValueError: `n` is negative.

    Examples:
      >>> geometric_rewards(3, 0.5).tolist()
      [1.0, 0.5, 0.25]
    """
    _check_count("n", n, 0)
    ratio = as_array("ratio", ratio)
    powers = jnp.arange(n) * 1.0  # weakly typed, as times a Python number
    # 0⁰ = 1: the first rank's reward also where the ratio is 0.
    return jnp.where(powers == 0, 1.0, ratio[..., None] ** jnp.maximum(powers, 1.0))


def reward_gaps(rewards: Any) -> jax.Array:
    """Adjacent reward gaps G_r = R_{r−1} − R_r, `[..., n − 1]`.

    Args:
      rewards: `[..., n]`, rank 1 first.

    Returns:
      `[..., n − 1]`, entry j = what rank j + 1 is worth more than rank j + 2; `[..., 0]` where
      n ≤ 1.

    Raises:
      TypeError: `rewards` is not an array of real numbers.
      ValueError: `rewards` has no ranks' axis.

    Examples:
      >>> reward_gaps([5.0, 2.0, 1.0]).tolist()
      [3.0, 1.0]
    """
    rewards = as_array("rewards", rewards)
    if rewards.ndim == 0:
        raise ValueError("rewards must have ranks on its last axis; got a scalar")
    return rewards[..., :-1] - rewards[..., 1:]
