"""The fast road to Δ* for games in which every weak model starts behind and learns no faster.

For power laws with equal limits, α and β non-increasing along the models and finite gaps, the
stable levels are a ray from the largest root of the pairs' conditions (`tbtjax._intervals`)

    h(y) = s − log(1 + q) ≥ 0,   s = d + m·y,   q = g·e^{−y}   (d, m, g ≥ 0).

One pair binds, so only it needs full precision:

1. float32, all pairs: a lower bound of the largest root, from one logarithm a pair;
2. float32, all pairs: from there one step of Halley's method; the pair that asks for most binds;
3. float32, this pair: two more steps. |h″/h′| ≤ 1 everywhere, so they converge from any start;
4. the games' dtype, this pair: one more step. With x = (e^s − 1 − q)/(1 + q) = e^h − 1 small, h
   comes from its series: two exponentials, no logarithm, and no digits lost. The step is cubically
   exact, so its own length bounds what is left;
5. float32, all pairs: every other pair holds, by more than the rounding of this check.

A game that fails any of this, is not of this kind, or holds a NaN is reported as not settled and
takes the complete road. Pairs are looped over with games in contiguous lanes: what is carried from
pair to pair stays in registers and cache, and logarithms are vectorized.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

_FAST = jnp.float32


class FastLevel(NamedTuple):
    """What a fast road finds, each `[games]`.

    Attributes:
      y: log(1 + Δ*); meaningless where not `settled`.
      weak: int32: the weak model of the binding adjacent pair.
      settled: bool: y is right.
    """

    y: jax.Array
    weak: jax.Array
    settled: jax.Array


def regular_level(alpha: jax.Array, beta: jax.Array, budget_of, *, most_ranks: int) -> FastLevel:
    """Δ* of the regular games of a chunk.

    Args:
      alpha: `[games, n]`, n ≥ 2.
      beta: `[games, n]`.
      budget_of: takes a (traced) number of ranks j to `[games, n]`: what passing the model j
        places above is worth to each model, in steps; anything where there is none.
      most_ranks: pairs up to so many places apart are checked: 1 for adjacent deviations, n − 1
        for all.

    Returns:
      The level of each game.
    """
    n = alpha.shape[1]
    inverse = 1 / beta.astype(_FAST)

    def rows(ranks):
        """d, m and g of each model against the one `ranks` places above, `[n, games]` float32."""
        above_alpha, above_beta = shift(alpha, ranks), shift(beta, ranks)
        d = (above_alpha - alpha).astype(_FAST) * inverse
        m = (above_beta - beta).astype(_FAST) * inverse
        return d.T, m.T, budget_of(ranks).astype(_FAST).T

    adjacent = rows(1)

    def over_pairs(body, init, pairs=adjacent, ranks=1):
        d, m, g = pairs
        return jax.lax.fori_loop(
            ranks, n, lambda weak, carry: body(weak, d[weak], m[weak], g[weak], carry), init
        )

    # Derived from the inputs, so that it varies over devices as they do inside shard_map.
    zero = jnp.where(jnp.isnan(alpha[:, 0]), 0, 0).astype(_FAST)

    def bound(_, d, m, g, y):
        # log(1 + g) seen from y = 0, or log(g) − y ≤ log(1 + g·e^{−y}).
        large = g > 1
        reached = jnp.log(jnp.where(large, g, 1 + g)) - d
        return jnp.maximum(y, reached / (m + jnp.where(large, 1, g / (1 + g))))

    start = over_pairs(bound, zero)
    decay = jnp.exp(-start)

    def most_asking(weak, d, m, g, best):
        q = g * decay
        h = d + m * start - jnp.log(1 + q)
        target = start - _halley(h, m, q)
        more = target > best[0]
        return tuple(
            jnp.where(more, new, old)
            for new, old in zip((target, d, m, g, weak), best, strict=True)
        )

    nobody = (zero - jnp.inf, zero, zero, zero, zero.astype(jnp.int32) + 1)
    y, d, m, g, weak = over_pairs(most_asking, nobody)
    y = jnp.maximum(y, 0)
    for _ in range(2):
        q = g * jnp.exp(-y)
        y = jnp.maximum(y - _halley(d + m * y - jnp.log1p(q), m, q), 0)
    y, exact = _polish(alpha, beta, budget_of(1), y, weak)

    level = y.astype(_FAST)
    decay = jnp.exp(-level)

    def holds(ranks):
        def check(model, d, m, g, settled):
            s, needed = d + m * level, jnp.log(1 + g * decay)
            # Rounding: of 1 + q before the logarithm, and of the terms.
            surely = s - needed >= 2.5e-7 + 5e-7 * (s + needed + level)
            is_binding = (model == weak) & (ranks == 1)
            regular = (d >= 0) & (d < jnp.inf) & (m >= 0) & (m < jnp.inf) & (g >= 0) & (g < jnp.inf)
            return settled & (surely | is_binding) & regular & (inverse_rows[model] > 0)

        return check

    inverse_rows = inverse.T
    settled = exact & (level < 80)  # beyond, e^{−y} leaves float32
    settled = over_pairs(holds(1), settled)
    if most_ranks > 1:
        settled = jax.lax.fori_loop(
            2,
            most_ranks + 1,
            lambda ranks, done: over_pairs(holds(ranks), done, rows(ranks), ranks),
            settled,
        )
    return FastLevel(y, weak, settled)


def shift(x: jax.Array, ranks) -> jax.Array:
    """`[games, n]`: the value of the model `ranks` places above each; anything where none is."""
    n = x.shape[1]
    return jax.lax.dynamic_slice_in_dim(jnp.concatenate([x, x], axis=1), n - ranks, n, axis=1)


def _halley(h: jax.Array, m: jax.Array, q: jax.Array) -> jax.Array:
    """Halley's step for h with h′ = m + q/(1 + q) and h″ = −q/(1 + q)²."""
    inverse = 1 / (1 + q)
    slope = m + q * inverse
    return 2 * h * slope / (2 * slope * slope + h * q * inverse * inverse)


def _polish(alpha, beta, budget, y, weak):
    """The last step, in the games' dtype, and whether it was short enough to be the last."""
    column = weak[:, None]

    def at(x, index):
        return jnp.take_along_axis(x, index, axis=1, mode="promise_in_bounds")[:, 0]

    beta_weak = at(beta, column)
    d = (at(alpha, column - 1) - at(alpha, column)) / beta_weak
    m = (at(beta, column - 1) - beta_weak) / beta_weak
    y = y.astype(alpha.dtype)
    q = at(budget, column) * jnp.exp(-y)
    # Far from the root only the sign counts, and the step is not accepted.
    x = jnp.minimum((jnp.expm1(d + m * y) - q) / (1 + q), 1e-2)
    h = x * (1 - x * (1 / 2 - x * (1 / 3 - x * (1 / 4 - x * (1 / 5)))))
    step = jnp.maximum(-_halley(h, m, q), -y)
    short = (4 * jnp.finfo(alpha.dtype).eps) ** (1 / 3)
    return y + step, jnp.abs(step) < short
