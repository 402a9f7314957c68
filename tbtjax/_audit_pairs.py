"""The audit of pairs: do stronger models score higher (C1), does their lead in effort grow (C3)?

Power laws are decided exactly, by the turning points that a quadratic in the stronger model's odds
gives in closed form; tabulated curves by their points; other curves on a grid.

Arrays are `[rivals, games, n]`: each model on the last axis, its more capable rivals in front
(`tbtjax._rivals`). Levels are log(1 + effort); several of them come before the rivals' axis.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._audit import Finding, effort_grid, largest_fall, looks, nothing, rounding, take
from tbtjax._intervals import largest_level
from tbtjax._pieces import LimitedPairs, log_parts
from tbtjax._rivals import Rivals
from tbtjax.curves import PowerLaw, Tabulated
from tbtjax.game import RankingGame

#: Efforts among which the largest misorder of two power laws is looked for, once it is proven.
_MISORDER_EFFORTS = 128


class PairFindings(NamedTuple):
    """C1 and C3, `[rivals, games, n]` each: see `tbtjax.assumptions.AssumptionReport`."""

    order: Finding
    gap: Finding


class _PowerLawPairs(NamedTuple):
    """Each model, weak, beside a stronger one: `[rivals, games, n]`, or `[games, n]` if weak's own.

    `passing` has the stronger one as the rival whose score the weak model is to reach; `matching`
    has the two the other way round.
    """

    passing: LimitedPairs
    matching: LimitedPairs
    lower: jax.Array
    upper: jax.Array
    rival_lower: jax.Array
    rival_upper: jax.Array
    equal_limits: jax.Array


def _power_law_pairs(curves: PowerLaw, rivals: Rivals, n: int) -> _PowerLawPairs:
    alpha, beta, lower, upper = (
        jnp.broadcast_to(x, (*x.shape[:-1], n))
        for x in (curves.alpha, curves.beta, curves.lower, curves.upper)
    )
    rival_alpha, rival_beta = rivals.of(alpha), rivals.of(beta)
    rival_lower, rival_upper = rivals.of(lower), rivals.of(upper)
    below, above = rival_lower - lower, upper - rival_upper
    width, rival_width = upper - lower, rival_upper - rival_lower
    zero, free = jnp.zeros_like(below), jnp.zeros_like(below, bool)
    return _PowerLawPairs(
        LimitedPairs(
            rival_alpha,
            rival_beta,
            alpha,
            beta,
            below / rival_width,
            above / rival_width,
            zero,
            free,
        ),
        LimitedPairs(
            alpha, beta, rival_alpha, rival_beta, -below / width, -above / width, zero, free
        ),
        lower,
        upper,
        rival_lower,
        rival_upper,
        (below == 0) & (above == 0),
    )


class _Lead(NamedTuple):
    """The rival's score on the weak model's scale of logits, at a common effort.

    Attributes:
      lead: logit_w(s_k) − logit_w(s_w), ±inf where the rival is outside the weak model's range.
      log_slope: log of d logit_w(s_k)/dz_k.
      noise: what rounding can make of either.
    """

    lead: jax.Array
    log_slope: jax.Array
    noise: jax.Array


def _lead(pairs: LimitedPairs, equal_limits: jax.Array, level: jax.Array) -> _Lead:
    log_p, log_q, low, high = log_parts(pairs, level)
    own = pairs.alpha_weak + pairs.beta_weak * level
    reachable = high > -jnp.inf
    logit = jnp.where(reachable, low - jnp.where(reachable, high, 0), jnp.inf)
    # Written as differences, equal limits have no rounding where the order is beyond doubt.
    ahead = pairs.alpha_rival - pairs.alpha_weak + (pairs.beta_rival - pairs.beta_weak) * level
    lead = jnp.where(equal_limits, ahead, logit - own)
    inside = reachable & (low > -jnp.inf)
    low, high = jnp.where(inside, low, 0), jnp.where(inside, high, 0)
    log_slope = jnp.where(
        inside, jnp.log1p(pairs.a + pairs.b) + log_p + log_q - low - high, jnp.inf
    )

    # Digits are lost in p + a and q + b where the offset is negative, and in z.
    lost = jnp.exp(log_p - low) + jnp.abs(pairs.a) * jnp.exp(-low)
    lost += jnp.exp(log_q - high) + jnp.abs(pairs.b) * jnp.exp(-high)
    argument = jnp.abs(pairs.alpha_rival) + jnp.abs(pairs.beta_rival) * level
    lost += argument * (1 + jnp.where(inside, jnp.exp(jnp.minimum(log_slope, 30)), 0))
    lost += jnp.abs(pairs.alpha_weak) + jnp.abs(pairs.beta_weak) * level
    noise = rounding(level.dtype) * (1 + jnp.where(inside, lost, 0))
    return _Lead(
        lead,
        jnp.where(equal_limits, 0, log_slope),
        jnp.where(equal_limits, 0, noise),
    )


def _turns(pairs: LimitedPairs, square, linear, constant, first, last) -> tuple:
    """Levels between `first` and `last` at which a quadratic in the rival's odds vanishes.

    Two levels in order; an end of the range in place of a root that is not inside.
    """
    discriminant = linear**2 - 4 * square * constant
    root = jnp.sqrt(jnp.where(discriminant >= 0, discriminant, jnp.nan))
    # The sum that does not cancel gives one root, the product of both the other.
    half = -(linear + jnp.where(linear >= 0, root, -root)) / 2

    def level(over, under):
        odds = over / jnp.where(under != 0, under, jnp.nan)
        usable = (odds > 0) & jnp.isfinite(odds) & (pairs.beta_rival != 0)
        beta = jnp.where(usable, pairs.beta_rival, 1)
        level = (jnp.log(jnp.where(usable, odds, 1)) - pairs.alpha_rival) / beta
        return jnp.clip(jnp.where(usable, level, first), first, last)

    one, other = level(half, square), level(constant, half)
    return jnp.minimum(one, other), jnp.maximum(one, other)


def _power_law_pair_findings(
    game: RankingGame, rivals: Rivals, max_effort: jax.Array
) -> PairFindings:
    """C1 and C3 of power laws at efforts up to `max_effort` `[games, 1]`; verdicts are exact."""
    pairs = _power_law_pairs(game.curves, rivals, game.num_models)
    level = jnp.log1p(max_effort)
    last = jnp.minimum(level, largest_level(game.dtype))
    return PairFindings(
        _power_law_order(pairs, rivals, level, last), _power_law_gap(pairs, rivals, level)
    )


def _power_law_order(pairs: _PowerLawPairs, rivals: Rivals, level, last) -> Finding:
    """C1: the lead's sign at its turning points, and at both ends, decides.

    The lead's slope β_k·d logit_w(s_k)/dz_k − β_w has, with o = p/q and ρ = β_k/β_w, the sign of
    −β_w·(b(1 + a)·o² + (2ab − (ρ − 1)(1 + a + b))·o + a(1 + b)).
    """
    passing, equal = pairs.passing, pairs.equal_limits
    a, b, weak, strong = passing.a, passing.b, passing.beta_weak, passing.beta_rival
    excess = (strong - weak) / jnp.where(weak != 0, weak, 1)
    first = jnp.zeros_like(a + last)
    last = first + last
    turns = _turns(passing, b * (1 + a), 2 * a * b - excess * (1 + a + b), a * (1 + b), first, last)
    levels = jnp.stack([first, last, *turns])
    lead = _lead(passing, equal, levels)
    behind = jnp.where(equal, lead.lead <= 0, lead.lead < -lead.noise)
    # Without end, the limits decide, and where they are equal how fast the models get there.
    limit, rival_limit = (
        jnp.where(beta > 0, upper, jnp.where(beta < 0, lower, jnp.nan))
        for beta, lower, upper in (
            (weak, pairs.lower, pairs.upper),
            (strong, pairs.rival_lower, pairs.rival_upper),
        )
    )
    together = ((weak > 0) & (strong > 0) & (b == 0)) | ((weak < 0) & (strong < 0) & (a == 0))
    overtaken = (rival_limit < limit) | ((together | equal) & (strong < weak))
    overtaken &= jnp.isinf(level)
    fails = rivals.real & (jnp.any(behind, axis=0) | overtaken)

    def deficit_at(levels):
        """By how much the weak model's score is above, digits kept near either limit."""
        z = passing.alpha_weak + weak * levels
        rival_z = passing.alpha_rival + strong * levels
        width, rival_width = pairs.upper - pairs.lower, pairs.rival_upper - pairs.rival_lower
        sign = jnp.where((z > 0) & (rival_z > 0), -1, 1).astype(z.dtype)
        offset = jnp.where(
            sign < 0, pairs.upper - pairs.rival_upper, pairs.lower - pairs.rival_lower
        )
        beyond = width * jax.nn.sigmoid(sign * z) - rival_width * jax.nn.sigmoid(sign * rival_z)
        return offset + sign * beyond

    def locate():
        efforts = effort_grid(jnp.expm1(last), _MISORDER_EFFORTS)
        looked = jnp.concatenate([levels, jnp.log1p(efforts)])
        deficit = deficit_at(looked)
        # A model that stands still is compared at the efforts looked at.
        in_the_limit = jnp.where(limit > rival_limit, limit - rival_limit, 0)
        in_the_limit = jnp.where(overtaken, in_the_limit, -jnp.inf)
        looked = jnp.concatenate([looked, jnp.full_like(looked[:1], jnp.inf)])
        deficit = jnp.concatenate([deficit, in_the_limit[None]])
        worst = jnp.argmax(deficit, axis=0)
        effort = jnp.expm1(take(looked, worst))
        return Finding(fails, jnp.maximum(take(deficit, worst), 0), effort, effort)

    return jax.lax.cond(jnp.any(fails), locate, lambda: nothing(fails.shape, first.dtype))


def _power_law_gap(pairs: _PowerLawPairs, rivals: Rivals, level) -> Finding:
    """C3: the effort gap D = e^Y − e^y over the scores that the weak model reaches.

    y and Y are the levels log(1 + e) at which the stronger and the weaker model have a score. D
    rises iff G = Y + log Y′ − y ≥ 0, and G′ has the sign of −(b(1 + a)(1 + β_k)·o² +
    (2ab − (ρ − 1)(1 + a + b))·o + a(1 + b)(1 − β_k)): the sign of G at its turning points and at
    both ends decides. Below the stronger model's own start D is Y alone; where the weaker one
    starts higher, D falls at once.
    """
    passing, matching, equal = pairs.passing, pairs.matching, pairs.equal_limits
    a, b, weak, strong = passing.a, passing.b, passing.beta_weak, passing.beta_rival
    zero = jnp.zeros_like(a + level)
    top = largest_level(zero.dtype)
    reach = zero + jnp.minimum(level, top)
    weak_rises, strong_rises = zero + weak > 0, zero + strong > 0
    both = weak_rises & strong_rises
    beta_weak = jnp.where(weak_rises, zero + weak, 1)
    beta_strong = jnp.where(strong_rises, zero + strong, 1)

    # The stronger model's levels at the scores that the weak one has at 0 and at the end.
    at_ends = _lead(matching, equal, jnp.stack([zero, reach]))
    misordered = at_ends.lead[0] > at_ends.noise[0]
    catches_up = jnp.where(strong_rises, at_ends.lead[0] / beta_strong, jnp.inf)
    first = jnp.where(misordered, catches_up, 0)
    end = reach + at_ends.lead[1] / beta_strong
    overtaken = both & (end > first) & (at_ends.lead[1] > at_ends.noise[1])
    some = both & (end > first)
    last = jnp.clip(end, first, top)

    def gap_rises(level):
        """G and what rounding can make of it."""
        lead = _lead(passing, equal, level)
        log_ratio = jnp.log(beta_strong / beta_weak)
        distance = lead.lead / beta_weak
        noise = rounding(zero.dtype) * (jnp.abs(distance) + jnp.abs(log_ratio))
        return distance + log_ratio + lead.log_slope, noise + lead.noise * (1 + 1 / beta_weak)

    excess = (strong - weak) / beta_weak
    turns = _turns(
        passing,
        b * (1 + a) * (1 + strong),
        2 * a * b - excess * (1 + a + b),
        a * (1 + b) * (1 - strong),
        first,
        last,
    )
    levels = jnp.stack([first, *turns, last])
    rise, noise = gap_rises(levels)
    falls = overtaken | (some & jnp.any(rise < -noise, axis=0))
    # The weak model reaches what the stronger one never does, or not with a finite number of steps.
    constant = passing.alpha_rival - passing.alpha_weak + jnp.log1p(a + b)
    unsure = 1 + jnp.abs(passing.alpha_rival) + jnp.abs(passing.alpha_weak)
    behind = constant < jnp.where(equal, 0, -rounding(zero.dtype) * unsure)
    slower = (strong < weak) | ((strong == weak) & behind)
    never = (b > 0) | ((b == 0) & slower)
    beyond = both & jnp.where(jnp.isinf(level), never, end > top)
    stays = weak_rises & ~strong_rises
    gained = at_ends.lead[1] + strong * reach  # over the stronger model's start, as a logit
    beyond |= stays & (gained > at_ends.noise[1])
    fails = rivals.real & (misordered | falls | beyond)

    def locate():
        at_left, at_right = rise[:-1] >= 0, rise[1:] >= 0

        def halve(_, ends):
            left, right = ends
            middle = left + (right - left) / 2
            like_left = (gap_rises(middle)[0] >= 0) == at_left
            return jnp.where(like_left, middle, left), jnp.where(like_left, right, middle)

        # The gap is flat where it turns: half of the digits of the level give all of the gap's.
        halvings = jnp.finfo(zero.dtype).nmant // 2 + 4
        _, turned = jax.lax.fori_loop(0, halvings, halve, (levels[:-1], levels[1:]))
        inner = jnp.stack([first, *jnp.where(at_left == at_right, levels[1:], turned)])
        inside = jnp.exp(inner) * jnp.expm1(_lead(passing, equal, inner).lead / beta_weak)
        # Both ends are known as levels: near the weak model's limit its lead has lost its digits.
        starting = jnp.where(misordered, -jnp.expm1(first), inside[0])
        ending = jnp.exp(last) * jnp.expm1(reach - last)
        gaps = jnp.stack(
            [zero, starting, *inside[1:], ending, jnp.where(beyond, -jnp.inf, 0)],
        )
        usable = jnp.stack([zero == 0, misordered | some | stays, *(some,) * 4, beyond])

        def score(z, lower, upper):
            return zero + lower + (upper - lower) * jax.nn.sigmoid(z)

        own = score(passing.alpha_weak, pairs.lower, pairs.upper)
        theirs = score(passing.alpha_rival, pairs.rival_lower, pairs.rival_upper)
        matched = jnp.stack([*inner[1:], last])
        scores = jnp.stack(
            [
                jnp.minimum(own, theirs),
                jnp.where(misordered, own, theirs),
                *score(
                    passing.alpha_rival + strong * matched, pairs.rival_lower, pairs.rival_upper
                ),
                score(passing.alpha_weak + weak * reach, pairs.lower, pairs.upper),
            ]
        )
        none = jnp.zeros_like(gaps)
        return largest_fall(gaps, none, scores, scores, usable)._replace(fails=fails)

    return jax.lax.cond(jnp.any(fails), locate, lambda: nothing(fails.shape, zero.dtype))


# --- C1 and C3 of other curves -------------------------------------------------------------------


def pair_findings(
    game: RankingGame, rivals: Rivals, max_effort: jax.Array, present: jax.Array
) -> PairFindings:
    """C1 and C3 where curves are looked at: exact for tabulated ones, on a grid for others."""
    if isinstance(game.curves, PowerLaw):
        return _power_law_pair_findings(game, rivals, max_effort)
    efforts, scores = looks(game, max_effort)
    # Every look at one model is one at all of them.
    every_effort = _one_row(efforts) if isinstance(game.curves, Tabulated) else efforts[..., :1]
    order = _order_of_looks(game, rivals, every_effort)
    gap = _gap_of_looks(game, rivals, jnp.where(present, scores, jnp.inf), max_effort)
    return PairFindings(order, gap)


def _one_row(x: jax.Array) -> jax.Array:
    """`[count, games, n]` to `[count·n, games, 1]`."""
    return jnp.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:-1], 1)


def _order_of_looks(game: RankingGame, rivals: Rivals, efforts: jax.Array) -> Finding:
    """C1 at efforts `[count, games, 1]`; an exact tie counts where the curves still rise."""
    curves, dtype = game.curves, game.dtype
    scores = curves.score(efforts)
    scores = jnp.broadcast_to(scores, (*scores.shape[:-1], game.num_models))
    limit = jnp.broadcast_to(curves.limit(), scores.shape[1:])
    theirs = rivals.of(scores)
    deficit = scores - theirs
    size = jnp.maximum(jnp.abs(scores), jnp.abs(theirs))
    # Scores that saturate are equal by rounding, long before the limit.
    scale = jnp.maximum(size, jnp.where(jnp.isfinite(limit), jnp.abs(limit), 0))
    away = limit - scores > jnp.sqrt(jnp.finfo(dtype).eps) * scale
    behind = (deficit > rounding(dtype) * size) | ((deficit == 0) & away)
    deficit, behind = jnp.moveaxis(deficit, 1, 0), jnp.moveaxis(behind, 1, 0)
    worst = jnp.argmax(jnp.where(behind, deficit, -jnp.inf), axis=0)
    effort = take(efforts[:, None], worst)
    fails = rivals.real & jnp.any(behind, axis=0)
    return Finding(fails, jnp.maximum(take(deficit, worst), 0), effort, effort)


def _gap_of_looks(
    game: RankingGame, rivals: Rivals, marks: jax.Array, max_effort: jax.Array
) -> Finding:
    """C3 at the scores `marks` `[count, games, n]` and a hair to either side of each.

    The effort gap of piecewise linear curves is linear between the scores of their points, where it
    may jump: a plateau ends. A fall counts if rounding of the scores cannot have made it.
    """
    dtype = marks.dtype
    eps = rounding(dtype)
    size = jnp.max(jnp.where(jnp.isfinite(marks), jnp.abs(marks), 0), axis=(0, -1))
    hair = eps * size[:, None]
    marks = _one_row(marks)
    marks = jnp.sort(jnp.concatenate([marks - 2 * hair, marks + 2 * hair]), axis=0)

    def reach(score):
        effort = game.curves.effort_to_reach(score)
        return jnp.broadcast_to(effort, (*effort.shape[:-1], game.num_models))

    least, most = reach(marks - hair) * (1 - eps), reach(marks + hair) * (1 + eps)
    reached = jnp.isfinite(most) & (most <= max_effort * (1 + 2 * eps))
    own_least, own_most = jnp.where(reached, least, 0), jnp.where(reached, most, 0)
    smallest, largest = (
        jnp.moveaxis(gap, 1, 0)
        for gap in (own_least - rivals.of(most), own_most - rivals.of(least))
    )
    # Where the stronger model never gets, the gap is −inf for certain; where it may not, unknown.
    unsure = jnp.where(largest > smallest, largest - smallest, 0) / 2
    gap = jnp.where(jnp.isfinite(smallest), smallest + unsure, smallest)
    places = marks[:, None]
    found = largest_fall(gap, unsure, places, places, reached[:, None])
    return found._replace(fails=found.fails & rivals.real)
