"""Stable intervals of power-law pairs with equal limits: the direct road to Δ*.

With y = log(1 + Δ), a weak model w, a rival k above it and g = what passing is worth in steps,
zero effort is stable for the pair iff (MODEL: budget form in logs; eq. 3 with equal limits)

    h(y) = d + m·y − log1p(g·e^{−y}) ≥ 0,    d = (α_k − α_w)/β_w,   m = β_k/β_w − 1.

h is concave, so a pair's stable levels form one interval, and so do a game's. Its ends are found by
Newton's method from outside, where concavity forbids overshooting. The twin

    k(y) = y + s + log(1 − e^{−s}) − log g,   s = d + m·y,

has the same root and is concave too; the larger of the two Newton steps is taken, since h handles
small s and k small m. All pairs of a game share one y: the binding pair decides.

Arrays are `[pairs, games]`: games last, so that a chunk's arithmetic runs over contiguous lanes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Pairs(NamedTuple):
    """Conditions h(y) ≥ 0 of some pairs, each `[pairs, games]`.

    Attributes:
      d: log of the distance in 1 + effort at Δ = 0.
      m: 1/ρ − 1, its growth with y.
      g: reward gap in steps, ≥ 0; 0 asks only for the right order.
      free: bool, True where the pair constrains nothing.
    """

    d: jax.Array
    m: jax.Array
    g: jax.Array
    free: jax.Array


class Interval(NamedTuple):
    """Stable levels of each game, in y = log(1 + Δ); every entry `[games]`.

    Attributes:
      first: the least stable y; +inf where there is none.
      last: the end of the stretch; +inf where it has none.
      first_pair: index of the pair that decides `first`; −1 where none does.
      last_pair: index of the pair that decides `last`; −1 where none does.
      converged: bool.
    """

    first: jax.Array
    last: jax.Array
    first_pair: jax.Array
    last_pair: jax.Array
    converged: jax.Array


# Newton's method converges quadratically but near a tangency (ρ > 1), where it halves the distance
# each round: as many rounds as halve it to nothing.
_MOST_ROUNDS = 80


def make_pairs(
    alpha_gap: jax.Array, beta_gap: jax.Array, beta_weak: jax.Array, g: jax.Array, free: jax.Array
) -> Pairs:
    """Pairs from α_k − α_w, β_k − β_w, β_w and g, each `[pairs, games]`.

    A weak model that does not rise, or so slowly that d or m overflows, never passes anyone: its
    condition is the order alone, α_k − α_w + (β_k − β_w)·y ≥ 0.
    """
    beta = jnp.where(beta_weak > 0, beta_weak, 1)
    d, m = alpha_gap / beta, beta_gap / beta
    rises = (beta_weak > 0) & jnp.isfinite(d) & jnp.isfinite(m)
    d, m = jnp.where(rises, d, alpha_gap), jnp.where(rises, m, beta_gap)
    return Pairs(jnp.where(free, 0, d), jnp.where(free, 0, m), jnp.where(rises & ~free, g, 0), free)


def largest_level(dtype) -> float:
    """The largest y = log(1 + Δ) whose Δ is a finite number of the dtype: no level lies beyond."""
    info = np.finfo(dtype)
    return float(np.log(np.float64(info.max)) * (1 - 4 * np.float64(info.eps)))


def _log(x: jax.Array) -> jax.Array:
    """log, and −inf at 0."""
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), -jnp.inf)


def _condition(pairs: Pairs, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """h(y), h'(y) and the size of h's rounding error, `[pairs, games]`."""
    d, m, g, _ = pairs
    q = g * jnp.exp(-y)
    growth = m * y
    needed = jnp.log1p(q)
    h = d + growth - needed
    finite = jnp.isfinite(q)
    share = jnp.where(finite, q, 1) / (1 + jnp.where(finite, q, 0))
    # Rounding of the terms, and of y itself in e^{−y}.
    size = jnp.abs(d) + jnp.abs(growth) + needed + share * (1 + y)
    return h, m + share, 2 * jnp.finfo(d.dtype).eps * size


def _peaks(pairs: Pairs) -> jax.Array:
    """Where h is largest on y ≥ 0: +inf where it never falls."""
    _, m, g, _ = pairs
    inside = (m < 0) & (m > -1) & (g > 0) & jnp.isfinite(g)
    m_inside = jnp.where(inside, m, -0.5)
    odds = -m_inside / (1 + m_inside)  # g·e^{−y} at the peak
    peak = jnp.maximum(_log(jnp.where(inside, g, 1)) - jnp.log(odds), 0)
    return jnp.where(m < 0, jnp.where(inside, peak, 0), jnp.inf)


def stable_interval(pairs: Pairs) -> Interval:
    """The stable levels common to all pairs of each game.

    Args:
      pairs: `[pairs, games]`, one pair or more; NaN gives an arbitrary answer for its game alone.

    Returns:
      The interval of each game, `[games]`.
    """
    d, m, g, free = pairs
    peak = _peaks(pairs)
    h_peak, _, noise_peak = _condition(pairs, jnp.where(jnp.isfinite(peak), peak, 0))
    never_rises = (m == 0) & ((d < 0) | ((d == 0) & (g > 0)))
    empty = ((m < 0) & (h_peak < -noise_peak)) | never_rises | ~jnp.isfinite(g)
    possible = ~jnp.any(empty & ~free, axis=0)
    first, first_pair, first_done = _first_level(pairs, peak, possible)
    last, last_pair, last_done = _last_level(pairs, peak, possible)
    top = largest_level(d.dtype)
    exists = possible & (first <= last) & (first <= top)
    return Interval(
        first=jnp.where(exists, first, jnp.inf),
        last=jnp.where(exists & (last <= top), last, jnp.inf),
        first_pair=jnp.where(exists & (first > 0), first_pair, -1),
        last_pair=jnp.where(exists & (last <= top), last_pair, -1),
        converged=~possible | (first_done & last_done),
    )


def _first_level(pairs: Pairs, peak: jax.Array, possible: jax.Array):
    """Newton from below on the pairs' rising branches, one y per game."""
    d, m, g, free = pairs
    log_g = _log(g)
    eligible = possible & ~free & jnp.isfinite(g)

    def look(y):
        """Where the tangents say the root is, who says so, and whether it is still to come."""
        h, slope, noise = _condition(pairs, y)
        rising = eligible & (y < peak) & (slope > 0)
        from_h = y - h / jnp.where(rising, slope, 1)
        s = d + m * y
        twin = rising & (s > 0) & (g > 0)
        t = -jnp.expm1(-jnp.where(twin, s, 1))
        k = y + s + jnp.log(t) - jnp.where(twin, log_g, 0)
        k_slope = 1 + m / t
        twin &= k_slope > 0
        from_k = y - k / jnp.where(twin, k_slope, 1)
        target = jnp.where(rising, from_h, -jnp.inf)
        target = jnp.where(twin, jnp.maximum(target, from_k), target)
        pending = jnp.any(rising & (h < -noise), axis=0)
        return jnp.max(target, axis=0), jnp.argmax(target, axis=0), pending

    # log(g) − y bounds log1p(g·e^{−y}) from below, so this start is at or below the root.
    bound = jnp.where(m > -1, (log_g - d) / jnp.where(m > -1, 1 + m, 1), 0)
    bound = jnp.where(eligible & (g > 0), bound, 0)
    start = jnp.maximum(jnp.max(bound, axis=0), 0)
    return _rounds(look, lambda y, target: jnp.maximum(y, target), start)


def _last_level(pairs: Pairs, peak: jax.Array, possible: jax.Array):
    """Newton from above on the falling branches of pairs whose weak model learns faster."""
    d, m, _, free = pairs
    falling = possible & ~free & (m < 0)

    def look(y):
        h, slope, noise = _condition(pairs, jnp.where(jnp.isfinite(y), y, 0))
        beyond = falling & (y > peak) & (slope < 0)
        target = jnp.where(beyond, y - h / jnp.where(beyond, slope, -1), jnp.inf)
        pending = jnp.any(beyond & (h < -noise), axis=0)
        return jnp.min(target, axis=0), jnp.argmin(target, axis=0), pending

    # Where the order turns, h ≤ 0: the root is at or before that.
    swap = jnp.where(falling, d / jnp.where(falling, -m, 1), jnp.inf)
    start = jnp.maximum(jnp.min(swap, axis=0), 0)
    return _rounds(look, lambda y, target: jnp.maximum(jnp.minimum(y, target), 0), start)


def _rounds(look, move, start: jax.Array):
    """Moves y to the tangents' root until no game has one still to come.

    A game that is done stays where it is while others go on, and then takes one step more: how
    often it moves, and so its last digits, depends on no neighbour.

    Returns y, the index of the pair that decided and whether the game is done, each `[games]`.
    """

    def step(carry):
        y, (target, _, pending), rounds = carry
        y = jnp.where(pending, move(y, target), y)
        return y, look(y), rounds + 1

    def unfinished(carry):
        _, (_, _, pending), rounds = carry
        return jnp.any(pending) & (rounds <= _MOST_ROUNDS)

    # The first round looks at the start, where moving to itself leaves it.
    everyone = jnp.isnan(start) | True  # varies over devices as the games do inside shard_map
    unknown = (start, (~everyone).astype(int), everyone)
    y, (target, pair, pending), _ = jax.lax.while_loop(unfinished, step, (start, unknown, 0))
    return move(y, target), pair, ~pending
