"""Curves in capability order against SciPy under the same constraints."""

import jax
import numpy as np
import pytest
from marks import mostly_float64
from scipy.optimize import least_squares, minimize
from scipy.special import xlogy
from scipy.stats import chi2 as chi2_distribution
from test_joint_fits import EFFORTS, STEPS, curve, llama, simulated, used

from tbtjax.measure import FitFlag, fit_power_law_in_order

QUESTIONS = 3000
LIMITS = {"lower": 0.25, "upper": 1.0}


def boards():
    """`[6, 4, 10]` scores and questions: measured, in order, nearly, reversed, with gaps."""
    random = np.random.default_rng(5)
    scores = np.empty((6, 4, 10))
    questions = np.full(scores.shape, float(QUESTIONS))
    scores[0], questions[0] = llama()
    alpha = np.array([[1.0, 0.3, -0.4, -1.5], [0.2, 0.1, 0.05, 0.0], [-1.0, -0.5, 0.4, 0.9]])
    beta = np.array([[0.5, 0.4, 0.3, 0.2], [0.3, 0.29, 0.3, 0.28], [0.1, 0.3, 0.2, 0.5]])
    exact = curve(alpha[..., None], beta[..., None], 0.25, 1.0, EFFORTS)
    scores[1:4] = random.binomial(QUESTIONS, exact) / QUESTIONS
    scores[4], scores[5] = scores[2], scores[3]
    scores[4, 1] = np.nan
    scores[5, 2, 3] = -0.1
    return scores, questions


def scipy_in_order(models, limits=None):
    """The least χ² of curves in order that SciPy finds, in drops from model to model.

    With `limits`, these are fixed; without, they are fitted.
    """
    n = len(models)

    def parameters(p):
        alpha = p[0] - np.concatenate([[0], np.cumsum(p[1:n])])
        beta = p[n] - np.concatenate([[0], np.cumsum(p[n + 1 : 2 * n])])
        return alpha, beta, *(p[2 * n :] if limits is None else limits)

    def residuals(p):
        alpha, beta, lower, upper = parameters(p)
        return np.concatenate(
            [
                (s - curve(a, b, lower, upper, x)) / e
                for a, b, (x, s, e) in zip(alpha, beta, models, strict=True)
            ]
        )

    low = [-30, *(n - 1) * [0], -20, *(n - 1) * [0]]
    high = [30, *(n - 1) * [40], 20, *(n - 1) * [40]]
    random = np.random.default_rng(0)
    best = np.inf
    for start in range(6):
        first = [random.normal(), *(n - 1) * [0.1], random.uniform(0.1, 0.8), *(n - 1) * [0.02]]
        if limits is None:
            first += [(0.05, 0.2)[start % 2], (0.95, 0.75)[start // 2 % 2]]
        bounds = ([*low, 0, 0.5], [*high, 0.5, 1]) if limits is None else (low, high)
        found = least_squares(
            residuals, first, bounds=bounds, x_scale="jac", xtol=1e-14, ftol=1e-14, max_nfev=2000
        )
        best = min(best, 2 * found.cost)
    return best


def present(board):
    scores, questions = board
    bad = np.isnan(scores).all(axis=1) | np.any(scores < 0, axis=1)
    return used(scores[~bad], questions[~bad])


def in_order(scores, questions, dtype=np.float64, **options):
    """The fits in order, one program for all boards."""
    columns = (np.asarray(x, dtype) for x in (STEPS, scores))
    return fit_power_law_in_order(
        *columns,
        questions=np.asarray(questions, dtype),
        method="levenberg-marquardt",
        **options,
    )


@mostly_float64
def test_curves_in_order_are_those_of_scipy(dtype):
    scores, questions = boards()
    known = [
        scipy_in_order(present(board), tuple(LIMITS.values()))
        for board in zip(scores, questions, strict=True)
    ]
    found = in_order(scores, questions, dtype, **LIMITS)
    assert found.fit.chi2.dtype == found.price.dtype == dtype
    total = np.nansum(found.fit.chi2, axis=-1)
    # Measured: at most 2e-9 of it from SciPy's in float64, 1e-6 in float32.
    np.testing.assert_allclose(total, known, rtol=1e-7 if dtype == np.float64 else 1e-5)
    assert not np.any(found.fit.has(FitFlag.NOT_CONVERGED))
    apart = np.nansum(found.apart.chi2, axis=-1)
    np.testing.assert_allclose(found.price, total - apart, rtol=1e-4, atol=1e-4)
    for name in ("alpha", "beta"):
        for values in np.asarray(getattr(found.fit.curves, name)):
            assert np.all(np.diff(values[~np.isnan(values)]) <= 0)
    assert int(found.fit.flags[4, 1]) == FitFlag.TOO_FEW_POINTS
    assert int(found.fit.flags[5, 2]) == FitFlag.INVALID
    # The neighbours of who is absent are in order all the same, and tied where that is needed.
    assert np.all(found.tied[5, 2]) and not np.any(found.tied[5, 1])
    assert found.ties[5] == 4


def test_an_order_that_holds_costs_nothing(x64):
    scores, questions = boards()
    found = in_order(scores, questions, **LIMITS)
    price, ties = np.asarray(found.price), np.asarray(found.ties)
    assert price[1] == ties[1] == 0 and found.p_value[1] == 1
    assert np.all(price[[0, 2, 3]] > 0) and np.all(ties[[0, 2, 3]] > 0)
    for one, other in zip(jax.tree.leaves(found.fit), jax.tree.leaves(found.apart), strict=True):
        if one.ndim:
            np.testing.assert_array_equal(one[1], other[1])
    expected = chi2_distribution.sf(price, np.maximum(ties, 1))
    np.testing.assert_allclose(found.p_value, np.where(ties > 0, expected, 1), rtol=1e-6)


def test_reversed_models_are_one_curve_known_by_all_points(x64):
    scores, questions = boards()
    found = in_order(scores, questions, **LIMITS)
    assert np.all(found.tied[3]) and found.ties[3] == 6
    models = present((scores[3], questions[3]))
    x, score, sigma = (np.concatenate(column) for column in zip(*models, strict=True))
    pooled = least_squares(
        lambda p: (score - curve(*p, *LIMITS.values(), x)) / sigma, (0, 0.3), xtol=1e-14
    )
    assert np.sum(found.fit.chi2[3]) == pytest.approx(2 * pooled.cost, rel=1e-8)
    deviation = np.sqrt(np.diag(np.linalg.inv(pooled.jac.T @ pooled.jac)))
    for model in range(4):
        curves = found.fit.curves
        np.testing.assert_allclose(
            [curves.alpha[3, model], curves.beta[3, model]], pooled.x, atol=1e-5
        )
        np.testing.assert_allclose(found.fit.deviation[3, model, :2], deviation, rtol=1e-4)


@pytest.mark.slow
def test_shared_limits_in_order_are_those_of_scipy(x64):
    scores = simulated(7, (6, 4))
    scores[1] = scores[1, [1, 0, 2, 3]]
    scores[2] = scores[2, ::-1]
    found = in_order(scores, np.full(scores.shape, QUESTIONS), limits="shared")
    for board in (0, 1):
        known = scipy_in_order(used(scores[board], QUESTIONS))
        assert np.sum(found.fit.chi2[board]) == pytest.approx(known, rel=1e-6)
    assert np.all(found.price[1:3] > 0)
    assert np.all(found.fit.curves.lower == found.fit.curves.lower[:, :1])


@pytest.mark.slow
def test_one_model_has_no_order(x64):
    found = fit_power_law_in_order(
        STEPS, boards()[0][:1, :1], questions=4000.0, method="levenberg-marquardt", **LIMITS
    )
    assert found.tied.shape == (1, 0, 2) and found.price == 0 and found.p_value == 1
    np.testing.assert_array_equal(found.fit.chi2, found.apart.chi2)


@pytest.mark.slow
def test_many_models_and_the_deviance(x64):
    scores = simulated(8, (3, 12), 60)
    found = in_order(scores, np.full(scores.shape, 60), loss="deviance", **LIMITS)

    def deviance(p, scores):
        alpha, beta = np.reshape(p, (2, -1))
        alpha, beta = alpha[0] - np.append(0, np.cumsum(alpha[1:])), np.cumsum(beta[::-1])[::-1]
        share = curve(alpha[:, None], beta[:, None], *LIMITS.values(), EFFORTS)
        share = np.minimum(share, 1 - 1e-12)
        right = xlogy(scores, scores / share) + xlogy(1 - scores, (1 - scores) / (1 - share))
        return 2 * 60 * np.sum(right)

    for board in range(3):
        bounds = [(-20, 20), *(11 * [(0, 9)]), *(11 * [(0, 9)]), (-5, 5)]
        least = min(
            minimize(
                deviance,
                [1, *(11 * [drop]), *(11 * [0.02]), 0.1],
                (scores[board],),
                bounds=bounds,
                options={"maxiter": 5000, "maxfun": 500_000, "ftol": 1e-13},
            ).fun
            for drop in (0.1, 0.3)
        )
        print(f"deviance less SciPy's: {np.sum(found.fit.chi2[board]) - least:.2g}")
        assert np.sum(found.fit.chi2[board]) <= least + 1e-3


@pytest.mark.slow
def test_jit_and_vmap_agree_with_leading_axes(x64):
    scores, questions = boards()

    def fit(scores, questions):
        found = in_order(scores, questions, **LIMITS)
        return found.price, found.fit.curves.alpha

    def traced(scores, questions):
        found = fit_power_law_in_order(STEPS, scores, questions=questions, **LIMITS)
        return found.price, found.fit.curves.alpha

    expected = fit(scores, questions)
    for same in (jax.jit(traced)(scores, questions), jax.vmap(traced)(scores, questions)):
        for one, other in zip(same, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_what_has_no_order_is_refused():
    scores = np.full((3, 4), 0.5)
    steps = np.arange(4.0)
    with pytest.raises(ValueError, match='limits must be "fixed" or "shared"'):
        fit_power_law_in_order(steps, scores, limits="free")
    with pytest.raises(ValueError, match=r"lower must be the same for all models.* \(3,\)"):
        fit_power_law_in_order(steps, scores, lower=[0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="models in order; got one curve"):
        fit_power_law_in_order(steps, scores[0])
