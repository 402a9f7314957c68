"""optimistix peers: a root per pair under `vmap`, everything else in jitted JAX.

A pair that is stable at Δ = 0 is handed an easy problem in its place, so that it does not hold
the batch up, and its answer is masked.
"""

import jax
import jax.numpy as jnp
import optimistix

_TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
# A lane that dithers in its last digits would hold the batch up to optimistix's default of 256.
_NEWTON_STEPS = 32
_BISECTION_STEPS = 64


def newton(*arrays):
    """`optimistix.Newton` from a lower bound of each pair's root; Δ*, `[games]`."""
    tolerance = _TOLERANCE[arrays[0].dtype.name]
    solver = optimistix.Newton(rtol=tolerance, atol=tolerance)
    return _solve(arrays, solver, _NEWTON_STEPS, lambda low, high: low)


def bisection(*arrays):
    """`optimistix.Bisection` between bounds of each pair's root; Δ*, `[games]`."""
    tolerance = _TOLERANCE[arrays[0].dtype.name]
    solver = optimistix.Bisection(rtol=tolerance, atol=tolerance, flip=False)
    return _solve(arrays, solver, _BISECTION_STEPS, lambda low, high: (low + high) / 2)


def _solve(arrays, solver, max_steps, start):
    equal = len(arrays) == 3
    margin, find_pairs = (_equal_margin, _equal_pairs) if equal else (_margin, _pairs)
    unstable, low, high, pairs = find_pairs(*arrays)

    def solve_pair(low, high, *pair):
        return optimistix.root_find(
            margin,
            solver,
            start(low, high),
            args=pair,
            options={"lower": low, "upper": high},
            max_steps=max_steps,
            throw=False,
        ).value

    y = jax.vmap(jax.vmap(solve_pair))(low, high, *pairs)
    return jnp.expm1(jnp.max(jnp.where(unstable, y, 0), axis=-1))


def _equal_margin(y, pair):
    d, m, g = pair
    return d + m * y - jnp.log1p(g * jnp.exp(-y))


def _equal_pairs(alpha, beta, rewards):
    """Mask of the unstable pairs; bounds of their roots; d, m, g."""
    g = rewards[:, :-1] - rewards[:, 1:]
    weak = beta[:, 1:]
    d = (alpha[:, :-1] - alpha[:, 1:]) / weak
    m = (beta[:, :-1] - weak) / weak
    margin = d - jnp.log1p(g)
    unstable = margin < 0
    # The easy problem: d = 1/2, m = 1, g = 1.
    margin = jnp.where(unstable, margin, 0.5 - jnp.log(2.0).astype(d.dtype))
    d, m, g = (
        jnp.where(unstable, x, jnp.asarray(y, x.dtype)) for x, y in ((d, 0.5), (m, 1.0), (g, 1.0))
    )
    start = -margin / (m + g / (1 + g))
    return unstable, start, jnp.log(g) - jnp.log(jnp.expm1(d)), (d, m, g)


def _margin(y, pair):
    """The weak model's odds against, with all the effort passing is worth, less those at par.

    Smooth past the level at which the rival gets out of reach. Newton's method, which optimistix
    cannot safeguard, fails on some pairs of every form tried; on this one least, from y = 0.
    """
    a, b, floor, ceiling, a_weak, b_weak, floor_weak, ceiling_weak, g = pair
    e = jnp.exp(-(a + b * y))
    below_upper = (ceiling_weak - ceiling) * (1 + e) + (ceiling - floor) * e
    above_lower = (floor - floor_weak) * (1 + e) + (ceiling - floor)
    log_total = y + jnp.log1p(g * jnp.exp(-y))
    return jnp.exp(-(a_weak + b_weak * log_total)) - below_upper / above_lower


def _pairs(alpha, beta, rewards, lower, upper):
    curves = (alpha, beta, lower, upper)
    strong, weak = (tuple(x[:, i : i - 1 or None] for x in curves) for i in (0, 1))
    g = rewards[:, :-1] - rewards[:, 1:]
    unstable = (g > 0) & (_margin(jnp.zeros_like(g), (*strong, *weak, g)) < 0)
    easy = (0.5, 1.0, 0.0, 1.0, 0.4, 0.5, 0.0, 0.9, 3.0)
    pairs = tuple(
        jnp.where(unstable, x, jnp.asarray(y, x.dtype))
        for x, y in zip((*strong, *weak, g), easy, strict=True)
    )
    a, b, floor, ceiling, _, _, _, ceiling_weak, _ = pairs
    # From here on the rival is out of reach.
    top = (jnp.log((ceiling_weak - floor) / (ceiling - ceiling_weak)) - a) / b
    return unstable, jnp.zeros_like(top), top, pairs
