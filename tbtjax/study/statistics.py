"""Statistics that are merged part by part: counts, moments, extremes and histograms.

The order of merging is fixed by the sweep (blocks of draws, by index), so that the result has the
same bits on any number of devices.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of some numbers; merged after Chan et al."""

    count: Any
    mean: Any
    squares: Any


class Extremes(NamedTuple):
    """Least and largest of some numbers; +inf and −inf of none."""

    least: Any
    largest: Any


class Bins(NamedTuple):
    """Evenly spaced bins: one up to `low`, `count` between, one above.

    Attributes:
      low: where the first of the bins begins.
      width: of a bin.
      count: number of bins between the outer two.
    """

    low: float
    width: float
    count: int

    def edges(self) -> np.ndarray:
        """`[count + 1]` edges of the bins between the outer two."""
        return self.low + self.width * np.arange(self.count + 1)


#: Of log(1 + Δ) and log(1 + effort); the first bin holds the zeros.
LEVEL_BINS = Bins(0.0, 1 / 32, 2048)
#: Of differences of such logarithms.
GAP_BINS = Bins(-32.0, 1 / 32, 2048)


class Summary(NamedTuple):
    """Statistics of numbers that may be infinite.

    Attributes:
      moments: of the finite ones.
      extremes: of the finite ones.
      infinite: how many are +inf.
      histogram: `[..., count + 2]` of the finite ones.
    """

    moments: Moments
    extremes: Extremes
    infinite: Any
    histogram: Any


def moments(x: jax.Array, counted: jax.Array) -> Moments:
    """Moments over the first axis of the numbers that are finite and counted."""
    counted = counted & jnp.isfinite(x)
    count = jnp.sum(counted, axis=0, dtype=jnp.int32)
    divisor = jnp.maximum(count, 1).astype(x.dtype)
    mean = jnp.sum(jnp.where(counted, x, 0), axis=0) / divisor
    squares = jnp.sum(jnp.where(counted, x - mean, 0) ** 2, axis=0)
    return Moments(count, mean, squares)


def summary(x: jax.Array, counted: jax.Array, bins: Bins) -> Summary:
    """Statistics over the first axis, `[draws]` or `[draws, ...]`."""
    finite = counted & jnp.isfinite(x)
    extremes = Extremes(
        jnp.min(jnp.where(finite, x, jnp.inf), axis=0),
        jnp.max(jnp.where(finite, x, -jnp.inf), axis=0),
    )
    infinite = jnp.sum(counted & jnp.isposinf(x), axis=0, dtype=jnp.int32)
    flat, known = x.reshape(len(x), -1).T, finite.reshape(len(x), -1).T
    histogram = jax.vmap(lambda v, w: _histogram(v, w, bins))(flat, known)
    histogram = histogram.reshape(*x.shape[1:], bins.count + 2)
    return Summary(moments(x, counted), extremes, infinite, histogram)


def _histogram(x: jax.Array, counted: jax.Array, bins: Bins) -> jax.Array:
    place = jnp.ceil((jnp.where(counted, x, bins.low) - bins.low) / bins.width)
    place = jnp.clip(place, 0, bins.count + 1).astype(jnp.int32)
    place = jnp.where(counted, place, bins.count + 2)
    return jnp.zeros(bins.count + 2, jnp.int32).at[place].add(1, mode="drop")


def _library(x: Any) -> Any:
    """NumPy for what is NumPy's, else JAX's."""
    return np if isinstance(x, np.ndarray | np.generic) else jnp


def merge(first: Any, second: Any) -> Any:
    """Two statistics of the same structure, of `first`'s numbers followed by `second`'s."""
    if isinstance(first, Moments):
        count = first.count + second.count
        xp = _library(count)
        dtype = first.mean.dtype
        share = second.count.astype(dtype) / xp.maximum(count, 1).astype(dtype)
        apart = second.mean - first.mean
        mean = first.mean + apart * share
        squares = first.squares + second.squares + apart**2 * (first.count.astype(dtype) * share)
        return Moments(count, mean, squares)
    if isinstance(first, Extremes):
        xp = _library(first.least)
        return Extremes(
            xp.minimum(first.least, second.least), xp.maximum(first.largest, second.largest)
        )
    if isinstance(first, Summary):
        return Summary(*(merge(a, b) for a, b in zip(first, second, strict=True)))
    if isinstance(first, dict):
        return {name: merge(first[name], second[name]) for name in first}
    return first + second


def empty(like: Any) -> Any:
    """The statistics of no numbers, of the shapes and dtypes of `like`."""
    if isinstance(like, Extremes):
        return Extremes(
            jnp.full(like.least.shape, jnp.inf, like.least.dtype),
            jnp.full(like.largest.shape, -jnp.inf, like.largest.dtype),
        )
    if isinstance(like, dict):
        return {name: empty(x) for name, x in like.items()}
    if isinstance(like, Moments | Summary):
        return type(like)(*(empty(x) for x in like))
    return jnp.zeros(like.shape, like.dtype)


def standard_error(m: Moments) -> np.ndarray:
    """Monte Carlo standard error of the mean; NaN of fewer than two numbers."""
    count = np.asarray(m.count, np.float64)
    some = count > 1
    with np.errstate(over="ignore", invalid="ignore"):
        variance = np.asarray(m.squares, np.float64) / np.where(some, (count - 1) * count, np.nan)
    return np.sqrt(variance)


def mean(m: Moments) -> np.ndarray:
    """The mean; NaN of no numbers."""
    return np.where(np.asarray(m.count) > 0, m.mean, np.nan)


def share_error(share: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Monte Carlo standard error of a share of `count` games.

    From p̃ = (k + 1)/(count + 2), so that a share of none or all still has one.
    """
    count = np.asarray(count, np.float64)
    smooth = (share * count + 1) / (count + 2)
    return np.sqrt(smooth * (1 - smooth) / np.maximum(count, 1))


def quantiles(s: Summary, probabilities: np.ndarray, bins: Bins) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles and their errors, on the binned scale.

    A quantile is the number below which the share p of all numbers lies, infinite ones included,
    read off the histogram with numbers spread evenly inside a bin and between the extremes.

    Args:
      s: statistics, `[...]`.
      probabilities: `[quantiles]`.
      bins: of the histogram.

    Returns:
      `[..., quantiles]` values, +inf among the infinite numbers and NaN of no numbers; and one
      standard error each: half the distance of the quantiles at p ± √(p(1 − p)/N), plus the width
      of a bin.
    """
    histogram = np.asarray(s.histogram, np.int64)
    least, largest = np.asarray(s.extremes.least), np.asarray(s.extremes.largest)
    finite = histogram.sum(-1)
    total = finite + np.asarray(s.infinite, np.int64)
    below = np.concatenate([np.zeros_like(histogram[..., :1]), histogram.cumsum(-1)], axis=-1)
    # Left and right end of each bin, within the extremes.
    edges = np.concatenate([[-np.inf], bins.edges(), [np.inf]])
    # The zeros of the first bin are zeros.
    shape = (*histogram.shape[:-1], len(probabilities))

    def at(p: np.ndarray) -> np.ndarray:
        rank = np.clip(p, 0, 1) * np.maximum(total[..., None] - 1, 0)
        rank = np.broadcast_to(rank, shape)
        index = np.sum(below[..., None, 1:] <= rank[..., None], axis=-1)
        beyond = index >= histogram.shape[-1]
        index = np.minimum(index, histogram.shape[-1] - 1)
        start = np.take_along_axis(below, index, axis=-1)
        inside = np.take_along_axis(histogram, index, axis=-1)
        low = np.maximum(edges[index], least[..., None])
        high = np.minimum(edges[index + 1], largest[..., None])
        with np.errstate(invalid="ignore"):
            value = low + (high - low) * (rank - start + 0.5) / np.maximum(inside, 1)
        value = np.clip(value, least[..., None], largest[..., None])
        value = np.where(beyond, np.inf, value)
        return np.where(total[..., None] > 0, value, np.nan)

    p = np.asarray(probabilities, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.sqrt(p * (1 - p) / np.maximum(total[..., None], 1))
        value, low, high = at(np.broadcast_to(p, shape)), at(p - deviation), at(p + deviation)
        error = np.where(low == high, 0, (high - low) / 2)
    exact = (least == largest)[..., None] & np.isfinite(value)
    return value, np.where(exact, 0, error + bins.width)
