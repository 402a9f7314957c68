"""Where the shared measurements are; the project does not bring them."""

import os
from pathlib import Path

import pytest


def find(name):
    """The path of a file or folder of them; None where it is not."""
    folder = os.environ.get("TBTJAX_DATA") or Path(__file__).parents[2] / "shared" / "data"
    path = Path(folder) / name
    return path if path.exists() else None


def path_of(name):
    """The same; skips the test where it is not."""
    path = find(name)
    if path is None:
        pytest.skip(f"{name} is not there; set TBTJAX_DATA to the folder of the shared data")
    return path
