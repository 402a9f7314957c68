"""Where a measurement was made: machine, versions, commit; and memory for it."""

import ctypes
import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess

import jax

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_PACKAGES = (
    "jax", "jaxlib", "numpy", "scipy", "numba", "llvmlite", "optimistix", "equinox",
)  # fmt: skip


# Settings of glibc's mallopt (malloc.h): the number, and the value.
_KEEP = {
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
    "M_MMAP_THRESHOLD": (-3, 2**25),
    "M_ARENA_MAX": (-8, 1),
}


def keep_freed_memory() -> bool:
    """Has the C library keep what a call frees for the next one; before JAX has any threads.

    Else it gives large arrays back to the system or not, depending on what else the process has
    freed so far, and on some calls the time goes into page faults: up to a third of it where much
    is returned, as with derivatives.

    Returns:
      Whether that could be set (with glibc alone).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(*setting) == 1 for setting in _KEEP.values()])


def describe() -> dict:
    """The record that goes into the results file."""
    device = jax.devices()[0]
    return {
        "device": device_name(),
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": len(jax.devices()),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load_before": [round(x, 2) for x in os.getloadavg()],
        "operating_system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "numba": _numba(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": _git("rev-parse", "HEAD"),
        "changed_since_commit": _git("status", "--porcelain").splitlines(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def device_name() -> str:
    """Name of the results file: the accelerator, or the processor and its number of cores."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        name = re.sub(r"\((r|tm)\)|\bprocessor\b|\bcpu\b|@.*", " ", _processor().lower())
        name = f"{name}-{os.cpu_count()}-cores"
    else:
        name = device.device_kind.lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


def _processor() -> str:
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numba() -> dict | None:
    """Threads, and whether numba's logarithms are vectorized (Intel SVML) or the C library's."""
    try:
        import numba
        from numba.core import config
    except ImportError:
        return None
    return {"threads": numba.get_num_threads(), "svml": bool(getattr(config, "USING_SVML", False))}


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
