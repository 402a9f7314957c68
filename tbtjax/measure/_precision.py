"""Precisions and covariances of fitted curves: small matrices, many at once, `[k, k, curves]`."""

import jax
import jax.numpy as jnp

from tbtjax.measure._minimize import Curve, Problem

#: Deviations of (level, rate) that steps are measured against where the points say little.
_FARTHEST = (10.0, 3.0)


def least_precision(problem: Problem, loss: jax.Array) -> jax.Array:
    """`[4, curves]` precisions that keep the covariance within `_FARTHEST` at such a loss."""
    spread = loss / problem.degrees
    farthest = jnp.asarray([*_FARTHEST, jnp.inf, jnp.inf], spread.dtype)
    return spread[None] / farthest[:, None] ** 2


def covariance_at(problem: Problem, curve: Curve, least: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse of the Gauss-Newton (Fisher) matrix, half the Hessian of the loss, at `curve`.

    Args:
      problem: the curves to fit.
      curve: where the matrix is taken.
      least: `[4, curves]` precisions added for level, rate, lower and upper.

    Returns:
      `[4, 4, curves]` covariance of level, rate, lower and upper at unit scale, 0 beside what is
      not fitted, and `[4, curves]` square roots of the precisions: where one is 0 nothing is known.
    """
    matrix = products(problem.fisher_weight(curve), problem.sensitivities(curve))
    matrix += jnp.where(jnp.eye(4, dtype=bool)[..., None], least[None], 0)
    return inverse_of_precision(matrix)


def products(weight: jax.Array, rows: jax.Array) -> jax.Array:
    """Σ weight·row·row over the points, `[k, k, curves]`, of `[k, points, curves]`."""
    return jnp.sum((weight[None] * rows)[:, None] * rows[None], axis=2)


def inverse_of_precision(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse of precision matrices, `[k, k, curves]`, and the square roots of their diagonals.

    0 beside what has no precision, where the root is 0.
    """
    roots = jnp.sqrt(diagonal(matrix))
    scales = jnp.where(roots > 0, roots, 1)
    scales = scales[:, None] * scales[None]
    # As correlations, with the least ridge that keeps a singular matrix invertible.
    ridge = 8 * jnp.finfo(matrix.dtype).eps
    is_diagonal = jnp.eye(len(matrix), dtype=bool)[..., None]
    correlations = jnp.where(is_diagonal, 1 + ridge, matrix / scales)
    return _inverse(correlations) / scales, roots


def diagonal(matrix: jax.Array) -> jax.Array:
    """`[k, curves]` diagonal of `[k, k, curves]`."""
    return jnp.sum(jnp.where(jnp.eye(len(matrix), dtype=bool)[..., None], matrix, 0), axis=0)


def _inverse(matrix: jax.Array) -> jax.Array:
    """Inverse of small positive definite matrices, by Gauss-Jordan sweeps without pivoting."""
    number = jnp.arange(len(matrix))

    def sweep(k, matrix):
        is_row, is_column = (number == k)[:, None, None], (number == k)[None, :, None]
        column, pivot = matrix[:, k], matrix[k, k]
        # The column at hand makes room for that of the inverse.
        matrix = jnp.where(is_column, is_row.astype(matrix.dtype), matrix)
        row = matrix[k] / pivot[None]
        return jnp.where(is_row, row[None], matrix - column[:, None] * row[None])

    return jax.lax.fori_loop(0, len(matrix), sweep, matrix)
