"""Records: frozen dataclasses of arrays whose leading axes are games.

A record's field is an array `[..., *event]`: leading axes are games and broadcast against each
other, the last `event_ndim` axes belong to one game (models; models and points). Fields are kept
in the shape the user gave, so that what is shared between games is stored once.
"""

import dataclasses
import functools
from typing import Any, ClassVar, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax import _conversion

_T = TypeVar("_T")


def event_ndims(tree: Any) -> Any:
    """The number of trailing axes of each leaf that belong to one game, in `tree`'s structure.

    One (models) unless the leaf's record says otherwise in its class attribute `event_ndims`, a
    mapping from field name to number of axes.
    """
    if _is_record(tree):
        own = getattr(type(tree), "event_ndims", {})
        changes = {}
        for field in dataclasses.fields(tree):
            value = getattr(tree, field.name)
            if field.name in own:
                changes[field.name] = jax.tree.map(lambda _, k=own[field.name]: k, value)
            elif not field.metadata.get("static", False):
                changes[field.name] = event_ndims(value)
        return dataclasses.replace(tree, **changes)
    return jax.tree.map(lambda x: event_ndims(x) if _is_record(x) else 1, tree, is_leaf=_is_record)


def _is_record(x: Any) -> bool:
    return dataclasses.is_dataclass(x) and not isinstance(x, type)


@functools.cache
def _plan(kind: type) -> tuple[tuple[str, int | None], ...]:
    """A record's fields that hold arrays, each with its own number of axes, None if not said."""
    own = getattr(kind, "event_ndims", {})
    return tuple(
        (field.name, own.get(field.name))
        for field in dataclasses.fields(kind)
        if field.name in own or not field.metadata.get("static", False)
    )


def _shapes(tree: Any) -> list[tuple[tuple[int, ...], int]]:
    """The leaves' shapes, each with the number of trailing axes that belong to one game.

    It is asked for several times in every call, so it takes no more of Python than it must.
    """
    if isinstance(tree, jax.Array):
        return [(tree.shape, 1)]
    found: list[tuple[tuple[int, ...], int]] = []
    if not _is_record(tree):
        for leaf in jax.tree.leaves(tree, is_leaf=_is_record):
            found += _shapes(leaf) if _is_record(leaf) else [(np.shape(leaf), 1)]
        return found
    for name, ndim in _plan(type(tree)):
        value = getattr(tree, name)
        if isinstance(value, jax.Array):
            found.append((value.shape, 1 if ndim is None else ndim))
        elif ndim is not None:
            found += [(np.shape(leaf), ndim) for leaf in jax.tree.leaves(value)]
        elif value is not None:
            found += _shapes(value)
    return found


def batch_shape(tree: Any) -> tuple[int, ...]:
    """The broadcast shape of the games' axes of all leaves of `tree`."""
    shapes = {shape[:-k] if k else shape for shape, k in _shapes(tree)}
    shapes.discard(())
    return np.broadcast_shapes(*shapes) if len(shapes) > 1 else next(iter(shapes), ())


def num_models(tree: Any) -> int:
    """The common size of the models axis of all leaves of `tree`; 1 where no leaf has one."""
    sizes = {shape[-k] for shape, k in _shapes(tree) if 0 < k <= len(shape)}
    sizes.discard(1)
    if len(sizes) > 1:
        np.broadcast_shapes(*((size,) for size in sizes))  # says what is wrong
    return next(iter(sizes), 1)


def register_with_types(kind: type[_T]) -> type[_T]:
    """Registers a frozen dataclass as a JAX pytree that knows the types inside; a class decorator.

    For records that hold curves or costs of any kind. jaxlib 0.10 takes two dataclasses that
    `jax.tree_util.register_dataclass` has registered for one another where they have as many
    fields. Only their hashes differ: one time in a hundred, what was compiled for games with the
    one is run on games with the other. Here the types are part of the structure.
    """
    names = [field.name for field in dataclasses.fields(cast(Any, kind))]
    keys = [jax.tree_util.GetAttrKey(name) for name in names]

    def flatten(record):
        values = [getattr(record, name) for name in names]
        return values, _Types(*[_type_of(value) for value in values])

    def flatten_with_keys(record):
        values, types = flatten(record)
        return list(zip(keys, values, strict=True)), types

    def unflatten(_, values):
        return kind(*values)

    jax.tree_util.register_pytree_with_keys(kind, flatten_with_keys, unflatten, flatten)
    return kind


@functools.cache
class _Types:
    """The types of a record's fields and of what is inside them; one object for the same types.

    Where a field holds no dataclass its type is not known (None) and goes with any: in `in_axes` of
    `jax.vmap` a number stands for a whole field.
    """

    def __init__(self, *types: Any):
        self._types = types

    def __eq__(self, other):
        pairs = zip(self._types, other._types, strict=True)
        return all(a == b or a is None or b is None for a, b in pairs)

    def __hash__(self):
        return 0


def _type_of(value: Any) -> Any:
    """A dataclass's type, with those of the fields that hold dataclasses themselves; else None."""
    kind = type(value)
    fields = _record_fields(kind)
    if not fields:
        return None
    inside = [_type_of(getattr(value, name)) for name in fields]
    return (kind, *inside) if any(inside) else kind


@functools.cache
def _record_fields(kind: type) -> tuple[str, ...]:
    return tuple(x.name for x in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


def take_games(tree: _T, shape: tuple[int, ...], index: Any) -> _T:
    """`tree` restricted to the games that `index` picks from the batch `shape`."""

    def take(x, k):
        if jnp.ndim(x) <= k:
            return x  # shared by all games
        event = jnp.shape(x)[jnp.ndim(x) - k :]
        wide = jnp.broadcast_to(x, (*shape, *event))
        items = index if isinstance(index, tuple) else (index,)
        if any(item is Ellipsis for item in items):
            items = (*items, *(slice(None),) * k)
        return wide[items]

    return jax.tree.map(take, tree, event_ndims(tree))


class Record:
    """What every record offers: shapes, `record[i]`, readable printing and conversions.

    Class attributes say what a field's axes are: `event_ndims`, how many of them belong to one game
    (1, models, where it does not say); `event_dims`, their names ("model" alone, or "model" and
    points); `enums`, the names of its numbers.
    """

    event_ndims: ClassVar[dict[str, int]] = {}
    event_dims: ClassVar[dict[str, tuple[str, ...]]] = {}
    enums: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):
            cls.__repr__ = Record.__repr__  # instead of a dataclass's own

    def __repr__(self) -> str:
        """The fields, their values (of many, the range) and what they are; safe under tracing."""
        return _conversion.summary(self)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name.

        Returns:
          NumPy arrays, Python numbers where one has no axes, the names of statuses, and a
          dictionary for each record inside.
        """
        return _conversion.to_dict(self)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each game.

        Where all fields are about the same models (or pairs of neighbours), there is a row for each
        of these; else numbers of models and pairs have a column each, `by_pair[0]`, `by_pair[1]`.

        Raises:
          ImportError: pandas is not installed.
        """
        return _conversion.to_pandas(self)

    def to_xarray(self) -> Any:
        """An xarray Dataset with dimensions `game` (or `game_0`, …), `model`, ….

        Raises:
          ImportError: xarray is not installed.
        """
        return _conversion.to_xarray(self)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The games' axes: the broadcast shape of all leading axes."""
        return batch_shape(self)

    @property
    def num_models(self) -> int:
        """The size of the models axis (1 where every parameter is shared by all models)."""
        return num_models(self)

    def __getitem__(self: _T, index: Any) -> _T:
        """The games that `index` picks; it applies to the games' axes alone."""
        shape = batch_shape(self)
        if shape == () and not (index is Ellipsis or (isinstance(index, tuple) and not index)):
            raise IndexError(f"this {type(self).__name__} holds one game: it has no games' axis")
        return take_games(self, shape, index)


def align(tree: _T, ndim: int | None = None) -> _T:
    """`tree` with every leaf `[..., *event]` given the same number of games' axes.

    Shared parameters get axes of size 1 in front and within, so that stacking rivals in front of
    one parameter lines up with every other.

    Args:
      tree: a record.
      ndim: number of games' axes; that of the batch shape if None.
    """
    wanted = len(batch_shape(tree)) if ndim is None else ndim

    def pad(x, k):
        x = jnp.asarray(x)
        games = max(x.ndim - k, 0)
        event = (1,) * (k - x.ndim) + x.shape[games:]
        shape = (*(1,) * (wanted - games), *x.shape[:games], *event)
        return x if x.shape == shape else x.reshape(shape)

    return jax.tree.map(pad, tree, event_ndims(tree))
