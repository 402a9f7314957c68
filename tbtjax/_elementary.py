"""Exponentials and logarithms in forms that XLA's CPU compiler makes vectors of, in float64 too.

Its own logarithm of float64 it takes from the C library, one number at a time; a third of the time
is enough (jaxlib 0.10). In float32 these are jax.numpy's.

Not for numbers that are compared for ties: the logarithms of two equal numbers may differ in the
last place, where the compiler has taken a product and a sum for one operation at one place alone.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

_ROOT_HALF = int(np.sqrt(0.5).view(np.int64))  # its bits


def exp(x: jax.Array) -> jax.Array:
    """e^x; in float64 e^700 at the most.

    The minimum has XLA's CPU compiler take its older emitter: programs of the newer one, which is
    for sums, products and exponentials alone, take three times as long in float64.
    """
    return jnp.exp(jnp.minimum(x, 700) if x.dtype == jnp.float64 else x)


@jax.custom_jvp
def log(x: jax.Array) -> jax.Array:
    """The logarithm, to three units in the last place; below normal numbers that of 0."""
    if x.dtype != jnp.float64:
        return jnp.log(x)
    # x = 2^k·m with m from √½ to √2; log(m) = 2·artanh(s), s = (m − 1)/(m + 1).
    bits = jax.lax.bitcast_convert_type(x, jnp.int64)
    k = (bits - _ROOT_HALF) >> 52
    m = jax.lax.bitcast_convert_type(bits - (k << 52), x.dtype)
    s = (m - 1) / (m + 1)
    series = jnp.zeros_like(s)
    for power in range(19, 1, -2):
        series = (series + 1 / power) * (s * s)
    value = k.astype(x.dtype) * math.log(2) + 2 * (s + s * series)
    is_normal = (x >= jnp.finfo(x.dtype).tiny) & (x < jnp.inf)
    other = jnp.where(x > 1, jnp.inf, jnp.where(x >= 0, -jnp.inf, jnp.nan))
    return jnp.where(is_normal, value, other)


@log.defjvp
def _log_jvp(primals, tangents):
    return log(*primals), tangents[0] / primals[0]


@jax.custom_jvp
def log1p(x: jax.Array) -> jax.Array:
    """The logarithm of 1 + x, to three units in the last place."""
    if x.dtype != jnp.float64:
        return jnp.log1p(x)
    total = jnp.maximum(1 + x, 0)  # else the compiler takes (1 + x) − 1 for x
    lost = jnp.where((x > -1) & (x < jnp.inf), x - (total - 1), 0)
    value = log(total) + lost / jnp.where(total > 0, total, 1)
    return jnp.where(x < -1, jnp.nan, value)


@log1p.defjvp
def _log1p_jvp(primals, tangents):
    return log1p(*primals), tangents[0] / (1 + primals[0])
