"""Records: frozen dataclasses of arrays whose leading axes are games.

A record's field is an array `[..., *event]`: leading axes are games and broadcast against each
other, the last `event_ndim` axes belong to one game (models; models and points). Fields are kept
in the shape the user gave, so that what is shared between games is stored once.
"""

import dataclasses
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

_T = TypeVar("_T")


def event_ndims(tree: Any) -> Any:
    """The number of trailing axes of each leaf that belong to one game, in `tree`'s structure.

    One (models) unless the leaf's record says otherwise in its class attribute `event_ndims`, a
    mapping from field name to number of axes.
    """
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        own = getattr(type(tree), "event_ndims", {})
        changes = {}
        for field in dataclasses.fields(tree):
            value = getattr(tree, field.name)
            if field.name in own:
                changes[field.name] = jax.tree.map(lambda _, k=own[field.name]: k, value)
            elif not field.metadata.get("static", False):
                changes[field.name] = event_ndims(value)
        return dataclasses.replace(tree, **changes)
    return jax.tree.map(lambda _: 1, tree)


def batch_shape(tree: Any) -> tuple[int, ...]:
    """The broadcast shape of the games' axes of all leaves of `tree`."""
    shapes = jax.tree.map(
        lambda x, k: jnp.shape(x)[: max(jnp.ndim(x) - k, 0)], tree, event_ndims(tree)
    )
    leaves = jax.tree.leaves(shapes, is_leaf=lambda x: isinstance(x, tuple))
    return np.broadcast_shapes(*leaves)


def num_models(tree: Any) -> int:
    """The common size of the models axis of all leaves of `tree`; 1 where no leaf has one."""

    def size(x, k):
        return (jnp.shape(x)[-k],) if k > 0 and jnp.ndim(x) >= k else (1,)

    sizes = jax.tree.map(size, tree, event_ndims(tree))
    leaves = jax.tree.leaves(sizes, is_leaf=lambda x: isinstance(x, tuple))
    return np.broadcast_shapes((1,), *leaves)[0]


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
    """What every record offers: `batch_shape`, `num_models` and `record[i]`."""

    event_ndims: ClassVar[dict[str, int]] = {}

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
        if shape == () and index not in ((), Ellipsis):
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
        return x.reshape(*(1,) * (wanted - games), *x.shape[:games], *event)

    return jax.tree.map(pad, tree, event_ndims(tree))
