"""The fast road to Δ* for games with different limits whose pairs' stable levels are rays.

In the notation of `tbtjax._pieces`, with ε = e^{−z} the inverse of the rival's odds, a pair asks

    F(y) = log(above/below) − α_w − β_w·(y + log(1 + q)) ≥ 0,   q = g·e^{−y},
    above = 1 + a + a·ε,   below = b + (1 + b)·ε,

the rival being out of reach where below ≤ 0. Only pairs with β > 0 and b ≤ 0 (u_k ≥ u_w) are looked
at here; then reach is lost for good. One pair binds, so only it needs full precision:

1. float32, all pairs: a step of third order from y = 0; from the largest level reached, another
   one; the pair that asks for most is taken to bind;
2. float32, this pair: such steps within a bracket;
3. the games' dtype, this pair: one more step. Its length bounds what is left;
4. float32, this pair: F < 0 at every lower level (`_is_negative_before`);
5. float32, all pairs: every other pair holds there by more than the rounding of this check, and
   every pair keeps holding (`_holds_on`).

A game that fails any of this, or holds a NaN, is reported as not settled.

Steps: y − (F/F′)·φ(x) with x = F·F″/F′² and φ(x) = 1/(1 − x/2 + x²/12), close to (e^x − 1)/x. The
latter is exact for F = c − k·log(y_D − y), which is how F rises to +∞ where the rival gets out of
reach, and for every linear F.

What makes stable levels a ray, for b ≤ 0 (ours; Y′ = (β_k/β_w)·(1 + a + b)·ε/(above·below)):

- a ≤ 0 and β_k ≥ β_w: Y′ ≥ 1, because (−b)·p² + a'·q² ≥ a'·(−b) for a' = −a, a' − b ≤ 1. Hence
  F′ > 0 wherever F is finite.
- a ≥ 0: Y′ rises with y. Where Y′ ≥ 1 once, F′ ≥ 0 from there on.
- The quadratic in the odds whose sign is that of G′ has a coefficient ≥ 0 of its square. Where it
  is ≥ 0 and rising, it stays so, G rises, and F ≥ 0 with F′ ≥ 0 there give G ≥ 0, W′ ≥ 0 and
  stability from there on. For a ≥ 0 the least G is at y = 0 or at the larger root.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._regular import shift

_FAST = jnp.float32
_HIGHEST = 80.0  # beyond, e^{−y} leaves float32


class MonotoneLevel(NamedTuple):
    """What the fast road finds, each `[games]`.

    Attributes:
      y: log(1 + Δ*); meaningless where not `settled`.
      weak: int32: the weak model of the binding pair.
      rival: int32: its rival.
      settled: bool: y is right.
    """

    y: jax.Array
    weak: jax.Array
    rival: jax.Array
    settled: jax.Array


class _Pair(NamedTuple):
    """One pair of each game, `[games]` each."""

    alpha_rival: jax.Array
    beta_rival: jax.Array
    alpha_weak: jax.Array
    beta_weak: jax.Array
    a: jax.Array
    b: jax.Array
    g: jax.Array
    gain: jax.Array  # β_k − β_w


class _Parts(NamedTuple):
    """ε, above and below of a pair at some level, and q."""

    inverse_odds: jax.Array
    above: jax.Array
    below: jax.Array
    q: jax.Array


def monotone_level(
    alpha: jax.Array,
    beta: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    budget_of,
    *,
    most_ranks: int,
) -> MonotoneLevel:
    """Δ* of a chunk's games whose stable levels are shown to be a ray.

    Args:
      alpha: `[games, n]`, n ≥ 2.
      beta: `[games, n]`.
      lower: `[games, n]`.
      upper: `[games, n]`.
      budget_of: takes a (traced) number of ranks j to `[games, n]`: what passing the model j
        places above is worth to each model, in steps; anything where there is none.
      most_ranks: pairs up to so many places apart are checked: 1 for adjacent deviations, n − 1
        for all.

    Returns:
      The level of each game.
    """
    n = alpha.shape[1]
    alpha_rows, beta_rows = (x.astype(_FAST).T for x in (alpha, beta))

    def rows(ranks):
        """a, b, g and β_k − β_w of each model and the one `ranks` above, `[n, games]` float32."""
        lower_rival, upper_rival = shift(lower, ranks), shift(upper, ranks)
        span = upper_rival - lower_rival
        columns = (
            (lower_rival - lower) / span,
            (upper - upper_rival) / span,
            budget_of(ranks),
            shift(beta, ranks) - beta,
        )
        return tuple(x.astype(_FAST).T for x in columns)

    adjacent = rows(1)

    def over_pairs(body, init, pairs=adjacent, ranks=1):
        def step(weak, carry):
            rival = weak - ranks
            a, b, g, gain = (x[weak] for x in pairs)
            pair = _Pair(
                alpha_rows[rival],
                beta_rows[rival],
                alpha_rows[weak],
                beta_rows[weak],
                a,
                b,
                g,
                gain,
            )
            return body(weak, pair, carry)

        return jax.lax.fori_loop(ranks, n, step, init)

    # Derived from the inputs, so that it varies over devices as they do inside shard_map.
    zero = jnp.where(jnp.isnan(alpha[:, 0]), 0, 0).astype(_FAST)

    def bound(_, pair, y):
        return jnp.maximum(y, _target(pair, zero))

    start = jnp.minimum(over_pairs(bound, zero), _HIGHEST)

    def most_asking(weak, pair, best):
        target = _target(pair, start)
        more = target > best[0]
        return jnp.where(more, target, best[0]), jnp.where(more, weak, best[1])

    y, weak = over_pairs(most_asking, (zero - jnp.inf, zero.astype(jnp.int32) + 1))
    binding = _take(alpha, beta, lower, upper, budget_of(1), weak)
    quick = _Pair(*(x.astype(_FAST) for x in binding))
    y, exact = _polish(binding, _search(quick, y).astype(alpha.dtype))

    level = y.astype(_FAST)
    settled = exact & (level < _HIGHEST) & _is_negative_before(quick, level)

    def holds(ranks):
        def check(model, pair, settled):
            return settled & _holds_on(pair, level, (model == weak) & (ranks == 1))

        return check

    settled = over_pairs(holds(1), settled)
    if most_ranks > 1:
        settled = jax.lax.fori_loop(
            2,
            most_ranks + 1,
            lambda ranks, done: over_pairs(holds(ranks), done, rows(ranks), ranks),
            settled,
        )
    return MonotoneLevel(y, weak, weak - 1, settled)


def _parts(pair: _Pair, y: jax.Array) -> _Parts:
    inverse_odds = jnp.exp(-(pair.alpha_rival + pair.beta_rival * y))
    above = 1 + pair.a + pair.a * inverse_odds
    below = pair.b + (1 + pair.b) * inverse_odds
    return _Parts(inverse_odds, above, below, pair.g * jnp.exp(-y))


def _derivatives(pair: _Pair, y: jax.Array):
    """F, F′ and F″ where the rival is in reach and above the weak model's lower limit."""
    odds, above, below, q = _parts(pair, y)
    share = 1 / (1 + q)
    condition = jnp.log(above / below) - pair.alpha_weak - pair.beta_weak * (y + jnp.log(1 + q))
    product = 1 / (above * below)
    rise = pair.beta_rival * (1 + pair.a + pair.b) * odds * product
    slope = rise - pair.beta_weak * share
    bend = (odds - 1 + odds * (above - below) * product) / (1 + odds)
    curvature = rise * pair.beta_rival * bend - pair.beta_weak * q * share * share
    return condition, slope, curvature


def _step(condition, slope, curvature) -> jax.Array:
    newton = condition / slope
    x = newton * curvature / slope
    # A pole to the left, where F comes from −∞, is not what bends F above its root.
    x = jnp.where(condition > 0, jnp.maximum(x, -1), x)
    return -newton / (1 - x * (1 / 2 - x * (1 / 12)))


def _target(pair: _Pair, y: jax.Array) -> jax.Array:
    """About where F = 0, by one step from y; NaN where out of reach, −inf where F falls."""
    condition, slope, curvature = _derivatives(pair, y)
    return jnp.where(slope > 0, y + _step(condition, slope, curvature), -jnp.inf)


def _search(pair: _Pair, y: jax.Array) -> jax.Array:
    """The root of one pair of each game, to float32; 0 if below."""
    # The rival gets out of reach at `top`.
    top = (jnp.log((1 + pair.b) / -pair.b) - pair.alpha_rival) / pair.beta_rival
    top = jnp.where(top < _HIGHEST, top, _HIGHEST)

    def step(_, carry):
        y, low, high = carry
        parts = _parts(pair, y)
        condition, slope, curvature = _derivatives(pair, y)
        high = jnp.where((condition >= 0) | (parts.below <= 0), y, high)
        low = jnp.where((condition < 0) | (parts.above <= 0), y, low)
        new = jnp.maximum(y + _step(condition, slope, curvature), 0)
        inside = (new >= low) & (new <= high)
        return jnp.where(inside, new, (low + high) / 2), low, high

    y = jnp.where((y > 0) & (y < top), y, jnp.where(y <= 0, 0, top / 2))
    return jax.lax.fori_loop(0, 8, step, (y, jnp.zeros_like(y), top))[0]


def _take(alpha, beta, lower, upper, budget, weak) -> _Pair:
    """One adjacent pair of each game, in the games' dtype."""

    def at(x, index):
        return jnp.take_along_axis(x, index[:, None], axis=1, mode="promise_in_bounds")[:, 0]

    rival = weak - 1
    lower_rival, upper_rival = at(lower, rival), at(upper, rival)
    span = upper_rival - lower_rival
    beta_rival, beta_weak = at(beta, rival), at(beta, weak)
    return _Pair(
        at(alpha, rival),
        beta_rival,
        at(alpha, weak),
        beta_weak,
        (lower_rival - at(lower, weak)) / span,
        (at(upper, weak) - upper_rival) / span,
        at(budget, weak),
        beta_rival - beta_weak,
    )


def _polish(pair: _Pair, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The last steps, and whether they were short enough to be the last."""
    condition, slope, curvature = _derivatives(pair, y)
    y = jnp.maximum(y + _step(condition, slope, curvature), 0)
    odds, above, below, _ = _parts(pair, y)
    condition, slope, curvature = _derivatives(pair, y)
    step = jnp.maximum(_step(condition, slope, curvature), -y)
    # The pair's terms change by their own size within 1/rate; F, where they cancel, within less.
    rate = 1 + pair.beta_rival * (1 + odds / (1 + odds) * (1 / above + 1 / below))
    cancelled = (slope + 2 * pair.beta_weak) / slope
    newton = jnp.abs(condition / slope)
    length = newton * rate * cancelled
    left = length * length * newton
    is_root = (slope > 0) & (length < 0.1) & (left < jnp.finfo(y.dtype).eps)
    at_zero = (y == 0) & ((step == 0) | (below <= 0))
    return jnp.where(at_zero, 0, y + step), is_root | at_zero


def _is_negative_before(pair: _Pair, level: jax.Array) -> jax.Array:
    """Whether F < 0 at every level before that of its root."""
    alpha, beta, _, beta_weak, a, b, _, gain = pair
    zero = jnp.zeros_like(level)
    at_zero = _parts(pair, zero)
    width = 1 + a + b
    rises = beta * width * at_zero.inverse_odds >= beta_weak * at_zero.above * at_zero.below

    square, linear, constant = _turning(pair)
    root = jnp.sqrt(linear**2 - 4 * square * constant)
    odds = jnp.where(linear > 0, -2 * constant / (linear + root), (root - linear) / (2 * square))
    turn = jnp.clip((jnp.log(odds) - alpha) / beta, 0, level)

    def gap_rises(y):
        """Whether G > 0, by more than rounding."""
        inverse_odds, above, below, _ = _parts(pair, y)
        logit = jnp.log(above / below)
        slope = beta * width * inverse_odds / (above * below * beta_weak)
        gap = logit - pair.alpha_weak + beta_weak * (jnp.log(slope) - y)
        terms = jnp.abs(logit) + jnp.abs(pair.alpha_weak) + beta_weak * (1 + y)
        # Without a root G rises from zero on.
        return gap > 1e-5 * (1 + terms)

    turns = odds > 0
    least = gap_rises(zero) & gap_rises(jnp.where(turns, turn, 0))
    return (level == 0) | ((a <= 0) & (gain >= 0)) | ((a >= 0) & (rises | least))


def _turning(pair: _Pair):
    """Coefficients of the quadratic in the odds that has the sign of G′, times β_w."""
    _, beta, _, beta_weak, a, b, _, _ = pair
    width = 1 + a + b
    square = -b * (1 + a) * (1 + beta) * beta_weak
    linear = beta * width - beta_weak * (width + 2 * a * b)
    return square, linear, a * (1 + b) * (beta - 1) * beta_weak


def _holds_on(pair: _Pair, level: jax.Array, is_binding: jax.Array) -> jax.Array:
    """Whether a pair's condition surely holds from a level on; at the level, if not binding."""
    alpha, beta, alpha_weak, beta_weak, a, b, g, gain = pair
    odds, above, below, q = _parts(pair, level)
    # Rounding: of z, of ε, and of the terms.
    rounding = 3e-7 * (1 + jnp.abs(alpha) + beta * level)
    above_low = above - (3e-7 * (1 + jnp.abs(a)) + jnp.abs(a) * odds * (3e-7 + rounding))
    below_high = below + (3e-7 * -b + jnp.abs(1 + b) * odds * (3e-7 + rounding))
    gone = below_high <= 0
    logit = jnp.log(above_low / below_high)
    needed = beta_weak * (level + jnp.log(1 + q))
    terms = jnp.abs(logit) + jnp.abs(alpha_weak) + needed
    surely = logit - alpha_weak - needed >= 4e-7 * (1 + terms)

    # The larger root in the odds, relative to the odds at the level; 1 where that is past it.
    square, linear, constant = _turning(pair)
    discriminant = linear * linear - 4 * square * constant
    root = jnp.sqrt(jnp.maximum(discriminant, 0))
    falling = linear <= 0
    over, under = (
        jnp.where(falling, root - linear, -2 * constant),
        jnp.where(falling, 2 * square, linear + root),
    )
    ratio = jnp.where((discriminant < 0) | (over * odds <= under), 1, over * odds / under)
    turn = odds / ratio
    above_turn, below_turn = 1 + a + a * turn, b + (1 + b) * turn
    slope = beta * (1 + a + b) * turn / (beta_weak * above_turn * below_turn)
    x = jnp.minimum(slope, 1)  # log x ≥ (x − 1/x)/2 for x ≤ 1
    logit_turn = jnp.log(above_turn / below_turn)
    least = (logit_turn - alpha_weak) / beta_weak - level - jnp.log(ratio) / beta + (x - 1 / x) / 2
    one_turn = (constant <= 0) | (linear >= 0) | (ratio == 1)
    holds_on = ((a <= 0) & (gain >= 0)) | (
        one_turn & (least >= 1e-5 * (1 + (terms + jnp.abs(logit_turn)) / beta_weak))
    )
    regular = (
        (beta > 0)
        & (beta < jnp.inf)
        & (beta_weak > 0)
        & (beta_weak < jnp.inf)
        & (jnp.abs(alpha) < jnp.inf)
        & (jnp.abs(a) < jnp.inf)
        & (b <= 0)
        & (g >= 0)
        & (g < jnp.inf)
        & (odds < jnp.inf)
    )
    return regular & (gone | ((surely | is_binding) & holds_on))
