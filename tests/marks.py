"""Marks of tests that do more than the usual run has time for."""

import pytest


def mostly(usual: str):
    """Of both floating dtypes, the usual run takes one: each is a program of its own to compile."""
    params = [
        pytest.param(name, marks=() if name == usual else pytest.mark.slow)
        for name in ("float32", "float64")
    ]
    return pytest.mark.parametrize("dtype", params, indirect=True)


mostly_float32 = mostly("float32")
mostly_float64 = mostly("float64")
