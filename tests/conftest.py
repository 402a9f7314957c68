"""What holds for the whole run, and fixtures that every test may use: dtypes, 64-bit mode."""

import gc
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


# XLA's older emitter of machine code for CPUs, much faster to compile.
_LIGHT = "--xla_cpu_use_fusion_emitters=false"
_UNOPTIMIZED = "JAX_DISABLE_MOST_OPTIMIZATIONS"


def pytest_configure(config):
    """The usual run compiles lightly, as most of its time would be compilation.

    XLA rewrites programs as it does for users, but its older emitter makes machine code of them,
    and all but tests marked `optimized` leave that as it falls. `XLA_FLAGS= pytest` compiles as
    users do, and so does every other run (`pytest -m slow`; `pytest -m ""` for all tests).
    """
    if config.option.markexpr == "not slow":
        os.environ.setdefault("XLA_FLAGS", _LIGHT)
    # What has been imported stays; looking through it time and again takes a twentieth of the run.
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before a test's fixtures: whether what it compiles is optimized."""
    light = os.environ.get("XLA_FLAGS") == _LIGHT and item.get_closest_marker("optimized") is None
    if light != (_UNOPTIMIZED in os.environ):
        jax.clear_caches()
        jax.config.update(_UNOPTIMIZED.lower(), light)
        if light:
            os.environ[_UNOPTIMIZED] = "1"  # for processes that the test starts
        else:
            del os.environ[_UNOPTIMIZED]


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_module():
    """A worker holds the compiled programs of the module at hand, not those of all it has run."""
    yield
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
