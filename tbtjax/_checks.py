"""Checks of arguments at the Python boundary, and of values inside a computation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
    """A way in which a parameter can be unusable, and where it is.

    Attributes:
      argument: name of the parameter.
      expected: what it should be, in words.
      values: the parameter, `[..., n]` (or fewer axes where shared).
      bad: bool, broadcastable to `[..., n]`: True where the value is unusable.
    """

    argument: str = dataclasses.field(metadata={"static": True})
    expected: str = dataclasses.field(metadata={"static": True})
    values: jax.Array
    bad: jax.Array


def as_array(name: str, value: Any, dtype: Any = None) -> jax.Array:
    """`value` as a real array, of `dtype` if one is given; its error names the argument.

    Takes whatever holds real numbers: Python numbers and nested lists, NumPy and JAX arrays, and
    anything with DLPack or `__array__`. Values are copied from memory that others may change.
    """
    return _on_device(_real(name, value), dtype)


def as_argument(name: str, value: Any, dtype: Any) -> Any:
    """As `as_array`, for what goes into a compiled program: what is not on a device stays in NumPy.

    The program takes it there in less time than an array of its own needs.
    """
    value = _real(name, value)
    return _on_device(value, dtype) if isinstance(value, jax.Array) else np.array(value, dtype)


def _real(name: str, value: Any) -> Any:
    """`value` as a JAX array, a NumPy array or a Python number, checked to be real.

    What needs no device stays in NumPy: making and casting device arrays costs more than all else
    that happens to a small game.
    """
    try:
        if type(value) in (int, float):
            float(value)  # an integer may be too large
            return value
        if not isinstance(value, jax.Array):
            value = _read(value)
    except (TypeError, ValueError, ArithmeticError, BufferError, RuntimeError) as error:
        said = str(error).split("\n")[0]
        raise TypeError(
            f"{name} must be an array of real numbers; got {value!r:.80} ({said:.120})"
        ) from error
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise TypeError(f"{name} must be an array of real numbers; got dtype {value.dtype}")
    return value


def _read(value: Any) -> Any:
    """A NumPy or JAX array of what is no JAX array."""
    if isinstance(value, (list, tuple)):
        try:
            return np.asarray(value)
        except (TypeError, ValueError, RuntimeError, jax.errors.TracerArrayConversionError):
            return jnp.asarray(value)  # of traced numbers
    if hasattr(value, "__jax_array__"):
        return jnp.asarray(value)
    if hasattr(value, "__array__"):
        try:
            array = np.asarray(value)
        except (TypeError, RuntimeError):
            if not hasattr(value, "__dlpack__"):
                raise
        else:
            if array.dtype == object and hasattr(value, "to_numpy"):  # a table's missing values
                array = value.to_numpy(dtype=np.float64, na_value=np.nan)
            return array
    if hasattr(value, "__dlpack__"):
        return jnp.from_dlpack(value, copy=True)
    return jnp.asarray(value)


def _on_device(value: Any, dtype: Any = None) -> jax.Array:
    """A JAX array of what `_real` gives; float64 becomes float32 while 64-bit mode is off."""
    if isinstance(value, jax.Array):
        is_right = dtype is None or (value.dtype == dtype and not value.weak_type)
        return value if is_right else jnp.asarray(value, dtype)
    if dtype is not None:
        return jnp.asarray(np.asarray(value, dtype))
    array = np.asarray(value)
    if array.dtype.kind in "iuO" and array.size:
        # Integers too long for JAX's own, which have 32 bits in 32-bit mode, become floats.
        limits = jnp.iinfo(jax.dtypes.canonicalize_dtype(np.int64))
        if array.max() > limits.max or array.min() < limits.min:
            return jnp.asarray(array.astype(float))
    return jnp.asarray(value)


def _strong_dtype(value: Any) -> Any:
    """The floating dtype that `value` insists on; None for integers and Python's numbers."""
    if isinstance(value, (int, float)) or getattr(value, "weak_type", False):
        return None
    dtype = jax.dtypes.canonicalize_dtype(value.dtype)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else None


def common_dtype(values: list[Any]) -> Any:
    """The floating dtype of `values`: the widest of those that are floating and not weakly typed.

    JAX's default floating dtype where there is none (Python numbers, integers).
    """
    strong = [dtype for dtype in map(_strong_dtype, values) if dtype is not None]
    if not strong:
        return jax.dtypes.canonicalize_dtype(np.float64)
    return max(strong, key=lambda dtype: jnp.finfo(dtype).bits)


def as_floating(**arguments: Any) -> list[jax.Array]:
    """The arguments, in order, as arrays of their one common floating dtype.

    Python numbers alone stay weakly typed: they take on the dtype of what they meet.
    """
    values = [_real(name, value) for name, value in arguments.items()]
    if all(isinstance(x, (int, float)) or getattr(x, "weak_type", False) for x in values):
        return [x * 1.0 if isinstance(x, jax.Array) else jnp.asarray(float(x)) for x in values]
    dtype = common_dtype(values)
    return [_on_device(x, dtype) for x in values]


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


def as_level(name: str, value: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """A tune-before-test level `[...]` of the games' dtype, checked against their batch shape."""
    level = as_argument(name, value, dtype)
    if level.shape in ((), shape):
        return level
    try:
        np.broadcast_shapes(level.shape, shape)
    except ValueError as error:
        raise ValueError(
            f"{name} must broadcast with the games' axes {shape}; got shape {level.shape}. "
            "To evaluate every game at several levels, give it a leading axis of its own: "
            f"{name}[:, None]"
        ) from error
    return level
