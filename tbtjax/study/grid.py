"""The grid of a sweep cut into chunks: the units of work, of storage and of recovery.

A chunk is a rectangle of cells. Along axes that change the prior itself (number of models, reward
scheme, spread of capabilities, seed …) it is one cell wide, so that all its cells share their
draws; along the axes of rewards' and costs' numbers it is as large as about a million draws of
ten models make it. The cut depends on the sweep alone, never on the machine.
"""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from tbtjax.study.config import Axis, Sweep

#: Model draws per chunk, and cells per chunk at most.
_CHUNK_MODELS, _CHUNK_CELLS = 6_400_000, 2048


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A rectangle of cells.

    Attributes:
      index: its number; chunks are in row-major order.
      place: its coordinates in the grid of chunks.
      region: its slices of the grid's axes.
      fixed: values of the axes that change the prior, by parameter.
      cells: `[cells]` values of the axes of rewards' and costs' numbers, by parameter.
      shape: its shape; the number of cells is the product.
      leads: per axis, whether it is the first chunk along it.
    """

    index: int
    place: tuple[int, ...]
    region: tuple[slice, ...]
    fixed: dict[str, Any]
    cells: dict[str, np.ndarray]
    shape: tuple[int, ...]

    @property
    def leads(self) -> tuple[bool, ...]:
        """Per axis, whether this is the first chunk along it."""
        return tuple(p == 0 for p in self.place)


@dataclasses.dataclass(frozen=True)
class Grid:
    """The cells of a sweep and their chunks.

    Attributes:
      sweep: what the grid is of.
      axes: the axes of the cells.
      shape: number of cells along each.
      chunk_shape: number of cells of a chunk along each; the last ones may be smaller.
    """

    sweep: Sweep
    axes: tuple[Axis, ...]
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]

    @functools.cached_property
    def chunk_counts(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(-(-s // c) for s, c in zip(self.shape, self.chunk_shape, strict=True))

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return math.prod(self.chunk_counts)

    @functools.cached_property
    def _values(self) -> list[list[Any]]:
        return [axis.coordinates() for axis in self.axes]

    def chunk(self, index: int) -> Chunk:
        """The chunk of a number."""
        place = tuple(int(i) for i in np.unravel_index(index, self.chunk_counts))
        region = tuple(
            slice(p * c, min((p + 1) * c, s))
            for p, c, s in zip(place, self.chunk_shape, self.shape, strict=True)
        )
        shape = tuple(r.stop - r.start for r in region)
        fixed: dict[str, Any] = {}
        along = []
        for axis, values, part in zip(self.axes, self._values, region, strict=True):
            if not axis.is_scalar:
                fixed[axis.parameter] = values[part.start]
            along.append(values[part] if axis.is_scalar else [0.0])
        mesh = np.meshgrid(*(np.asarray(x, np.float64) for x in along), indexing="ij")
        cells = {
            axis.parameter: m.ravel()
            for axis, m in zip(self.axes, mesh, strict=True)
            if axis.is_scalar
        }
        return Chunk(index, place, region, fixed, cells, shape)


def make_grid(sweep: Sweep) -> Grid:
    """The grid of a sweep."""
    axes = sweep.grid_axes
    shape = tuple(len(axis.coordinates()) for axis in axes)
    counts = [axis.coordinates() for axis in axes if axis.parameter == "count"]
    models = max(counts[0]) if counts else sweep.games.most_models
    room = max(1, min(_CHUNK_MODELS // (sweep.draws * int(models)), _CHUNK_CELLS))
    chunk_shape = []
    for axis, size in zip(reversed(axes), reversed(shape), strict=True):
        width = 1
        if axis.is_scalar:
            # Chunks of nearly the same size.
            width = math.ceil(size / math.ceil(size / min(size, room)))
            room //= width
            room = max(room, 1)
        chunk_shape.append(width)
    return Grid(sweep, axes, shape, tuple(reversed(chunk_shape)))
