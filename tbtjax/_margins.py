"""How far models that spend all that passing a rival is worth stay below it (ours: budget form).

Passing k does not pay for w iff v_w(Δ + g) ≤ v_k(Δ), with g the difference of rewards in steps.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._elementary import log1p
from tbtjax._rivals import Rivals, rival_logit, wide
from tbtjax.curves import PowerLaw
from tbtjax.game import RankingGame

# A family's `score` is taken to be right to within half so many units in the last place.
_SCORE_ULPS = 4


def best_score(curves: Any, level: jax.Array, budget: jax.Array) -> jax.Array:
    """Best score on the way from effort `level` to `level + budget`, `[..., n]`.

    The end's or the start's for a monotone curve; a family whose curves may fall in between offers
    a `best_score` of its own.
    """
    if hasattr(curves, "best_score"):
        return curves.best_score(level, budget)
    return jnp.maximum(curves.score(level + budget), curves.score(level))


def stability_margin(
    game: RankingGame, rivals: Rivals, y: jax.Array, budget: jax.Array
) -> jax.Array:
    """How far a model that spends its budget stays below each rival at zero effort.

    Power laws are compared by logits, other families by scores.

    Args:
      game: an aligned game.
      rivals: who is compared.
      y: `[..., 1]` log(1 + Δ).
      budget: `[rivals, ..., n]` effort in steps, ≥ 0.

    Returns:
      `[rivals, ..., n]` of which the sign counts: negative where passing pays. Scores are compared
      leniently (`score_margin`).
    """
    curves = game.curves
    if isinstance(curves, PowerLaw):
        # A model that does not rise gains nothing by effort.
        used = jnp.where(curves.beta > 0, budget, 0)
        endless = ~jnp.isfinite(used)
        gained = curves.beta * log1p(jnp.where(endless, 0, used) * jnp.exp(-y))
        # First what the rival is ahead by, then the gain: where scores are equal or all but, or
        # β is small beside α, the gain would be lost in the logits.
        if curves.has_equal_limits:
            n = game.num_models
            alpha, beta = wide(curves.alpha, n), wide(curves.beta, n)
            ahead = (rivals.of(alpha) - alpha) + (rivals.of(beta) - beta) * y
        else:
            rival = rival_logit(curves, rivals, y)
            reachable = rival < jnp.inf
            ahead = jnp.where(reachable, rival, 0) - (curves.alpha + curves.beta * y)
            ahead = jnp.where(reachable, ahead, jnp.inf)
        return jnp.where(endless & (ahead < jnp.inf), -jnp.inf, ahead - gained)
    return score_margin(game, rivals, scores_with_budget(game, y, budget, y), lenient=True)


class Scores(NamedTuple):
    """What models score at a level; see `scores_with_budget`.

    Attributes:
      standing: `[..., n]` at zero effort, as others' rivals.
      best: `[rivals, ..., n]` at best, on the way to all that passing each rival is worth.
    """

    standing: jax.Array
    best: jax.Array


def scores_with_budget(
    game: RankingGame, y: jax.Array, budget: jax.Array, rival_y: jax.Array
) -> Scores:
    """Scores of curves of any family.

    Args:
      game: an aligned game.
      y: `[..., 1]` log(1 + Δ), or `[..., n]` with a level for each passing model.
      budget: `[rivals, ..., n]` effort in steps, ≥ 0.
      rival_y: the level of each model as a rival, in the same shapes.
    """
    curves = game.curves
    delta = jnp.expm1(y)
    finite = jnp.isfinite(budget)
    best = best_score(curves, delta, jnp.where(finite, budget, 0))
    # An endless budget brings a curve to its limit, or to its best on the way.
    endless = best_score(curves, delta, jnp.full_like(budget, jnp.finfo(game.dtype).max))
    best = jnp.where(finite, best, jnp.maximum(endless, curves.limit()))
    return Scores(wide(curves.score(jnp.expm1(rival_y)), game.num_models), best)


def score_margin(game: RankingGame, rivals: Rivals, scores: Scores, *, lenient: bool) -> jax.Array:
    """`stability_margin` of curves of any family, from their scores.

    Lenient: a difference within their rounding is none. Where scores saturate it has no other
    digits, and its sign is noise.
    """
    theirs, best = rivals.of(scores.standing), scores.best
    size = jnp.maximum(jnp.abs(theirs), jnp.abs(best))
    return theirs - best + (_SCORE_ULPS * jnp.finfo(game.dtype).eps * size if lenient else 0)
