"""Uncertainty of fitted curves by resampling, and what follows for efforts, verdicts and Δ*.

A resample is the fitted curve with new noise, fitted again. All resamples of all models are one
batch of games: whatever the core works out of a game it works out of each resample.

    >>> import jax
    >>> from tbtjax import just_overtake_effort, linear_cost, ranking_game
    >>> steps, scores = [0, 10, 100, 1000], [[0.5, 0.6, 0.7, 0.8], [0.4, 0.5, 0.6, 0.7]]
    >>> drawn = bootstrap_power_law(jax.random.key(0), steps, scores, questions=1000, resamples=200)
    >>> game = ranking_game(drawn.curves, [1.0, 0.0], linear_cost(0.01))
    >>> low, high = interval(just_overtake_effort(game, 0.0))
    >>> print(f"{low[0]:.0f} to {high[0]:.0f} steps")
    2 to 19 steps
"""

import dataclasses
import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from tbtjax._checks import as_array, as_level
from tbtjax._records import Record
from tbtjax._rivals import Deviations
from tbtjax.curves import PowerLaw, Tabulated
from tbtjax.effort import baseline_scores
from tbtjax.equilibrium import is_zero_effort_pne
from tbtjax.game import RankingGame
from tbtjax.measure._fitted import PowerLawFit
from tbtjax.measure._joint import group_numbers
from tbtjax.measure._measurements import (
    Measurements,
    as_arguments,
    as_measurements,
    full_shape,
    joined,
)
from tbtjax.measure.fit import as_groups, check_option, fit_power_law
from tbtjax.measure.tabulate import tabulate

Noise = Literal["binomial", "gaussian", "overdispersed"]

#: Curves resampled and fitted in one round.
_CURVES_AT_ONCE = 1000


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PowerLawBootstrap(Record):
    """Fits to resampled scores.

    Attributes:
      fit: the fit to the measured scores, `[..., n]`.
      curves: the fits to the resamples, fields `[resamples, ..., n]`; fixed limits in the shape
        they were given in. NaN where nothing could be fitted.
      chi2: `[resamples, ..., n]` minimised loss of each.
      flags: `[resamples, ..., n]` int32: a sum of `FitFlag` for each.
    """

    fit: PowerLawFit
    curves: PowerLaw
    chi2: jax.Array
    flags: jax.Array


class Interval(NamedTuple):
    """Ends of an interval; +inf is an end like any other.

    Attributes:
      low: `[...]` lower end.
      high: `[...]` upper end.
    """

    low: jax.Array
    high: jax.Array


def bootstrap_power_law(
    key: jax.Array,
    steps: Any,
    scores: Any,
    *,
    resamples: int = 1000,
    noise: Noise = "overdispersed",
    questions: Any = None,
    stderr: Any = None,
    method: Literal["lbfgs", "levenberg-marquardt"] = "levenberg-marquardt",
    **options: Any,
) -> PowerLawBootstrap:
    """Power-law curves refitted to resampled scores: their spread is the fit's uncertainty.

    Scores are drawn around the fitted curve (a parametric bootstrap) and fitted in the same way:

    - "binomial": counts of right answers, with the fitted score as their probability. A score
      whose `questions` are not known has Gaussian noise.
    - "gaussian": Gaussian noise of the σ that χ² is worked out with, cut off at scores 0 and 1.
    - "overdispersed": Gaussian noise of variance max(1, χ²/X)·σ², X drawn for each curve and
      resample from the χ² distribution with the fit's degrees of freedom: what a curve misses its
      points by, from wobble between checkpoints or because its family is wrong, counts as noise,
      whose size few points tell only roughly. No resampling makes a wrong family right: compare
      fixed limits, free limits and the interpolated points (`tabulate`).

    A curve whose σ is not known has noise of the size of its scatter.

    Args:
      key: `jax.random.key(seed)`; the same key gives the same resamples.
      steps: as in `fit_power_law`.
      scores: the same.
      resamples: how many.
      noise: "binomial", "gaussian" or "overdispersed".
      questions: as in `fit_power_law`.
      stderr: the same.
      method: as in `fit_power_law`.
      **options: further ones of `fit_power_law`: limits, groups, lower, upper, loss.

    Returns:
      The fit and those to the resamples, on a leading axis of their own. 55 models and 1,000
      resamples are 55,000 fits: some seconds.

    Raises:
      TypeError: as `fit_power_law`.
      ValueError: as `fit_power_law`; an unknown `noise`, `resamples` below 1, or binomial noise
        without `questions`.

    Examples:
      >>> key = jax.random.key(0)
      >>> scores = [[0.5, 0.6, 0.7, 0.8]]
      >>> drawn = bootstrap_power_law(key, [0, 10, 100, 1000], scores, questions=1000)
      >>> drawn.curves.beta.shape
      (1000, 1)
    """
    _check_resamples(resamples)
    check_option("noise", noise, ("binomial", "gaussian", "overdispersed"))
    if noise == "binomial" and questions is None:
        raise ValueError(
            'noise="binomial" needs the number of questions behind each score; got questions=None'
        )
    limits = [options.pop(name, default) for name, default in (("lower", 0.0), ("upper", 1.0))]
    arguments = as_arguments(steps, scores, questions, stderr, *limits)
    groups, shape = options.pop("groups", None), full_shape(arguments)
    if options.get("limits") == "shared":
        groups = as_groups(groups, arguments)
    names = ("steps", "scores", "questions", "stderr", "lower", "upper")
    known: dict[str, Any] = {"groups": groups, "method": method, **options}
    known.update(zip(names, arguments, strict=True))
    measured = known.pop("scores")
    at_once = min(max(1, _CURVES_AT_ONCE // max(1, math.prod(shape[:-1]))), resamples)
    rounds = -(-resamples // at_once)

    def fitted(scores: jax.Array) -> PowerLawFit:
        return _widened(fit_power_law(scores=scores, **known))

    # As many copies of the measured scores as a round has resamples, so that both are fitted by one
    # program: the search compiles for seconds.
    copies = fitted(jnp.broadcast_to(measured, (at_once, *shape)))

    def fit_round(number: Any) -> PowerLawFit:
        return fitted(
            _draw_around_fit(key, number, rounds, copies, *arguments, groups, noise=noise)
        )

    if any(isinstance(x, Tracer) for x in (key, *arguments, groups)):
        found = jax.lax.map(fit_round, jnp.arange(rounds))
        drawn = [jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)]
    else:  # programs of one round are shared by families and by numbers of resamples
        drawn = [fit_round(number) for number in range(rounds)]
    is_fixed = options.get("limits", "fixed") == "fixed"
    fixed = (known["lower"], known["upper"]) if is_fixed else None
    return _gathered(copies, drawn, fixed, resamples)


def bootstrap_tabulated(
    key: jax.Array,
    steps: Any,
    scores: Any,
    *,
    resamples: int = 1000,
    noise: Literal["binomial", "gaussian"] = "gaussian",
    questions: Any = None,
    stderr: Any = None,
) -> Tabulated:
    """Curves interpolated through resampled scores: the spread that assumes no family.

    Scores are drawn around the measured ones, which have noise already: intervals of a maximum or
    a first crossing, which noise shifts, are wide rather than narrow.

    Args:
      key: `jax.random.key(seed)`.
      steps: `[..., points]` as in `fit_power_law`.
      scores: the same.
      resamples: how many.
      noise: "binomial" (counts, around (k + ½)/(questions + 1)) or "gaussian".
      questions: as in `fit_power_law`; it or `stderr` must be known for every measured score.
      stderr: the same.

    Returns:
      The curves, fields `[resamples, ..., n, points + 1]`; see `tabulate`. NaN throughout a curve
      whose noise is not known.

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: shapes that do not fit together; neither `questions` nor `stderr`; an unknown
        option.

    Examples:
      >>> key = jax.random.key(0)
      >>> scores = [[0.5, 0.6, 0.7, 0.8]]
      >>> drawn = bootstrap_tabulated(key, [0, 10, 100, 1000], scores, stderr=0.01)
      >>> drawn.scores.shape
      (1000, 1, 5)
    """
    _check_resamples(resamples)
    check_option("noise", noise, ("binomial", "gaussian"))
    if questions is None and (stderr is None or noise == "binomial"):
        needed = "questions" if noise == "binomial" else "questions or stderr"
        raise ValueError(f"noise={noise!r} needs {needed}; got None")
    arguments = as_arguments(steps, scores, questions, stderr, 0.0, 1.0)
    drawn = _draw_around_scores(key, *arguments, resamples=resamples, noise=noise)
    return tabulate(steps, drawn)


def interval(samples: Any, level: float = 0.9, estimate: Any = None) -> Interval:
    """The central interval that holds a share of the samples.

    Ends are samples, never averages of two of them: +inf (out of reach, never stabilises) is an
    end like any other. A percentile interval: it goes along with every monotone change of unit.

    Where the estimate that the samples belong to is given, the interval is corrected for bias. What
    noise shifts by, as it lifts the largest of several thresholds that are about equal, shifts the
    samples once more than the estimate: the share of them below it tells by how much.

    Args:
      samples: `[resamples, ...]`; NaN is left out.
      level: share of the samples between the ends, in (0, 1).
      estimate: `[...]` what was worked out of the measured scores; NaN = not known. It counts as a
        sample, and the interval holds it. None: equal tails.

    Returns:
      `[...]` ends, the outer sample where a quantile falls between two; NaN without samples.

    Raises:
      TypeError: `samples` or `estimate` is not an array of real numbers.
      ValueError: `level` is not in (0, 1), there is no axis of samples, or the shape of `estimate`
        is not that of one of them.

    Examples:
      >>> low, high = interval(jnp.arange(1001.0))
      >>> print(low, high)
      50.0 950.0
      >>> low, high = interval(jnp.arange(1001.0), estimate=400.0)
      >>> print(low, high)
      15.0 874.0

    Source: Efron, The Jackknife, the Bootstrap and Other Resampling Plans (1982), ch. 10: the
    bias-corrected percentile method; that it holds the estimate, and ties, are ours.
    """
    samples = as_array("samples", samples)
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), the share inside; got {level}")
    if samples.ndim == 0:
        raise ValueError("samples must be [resamples, ...]; got shape ()")
    samples = samples.astype(jnp.result_type(samples, 0.0))
    tail = (1 - level) / 2
    if estimate is None:
        return _between(samples, tail, 1 - tail)
    estimate = as_array("estimate", estimate).astype(samples.dtype)
    if estimate.shape != samples.shape[1:]:
        raise ValueError(
            f"estimate must have the shape of one sample, {samples.shape[1:]}; got {estimate.shape}"
        )
    known = ~jnp.isnan(estimate)
    samples = jnp.concatenate([samples, estimate[None]])
    count = jnp.maximum(jnp.sum(~jnp.isnan(samples), axis=0), 1)
    below, upto = (
        jnp.sum(x, axis=0) / count for x in (samples < estimate[None], samples <= estimate[None])
    )
    # Ties count as below or above as it takes to need the least correction.
    normal = jax.scipy.stats.norm
    bias = jnp.clip(0, *(normal.ppf(x.astype(samples.dtype)) for x in (below, upto)))
    reach = normal.ppf(jnp.asarray(1 - tail, samples.dtype))
    bias = jnp.where(known, jnp.clip(bias, -reach, reach), 0)
    return _between(samples, normal.cdf(2 * bias - reach), normal.cdf(2 * bias + reach))


def _between(samples: jax.Array, low: Any, high: Any) -> Interval:
    """Quantiles `low` and `high`, each `[...]` or a scalar, over the first axis."""
    ordered = jnp.sort(samples, axis=0)  # NaN last
    last = jnp.sum(~jnp.isnan(samples), axis=0) - 1
    # A rank that is whole but for rounding is that rank.
    slack = 1e-4

    def sample_at(rank):
        index = jnp.clip(rank.astype(last.dtype), 0, jnp.maximum(last, 0))
        return jnp.take_along_axis(ordered, index[None], axis=0)[0]

    ranks = last.astype(samples.dtype)
    return Interval(
        sample_at(jnp.floor(ranks * low + slack)), sample_at(jnp.ceil(ranks * high - slack))
    )


def probability_of_stability(
    game: RankingGame, delta: Any, deviations: Deviations = "all"
) -> jax.Array:
    """Share of resampled games that a tune-before-test level stabilizes.

    A level stabilizes a game if nobody gains by effort there and the baseline ranking follows
    capability, as in `stabilizing_threshold`.

    Args:
      game: games `[resamples, ...]`, such as those of resampled curves.
      delta: `[levels]` or scalar: tune-before-test levels in training steps, ≥ 0.
      deviations: "all" or "adjacent", as in `stabilizing_threshold`.

    Returns:
      `[levels, ...]` shares in [0, 1], over the first axis of the games; `[...]` for a scalar. A
      resample that could not be fitted counts as not stable.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: `game` has no axis of resamples, `delta` more than one axis, or `deviations` is
        unknown.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> alpha = jnp.stack([jnp.linspace(1.0, 3.0, 9), jnp.zeros(9)], axis=-1)
      >>> game = ranking_game(power_law(alpha, 1.0), [10.0, 0.0], linear_cost(1.0))
      >>> [round(float(share), 2) for share in probability_of_stability(game, [0.0, 1.0, 10.0])]
      [0.33, 0.56, 1.0]
    """
    if not isinstance(game, RankingGame):
        raise TypeError(f"game must be a RankingGame; got {type(game).__name__}")
    if not game.batch_shape:
        raise ValueError("game must have an axis of resamples in front; got one game")
    levels = as_level("delta", delta, game.dtype, ())
    if levels.ndim > 1:
        raise ValueError(f"delta must be [levels] or a scalar; got shape {levels.shape}")
    return _share_stable(game, levels, deviations)


@functools.partial(jax.jit, static_argnums=2)
def _share_stable(game: RankingGame, levels: jax.Array, deviations: Deviations) -> jax.Array:
    def at(level):
        # Absent models have no score: they are out of order with nobody.
        scores = jnp.where(jnp.isnan(x := baseline_scores(game, level)), jnp.inf, x)
        best_weaker = jax.lax.cummax(
            jnp.where(jnp.isinf(scores), -jnp.inf, scores), axis=scores.ndim - 1, reverse=True
        )
        ordered = jnp.all(scores[..., :-1] >= best_weaker[..., 1:], axis=-1)
        stable = is_zero_effort_pne(game, level, deviations) & ordered
        return jnp.mean(stable.astype(game.dtype), axis=0)

    return at(levels) if levels.ndim == 0 else jax.lax.map(at, levels)


def _check_resamples(resamples: int) -> None:
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 1:
        raise ValueError(f"resamples must be an integer of 1 or more; got {resamples!r}")


@jax.jit
def _widened(fit: PowerLawFit) -> PowerLawFit:
    """The fit with fixed limits in the shape of the curves."""
    curves, shape = fit.curves, fit.chi2.shape
    limits = (jnp.broadcast_to(x, shape) for x in (curves.lower, curves.upper))
    return dataclasses.replace(fit, curves=PowerLaw(curves.alpha, curves.beta, *limits))


@functools.partial(jax.jit, static_argnums=3)
def _gathered(
    copies: PowerLawFit,
    drawn: list[PowerLawFit],
    fixed: tuple[jax.Array, jax.Array] | None,
    resamples: int,
) -> PowerLawBootstrap:
    """The record of all rounds.

    Args:
      copies: fits to the measured scores, one like the other.
      drawn: fits to the resamples.
      fixed: the limits as they were given; None where they are fitted.
      resamples: how many fits to keep.
    """

    def narrowed(curves):
        return curves if fixed is None else PowerLaw(curves.alpha, curves.beta, *fixed)

    fit = jax.tree.map(lambda x: x[0], copies)
    found = jax.tree.map(lambda *x: jnp.concatenate(x)[:resamples], *drawn)
    fit = dataclasses.replace(fit, curves=narrowed(fit.curves))
    return PowerLawBootstrap(fit, narrowed(found.curves), found.chi2, found.flags)


@functools.partial(jax.jit, static_argnames=("rounds", "noise"))
def _draw_around_fit(
    key, number, rounds, copies, steps, scores, questions, stderr, lower, upper, groups, *, noise
):
    """`[resamples, ..., n, points]` scores around the fitted ones; NaN where not measured.

    Args:
      key: of all rounds.
      number: of this round.
      rounds: how many there are.
      copies: fits to the measured scores, one like the other, as many as this round has resamples.
      steps: this and the next five are as `as_arguments` gives them.
      scores: the same.
      questions: the same.
      stderr: the same.
      lower: the same.
      upper: the same.
      groups: of models that share limits; None where none do.
      noise: as in `bootstrap_power_law`.
    """
    data = as_measurements(steps, scores, questions, stderr, lower, upper, deviance=False)
    if groups is not None:
        data = joined(data, group_numbers(groups, data.invalid.shape))
    keys = jax.random.split(jax.random.split(key, rounds + 1)[number + 1])
    shape = (*copies.chi2.shape, data.score.shape[-1])
    normal, other = jax.vmap(lambda key: jax.random.normal(key, shape, data.score.dtype))(keys)
    curves, chi2, dof = jax.tree.map(lambda x: x[0], (copies.curves, copies.chi2, copies.dof))
    alpha, beta, lower, upper = (x[..., None] for x in dataclasses.astuple(curves))
    center = lower + (upper - lower) * jax.nn.sigmoid(alpha + beta * data.effort)
    if noise == "overdispersed":
        # χ² of these degrees of freedom as a sum of squares: a sampler of the gamma distribution
        # takes longer to compile than all the rest.
        degrees = jnp.maximum(dof, 1)[..., None]
        squares = jnp.where(jnp.arange(shape[-1]) < degrees, other**2, 0)
        drawn = jnp.sum(squares, axis=-1)
        ratio = jnp.where(dof > 0, chi2, 0) / drawn
        variance = jnp.where(data.weighted, jnp.maximum(ratio, 1), ratio)
    else:
        degrees = jnp.maximum(dof, 1).astype(center.dtype)
        variance = jnp.broadcast_to(jnp.where(data.weighted, 1, chi2 / degrees), shape[:-1])
    return _draw(keys[0], normal, data, center, variance, noise)


@functools.partial(jax.jit, static_argnames=("resamples", "noise"))
def _draw_around_scores(key, steps, scores, questions, stderr, lower, upper, *, resamples, noise):
    """`[resamples, ..., n, points]` scores around the measured ones."""
    data = as_measurements(steps, scores, questions, stderr, lower, upper, deviance=False)
    center = data.score
    if noise == "binomial":
        count = jnp.round(data.score * data.questions)
        center = (count + 0.5) / (data.questions + 1)
        center = jnp.where(data.questions > 0, center, data.score)
    known = jnp.where(data.weighted, 1, jnp.nan).astype(center.dtype)
    normal = jax.random.normal(key, (resamples, *center.shape), center.dtype)
    return _draw(key, normal, data, center, jnp.broadcast_to(known, normal.shape[:-1]), noise)


def _draw(
    key: jax.Array,
    normal: jax.Array,
    data: Measurements,
    center: jax.Array,
    variance: jax.Array,
    noise: Noise,
) -> jax.Array:
    """Scores around `center`, `[..., n, points]`, of `variance`·σ², `[resamples, ..., n]`.

    Gaussian noise is made of `normal`, `[resamples, ..., n, points]`, counts are drawn by `key`.
    """
    sigma = jnp.sqrt(variance[..., None] / data.weight)
    drawn = center + sigma * normal
    if noise == "binomial":
        share = jnp.clip(jnp.where(jnp.isnan(center), 0, center), 0, 1)
        counted = (data.questions > 0) & ~jnp.isnan(variance)[..., None]
        whole = jnp.broadcast_to(jnp.round(data.questions), normal.shape)
        right = jax.random.binomial(key, whole, share, whole.shape, center.dtype)
        known = counted & ~jnp.isnan(center)
        drawn = jnp.where(known, right / jnp.maximum(whole, 1), drawn)
    return jnp.where(data.measured, jnp.clip(drawn, 0, 1), jnp.nan)
