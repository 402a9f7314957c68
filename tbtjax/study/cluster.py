"""A sweep's chunks on a Dask cluster.

Chunks are tasks without side effects: statistics travel back, and the one process that has the
store writes them. A lost worker costs the time of its chunk, which another worker computes again; a
chunk that fails, or takes its workers with it, is reported, and the rest is finished.
"""

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

from tbtjax.study.config import Sweep
from tbtjax.study.provenance import provenance


class ClusterError(Exception):
    """A cluster that cannot be used; the message is one line for a user."""


def compute_remotely(document: str, index: int) -> tuple[dict[str, str], dict[str, Any]]:
    """A worker's task: a chunk's statistics, and what its bits depend on."""
    from tbtjax.study.runner import compute_chunk

    config, grid = _parsed(document)
    return provenance(), compute_chunk(config, grid, index)


@functools.lru_cache(maxsize=4)
def _parsed(document: str):
    from tbtjax.study.grid import make_grid

    config = Sweep.model_validate_json(document)
    return config, make_grid(config)


@contextlib.contextmanager
def compute_on(
    address: str, config: Sweep, task: Callable[[str, int], Any] = compute_remotely
) -> Iterator[tuple[dict[str, str], Callable[[list[int]], Iterator[tuple[int, Any]]]]]:
    """Connects to a cluster.

    Args:
      address: "tcp://…" of a scheduler, or "local:N".
      config: the sweep.
      task: what a worker does, in an importable module.

    Yields:
      What the bits of the workers' results depend on; and a function that takes chunks' numbers
      and yields each with its statistics, or with what went wrong, in order of completion.

    Raises:
      ClusterError: the cluster cannot be reached, has no workers, or they differ.
    """
    from distributed import Client, LocalCluster

    # What its parts tell each other while they part is of no use to a user.
    for name in ("distributed", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        try:
            local = re.fullmatch(r"local:([1-9][0-9]*)", address)
            if local:
                cluster = LocalCluster(
                    n_workers=int(local[1]),
                    threads_per_worker=1,
                    dashboard_address=None,  # pyright: ignore[reportArgumentType]
                    silence_logs=logging.CRITICAL,
                )
                client = Client(stack.enter_context(cluster))
            else:
                client = Client(address, timeout="15s", set_as_default=False)
            stack.enter_context(client)
            client.wait_for_workers(1, timeout=120)
            found: Any = client.run(provenance)
            origins = list(found.values())
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(f"--cluster {address}: {error}") from None
        if any(origin != origins[0] for origin in origins):
            keys = sorted(k for k in origins[0] if len({str(o[k]) for o in origins}) > 1)
            raise ClusterError(f"--cluster {address}: the workers differ in {', '.join(keys)}")
        yield origins[0], functools.partial(_results, client, config, task, origins[0])


def _results(client: Any, config: Sweep, task, origin, pending: list[int]):
    from distributed import as_completed

    document = config.model_dump_json(exclude_none=True)
    futures = {client.submit(task, document, index, pure=False): index for index in pending}
    done = as_completed(futures, with_results=True, raise_errors=False)
    lost = 0
    while futures:
        try:
            future, found = next(done)
        except StopIteration:
            break
        index = futures.pop(future)
        if future.status == "finished":
            worker, found = found
            if worker != origin:
                found = ClusterError("a worker that joined later has other versions or devices")
            yield index, found
        elif future.status == "cancelled":
            lost += 1
        else:
            yield index, future.exception()
        future.release()
    if lost:
        raise ClusterError(f"the cluster was lost with {lost} chunks to go; --resume continues")
