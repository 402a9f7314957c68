"""Who may pass whom: each model set beside its rivals, and which of them scores more.

Arrays of this module are `[rivals, ..., n]`: for every model on the last axis its rivals are
stacked in front, so that parameters of the passing model broadcast as they are. Games are aligned
(`tbtjax._records.align`): every parameter has the same number of games' axes.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._elementary import log
from tbtjax._records import num_models
from tbtjax.curves import PowerLaw
from tbtjax.game import RankingGame, models_present, rewards_by_capability

Deviations = Literal["all", "adjacent"]

# Scores tie within so many units in the last place of effort, logit or score. An effort that was
# computed to reach a score reaches it within half of them.
TIE_ULPS = 8

# With more models than this, a program of one operation for each rival would compile too slowly.
_MOST_ROLLED = 12


class Rivals(NamedTuple):
    """Rivals of each model.

    Attributes:
      of: takes a parameter `[..., n]` or `[..., 1]` to its rivals' values `[rivals, ..., n]`.
      real: bool, `[rivals, ..., n]`: False where there is no such rival.
      index: int, the same shape: which model the rival is.
    """

    of: Callable[[jax.Array], jax.Array]
    real: jax.Array
    index: jax.Array


def check_deviations(deviations: str) -> None:
    """Raises unless `deviations` is one of the two known kinds."""
    if deviations not in ("all", "adjacent"):
        raise ValueError(f'deviations must be "all" or "adjacent"; got {deviations!r}')


def stronger_rivals(game: RankingGame, deviations: Deviations) -> Rivals:
    """The more capable models that each model may pass: all of them, or the next present one."""
    if deviations == "all":
        everyone = other_models(game)
        n = game.num_models
        return everyone._replace(real=everyone.real & (everyone.index < jnp.arange(n)))
    return next_stronger(game)


def next_stronger(game: RankingGame) -> Rivals:
    """The next more capable model that is present, one rival each."""
    n = game.num_models
    if game.present is None:
        axes = (1,) * (1 + len(game.rewards.shape[:-1]))
        index = (jnp.arange(n) - 1).reshape(*axes, n)
        return Rivals(lambda x: jnp.roll(wide(x, n), 1, axis=-1)[None], index >= 0, index)
    present = models_present(game)
    last = jax.lax.cummax(jnp.where(present, jnp.arange(n), -1), axis=present.ndim - 1)
    before = jnp.concatenate([jnp.full_like(last[..., :1], -1), last[..., :-1]], axis=-1)

    def of(x):
        x = wide(x, n)
        shape = jnp.broadcast_shapes(x.shape, before.shape)
        x, index = jnp.broadcast_to(x, shape), jnp.broadcast_to(jnp.maximum(before, 0), shape)
        return jnp.take_along_axis(x, index, axis=-1)[None]

    return Rivals(of, (present & (before >= 0))[None], before[None])


def weaker_of(game: RankingGame, x: jax.Array) -> jax.Array:
    """`[..., n]` to the value of each model's next weaker one: undoes `next_stronger(game).of`."""
    n = game.num_models
    if game.present is None:
        return jnp.roll(wide(x, n), -1, axis=-1)
    present = models_present(game)
    axis = present.ndim - 1
    here = jnp.where(present, jnp.arange(n), n)
    after = jnp.flip(jax.lax.cummin(jnp.flip(here, axis), axis=axis), axis)
    index = jnp.concatenate([after[..., 1:], jnp.full_like(after[..., :1], n)], axis=-1)
    x = wide(x, n)
    index = jnp.broadcast_to(jnp.minimum(index, n - 1), x.shape)
    return jnp.take_along_axis(x, index, axis=-1)


def other_models(game: RankingGame) -> Rivals:
    """All other models, n − 1 rivals each."""
    n = game.num_models
    present = models_present(game)
    present = present.reshape(*(1,) * (game.rewards.ndim - present.ndim), *present.shape)
    shifts = jnp.arange(1, n).reshape(-1, *(1,) * game.rewards.ndim)

    def of(x):
        x = wide(x, n)
        if n < 2:
            return jnp.zeros((0, *x.shape), x.dtype)
        if n <= _MOST_ROLLED:
            return jnp.stack([jnp.roll(x, shift, axis=-1) for shift in range(1, n)])
        # Rows of n + 1 out of copies of x in line: each row starts one entry later than the last.
        copies = jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], n + 1, n))
        rolled = copies.reshape(*x.shape[:-1], n, n + 1)[..., :0:-1, :n]
        return jnp.moveaxis(rolled, -2, 0)

    index = (jnp.arange(n) - shifts) % max(n, 1)
    return Rivals(of, of(present) & present, index)


def every_model(game: RankingGame) -> Rivals:
    """All models, n rivals each, of which a model itself is not real: row k holds model k.

    Nothing is rolled: a rival's value is one for all models it is compared with.
    """
    n = game.num_models
    present = models_present(game)
    present = present.reshape(*(1,) * (game.rewards.ndim - present.ndim), *present.shape)

    def of(x):
        return jnp.moveaxis(wide(x, n), -1, 0)[..., None]

    index = jnp.arange(n).reshape(-1, *(1,) * game.rewards.ndim)
    return Rivals(of, of(present) & present & (index != jnp.arange(n)), index)


def chosen_models(game: RankingGame, chosen: tuple[int, ...]) -> Rivals:
    """The rows of `every_model` of some models: what only they may be passed for costs less."""
    everyone, rows = every_model(game), jnp.asarray(chosen, int)

    def of(x):
        return jnp.moveaxis(wide(x, game.num_models)[..., rows], -1, 0)[..., None]

    return Rivals(of, everyone.real[rows], everyone.index[rows])


def wide(x: jax.Array, n: int) -> jax.Array:
    return jnp.broadcast_to(x, (*x.shape[:-1], n))


def rival_logit(curves: PowerLaw, rivals: Rivals, level: jax.Array) -> jax.Array:
    """The rivals' scores at `level`, as logits of each model's own normalized score.

    logit_w(s_k) = log((s_k − l_w)/(u_w − s_k)): the rival's own logit where limits are equal; +inf
    where it is out of the model's reach, −inf where it is below the model's lower limit. Both
    differences are formed from ṽ and 1 − ṽ of the rival, never as 1 − (…).

    Args:
      curves: aligned curves, parameters `[..., n]` or `[..., 1]`.
      rivals: who is compared.
      level: `[..., 1]` or `[..., n]` log1p of the rivals' efforts, y = log(1 + e).

    Returns:
      `[rivals, ..., n]` logits.
    """
    n = num_models(curves)
    z = rivals.of(wide(curves.alpha + curves.beta * level, n))
    if curves.has_equal_limits:
        return z
    lower, upper = rivals.of(curves.lower), rivals.of(curves.upper)
    return limited_logit(z, upper - lower, lower - curves.lower, curves.upper - upper)


def limited_logit(z, width, below, above):
    """log((below + w·σ(z))/(above + w·σ(−z))), ±inf where a part is not positive."""
    width = jnp.where(width > 0, width, jnp.nan)
    tail = jnp.exp(-jnp.abs(z))
    near = 1 / (1 + tail)
    far = tail * near
    head, tail = width * jnp.where(z > 0, near, far), width * jnp.where(z > 0, far, near)

    def part(offset, share, exponent):
        # With no offset the share may underflow where its log does not: in two factors.
        alone = offset == 0
        return jnp.where(alone, width * near, offset + share), jnp.where(alone, exponent, 0)

    low, low_exponent = part(below, head, jnp.minimum(z, 0))
    high, high_exponent = part(above, tail, jnp.minimum(-z, 0))
    positive, reachable = ~(low <= 0), ~(high <= 0)
    ratio = jnp.where(positive, low, 1) / jnp.where(reachable, high, 1)
    logit = log(ratio) + (low_exponent - high_exponent)
    # Equal limits: exactly, so that equal models tie.
    logit = jnp.where((below == 0) & (above == 0), z, jnp.where(positive, logit, -jnp.inf))
    logit += _coming_apart(below, head) - _coming_apart(above, tail)
    return jnp.where(reachable, logit, jnp.inf)


@jax.custom_jvp
def _coming_apart(offset, share):
    """What equal limits contribute to `limited_logit` as they move: 0 in value, not in derivative.

    The derivative stays finite: beyond the dtype, it is of no use.
    """
    del offset
    return jnp.zeros_like(share)


@_coming_apart.defjvp
def _coming_apart_jvp(primals, tangents):
    offset, share = primals
    slope = jnp.where(offset == 0, 1 / jnp.maximum(share, 1e-34), 0)
    return _coming_apart(offset, share), slope * tangents[0]


class Comparison(NamedTuple):
    """Rivals' scores beside each model's own, `[rivals, ..., n]`.

    Attributes:
      lead: by how much the rival's score is above; antisymmetric, and its scale means nothing.
      resolution: leads up to this size are ties.
    """

    lead: jax.Array
    resolution: jax.Array

    @property
    def above(self) -> jax.Array:
        """Bool: whether the rival's score is above the model's own by more than rounding."""
        return self.lead > self.resolution

    @property
    def below(self) -> jax.Array:
        """Bool: whether the rival's score is below the model's own by more than rounding."""
        return self.lead < -self.resolution


def compare_scores(
    game: RankingGame, rivals: Rivals, effort: jax.Array, rival_effort: jax.Array | None = None
) -> Comparison:
    """Each rival's score beside the model's own, and what of the difference is rounding.

    Power laws are compared where their digits are: by logits where limits are equal, else by the
    distance to the limit that is near.

    An ulp must not make a rank: who plays exactly the least effort that reaches a rival has tied
    with it, however that effort was rounded. So scores tie where a change of `TIE_ULPS` units in
    the last place of both models' efforts, measured as log(1 + effort), could turn them round; for
    other families than power laws, of the total effort and of the score. With equal limits and for
    other families a model has one such interval on one axis, whoever it is compared with, and ties
    are overlaps: whole groups of ties, linked by overlaps, are in one order. With different limits
    intervals are wider by what matching limits costs in digits.

    Args:
      game: an aligned game.
      rivals: who is compared.
      effort: `[..., 1]` or `[..., n]` total effort (Δ included) of each model; finite.
      rival_effort: that of each model as a rival; `effort` where it is None.

    Returns:
      Leads and resolutions, `[rivals, ..., n]`.
    """
    curves, n = game.curves, game.num_models
    if not isinstance(curves, PowerLaw):
        scores, spread = wide(curves.score(effort), n), score_resolution(curves, effort, n)
        theirs, their_spread = scores, spread
        if rival_effort is not None:
            theirs = wide(curves.score(rival_effort), n)
            their_spread = score_resolution(curves, rival_effort, n)
        return Comparison(rivals.of(theirs) - scores, rivals.of(their_spread) + spread)
    y = jnp.log1p(effort)
    rival_y = y if rival_effort is None else jnp.log1p(rival_effort)
    ulps = TIE_ULPS * jnp.finfo(game.dtype).eps
    if curves.has_equal_limits:
        alpha, beta = wide(curves.alpha, n), wide(curves.beta, n)
        y, rival_y = wide(y, n), rivals.of(wide(rival_y, n))
        rival_beta = rivals.of(beta)
        # β_k·y_k − β_r·y_r keeps its digits where both have the same effort, or all but.
        shared = jnp.minimum(rival_y, y)
        learned = rival_beta * (rival_y - shared) - beta * (y - shared)
        learned = (rival_beta - beta) * shared + learned
        spread = jnp.abs(rival_beta) * (1 + rival_y) + jnp.abs(beta) * (1 + y)
        return Comparison((rivals.of(alpha) - alpha) + learned, ulps * spread)
    own = wide(curves.alpha + curves.beta * y, n)
    theirs = rivals.of(wide(curves.alpha + curves.beta * rival_y, n))
    spread = wide(jnp.abs(curves.alpha) + jnp.abs(curves.beta) * (1 + y), n)
    their_spread = wide(jnp.abs(curves.alpha) + jnp.abs(curves.beta) * (1 + rival_y), n)
    compared = _compare_limited(curves, rivals, own, theirs, spread, rivals.of(their_spread))
    return compared._replace(resolution=ulps * compared.resolution)


def _compare_limited(curves, rivals, own, theirs, spread, their_spread) -> Comparison:
    """Power laws with different limits, from the logits `own` and `theirs` and their ulps."""
    lower, upper = rivals.of(curves.lower), rivals.of(curves.upper)
    width, own_width = upper - lower, curves.upper - curves.lower
    near_top = (own > 0) & (theirs > 0)
    tail, own_tail = jax.nn.sigmoid(-theirs), jax.nn.sigmoid(-own)
    head, own_head = jax.nn.sigmoid(theirs), jax.nn.sigmoid(own)
    from_top, from_bottom = curves.upper - upper, lower - curves.lower
    lead = jnp.where(
        near_top,
        (own_width * own_tail - width * tail) - from_top,
        from_bottom + (width * head - own_width * own_head),
    )
    # Rounding of limits and of logits, as it reaches the difference that is formed.
    widths = width + own_width
    moved = width * head * tail * their_spread + own_width * own_head * own_tail * spread
    at_top = jnp.abs(from_top) + (widths + jnp.abs(from_bottom)) * (tail + own_tail)
    at_bottom = jnp.abs(from_bottom) + (widths + jnp.abs(from_top)) * (head + own_head)
    resolution = moved + jnp.where(near_top, at_top, at_bottom)
    # With one limit shared, what is left to it may underflow where its log does not.
    log_ratio = jnp.log(own_width) - jnp.log(width)
    to_top = log_ratio + (jax.nn.log_sigmoid(-own) - jax.nn.log_sigmoid(-theirs))
    to_bottom = (jax.nn.log_sigmoid(theirs) - jax.nn.log_sigmoid(own)) - log_ratio
    by_top = near_top & (from_top == 0)
    by_bottom = ~near_top & (from_bottom == 0)
    lead = jnp.where(by_top, to_top, jnp.where(by_bottom, to_bottom, lead))
    logs = (widths + jnp.abs(from_top) + jnp.abs(from_bottom)) * (1 / width + 1 / own_width)
    logs = logs + (spread + their_spread)
    resolution = jnp.where(by_top | by_bottom, logs, resolution)
    both = (from_top == 0) & (from_bottom == 0)
    lead = jnp.where(both, theirs - own, lead)
    return Comparison(lead, jnp.where(both, spread + their_spread, resolution))


def score_resolution(curves: Any, effort: jax.Array, n: int) -> jax.Array:
    """By how much rounding may move a score, `[..., n]`: that of the score and of the effort."""
    eps = jnp.finfo(effort.dtype).eps
    step = TIE_ULPS * eps
    later = jnp.minimum(effort * (1 + step), jnp.finfo(effort.dtype).max)
    moved = jnp.abs(curves.score(later) - curves.score(effort * (1 - step)))
    return wide(moved + TIE_ULPS * eps * jnp.abs(curves.score(effort)), n)


def score_lead(game: RankingGame, rivals: Rivals, effort: jax.Array) -> jax.Array:
    """By how much each rival's score is above the model's own; see `compare_scores`.

    Args:
      game: an aligned game.
      rivals: who is compared.
      effort: `[..., 1]` or `[..., n]` total effort (Δ included) of each model.

    Returns:
      `[rivals, ..., n]`: positive where the rival is ahead, 0 in a tie.
    """
    return compare_scores(game, rivals, effort).lead


def is_ahead(
    game: RankingGame,
    rivals: Rivals,
    lead: jax.Array,
    resolution: jax.Array | float = 0.0,
    order: jax.Array | None = None,
) -> jax.Array:
    """`[rivals, ..., n]` bool: whether the rival ranks before the model; ties to the more capable.

    Args:
      game: an aligned game.
      rivals: `other_models(game)` or `every_model(game)`.
      lead: `[rivals, ..., n]` by how much each rival's score is above the model's own.
      resolution: leads up to this size are ties.
      order: `[..., n]` int: ties go to the model with the smaller number; by capability if None.
    """
    if order is None:
        favoured = rivals.index < jnp.arange(game.num_models)
    else:
        favoured = rivals.of(order) < order
    return rivals.real & ((lead > resolution) | ((lead >= -resolution) & favoured))


def ranks(
    game: RankingGame, rivals: Rivals, compared: Comparison, order: jax.Array | None = None
) -> jax.Array:
    """`[..., n]` 0-based ranks of the present models, each of which is taken once.

    By how many are ahead: so many models rank before it. Where near ties form a chain (a ties with
    b and b with c, but c is above a) these numbers can be equal, and ties decide again.

    Args:
      game: an aligned game.
      rivals: `other_models(game)` or `every_model(game)`.
      compared: the scores.
      order: `[..., n]` int: ties go to the model with the smaller number; by capability if None.
    """
    count = jnp.sum(is_ahead(game, rivals, *compared, order), axis=0)
    more = (rivals.of(count) - count).astype(game.dtype)
    return jnp.sum(is_ahead(game, rivals, -more, 0.0, order), axis=0)


def gains_by_capability(game: RankingGame, rivals: Rivals) -> jax.Array:
    """`[rivals, ..., n]` by how much each rival's reward is higher if ranks follow capability."""
    rewards = wide(rewards_by_capability(game), game.num_models)
    return jnp.where(rivals.real, rivals.of(rewards) - rewards, 0)


def rewards_of_ranks(game: RankingGame, ranks: jax.Array) -> jax.Array:
    """`[..., n]` reward of each model's 0-based rank `[..., n]`."""
    rewards = wide(game.rewards, game.num_models)
    shape = jnp.broadcast_shapes(rewards.shape, ranks.shape)
    return jnp.take_along_axis(
        jnp.broadcast_to(rewards, shape), jnp.broadcast_to(ranks, shape), axis=-1
    )
