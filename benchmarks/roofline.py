"""What this machine could do at best: special-function rates, bandwidth, and each kernel's floor.

A kernel's floor is the time of the least work that its answer needs: the special functions counted
in `least_work`, at the rates measured here with data in cache, or its inputs read and outputs
written once at the measured bandwidth, whichever takes longer. Nothing reaches it; the share says
how much is left to gain.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tbtjax import _elementary

# In the fastest forms that we know.
_FUNCTIONS = {
    "exp": _elementary.exp,
    "log": _elementary.log,
    "log1p": _elementary.log1p,
    "expm1": jnp.expm1,
}
# Evaluations per element and pass, so that loads and stores weigh nothing.
_UNROLL = 8


def measure(meshes: dict[int, jax.sharding.Mesh], *, quick: bool) -> dict:
    """Rates per second and bandwidth in bytes per second, for each number of devices."""
    on_cpu = jax.default_backend() == "cpu"
    results = []
    for count, mesh in meshes.items():
        for dtype in (np.float32, np.float64):
            with jax.enable_x64(dtype == np.float64):
                for name in _FUNCTIONS:
                    elements = 1 << 14 if on_cpu else 1 << 24
                    passes = (64 if quick else 512) if on_cpu else 8
                    seconds = _function_seconds(name, dtype, elements, passes, mesh, quick)
                    evaluations = elements * count * passes * _UNROLL
                    results.append(
                        {
                            "function": name,
                            "dtype": np.dtype(dtype).name,
                            "devices": count,
                            "per_second": evaluations / seconds,
                        }
                    )
        elements = (1 << 22 if quick else 1 << 26) if on_cpu else 1 << 28
        moved, seconds = _copy_seconds(elements, mesh, quick)
        results.append({"function": "copy", "devices": count, "bytes_per_second": moved / seconds})
    return {"rates": results}


def least_work(work: str, dtype: str, models: int) -> dict[tuple[str, str], float]:
    """Special functions per game that an answer needs at the least, by function and dtype.

    Threshold, equal limits: per pair two float32 logarithms (a start, one step); per game one
    expm1 and, for float64 answers, one logarithm in float64 (the deciding pair's last step).
    Different limits: each of these steps takes one exponential and two logarithms. Bisection: one
    step per bit of the mantissa, each with a logarithm and two exponentials per pair. An effort
    takes one exponential per pair (different limits: two, and a logarithm), a verdict, for which
    float32 is enough, one logarithm (an exponential and two logarithms), and both one logarithm per
    game. "all" counts neighbours too: with a common convex cost they are enough. A best response
    takes one exponential per ordered pair and a logarithm per model; the dynamics take a thousand
    of them.
    """
    kind, _, limits = work.partition("/")
    pairs = models - 1
    steps = [("float32", 2 * pairs)] + ([("float64", 1)] if dtype == "float64" else [])
    counts: dict[tuple[str, str], float] = {}

    def add(function, precision, number):
        counts[function, precision] = counts.get((function, precision), 0) + number

    if kind in ("threshold", "all", "gradient"):
        for precision, number in steps:
            add("log", precision, number * (1 if limits == "equal" else 2))
            add("exp", precision, number * (0 if limits == "equal" else 1))
        add("expm1", dtype, 1)
    elif kind == "general":
        halvings = np.finfo(dtype).nmant
        add("log", dtype, halvings * pairs)
        add("exp", dtype, 2 * halvings * pairs)
        add("expm1", dtype, 1)
    elif kind == "overtake":
        add("expm1", dtype, pairs)
        add("exp", dtype, 0 if limits == "equal" else pairs)
        add("log", dtype, 0 if limits == "equal" else pairs)
        add("log1p", dtype, 1)
    elif kind == "verdict":
        add("log", "float32", pairs if limits == "equal" else 2 * pairs)
        add("exp", "float32", 0 if limits == "equal" else pairs)
        add("log1p", "float32", 1)
    elif kind in ("response", "dynamics"):
        rounds = 1 if kind == "response" else 1000
        add("expm1", dtype, rounds * models * (models - 1))
        add("log1p", dtype, rounds * models)
    else:
        raise ValueError(f"no floor is counted for {work!r}")
    return counts


def floor_seconds(
    roofline: dict, work: str, dtype: str, models: int, games: int, moved: int, devices: int
) -> float:
    """Least time for `games` games whose inputs and outputs have `moved` bytes."""
    rates = roofline["rates"]

    def rate(function, precision=None):
        for entry in rates:
            same = entry["function"] == function and entry["devices"] == devices
            if same and entry.get("dtype") == precision:
                return entry["per_second" if precision else "bytes_per_second"]
        raise ValueError(f"no rate measured for {function} on {devices} devices")

    work_seconds = sum(
        games * number / rate(function, precision)
        for (function, precision), number in least_work(work, dtype, models).items()
    )
    return max(work_seconds, moved / rate("copy"))


def _place(x, mesh):
    return jax.device_put(x, NamedSharding(mesh, PartitionSpec("games")))


def _function_seconds(name, dtype, elements, passes, mesh, quick):
    function = _FUNCTIONS[name]

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=PartitionSpec("games"), out_specs=PartitionSpec("games")
    )
    def run(x):
        def once(i, total):
            # Arguments differ between passes and evaluations, or the compiler would share them.
            shifted = x + i.astype(x.dtype) * x.dtype.type(1e-3)
            for j in range(_UNROLL):
                total = total + function(shifted + x.dtype.type(0.01 * j))
            return total

        return jax.lax.fori_loop(0, passes, once, x)

    x = _place(np.linspace(0.1, 2.0, elements * mesh.size, dtype=dtype), mesh)
    return _best(jax.jit(run), x, 3 if quick else 7)


def _copy_seconds(elements, mesh, quick):
    x = _place(np.ones(elements, np.float32), mesh)
    return 2 * x.nbytes, _best(jax.jit(lambda x: x * np.float32(1.5)), x, 3 if quick else 7)


def _best(function, x, repeats):
    jax.block_until_ready(function(x))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(x))
        seconds.append(time.perf_counter() - start)
    return min(seconds)
