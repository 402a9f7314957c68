"""What holds for the whole run, and fixtures that every test may use: dtypes, 64-bit mode."""

import os
import tempfile

import jax
import numpy as np
import pytest

# The processes that tests start share what they compile, for the length of the run. JAX has looked
# at these when it was imported, so this process keeps nothing: writing programs out has ended one
# that had compiled thousands with a segmentation fault in XLA (jaxlib 0.10.2).
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="tbtjax-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_module(request):
    """A worker holds the compiled programs of the module at hand, not those of all it has run.

    Most of the run's time is compilation. Modules marked `lightly_compiled` ask what is done with
    numbers, not for the numbers' last digits: in the usual run, XLA leaves most optimizations out,
    here and in processes started from here. Runs of other tests (`pytest -m slow`, `pytest -m ""`
    for all) compile as users do, and a value given in the environment decides for every module:
    `JAX_DISABLE_MOST_OPTIMIZATIONS=0 pytest`.
    """
    option = "JAX_DISABLE_MOST_OPTIMIZATIONS"
    light = (
        request.node.get_closest_marker("lightly_compiled") is not None
        and request.config.option.markexpr == "not slow"
        and option not in os.environ
    )
    if light:
        os.environ[option] = "1"
        jax.config.update(option.lower(), True)
    yield
    if light:
        del os.environ[option]
        jax.config.update(option.lower(), False)
    jax.clear_caches()


@pytest.fixture
def x64():
    """JAX's 64-bit mode."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request, x64):
    """Each floating dtype, both in 64-bit mode: float32 must stay what it is there."""
    return np.dtype(request.param)
