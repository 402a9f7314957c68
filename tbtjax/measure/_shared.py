"""Limits shared by groups of curves: Levenberg-Marquardt on all unknowns of each group.

A curve has a level and a rate of its own, the limits are the group's. Given a step of the limits,
those of the curves follow one by one, so that each step is a problem in two unknowns, which is
solved within their box. Starts: the curves' best for limits from a small grid.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tbtjax.measure import _levenberg
from tbtjax.measure._joint import APART, derivatives, limits_to_try, over_groups, times
from tbtjax.measure._levenberg import FIRST_DAMPING, next_damping
from tbtjax.measure._minimize import STEEPEST, Curve, Problem
from tbtjax.measure._precision import diagonal, inverse_of_precision, least_precision, products
from tbtjax.measure._starts import best_from_starts
from tbtjax.measure._summary import Minimum, enough_left, held_back, minimum_at
from tbtjax.measure._sums import divide

#: Steps from a start, and how often starts are looked for anew at the best limits found.
_STEPS, _FURTHER = 20, 2


class _State(NamedTuple):
    """Where the search is; loss and damping are the groups'."""

    curve: Curve
    loss: jax.Array
    damping: jax.Array


class _Step(NamedTuple):
    """A system of a step, solved for the curves.

    Attributes:
      by_limits: `[2, 2, curves]` what level and rate lose per step of the limits.
      own: `[2, curves]` their step where the limits stay.
      matrix: `[2, 2, curves]` of what is left to minimise in the limits.
      force: `[2, curves]` minus its slope.
      sound: `[curves]` whether it has a minimum.
    """

    by_limits: jax.Array
    own: jax.Array
    matrix: jax.Array
    force: jax.Array
    sound: jax.Array


def best_of_groups(problem: Problem, center: jax.Array, group: jax.Array) -> Minimum:
    """The best curves of each group.

    Args:
      problem: the curves, with `low` and `high` the bounds of the limits, alike within a group.
      center: `[curves]` mean effort, which those of the points are relative to.
      group: `[curves]` numbers of the groups, below the number of curves.
    """

    def look(best, round):
        limits, is_first = round
        known = best[0]
        limits = jnp.where(is_first, limits, jnp.stack([known.lower, known.upper]))
        at = dataclasses.replace(problem, low=limits[0], high=limits[1])
        first = best_from_starts(_levenberg, at)
        # Once limits are known, what a curve has there may be the best it can have.
        is_better = is_first | (problem.total(first) < problem.total(known))
        found = _descend(problem, _chosen(is_better, first, known), group)
        return _chosen(found.loss < best[1], found[:2], best), None

    low, high = problem.low, problem.high
    none = problem.curve(jnp.zeros_like(low), jnp.zeros_like(low), low, high)
    nothing = (none, jnp.full_like(low, jnp.inf))
    limits = limits_to_try(problem, group)
    rounds = jnp.concatenate([limits, jnp.repeat(limits[:1], _FURTHER, axis=0)])
    is_first = jnp.arange(len(rounds)) < len(limits)
    (curve, _), _ = jax.lax.scan(look, nothing, (rounds, is_first))
    return _summarize(problem, curve, center, group)


def _chosen(where: jax.Array, new, old):
    """Of curves and what belongs to them, the new ones where `where`, `[curves]`."""
    return jax.tree.map(
        lambda x, y: jnp.where(where if x.ndim == 1 else where[None], x, y), new, old
    )


def _descend(problem: Problem, first: Curve, group: jax.Array) -> _State:
    """Damped Newton steps, each of which lowers the loss of the group."""
    apart = APART * (problem.high - problem.low)

    def loss_of(curve):
        return over_groups(problem.total(curve), group)

    def step(state, _):
        by_curve, by_limits = _step(problem, state, group)
        curve = state.curve
        lower, upper = _moved(problem, curve, by_limits)
        trial = problem.curve(curve.level + by_curve[0], curve.rate + by_curve[1], lower, upper)
        loss = loss_of(trial)
        better = (loss < state.loss) & (upper - lower >= apart)
        damping = next_damping(state.damping, better)
        curve, loss = _chosen(better, (trial, loss), (curve, state.loss))
        return _State(curve, loss, damping), None

    state = _State(first, loss_of(first), jnp.full_like(first.level, FIRST_DAMPING))
    return jax.lax.scan(step, state, length=_STEPS)[0]


def _moved(problem: Problem, curve: Curve, by_limits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The limits after a step: exactly at a bound that it ends at."""
    lower, upper = curve.lower + by_limits[0], curve.upper + by_limits[1]
    lower = jnp.where(by_limits[0] <= problem.low - curve.lower, problem.low, lower)
    upper = jnp.where(by_limits[1] >= problem.high - curve.upper, problem.high, upper)
    return lower, upper


def _step(problem: Problem, state: _State, group: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The steps in level and rate, and in the limits, each `[2, curves]`."""
    curve, damping = state.curve, state.damping
    found = derivatives(problem, curve)
    size = diagonal(found.gauss_newton)
    own = damping[None] * (size[:2] + least_precision(problem, problem.total(curve))[:2])
    ridge = jnp.concatenate([own, damping[None] * over_groups(size[2:], group)])
    newton, gauss_newton = (
        _reduced(matrix, found.pull, ridge, group) for matrix in (found.newton, found.gauss_newton)
    )
    solved = jax.tree.map(
        lambda x, y: jnp.where(jnp.broadcast_to(newton.sound, x.shape), x, y), newton, gauss_newton
    )
    by_limits = _limits_within(
        solved.matrix, solved.force, problem.low - curve.lower, problem.high - curve.upper
    )
    return solved.own - times(solved.by_limits, by_limits[:, None])[:, 0], by_limits


def _reduced(matrix: jax.Array, pull: jax.Array, ridge: jax.Array, group: jax.Array) -> _Step:
    """The system with level and rate of each curve solved for."""
    a, b, c = matrix[0, 0] + ridge[0], matrix[0, 1], matrix[1, 1] + ridge[1]
    size = a * c - b**2
    # A curve that no point tells anything of goes nowhere.
    sound = ((a > 0) & (size > 0)) | (ridge[0] <= 0)
    inverse = divide(jnp.stack([jnp.stack([c, -b]), jnp.stack([-b, a])]), size[None, None])
    coupling = matrix[:2, 2:]
    by_limits, own = times(inverse, coupling), times(inverse, pull[:2, None])[:, 0]
    turned = jnp.swapaxes(coupling, 0, 1)
    left = over_groups(matrix[2:, 2:] - times(turned, by_limits), group)
    force = over_groups(pull[2:] - times(turned, own[:, None])[:, 0], group)
    left += jnp.where(jnp.eye(2, dtype=bool)[..., None], ridge[2:, None], 0)
    size = left[0, 0] * left[1, 1] - left[0, 1] ** 2
    unsound = over_groups((~sound).astype(left.dtype), group) > 0
    return _Step(by_limits, own, left, force, (left[0, 0] > 0) & (size > 0) & ~unsound)


def _limits_within(
    matrix: jax.Array, force: jax.Array, down: jax.Array, up: jax.Array
) -> jax.Array:
    """The steps d of the limits, `[2, curves]`, that minimise d·matrix·d/2 − force·d in their box.

    A convex problem: its free solution where that is inside, else the better of two edges.

    Args:
      matrix: `[2, 2, curves]`.
      force: `[2, curves]`.
      down: `[curves]` least step of the lower limit, ≤ 0.
      up: `[curves]` largest step of the upper limit, ≥ 0.
    """
    a, b, c = matrix[0, 0], matrix[0, 1], matrix[1, 1]
    size = a * c - b**2
    free = (divide(c * force[0] - b * force[1], size), divide(a * force[1] - b * force[0], size))
    at_low = (down, jnp.minimum(up, divide(force[1] - b * down, c)))
    at_high = (jnp.maximum(down, divide(force[0] - b * up, a)), up)

    def value(x, y):
        return (a * x**2 + 2 * b * x * y + c * y**2) / 2 - force[0] * x - force[1] * y

    inside = (free[0] >= down) & (free[1] <= up)
    low_is_better = value(*at_low) < value(*at_high)
    edge = [jnp.where(low_is_better, x, y) for x, y in zip(at_low, at_high, strict=True)]
    return jnp.stack([jnp.where(inside, x, y) for x, y in zip(free, edge, strict=True)])


def _summarize(problem: Problem, curve: Curve, center: jax.Array, group: jax.Array) -> Minimum:
    """What is to be reported of the curves that the search has ended at."""
    total = functools.partial(over_groups, group=group)
    loss = problem.total(curve)
    fitted = jnp.stack(
        [
            jnp.ones(loss.shape, bool),
            jnp.abs(curve.rate) < STEEPEST,
            curve.lower > problem.low,
            curve.upper < problem.high,
        ]
    )
    gradient = problem.gradient(curve)
    gradient = jnp.concatenate([gradient[:2], total(gradient[2:])])
    gradient = jnp.where(fitted, gradient, 0)
    weight = problem.fisher_weight(curve)
    by_place = jnp.where(fitted[:, None], problem.slopes(curve), 0)
    matrix = products(weight, by_place)
    eps = jnp.finfo(loss.dtype).eps
    here = jnp.stack([curve.lower, curve.upper])
    down, up = problem.low[None] - here, problem.high[None] - here

    def solved(least):
        """Covariance of level and rate, `[2, 2, curves]`, variance of the limits, the fall left."""
        is_diagonal = jnp.eye(2, dtype=bool)[..., None]
        inverse, roots = inverse_of_precision(
            matrix[:2, :2] + jnp.where(is_diagonal, least[:2, None], 0)
        )
        by_limits = times(inverse, matrix[:2, 2:])
        # A sum of squares keeps digits that the difference of matrices would lose.
        rest = by_place[2:] - jnp.sum(by_place[:2, None] * by_limits[:, :, None], axis=0)
        left = products(weight, rest)
        left += jnp.sum(least[:2, None, None] * by_limits[:, :, None] * by_limits[:, None], axis=0)
        limits, limit_roots = inverse_of_precision(total(left))
        known = limit_roots**2 > 8 * eps * total(diagonal(matrix)[2:])
        turned = jnp.swapaxes(by_limits, 0, 1)
        covariance = inverse + times(times(by_limits, limits), turned)
        force = gradient[2:] - total(times(turned, gradient[:2, None])[:, 0])
        own = jnp.sum(gradient[:2, None] * inverse * gradient[None, :2], axis=(0, 1))
        step = -times(limits, force[:, None])[:, 0] / 2
        shared = -jnp.sum(force * step, axis=0) / 2 - held_back(step, limits, down, up)
        magnified = total(jnp.sum(roots**2 * diagonal(inverse), axis=0))
        magnified += jnp.sum(limit_roots**2 * diagonal(limits), axis=0)
        informed = jnp.concatenate([roots > 0, known])
        return covariance, diagonal(limits), informed, total(own) / 4 + shared, magnified

    precisions = least_precision(problem, loss)
    covariance, limits, informed, left, magnified = jax.vmap(solved)(
        jnp.stack([jnp.zeros_like(precisions), precisions])
    )
    # From (level, rate) to (alpha, beta): alpha = level − x̄·rate.
    by_rate = covariance[0, 1, 1]
    by_level = covariance[0, 0, 0] + center * (center * by_rate - 2 * covariance[0, 0, 1])
    variance = jnp.concatenate([jnp.stack([by_level, by_rate]), limits[0]])
    deviation = jnp.where(informed[0], jnp.sqrt(jnp.maximum(variance, 0)), jnp.inf)
    there = (problem.points.weight > 0).astype(loss.dtype)
    points, present = jnp.sum(there, axis=0), jnp.any(there > 0, axis=0).astype(loss.dtype)
    degrees = jnp.maximum(total(points - 2 * present) - 2, 1)
    rounding = total(problem.rounding)
    enough = enough_left(total(loss), degrees, problem.noise, rounding, magnified[1])
    return minimum_at(
        curve,
        center,
        fitted,
        gradient,
        deviation,
        loss=loss,
        converged=left[1] <= enough,
        at_bound=~jnp.all(fitted, axis=0),
    )
