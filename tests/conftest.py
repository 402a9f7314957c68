"""Fixtures that every test may use: dtypes and 64-bit mode."""

import jax
import numpy as np
import pytest


@pytest.fixture
def x64():
    """JAX's 64-bit mode."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request, x64):
    """Each floating dtype, both in 64-bit mode: float32 must stay what it is there."""
    return np.dtype(request.param)
