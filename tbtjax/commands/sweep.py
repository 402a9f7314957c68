"""`tbtjax sweep`: a Monte Carlo map over a grid, into a store that can be resumed."""

import argparse
import os
import pathlib
import sys
from typing import Any

from tbtjax.commands import failed

_SWEEP = """\
Draws games from a prior and maps the threshold Δ* and what goes with it over a grid of rewards and
costs, as CONFIG describes. The result is a Zarr store that xarray.open_zarr opens. A run that was
interrupted, killed, or out of disk space continues with --resume, to the same bits.
"""


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of `tbtjax`."""
    parser = commands.add_parser(
        "sweep", help="a Monte Carlo map of Δ* over rewards and costs", description=_SWEEP
    )
    parser.set_defaults(run=run)
    parser.add_argument("config", type=pathlib.Path, metavar="CONFIG", help="a TOML file")
    parser.add_argument(
        "--out", type=pathlib.Path, metavar="STORE", help="folder of the store (needed to compute)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue STORE; make it where there is none"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print size, memory and estimated time from a timed chunk; write nothing",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="tcp://… of a Dask scheduler, or local:N for N worker processes on this machine",
    )
    parser.add_argument(
        "--devices",
        type=_count,
        metavar="N",
        help="devices to make of the CPU (default: one per core; with --cluster local:N one per "
        "worker)",
    )
    parser.add_argument(
        "--export",
        type=pathlib.Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="copies of the finished store: NetCDF (.nc) or a table with a row per cell (.csv)",
    )


def _count(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 1024:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number of devices from 1 to 1024; got {text!r}")


def set_devices(count: int) -> None:
    """Has JAX make `count` devices of the CPU; before JAX is imported."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={count}".strip()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    if options.out is None and not options.dry_run:
        return failed("sweep", "--out STORE is needed, unless with --dry-run")
    set_devices(options.devices or (1 if options.cluster else _cores()))
    try:
        from tbtjax.study import ClusterError, ConfigError, StoreError, read_config, sweep
        from tbtjax.study.export import check_export, export
    except ModuleNotFoundError as error:
        return failed("sweep", f"{error.name} is missing: pip install 'tbtjax[study]'")
    try:
        for path in options.export:
            check_export(path)
        config = read_config(options.config)
        if options.dry_run or options.out is None:
            print(_estimate(config))
            return 0
        finished = sweep(
            config, options.out, resume=options.resume, cluster=options.cluster, progress=None
        )
        if finished.damaged:
            print(
                f"tbtjax sweep: {finished.damaged} damaged chunks computed again", file=sys.stderr
            )
        if finished.failed:
            return _report(finished)
        for path in options.export:
            export(finished.path, path)
    except (ConfigError, StoreError, ClusterError) as error:
        return failed("sweep", str(error))
    except KeyboardInterrupt:
        print("tbtjax sweep: interrupted; --resume continues", file=sys.stderr)
        return 130
    return 0


def _report(finished: Any) -> int:
    """What failed; exit code 1."""
    first, reason = next(iter(finished.failed.items()))
    print(
        f"tbtjax sweep: error: {len(finished.failed)} of {finished.chunks} chunks failed, the rest "
        f"is finished; --resume tries them again. Chunk {first}: {' '.join(reason.split())[:500]}",
        file=sys.stderr,
    )
    return 1


def _estimate(config: Any) -> str:
    """The lines of a dry run."""
    from tbtjax.study.runner import estimate

    found = estimate(config)
    axes = " × ".join(f"{a.dimension} {len(a.coordinates())}" for a in config.grid_axes)
    lines = {
        "cells": f"{found.cells:,}" + (f" ({axes})" if axes else ""),
        "games": f"{found.games:,} ({config.draws:,} draws in each cell)",
        "chunks": f"{found.chunks:,}",
        "store": f"{_bytes(found.store_bytes)} before compression",
        "memory": f"{_bytes(found.memory_bytes)} for this process",
        "rate": f"{found.rate:,.0f} games/s",
        "time": f"{_time(found.seconds)}, {_time(found.compilation)} of it compilation",
    }
    return "\n".join(f"{name:8}{text}" for name, text in lines.items())


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
