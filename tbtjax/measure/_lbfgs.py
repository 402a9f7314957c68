"""L-BFGS (Optax) on the two parameters that variable projection leaves, many curves at once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tbtjax.measure._minimize import Problem, indistinct, unsettled
from tbtjax.measure._precision import covariance_at, least_precision
from tbtjax.measure._queue import Ends
from tbtjax.measure._sums import divide

#: The most places looked at.
STEPS: int = 60
#: Pairs of differences remembered: two parameters need few.
_MEMORY = 4
#: A step is taken where the loss falls by this share of what its slope promises. One that is not is
#: shortened, to where the loss should be least, within these bounds; once it is shorter than the
#: last of them, the memory is given up.
_SUFFICIENT, _SHORTEST, _LONGEST, _HOPELESS = 1e-4, 0.1, 0.9, 1e-3

#: In whitened coordinates the identity is the right matrix to begin with.
_OPTIMIZER = optax.scale_by_lbfgs(memory_size=_MEMORY, scale_init_precond=False)


class _Frame(NamedTuple):
    """Coordinates in which the Hessian at the start is about the identity, each `[curves]`."""

    level: jax.Array
    rate: jax.Array
    level_by_first: jax.Array
    rate_by_first: jax.Array
    rate_by_second: jax.Array

    def parameters(self, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Level and rate at a place `[2, curves]`."""
        first, second = place
        rate = self.rate + self.rate_by_first * first + self.rate_by_second * second
        return self.level + self.level_by_first * first, rate

    def by_place(self, by_level: jax.Array, by_rate: jax.Array) -> jax.Array:
        """`[2, curves]` derivatives in the place."""
        first = self.level_by_first * by_level + self.rate_by_first * by_rate
        return jnp.stack([first, self.rate_by_second * by_rate])


class _State(NamedTuple):
    """Where the search is; `size` is the share of the next step that is tried."""

    frame: _Frame
    place: jax.Array
    loss: jax.Array
    gradient: jax.Array
    limits: jax.Array
    size: jax.Array
    memory: Any


def begin(problem: Problem, level: jax.Array, rate: jax.Array) -> _State:
    """L-BFGS from (level, rate), `[curves]`, with steps shortened until the loss falls."""
    frame = _frame(problem, level, rate)
    place = jnp.stack([jnp.zeros_like(level), jnp.zeros_like(rate)])
    # Optax mixes dtypes of counters and of weights, which a caller may have forbidden.
    with jax.numpy_dtype_promotion("standard"):
        memory = jax.vmap(_OPTIMIZER.init, in_axes=-1, out_axes=-1)(place)
    loss, gradient, limits = _looked_at(problem, frame, place)
    return _State(frame, place, loss, gradient, limits, jnp.ones_like(level), memory)


def ends(state: _State) -> Ends:
    """Where the searches are."""
    level, rate = state.frame.parameters(state.place)
    return Ends(level, rate, state.limits[0], state.limits[1], state.loss)


def _frame(problem: Problem, level: jax.Array, rate: jax.Array) -> _Frame:
    """Whitened by the inverse of half the Hessian, so that a step of 1 is right at first."""
    curve = problem.best_curve(level, rate)
    reach, _ = covariance_at(problem, curve, least_precision(problem, problem.total(curve)))
    covariance = reach / 2
    tiny = jnp.finfo(level.dtype).tiny
    first = jnp.sqrt(jnp.maximum(covariance[0, 0], tiny))
    mixed = covariance[0, 1] / first
    second = jnp.sqrt(jnp.maximum(covariance[1, 1] - mixed**2, tiny))
    return _Frame(level, rate, first, mixed, second)


def _looked_at(
    problem: Problem, frame: _Frame, place: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Loss, `[curves]`, its gradient and the limits, `[2, curves]`, at a place.

    At their best the limits do not count in the gradient, to first order.
    """
    curve = problem.best_curve(*frame.parameters(place))
    pull = (curve.upper - curve.lower)[None] * curve.rise * curve.fall * problem.pull(curve)
    by_rate = -2 * jnp.sum(pull * problem.points.effort, axis=0)
    by_rate = jnp.where(problem.fitted(curve)[1], by_rate, 0)
    gradient = frame.by_place(-2 * jnp.sum(pull, axis=0), by_rate)
    return problem.total(curve), gradient, jnp.stack([curve.lower, curve.upper])


def step(problem: Problem, state: _State, is_open: jax.Array) -> tuple[_State, jax.Array]:
    """One place more, and which curves are open after it."""
    with jax.numpy_dtype_promotion("standard"):
        return _step(problem, state, is_open)


def _step(problem: Problem, state: _State, is_open: jax.Array) -> tuple[_State, jax.Array]:
    """One place more, and which curves are open after it."""
    frame, place, loss, gradient, limits, size, memory = state
    update = jax.vmap(_OPTIMIZER.update, in_axes=-1, out_axes=-1)
    direction, longer_memory = update(gradient, memory, place)
    # In 64-bit mode Optax weighs in float64, whatever it is given.
    direction = jnp.asarray(direction, place.dtype)
    slope = jnp.sum(gradient * direction, axis=0)
    is_fresh = memory.count == 0
    usable = is_open & (slope > 0) & (is_fresh | (size > _HOPELESS))
    trial = place - size[None] * direction
    trial_loss, trial_gradient, trial_limits = _looked_at(problem, frame, trial)
    promised = size * slope
    falls = (trial_loss <= loss - _SUFFICIENT * promised) & (trial_loss < loss)
    # Where rounding hides a fall the gradient tells.
    levels = jnp.sum(trial_gradient**2, axis=0) < jnp.sum(gradient**2, axis=0) / 2
    better = usable & (falls | levels & (trial_loss <= loss + indistinct(problem, loss)))
    # A parabola, along which the slope changes by `bent`. Where it changes by more the loss bends
    # late, as beyond a limit's bound: first a line, then a parabola.
    bent = 2 * (trial_loss - loss + promised)
    change = promised - size * jnp.sum(trial_gradient * direction, axis=0)
    change = jnp.where(change > bent, change, bent)
    share = 1 - divide(bent, change) * (1 - divide(promised, change))
    shorter = jnp.where((bent > 0) & (share > _SHORTEST), jnp.minimum(share, _LONGEST), _SHORTEST)
    forgets = is_open & ~usable & ~is_fresh

    def chosen(new, old, first):
        new, old, first = (jnp.asarray(x, old.dtype) for x in (new, old, first))
        return jnp.where(better, new, jnp.where(forgets, first, old))

    first = jax.vmap(_OPTIMIZER.init, in_axes=-1, out_axes=-1)(place)
    state = _State(
        frame,
        jnp.where(better[None], trial, place),
        jnp.where(better, trial_loss, loss),
        jnp.where(better[None], trial_gradient, gradient),
        jnp.where(better[None], trial_limits, limits),
        jnp.where(better | forgets, 1, size * shorter),
        jax.tree.map(chosen, longer_memory, memory, first),
    )
    may_shorten = better | (size > _SHORTEST)
    return state, forgets | unsettled(problem, slope / 2, state.loss, may_shorten)
