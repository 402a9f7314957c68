"""Checks of arguments at the Python boundary, and of values inside a computation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Problem(NamedTuple):
    """A way in which a parameter can be unusable, and where it is.

    Attributes:
      argument: name of the parameter.
      expected: what it should be, in words.
      values: the parameter, `[..., n]` (or fewer axes where shared).
      bad: bool, broadcastable to `[..., n]`: True where the value is unusable.
    """

    argument: str
    expected: str
    values: jax.Array
    bad: jax.Array


def as_array(name: str, value: Any) -> jax.Array:
    """`value` as a real array; its error names the argument."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of real numbers; got {value!r:.80}") from error
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise TypeError(f"{name} must be an array of real numbers; got dtype {array.dtype}")
    return array


def common_dtype(arrays: list[jax.Array]) -> Any:
    """The floating dtype of `arrays`: the widest of those that are floating and not weakly typed.

    JAX's default floating dtype where there is none (Python numbers, integers).
    """
    strong = [x.dtype for x in arrays if jnp.issubdtype(x.dtype, jnp.floating) and not x.weak_type]
    if not strong:
        return jnp.zeros(()).dtype
    return max(strong, key=lambda dtype: jnp.finfo(dtype).bits)


def as_floating(**arguments: Any) -> list[jax.Array]:
    """The arguments, in order, as arrays of their one common floating dtype.

    Python numbers alone stay weakly typed: they take on the dtype of what they meet.
    """
    arrays = [as_array(name, value) for name, value in arguments.items()]
    dtype = common_dtype(arrays)
    if all(x.weak_type for x in arrays):
        return [x * 1.0 for x in arrays]
    return [x.astype(dtype) for x in arrays]


def check_broadcast(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The broadcast of the named shapes; its error names the arguments and their shapes."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError as error:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"shapes do not broadcast: {found}; expected the last axis to hold models (its size n, "
            "or 1 for a value shared by all models of a game) and all leading axes to be games"
        ) from error


def as_level(name: str, value: Any, dtype: Any, shape: tuple[int, ...]) -> jax.Array:
    """A tune-before-test level `[...]` of the games' dtype, checked against their batch shape."""
    level = as_array(name, value).astype(dtype)
    try:
        np.broadcast_shapes(level.shape, shape)
    except ValueError as error:
        raise ValueError(
            f"{name} must broadcast with the games' axes {shape}; got shape {level.shape}. "
            "To evaluate every game at several levels, give it a leading axis of its own: "
            f"{name}[:, None]"
        ) from error
    return level
