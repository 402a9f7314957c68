"""Levenberg-Marquardt on the two parameters that variable projection leaves, many curves at once.

The matrix is the Hessian in (level, rate) with the limits at their best for each place, in the
metric of the loss's curvature at the points; Gauss-Newton's where that is no minimum's. Both know
the box of the limits: where a step would leave it, the next is worked out with the limit at its
bound, for the loss has a kink where a limit reaches it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tbtjax.measure._minimize import Curve, Problem, unsettled
from tbtjax.measure._precision import least_precision
from tbtjax.measure._queue import Ends
from tbtjax.measure._sums import divide, sigmoids

#: Steps from a start of the grid, the look at the start included: more change hardly any fit.
STEPS: int = 31
#: Damping relative to the diagonal: where it starts, its least and most, and how it changes.
FIRST_DAMPING = 1e-2
_LEAST, _MOST, _EASED, _TIGHTENED = 1e-8, 1e8, 0.1, 4.0


class _State(NamedTuple):
    """Where the search is; `aim` are the limits, `[2, curves]`, the next step is to end with.

    A limit whose aim is a bound is held there; others are at their best.
    """

    curve: Curve
    loss: jax.Array
    damping: jax.Array
    aim: jax.Array


def begin(problem: Problem, level: jax.Array, rate: jax.Array) -> _State:
    """Where searches start, `[curves]`; their first step looks what the loss is there."""
    unknown = jnp.zeros_like(problem.points.effort)
    curve = Curve(level, rate, problem.low, problem.high, unknown, unknown)
    loss, damping = jnp.full_like(level, jnp.inf), jnp.full_like(level, FIRST_DAMPING)
    return _State(curve, loss, damping, _limits(curve))


def step(problem: Problem, state: _State, is_open: jax.Array) -> tuple[_State, jax.Array]:
    """A damped Newton step, taken where it lowers the loss, and which curves may fall further."""
    curve = state.curve
    is_first = jnp.isinf(state.loss)
    by_place, fall = _step(problem, state)
    by_level, by_rate = (jnp.where(is_first, 0, x) for x in by_place)
    trial = problem.best_curve(curve.level + by_level, curve.rate + by_rate)
    trial_loss = problem.total(trial)
    better = is_open & (trial_loss < state.loss)
    now, then = _limits(curve), _limits(trial)
    # After a step that ran into a bound, once more with the limit held there.
    first_try = jnp.all(state.aim == now, axis=0)
    bounded = jnp.any(_at_bound(problem, then) & ~_at_bound(problem, now), axis=0)
    again = ~better & first_try & bounded
    damping = next_damping(state.damping, better)
    # A damping that has sunk far below the first is not raised little by little.
    damping = jnp.where(better, damping, jnp.maximum(damping, FIRST_DAMPING))
    damping = jnp.where(again | is_first, state.damping, damping)
    curve = jax.tree.map(
        lambda x, y: jnp.where(better if x.ndim == 1 else better[None], x, y), trial, curve
    )
    loss = jnp.where(better, trial_loss, state.loss)
    aim = jnp.where((better | again)[None], then, now)
    # What damping holds back may still fall far.
    free = state.damping <= FIRST_DAMPING
    held_back = ~free & (state.damping < _MOST)
    may_fall = again | held_back | unsettled(problem, fall, loss, better)
    return _State(curve, loss, damping, aim), is_first | may_fall


def ends(state: _State) -> Ends:
    """Where the searches are."""
    level, rate, lower, upper, *_ = state.curve
    return Ends(level, rate, lower, upper, state.loss)


def next_damping(damping: jax.Array, better: jax.Array) -> jax.Array:
    """The damping after a step that was `better`, or was not."""
    return jnp.clip(damping * jnp.where(better, _EASED, _TIGHTENED), _LEAST, _MOST)


def _limits(curve: Curve) -> jax.Array:
    return jnp.stack([curve.lower, curve.upper])


def _at_bound(problem: Problem, limits: jax.Array) -> jax.Array:
    return (limits <= problem.low[None]) | (limits >= problem.high[None])


def _step(problem: Problem, state: _State) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """The step in (level, rate), and by how much the loss falls by the model that it is of."""
    points, curve, damping = problem.points, state.curve, state.damping
    weight, error = problem.curvature(curve), problem.pull(curve)
    steepness = curve.rise * curve.fall
    span = curve.upper - curve.lower
    if problem.free:
        held = _at_bound(problem, state.aim)
        moved = jnp.where(held, state.aim - _limits(curve), 0)
        # A limit moves all the way, and level and rate with it: damping may not hold them back.
        goes = jnp.any(moved != 0, axis=0)
        damping = jnp.where(goes, jnp.minimum(damping, FIRST_DAMPING), damping)
        error -= weight * (moved[0][None] * curve.fall + moved[1][None] * curve.rise)

    def by_powers(values, highest):
        """Sums over the points of values·effort^k, k up to the highest."""
        found = [jnp.sum(values, axis=0)]
        for _ in range(highest):
            values = values * points.effort
            found.append(jnp.sum(values, axis=0))
        return found

    turns = by_powers(error * steepness, 1)
    gradient = [span * x for x in turns]
    weighted = weight * steepness
    gauss_newton = [span**2 * x for x in by_powers(weighted * steepness, 2)]
    # Less the second derivatives of the curve: many measured curves are far from their family.
    bends = by_powers(error * steepness * (curve.fall - curve.rise), 2)
    newton = [x - span * y for x, y in zip(gauss_newton, bends, strict=True)]
    if problem.free:
        # Limits add combinations of 1 and of the sigmoid, here less its value at mean effort.
        middle, beyond = sigmoids(curve.level)
        offset = curve.rise - middle[None]
        norms = [jnp.sum(weight * x, axis=0) for x in (jnp.ones_like(offset), offset, offset**2)]
        pushes = [jnp.sum(error, axis=0), jnp.sum(error * offset, axis=0)]
        pulls = [
            (span * x, span * y)
            for x, y in zip(by_powers(weighted, 1), by_powers(weighted * offset, 1), strict=True)
        ]
        for one, other in _bases(norms, middle, beyond, held):
            norm = one**2 * norms[0] + 2 * one * other * norms[1] + other**2 * norms[2]
            push = divide(one * pushes[0] + other * pushes[1], norm)
            pull = [one * x + other * y for x, y in pulls]
            gradient = [x - y * push for x, y in zip(gradient, pull, strict=True)]
            gauss_newton = _without(gauss_newton, pull, norm)
            pull = [x - other * y for x, y in zip(pull, turns, strict=True)]
            newton = _without(newton, pull, norm)
    floor = least_precision(problem, state.loss)
    ridge = [
        damping * (jnp.maximum(x, 0) + y) for x, y in zip(gauss_newton[::2], floor[:2], strict=True)
    ]

    def determinant(matrix):
        return (matrix[0] + ridge[0]) * (matrix[2] + ridge[1]) - matrix[1] ** 2

    sound = (newton[0] + ridge[0] > 0) & (determinant(newton) > 0)
    a, b, c = (jnp.where(sound, x, y) for x, y in zip(newton, gauss_newton, strict=True))
    size = determinant((a, b, c))
    step = (
        divide((c + ridge[1]) * gradient[0] - b * gradient[1], size),
        divide((a + ridge[0]) * gradient[1] - b * gradient[0], size),
    )
    return step, gradient[0] * step[0] + gradient[1] * step[1]


def _without(matrix: list[jax.Array], pulls: list[jax.Array], norm: jax.Array) -> list[jax.Array]:
    """The matrix in (level, rate), as its three entries, once a third unknown is at its best."""
    first, second = pulls
    products = [first * first, first * second, second * second]
    return [x - divide(y, norm) for x, y in zip(matrix, products, strict=True)]


def _bases(
    norms: list[jax.Array], middle: jax.Array, beyond: jax.Array, held: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """What the limits not held can add to the score: multiples of 1 and of the offset of σ.

    Two such functions of the points, orthogonal in the metric of the weights; 0 where there is
    none.

    Args:
      norms: sums over the points of weight·offset^k, k = 0, 1, 2.
      middle: σ less its offset.
      beyond: 1 − middle.
      held: `[2, curves]` bool: whether lower and upper limit are.
    """
    lower, upper = ~held
    both, one = lower & upper, jnp.ones_like(middle)
    fall, rise = (beyond, -one), (middle, one)
    first, second = (one, 0 * one), (-divide(norms[1], norms[0]), one)
    one_alone = [
        jnp.where(both, x, jnp.where(lower, y, jnp.where(upper, z, 0)))
        for x, y, z in zip(first, fall, rise, strict=True)
    ]
    other = [jnp.where(both, x, 0) for x in second]
    return (one_alone[0], one_alone[1]), (other[0], other[1])
