"""What the bits of a result depend on besides the configuration."""

import functools
import importlib.metadata
import pathlib
import subprocess

import jax
import numpy as np

from tbtjax._version import __version__


@functools.cache
def provenance() -> dict[str, str]:
    """Versions, commit and kind of device of this process; the same means the same bits."""
    device = jax.devices()[0]
    return {
        "tbtjax_version": __version__,
        "commit": _commit(),
        "jax_version": jax.__version__,
        "jaxlib_version": importlib.metadata.version("jaxlib"),
        "numpy_version": np.__version__,
        "device": f"{device.platform}: {device.device_kind}",
    }


def _commit() -> str:
    """The commit of the source this runs from, marked where files differ; "" outside a checkout."""
    folder = pathlib.Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        if not git("ls-files", pathlib.Path(__file__).name):
            return ""
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(folder.parent))
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except OSError:
        return ""
