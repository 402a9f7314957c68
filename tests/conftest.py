"""What holds for the whole run, and fixtures that every test may use: dtypes, 64-bit mode."""

import gc
import os
import tempfile

import jax
import numpy as np
import pytest

from tbtjax import _batch

# The processes that tests start share what they compile, for the length of the run. JAX has looked
# at these when it was imported, so this process keeps nothing: writing programs out has ended one
# that had compiled thousands with a segmentation fault in XLA (jaxlib 0.10.2).
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="tbtjax-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"


# XLA's older emitter of machine code for CPUs compiles much faster.
_LIGHT = "--xla_cpu_use_fusion_emitters=false"
_UNOPTIMIZED = "JAX_DISABLE_MOST_OPTIMIZATIONS"


def pytest_configure(config):
    """The usual run compiles lightly, as most of its time would be compilation.

    XLA rewrites programs as it does for users, but makes machine code of them in a hurry.
    `XLA_FLAGS= pytest` compiles as users do, and so does every other run (`pytest -m slow`;
    `pytest -m ""` for all tests).
    """
    if config.option.markexpr == "not slow":
        os.environ.setdefault("XLA_FLAGS", _LIGHT)
    if os.environ.get("XLA_FLAGS") == _LIGHT and _UNOPTIMIZED not in os.environ:
        os.environ[_UNOPTIMIZED] = "1"  # for processes started from here
        jax.config.update(_UNOPTIMIZED.lower(), True)


def pytest_collection_finish(session):
    """Tracing makes many objects: garbage is looked for less often, and not in what is imported."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_module():
    """A worker holds the compiled programs of the module at hand, not those of all it has run."""
    yield
    jax.clear_caches()


@pytest.fixture
def optimized():
    """Programs optimized as for users, for a test that compares last digits of two of them."""
    before = jax.config.read(_UNOPTIMIZED.lower())
    jax.clear_caches()
    jax.config.update(_UNOPTIMIZED.lower(), False)
    yield
    jax.config.update(_UNOPTIMIZED.lower(), before)
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


@pytest.fixture
def many_chunks(monkeypatch):
    """Batches of a thousand games are many chunks, which the fastest roads take first."""
    for platform, sizes in _batch._SIZES.items():
        small = sizes._replace(entries=600, own=0, again=64, rest=8)
        monkeypatch.setitem(_batch._SIZES, platform, small)
    jax.clear_caches()
    yield
    jax.clear_caches()
