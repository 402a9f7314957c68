"""Levenberg-Marquardt on the two parameters that variable projection leaves, many curves at once.

The matrix is the Hessian in (level, rate) with the limits at their best for each place, in the
metric of the loss's curvature at the points; Gauss-Newton's where that is no minimum's. Both know
the box of the limits: where a step would leave it, the next is worked out with the limit at its
bound, for the loss has a kink where a limit reaches it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tbtjax.measure._minimize import Curve, Problem, divide, least_precision

#: Steps from a start of the grid: more change hardly any fit.
_STEPS = 30
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


def descend(problem: Problem, level: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Damped Newton steps from (level, rate), `[curves]`, each of which lowers the loss."""

    def step(state, _):
        by_level, by_rate = _step(problem, state)
        curve = state.curve
        trial = problem.best_curve(curve.level + by_level, curve.rate + by_rate)
        trial_loss = problem.total(trial)
        better = trial_loss < state.loss
        now, then = _limits(curve), _limits(trial)
        # After a step that ran into a bound, once more with the limit held there.
        first_try = jnp.all(state.aim == now, axis=0)
        bounded = jnp.any(_at_bound(problem, then) & ~_at_bound(problem, now), axis=0)
        again = ~better & first_try & bounded
        damping = jnp.where(again, state.damping, next_damping(state.damping, better))
        curve = jax.tree.map(
            lambda x, y: jnp.where(better if x.ndim == 1 else better[None], x, y), trial, curve
        )
        loss = jnp.where(better, trial_loss, state.loss)
        aim = jnp.where((better | again)[None], then, now)
        return _State(curve, loss, damping, aim), None

    first = problem.best_curve(level, rate)
    state = _State(first, problem.total(first), jnp.full_like(level, FIRST_DAMPING), _limits(first))
    state, _ = jax.lax.scan(step, state, length=_STEPS)
    return state.curve.level, state.curve.rate


def next_damping(damping: jax.Array, better: jax.Array) -> jax.Array:
    """The damping after a step that was `better`, or was not."""
    return jnp.clip(damping * jnp.where(better, _EASED, _TIGHTENED), _LEAST, _MOST)


def _limits(curve: Curve) -> jax.Array:
    return jnp.stack([curve.lower, curve.upper])


def _at_bound(problem: Problem, limits: jax.Array) -> jax.Array:
    return (limits <= problem.low[None]) | (limits >= problem.high[None])


def _step(problem: Problem, state: _State) -> tuple[jax.Array, jax.Array]:
    """The step in (level, rate)."""
    points, curve, damping = problem.points, state.curve, state.damping
    weight, error = problem.curvature(curve), problem.pull(curve)
    steepness = curve.rise * curve.fall
    span = (curve.upper - curve.lower)[None]
    slopes = span * steepness, span * steepness * points.effort
    if problem.free:
        held = _at_bound(problem, state.aim)
        moved = jnp.where(held, state.aim - _limits(curve), 0)
        error -= weight * (moved[0][None] * curve.fall + moved[1][None] * curve.rise)
    gradient = [jnp.sum(x * error, axis=0) for x in slopes]
    first, second = slopes
    pairs = [(first, first), (first, second), (second, second)]
    gauss_newton = [jnp.sum(weight * x * y, axis=0) for x, y in pairs]
    # Less the second derivatives of the curve: many measured curves are far from their family.
    bend = error * span * steepness * (curve.fall - curve.rise)
    powers = [jnp.ones_like(bend), points.effort, points.effort**2]
    newton = [x - jnp.sum(bend * y, axis=0) for x, y in zip(gauss_newton, powers, strict=True)]
    if problem.free:
        for basis, by_level in _bases(curve, weight, held):
            norm = jnp.sum(weight * basis**2, axis=0)
            push = divide(jnp.sum(basis * error, axis=0), norm)
            pulls = [jnp.sum(weight * x * basis, axis=0) for x in slopes]
            gradient = [x - y * push for x, y in zip(gradient, pulls, strict=True)]
            gauss_newton = _without(gauss_newton, pulls, norm)
            turn = error * by_level
            pulls = [x - jnp.sum(turn * y, axis=0) for x, y in zip(pulls, powers[:2], strict=True)]
            newton = _without(newton, pulls, norm)
    floor = least_precision(problem, curve)
    ridge = [
        damping * (jnp.maximum(x, 0) + y) for x, y in zip(gauss_newton[::2], floor[:2], strict=True)
    ]

    def determinant(matrix):
        return (matrix[0] + ridge[0]) * (matrix[2] + ridge[1]) - matrix[1] ** 2

    sound = (newton[0] + ridge[0] > 0) & (determinant(newton) > 0)
    a, b, c = (jnp.where(sound, x, y) for x, y in zip(newton, gauss_newton, strict=True))
    size = determinant((a, b, c))
    return (
        divide((c + ridge[1]) * gradient[0] - b * gradient[1], size),
        divide((a + ridge[0]) * gradient[1] - b * gradient[0], size),
    )


def _without(matrix: list[jax.Array], pulls: list[jax.Array], norm: jax.Array) -> list[jax.Array]:
    """The matrix in (level, rate), as its three entries, once a third unknown is at its best."""
    first, second = pulls
    products = [first * first, first * second, second * second]
    return [x - divide(y, norm) for x, y in zip(matrix, products, strict=True)]


def _bases(
    curve: Curve, weight: jax.Array, held: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """What the limits not held can add to the score, and its derivatives in the level.

    Two functions of the points, orthogonal in the metric of the weights; 0 where there is none.
    """
    lower, upper = ~held[0][None], ~held[1][None]
    both = lower & upper
    mean = divide(jnp.sum(weight * curve.rise, axis=0), jnp.sum(weight, axis=0))
    steepness = curve.rise * curve.fall
    # With both free their span is that of 1 and of σ less its mean.
    one = jnp.where(lower, curve.fall, jnp.where(upper, curve.rise, 0))
    by_level = jnp.where(lower, -steepness, jnp.where(upper, steepness, 0))
    return (
        (jnp.where(both, 1, one), jnp.where(both, 0, by_level)),
        (jnp.where(both, curve.rise - mean[None], 0), jnp.where(both, steepness, 0)),
    )
