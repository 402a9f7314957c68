"""The fast road to Δ* with different limits, for games whose stable levels are shown to be a ray.

For a weak model w with a rival k above it, y = log(1 + Δ), let ε = e^{−z}, z = α_k + β_k·y, be the
rival's inverse odds and ω = e^{−T}, T = α_w + β_w·(y + log(1 + q)), q = g·e^{−y}, those of the weak
model after all that passing is worth. With

    a = l_k − l_w,   b = u_k − u_w ≥ 0,   c = u_w − l_k,   d = u_k − l_w,
    s = (u_k − l_k)·(u_w − l_w)

the pair is stable where the rival's odds are at least what the weak model's score is in its range:

    K(y) = z − log(N/D) ≥ 0,   N = c − a·ω,   D = d·ω + b,

or where N ≤ 0. No rival is out of reach in this form: where w saturates, K all but follows z. With
ℓ′ = s·ω/(N·D) and T′ = β_w/(1 + q), K′ = β_k − ℓ′·T′, and ℓ′ bends by ℓ″/ℓ′ = 1 − b/D − c/N, which
for a ≤ 0 lies between −1 and 1. One pair binds, so only it needs full precision:

1. float32, all pairs: a look from y = 0, which is one step of third order; the pair that asks for
   most binds;
2. float32, this pair: more such steps;
3. the games' dtype, this pair: one more. Its length bounds what is left;
4. float32, this pair: no level below the root is stable (`_is_unstable_before`);
5. float32, all pairs: every other pair holds there by more than the rounding of this check, and
   every pair keeps holding (`_holds_on`).

As in `tbtjax._regular`, a game for which any of this fails is tried again, thoroughly: with a
second look, more steps and costlier proofs; pairs are looped over with games in contiguous lanes.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._elementary import exp, log
from tbtjax._implicit import Rates
from tbtjax._regular import (
    LOOKS,
    SMALL,
    FastLevel,
    log1p_of_small,
    most_asking,
    of_each,
    of_neighbours,
    over_pairs_apart,
    several,
    some_times,
)

_FAST = jnp.float32
_HIGHEST = 80.0  # beyond, e^{−y} leaves float32
_MARGIN = 1e-5  # of slopes, for their rounding
_FAST_STEPS = 3  # in float32, for the pair that binds; one more where a road is thorough


class _Pair(NamedTuple):
    """One pair of each game, `[games]` each; a, b, c, d and s as above.

    `off` is how far limits and their differences may be off by the rounding of inputs.
    """

    alpha_rival: jax.Array
    beta_rival: jax.Array
    alpha_weak: jax.Array
    beta_weak: jax.Array
    a: jax.Array
    b: jax.Array
    c: jax.Array
    d: jax.Array
    s: jax.Array
    g: jax.Array
    gain: jax.Array  # β_k − β_w
    off: jax.Array


def ray_level(
    alpha: jax.Array,
    beta: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    worth_of,
    *,
    most_ranks: int,
    with_rates: bool = False,
    thorough: bool = True,
    unroll: int = 1,
) -> FastLevel:
    """Δ* of a chunk's games whose stable levels are shown to be a ray.

    Args:
      alpha: `[n, games]`, n ≥ 2.
      beta: `[n, games]`.
      lower: `[n, games]`.
      upper: `[n, games]`.
      worth_of: as in `_regular.regular_level`.
      most_ranks: pairs up to so many places apart are checked: 1 for adjacent deviations, n − 1
        for all.
      with_rates: whether to work out how Δ* moves.
      thorough: a second look, more steps where they are not enough, and costlier proofs; else more
        games are not settled.
      unroll: turns that one turn of a loop over pairs makes (`_roads.PAIRS_AT_ONCE`).

    Returns:
      The level of each game.
    """
    n = len(alpha)
    curves, blur = (alpha, beta, lower, upper), 0.0
    if not thorough and alpha.dtype != _FAST:
        # Half as much to turn and to read; what is off by that is allowed for.
        curves, blur = [x.astype(_FAST) for x in curves], 1.2e-7
    worth = of_neighbours(worth_of, n, unroll)

    def pair_of(weak, rival, g):
        (alpha, beta, floor, ceiling), (alpha_weak, beta_weak, floor_weak, ceiling_weak) = (
            [x[model] for x in curves] for model in (rival, weak)
        )
        pair = _Pair(
            alpha,
            beta,
            alpha_weak,
            beta_weak,
            floor - floor_weak,
            ceiling - ceiling_weak,
            ceiling_weak - floor,
            ceiling - floor_weak,
            (ceiling - floor) * (ceiling_weak - floor_weak),
            g,
            beta - beta_weak,
            2 * blur * (jnp.abs(ceiling) + jnp.abs(floor) + jnp.abs(floor_weak)),
        )
        return _Pair(*(x.astype(_FAST) for x in pair))

    def over_pairs(body, init):
        def step(rival, carry):
            return body(rival + 1, pair_of(rival + 1, rival, worth[rival]), carry)

        return jax.lax.fori_loop(0, n - 1, step, init, unroll=min(unroll, n - 1))

    def look(level_and_weak):
        """A step of all pairs from a level, and who asks for most."""
        level, _ = level_and_weak
        decay = jnp.exp(-level)

        def target(_, pair):
            value, slope, curvature, above = _condition(pair, level, decay)
            asks = (above > 0) & (slope > 0)
            return jnp.where(asks, level + _step(value, slope, curvature), 0)

        asked, weak = most_asking(target, over_pairs, n, level)
        return jnp.minimum(asked, _HIGHEST), weak

    # Derived from the inputs, so that it varies over devices as they do inside shard_map.
    level = jnp.where(jnp.isnan(alpha[0]), 0, 0).astype(_FAST)
    weak = level.astype(jnp.int32)
    level, weak = several(look, (level, weak), LOOKS if thorough else 1, unroll)

    asked = level > 0  # else `weak` is anybody, and all are stable at 0
    exact_pair = _take(alpha, beta, lower, upper, worth, weak)
    quick = _Pair(*(x.astype(_FAST) for x in exact_pair))

    def refined(y):
        value, slope, curvature, above = _condition(quick, y, jnp.exp(-y))
        y = jnp.where(asked & (above > 0), y + _step(value, slope, curvature), 0)
        return jnp.clip(y, 0, _HIGHEST)

    y = several(refined, level, _FAST_STEPS + thorough, unroll)
    place, y, exact = _polish(exact_pair, y, thorough=thorough, fixed=unroll > 1)

    level = y.astype(_FAST)
    decay = jnp.exp(-level)
    settled = exact & (level < _HIGHEST) & ((level == 0) | _is_unstable_before(quick, decay))

    def holds_adjacent(weak_one, pair, carry):
        known, least_fall = carry
        holds = _holds_on(pair, level, decay, weak_one == weak, thorough)
        if unroll > 1:
            known &= holds
        else:
            # A row of its own: else the compiler divides each pair's work among threads, which
            # takes longer than the work.
            known = jax.lax.dynamic_update_index_in_dim(known, holds, weak_one - 1, 0)
        return known, jnp.minimum(least_fall, jnp.minimum(pair.b, pair.gain))

    def holds_apart(weak_one, rival, settled):
        pair = pair_of(weak_one, rival, worth_of(weak_one, rival))
        return settled & _holds_on(pair, level, decay, False, thorough)

    known = jnp.broadcast_to(settled, (1 if unroll > 1 else n - 1, *level.shape))
    known, least_fall = over_pairs(holds_adjacent, (known, jnp.ones_like(level)))
    settled &= jnp.all(known, axis=0)
    settled = over_pairs_apart(holds_apart, n, most_ranks, settled, unroll)

    rates = None
    if with_rates:
        place = _Place.of(exact_pair, y) if place is None else place.moved_to(exact_pair, y)
        rates = _rates(exact_pair, place)
    if thorough:  # b ≥ 0; the costlier proofs can do without β falling
        return FastLevel(y, weak, settled & is_ordered(upper), None, rates)
    # What falls in float32 falls; what does not may have lost its sign.
    return FastLevel(y, weak, settled, ~(least_fall > 0), rates)


def is_ordered(*parameters: jax.Array, axis: int = 0) -> jax.Array:
    """Whether parameters do not increase along the models; not where one is NaN."""

    def falls(x):
        x = jnp.moveaxis(x, axis, 0)
        return jnp.all(x[:-1] >= x[1:], axis=0)

    return functools.reduce(jnp.logical_and, [falls(x) for x in parameters])


class _Place(NamedTuple):
    """What K and the rates of one pair of each game come from at a level, `[games]` each."""

    y: jax.Array
    decay: jax.Array  # e^{−y}
    spare: jax.Array  # log(1 + q)
    omega: jax.Array
    odds: jax.Array  # ε, inverse

    @classmethod
    def of(cls, pair: _Pair, y: jax.Array) -> "_Place":
        decay = jnp.exp(-y)
        spare = log(1 + pair.g * decay)
        omega = exp(-(pair.alpha_weak + pair.beta_weak * (y + spare)))
        return cls(y, decay, spare, omega, exp(-(pair.alpha_rival + pair.beta_rival * y)))

    def moved_to(self, pair: _Pair, y: jax.Array) -> "_Place":
        """The same at a level so close by that β times the way is small: by series."""
        by = y - self.y
        q = pair.g * self.decay
        fall = _exp_of_small(-by)
        spared = q * (fall - 1) / (1 + q)
        spared *= 1 - spared * (1 / 2 - spared * (1 / 3))
        return _Place(
            y,
            self.decay * fall,
            self.spare + spared,
            self.omega * _exp_of_small(-pair.beta_weak * (by + spared)),
            self.odds * _exp_of_small(-pair.beta_rival * by),
        )


def _exp_of_small(x: jax.Array) -> jax.Array:
    """e^x up to x⁴/24."""
    return 1 + x * (1 + x * (1 / 2 + x * (1 / 6)))


def _condition(pair: _Pair, y: jax.Array, decay: jax.Array, *, place: _Place | None = None):
    """K, K′, K″ and N, given e^{−y}; K without a logarithm where a `place` is close to its root."""
    q = pair.g * decay
    if place is None:
        omega = exp(-(pair.alpha_weak + pair.beta_weak * (y + log(1 + q))))
    else:
        omega = place.omega
    above, below = pair.c - pair.a * omega, pair.d * omega + pair.b
    # One division for 1/(1 + q) and 1/(N·D).
    whole = 1 / ((1 + q) * (above * below))
    share, inverse = above * below * whole, (1 + q) * whole
    if place is None:
        value = pair.alpha_rival + pair.beta_rival * y - log(above * above * inverse)
    else:
        value = -log1p_of_small(above * place.odds * (above * inverse) - 1)
    rise = pair.beta_weak * share
    slope_weak = pair.s * omega * inverse * rise
    bend = 1 - (pair.b * above + pair.c * below) * inverse
    curvature = -slope_weak * (bend * rise + q * share)
    return value, pair.beta_rival - slope_weak, curvature, above


def _step(value, slope, curvature) -> jax.Array:
    """From y to K's root: of third order, and the step is never longer than four of Newton's.

    With x = K·K″/K′² it is −(K/K′)/(1 − x/2 + x²/12), close to −(K/K′)·(e^x − 1)/x, which is exact
    for K = k − log(y − y₀) and for every linear K.
    """
    # Divisions are so placed, here and in the condition, that a turn of the look is eight kernels.
    # More of them XLA's CPU runtime puts in a queue, with allocations that threads wait for; of
    # fewer, longer ones it divides one among threads.
    newton = value / slope
    x = newton * curvature * (1 / slope)
    return -newton / (1 - x * (1 / 2 - x * (1 / 12)))


def _of_each(x: jax.Array, index: jax.Array) -> jax.Array:
    """As `_regular.of_each`, of inputs that nobody has turned yet: they are read as they lie."""
    return jnp.take_along_axis(x, index[None], axis=0, mode="promise_in_bounds")[0]


def _take(alpha, beta, lower, upper, worth, weak) -> _Pair:
    """One adjacent pair of each game, in the games' dtype."""
    rival = weak - 1
    beta_rival, beta_weak = _of_each(beta, rival), _of_each(beta, weak)
    floor, ceiling = _of_each(lower, rival), _of_each(upper, rival)
    floor_weak, ceiling_weak = _of_each(lower, weak), _of_each(upper, weak)
    return _Pair(
        _of_each(alpha, rival),
        beta_rival,
        _of_each(alpha, weak),
        beta_weak,
        floor - floor_weak,
        ceiling - ceiling_weak,
        ceiling_weak - floor,
        ceiling - floor_weak,
        (ceiling - floor) * (ceiling_weak - floor_weak),
        of_each(worth, rival),
        beta_rival - beta_weak,
        jnp.zeros_like(floor),
    )


def _polish(
    pair: _Pair, y: jax.Array, *, thorough: bool, fixed: bool
) -> tuple[_Place | None, jax.Array, jax.Array]:
    """The last steps, in the games' dtype, and whether the last one was short enough for that.

    One, or, where `thorough`, two in float64: for all games where `fixed`, so that nothing waits
    for a number from the device. Where there is but one, the place that it leads from, too.
    """
    most_left = jnp.finfo(pair.g.dtype).eps
    furthest = most_left**0.25 / 2  # for series
    if pair.g.dtype != _FAST and not thorough:
        most_left *= 64  # 1e-14; how y enters K is rounded to as much where K is nearly level

    def step(y):
        place = _Place.of(pair, y)
        value, slope, curvature, above = _condition(pair, y, place.decay, place=place)
        further = jnp.maximum(y + _step(value, slope, curvature), 0)
        # Where K is level the step is short far from any root: Newton's tells the distance.
        distance = jnp.maximum(jnp.abs(further - y), jnp.abs(value / slope))
        # What is left is of third order. K″ and K‴ are of the size of the weak model's part of K′
        # times one and two factors of `rate`.
        inside = above > 0
        rate = 1 + pair.beta_weak * jnp.maximum(pair.c / jnp.where(inside, above, 1), 1)
        part = (pair.beta_rival - slope) / slope
        left = (distance * rate) ** 2 * distance * part * (1 + part)
        near = distance < 1e-2 if thorough else distance * (rate + pair.beta_rival) < furthest
        short = (slope > 0) & inside & (left <= most_left) & near & (jnp.abs(value) < SMALL)
        # Stable at 0: where K falls from there, the step would go to where it ends to be.
        at_zero = (y == 0) & ((value >= 0) | ~inside)
        return place, jnp.where(at_zero | ~inside, y, further), short | at_zero

    y = y.astype(pair.g.dtype)
    if not thorough:
        return step(y)

    def once_more(carry):
        y, exact = carry
        _, further, close = step(y)
        return jnp.where(exact, y, further), exact | close

    nobody = jnp.isnan(y) & False  # varies over devices as `y` does inside shard_map
    most = 1 if pair.g.dtype == _FAST else 2
    y, exact = some_times(once_more, (y, nobody), most, fixed=fixed)
    return None, y, exact


def _rates(pair: _Pair, at: _Place) -> Rates:
    """How fast e^y moves with what it comes from, by K(y) = 0, where N = D/ε."""
    inverse = 1 / (pair.d * at.omega + pair.b)
    # s is positive; the maximum is for the compiler, as in `exp`.
    by_own = -jnp.maximum(pair.s, 0) * (at.omega * inverse) * (at.odds * inverse)
    rise = by_own * pair.beta_weak
    grown = 1 / at.decay
    pace = -1 / (pair.beta_rival * (1 + pair.g * at.decay) + rise)  # −1/K′ over 1 + q
    growth = pace * (grown + pair.g)
    by_lower, by_upper = growth * inverse * at.odds, growth * inverse
    return Rates(
        alpha=(growth * by_own, growth),
        beta=growth * by_own * (at.y + at.spare),
        budget=pace * rise,
        lower=(-by_upper * at.omega * (1 + at.odds), by_lower * (1 + at.omega)),
        upper=(-by_upper * (1 + at.odds), by_upper * (1 + at.omega)),
    )


def _is_unstable_before(pair: _Pair, decay: jax.Array) -> jax.Array:
    """Whether a pair surely is unstable from y = 0 up to its root, where e^{−y} = `decay`."""
    q = pair.g * decay
    kappa = (1 + _MARGIN) * pair.a * pair.c / pair.s
    odds = jnp.exp(-pair.alpha_rival) * (1 + 1e-6 * jnp.abs(pair.alpha_rival))
    odds_at_root = odds * jnp.exp(jnp.log(decay) * pair.beta_rival)
    shallow = (pair.gain >= 0) & (pair.g >= kappa * odds) & (q >= kappa * odds_at_root)

    omega = jnp.exp(-(pair.alpha_weak + pair.beta_weak * jnp.log(1 + pair.g)))
    above, below = pair.c - pair.a * omega, pair.d * omega + pair.b
    steepest = pair.s * omega * pair.beta_weak / (1 + q)
    exact = 1 - _MARGIN * (1 + jnp.abs(pair.alpha_weak))
    falling = (above > 0) & (steepest <= exact * pair.beta_rival * above * below)
    return shallow | ((pair.a >= 0) & falling)


def _holds_on(pair: _Pair, level, decay, is_binding, thorough: bool) -> jax.Array:
    """Whether a pair surely is stable from a level on; at the level, if it does not bind there.

    Where not `thorough`, only what costs least is tried: it shows most pairs in which the rival
    learns no slower.
    """
    alpha, beta, alpha_weak, beta_weak, a, b, c, d, s, g, gain, off = pair
    spare = beta_weak * jnp.log(1 + g * decay)
    needed = beta_weak * level + spare
    odds = jnp.exp(-(alpha + beta * level))  # inverse
    # Y = (log(low/high) − α_w)/β_w; where high ≤ 0 the rival is out of reach, for good.
    low, high = d + a * odds, c * odds - b
    # Rounding: of the inputs, of the exponents and of every term.
    rounding = 3e-7 * (4 + jnp.abs(alpha) + beta * level + jnp.abs(alpha_weak) + needed)
    shift = off * (1 + odds)
    blur_low = rounding * (d + jnp.abs(a) * odds) + shift
    blur_high = rounding * (c * odds + b) + shift
    is_out = high <= -blur_high
    exists = (low > 2 * blur_low) & (high > 2 * blur_high)
    blur = 2 * (blur_low * high + blur_high * low) / (low * high)
    ahead = jnp.where(exists, jnp.log(low / high) - alpha_weak - needed - blur, -1)
    ahead = jnp.where(is_binding, jnp.maximum(ahead, 0), ahead)
    surely = ahead >= 0

    # For β_k ≥ β_w, Y′ ≥ 1/(1 + κ·ε) with κ = 0 where a ≤ 0: from here on Y − y loses less than
    # log(1 + κ·ε)/β_k, while log(1 + q) falls to 0. The slope of what these two leave of G has the
    # sign of q − κ·ε. Where β_k ≤ 1 that turns from + to − if at all: what is left is least here or
    # in the end. Where β_k > 1 it turns from − to +: so it is if q ≥ κ·ε here.
    least_s = s - off * (c + d)
    kappa = (1 + _MARGIN) * jnp.maximum(a + off, 0) * (c + off) * odds / least_s
    loss = beta_weak * jnp.minimum(kappa, (1 + 1e-6) * jnp.log(1 + kappa) + 1.2e-7) / beta
    spare -= 1.2e-7 * beta_weak
    ends = (beta <= 1) | (kappa <= g * decay)
    no_slower = surely & ((ahead >= loss) | ((ahead + spare >= loss) & ends))
    regular = (
        (jnp.abs(alpha + beta + alpha_weak + g) < jnp.inf)  # nor is one of them infinite or NaN
        & (beta_weak > 1e-20)
        & (c > off)
        & (d > off)
        & (least_s > 1e-20)
        & (s < jnp.inf)  # with the three above: limits are finite, lower ones below upper ones
        & (g >= 0)
    )
    if not thorough:
        return regular & (is_out | no_slower)
    regular &= (beta > 1e-20) & (b >= 0)
    # Y′, the slope of the total effort that reaches the rival, is `rise` over `steep`. It stays at
    # 1 or more if its denominator over ε falls from here on.
    rise = s * beta * odds
    steep = beta_weak * low * high
    stays_steep = ((1 - _MARGIN) * rise >= steep) & (a * c * odds * odds + b * d >= 0)
    # G falls before the larger root of a quadratic in the odds and rises after it: least there.
    square = b * d * (1 + beta) * beta_weak
    linear = beta * s - beta_weak * (s - 2 * a * b)
    constant = a * c * (beta - 1) * beta_weak
    discriminant = linear * linear - 4 * square * constant
    root = jnp.sqrt(jnp.maximum(discriminant, 0))
    falls = linear <= 0
    over = jnp.where(falls, root - linear, -2 * constant)
    under = jnp.where(falls, 2 * square, linear + root)
    # The odds there beside those at the level; 1 where that is past it.
    ratio = jnp.where((discriminant < 0) | (over * odds <= under), 1, over * odds / under)
    turn = odds / ratio
    low, high = d + a * turn, c * turn - b
    slope = jnp.minimum(s * beta * turn / (beta_weak * low * high), 1)
    logit = jnp.log(low / high)
    # log x ≥ (x − 1/x)/2 for x ≤ 1.
    least = (
        logit - alpha_weak - beta_weak * (level + jnp.log(ratio) / beta - (slope - 1 / slope) / 2)
    )
    terms = beta_weak * (1 + level + jnp.log(ratio) / beta) + jnp.abs(alpha_weak) + jnp.abs(logit)
    one_turn = (constant <= 0) | (linear >= 0) | (ratio == 1)
    rises_on = one_turn & (least >= _MARGIN * terms)
    return regular & (is_out | ((gain >= 0) & no_slower) | (surely & (stays_steep | rises_on)))
