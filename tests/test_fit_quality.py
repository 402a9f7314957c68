"""Free-limit fits of 1,000 resampled curves against the best of an exhaustive search."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measured import path_of
from scipy.optimize import least_squares
from scipy.special import expit

from tbtjax.measure import (
    _levenberg,
    _minimize,
    _queue,
    fit_power_law,
    read_trajectories,
)
from tbtjax.measure._measurements import as_measurements, centered

CURVES, SAMPLE = 1000, 25


@pytest.fixture(scope="module")
def resampled():
    """`[curves, points]` steps, scores and questions around fits of measured curves."""
    data = read_trajectories(path_of("mmlu_finetuning.csv")).arrays()
    with jax.enable_x64(True):
        fit = fit_power_law(data.steps, data.scores, questions=data.questions, limits="free")
        curves = jax.tree.map(lambda x: np.asarray(x)[:, None], fit.curves)
    random = np.random.default_rng(0)
    z = curves.alpha + curves.beta * np.log1p(data.steps)
    center = curves.lower + (curves.upper - curves.lower) * expit(z)
    rows = np.arange(CURVES) % len(center)
    known = np.nan_to_num(data.questions).astype(int)[rows]
    counts = random.binomial(known, np.nan_to_num(center)[rows])
    scores = np.where(known > 0, counts / np.maximum(known, 1), np.nan)
    return data.steps[rows], scores, data.questions[rows]


@pytest.fixture(scope="module")
def best(resampled):
    """`[curves]` the least χ² of Levenberg-Marquardt from every node of a grid, in float64."""
    with jax.enable_x64(True):
        data = as_measurements(
            *(jnp.asarray(x) for x in resampled), None, jnp.zeros(()), jnp.ones(()), deviance=False
        )
        used = data.measured
        _, effort = centered(data.effort, used)
        columns = (effort, data.score, data.weight, data.questions)
        points = _minimize.Points(*(jnp.where(used, x, 0).T for x in columns))
        ones = jnp.ones(CURVES)
        problem = _minimize.Problem(points, 0 * ones, ones, ones, True, "chi2")
        first, last = points.effort.min(axis=0) - 0.5, points.effort.max(axis=0) + 0.5

        @jax.jit
        def search(shares, rates):
            def look(least, node):
                share, rate = node
                level = -rate * (first + (last - first) * share)
                found = _queue.run(_levenberg, problem, level, rate * ones, ones > 0)
                return jnp.minimum(least, found.loss), None

            flat = problem.total(problem.constant())
            return jax.lax.scan(look, flat, (shares, rates))[0]

        shares, rates = np.meshgrid(np.linspace(0, 1, 18), np.geomspace(0.15, 12, 8))
        return np.asarray(search(jnp.asarray(shares.ravel()), jnp.asarray(rates.ravel())))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lbfgs", "levenberg-marquardt"])
def test_fits_are_the_best_of_an_exhaustive_search(resampled, best, method, dtype):
    steps, scores, questions = (np.asarray(x, dtype) for x in resampled)
    fit = fit_power_law(steps, scores, questions=questions, limits="free", method=method)
    chi2 = np.asarray(fit.chi2)
    assert chi2.dtype == dtype
    for values in (chi2, fit.curves.alpha, fit.curves.beta, fit.curves.lower, fit.curves.upper):
        assert np.all(np.isfinite(values))
    close = np.mean(chi2 - best < 0.1)
    print(f"{method} {dtype}: {close:.2%} within 0.1, worst {np.max(chi2 - best):.2g}")
    assert close >= 0.99


@pytest.mark.slow
def test_the_search_is_not_beaten_by_scipy(resampled, best):
    random = np.random.default_rng(1)
    worst = -np.inf
    for row in random.choice(CURVES, SAMPLE, replace=False):
        steps, score, questions = (x[row] for x in resampled)
        there = ~np.isnan(score)
        x, score, questions = np.log1p(steps[there]), score[there], questions[there]
        share = (score * questions + 0.5) / (questions + 1)
        sigma = np.sqrt(share * (1 - share) / questions)

        def residual(p, x=x, score=score, sigma=sigma):
            level = p[0] * (x - p[1])
            return (score - p[2] - (p[3] - p[2]) * expit(level)) / sigma

        low, high = score.min(), score.max()
        for middle in np.linspace(0, 8, 5):
            for rate in (0.2, 1.0, 4.0):
                start = [rate, middle, max(low - 0.02, 0.01), min(high + 0.02, 0.99)]
                bounds = ([-20, -50, 0, 0], [20, 60, 1, 1])
                found = least_squares(residual, start, bounds=bounds)
                worst = max(worst, best[row] - 2 * found.cost)
    print(f"SciPy is better by {worst:.2g} at most on {SAMPLE} curves")
    assert worst < 0.1
