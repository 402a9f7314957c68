"""Stable levels of power-law pairs with different limits, exactly: no scan, nothing is missed.

A weak model w with a rival k above it, y = log(1 + Δ), p = ṽ_k = σ(z), q = 1 − p, z = α_k + β_k·y.
In widths of the rival's range, a = (l_k − l_w)/(u_k − l_k) and b = (u_w − u_k)/(u_k − l_k), so

    logit_w(s_k) = log(p + a) − log(q + b),    Y(y) = (logit_w(s_k) − α_w)/β_w

is where the weak model reaches the rival's score, on the scale of log(1 + effort): −∞ where
p + a ≤ 0 (the rival is below its lower limit), +∞ where q + b ≤ 0 (out of reach). Zero effort is
stable for the pair iff M(y) = Y − log(e^y + g) ≥ 0, that is W = e^Y − e^y ≥ g (signed
just-overtake effort). W rises where G = Y + log Y′ − y > 0. Ours: G′ has the sign of a quadratic
in the rival's odds o = p/q,

    −b(1 + a)(1 + β_k)·o² + (c − 1 − a − b − 2ab)·o + a(1 + b)(β_k − 1),   c = (β_k/β_w)(1 + a + b),

so G has at most three monotone pieces, W at most four, and each is searched within a bracket.

A weak model that does not rise (β_w ≤ 0) never passes by effort; then
M = logit_w(s_k) − α_w − β_w·y (the order alone). It is monotone unless both models fall
(β_k, β_w < 0), where M′ turns at o² = a(1 + b)/(b(1 + a)).

Arrays are `[pairs, games]`, or `[pieces, pairs, games]`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._elementary import log, log1p
from tbtjax._intervals import largest_level

# Halving alone takes as many rounds as a number has bits.
_MOST_ROUNDS = 120


class LimitedPairs(NamedTuple):
    """Conditions M(y) ≥ 0 of some pairs with limits of their own, each `[pairs, games]`."""

    alpha_rival: jax.Array
    beta_rival: jax.Array
    alpha_weak: jax.Array
    beta_weak: jax.Array
    a: jax.Array
    b: jax.Array
    g: jax.Array
    free: jax.Array


class Stretch(NamedTuple):
    """Stable levels of each game as y = log(1 + Δ), and the pairs that decide; each `[games]`.

    Attributes:
      first, last, settled: first stable level, end of its stretch, level from which on all are
        stable; +inf where there is none.
      first_pair, last_pair, settled_pair: index of the deciding pair; −1 where there is none.
    """

    first: jax.Array
    last: jax.Array
    settled: jax.Array
    first_pair: jax.Array
    last_pair: jax.Array
    settled_pair: jax.Array


def make_limited_pairs(
    alpha_rival, beta_rival, alpha_weak, beta_weak, a, b, g, free
) -> LimitedPairs:
    """Pairs with harmless parameters where they constrain nothing; a budget only for who rises."""

    def known(x, filler):
        return jnp.where(free, filler, x)

    return LimitedPairs(
        known(alpha_rival, 1),
        known(beta_rival, 1),
        known(alpha_weak, 0),
        known(beta_weak, 1),
        known(a, 0),
        known(b, 0),
        jnp.where(free | ~(beta_weak > 0), 0, g),
        free,
    )


def log_parts(pairs: LimitedPairs, y: jax.Array) -> tuple[jax.Array, ...]:
    """Logarithms: log p, log q, log(p + a) and log(q + b); −inf where a sum is not positive."""
    z = pairs.alpha_rival + pairs.beta_rival * y
    tail = jnp.exp(-jnp.abs(z))
    small = tail / (1 + tail)
    shared = log1p(tail)
    log_p = jnp.minimum(z, 0) - shared
    log_q = jnp.minimum(-z, 0) - shared
    p = jnp.where(z > 0, 1 - small, small)
    q = jnp.where(z > 0, small, 1 - small)

    def log_sum(part, log_part, offset):
        # Without an offset the part may underflow where its log does not.
        total = part + offset
        positive = total > 0
        log_total = jnp.where(positive, log(jnp.where(positive, total, 1)), -jnp.inf)
        return jnp.where(offset == 0, log_part, log_total)

    return log_p, log_q, log_sum(p, log_p, pairs.a), log_sum(q, log_q, pairs.b)


def margin(pairs: LimitedPairs, y: jax.Array) -> jax.Array:
    """M(y): negative where the weak model gains by passing."""
    _, _, low, high = log_parts(pairs, y)
    reachable = high > -jnp.inf
    logit = jnp.where(reachable, low - jnp.where(reachable, high, 0), jnp.inf)
    rises = pairs.beta_weak > 0
    reached = (logit - pairs.alpha_weak) / jnp.where(rises, pairs.beta_weak, 1)
    started = jnp.where(rises, y, pairs.beta_weak * y)
    return reached - started - log1p(pairs.g * jnp.exp(-y))


def _rise(pairs: LimitedPairs, y: jax.Array) -> jax.Array:
    """A function with the sign of the slope of W (of M for a weak model that does not rise)."""
    log_p, log_q, low, high = log_parts(pairs, y)
    beta_rival, beta_weak = pairs.beta_rival, pairs.beta_weak
    rises = beta_weak > 0
    log_slope = log1p(pairs.a + pairs.b) + log_p + log_q - low - high

    def ratio(over, under):
        return log(jnp.where(over > 0, over, 1)) - log(jnp.where(under > 0, under, 1))

    start = (low - high - pairs.alpha_weak) / jnp.where(rises, beta_weak, 1) - y
    both_rise = start + ratio(beta_rival, beta_weak) + log_slope
    both_fall = ratio(-beta_weak, -beta_rival) - log_slope
    one_sign = jnp.where(rises | (beta_rival < 0), -1.0, 1.0).astype(y.dtype)
    sign = jnp.where(rises & (beta_rival > 0), both_rise, one_sign)
    return jnp.where((beta_weak < 0) & (beta_rival < 0), both_fall, sign)


def _roots_in_odds(pairs: LimitedPairs) -> tuple[jax.Array, jax.Array]:
    """Positive odds of the rival at which the slope's function turns; NaN where there are none."""
    beta_rival, beta_weak, a, b = pairs.beta_rival, pairs.beta_weak, pairs.a, pairs.b
    rises = beta_weak > 0
    c = beta_rival / jnp.where(rises, beta_weak, 1) * (1 + a + b)
    square = -b * (1 + a) * jnp.where(rises, 1 + beta_rival, 1)
    linear = jnp.where(rises, c - 1 - a - b - 2 * a * b, 0)
    constant = a * (1 + b) * jnp.where(rises, beta_rival - 1, 1)
    discriminant = linear**2 - 4 * square * constant
    root = jnp.sqrt(jnp.where(discriminant >= 0, discriminant, jnp.nan))
    # The sum that does not cancel gives one root, the product of both the other.
    half = -(linear + jnp.where(linear >= 0, root, -root)) / 2

    def positive(over, under):
        odds = over / jnp.where(under != 0, under, jnp.nan)
        return jnp.where((odds > 0) & jnp.isfinite(odds), odds, jnp.nan)

    return positive(half, square), positive(constant, half)


def _pieces(pairs: LimitedPairs) -> tuple[jax.Array, jax.Array]:
    """Ends `[6, pairs, games]` of each pair's stable levels on pieces where M is monotone.

    Returns:
      Where the stable part of each piece starts and ends, pieces in order; (+inf, −inf) if empty.
    """
    top = largest_level(pairs.g.dtype)
    eps = jnp.finfo(pairs.g.dtype).eps
    moves = pairs.beta_rival != 0
    beta = jnp.where(moves, pairs.beta_rival, 1)

    def level_of_odds(odds, filler):
        usable = moves & (odds > 0) & jnp.isfinite(odds)
        level = (log(jnp.where(usable, odds, 1)) - pairs.alpha_rival) / beta
        return jnp.where(usable & ~jnp.isnan(level), level, filler)

    # M is finite between these two levels of y.
    low_odds = -pairs.a / (1 + pairs.a)
    high_odds = (1 + pairs.b) / jnp.where(pairs.b < 0, -pairs.b, 1)
    enters = level_of_odds(jnp.where((pairs.a < 0) & (pairs.a > -1), low_odds, jnp.nan), -jnp.inf)
    leaves = level_of_odds(jnp.where((pairs.b < 0) & (pairs.b > -1), high_odds, jnp.nan), jnp.inf)
    rising = pairs.beta_rival > 0
    enters = jnp.where(rising | jnp.isfinite(enters), enters, jnp.inf)
    leaves = jnp.where(rising | jnp.isfinite(leaves), leaves, -jnp.inf)
    begin = jnp.clip(jnp.where(rising, enters, leaves), 0, top)
    end = jnp.clip(jnp.where(rising, leaves, enters), 0, top)

    def hair(y, rest):
        """What y moves by a few roundings of z: from there on p + a and q + b are positive."""
        return 8 * eps * (1 + y + (1 + jnp.abs(pairs.alpha_rival)) / jnp.abs(beta * rest))

    at_entry, at_leave = 1 + pairs.a, 1 + pairs.b  # q where p + a = 0, p where q + b = 0
    begin_rest = jnp.where(rising, at_entry, at_leave)
    end_rest = jnp.where(rising, at_leave, at_entry)
    begin = jnp.where(begin > 0, begin + hair(begin, begin_rest), 0)
    end = jnp.where(end < top, end - hair(end, end_rest), top)
    end = jnp.maximum(end, begin)

    turn, other = (jnp.clip(level_of_odds(x, 0.0), begin, end) for x in _roots_in_odds(pairs))
    zero, highest = jnp.zeros_like(begin), jnp.full_like(end, top)

    def search(turns_found, carry):
        """First where W turns, then where M, monotone in between, changes its sign."""
        ends, *_ = carry
        change, positive = _changes(
            lambda y: jax.lax.cond(turns_found, margin, _rise, pairs, y), ends
        )
        # Before `begin` and after `end` M is infinite.
        monotone = jnp.stack([zero, begin, *change[:3], end, highest])
        return jnp.where(turns_found, ends, monotone), change, positive

    low, high = jnp.minimum(turn, other), jnp.maximum(turn, other)
    start = jnp.stack([begin, low, high, end, end, end, end])
    nothing = (start, start[1:], start > start)
    ends, change, stable = jax.lax.fori_loop(0, 2, lambda i, carry: search(i > 0, carry), nothing)
    left, right = ends[:-1], ends[1:]
    starts = jnp.where(stable[:-1], left, jnp.where(stable[1:], change, jnp.inf))
    stops = jnp.where(stable[1:], right, jnp.where(stable[:-1], change, -jnp.inf))
    return jnp.where(pairs.free, 0, starts), jnp.where(pairs.free, top, stops)


def _changes(function, ends: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where a function's sign (0 counts as positive) changes, if it does, between two `ends`.

    By Chandrupatla's method, which takes steps of inverse quadratic interpolation where they can be
    trusted and halves elsewhere, also beside infinite values. One piece after another: a piece on
    which no pair's sign changes costs no more than a look at its end.

    Args:
      function: of levels like `ends[0]`; monotone between neighbouring ends.
      ends: `[ends, …]`, ascending.

    Returns:
      The positive side of each change, the right end where there is none, `[ends − 1, …]`; and
      whether the function is positive at the ends.
    """
    eps = jnp.finfo(ends.dtype).eps

    def find(begin, right):
        left, at_left = begin

        def step(carry):
            (new, at_new), (other, at_other), (old, at_old), at_right, active, rounds = carry
            width = other - new
            finest = 2 * eps * (1 + jnp.minimum(jnp.abs(new), jnp.abs(other)))
            least = finest / jnp.where(active, jnp.abs(width), 1)
            x = (new - other) / (old - other)
            f = (at_new - at_other) / (at_old - at_other)
            trusted = (f * f < x) & ((1 - f) * (1 - f) < 1 - x)
            share = at_new / (at_other - at_new) * (at_old / (at_other - at_old))
            share += (
                (old - new)
                / width
                * (at_new / (at_old - at_new))
                * (at_other / (at_old - at_other))
            )
            # Two equal points give no curve. Nor need a number over itself be 1 on an accelerator.
            trusted &= jnp.isfinite(share)
            share = jnp.where(trusted, jnp.clip(share, least, 1 - least), 0.5)
            opens = rounds == 0
            y = jnp.where(opens, right, new + share * width)
            value = function(y)
            same = (value >= 0) == (at_new >= 0)

            def kept(now, before):
                return jnp.where(active & ~opens, now, before)

            old = kept(jnp.where(same, new, other), old)
            at_old = kept(jnp.where(same, at_new, at_other), at_old)
            other = kept(jnp.where(same, other, new), other)
            at_other = jnp.where(opens, value, kept(jnp.where(same, at_other, at_new), at_other))
            new, at_new = kept(y, new), kept(value, at_new)
            at_right = jnp.where(opens, value, at_right)
            goes_on = (jnp.abs(other - new) > 2 * finest) & (at_new != 0)
            active &= jnp.where(opens, ~same & (left < right), goes_on)
            return (new, at_new), (other, at_other), (old, at_old), at_right, active, rounds + 1

        # The first round looks at the right end.
        everyone = jnp.isnan(left) | True  # varies over devices as the games do inside shard_map
        start = (begin, (right, at_left), begin, at_left, everyone, 0)
        (new, at_new), (other, at_other), _, at_right, *_ = jax.lax.while_loop(
            lambda carry: jnp.any(carry[4]) & (carry[5] < _MOST_ROUNDS), step, start
        )
        positive = at_new >= 0
        change = jnp.where(positive, new, other)
        changes = positive != (at_other >= 0)
        return (right, at_right), (jnp.where(changes, change, right), at_right >= 0)

    # Before the first end there is an empty piece.
    _, (change, positive) = jax.lax.scan(find, (ends[0], 0 * ends[0]), ends)
    return change[1:], positive


def first_stable(pairs: LimitedPairs) -> jax.Array:
    """The first stable level of each pair alone, `[pairs, games]`; +inf where there is none."""
    starts, stops = _pieces(pairs)
    return jnp.min(jnp.where(starts <= stops, starts, jnp.inf), axis=0)


def stable_stretch(pairs: LimitedPairs) -> Stretch:
    """The levels common to all pairs of each game.

    Args:
      pairs: `[pairs, games]`, one pair or more; NaN gives an arbitrary answer for its game alone.

    Returns:
      The first stretch and the settled level of each game, `[games]`.
    """
    top = largest_level(pairs.g.dtype)
    starts, stops = _pieces(pairs)
    pieces = starts.shape[0]

    def next_stable(y):
        """Least stable level of each pair at or after y, `[pairs, games]`."""
        from_here = jnp.maximum(starts, y)
        return jnp.min(jnp.where(from_here <= stops, from_here, jnp.inf), axis=0)

    def advance(carry):
        y, _ = carry
        new = jnp.max(next_stable(y), axis=0)
        return new, new > y

    zero = 0 * jnp.max(jnp.where(jnp.isfinite(starts), starts, 0), axis=(0, 1))
    # Every round but the last passes the end of a pair's piece: there are finitely many.
    first, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[1]), advance, (zero, zero == 0))
    exists = first <= top
    begun = jnp.where(exists, first, 0)

    ends = jnp.broadcast_to(begun, starts.shape[1:])
    for i in range(pieces):
        ends = jnp.where((starts[i] <= ends) & (stops[i] >= ends), stops[i], ends)
    last = jnp.min(ends, axis=0)
    settles = jnp.where(stops[-1] >= top, starts[-1], jnp.inf)
    for i in reversed(range(pieces - 1)):
        touches = (stops[i] >= settles) | (stops[i] >= top)
        settles = jnp.where(touches & (starts[i] <= settles), starts[i], settles)
    settled = jnp.max(settles, axis=0)

    decides_first = jnp.any(starts == first, axis=0)
    decided = exists & (first > 0)
    finite_last = exists & (last < top)
    finite_settled = jnp.isfinite(settled)
    return Stretch(
        first=jnp.where(exists, first, jnp.inf),
        last=jnp.where(finite_last, last, jnp.inf),
        settled=settled,
        first_pair=jnp.where(decided, jnp.argmax(decides_first, axis=0), -1),
        last_pair=jnp.where(finite_last, jnp.argmin(ends, axis=0), -1),
        settled_pair=jnp.where(finite_settled & (settled > 0), jnp.argmax(settles, axis=0), -1),
    )
