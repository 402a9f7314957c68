"""The fast road to verdicts on power laws: in float32, a sure yes, a sure no, or no answer.

For each pair let A be by how much the rival is ahead at level Δ, in the logit of the weak model's
normalized score, and G = β_w·log(1 + g·e^{−y}), y = log(1 + Δ), by how much all that passing is
worth moves the latter. The baseline ranking follows capability where A > 0 for all neighbours; then
nobody gains by effort iff A ≥ G for every pair (the budget form, ours). Where a sign may be due to
rounding, or scores tie, the game is left to a road that knows all cases. Pairs are looped over with
games in contiguous lanes, as in `tbtjax._regular`.
"""

import jax
import jax.numpy as jnp

from tbtjax._elementary import log1p
from tbtjax._regular import over_pairs_apart
from tbtjax._rivals import TIE_ULPS
from tbtjax._roads import Columns

_FAST = jnp.float32
_HIGHEST = 80.0  # beyond, e^{−y} leaves float32
# What is known of a game's pairs, as bits.
_UNORDERED, _NOT_HOLDING, _GAINING = 1, 2, 4


def sure_verdicts(
    columns: Columns, level: jax.Array, *, has_equal_limits: bool, most_ranks: int
) -> tuple[jax.Array, jax.Array]:
    """Verdicts on a chunk's games of two or more models.

    Args:
      columns: the games.
      level: `[games]` Δ in training steps.
      has_equal_limits: whether all models of a game have the same limits.
      most_ranks: pairs up to so many places apart are looked at: 1 for adjacent deviations, n − 1
        for all.

    Returns:
      Whether nobody gains by effort, and where that is sure, `[games]` bool each: of games whose
      costs are usable, and limits where all models have the same.
    """
    n = len(columns.curves[0])
    y = log1p(level).astype(_FAST)
    decay = jnp.exp(-y)
    # Relative: that of float32, and what counts as a tie in the games' dtype.
    rounding = 5e-7 + 2 * TIE_ULPS * float(jnp.finfo(level.dtype).eps)
    if has_equal_limits:
        lead_of = _equal_limits(columns, y, rounding)
    else:
        lead_of = _different_limits(columns, y, rounding)

    def judged(weak, rival, known):
        """With what is known of a pair."""
        lead, blur, is_out, beta_weak = lead_of(weak, rival)
        gain = columns.worth_of(weak, rival).astype(_FAST)
        gained = beta_weak * jnp.log(1 + gain * decay)
        blur += rounding * gained
        regular = (gain >= 0) & (gain < jnp.inf) & (beta_weak > 0) & (y < _HIGHEST)
        ordered = regular & (is_out | (lead > blur))
        holds = is_out | (lead - gained >= blur)
        gains = gained - lead >= blur
        found = jnp.where(ordered, 0, _UNORDERED) | jnp.where(holds, 0, _NOT_HOLDING)
        found |= jnp.where(gains, _GAINING, 0)
        found = found.astype(jnp.int32)
        # In place, the pairs' in turns: else the compiler divides each pair's work among threads,
        # which takes longer than the work.
        row = rival % 2
        return jax.lax.dynamic_update_index_in_dim(known, known[row] | found, row, 0)

    def of_neighbours(rival, known):
        return judged(rival + 1, rival, known)

    # Varies over devices as `level` does inside shard_map.
    nothing = jnp.where(jnp.isnan(level), 0, 0).astype(jnp.int32)
    known = jax.lax.fori_loop(0, n - 1, of_neighbours, jnp.stack([nothing] * 2))
    known = over_pairs_apart(judged, n, most_ranks, known, 1)
    known = known[0] | known[1]
    holds, gains = known & _NOT_HOLDING == 0, known & _GAINING != 0
    return holds, (known & _UNORDERED == 0) & (holds | gains)


def _equal_limits(columns: Columns, y: jax.Array, rounding: float):
    """Takes a pair to A, how much of it may be rounding, whether it is +inf, and β_w."""
    alpha, beta, *_ = columns.curves

    def lead_of(weak, rival):
        d = (alpha[rival] - alpha[weak]).astype(_FAST)
        m = (beta[rival] - beta[weak]).astype(_FAST)
        beta_rival, beta_weak = beta[rival].astype(_FAST), beta[weak].astype(_FAST)
        # NaN and infinite parameters make this NaN or infinite, and nothing is sure.
        blur = rounding * (jnp.abs(d) + jnp.abs(m) * y + (beta_rival + beta_weak) * (1 + y))
        blur = jnp.where(beta_rival >= 0, blur, jnp.nan)
        return d + m * y, blur, False, beta_weak

    return lead_of


def _different_limits(columns: Columns, y: jax.Array, rounding: float):
    """As `_equal_limits`; a rival at the weak model's upper limit or above is out of reach."""
    curves = [x.astype(_FAST) for x in columns.curves]  # half as much to turn and to read

    def lead_of(weak, rival):
        (alpha, beta, floor, ceiling), (alpha_weak, beta_weak, floor_weak, ceiling_weak) = (
            [x[model] for x in curves] for model in (rival, weak)
        )
        odds = jnp.exp(-(alpha + beta * y))  # inverse
        terms = 4 + jnp.abs(alpha) + jnp.abs(alpha_weak) + (beta + beta_weak) * (1 + y)
        blur = jnp.where(beta >= 0, rounding * terms, jnp.nan)
        # Over 1 + odds: the rival's distance from the weak model's limits.
        below, above = floor - floor_weak, ceiling_weak - ceiling
        low = (ceiling - floor_weak) + below * odds
        high = (ceiling_weak - floor) * odds + above
        # Limits are off by their rounding to float32.
        off = 2.4e-7 * (jnp.abs(ceiling) + jnp.abs(floor) + jnp.abs(floor_weak)) * (1 + odds)
        off_low = blur * (jnp.abs(ceiling - floor_weak) + jnp.abs(below) * odds) + off
        off_high = blur * (jnp.abs(ceiling_weak - floor) * odds + jnp.abs(above)) + off
        usable = True
        for width in (ceiling - floor, ceiling_weak - floor_weak):
            usable &= (width > 0) & (width < jnp.inf)
        exists = usable & (low > 2 * off_low) & (high > 2 * off_high)
        blur += 2 * (off_low / low + off_high / high)
        lead = jnp.log(low / high) - alpha_weak - beta_weak * y
        return lead, jnp.where(exists, blur, jnp.nan), usable & (high <= -off_high), beta_weak

    return lead_of
