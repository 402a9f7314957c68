"""Searches of many curves at once, each of which ends when it is done.

All curves take steps until few are open; then the open ones alone, gathered. A curve that is done
stays where it is, so that what becomes of it does not depend on the others.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tbtjax.measure._minimize import Problem

#: Once at most one curve in so many is open, the others are left behind; fewer curves than the
#: second number are not worth it.
_FEW, _LEAST = 8, 128


def work_on_open(
    step: Callable[[Problem, Any], tuple[Any, jax.Array]],
    problem: Problem,
    state: Any,
    is_open: jax.Array,
    most: int,
) -> Any:
    """The state after steps of every open curve until it is done.

    Args:
      step: of a problem and a state makes the next state, and tells which curves are open still.
      problem: the curves to fit.
      state: a tree of arrays `[..., curves]`.
      is_open: `[curves]` which curves are to take steps.
      most: the most steps of a curve.
    """

    def run(problem, carry, few):
        def goes_on(carry):
            count, is_open, _ = carry
            return (count < most) & (jnp.sum(is_open) > few)

        def further(carry):
            count, is_open, state = carry
            new, stays_open = step(problem, state)
            state = jax.tree.map(lambda x, y: jnp.where(_over(is_open, x), x, y), new, state)
            return count + 1, is_open & stays_open, state

        return jax.lax.while_loop(goes_on, further, carry)

    size = problem.low.size
    few = size // _FEW if size >= _LEAST else 0
    carry = run(problem, (jnp.int32(0), is_open, state), few)
    if not few:
        return carry[2]
    count, is_open, state = carry
    (index,) = jnp.nonzero(is_open, size=few, fill_value=size)

    part = problem.of(index)
    chosen = jax.tree.map(lambda x: jnp.take(x, index, axis=-1, mode="clip"), state)
    _, _, found = run(part, (count, index < size, chosen), 0)
    return jax.tree.map(lambda x, y: x.at[..., index].set(y, mode="drop"), state, found)


def _over(is_open: jax.Array, values: jax.Array) -> jax.Array:
    """`is_open` with axes in front, as many as `values` has."""
    return is_open.reshape(*[1] * (values.ndim - 1), is_open.size)
