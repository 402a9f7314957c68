"""Exponentials and logarithms, against mpmath and NumPy."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from tbtjax import _elementary

SPECIAL = {
    "exp": [-np.inf, -1000.0, -1.0, -0.0, 0.0, 1.0, np.inf, np.nan],
    "log": [-np.inf, -1.0, -0.0, 0.0, 1.0, np.inf, np.nan],
    "log1p": [-np.inf, -2.0, -1.0, -0.0, 0.0, np.inf, np.nan],
}


def numbers(name, dtype):
    """Of all sizes, and many of those where results are close to 0."""
    rng = np.random.default_rng(1)
    smallest, largest = np.log(np.float64([np.finfo(dtype).tiny, np.finfo(dtype).max]))
    exponents = rng.uniform(smallest, largest, 3_000)
    small = np.exp(rng.uniform(-40, -1, 2_000)) * rng.choice([-1, 1], 2_000)
    numbers = {
        "exp": [0.9 * exponents, small],
        "log": [np.exp(exponents), 1 + small, [np.finfo(dtype).tiny, np.finfo(dtype).max]],
        "log1p": [np.exp(exponents), small, -rng.random(1_000), [np.finfo(dtype).max]],
    }
    return np.concatenate(numbers[name]).astype(dtype)


def ulps_off(name, x):
    """By how many units in the last place each result differs from that of mpmath."""
    found = np.asarray(jax.jit(getattr(_elementary, name))(x))
    assert found.dtype == x.dtype
    with mpmath.workdps(50):
        exact = [getattr(mpmath, name)(mpmath.mpf(float(number))) for number in x]
        off = [abs(mpmath.mpf(float(a)) - b) for a, b in zip(found, exact, strict=True)]
    return np.array(off, float) / np.spacing(np.abs(np.array(exact, float).astype(x.dtype)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECIAL)
def test_values_are_those_of_mpmath(name, dtype, x64):
    assert np.max(ulps_off(name, numbers(name, dtype))) < 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_numbers_give_what_they_give_in_numpy(name, dtype, x64):
    x = np.array(SPECIAL[name], dtype)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
        if name == "exp" and dtype == "float64":
            expected = np.where(np.isposinf(x), np.exp(700.0), expected)
    np.testing.assert_allclose(getattr(_elementary, name)(x), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["log", "log1p"])
def test_derivatives_are_those_of_the_definition(name, x64):
    x = jnp.array([0.5, 1.0, 3.0, 1e100, jnp.inf])
    slope = 1 / x if name == "log" else 1 / (1 + x)
    function = getattr(_elementary, name)
    np.testing.assert_allclose(jax.vmap(jax.grad(function))(x), slope, rtol=1e-15)
    np.testing.assert_allclose(jax.vmap(jax.jacfwd(jax.grad(function)))(x), -(slope**2), rtol=1e-14)


def test_numbers_below_the_normal_ones_count_as_zero(x64):
    assert np.isneginf(_elementary.log(np.array([1e-310])))
    assert np.isneginf(jax.jit(_elementary.log)(np.array([1e-310])))
