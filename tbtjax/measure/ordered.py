"""Power-law curves that follow the capability order, and what that costs in χ².

With equal limits, assumption C1 (a more capable model scores more at every effort) says of power
laws that neither α nor β rises from a model to a weaker one. Measured curves may say otherwise.
`fit_power_law_in_order` forces it on them; the price, in χ², is what the data have against it.

Source: Chen, Zhang, Hardt (arXiv 2603.08371), assumption C1 and eq. 3; the joint fit is ours.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from tbtjax._records import Record
from tbtjax.measure._fitted import PowerLawFit, chi2_probability
from tbtjax.measure._measurements import as_arguments
from tbtjax.measure._minimize import Points, Problem
from tbtjax.measure._ordered import Start, best_in_order
from tbtjax.measure.fit import as_given, check_option, conclude, fit_power_law

#: Boards worked on at once.
_BOARDS_AT_ONCE = 64


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OrderedFit(Record):
    """Curves in capability order, beside those fitted without it.

    Attributes:
      fit: the curves in order. What is said of one model is said within the order: models that are
        tied in α (or β) have one value between them, whose `deviation` and `gradient` are those of
        the points of all of them, as if it were known that they are tied; `dof` takes no account of
        ties. NOT_CONVERGED, as what stays of the loss, is about all models together.
      apart: the fits without the order, with limits of the same kind.
      price: `[...]` Σ chi2 of `fit` less that of `apart`, ≥ 0: what the order costs.
      tied: `[..., n − 1, 2]` bool: whether α and β of model j + 1 are held at those of model j, or
        of the next stronger one that could be fitted.
      ties: `[...]` int32: how many of these are.
      p_value: `[...]` probability that noise alone costs so much where the curves are in order: of
        a χ² with `ties` degrees of freedom above `price`. 1 without ties; NaN where a curve is
        unweighted. Where curves misfit it is too small: compare price/ties with their chi2/dof.
    """

    event_ndims: ClassVar[dict[str, int]] = {"price": 0, "ties": 0, "p_value": 0, "tied": 2}
    event_dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "price": (),
        "ties": (),
        "p_value": (),
        "tied": ("pair", "alpha_beta"),
    }

    fit: PowerLawFit
    apart: PowerLawFit
    price: jax.Array
    tied: jax.Array
    ties: jax.Array
    p_value: jax.Array


def fit_power_law_in_order(
    steps: Any,
    scores: Any,
    *,
    questions: Any = None,
    stderr: Any = None,
    limits: Literal["fixed", "shared"] = "fixed",
    lower: Any = 0.0,
    upper: Any = 1.0,
    loss: Literal["chi2", "deviance"] = "chi2",
    method: Literal["lbfgs", "levenberg-marquardt"] = "lbfgs",
) -> OrderedFit:
    """Fits power laws of which neither α nor β rises from a model to the next weaker one.

    Minimises Σ chi2 of all models under α_1 ≥ α_2 ≥ … and β_1 ≥ β_2 ≥ …: with equal limits, that
    is assumption C1 (ties in α aside), and then C3 too. A model that cannot be fitted is passed
    over. Where the fits without the order are in order, they are the answer and the price is 0.

    Args:
      steps: `[..., n, points]` as in `fit_power_law`, strongest model first.
      scores: the same.
      questions: as in `fit_power_law`.
      stderr: the same.
      limits: "fixed": at `lower` and `upper`. "shared": one pair for all models, within these.
      lower: scalar or `[..., 1]`: lower limit of all models.
      upper: the same: upper limit.
      loss: as in `fit_power_law`.
      method: the same, of the fits without the order.

    Returns:
      The fits with and without the order, and its price.

    Raises:
      TypeError: as `fit_power_law`.
      ValueError: as `fit_power_law`; free limits, or `lower` or `upper` per model: C1 is a matter
        of α and β with equal limits alone.

    Examples:
      >>> scores = [[0.50, 0.55, 0.60, 0.65], [0.40, 0.50, 0.60, 0.70]]
      >>> found = fit_power_law_in_order([0, 10, 100, 1000], scores, questions=1000)
      >>> print(f"{found.ties} tie for {found.price:.1f} in chi2")
      1 tie for 25.8 in chi2

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), assumption C1; the joint fit is ours.
    """
    if limits == "free":
        raise ValueError(
            'limits must be "fixed" or "shared": the order of alpha and beta is that of the '
            "scores where all models have the same limits alone; got limits='free'"
        )
    check_option("limits", limits, ("fixed", "shared"))
    arguments = as_arguments(steps, scores, questions, stderr, lower, upper)
    for name, value in zip(("lower", "upper"), arguments[-2:], strict=True):
        assert value is not None
        if value.shape[-1:] not in ((), (1,)):
            raise ValueError(
                f"{name} must be the same for all models, a scalar or [..., 1]; got shape "
                f"{value.shape}"
            )
    if max(x.ndim for x in arguments[:4] if x is not None) < 2:
        raise ValueError("scores must be [..., n, points], models in order; got one curve")
    apart = fit_power_law(
        steps,
        scores,
        questions=questions,
        stderr=stderr,
        limits=limits,
        lower=lower,
        upper=upper,
        loss=loss,
        method=method,
    )
    return _in_order(arguments, apart, limits=limits, loss=loss)


@functools.partial(jax.jit, static_argnames=("limits", "loss"))
def _in_order(arguments, apart: PowerLawFit, *, limits: str, loss: str) -> OrderedFit:
    board = jnp.zeros((), jnp.int32)
    steps, scores, questions, stderr, lower, upper = arguments
    given = as_given(
        *(steps, scores, questions, stderr, lower, upper, board, 2),
        is_joint=limits == "shared",
        loss=loss,
    )
    data, shape = given.data, given.too_few.shape
    boards, models = math.prod(shape[:-1]), len(shape) - 1
    present = ~(data.invalid | given.too_few)
    # Models with curves first, in their order; the others have no points.
    order = jnp.argsort(~present, axis=-1)
    back = jnp.argsort(order, axis=-1)

    def arranged(x):
        """`[..., n, *rest]` as `[boards, n, *rest]`."""
        by = order.reshape(*shape, *[1] * (x.ndim - len(shape)))
        return jnp.take_along_axis(x, by, axis=models).reshape(boards, *x.shape[models:])

    def returned(x):
        """`[boards, *rest, n]` as `[..., n, *rest]`."""
        x = jnp.moveaxis(x, -1, 1)
        by = back.reshape(*shape, *[1] * (x.ndim - 2))
        return jnp.take_along_axis(x.reshape(*shape, *x.shape[2:]), by, axis=models)

    columns = (data.effort, data.score, data.weight, data.questions)
    points = Points(*(arranged(jnp.where(given.used, x, 0)) for x in columns))
    there = arranged(present)
    low, high = arranged(data.low), arranged(data.high)
    # What has no curve has the limits of those that do, and no matter which numbers.
    low, high = (jnp.where(there, x, x[:, :1]) for x in (low, high))
    curves = (arranged(jnp.broadcast_to(x, shape)) for x in dataclasses.astuple(apart.curves))
    nothing = jnp.zeros_like(low)
    first = Start(
        *(
            jnp.where(there, x, y)
            for x, y in zip(curves, (nothing, nothing, low, high), strict=True)
        )
    )
    noise = arranged(data.weighted.astype(low.dtype))

    def one(board):
        points, low, high, noise, first, there = board
        problem = Problem(Points(*(x.T for x in points)), low, high, noise, False, loss)
        return best_in_order(problem, first, there, fits_limits=limits == "shared")

    found, tied = jax.lax.map(
        one, (points, low, high, noise, first, there), batch_size=_BOARDS_AT_ONCE
    )
    best, tied = jax.tree.map(returned, (found, tied))
    fit = conclude(given, best, lower, upper, limits=limits, loss=loss)
    falls = [(x[:, :-1] >= x[:, 1:]) | ~there[:, 1:] for x in (first.alpha, first.beta)]
    in_order = jnp.all(falls[0] & falls[1], axis=-1).reshape(shape[:-1])

    def chosen(alone, together):
        if alone.shape[: len(shape)] != shape:
            return alone  # limits as they were given
        where = in_order.reshape(*shape[:-1], *[1] * (alone.ndim - models))
        return jnp.where(where, alone, together)

    fit = jax.tree.map(chosen, apart, fit)
    cost = jnp.sum(jnp.where(present, fit.chi2 - apart.chi2, 0), axis=-1)
    tied = tied[..., 1:, :]
    ties = jnp.sum(tied, axis=(-2, -1), dtype=jnp.int32)
    price = jnp.where(ties > 0, jnp.maximum(cost, 0), 0)
    chance = chi2_probability(price, ties, 2 * max(shape[-1] - 1, 1))
    known = jnp.all(data.weighted | ~present, axis=-1)
    p_value = jnp.where(known, jnp.where(ties > 0, chance, 1), jnp.nan)
    return OrderedFit(fit, apart, price, tied, ties, p_value)
