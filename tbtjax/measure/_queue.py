"""Searches of many curves, some at once: who is done makes room for who waits.

A curve that is done stays where it is, so that what becomes of it does not depend on the others.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax.measure._minimize import Problem

#: The most searches at work: few enough for their points to stay in cache.
_WIDTH = 128
#: Places are given away once so large a share of them is free.
_FREE = 0.25


class Ends(NamedTuple):
    """Where searches have ended, each `[searches]`; loss +inf where none was run."""

    level: jax.Array
    rate: jax.Array
    lower: jax.Array
    upper: jax.Array
    loss: jax.Array


class Method(Protocol):
    """A way to search, many curves at once; its states are trees of arrays `[..., curves]`."""

    #: The most steps of a search.
    STEPS: int

    def begin(self, problem: Problem, level: jax.Array, rate: jax.Array) -> Any:
        """The state in which searches start."""
        ...

    def step(self, problem: Problem, state: Any, is_open: jax.Array) -> tuple[Any, jax.Array]:
        """The next state, where what is not open has not moved, and `[curves]` what goes on."""
        ...

    def ends(self, state: Any) -> Ends:
        """Where searches are."""
        ...


class _Work(NamedTuple):
    """What is worked on, by place: number of the search, its steps, whether it goes on, its state.

    `waiting` is the first of those that wait, `found` are rows of `Ends`.
    """

    waiting: jax.Array
    search: jax.Array
    steps: jax.Array
    is_open: jax.Array
    state: Any
    found: jax.Array


def run(
    method: Method, problem: Problem, level: jax.Array, rate: jax.Array, wanted: jax.Array
) -> Ends:
    """Runs the searches that are `wanted`, each until it is done.

    Args:
      method: how to search.
      problem: the curves to fit.
      level: `[searches]` where they start; search i is of curve i modulo the number of curves.
      rate: `[searches]` the same.
      wanted: `[searches]` bool.
    """
    size, searches = problem.low.size, level.size
    width = min(size, _WIDTH)
    is_before = np.tri(width, k=-1, dtype=bool)  # [i, j]: place j is before place i
    order = jnp.argsort(~wanted).astype(jnp.int32)  # a stable sort
    count = jnp.sum(wanted, dtype=jnp.int32)
    # One matrix holds all that belongs to a curve, and another all that is found.
    columns = problem.columns
    starts = jnp.stack([level, rate])

    def goes_on(work):
        return work.waiting < count

    def further(work):
        free = ~work.is_open
        turn = work.waiting + jnp.sum(free[None] & is_before, axis=1, dtype=jnp.int32)
        next_one = jnp.where(turn < count, order.at[turn].get(mode="clip"), searches)
        search = jnp.where(free, next_one, work.search)
        part = problem.of_columns(columns[:, search % size])
        state = method.begin(part, *starts.at[:, search].get(mode="clip"))
        state = _chosen(free, state, work.state)
        waiting = work.waiting + jnp.sum(free, dtype=jnp.int32)
        enough = jnp.where(waiting < count, int(width * (1 - _FREE)), 0)

        def some_are_open(carry):
            return jnp.sum(carry[1]) > enough

        def steps_on(carry):
            steps, is_open, state = carry
            state, goes_on = method.step(part, state, is_open)
            steps += 1
            return steps, is_open & goes_on & (steps < method.STEPS), state

        carry = jnp.where(free, 0, work.steps), search < searches, state
        steps, is_open, state = jax.lax.while_loop(some_are_open, steps_on, carry)
        found = work.found.at[:, search].set(jnp.stack(method.ends(state)), mode="drop")
        return _Work(waiting, search, steps, is_open, state, found)

    # All places are free at first. What is carried must vary over devices as the curves do.
    none = count - count
    shapes = jax.eval_shape(lambda: method.begin(problem, level[:size], rate[:size]))
    state = jax.tree.map(
        lambda x: jnp.zeros((*x.shape[:-1], width), x.dtype) + none.astype(x.dtype), shapes
    )
    nobody = none + jnp.zeros(width, jnp.int32)
    unknown = jnp.zeros_like(level)
    found = jnp.stack([level, rate, unknown, unknown, unknown + jnp.inf])
    work = _Work(none, nobody, nobody, nobody > 0, state, found)
    return Ends(*jax.lax.while_loop(goes_on, further, work).found)


def _chosen(where: jax.Array, new: Any, old: Any) -> Any:
    """Of trees of arrays `[..., places]`, the new ones where `where`, `[places]`."""
    return jax.tree.map(
        lambda x, y: jnp.where(where.reshape(*[1] * (x.ndim - 1), where.size), x, y), new, old
    )
