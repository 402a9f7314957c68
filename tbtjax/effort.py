"""Scores at a tune-before-test level, and what it takes to pass a rival from there.

    >>> from tbtjax import just_overtake_effort, linear_cost, power_law, ranking_game
    >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
    >>> [round(float(just_overtake_effort(game, delta)[0]), 3) for delta in (0.0, 10.0)]
    [1.718, 18.901]

Source: Chen, Zhang, Hardt (arXiv 2603.08371), Def. 4.4.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._batch import Roads, chunk_size, map_games
from tbtjax._checks import as_argument, as_level, check_broadcast
from tbtjax._elementary import log1p
from tbtjax._records import align, event_ndims
from tbtjax._rivals import (
    Deviations,
    Rivals,
    limited_logit,
    next_stronger,
    other_models,
    rival_logit,
    score_resolution,
)
from tbtjax.curves import PowerLaw
from tbtjax.game import RankingGame, check_game, models_present


def checked_level(game: RankingGame, delta: Any) -> Any:
    """`delta` as an array `[...]` of the game's dtype; raises where one of the two is unusable."""
    check_game(game)
    return as_level("delta", delta, game.dtype, game.batch_shape)


def checked_profile(game: RankingGame, delta: Any, efforts: Any) -> tuple[Any, Any]:
    """Level `[...]` and efforts `[..., n or 1]` as arrays of the game's dtype."""
    level = checked_level(game, delta)
    return level, as_argument("efforts", efforts, game.dtype)


def aligned_at(game: RankingGame, delta: Any, ndim: int = 0) -> tuple[RankingGame, jax.Array]:
    """The game and the levels `[..., 1]` with the same number of games' axes, checked.

    Args:
      game: any batch of games.
      delta: tune-before-test level.
      ndim: number of games' axes wanted at least.
    """
    level = checked_level(game, delta)
    ndim = max(ndim, level.ndim, len(game.batch_shape))
    level = level.reshape(*(1,) * (ndim - level.ndim), *level.shape, 1)
    return _without_absent(align(game, ndim)), jnp.where(level >= 0, level, jnp.nan)


def _without_absent(game: RankingGame) -> RankingGame:
    """The aligned game with the first present model's parameters in place of absent ones'.

    What an absent model holds, NaN included, then reaches no result and no gradient.
    """
    if game.present is None or game.num_models == 0:
        return game
    present = models_present(game)
    first = jnp.argmax(present, axis=-1, keepdims=True)

    def fill(x, ndim):
        if ndim == 0 or x.shape[-ndim] == 1:
            return x  # shared by all models
        more = (1,) * (ndim - 1)
        shape = jnp.broadcast_shapes(x.shape, (*present.shape, *more))
        x = jnp.broadcast_to(x, shape)
        index = jnp.broadcast_to(
            first.reshape(*first.shape, *more), (*shape[:-ndim], 1, *shape[x.ndim - ndim + 1 :])
        )
        there = jnp.take_along_axis(x, index, axis=-ndim)
        return jnp.where(present.reshape(*present.shape, *more), x, there)

    curves, cost = (jax.tree.map(fill, x, event_ndims(x)) for x in (game.curves, game.cost))
    return dataclasses.replace(game, curves=curves, cost=cost)


def aligned_profile(
    game: RankingGame, delta: Any, efforts: Any
) -> tuple[RankingGame, jax.Array, jax.Array]:
    """The game, the levels `[..., 1]` and the efforts `[..., n]`, aligned and checked."""
    level, efforts = checked_profile(game, delta, efforts)
    efforts = efforts.reshape(efforts.shape or (1,))
    game, level = aligned_at(game, level, efforts.ndim - 1)
    n = game.num_models
    if efforts.shape[-1] not in (1, n):
        raise ValueError(
            f"efforts must have {n} entries on the last axis, one per model (or 1 for all alike); "
            f"got shape {efforts.shape}"
        )
    check_broadcast(
        game=(*game.batch_shape, n), delta=level.shape, efforts=(*efforts.shape[:-1], n)
    )
    efforts = jnp.broadcast_to(efforts, (*efforts.shape[:-1], n))
    efforts = efforts.reshape(*(1,) * (level.ndim - efforts.ndim), *efforts.shape)
    return game, level, jnp.where(efforts >= 0, efforts, jnp.nan)


def baseline_scores(game: RankingGame, delta: Any) -> jax.Array:
    """Scores of all models at tune-before-test level Δ without additional effort.

    s_i(Δ) = v(θ_i, Δ).

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.

    Returns:
      `[..., n]` scores; NaN for an absent model and for a negative level.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: `delta` does not broadcast with the games' axes.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
      >>> [f"{score:.3f}" for score in baseline_scores(game, 0.0)]
      ['0.731', '0.500']

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), section 2.
    """
    return _baseline_scores(game, checked_level(game, delta))


@jax.jit
def _baseline_scores(game: RankingGame, delta: jax.Array) -> jax.Array:
    game, level = aligned_at(game, delta)
    scores = game.curves.score(level)
    scores = jnp.broadcast_to(scores, (*scores.shape[:-1], game.num_models))
    return scores if game.present is None else jnp.where(game.present, scores, jnp.nan)


def just_overtake_effort(game: RankingGame, delta: Any) -> jax.Array:
    """Least additional effort with which each model passes the next more capable one.

    e_r^req(Δ) = inf{e ≥ 0 : v(θ_r, Δ + e) > s_{r−1}(Δ)}, r = 2, …, n. For power laws with equal
    limits 1 + Δ + e = (1 + e⁰)(1 + Δ)^{1/ρ}, evaluated as (1 + Δ)·expm1(d + m·log(1 + Δ)).

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.

    Returns:
      `[..., n − 1]` effort in training steps; entry j is model j + 1 against model j (the next
      present one where models are absent). An infimum: at this effort scores tie, and the tie goes
      to the more capable model. 0 where it is ahead already, +inf where the rival is out of
      reach or a model is absent; NaN for unusable parameters and for a negative level. At Δ = +inf
      scores are at their limits: 0 or +inf. Derivatives are 0 where the value is 0 or +inf.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: `delta` does not broadcast with the games' axes.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], 1.0), [1.0, 0.0], linear_cost(0.1))
      >>> round(float(just_overtake_effort(game, 0.0)[0]), 3)
      1.718

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), Def. 4.4.
    """
    return _just_overtake_effort(game, checked_level(game, delta))


@jax.jit
def _just_overtake_effort(game: RankingGame, delta: jax.Array) -> jax.Array:
    game, level = aligned_at(game, delta)
    if _has_columns(game):
        return _column_efforts("adjacent", game, level)
    return _neighbour_efforts(game, level)


def _neighbour_efforts(game: RankingGame, level: jax.Array) -> jax.Array:
    """`[..., n − 1]` efforts to pass the next stronger model."""
    return effort_to_pass(game, next_stronger(game), level)[0, ..., 1:]


def overtake_effort(game: RankingGame, delta: Any) -> jax.Array:
    """Least additional effort with which each model passes each other one.

    e_{r→k}(Δ) = inf{e ≥ 0 : v(θ_r, Δ + e) > s_k(Δ)} (ours, after Def. 4.4).

    Args:
      game: any batch `[...]` of games.
      delta: tune-before-test level in training steps, ≥ 0; broadcasts with the games' axes.

    Returns:
      `[..., n, n]` effort in training steps; entry (r, k) is the effort for r to pass k: 0 where r
      is ahead already and on the diagonal, +inf where k is out of reach or one of the two is
      absent; NaN for unusable parameters and for a negative level.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: `delta` does not broadcast with the games' axes.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([2.0, 1.0, 0.0], 1.0), [2, 1, 0], linear_cost(0.1))
      >>> [f"{effort:.2f}" for effort in overtake_effort(game, 0.0)[2]]
      ['6.39', '1.72', '0.00']
    """
    return _overtake_effort(game, checked_level(game, delta))


@jax.jit
def _overtake_effort(game: RankingGame, delta: jax.Array) -> jax.Array:
    game, level = aligned_at(game, delta)
    if _has_columns(game):
        return _column_efforts("all", game, level)
    return _all_efforts(game, level)


def _all_efforts(game: RankingGame, level: jax.Array) -> jax.Array:
    """`[..., n, n]` efforts of each model to pass each."""
    n = game.num_models
    rivals = other_models(game)
    effort = effort_to_pass(game, rivals, level)  # [shift, ..., r], rival (r − shift − 1) mod n
    itself = jnp.where(jnp.isnan(level), level, 0) * jnp.ones(n, game.dtype)
    by_shift = jnp.concatenate([jnp.broadcast_to(itself, (1, *effort.shape[1:])), effort])
    by_shift = jnp.moveaxis(by_shift, 0, -1)  # [..., r, shift]
    shift = (jnp.arange(n)[:, None] - jnp.arange(n)) % max(n, 1)
    shift = jnp.broadcast_to(shift, (*by_shift.shape[:-2], n, n))
    return jnp.take_along_axis(by_shift, shift, axis=-1)


def _has_columns(game: RankingGame) -> bool:
    """Whether `_column_efforts` knows these games."""
    n = game.num_models
    own = isinstance(game.curves, PowerLaw) and game.curves.num_models == n
    return own and game.present is None and n > 1


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _column_efforts(deviations: Deviations, game: RankingGame, level: jax.Array) -> jax.Array:
    """`_neighbour_efforts` or `_all_efforts` of power laws, in chunks and on every device."""
    pairs = game.num_models ** (2 if deviations == "all" else 1)
    road = functools.partial(_efforts_of_chunk, deviations=deviations)
    return map_games(Roads(road), _CurvesAt(game.curves, level), entries_per_game=pairs)


@_column_efforts.defjvp
def _column_efforts_jvp(deviations, primals, tangents):
    plain = _all_efforts if deviations == "all" else _neighbour_efforts
    _, moved = jax.jvp(plain, primals, tangents)
    return _column_efforts(deviations, *primals), moved


class _CurvesAt(NamedTuple):
    """Power laws of some games, and the level of each: `[..., 1]`."""

    curves: PowerLaw
    level: jax.Array


def _efforts_of_chunk(chunk: _CurvesAt, deviations: Deviations) -> jax.Array:
    """`[games, n − 1]` or `[games, n, n]`.

    Weak models are looped over with games in contiguous lanes, so that special functions are
    vectorized.
    """
    curves, n = chunk.curves, chunk.curves.num_models
    shape = (n, chunk_size(chunk))
    level = jnp.broadcast_to(chunk.level[:, 0], shape[1:])
    endless = jnp.isposinf(level)
    level = jnp.where(endless, 0, level)
    y = log1p(level)

    def columns(x):
        return jnp.broadcast_to(x.T, shape)

    alpha, beta = columns(curves.alpha), columns(curves.beta)
    lower, upper = columns(curves.lower), columns(curves.upper)

    def rivals_of(x, model):
        """`[games]`, or `[n, games]` where all are passed."""
        return x if deviations == "all" else x[model - 1]

    def effort_of(model):
        alpha_rival, beta_rival = rivals_of(alpha, model), rivals_of(beta, model)
        if curves.has_equal_limits:
            ahead = (alpha_rival - alpha[model]) + (beta_rival - beta[model]) * y
        else:
            lower_rival, upper_rival = rivals_of(lower, model), rivals_of(upper, model)
            ahead = limited_logit(
                alpha_rival + beta_rival * y,
                upper_rival - lower_rival,
                lower_rival - lower[model],
                upper[model] - upper_rival,
            )
            ahead -= alpha[model] + beta[model] * y
        return _effort_to_gain(ahead, beta[model], level, y)

    first = 0 if deviations == "all" else 1
    effort = jax.lax.map(effort_of, jnp.arange(first, n))

    def with_endless(effort):
        limit = columns(curves.limit())
        own = limit[:, None] if deviations == "all" else limit[1:]
        rivals = limit if deviations == "all" else limit[:-1]
        at_limit = jnp.where(own > rivals, 0, jnp.inf)
        return jnp.where(endless & ~jnp.isnan(effort), at_limit, effort)

    effort = jax.lax.cond(jnp.any(endless), with_endless, lambda effort: effort, effort)
    if deviations == "all":
        itself = jnp.eye(n, dtype=bool)[..., None]
        effort = jnp.where(itself, jnp.where(jnp.isnan(level), level, 0), effort)
    return jnp.moveaxis(effort, -1, 0)


def effort_to_pass(game: RankingGame, rivals: Rivals, level: jax.Array) -> jax.Array:
    """`[rivals, ..., n]` least effort to pass each rival; +inf where there is no such rival.

    Args:
      game: an aligned game.
      rivals: who is passed.
      level: `[..., 1]` tune-before-test level.
    """
    curves = game.curves
    endless = jnp.isposinf(level)
    level = jnp.where(endless, 0, level)
    if isinstance(curves, PowerLaw):
        effort = _power_law_effort(curves, rivals, level)
    else:
        rival_scores = curves.score(level)
        rival_scores = jnp.broadcast_to(rival_scores, (*rival_scores.shape[:-1], game.num_models))
        effort = _effort_to_exceed(curves, rivals.of(rival_scores), level)
    # After endless training scores are at their limits, which no effort moves.
    limit = curves.limit()
    limit = jnp.broadcast_to(limit, (*limit.shape[:-1], game.num_models))
    at_limit = jnp.where(limit > rivals.of(limit), 0, jnp.inf)
    effort = jnp.where(endless & ~jnp.isnan(effort), at_limit, effort)
    if game.present is not None:
        absent = ~(rivals.real & models_present(game))
        effort = jnp.where(absent, jnp.inf, effort)
    return jnp.where(jnp.isnan(level), jnp.nan, effort)


def effort_to_outrank(
    game: RankingGame,
    rivals: Rivals,
    level: jax.Array,
    rival_effort: jax.Array,
    tie_suffices: jax.Array,
) -> jax.Array:
    """Least additional effort with which each model ranks before each rival at its effort.

    Args:
      game: an aligned game.
      rivals: who is outranked.
      level: `[..., 1]` tune-before-test level, not NaN.
      rival_effort: `[..., n]` total effort (Δ included) of each model as a rival; finite.
      tie_suffices: `[rivals, ..., n]` bool: whether a tie goes to the model.

    Returns:
      `[rivals, ..., n]` effort in training steps: inf{e ≥ 0 : v(Δ + e) > s}, or ≥ s where a tie
      suffices, with s the rival's score; +inf where never. Where effort does not raise a power
      law at all it is +inf too: such a model ranks where it ranks at 0.
    """
    curves, n = game.curves, game.num_models
    if isinstance(curves, PowerLaw):
        # On a curve that rises strictly the score is passed right after it is reached.
        effort = _power_law_effort(curves, rivals, level, rival_effort)
        effort = jnp.where(curves.beta > 0, effort, jnp.inf)
    else:
        scores = curves.score(rival_effort)
        scores = rivals.of(jnp.broadcast_to(scores, (*scores.shape[:-1], n)))
        # A plateau within rounding of the rival's score ties with it, and does not pass it.
        rounding = rivals.of(score_resolution(curves, rival_effort, n))
        reached = _effort_to_match(curves, scores - rounding, level)
        exceeded = _effort_to_exceed(curves, scores + rounding, level)
        effort = jnp.where(tie_suffices, reached, exceeded)
    return jnp.where(rivals.real, effort, jnp.inf)


def _power_law_effort(
    curves: PowerLaw, rivals: Rivals, level: jax.Array, rival_effort: jax.Array | None = None
) -> jax.Array:
    """(1 + Δ)·expm1(x) with x the distance in log(1 + effort): no digits are lost.

    Rivals are at Δ, or at the total effort `rival_effort`.
    """
    y = jnp.log1p(level)
    n = rivals.real.shape[-1]
    if curves.has_equal_limits:
        alpha = jnp.broadcast_to(curves.alpha, (*curves.alpha.shape[:-1], n))
        rate = jnp.broadcast_to(curves.beta, (*curves.beta.shape[:-1], n))
        ahead = (rivals.of(alpha) - alpha) + (rivals.of(rate) - rate) * y
        if rival_effort is not None:
            ahead += rivals.of(rate * jnp.log1p((rival_effort - level) / (1 + level)))
    else:
        rival_y = y if rival_effort is None else jnp.log1p(rival_effort)
        ahead = rival_logit(curves, rivals, rival_y) - (curves.alpha + curves.beta * y)
    return _effort_to_gain(ahead, curves.beta, level, y)


def _effort_to_gain(ahead: jax.Array, beta: jax.Array, level: jax.Array, y: jax.Array) -> jax.Array:
    """The effort from `level` = e^y − 1 on that raises a logit by `ahead`."""
    rises = beta > 0
    beta = jnp.where(rises, beta, 1)
    reachable = rises & (ahead < jnp.inf)
    # Nor is an effort reachable that is no number of the dtype.
    reachable &= ahead < beta * (jnp.log(jnp.finfo(beta.dtype).max) - y)
    distance = jnp.where(reachable & (ahead > 0), ahead, 0) / beta
    effort = (1 + level) * jnp.expm1(distance)
    # Passing needs more than a tie, so a curve that does not rise never passes an equal.
    ahead_already = jnp.where(rises, ahead <= 0, ahead < 0)
    never = ~reachable & ~ahead_already
    effort = jnp.where(never, jnp.inf, jnp.where(ahead_already, 0, effort))
    return jnp.where(jnp.isnan(ahead), jnp.nan, effort)


def _effort_to_exceed(curves: Any, score: jax.Array, level: jax.Array) -> jax.Array:
    """inf{e ≥ 0 : v(Δ + e) > score} for any family, `[rivals, ..., n]`."""
    if hasattr(curves, "effort_to_exceed"):
        total = curves.effort_to_exceed(score, level)
    else:
        # A score that is the limit is at best reached, never passed.
        total = jnp.where(score < curves.limit(), curves.effort_to_reach(score), jnp.inf)
    return jnp.where(curves.score(level) > score, 0, _beyond(level, total))


def _effort_to_match(curves: Any, score: jax.Array, level: jax.Array) -> jax.Array:
    """inf{e ≥ 0 : v(Δ + e) ≥ score} for any family, `[rivals, ..., n]`."""
    if hasattr(curves, "effort_to_exceed"):  # a curve that may fall is searched from the level on
        total = curves.effort_to_reach(score, level)
    else:
        total = curves.effort_to_reach(score)
    return jnp.where(curves.score(level) >= score, 0, _beyond(level, total))


def _beyond(level: jax.Array, total: jax.Array) -> jax.Array:
    """The effort in addition to `level` that makes `total`; +inf where that is."""
    finite = jnp.isfinite(total)
    return jnp.where(finite, jnp.maximum(jnp.where(finite, total, 0) - level, 0), total)
