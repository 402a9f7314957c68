"""L-BFGS (Optax) on the two parameters that variable projection leaves, many curves at once."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from tbtjax.measure._minimize import Points, Problem, covariance_at, least_precision

#: In whitened coordinates nearly all fits end within 10 steps.
_STEPS, _LINE_SEARCH_STEPS, _MEMORY = 24, 15, 10


def descend(problem: Problem, level: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
    """L-BFGS from (level, rate), `[curves]`: the best places met."""
    reach, _ = covariance_at(
        problem, curve := problem.best_curve(level, rate), least_precision(problem, curve)
    )

    def one(points, low, high, noise, level, rate, covariance):
        columns = (x[:, None] for x in points)
        alone = dataclasses.replace(
            problem, points=Points(*columns), low=low[None], high=high[None], noise=noise[None]
        )
        return _descend(alone, level, rate, covariance)

    return jax.vmap(one, in_axes=-1)(
        problem.points, problem.low, problem.high, problem.noise, level, rate, reach[:2, :2]
    )


def _descend(
    problem: Problem, level: jax.Array, rate: jax.Array, covariance: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One curve.

    In coordinates in which `covariance`, `[2, 2]`, is the identity the Hessian is about twice the
    identity, so that a first step of 1 is right and few steps are needed.
    """
    tiny = jnp.finfo(level.dtype).tiny
    first = jnp.sqrt(jnp.maximum(covariance[0, 0], tiny))
    mixed = covariance[0, 1] / first
    second = jnp.sqrt(jnp.maximum(covariance[1, 1] - mixed**2, tiny))

    def parameters(place):
        # In 64-bit mode the line search asks in float64, whatever it was given.
        place = place.astype(level.dtype)
        return level + first * place[0], rate + mixed * place[0] + second * place[1]

    def value(place):
        level, rate = parameters(place)
        return problem.total(problem.best_curve(level[None], rate[None]))[0]

    line_search = optax.scale_by_zoom_linesearch(
        max_linesearch_steps=_LINE_SEARCH_STEPS, initial_guess_strategy="one"
    )
    optimizer = optax.lbfgs(memory_size=_MEMORY, linesearch=line_search)

    def better(best, place, loss):
        # A line search that fails, by rounding mostly, may leave a good place for a bad one.
        improves = loss < best[1]
        return jnp.where(improves, place, best[0]), jnp.where(improves, loss, best[1])

    def step(carry, _):
        place, loss, gradient, state, best = carry
        updates, state = optimizer.update(
            gradient, state, place, value=loss, grad=gradient, value_fn=value
        )
        place = optax.apply_updates(place, updates)
        # The line search knows them where it stopped.
        loss, gradient = (optax.tree_utils.tree_get(state, name) for name in ("value", "grad"))
        return (place, loss, gradient, state, better(best, place, loss)), None

    place = jnp.zeros(2, level.dtype)
    loss, gradient = jax.value_and_grad(value)(place)
    carry = (place, loss, gradient, optimizer.init(place), (place, loss))
    # In 64-bit mode Optax mixes int32 and int64 counters, which a caller may have forbidden.
    with jax.numpy_dtype_promotion("standard"):
        (*_, (place, _)), _ = jax.lax.scan(step, carry, length=_STEPS)
    return parameters(place)
