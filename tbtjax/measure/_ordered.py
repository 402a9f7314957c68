"""Curves in capability order: neither α nor β rises from a model to the next weaker one.

The unknowns of a board are α and β of its strongest model and by how much they drop at each next
one, ≥ 0; and, where limits are fitted, how far these stand inside their bounds, ≥ 0. Each
Levenberg-Marquardt step solves its quadratic problem under these signs by a primal-dual active set.
What ends at a bound is exactly there, so that ties are exact.

Arrays are those of one board: `[points, n]`, parameters `[n]`, places `[2n + 2]`.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tbtjax.measure._joint import APART, Derivatives, derivatives, limits_to_try
from tbtjax.measure._levenberg import FIRST_DAMPING, next_damping
from tbtjax.measure._minimize import STEEPEST, Curve, Problem
from tbtjax.measure._precision import diagonal, least_precision, products
from tbtjax.measure._starts import start
from tbtjax.measure._summary import Minimum, enough_left
from tbtjax.measure._sums import divide

#: Steps from a start, and rounds of the active set in each of them.
_STEPS, _ROUNDS = 40, 8
#: The largest logit at mean effort, and |β|, of a curve that does not jump.
_TAME, _SLOW = 3.0, 0.7

#: Products with all the digits of their dtype, on every device.
_times = functools.partial(jnp.matmul, precision="highest")


class Start(NamedTuple):
    """Curves to start from, in order or not, each `[n]`."""

    alpha: jax.Array
    beta: jax.Array
    lower: jax.Array
    upper: jax.Array


class _Signs(NamedTuple):
    """What may become of a place, `[2n + 2]` bool.

    Attributes:
      moves: whether it may change.
      kept: whether it may not be negative.
    """

    moves: jax.Array
    kept: jax.Array


class _State(NamedTuple):
    """Where the search is; `held` at 0, and whether the next step knows second derivatives."""

    place: jax.Array
    loss: jax.Array
    damping: jax.Array
    held: jax.Array
    bent: jax.Array


def best_in_order(
    problem: Problem, apart: Start, present: jax.Array, *, fits_limits: bool
) -> tuple[Minimum, jax.Array]:
    """The best curves of a board in its order.

    Args:
      problem: the models, efforts not centered; with fitted limits, `low` and `high` are the
        bounds of these.
      apart: the best curves of each model for itself, or where limits are fitted of the group.
      present: `[n]` bool: which models have curves. They come first, and the others are nowhere.
      fits_limits: whether the limits are fitted.

    Returns:
      The curves, and `[2, n]` bool: whether α and β of a model are held at those of the one before.
    """
    n = present.size
    drops = present & (jnp.arange(n) > 0)
    limits = jnp.full(2, fits_limits)
    signs = _Signs(
        moves=jnp.concatenate([present, present, limits]),
        kept=jnp.concatenate([drops, drops, limits]),
    )

    def from_node(limits):
        at = dataclasses.replace(problem, low=limits[0], high=limits[1])
        curves = jax.vmap(at.best_curve)(*start(at)[:2])
        losses = jax.vmap(at.total)(curves)
        level, rate = (jnp.where(losses[0] <= losses[1], *x) for x in (curves.level, curves.rate))
        return Start(level, rate, *limits)

    starts = [apart, _tamed(problem, apart), _alike(apart, present)]
    starts = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    if fits_limits:
        board = jnp.zeros(n, jnp.int32)
        others = jax.lax.map(from_node, limits_to_try(problem, board))
        starts = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), starts, others)
    found = jax.lax.map(lambda first: _descend(problem, first, signs), starts)
    losses = jnp.where(jnp.isnan(found.loss), jnp.inf, found.loss)
    best = jax.tree.map(lambda x: x[jnp.argmin(losses)], found)
    place = jnp.where(signs.kept, jnp.maximum(best.place, 0), best.place)
    return _summarize(problem, place, signs, present)


def _tamed(problem: Problem, apart: Start) -> Start:
    """The same curves without jumps: one that fits a model well leads its neighbours astray."""
    there = (problem.points.weight > 0).astype(apart.alpha.dtype)
    center = jnp.sum(problem.points.effort * there, axis=0) / jnp.maximum(jnp.sum(there, axis=0), 1)
    level = jnp.clip(apart.alpha + apart.beta * center, -_TAME, _TAME)
    beta = jnp.clip(apart.beta, -_SLOW, _SLOW)
    return apart._replace(alpha=level - beta * center, beta=beta)


def _alike(apart: Start, present: jax.Array) -> Start:
    """All curves alike, with the means of α and β."""
    count = jnp.maximum(jnp.sum(present), 1).astype(apart.alpha.dtype)
    alpha, beta = (
        jnp.broadcast_to(jnp.sum(jnp.where(present, x, 0)) / count, x.shape)
        for x in (apart.alpha, apart.beta)
    )
    return apart._replace(alpha=alpha, beta=beta)


def _place(problem: Problem, first: Start, signs: _Signs) -> jax.Array:
    """The place of curves; what may not be negative is so where they are out of order."""
    drops = [jnp.concatenate([x[:1], x[:-1] - x[1:]]) for x in (first.alpha, first.beta)]
    inside = [first.lower[:1] - problem.low[:1], problem.high[:1] - first.upper[:1]]
    return jnp.where(signs.moves, jnp.concatenate([*drops, *inside]), 0)


def _curve(problem: Problem, place: jax.Array) -> Curve:
    """The curves of a place, tied exactly where a drop is 0."""
    n = (place.size - 2) // 2

    def values(drops):
        # Sums of the same terms, but for the last: equal where that is 0, else in order.
        index = jnp.arange(n)
        above = (index[None] <= index[:, None]) & (index[None] > 0)
        return drops[:1] - jnp.sum(jnp.where(above, drops[None], 0), axis=-1)

    lower, upper = problem.low + place[-2], problem.high - place[-1]
    return problem.curve(values(place[:n]), values(place[n : 2 * n]), lower, upper)


def _below(values: jax.Array) -> jax.Array:
    """Sums over each model and all weaker ones, `[..., n]`."""
    index = jnp.arange(values.shape[-1])
    weaker = index[None] >= index[:, None]
    weaker = weaker.reshape(*[1] * (values.ndim - 1), *weaker.shape)
    return jnp.sum(jnp.where(weaker, values[..., None, :], 0), axis=-1)


def _by_drops(values: jax.Array) -> jax.Array:
    """Derivatives in the drops, `[..., n]`, of those in the values."""
    below = _below(values)
    return jnp.concatenate([below[..., :1], -below[..., 1:]], axis=-1)


def _by_place(pull: jax.Array) -> jax.Array:
    """`[2n + 2]` derivatives in the place of those in the curves, `[4, n]`."""
    inside = jnp.stack([jnp.sum(pull[2]), -jnp.sum(pull[3])])
    return jnp.concatenate([*_by_drops(pull[:2]), inside])


def _by_places(matrix: jax.Array) -> jax.Array:
    """`[2n + 2, 2n + 2]` second derivatives in the place of those in the curves, `[4, 4, n]`."""
    n = matrix.shape[-1]
    index = jnp.arange(n)
    sign = jnp.where(index > 0, -1, 1).astype(matrix.dtype)
    below = _below(matrix[:2, :2])
    # A drop moves its model and all weaker ones, two drops both those below the weaker of them.
    weaker = jnp.maximum(index[:, None], index[None])
    drops = below[:, :, weaker] * (sign[:, None] * sign[None])[None, None]
    square = jnp.moveaxis(drops, 1, 2).reshape(2 * n, 2 * n)
    turn = jnp.asarray([1, -1], matrix.dtype)
    aside = jnp.moveaxis(_by_drops(matrix[:2, 2:]), 1, 2).reshape(2 * n, 2) * turn[None]
    corner = jnp.sum(matrix[2:, 2:], axis=-1) * (turn[:, None] * turn[None])
    return jnp.block([[square, aside], [aside.T, corner]])


def _within(
    matrix: jax.Array, force: jax.Array, room: jax.Array, signs: _Signs, held: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The step d that minimises d·matrix·d/2 − force·d with d ≥ −room where signs are kept.

    Args:
      matrix: `[m, m]`, positive definite; the step is NaN where it is not.
      force: `[m]`.
      room: `[m]` how far each coordinate may fall; negative where it has to rise.
      signs: what moves, and how far.
      held: `[m]` bool: what may be held at its bound, to begin with.

    Returns:
      The step, and what is held at its bound.
    """
    size = jnp.diagonal(matrix)
    moves = signs.moves & (size != 0)
    unit = 1 / jnp.sqrt(jnp.where(moves, jnp.abs(size), 1))
    matrix, force = matrix * (unit[:, None] * unit[None]), force * unit
    bound = jnp.where(signs.kept & moves, -room / unit, 0)
    least = jnp.where(signs.kept, bound, -jnp.inf)
    ridge = 8 * jnp.finfo(matrix.dtype).eps

    def solved(held):
        both = ~held[:, None] & ~held[None]
        system = jnp.where(both, matrix, 0) + jnp.diag(jnp.where(held, 1, ridge))
        known = jnp.where(held, bound, 0)
        target = jnp.where(held, 0, force - _times(matrix, known))
        factor = jax.scipy.linalg.cho_factor(system, lower=True)
        return jnp.where(held, bound, jax.scipy.linalg.cho_solve(factor, target))

    def look(_, held):
        step = solved(held)
        push = _times(matrix, step) - force
        return ~moves | jnp.where(held, push > 0, step < least)

    held = jax.lax.fori_loop(0, _ROUNDS, look, held | ~moves)
    step = jnp.maximum(solved(held), least) * unit
    return jnp.where(moves, step, 0), held & moves


def _moved(place: jax.Array, step: jax.Array, held: jax.Array, signs: _Signs) -> jax.Array:
    """The place after a step, exactly 0 where held."""
    moved = place + step
    moved = jnp.where(signs.kept, jnp.where(held, 0, jnp.maximum(moved, 0)), moved)
    return jnp.where(signs.moves, moved, place)


def _descend(problem: Problem, first: Start, signs: _Signs) -> _State:
    """Damped Newton steps from the curves in order that are next to some.

    The first step goes there, by the metric of the points, and knows no slope.
    """
    apart = APART * (problem.high[0] - problem.low[0])

    def ridge_of(curve, found: Derivatives):
        floor = least_precision(problem, problem.total(curve))
        return jnp.diag(jnp.abs(_by_place(diagonal(found.gauss_newton) + floor)))

    def step(state, _):
        curve = _curve(problem, state.place)
        found = derivatives(problem, curve)
        matrix = _by_places(jnp.where(state.bent, found.newton, found.gauss_newton))
        matrix += state.damping * ridge_of(curve, found)
        force = jnp.where(jnp.isinf(state.loss), 0, _by_place(found.pull))
        step, held = _within(matrix, force, state.place, signs, state.held)
        place = _moved(state.place, step, held, signs)
        trial = _curve(problem, place)
        loss = jnp.sum(problem.total(trial))
        better = (loss < state.loss) & (trial.upper[0] - trial.lower[0] >= apart)
        # Where the Hessian is no minimum's, once more by Gauss-Newton before damping more.
        damping = next_damping(state.damping, better)
        damping = jnp.where(state.bent & ~better, state.damping, damping)
        stays = (state.place, state.loss, state.held)
        place, loss, held = jax.tree.map(
            lambda x, y: jnp.where(better, x, y), (place, loss, held), stays
        )
        return _State(place, loss, damping, held, better), None

    one = jnp.ones((), problem.low.dtype)
    state = _State(
        place=_place(problem, first, signs),
        loss=jnp.inf * one,
        damping=FIRST_DAMPING * one,
        held=jnp.zeros(signs.moves.shape, bool),
        bent=jnp.zeros((), bool),
    )
    return jax.lax.scan(step, state, length=_STEPS)[0]


def _summarize(
    problem: Problem, place: jax.Array, signs: _Signs, present: jax.Array
) -> tuple[Minimum, jax.Array]:
    """What is to be reported of the place that the search has ended at."""
    n = present.size
    curve = _curve(problem, place)
    losses = problem.total(curve)
    loss = jnp.sum(losses)
    tied = (signs.kept & (place == 0))[: 2 * n].reshape(2, n)
    steep = jnp.abs(curve.rate) >= STEEPEST
    inside = [jnp.broadcast_to(x > 0, steep.shape) for x in place[-2:]]
    fitted = jnp.stack([present, present & ~steep, *inside])

    gradient = problem.gradient(curve)
    gradient = jnp.where(fitted, gradient, 0)
    by_place = jnp.where(fitted[:, None], problem.slopes(curve), 0)
    fisher = products(problem.fisher_weight(curve), by_place)
    floor = jnp.where(
        jnp.eye(4, dtype=bool)[..., None], least_precision(problem, losses)[:, None], 0
    )
    moves = signs.moves & ~(signs.kept & (place == 0))
    matrices = jnp.stack([_by_places(fisher), _by_places(fisher + floor)])
    (covariance, reach), (_, magnified) = jax.vmap(lambda x: _covariance(x, moves))(matrices)
    # By how much the loss would still fall: where it moves now, and where it is held and need not.
    force = -_by_place(gradient) / 2
    fall = jnp.sum(force * (_times(reach, force)))
    loose = jnp.where(signs.moves & ~moves, jnp.maximum(force, 0), 0)
    size = jnp.diagonal(matrices[1])
    fall += jnp.sum(divide(loose**2, size))
    deviation = jnp.sqrt(jnp.maximum(_variances(covariance, n), 0))
    # Tied models have one value between them, which their points together know.
    index = jnp.arange(n)
    first = jnp.max(jnp.where(~tied[:, None] & (index <= index[:, None])[None], index, 0), axis=-1)

    def own(values):
        same = first[:, :, None] == first[:, None]
        return jnp.sum(jnp.where(same, values[:, None], 0), axis=-1)

    informed = own(diagonal(fisher)[:2]) > 0
    deviation = jnp.concatenate([jnp.where(informed, deviation[:2], jnp.inf), deviation[2:]])
    limits = jnp.broadcast_to(jnp.sum(gradient[2:], axis=1, keepdims=True), (2, n))
    gradient = jnp.concatenate([own(gradient[:2]), limits])

    points = jnp.sum(problem.points.weight > 0)
    degrees = points - 2 * jnp.sum(present) - jnp.sum(signs.moves[-2:])
    degrees = jnp.maximum(degrees, 1).astype(loss.dtype)
    rounding = jnp.sum(problem.rounding)
    enough = enough_left(loss, degrees, jnp.max(problem.noise), rounding, magnified)
    limits_free = signs.moves[-2:, None] | jnp.zeros((2, n), bool)
    found = Minimum(
        alpha=curve.level,
        beta=curve.rate,
        lower=curve.lower,
        upper=curve.upper,
        loss=losses,
        converged=jnp.broadcast_to(fall <= enough, steep.shape),
        at_bound=steep | jnp.any(limits_free & ~fitted[2:], axis=0),
        gradient=gradient,
        deviation=jnp.where(fitted, deviation, 0),
    )
    return found, tied


def _covariance(matrix: jax.Array, moves: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse of a precision matrix among what moves, 0 elsewhere, and its scale of rounding."""
    size = jnp.diagonal(matrix)
    moves = moves & (size > 0)
    unit = jnp.where(moves, 1 / jnp.sqrt(jnp.where(moves, size, 1)), 0)
    is_diagonal = jnp.eye(len(size), dtype=bool)
    ridge = 1 + 8 * jnp.finfo(matrix.dtype).eps
    system = jnp.where(is_diagonal, ridge, matrix * (unit[:, None] * unit[None]))
    factor = jax.scipy.linalg.cho_factor(system, lower=True)
    inverse = jax.scipy.linalg.cho_solve(factor, jnp.eye(len(size), dtype=matrix.dtype))
    magnified = jnp.sum(jnp.where(moves, jnp.diagonal(inverse), 0))
    return inverse * (unit[:, None] * unit[None]), magnified


def _variances(covariance: jax.Array, n: int) -> jax.Array:
    """`[4, n]` variances of α, β and the limits, of the covariance of the place."""
    index = jnp.arange(n)
    sign = jnp.where(index > 0, -1, 1)[None]
    by_drops = jnp.where(index[None] <= index[:, None], sign, 0).astype(covariance.dtype)

    def of_values(block):
        return jnp.sum(_times(by_drops, block) * by_drops, axis=1)

    alpha, beta = (of_values(covariance[k : k + n, k : k + n]) for k in (0, n))
    limits = jnp.diagonal(covariance)[-2:, None] * jnp.ones((1, n), covariance.dtype)
    return jnp.concatenate([jnp.stack([alpha, beta]), limits])
