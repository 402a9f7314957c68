"""Temporary memory of large batches, from the compiler's own analysis: nothing is run."""

import jax
import numpy as np

from benchmarks import ours

_GAMES = 1_000_000
_MODELS = 20
_CALLS = {
    "Δ*, adjacent": ours.threshold,
    "Δ*, all pairs": ours.threshold_all,
    "whole record, adjacent": ours.record,
    "value and gradient": ours.value_and_gradient,
}


def measure(*, quick: bool) -> list[dict]:
    """Temporary beside input and output bytes of each call on 10⁶ games of 20 models."""
    results = []
    for call, function in _CALLS.items():
        for limits in ("equal", "different"):
            for dtype in ("float32", "float64"):
                if quick and (call, limits, dtype) != ("Δ*, adjacent", "equal", "float64"):
                    continue
                with jax.enable_x64(dtype == "float64"):
                    results.append(
                        {"call": call, "limits": limits, "dtype": dtype}
                        | _analyse(function, 3 if limits == "equal" else 5, dtype)
                    )
    return results


def goals(results: list[dict]) -> list[dict]:
    """Temporary memory ≤ inputs + outputs, for each call analysed."""
    return [
        {
            "row": "memory",
            "work": f"{entry['call']}, {entry['limits']}, {entry['dtype']}",
            "reached": dict.fromkeys(("median", "low", "high"), entry["ratio"]),
            "goal": 1.0,
            "at_least": False,
            "met": entry["ratio"] <= 1.0,
        }
        for entry in results
    ]


def _analyse(function, arguments: int, dtype: str) -> dict:
    shape = jax.ShapeDtypeStruct((_GAMES, _MODELS), np.dtype(dtype))
    analysis = jax.jit(function).lower(*[shape] * arguments).compile().memory_analysis()
    if analysis is None:
        raise RuntimeError("this backend offers no memory analysis")
    moved = analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    return {
        "input_bytes": analysis.argument_size_in_bytes,
        "output_bytes": analysis.output_size_in_bytes,
        "temporary_bytes": analysis.temp_size_in_bytes,
        "ratio": analysis.temp_size_in_bytes / moved,
    }
