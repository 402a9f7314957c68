"""Kernels as portable artefacts, for programs that have JAX but not this package.

An artefact is a serialized `jax.export.Exported`: StableHLO with a symbolic number of games and of
models, lowered for CPU and CUDA. JAX writes and reads it with flatbuffers.
`examples/call_exported.py` calls one; `docs/backend.md` has the calling convention and what is
promised across versions.

The number of models is symbolic up to a greatest one, for which the kernel is written out: games
with fewer are filled up inside, as in `tbtjax.stream.answers`.

    >>> from tbtjax.export import export_kernel
    >>> kernel = export_kernel("verdict", max_models=4)
    >>> kernel.in_avals[0].shape
    (games, models)
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from tbtjax._rivals import Deviations, check_deviations
from tbtjax._version import __version__
from tbtjax.costs import LinearCost, PowerCost, QuadraticCost
from tbtjax.curves import PowerLaw
from tbtjax.equilibrium import is_zero_effort_pne
from tbtjax.game import RankingGame
from tbtjax.threshold import Status, stabilizing_threshold

#: Costs of exported kernels, and their parameters in the order of the arguments.
COSTS = {
    "linear": (LinearCost, ("rate",)),
    "power": (PowerCost, ("scale", "exponent")),
    "quadratic": (QuadraticCost, ("linear", "quadratic")),
}
KERNELS = ("threshold", "verdict")
LIMITS = ("equal", "own")
_OUTPUTS = ("delta", "upper", "settled", "pair", "rival", "status")
# Games that a kernel works on at a time.
_BLOCK = 512


def export_kernel(
    kernel: str,
    *,
    max_models: int = 32,
    limits: str = "equal",
    cost: str = "linear",
    deviations: Deviations = "all",
    dtype: Any = np.float64,
    platforms: Sequence[str] = ("cpu", "cuda"),
) -> jax.export.Exported:
    """A kernel that takes any number of power-law games of up to `max_models` models.

    Its arguments are arrays of `dtype`: alpha `[games, models]`, beta `[games, models]`, lower and
    upper (`[games]` where limits are equal, else `[games, models]`), rewards `[games, models]`, the
    parameters of the cost `[games, models]`, and for a verdict delta `[games]`. It returns a
    dictionary of arrays `[games]`: those of `StabilizingThreshold` without `by_pair`, or
    `zero_effort_pne`.

    Args:
      kernel: "threshold" (`stabilizing_threshold`) or "verdict" (`is_zero_effort_pne`).
      max_models: greatest number of models, 2 or more. Every game costs as much as one with so
        many.
      limits: "equal" for limits that all models of a game share (the faster road), or "own".
      cost: "linear", "power" or "quadratic".
      deviations: "all", the exact condition, or "adjacent", the paper's.
      dtype: float64, for callers in 64-bit mode, or float32.
      platforms: where the artefact shall run, such as "cpu", "cuda", "tpu".

    Returns:
      The exported kernel; `serialize()` gives the artefact's bytes.

    Raises:
      ValueError: an argument is not one of those described.

    Examples:
      >>> sorted(export_kernel("verdict", max_models=2, platforms=["cpu"]).platforms)
      ['cpu']
    """
    for name, value, known in (
        ("kernel", kernel, KERNELS),
        ("limits", limits, LIMITS),
        ("cost", cost, tuple(COSTS)),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    if isinstance(max_models, bool) or not isinstance(max_models, int) or max_models < 2:
        raise ValueError(f"max_models must be an integer of 2 or more; got {max_models!r}")
    check_deviations(deviations)
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64; got {dtype}")
    games, models = jax.export.symbolic_shape(
        "games, models", constraints=[f"models <= {max_models}"]
    )
    shapes = {"games": (games,), "models": (games, models)}
    names = argument_names(kernel, cost)
    arguments = [jax.ShapeDtypeStruct(shapes[_axes(name, limits)], dtype) for name in names]
    solve = _solver(kernel, limits, cost, deviations)
    with jax.enable_x64(dtype == np.float64):
        return jax.export.export(
            jax.jit(_in_blocks(solve, names, limits, max_models)), platforms=tuple(platforms)
        )(*arguments)


def argument_names(kernel: str, cost: str) -> tuple[str, ...]:
    """Names of a kernel's arguments, in order."""
    level = ("delta",) if kernel == "verdict" else ()
    return ("alpha", "beta", "lower", "upper", "rewards", *COSTS[cost][1], *level)


def describe(exported: jax.export.Exported, **settings: Any) -> dict[str, Any]:
    """What a caller has to know of an artefact, for the file beside it.

    Args:
      exported: what `export_kernel` gave.
      **settings: the arguments that it was given.

    Returns:
      A dictionary that JSON can hold.
    """
    names = argument_names(settings["kernel"], settings["cost"])
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return {
        **settings,
        "arguments": [
            {"name": name, "shape": list(map(str, x.shape)), "dtype": str(x.dtype)}
            for name, x in zip(names, exported.in_avals, strict=True)
        ],
        "results": {
            name: {"shape": list(map(str, x.shape)), "dtype": str(x.dtype)}
            for name, x in outputs.items()
        },
        "status": {str(status.value): status.name for status in Status},
        "platforms": list(exported.platforms),
        "calling_convention_version": exported.calling_convention_version,
        "tbtjax": __version__,
        "jax": jax.__version__,
    }


def _axes(name: str, limits: str) -> str:
    one = name == "delta" or (name in ("lower", "upper") and limits == "equal")
    return "games" if one else "models"


def _solver(kernel: str, limits: str, cost: str, deviations: Deviations) -> Callable[..., Any]:
    """The kernel for a block of games with all models; takes its parameters by name."""
    make_cost, parameters = COSTS[cost]

    def solve(arrays, present):
        lower, upper = arrays["lower"], arrays["upper"]
        if limits == "equal":
            lower, upper = lower[:, None], upper[:, None]
        game = RankingGame(
            PowerLaw(arrays["alpha"], arrays["beta"], lower, upper),
            arrays["rewards"],
            make_cost(*(arrays[name] for name in parameters)),
            present if kernel == "verdict" else None,
        )
        if kernel == "verdict":
            return {"zero_effort_pne": is_zero_effort_pne(game, arrays["delta"], deviations)}
        found = stabilizing_threshold(game, deviations)
        return {name: getattr(found, name) for name in _OUTPUTS}

    return solve


def _in_blocks(solve: Callable[..., Any], names: Sequence[str], limits: str, max_models: int):
    """`solve` for any number of games and models: whole blocks, filled up by repetition."""

    def run(*arguments):
        games, models = arguments[0].shape
        blocks = (games + _BLOCK - 1) // _BLOCK
        row = jnp.minimum(jnp.arange(blocks * _BLOCK), games - 1)
        model = jnp.arange(max_models)
        arrays = {}
        for name, x in zip(names, arguments, strict=True):
            x = x[row]
            if _axes(name, limits) == "models":
                x = x[:, jnp.minimum(model, models - 1)]
            arrays[name] = x.reshape(blocks, _BLOCK, *x.shape[1:])
        # A model that fills up is a weaker copy of the last: it changes neither Δ* nor who decides.
        step = 1 + jnp.abs(arrays["beta"][..., -1:])
        arrays["alpha"] -= step * jnp.maximum(model - (models - 1), 0)
        present = jnp.broadcast_to(model < models, (_BLOCK, max_models))
        found = jax.lax.map(lambda block: solve(block, present), arrays)
        return jax.tree.map(lambda x: x.reshape(blocks * _BLOCK)[jnp.arange(games)], found)

    return run
