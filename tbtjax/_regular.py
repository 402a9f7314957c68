"""The fast road to Δ* for games in which every weak model starts behind and learns no faster.

For power laws with equal limits, α and β non-increasing along the models and finite gaps, the
stable levels are a ray from the largest root of the pairs' conditions (`tbtjax._intervals`)

    h(y) = s − log(1 + q) ≥ 0,   s = d + m·y,   q = g·e^{−y}   (d, m, g ≥ 0).

One pair binds, so only it needs full precision:

1. float32, all pairs: a look from y = 0, which is one step of Halley's method; the pair that asks
   for most binds;
2. float32, this pair: more such steps. |h″/h′| ≤ 1 everywhere, so they converge from any start;
3. the games' dtype, this pair: one more step. With x = (e^s − 1 − q)/(1 + q) = e^h − 1 small, h
   comes from its series: two exponentials, no logarithm, and no digits lost. The step is cubically
   exact, so its own length bounds what is left;
4. float32, all pairs: every other pair holds, by more than the rounding of this check.

A game for which any of this fails (of ordinary games one in a hundred with 5 models, one in thirty
with 20) is reported as not settled, and tried again thoroughly: with a second look, from where the
first one led, and further steps. What then is left, is not of this kind, or holds a NaN takes the
complete road. Pairs are looped over with games in contiguous lanes: what is carried from pair to
pair stays in registers and cache, and logarithms are vectorized.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax._implicit import Rates

_FAST = jnp.float32
# In the games' dtype: one is enough for all but a few.
_MOST_STEPS = 5
# In float32, for the pair that binds.
_FAST_STEPS = 3
# From one level after another, for who binds, where a road is thorough.
LOOKS = 2
# Logarithms about a root, see `log1p_of_small`.
SMALL = 9e-3


class FastLevel(NamedTuple):
    """What a fast road finds, each `[games]`.

    Attributes:
      y: log(1 + Δ*); meaningless where not `settled`.
      weak: int32: the weak model of the binding adjacent pair.
      settled: bool: y is right.
      unless: bool: but not, unless the models' parameters are in order (`_rays.is_ordered`); None
        where that is known.
      rates: how Δ* moves, where that is asked for; without `gain`. Meaningless where y is 0.
    """

    y: jax.Array
    weak: jax.Array
    settled: jax.Array
    unless: jax.Array | None
    rates: Rates | None


def regular_level(
    alpha: jax.Array,
    beta: jax.Array,
    worth_of,
    *,
    most_ranks: int,
    with_rates: bool = False,
    thorough: bool = True,
    unroll: int = 1,
) -> FastLevel:
    """Δ* of the regular games of a chunk.

    Args:
      alpha: `[n, games]`, n ≥ 2.
      beta: `[n, games]`.
      worth_of: takes a weak model and a stronger one, as (traced) indices or as slices, to what
        passing that one is worth to it in steps, `[games]` or `[models, games]`.
      most_ranks: pairs up to so many places apart are checked: 1 for adjacent deviations, n − 1
        for all.
      with_rates: whether to work out how Δ* moves.
      thorough: a second look, and as many steps in the games' dtype as are needed; else more games
        are not settled.
      unroll: turns that one turn of a loop over pairs makes (`_roads.PAIRS_AT_ONCE`).

    Returns:
      The level of each game.
    """
    n = len(alpha)

    def pair_of(weak, rival):
        """The pair's d and m in float32, and g."""
        beta_weak = beta[weak].astype(_FAST)
        inverse = jnp.where(beta_weak > 0, 1 / beta_weak, jnp.nan)
        d = (alpha[rival] - alpha[weak]).astype(_FAST) * inverse
        m = (beta[rival] - beta[weak]).astype(_FAST) * inverse
        return d, m, worth_of(weak, rival)

    adjacent = of_neighbours(pair_of, n, unroll)

    def over_pairs(body, init):
        def step(rival, carry):
            return body(rival + 1, *(x[rival].astype(_FAST) for x in adjacent), carry)

        return jax.lax.fori_loop(0, n - 1, step, init, unroll=min(unroll, n - 1))

    # Derived from the inputs, so that it varies over devices as they do inside shard_map.
    level = jnp.where(jnp.isnan(alpha[0]), 0, 0).astype(_FAST)
    weak = level.astype(jnp.int32)

    def look(level_and_weak):
        """Halley's step of all pairs from a level, and who asks for most."""
        level, _ = level_and_weak
        decay = jnp.exp(-level)

        def target(_, d, m, g):
            q = g * decay
            return level - _halley(d + m * level - jnp.log(1 + q), m, q)

        return most_asking(target, over_pairs, n, level)

    level, weak = several(look, (level, weak), LOOKS if thorough else 1, unroll)

    exact_pair = _take(alpha, beta, adjacent[-1], weak)
    d, m, g, _ = (x.astype(_FAST) for x in exact_pair)

    def refined(y):
        q = g * jnp.exp(-y)
        return jnp.maximum(y - _halley(d + m * y - jnp.log1p(q), m, q), 0)

    y = several(refined, level, _FAST_STEPS, unroll)
    y, exact = _polish(*exact_pair[:3], y, thorough=thorough, fixed=unroll > 1)

    level = y.astype(_FAST)
    decay = jnp.exp(-level)

    def holds(d, m, g, settled, *, is_binding=False):
        s, needed = d + m * level, jnp.log(1 + g * decay)
        # Rounding: of 1 + q before the logarithm, and of the terms.
        surely = s - needed >= 2.5e-7 + 5e-7 * (s + needed + level)
        regular = (d >= 0) & (d < jnp.inf) & (m >= 0) & (m < jnp.inf) & (g >= 0) & (g < jnp.inf)
        return settled & (surely | is_binding) & regular

    def holds_adjacent(model, d, m, g, settled):
        return holds(d, m, g, settled, is_binding=model == weak)

    def holds_apart(weak, rival, settled):
        d, m, g = pair_of(weak, rival)
        return holds(d, m, g.astype(_FAST), settled)

    settled = exact & (level < 80)  # beyond, e^{−y} leaves float32
    settled = over_pairs(holds_adjacent, settled)
    settled = over_pairs_apart(holds_apart, n, most_ranks, settled, unroll)
    rates = _rates(*exact_pair, y) if with_rates else None
    return FastLevel(y, weak, settled, None, rates)


def several(function, x, times: int, unroll: int):
    """`function` of `function` of ... `x`: a loop, for it to be compiled once."""
    return jax.lax.fori_loop(0, times, lambda _, x: function(x), x, unroll=min(unroll, times))


def of_neighbours(function, n: int, unroll: int):
    """`function` of each weak model and the next stronger one, as rows.

    In a loop over pairs, which reads rows: elsewhere the compiler reads the transposed inputs
    anew, across them.

    Args:
      function: takes a weak model and its rival, as traced indices or as slices, to arrays
        `[games]` or `[models, games]`.
      n: number of models.
      unroll: as in `regular_level`.

    Returns:
      Arrays `[n − 1, games]`; strongest pair first.
    """
    if unroll > 1:
        return function(slice(1, None), slice(None, -1))
    rivals = jnp.arange(n - 1, dtype=jnp.int32)
    return jax.lax.map(lambda rival: function(rival + 1, rival), rivals)


def over_pairs_apart(body, n: int, most_ranks: int, init, unroll: int):
    """Loops over the pairs from 2 to `most_ranks` places apart: body(weak, rival, carry)."""
    weak, rival = np.nonzero(
        np.tri(n, k=-2, dtype=bool) & ~np.tri(n, k=-most_ranks - 1, dtype=bool)
    )
    if not weak.size:
        return init
    weak, rival = jnp.asarray(weak, jnp.int32), jnp.asarray(rival, jnp.int32)

    def step(i, carry):
        return body(weak[i], rival[i], carry)

    return jax.lax.fori_loop(0, len(weak), step, init, unroll=min(unroll, len(weak)))


def most_asking(target, over_pairs, n: int, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest of the levels that the pairs ask for, and whose it is.

    The level and the pair travel as one number, so that one array is carried from pair to pair: the
    last bits of the float are the pair's. It is the level's distance from somewhat below `start`,
    which has digits to spare.

    Args:
      target: takes a weak model and what `over_pairs` knows of its pair to a level, `[games]`.
      over_pairs: loops over the pairs.
      n: number of models.
      start: `[games]` float32, ≥ 0; about the largest level or below it.

    Returns:
      The level `[games]`, 0 at the least, and the weak model, int32; the first of equals.
    """
    last = (1 << (n - 1).bit_length()) - 1
    base = start - (1 + start) / 4

    def look(weak, *pair_and_best):
        *pair, best = pair_and_best
        further = jnp.maximum(target(weak, *pair) - base, 0)
        bits = jax.lax.bitcast_convert_type(further, jnp.int32)
        return jnp.maximum(best, (bits & ~last) | (n - weak))

    # Floats from 0 on are ordered as their bits are; NaN comes last.
    nobody = jnp.where(jnp.isnan(start), 0, 0).astype(jnp.int32)  # varies over devices as `start`
    best = over_pairs(look, nobody)
    further = jax.lax.bitcast_convert_type(best & ~last, jnp.float32)
    return jnp.maximum(base + further, 0), jnp.minimum(n - (best & last), n - 1)


def _halley(h: jax.Array, m: jax.Array, q: jax.Array) -> jax.Array:
    """Halley's step for h with h′ = m + q/(1 + q) and h″ = −q/(1 + q)²."""
    inverse = 1 / (1 + q)
    slope = m + q * inverse
    return 2 * h * slope / (2 * slope * slope + h * q * inverse * inverse)


def _take(alpha, beta, worth, weak) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """d, m, g and the weak model's β of one adjacent pair of each game, in the games' dtype."""
    beta_weak = of_each(beta, weak)
    d = (of_each(alpha, weak - 1) - of_each(alpha, weak)) / beta_weak
    m = (of_each(beta, weak - 1) - beta_weak) / beta_weak
    return d, m, of_each(worth, weak - 1), beta_weak


def _rates(d, m, g, beta_weak, y) -> Rates:
    """How fast e^y moves with what it comes from, by h(y) = 0."""
    decay = jnp.exp(-y)
    q = g * decay
    budget = 1 / (m * (1 + q) + q)
    own = budget * (1 + q) / (beta_weak * decay)
    return Rates(alpha=(own, None), beta=own * (y + d + m * y), budget=budget)


def _polish(d, m, g, y, *, thorough: bool, fixed: bool):
    """Steps in the games' dtype, and whether one was short enough to be the last.

    One, or, where `thorough`, some: two for all games where `fixed`, so that nothing waits for a
    number from the device.
    """

    def step(y):
        q = g * jnp.exp(-y)
        h = log1p_of_small((jnp.expm1(d + m * y) - q) / (1 + q))
        further = jnp.maximum(y - _halley(h, m, q), 0)
        return further, jnp.abs(further - y) < (4 * jnp.finfo(d.dtype).eps) ** (1 / 3)

    y = y.astype(d.dtype)
    if not thorough:
        return step(y)

    def once_more(carry):
        y, exact = carry
        further, close = step(y)
        return jnp.where(exact, y, further), exact | close

    nobody = jnp.isnan(y) & False  # varies over devices as `y` does inside shard_map
    return some_times(once_more, (y, nobody), 2 if fixed else _MOST_STEPS, fixed=fixed)


def log1p_of_small(x: jax.Array) -> jax.Array:
    """log(1 + x) by its series where it is below `SMALL`; else a number of its sign, of that size.

    That is all that counts there: a step from so far away is not accepted.
    """
    x = jnp.minimum(x, 1.1 * SMALL)
    return x * (1 - x * (1 / 2 - x * (1 / 3 - x * (1 / 4 - x * (1 / 5)))))


def some_times(function, carry, most: int, *, fixed: bool):
    """`function` of ... of (levels, which are exact): until all are, but so often at most.

    Where `fixed`, so often: nothing waits for a number from the device.
    """
    if fixed:
        for _ in range(most):
            carry = function(carry)
        return carry

    def is_unfinished(state):
        count, (_, exact) = state
        return (count < most) & ~jnp.all(exact)

    start = jnp.zeros((), jnp.int32), carry
    return jax.lax.while_loop(is_unfinished, lambda x: (x[0] + 1, function(x[1])), start)[1]


def of_each(x: jax.Array, index: jax.Array) -> jax.Array:
    """`[games]`: from each game's column of `[rows, games]` the row at its `[games]` index."""
    games = x.shape[1]
    place = index * games + jnp.arange(games, dtype=index.dtype)
    return x.reshape(-1).at[place].get(mode="promise_in_bounds")
