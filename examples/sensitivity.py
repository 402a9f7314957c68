"""Which model's which parameter moves Δ* most?

Five models on one benchmark, with the standard errors of their fitted curves (made-up figures of a
likely size; put your own fits in their place). Derivatives of the stabilizing threshold Δ* come
from the implicit function theorem, at the price of one more solve; each is shown by itself, as an
elasticity (per cent of Δ* for a per cent of the parameter) and per standard error, which says whose
curve to measure better. A parameter has a derivative only if its model belongs to the pair that
decides Δ*; the other models may be anything near what they are.

Run it with `python examples/sensitivity.py`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import tbtjax

MODELS = ("27B", "12B", "4B", "1B", "270M")
PARAMETERS = ("alpha", "beta", "lower", "upper", "reward", "cost rate")
ALPHA = np.array([1.55, 1.08, 0.71, 0.22, -0.35])
BETA = np.array([0.310, 0.304, 0.292, 0.281, 0.240])
# The same limits for all: then neither moves Δ*, and they drop out of the table.
LOWER, UPPER = np.array([0.25]), np.array([0.95])
REWARDS = np.array([400.0, 150.0, 60.0, 20.0, 0.0])
COST = np.ones(5)
STANDARD_ERROR = {
    "alpha": np.array([0.02, 0.02, 0.02, 0.03, 0.03]),
    "beta": np.array([0.003, 0.003, 0.003, 0.004, 0.005]),
}


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """What one parameter of one model does to Δ*.

    Attributes:
      model: whose parameter; for a reward, whose rank.
      parameter: which one.
      derivative: ∂Δ*/∂p, in training steps per unit of the parameter.
      elasticity: p/Δ*·∂Δ*/∂p.
      per_standard_error: steps that one standard error makes; NaN where there is none.
    """

    model: str
    parameter: str
    derivative: float
    elasticity: float
    per_standard_error: float


def threshold(parameters: list[jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Δ* of the game with these parameters, in the order of `PARAMETERS`, and who decides it."""
    alpha, beta, lower, upper, rewards, rate = parameters
    curves = tbtjax.power_law(alpha, beta, lower, upper)
    game = tbtjax.ranking_game(curves, rewards, tbtjax.linear_cost(rate))
    found = tbtjax.stabilizing_threshold(game)
    return found.delta, (found.pair, found.rival)


def sensitivities() -> tuple[float, str, list[Sensitivity]]:
    """Δ*, who decides it, and what moves it, the largest effect of a standard error first."""
    values = [ALPHA, BETA, LOWER, UPPER, REWARDS, COST]
    with jax.enable_x64(True):
        solve = jax.jit(jax.value_and_grad(threshold, has_aux=True))
        solved = solve([jnp.asarray(x) for x in values])
    (delta, (pair, rival)), slopes = jax.tree.map(np.asarray, solved)
    rows = []
    for name, value, slope in zip(PARAMETERS, values, slopes, strict=True):
        error = STANDARD_ERROR.get(name, np.full(len(value), np.nan))
        for i in np.flatnonzero(slope):
            rows.append(
                Sensitivity(
                    model=MODELS[i] if len(value) > 1 else "all",
                    parameter=name,
                    derivative=float(slope[i]),
                    elasticity=float(value[i] * slope[i] / delta),
                    per_standard_error=float(np.abs(slope[i]) * error[i]),
                )
            )
    rows.sort(key=lambda row: (-np.nan_to_num(row.per_standard_error), -abs(row.elasticity)))
    return float(delta), f"{MODELS[int(pair)]} against {MODELS[int(rival)]}", rows


def table(delta: float, decided_by: str, rows: list[Sensitivity]) -> str:
    """The rows as text."""
    lines = [
        f"Δ* = {delta:.2f} steps, decided by {decided_by}",
        f"{'model':<6} {'parameter':<10} {'∂Δ*/∂p':>12} {'elasticity':>11} {'one s.e.':>12}",
    ]
    for row in rows:
        error = "" if np.isnan(row.per_standard_error) else f"±{row.per_standard_error:.1f} steps"
        lines.append(
            f"{row.model:<6} {row.parameter:<10} {row.derivative:>12.4g} {row.elasticity:>11.3g} "
            f"{error:>12}"
        )
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    print(table(*sensitivities()))


if __name__ == "__main__":
    main()
