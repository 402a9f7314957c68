"""Running a sweep: chunk by chunk into a store, in this process or on a cluster."""

import contextlib
import dataclasses
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from tbtjax.study.cluster import compute_on
from tbtjax.study.config import Sweep, checked
from tbtjax.study.grid import Grid, make_grid
from tbtjax.study.kernel import chunk_statistics
from tbtjax.study.provenance import provenance
from tbtjax.study.results import Schema
from tbtjax.study.store import Store, locked, open_store


@dataclasses.dataclass(frozen=True)
class Finished:
    """What became of a sweep.

    Attributes:
      path: of the store.
      chunks: number of chunks.
      computed: chunks that were computed this time.
      damaged: those of them that had been computed before, but were damaged.
      failed: what went wrong, by chunk; the others are finished.
    """

    path: pathlib.Path
    chunks: int
    computed: int
    damaged: int
    failed: dict[int, str]


def sweep(
    config: Sweep,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    cluster: str | None = None,
    progress: bool | None = False,
) -> Finished:
    """Computes a sweep into a Zarr store, which `xarray.open_zarr` opens.

    Can be interrupted or killed at any moment: with `resume` it then continues, and the finished
    store has the same bits as that of an uninterrupted run.

    Args:
      config: what to compute (`read_config`, or `Sweep(...)`).
      out: path of the store; a folder.
      resume: continue the store at `out`; make it where there is none.
      cluster: None for all devices of this process; else the address of a Dask scheduler
        ("tcp://…"), or "local:N" for N worker processes on this machine.
      progress: whether to show a progress bar on stderr; None: on a terminal.

    Returns:
      What became of it. Chunks that could not be computed are in `failed`.

    Raises:
      ConfigError: the configuration is not possible.
      StoreError: `out` cannot be written, is in use, or holds something else.
      ClusterError: the cluster cannot be reached or got lost.
    """
    config = checked(config)
    schema = Schema(make_grid(config))
    path = pathlib.Path(os.path.abspath(out))
    with locked(path), contextlib.ExitStack() as stack:
        if cluster is None:
            origin: dict[str, str] = provenance()
            stream = None
        else:
            origin, stream = stack.enter_context(compute_on(cluster, config))
        store = open_store(path, schema, origin, resume=resume)
        pending, damaged = store.pending()
        results = _here(config, schema.grid, pending) if stream is None else stream(pending)
        failed = _write_all(store, config, results, pending, progress)
    return Finished(path, schema.grid.chunks, len(pending) - len(failed), damaged, failed)


def _here(config: Sweep, grid: Grid, pending: list[int]) -> Iterator[tuple[int, Any]]:
    """Chunks with their statistics, or with what went wrong."""
    for index in pending:
        try:
            yield index, compute_chunk(config, grid, index)
        except Exception as error:
            yield index, error


def compute_chunk(config: Sweep, grid: Grid, index: int) -> dict[str, Any]:
    """The statistics of a chunk."""
    chunk = grid.chunk(index)
    with jax.enable_x64(config.dtype == "float64"):
        return chunk_statistics(config.variant(chunk.fixed), chunk.cells)


def _write_all(
    store: Store,
    config: Sweep,
    results: Iterator[tuple[int, Any]],
    pending: list[int],
    progress: bool | None,
) -> dict[int, str]:
    """Writes chunks while the next ones are computed; returns the failures."""
    grid = store.schema.grid
    failed: dict[int, str] = {}

    def games(index: int) -> int:
        return int(np.prod(grid.chunk(index).shape)) * config.draws

    def write(index: int, found: Any) -> None:
        chunk = grid.chunk(index)
        variant = config.variant(chunk.fixed)
        with jax.enable_x64(config.dtype == "float64"):
            values = store.schema.values(chunk, variant, found)
        store.write(chunk, values)

    total = config.cells * config.draws
    done = total - sum(map(games, pending))
    hidden = None if progress is None else not progress
    bar = tqdm(
        total=total,
        initial=done,
        unit=" games",
        unit_scale=True,
        disable=hidden,
        file=sys.stderr,
        dynamic_ncols=True,
    )
    with bar, ThreadPoolExecutor(1) as writer:
        waiting: tuple[int, Future] | None = None

        def finish(last: tuple[int, Future] | None) -> None:
            if last is not None:
                last[1].result()
                bar.update(games(last[0]))

        for index, found in results:
            if isinstance(found, Exception):
                failed[index] = f"{type(found).__name__}: {found}"
                continue
            finish(waiting)
            waiting = index, writer.submit(write, index, found)
        finish(waiting)
    return failed


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a sweep will take, from one timed chunk.

    Attributes:
      cells, games, chunks: how many.
      store_bytes: size of the store without compression.
      memory_bytes: largest memory of this process so far, the timed chunk included.
      compilation: seconds until the first chunk was there.
      chunk: seconds for a chunk after that.
      seconds: for all.
      rate: games per second.
    """

    cells: int
    games: int
    chunks: int
    store_bytes: int
    memory_bytes: int
    compilation: float
    chunk: float
    seconds: float
    rate: float


def estimate(config: Sweep, clock: Callable[[], float] = time.perf_counter) -> Estimate:
    """Times a chunk; writes nothing."""
    config = checked(config)
    schema = Schema(make_grid(config))
    grid = schema.grid
    begin = clock()
    compute_chunk(config, grid, 0)
    first = clock() - begin
    # The last chunk differs most: largest axis values, and the remainder of the grid.
    compute_chunk(config, grid, grid.chunks - 1)
    begin = clock()
    compute_chunk(config, grid, 0)
    compute_chunk(config, grid, grid.chunks - 1)
    chunk = (clock() - begin) / 2
    programs = len({games.most_models for games in schema.variants})
    seconds = max(first - chunk, 0) * programs + chunk * grid.chunks
    games = config.cells * config.draws
    return Estimate(
        cells=config.cells,
        games=games,
        chunks=grid.chunks,
        store_bytes=sum(int(np.prod(v.shape)) * v.dtype.itemsize for v in schema.variables),
        memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        compilation=max(first - chunk, 0) * programs,
        chunk=chunk,
        seconds=seconds,
        rate=games / grid.chunks / max(chunk, 1e-9),
    )
