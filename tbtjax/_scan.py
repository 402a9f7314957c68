"""Stretches of stable levels for any curves: a scan that classifies, then halvings.

The scan looks at `scan_levels` levels of y = log(1 + Δ) from 0 to the largest finite level of the
dtype, dense where levels are small: y = a·sinh(t) with t evenly spaced from 0 and a = 4, so the
spacing is near a·T/(scan_levels − 1) up to y ≈ a and grows in proportion to y beyond it, with
T = asinh(y_max/a). With 256 levels that is 0.092 in float64 and 0.060 in float32 near 0. Stretches
or interruptions shorter than the spacing can be missed. Between two levels that the scan has
classified, the end of a stretch is found by a fixed number of halvings.

Where scores saturate, their differences are rounding alone: the scan counts a gain within rounding
as none, lest noise interrupt a stretch. The halvings take the sign as it is: there it changes once,
or nobody can tell where.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax._intervals import largest_level


class Stretches(NamedTuple):
    """Stable levels of each game, in y = log(1 + Δ); every entry `[games]`.

    Attributes:
      first: least stable y; +inf where the scan found none.
      last: where that stretch ends; +inf where it does not.
      settled: least y from which on all is stable; +inf where there is none.
    """

    first: jax.Array
    last: jax.Array
    settled: jax.Array


class Hold(Protocol):
    """See `Conditions`."""

    def __call__(self, known: Any, /, *, lenient: bool) -> jax.Array:
        """Whether each game is stable; lenient: gains within rounding are none."""
        ...


class Conditions(NamedTuple):
    """What makes a level stable, in two steps, the second a turn of a loop after the first.

    In one the compiler would work out entry by entry, within the loop of the reduction, what it
    vectorizes alone.

    Attributes:
      at: takes levels y, `[games]` or 1 for all (as many axes), to any arrays: what to know there.
      hold: takes these to `[games]`: whether all conditions hold.
    """

    at: Callable[[jax.Array], Any]
    hold: Hold

    def nothing(self, like: jax.Array) -> Any:
        """Zeros in the shapes of `at`; inside shard_map they vary over devices as `like` does."""
        zero = _zero(like)
        return jax.tree.map(
            lambda x: jnp.broadcast_to(zero.astype(x.dtype), x.shape), jax.eval_shape(self.at, like)
        )


def _zero(like: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(like.ravel()[0]), 0, 0).astype(like.dtype)


_KNEE = 4.0


def scan_level(index: jax.Array, count: int, dtype) -> jax.Array:
    """The scan's level of y number `index` of `count`."""
    top = largest_level(dtype)
    step = float(np.arcsinh(top / _KNEE)) / (count - 1)
    return jnp.minimum(_KNEE * jnp.sinh(index.astype(dtype) * step), top)


def stable_stretches(conditions: Conditions, count: int, like: jax.Array) -> Stretches:
    """First stretch and settled level of each game.

    Args:
      conditions: what makes a level stable.
      count: number of levels of the scan.
      like: `[games]` array of the dtype wanted; its values do not matter.

    Returns:
      The stretches, each end on its stable side.
    """
    first, end, unstable = _classify(conditions, count, like)
    later = (first < count) & (unstable > first)
    changes = [
        _Change(first, first - 1, (first > 0) & (first < count)),
        _Change(end - 1, end, end < count),
        _Change(unstable + 1, unstable, later),
    ]
    y_first, y_last, y_settled = _locate(conditions, count, like, changes)
    return Stretches(
        first=jnp.where(first < count, y_first, jnp.inf),
        last=jnp.where(end < count, y_last, jnp.inf),
        settled=jnp.where(unstable < count - 1, jnp.where(later, y_settled, y_first), jnp.inf),
    )


def first_levels(conditions: Conditions, count: int, like: jax.Array) -> jax.Array:
    """The first stable y of each game alone; arguments as in `stable_stretches`."""
    first, *_ = _classify(conditions, count, like)
    change = _Change(first, first - 1, (first > 0) & (first < count))
    (y_first,) = _locate(conditions, count, like, [change])
    return jnp.where(first < count, y_first, jnp.inf)


def _classify(conditions: Conditions, count: int, like: jax.Array):
    """Indices of levels, `[games]` each.

    Returns:
      The first stable one, the first unstable one after it (`count` where there is none) and the
      last unstable one (−1 where there is none).
    """
    # Inside the caller's shard_map, the loops' carries must vary over devices as the games do.
    zero = _zero(like)
    none = jnp.where(jnp.isnan(like), count, count)

    def look(i, carry):
        known, first, end, unstable = carry
        ok, before = (i > 0) & conditions.hold(known, lenient=True), i - 1
        first = jnp.where(ok, jnp.minimum(first, before), first)
        end = jnp.where(~ok & (before > first), jnp.minimum(end, before), end)
        unstable = jnp.where(ok, unstable, before)
        y = scan_level(jnp.asarray(i), count, like.dtype) + zero
        return conditions.at(y.reshape((1,) * like.ndim)), first, end, unstable

    start = (conditions.nothing(like), none, none, none - count - 1)
    return jax.lax.fori_loop(0, count + 1, look, start)[1:]


class _Change(NamedTuple):
    """Between a stable and an unstable level of the scan, `[games]` each.

    Attributes:
      stable: index of the stable level.
      unstable: index of its unstable neighbour.
      exists: bool; False where the stable level is all there is to be found.
    """

    stable: jax.Array
    unstable: jax.Array
    exists: jax.Array


def _locate(conditions: Conditions, count: int, like: jax.Array, changes) -> jax.Array:
    """The last stable y next to each change, `[changes, games]`."""
    halvings = jnp.finfo(like.dtype).nmant + 3

    def halve(change):
        good, bad = (
            scan_level(jnp.clip(index, 0, count - 1), count, like.dtype)
            for index in (change.stable, change.unstable)
        )

        def step(i, carry):
            known, middle, good, bad = carry
            ok = change.exists & conditions.hold(known, lenient=False)
            good = jnp.where(ok & (i > 0), middle, good)
            bad = jnp.where(ok | (i == 0), bad, middle)
            middle = good + (bad - good) / 2
            return conditions.at(middle), middle, good, bad

        rounds = jnp.where(jnp.any(change.exists), halvings + 1, 0)
        start = (conditions.nothing(like), good, good, bad)
        return jax.lax.fori_loop(0, rounds, step, start)[2]

    # One after another: the condition is compiled once for all of them.
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *changes)
    return jax.lax.map(halve, stacked)
