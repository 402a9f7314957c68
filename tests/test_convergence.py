"""Whether fits converge, and say so, where a fitted limit comes near its bound.

There a flat valley of the loss ends at a wall, and rounding to float32 hides the last of the fall.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measured import path_of
from scipy.optimize import least_squares, lsq_linear
from scipy.special import expit, rel_entr

from tbtjax.measure import FitFlag, fit_power_law, read_trajectories
from tbtjax.measure._measurements import as_measurements, centered
from tbtjax.measure._minimize import Points, Problem
from tbtjax.measure._summary import held_back, summarize

#: The best upper limit of this model is at its bound; far below it χ² is hardly larger.
AT_BOUND = "stablelm-3b-4e1t"
#: All models are fitted so many times, to scores that differ by some units in float32's last place:
#: one machine then meets what others make of one set of scores.
COPIES = 18
#: Tolerances of scipy.
EXACT = {"xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14}


def slow(*values):
    """Values of a parameter that the usual run has no time for."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def data():
    """Measured scores of 55 models."""
    return read_trajectories(path_of("mmlu_finetuning.csv")).arrays()


@pytest.fixture(scope="module")
def copies(data):
    """`[copies, models, points]` the scores in float32, some units in the last place off."""
    shift = np.random.default_rng(0).integers(-4, 5, (COPIES, *data.scores.shape))
    return np.clip(data.scores * (1 + shift * 2.0**-23), 0, 1).astype(np.float32)


def fitted(data, scores, dtype, loss, method="lbfgs"):
    """Fits with free limits, as NumPy arrays."""
    with jax.enable_x64(dtype == "float64"):
        known = (data.steps, scores, data.questions)
        steps, scores, questions = (jnp.asarray(x, dtype) for x in known)
        options = {"limits": "free", "loss": loss, "method": method}
        fit = fit_power_law(steps, scores, questions=questions, **options)
        return jax.tree.map(np.asarray, fit)


@pytest.fixture(scope="module")
def in_float64(data, copies):
    """`[copies, models]` χ² or deviance in float64, by name."""
    return functools.cache(lambda loss: fitted(data, copies, "float64", loss).chi2)


def residual(data, scores):
    """The residuals of the model at its bound, of alpha, beta, lower and upper."""
    i = data.models.index(AT_BOUND)
    x, questions, scores = np.log1p(data.steps[i]), data.questions[i], np.asarray(scores, float)
    share = (np.round(scores * questions) + 0.5) / (questions + 1)
    sigma = np.sqrt(share * (1 - share) / questions)
    return lambda p: (scores - p[2] - (p[3] - p[2]) * expit(p[0] + p[1] * x)) / sigma


@pytest.mark.parametrize(
    ("dtype", "loss", "method"),
    [
        ("float32", "chi2", "lbfgs"),
        ("float64", "chi2", "lbfgs"),
        slow("float32", "chi2", "levenberg-marquardt"),
        slow("float64", "chi2", "levenberg-marquardt"),
        slow("float32", "deviance", "lbfgs"),
        slow("float32", "deviance", "levenberg-marquardt"),
    ],
)
def test_rounding_does_not_decide_what_converges(data, copies, in_float64, dtype, loss, method):
    fit = fitted(data, copies, dtype, loss, method)
    assert fit.chi2.dtype == dtype
    assert not np.any(fit.has(FitFlag.NOT_CONVERGED))
    enough = 1e-3 * np.maximum(1, fit.chi2 / fit.dof)
    # Measured: at most 0.15 of that for χ², 0.6 for the deviance.
    assert np.all(np.abs(fit.chi2 - in_float64(loss)) <= enough)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits_at_their_bound_against_scipy(data, copies, dtype):
    i = data.models.index(AT_BOUND)
    chi2 = fitted(data, copies, dtype, "chi2").chi2[:, i]
    # Measured: at most 2e-13 above scipy's in float64, 4e-4 in float32.
    margin = 1e-9 if dtype == "float64" else 1e-3
    bounds = ([-200, -20, 0, 0], [200, 20, 1, 1])
    for copy in range(0, COPIES, 3):
        error = residual(data, copies[copy, i])
        known = least_squares(error, (-4, 0.3, 0.4, 0.9), bounds=bounds, max_nfev=2000, **EXACT)
        assert chi2[copy] <= 2 * known.cost + margin, copy


def test_the_deviance_has_the_digits_of_the_scores():
    random = np.random.default_rng(2)
    x, count = np.log1p([0, 10, 30, 100, 250, 500, 1000, 2000, 3000, 4000.0]), 14042
    level, rate = random.uniform(-3, 3, 300), random.uniform(0.1, 1.5, 300)
    lower, upper = random.uniform(0, 0.4, 300), random.uniform(0.6, 1, 300)
    lower[::3], upper[::4] = 0, 1
    columns = (np.tile((x - x.mean())[:, None], 300), level, rate, lower, upper)
    effort, *parameters = (np.asarray(values, np.float32) for values in columns)
    level, rate, lower, upper = (np.asarray(values, float) for values in parameters)
    z = level + rate * effort.astype(float)
    right = lower * expit(-z) + upper * expit(z)
    wrong = (1 - lower) * expit(-z) + (1 - upper) * expit(z)
    scores = (random.binomial(count, right) / count).astype(np.float32)
    measured = scores.astype(float)
    terms = rel_entr(measured, right) + rel_entr(1 - measured, wrong)
    expected = 2 * count * np.sum(terms, axis=0)
    used = np.full_like(scores, count)
    ones = jnp.ones(300, jnp.float32)
    points = Points(*(jnp.asarray(values) for values in (effort, scores, used, used)))
    problem = Problem(points, 0 * ones, ones, ones, True, "deviance")
    found = problem.total(problem.curve(*(jnp.asarray(values) for values in parameters)))
    assert found.dtype == jnp.float32
    # Measured: 1.3e-4. Differences of logarithms are 1.5e-2 off.
    np.testing.assert_allclose(found, expected, atol=5e-4)


def test_what_is_left_ends_at_the_bounds(data, x64):
    # Along the valley: the best curves for upper limits below their bound.
    i = data.models.index(AT_BOUND)
    error = residual(data, data.scores[i])
    uppers = np.array([0.9, 0.95, 0.98, 0.99, 0.999, 0.9999, 1])
    found = [least_squares(lambda p, u=u: error((*p, u)), (-4, 0.3, 0.4), **EXACT) for u in uppers]
    alpha, beta, lower = np.stack([x.x for x in found], axis=1)
    chi2 = np.array([2 * x.cost for x in found])
    steps, scores, questions = (
        jnp.asarray(np.tile(x[i], (len(uppers), 1)))
        for x in (data.steps, data.scores, data.questions)
    )
    zero, one = jnp.zeros(()), jnp.ones(())
    known = as_measurements(steps, scores, questions, None, zero, one, deviance=False)
    center, effort = centered(known.effort, known.measured)
    points = Points(*(x.T for x in (effort, known.score, known.weight, known.questions)))
    ones = jnp.ones(len(uppers))
    problem = Problem(points, 0 * ones, ones, ones, True, "chi2")
    curve = problem.curve(alpha + beta * center, beta, jnp.asarray(lower), jnp.asarray(uppers))
    minimum = summarize(problem, curve, center)
    np.testing.assert_allclose(minimum.loss, chi2, rtol=1e-9)
    # Six degrees of freedom; 0.98 leaves 1.35 times a thousandth of χ² for each, 0.99 two thirds.
    np.testing.assert_array_equal(minimum.converged, chi2 - chi2[-1] <= 1e-3 * chi2 / 6)
    assert 0 < np.sum(minimum.converged) < len(uppers)


def test_what_bounds_hold_back_against_scipy(x64):
    random = np.random.default_rng(1)
    roots = random.normal(size=(200, 2, 2)) * [[[1.0, 0.3]]]
    # The model is |root·(x − step)|²; half its Hessian is root'·root.
    covariance = np.linalg.inv(np.swapaxes(roots, 1, 2) @ roots)
    step = random.normal(scale=1.5, size=(200, 2))
    least, most = -random.exponential(size=(200, 2)), random.exponential(size=(200, 2))
    least[::3, 0] = most[::5, 1] = 0  # a limit at its bound
    expected = [
        2 * lsq_linear(root, root @ x, (low, high), tol=1e-14).cost
        for root, x, low, high in zip(roots, step, least, most, strict=True)
    ]
    arguments = (jnp.asarray(np.moveaxis(x, 0, -1)) for x in (step, covariance, least, most))
    found = held_back(*arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert 0 < np.sum(found == 0) < 100
