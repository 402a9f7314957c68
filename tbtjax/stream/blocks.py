"""Games filled up to few sizes, and cut into blocks of few lengths."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tbtjax.stream.records import POINTS, Layout

# Sizes that numbers of models are rounded up to.
_SIZES = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64),
    *(80, 96, 128, 160, 192, 256, 384, 512, 768, 1024),
)  # fmt: skip
# Blocks of games: no more parameters than the core works on at a time (`tbtjax._batch`), and no
# more pairs than memory is for.
_BLOCKS = (2000, 1000, 500, 250, 125, 64, 32, 16, 8, 4, 2, 1)
_BLOCK_ENTRIES, _BLOCK_PAIRS = 20_000, 1 << 20
# Many of these are still a number.
_LONGEST_STEP = 1e300


def size_of(models: int) -> int:
    """What a number of models is rounded up to."""
    return next(size for size in _SIZES if size >= models)


def most_games(size: int) -> int:
    """How many games of a size are worked on at a time at most."""
    return max(1, min(_BLOCK_ENTRIES // size, _BLOCK_PAIRS // size**2))


def block_of(size: int) -> int:
    """How many games of a size are in a block."""
    return next(block for block in _BLOCKS if block <= most_games(size))


class Games(NamedTuple):
    """Games of one layout, filled up to a size.

    Attributes:
      layout: their layout, of the models that they have.
      arrays: parameters `[games, ...]`, and `delta`.
      rows: `[games]` their places in the window.
    """

    layout: Layout
    arrays: dict[str, np.ndarray]
    rows: np.ndarray

    def some(self, mask: np.ndarray) -> "Games":
        """Those in the mask."""
        arrays = {name: x[mask] for name, x in self.arrays.items()}
        return Games(self.layout, arrays, self.rows[mask])

    def taken_apart(self, pairs: np.ndarray) -> "Games":
        """A game for each pair `[pairs, 2]` of models of each game, in order."""
        columns, shapes = {}, []
        for name in self.layout.fields:
            x = self.arrays[name]
            if x.shape[1] == 1:
                columns[name] = np.repeat(x[:, 0], len(pairs))
                shapes.append(())
            else:
                columns[name] = x[:, pairs].reshape(-1, 2, *x.shape[2:])
                shapes.append((2, *x.shape[2:]))
        layout = self.layout._replace(models=2, shapes=tuple(shapes))
        arrays = filled_up(layout, columns, self.arrays["rewards"].shape[1])
        arrays["delta"] = np.repeat(self.arrays["delta"], len(pairs))
        return Games(layout, arrays, np.arange(len(arrays["delta"])))

    def blocks(self, length: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """The first game and the parameters of each block."""
        for start in range(0, len(self.rows), length):
            here = slice(start, start + length)
            yield start, {name: _whole_block(x[here], length) for name, x in self.arrays.items()}


def pairs_of(models: int, deviations: str) -> np.ndarray:
    """`[pairs, 2]` a stronger model and the weak one that might pass it; neighbours first."""
    ranks = range(1, _furthest(models, deviations) + 1)
    pairs = [(weak - apart, weak) for apart in ranks for weak in range(apart, models)]
    return np.array(pairs, int).reshape(-1, 2)


def count_pairs(models: int, deviations: str) -> int:
    """How many pairs `pairs_of` gives."""
    furthest = _furthest(models, deviations)
    return furthest * models - furthest * (furthest + 1) // 2


def _furthest(models: int, deviations: str) -> int:
    return models - 1 if deviations == "all" else min(models - 1, 1)


def _whole_block(x: np.ndarray, block: int) -> np.ndarray:
    """The rows, the last one repeated up to `block` rows."""
    if len(x) == block:
        return x
    return x[np.minimum(np.arange(block), len(x) - 1)]


def filled_up(layout: Layout, columns: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """The parameters `[games, size]`, or `[games, 1]` for limits that all models share."""
    shapes = dict(zip(layout.fields, layout.shapes, strict=True))
    shared = {name for name in ("lower", "upper") if shapes.get(name) == ()}
    keep_shared = len(shared) == 2
    arrays = {}
    for name, values in columns.items():
        if name in POINTS:
            less = name == "cost.breakpoints"
            points = 1 << max(1, (values.shape[-1] + less - 1).bit_length())
            arrays[name] = _points_filled_up(values, layout.models, size, points - less)
        elif name in shared and keep_shared:
            arrays[name] = values[:, None]
        elif values.ndim == 1:
            arrays[name] = np.repeat(values[:, None], size, axis=1)
        else:
            arrays[name] = np.pad(values, ((0, 0), (0, size - layout.models)), mode="edge")
    if size > layout.models and "alpha" in arrays:
        # Lower in the logit by more than the learning rate: further off by more than a factor e.
        step = np.minimum(1 + np.abs(arrays["beta"][:, -1:]), _LONGEST_STEP)
        arrays["alpha"][:, layout.models :] -= step * np.arange(1, size - layout.models + 1)
    return arrays


def _points_filled_up(values: np.ndarray, models: int, size: int, points: int) -> np.ndarray:
    """Points `[games, size, points]`; NaN after the last."""
    if values.ndim == 2:
        values = np.repeat(values[:, None], models, axis=1)
    values = np.pad(values, ((0, 0), (0, size - models), (0, 0)), mode="edge")
    more = points - values.shape[2]
    return np.pad(values, ((0, 0), (0, 0), (0, more)), constant_values=np.nan)
