"""Batches of curves for the search: filled up to a few sizes, which are all that is compiled.

The search is nearly all of what a fit compiles, and compiles for seconds. A family of four models
and one of seven, or tasks with other numbers of checkpoints, are filled up with curves and points
without weight to the same shape, and share one program.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax.measure import _lbfgs, _levenberg, _shared
from tbtjax.measure._minimize import Points, Problem
from tbtjax.measure._queue import Method
from tbtjax.measure._starts import best_from_starts
from tbtjax.measure._summary import Minimum, summarize

#: The searches by name.
METHODS: dict[str, Method] = {"levenberg-marquardt": _levenberg, "lbfgs": _lbfgs}
#: Numbers of curves filled up to. The last is the most that are worked on at once: few enough for
#: their start grids to stay in cache.
_SIZES = (64, 256, 1024)
#: Numbers of points are filled up to a multiple of this; of the second number for so many curves
#: that working on what is filled in would take longer than compiling.
_POINTS, _FEW_POINTS = 16, 2


class Batch(NamedTuple):
    """Curves to fit, the curves' axes in front: `[...]` alone or `[chunks, curves]`.

    Attributes:
      points: measurements, each `[..., points]`.
      center: mean effort that those of the points are relative to.
      low: least value of the lower limit; see `Problem`.
      high: largest value of the upper limit.
      noise: 1 where the weights are known to be 1/σ², else 0.
      group: numbers of the groups that share limits, below the number of curves; None where none
        do.
    """

    points: Points
    center: jax.Array
    low: jax.Array
    high: jax.Array
    noise: jax.Array
    group: jax.Array | None


def in_chunks(batch: Batch, fill: bool) -> Batch:
    """The curves as `[chunks, curves]`.

    Args:
      batch: curves, `[...]`.
      fill: whether to fill up curves that make one chunk. What a caller traces is compiled for
        his shape anyway.
    """
    size, points = batch.center.size, batch.points.effort.shape[-1]
    width, more_points = _SIZES[-1], 0
    if batch.group is not None:  # the models of a board stay together
        models = max(batch.center.shape[-1], 1)
        width = max(1, width // models) * models
    if size <= _SIZES[-1]:
        width = next(x for x in _SIZES if size <= x) if fill else max(size, 1)
        more_points = -points % (_POINTS if width < _SIZES[-1] else _FEW_POINTS) if fill else 0
    chunks = max(1, -(-size // width))

    def arrange(x: jax.Array, filling: float = 0) -> jax.Array:
        flat = x.reshape(size, *x.shape[batch.center.ndim :])
        widths = [(0, chunks * width - size), (0, more_points)][: flat.ndim]
        filled = jnp.pad(flat, widths, constant_values=filling)
        return filled.reshape(chunks, width, *filled.shape[1:])

    # Between limits of 0 and 1 a curve without points is as good as any.
    arranged = jax.tree.map(arrange, batch)._replace(high=arrange(batch.high, 1))
    if batch.group is None:
        return arranged
    # Numbers of the groups begin anew in each chunk; curves filled in are groups of one.
    place = jnp.arange(chunks * width, dtype=batch.group.dtype).reshape(chunks, width)
    group = jnp.where(place < size, arranged.group, place)
    return arranged._replace(group=group - place[:, :1])


def out_of_chunks(found: Any, shape: tuple[int, ...]) -> Any:
    """What was found of the curves, `[chunks, curves, ...]`, as `[*shape, ...]`."""

    def arrange(x: jax.Array) -> jax.Array:
        return x.reshape(-1, *x.shape[2:])[: math.prod(shape)].reshape(*shape, *x.shape[2:])

    return jax.tree.map(arrange, found)


@functools.partial(jax.jit, static_argnames=("free", "loss", "method"))
def search(chunks: Batch, *, free: bool, loss: str, method: str) -> Minimum:
    """The best curves, `[chunks, curves]` and `[chunks, curves, 4]`.

    Args:
      chunks: the curves; groups among them share limits and are searched jointly.
      free: whether each curve has limits of its own to fit.
      loss: "chi2" or "deviance".
      method: one of `METHODS`; groups have a search of their own.
    """

    def fit(chunk: Batch) -> Minimum:
        columns = jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), chunk)
        points, center, low, high, noise, group = columns
        problem = Problem(points, low, high, noise, free, loss)
        if group is None:
            found = summarize(problem, best_from_starts(METHODS[method], problem), center)
        else:
            found = _shared.best_of_groups(problem, center, group)
        return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), found)

    if len(chunks.center) == 1:
        alone = fit(jax.tree.map(lambda x: x[0], chunks))
        return jax.tree.map(lambda x: x[None], alone)
    return jax.lax.map(fit, chunks)
