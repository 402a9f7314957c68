"""Derivatives of levels that solve an equation, by the implicit function theorem.

A level y = log(1 + Δ) at which a deciding pair is exactly indifferent solves F(y, p) = 0 for every
parameter p of the game; so dy/dp = −(∂F/∂p)/(∂F/∂y) (ours; MODEL: sensitivity of Δ*). The solver
itself is never differentiated. Levels that nobody decides (0, +inf) do not move.
"""

import jax
import jax.numpy as jnp

from tbtjax._records import num_models
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
    decided = (weak >= 0) & (out > 0) & jnp.isfinite(out)
    point = jnp.where(decided, out, 0)
    _, moved = jax.jvp(lambda g: _residual(g, point, weak, rival), (game,), (tangents[0],))
    _, slope = jax.jvp(lambda x: _residual(game, x, weak, rival), (point,), (jnp.ones_like(point),))
    usable = decided & (slope != 0) & jnp.isfinite(slope)
    return out, jnp.where(usable, -moved, 0) / jnp.where(usable, slope, 1)


@jax.custom_jvp
def _pick(x: jax.Array, index: jax.Array) -> jax.Array:
    """The indexed entries of `[..., n]`, `[..., levels]`; anything where the index is −1."""
    wide = jnp.broadcast_to(x, (*index.shape[:-1], x.shape[-1]))
    return jnp.take_along_axis(wide, jnp.maximum(index, 0), axis=-1, mode="promise_in_bounds")


@_pick.defjvp
def _pick_jvp(primals, tangents):
    x, index = primals
    moved = tangents[0][..., None, :]
    chosen = jnp.arange(x.shape[-1], dtype=index.dtype) == index[..., None]
    # A sum over a mask: its transpose spreads by the same mask, where a gather's would scatter.
    return _pick(x, index), jnp.sum(jnp.where(chosen, moved, 0), axis=-1)


def _residual(game: RankingGame, y: jax.Array, weak: jax.Array, rival: jax.Array) -> jax.Array:
    """F(y): by how much the weak model, with all that passing is worth, stays below its rival."""
    n = game.num_models
    decided = weak >= 0

    def pick(x, index, filler):
        """`[..., n or 1]` to `[..., levels]`: the indexed entry, `filler` where there is none."""
        if x.shape[-1] == 1 < n:
            return jnp.where(decided, x, filler)
        return jnp.where(decided, _pick(x, index), filler)

    rewards = rewards_by_capability(game)
    budget = _budget(game, pick(rewards, rival, 0) - pick(rewards, weak, 0), weak)
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
        own = alpha_weak + beta_weak * (y + passed)
        z = alpha_rival + beta_rival * y
        width = upper_rival - lower_rival
        above, below = upper_weak - upper_rival, lower_rival - lower_weak
        log_width = jnp.log(width)
        by_logit = limited_logit(z, log_width, below, above) - own
        # Next to the level at which the rival gets out of reach the logit is steeper than its
        # digits allow; v_k − v_w is smooth there (both over the weak model's range).
        ahead, behind = below + width * jax.nn.sigmoid(z), above + width * jax.nn.sigmoid(-z)
        by_score = ahead * jax.nn.sigmoid(-own) - behind * jax.nn.sigmoid(own)
        return jnp.where(above == 0, by_logit, by_score)
    delta = jnp.expm1(y)

    def pick_score(score_at, index):
        """Each level's score of one model: curves are evaluated for all, never sliced."""
        scores = [
            _pick(
                jnp.broadcast_to(score_at(slice(i, i + 1)), (*y.shape[:-1], n)),
                index[..., i : i + 1],
            )
            for i in range(y.shape[-1])
        ]
        return jnp.where(decided, jnp.concatenate(scores, axis=-1), 0)

    theirs = pick_score(lambda i: curves.score(delta[..., i]), rival)
    own = pick_score(lambda i: best_score(curves, delta[..., i], budget[..., i]), weak)
    return theirs - own


def _budget(game: RankingGame, gain: jax.Array, weak: jax.Array) -> jax.Array:
    """What each level's gain is worth to its weak model, `[..., levels]`, in steps."""
    if num_models(game.cost) == 1:
        return game.cost.effort_worth(gain)
    worth = [
        _pick(
            jnp.broadcast_to(
                game.cost.effort_worth(gain[..., i : i + 1]),
                (*gain.shape[:-1], game.num_models),
            ),
            weak[..., i : i + 1],
        )
        for i in range(gain.shape[-1])
    ]
    return jnp.concatenate(worth, axis=-1)
