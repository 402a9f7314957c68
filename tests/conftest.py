"""What holds for the whole run, and fixtures that every test may use: dtypes, 64-bit mode."""

import os
import tempfile

# Compiled programs are kept for the length of the run, unless they are kept longer already: the
# workers and the processes that tests start share them. JAX looks when it is imported.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="tbtjax-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

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
