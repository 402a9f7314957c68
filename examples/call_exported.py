"""Calls an exported kernel from a program that has JAX and not tbtjax.

    tbtjax export threshold --out threshold.jaxexport
    python examples/call_exported.py threshold.jaxexport

Needs jax alone, and flatbuffers, with which jax reads artefacts.
"""

import json
import pathlib
import sys

import jax
import jax.export
import numpy as np

jax.config.update("jax_enable_x64", True)  # the artefact computes in float64


def main() -> None:
    """Loads the artefact and its description, and asks for the thresholds of two games."""
    path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "threshold.jaxexport")
    kernel = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
    about = json.loads(path.with_name(path.name + ".json").read_text())
    print("arguments:", ", ".join(f"{x['name']} {x['shape']}" for x in about["arguments"]))

    # Two games of three models, strongest first; first place is worth 10 and 1,000 training steps.
    alpha = np.array([[1.0, 0.5, 0.0]] * 2)
    beta = np.array([[0.9, 0.8, 0.7]] * 2)
    lower, upper = np.zeros(2), np.ones(2)
    rewards = np.array([[10.0, 0.0, 0.0], [1000.0, 0.0, 0.0]])
    rate = np.ones((2, 3))
    found = kernel(alpha, beta, lower, upper, rewards, rate)
    for delta, weak, rival, status in zip(
        found["delta"], found["pair"], found["rival"], found["status"], strict=True
    ):
        name = about["status"][str(status)]
        print(f"Δ* = {delta:.6f} steps, decided by model {weak} against {rival}: {name}")


if __name__ == "__main__":
    main()
