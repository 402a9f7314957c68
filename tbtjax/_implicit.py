"""Derivatives of levels that solve an equation, by the implicit function theorem.

A level y = log(1 + Δ) at which a deciding pair is exactly indifferent solves F(y, p) = 0 for every
parameter p of the game; so dy/dp = −(∂F/∂p)/(∂F/∂y) (ours; MODEL: sensitivity of Δ*). The solver
itself is never differentiated. Levels that nobody decides (0, +inf) do not move.
"""

import jax
import jax.numpy as jnp

from tbtjax._rivals import best_score, limited_logit
from tbtjax.curves import PowerLaw
from tbtjax.game import RankingGame, rewards_by_capability


@jax.custom_jvp
def levels(game: RankingGame, y: jax.Array, weak: jax.Array, rival: jax.Array) -> jax.Array:
    """`y` as a differentiable function of the game's parameters.

    Args:
      game: an aligned game, batch `[...]`.
      y: `[..., levels]` log(1 + Δ), each solving its pair's condition.
      weak: `[..., levels]` int: the weak model of the deciding pair; −1 where nobody decides.
      rival: `[..., levels]` int: the model it would pass.

    Returns:
      `y`.
    """
    del game, weak, rival
    return y


@levels.defjvp
def _levels_jvp(primals, tangents):
    game, y, weak, rival = primals
    out = levels(game, y, weak, rival)
    decided = (weak >= 0) & jnp.isfinite(out)
    point = jnp.where(decided, out, 0)
    _, moved = jax.jvp(lambda g: _residual(g, point, weak, rival), (game,), (tangents[0],))
    _, slope = jax.jvp(lambda x: _residual(game, x, weak, rival), (point,), (jnp.ones_like(point),))
    usable = decided & (slope != 0) & jnp.isfinite(slope)
    return out, jnp.where(usable, -moved, 0) / jnp.where(usable, slope, 1)


def _residual(game: RankingGame, y: jax.Array, weak: jax.Array, rival: jax.Array) -> jax.Array:
    """F(y): by how much the weak model, with all that passing is worth, stays below its rival."""
    n = game.num_models

    def pick(x, index, filler):
        """`[..., n]` to `[..., levels]`: the indexed entry, `filler` where there is none."""
        wide = jnp.broadcast_to(x, (*x.shape[:-1], n))[..., None, :]
        chosen = jnp.arange(n) == index[..., None]
        # A sum over a mask: gathers are slow, and their derivatives (scatters) slower.
        total = jnp.sum(jnp.where(chosen, wide, 0), axis=-1)
        return jnp.where(index >= 0, total, filler)

    rewards = rewards_by_capability(game)
    gain = pick(rewards, rival, 0) - pick(rewards, weak, 0)
    # Costs may differ per model: the worth of every level's gain to every model, then the weak's.
    worth = game.cost.effort_worth(jnp.moveaxis(gain, -1, 0)[..., None])
    budget = jnp.moveaxis(pick(worth, jnp.moveaxis(weak, -1, 0)[..., None], 0)[..., 0], 0, -1)
    curves = game.curves
    if isinstance(curves, PowerLaw):
        alpha_weak, alpha_rival = pick(curves.alpha, weak, 0), pick(curves.alpha, rival, 1)
        beta_weak, beta_rival = pick(curves.beta, weak, 1), pick(curves.beta, rival, 1)
        used = jnp.where((beta_weak > 0) & jnp.isfinite(budget), budget, 0)
        passed = jnp.log1p(used * jnp.exp(-y))
        if curves.has_equal_limits:
            ahead = alpha_rival - alpha_weak + (beta_rival - beta_weak) * y
            return ahead - beta_weak * passed
        lower_weak, lower_rival = pick(curves.lower, weak, 0), pick(curves.lower, rival, 0)
        upper_weak, upper_rival = pick(curves.upper, weak, 1), pick(curves.upper, rival, 1)
        logit = limited_logit(
            alpha_rival + beta_rival * y,
            jnp.log(upper_rival - lower_rival),
            lower_rival - lower_weak,
            upper_weak - upper_rival,
        )
        return logit - alpha_weak - beta_weak * (y + passed)
    delta = jnp.moveaxis(jnp.expm1(y), -1, 0)[..., None]  # [levels, ..., 1]
    own = best_score(curves, delta, jnp.moveaxis(budget, -1, 0)[..., None])
    theirs = curves.score(delta)

    def pick_each(x, index):
        picked = pick(x, jnp.moveaxis(index, -1, 0)[..., None], 0)[..., 0]
        return jnp.moveaxis(picked, 0, -1)

    return pick_each(theirs, rival) - pick_each(own, weak)
