"""What joint fits have in common: sums over groups of curves, and derivatives in all unknowns.

A group is a number that its curves share. Whatever is said of a group stands in the place of each
of its curves, so that arrays keep their shape `[..., curves]`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tbtjax.measure._minimize import Curve, Problem
from tbtjax.measure._precision import products

#: Fitted limits stay apart by this share of the distance of their bounds.
APART = 1e-4
#: Limits to start from: so far from their bounds on the way to the outermost scores, or beyond.
_SHARES = (0.3, 0.9, 1.1)


class Derivatives(NamedTuple):
    """Half the derivatives of the loss in level, rate, lower and upper limit of each curve.

    Attributes:
      pull: `[4, curves]` minus half the gradient.
      gauss_newton: `[4, 4, curves]` Gauss-Newton's matrix, positive semidefinite.
      newton: `[4, 4, curves]` half the Hessian.
    """

    pull: jax.Array
    gauss_newton: jax.Array
    newton: jax.Array


def group_numbers(labels: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Numbers that no two groups share, below the number of curves, `[..., n]`.

    Args:
      labels: what the models of a group have in common, broadcastable to `shape`.
      shape: `[..., n]`.
    """
    labels = jnp.broadcast_to(labels, shape)
    if labels.size == 0:
        return jnp.zeros(shape, jnp.int32)
    order = jnp.argsort(labels, axis=-1)
    ordered = jnp.take_along_axis(labels, order, axis=-1)
    is_new = (ordered[..., 1:] != ordered[..., :-1]).astype(jnp.int32)
    ranks = jnp.cumsum(is_new, axis=-1, dtype=jnp.int32)
    ranks = jnp.concatenate([jnp.zeros((*shape[:-1], 1), jnp.int32), ranks], axis=-1)
    ranks = jnp.take_along_axis(ranks, jnp.argsort(order, axis=-1), axis=-1)
    boards = jnp.arange(math.prod(shape[:-1]), dtype=jnp.int32).reshape(shape[:-1])
    return ranks + shape[-1] * boards[..., None]


def over_groups(values: jax.Array, group: jax.Array, reduce: Callable = jax.ops.segment_sum):
    """The sum of each group, or what else `reduce` makes of it, in the place of its curves.

    Args:
      values: `[..., *curves]`.
      group: `[*curves]` numbers of the groups, below their number of entries.
      reduce: of `jax.ops`: `segment_sum`, `segment_max` or `segment_min`.
    """
    numbers = group.reshape(-1)
    leading = values.shape[: values.ndim - group.ndim]
    columns = values.reshape(math.prod(leading), numbers.size).T
    return reduce(columns, numbers, numbers.size)[numbers].T.reshape(values.shape)


def limits_to_try(problem: Problem, group: jax.Array) -> jax.Array:
    """`[tries, 2, curves]` lower and upper limits to start from, alike within a group."""
    there = problem.points.weight > 0
    least = jnp.min(jnp.where(there, problem.points.score, jnp.inf), axis=0)
    most = jnp.max(jnp.where(there, problem.points.score, -jnp.inf), axis=0)
    least = over_groups(least, group, jax.ops.segment_min)
    most = over_groups(most, group, jax.ops.segment_max)
    low, high = problem.low, problem.high
    least = jnp.where(jnp.isfinite(least), jnp.clip(least, low, high), low)
    most = jnp.where(jnp.isfinite(most), jnp.clip(most, low, high), high)
    shares = jnp.asarray(_SHARES, low.dtype)[:, None]
    lower = low[None] + shares * (least - low)[None]
    upper = high[None] - shares * (high - most)[None]
    tries = len(_SHARES)
    pairs = [jnp.repeat(lower, tries, axis=0), jnp.tile(upper, (tries, 1))]
    return jnp.stack(pairs, axis=1)


def derivatives(problem: Problem, curve: Curve) -> Derivatives:
    """Half the derivatives of the loss at `curve`."""
    error, by_place = problem.pull(curve), problem.slopes(curve)
    gauss_newton = products(problem.curvature(curve), by_place)
    # Second derivatives of the score: many measured curves are far from their family.
    turn = error * curve.rise * curve.fall
    bend = turn * (curve.upper - curve.lower)[None] * (curve.fall - curve.rise)
    powers = [jnp.ones_like(bend), problem.points.effort, problem.points.effort**2]
    bends = [jnp.sum(bend * x, axis=0) for x in powers]
    turns = [jnp.sum(turn * x, axis=0) for x in powers[:2]]
    none = jnp.zeros_like(turns[0])
    rows = [
        [bends[0], bends[1], -turns[0], turns[0]],
        [bends[1], bends[2], -turns[1], turns[1]],
        [-turns[0], -turns[1], none, none],
        [turns[0], turns[1], none, none],
    ]
    newton = gauss_newton - jnp.stack([jnp.stack(row) for row in rows])
    return Derivatives(jnp.sum(by_place * error[None], axis=1), gauss_newton, newton)


def times(left: jax.Array, right: jax.Array) -> jax.Array:
    """Products of small matrices, `[i, j, curves]` and `[j, k, curves]`."""
    return jnp.sum(left[:, :, None] * right[None], axis=1)
