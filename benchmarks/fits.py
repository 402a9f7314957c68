"""Fits with free limits, side by side: `python -m benchmarks.fits [--curves N] [--ours]`.

Curves are level at first and rise to a limit far below 1, as measured ones do; ten checkpoints,
14,042 questions, binomial noise. All start from the raw scores. Contestants take turns, round
after round: CPU milliseconds per 1,000 curves (SciPy: of a loop over some), how many times faster
each is than SciPy in the same round (medians), and the share of fits within 0.1 in χ² of the best
that any contestant found.

SciPy runs in three ways, each of which finds its starts itself: from the best node of a grid like
ours, worked out for all curves at once with NumPy; the same with derivatives in closed form in
place of differences; and from six starts between the outermost scores, as without such a grid.

With `--ours`, ours alone on many curves: for `/usr/bin/time -v`, which says what memory that takes.
"""

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from scipy.optimize import least_squares
from scipy.special import expit

from tbtjax.measure import fit_power_law

#: Where SciPy starts on its own: midpoints and rates.
_OWN_STARTS = [(middle, rate) for middle in (3.0, 5.0, 7.0) for rate in (0.7, 2.0)]
_STEPS = np.array([0, 10, 30, 100, 250, 500, 1000, 2000, 3000, 4000.0])
_QUESTIONS = 14042
#: Where the others start: at the best χ² of these midpoints and rates, as ours do.
_MIDPOINTS, _RATES = np.linspace(0.0, 8.3, 18), np.geomspace(0.15, 12, 8)


def draw_scores(curves: int, seed: int = 0) -> np.ndarray:
    """`[curves, points]` measured scores."""
    random = np.random.default_rng(seed)
    lower = random.uniform(0.25, 0.5, (curves, 1))
    upper = lower + random.uniform(0.1, 0.4, (curves, 1))
    rate, middle = random.uniform(0.4, 2.0, (curves, 1)), random.uniform(3, 7, (curves, 1))
    center = lower + (upper - lower) * expit(rate * (np.log1p(_STEPS) - middle))
    return random.binomial(_QUESTIONS, center) / _QUESTIONS


def _sigma(scores: np.ndarray) -> np.ndarray:
    share = (scores * _QUESTIONS + 0.5) / (_QUESTIONS + 1)
    return np.sqrt(share * (1 - share) / _QUESTIONS)


def starts(scores: np.ndarray) -> np.ndarray:
    """`[curves, 4]` alpha, beta, lower, upper: the best logit of a grid, limits by regression."""
    x, weight = np.log1p(_STEPS), 1 / _sigma(scores) ** 2
    best, found = np.full(len(scores), np.inf), np.zeros((len(scores), 4))
    total = weight.sum(axis=1)
    mean_score = (weight * scores).sum(axis=1) / total
    for middle in _MIDPOINTS:
        for rate in _RATES:
            rise = expit(rate * (x - middle))
            mean = (weight * rise).sum(axis=1) / total
            from_mean = rise - mean[:, None]
            spread = (weight * from_mean**2).sum(axis=1)
            span = (weight * from_mean * (scores - mean_score[:, None])).sum(axis=1) / spread
            lower = np.clip(mean_score - span * mean, 0, 1)
            upper = np.clip(lower + span, 0, 1)
            fitted = lower[:, None] + (upper - lower)[:, None] * rise
            loss = (weight * (scores - fitted) ** 2).sum(axis=1)
            here = np.stack([*np.broadcast_arrays(-rate * middle, rate, lower, upper)], axis=-1)
            found = np.where((loss < best)[:, None], here, found)
            best = np.minimum(best, loss)
    return found


def ours(scores: np.ndarray, method: Any) -> np.ndarray:
    """χ² by `fit_power_law`."""
    fit = fit_power_law(_STEPS, scores, questions=_QUESTIONS, limits="free", method=method)
    return np.asarray(fit.chi2)


def _scipy_trf(scores: np.ndarray, starts: np.ndarray, closed_form: bool = False) -> np.ndarray:
    """The least χ² by `scipy.optimize.least_squares` with bounds, one curve after the other.

    Args:
      scores: `[curves, points]`.
      starts: `[curves, starts, 4]`.
      closed_form: whether derivatives are in closed form, not differences.
    """
    x, sigma, chi2 = np.log1p(_STEPS), _sigma(scores), []
    bounds = ([-np.inf, -20, 0, 0], [np.inf, 20, 1, 1])
    starts = np.clip(starts, [-np.inf, -20, 1e-6, 1e-6], [np.inf, 20, 1 - 1e-6, 1 - 1e-6])
    for score, error, own in zip(scores, sigma, starts, strict=True):

        def residual(p, score=score, error=error):
            return (score - p[2] - (p[3] - p[2]) * expit(p[0] + p[1] * x)) / error

        def derivatives(p, error=error):
            rise = expit(p[0] + p[1] * x)
            slope = (p[3] - p[2]) * rise * (1 - rise)
            return np.stack([slope, slope * x, 1 - rise, rise], axis=-1) / -error[:, None]

        options = {"bounds": bounds, "jac": derivatives if closed_form else "2-point"}
        chi2.append(min(2 * least_squares(residual, start, **options).cost for start in own))
    return np.array(chi2)


def scipy_from_grid(scores: np.ndarray, closed_form: bool = False) -> np.ndarray:
    """χ² by SciPy from the best node of the grid, which is searched for first."""
    return _scipy_trf(scores, starts(scores)[:, None], closed_form)


def scipy_multistart(scores: np.ndarray) -> np.ndarray:
    """χ² by SciPy, the best of several starts between the outermost scores."""
    none, low, high = np.zeros(len(scores)), scores.min(axis=1), scores.max(axis=1)
    own = [
        np.stack([none - rate * middle, none + rate, low, high], axis=-1)
        for middle, rate in _OWN_STARTS
    ]
    return _scipy_trf(scores, np.stack(own, axis=1))


@jax.jit
def _optimistix(scores, sigma, first):
    solver = optimistix.LevenbergMarquardt(rtol=1e-6, atol=1e-6)

    def residual(p, known):
        score, error = known
        curve = p[2] + (p[3] - p[2]) * jax.nn.sigmoid(p[0] + p[1] * jnp.log1p(_STEPS))
        return (score - curve) / error

    def one(score, error, p):
        known = (score, error)
        found = optimistix.least_squares(residual, solver, p, known, max_steps=100, throw=False)
        return jnp.sum(residual(found.value, known) ** 2)

    return jax.vmap(one)(scores, sigma, first)


def optimistix_lm(scores: np.ndarray) -> np.ndarray:
    """χ² by `optimistix.LevenbergMarquardt` under `vmap`, limits without bounds."""
    return np.asarray(_optimistix(scores, _sigma(scores), starts(scores)))


CONTESTANTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tbtjax, Levenberg-Marquardt": functools.partial(ours, method="levenberg-marquardt"),
    "tbtjax, L-BFGS by Optax": functools.partial(ours, method="lbfgs"),
    "optimistix Levenberg-Marquardt": optimistix_lm,
}
SCIPY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "SciPy, grid": scipy_from_grid,
    "SciPy, grid, closed form": functools.partial(scipy_from_grid, closed_form=True),
    "SciPy, six starts": scipy_multistart,
}


def _cpu_seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--ours", action="store_true", help="ours by Levenberg-Marquardt alone")
    options = parser.parse_args()
    with jax.enable_x64(True):
        scores = draw_scores(options.curves)
        if options.ours:
            chi2 = ours(scores, "levenberg-marquardt")
            print(f"{options.curves:,} curves, median chi2 {np.median(chi2):.2f}")
            return
        # So many that SciPy's grid costs per curve what it would for all of them, to a few %.
        part = scores[: max(1, options.curves // options.rounds)]
        calls = {
            name: functools.partial(solve, part if name in SCIPY else scores)
            for name, solve in (CONTESTANTS | SCIPY).items()
        }
        first = {name: call() for name, call in calls.items()}  # compiles
        seconds = np.array(
            [[_cpu_seconds(call) for call in calls.values()] for _ in range(options.rounds)]
        )
    best = np.full(len(scores), np.inf)
    for chi2 in first.values():
        best[: len(chi2)] = np.fmin(best[: len(chi2)], chi2)
    counts = np.array([len(chi2) for chi2 in first.values()])
    per_curve = dict(zip(calls, (seconds / counts).T, strict=True))
    titles = [f"x {name.removeprefix('SciPy, ')}" for name in SCIPY]
    print(f"{'':32}{'CPU ms':>9}{'within 0.1':>12}" + "".join(f"{x:>21}" for x in titles))
    for name, chi2 in first.items():
        share = np.mean(chi2 < best[: len(chi2)] + 0.1)
        ratios = [np.median(per_curve[other] / per_curve[name]) for other in SCIPY]
        line = f"{name:32}{1e6 * np.median(per_curve[name]):9.1f}{share:12.1%}"
        print(line + "".join(f"{x:21.1f}" for x in ratios))


if __name__ == "__main__":
    main()
