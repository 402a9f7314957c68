"""Limits shared by groups of models, and curves in capability order, against SciPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import mostly_float64
from measured import find, path_of
from scipy.optimize import least_squares, minimize
from scipy.special import expit, logit, xlogy

from tbtjax.measure import (
    FitFlag,
    bootstrap_power_law,
    fit_power_law,
    read_trajectories,
)

STEPS = np.array([0, 10, 30, 100, 250, 500, 1000, 2000, 3000, 4000.0])
EFFORTS = np.log1p(STEPS)
QUESTIONS = 3000
#: Boards of four models with ten points: one shape, one program.
BOARDS, MODELS = 6, 4


def llama():
    """`[4, 10]` measured MMLU scores of the llama family and their numbers of questions.

    Where the measurements are not, scores drawn from the paper's regression on them, which breaks
    the order in the same way: β rises from model to model.
    """
    path = find("mmlu_finetuning.csv")
    if path is None:
        alpha = np.array([-0.0260, -0.3826, -1.1279, -1.9837])[:, None]
        beta = np.array([0.0396, 0.0630, 0.1152, 0.2135])[:, None]
        exact = curve(alpha, beta, 0.25, 1.0, EFFORTS)
        drawn = np.random.default_rng(1).binomial(QUESTIONS, exact) / QUESTIONS
        return drawn, np.full(drawn.shape, float(QUESTIONS))
    data = read_trajectories(path).arrays()
    rows = [data.models.index(f"llama-{size}") for size in ("65b", "30b", "13b", "7b")]
    return data.scores[rows], data.questions[rows]


def simulated(seed, size=(BOARDS, MODELS), questions=QUESTIONS):
    """`[boards, models, points]` scores by shared limits, the order true or nearly so."""
    random = np.random.default_rng(seed)
    lower = random.uniform(0.2, 0.4, (size[0], 1, 1))
    upper = random.uniform(0.6, 0.95, (size[0], 1, 1))
    alpha = -np.sort(random.uniform(-1, 3.5, size), axis=1)[..., None]
    beta = -np.sort(-random.uniform(0.1, 0.8, size), axis=1)[..., None]
    exact = lower + (upper - lower) * expit(alpha + beta * EFFORTS)
    return random.binomial(questions, exact) / questions


def used(scores, questions):
    """(efforts, scores, σ) of each model that has scores."""
    models = []
    for score, known in zip(scores, np.broadcast_to(questions, scores.shape), strict=True):
        there = ~np.isnan(score)
        share = (np.round(score * known) + 0.5) / (known + 1)
        sigma = np.sqrt(share * (1 - share) / known)
        if there.any():
            models.append((EFFORTS[there], score[there], sigma[there]))
    return models


def curve(alpha, beta, lower, upper, x):
    return lower + (upper - lower) * expit(alpha + beta * x)


def regressed(model, lower, upper):
    """α and β of a regression on the logits between these limits."""
    x, score, sigma = model
    share = np.clip((score - lower) / (upper - lower), 0.02, 0.98)
    beta, alpha = np.polyfit(x, logit(share), 1, w=share * (1 - share) / sigma)
    return alpha, beta


def scipy_shared(models, bounds=(0.0, 1.0)):
    """The least χ² that SciPy finds with limits shared by all models, from several starts."""

    def residuals(p):
        parts = zip(p[:-2].reshape(-1, 2), models, strict=True)
        return np.concatenate([(s - curve(*own, *p[-2:], x)) / e for own, (x, s, e) in parts])

    least = min(model[1].min() for model in models)
    most = max(model[1].max() for model in models)
    free = len(models) * [-60, -20], len(models) * [60, 20]
    low = [*free[0], bounds[0], bounds[0]]
    high = [*free[1], bounds[1], bounds[1]]
    best = None
    for down in (0.1, 0.9):
        for up in (0.1, 0.9):
            limits = (
                bounds[0] + max(down * (least - bounds[0]), 0.01),
                bounds[1] - max(up * (bounds[1] - most), 0.01),
            )
            first = np.concatenate([*(regressed(x, *limits) for x in models), limits])
            found = least_squares(residuals, first, bounds=(low, high), x_scale="jac", xtol=1e-12)
            best = found if best is None or found.cost < best.cost else best
    return best


@functools.lru_cache
def boards():
    """Scores and questions, `[boards, models, points]`: measured, simulated, gaps, nasty."""
    scores = simulated(0)
    questions = np.full(scores.shape, float(QUESTIONS))
    scores[0], questions[0] = llama()
    scores[2, 1] = np.nan
    scores[3, 2, 4:] = np.nan
    scores[4, 0] = scores[4, 0][::-1]  # one that falls
    scores[5, 3, 5] = 1.5  # not a score
    return scores, questions


@pytest.fixture(scope="module")
def known():
    """What SciPy finds for each board."""
    scores, questions = boards()
    scores = scores.copy()
    scores[5, 3] = np.nan
    return [scipy_shared(used(*board)) for board in zip(scores, questions, strict=True)]


@mostly_float64
def test_shared_limits_are_those_of_scipy(dtype, known):
    scores, questions = (np.asarray(x, dtype) for x in boards())
    fit = fit_power_law(STEPS.astype(dtype), scores, questions=questions, limits="shared")
    assert fit.chi2.dtype == fit.curves.lower.dtype == dtype
    lost = np.zeros((BOARDS, MODELS), bool)
    lost[2, 1] = lost[5, 3] = True
    np.testing.assert_array_equal(np.isnan(fit.chi2), lost)
    np.testing.assert_array_equal(np.isnan(fit.curves.lower), lost)
    assert int(fit.flags[2, 1]) == FitFlag.TOO_FEW_POINTS
    assert int(fit.flags[5, 3]) == FitFlag.INVALID
    assert not np.any(fit.has(FitFlag.NOT_CONVERGED))
    total = np.nansum(fit.chi2, axis=-1)
    for board, found in enumerate(known):
        margin = 1e-6 if dtype == np.float64 else 1e-3
        assert total[board] <= 2 * found.cost * (1 + 1e-6) + margin, board
    for name in ("lower", "upper"):
        limits = np.asarray(getattr(fit.curves, name))
        assert np.all(np.isnan(limits) | (limits == limits[:, :1]))


def jacobian(models, fit, board):
    """Derivatives of the residuals of a board in (α, β) of each model and the limits."""
    alpha, beta, lower, upper = (
        np.asarray(getattr(fit.curves, name)[board]) for name in ("alpha", "beta", "lower", "upper")
    )
    rows = []
    for index, (x, _, sigma) in enumerate(models):
        rise = expit(alpha[index] + beta[index] * x)
        by_alpha = (upper[index] - lower[index]) * rise * (1 - rise)
        row = np.zeros((len(x), 2 * len(models) + 2))
        row[:, 2 * index : 2 * index + 2] = np.stack([by_alpha, by_alpha * x], axis=1)
        row[:, -2:] = np.stack([1 - rise, rise], axis=1)
        rows.append(row / sigma[:, None])
    return np.concatenate(rows)


def test_deviations_are_those_of_all_unknowns_together(x64):
    scores, questions = boards()
    fit = fit_power_law(STEPS, scores, questions=questions, limits="shared")
    for board in (1, 3):  # the limits of the others end at a bound
        slopes = jacobian(used(scores[board], questions[board]), fit, board)
        deviation = np.sqrt(np.diag(np.linalg.inv(slopes.T @ slopes)))
        own, limits = deviation[:-2].reshape(-1, 2), deviation[-2:]
        expected = np.concatenate([own, np.broadcast_to(limits, own.shape)], axis=1)
        np.testing.assert_allclose(fit.deviation[board], expected, rtol=1e-6)
        assert np.all(np.abs(fit.gradient[board]) * fit.deviation[board] < 0.05)


def test_groups_are_fitted_for_themselves(x64):
    scores, questions = boards()
    scores, questions = (x[1:].reshape(-1, 10)[[0, 4, 1, 2, 7, 3]] for x in (scores, questions))
    labels = np.array([7, -3, 7, 7, -3, 7])
    fit = fit_power_law(STEPS, scores, questions=questions, limits="shared", groups=labels)
    for label in (7, -3):
        rows = labels == label
        part = np.where(rows[:, None], scores, np.nan)
        alone = fit_power_law(STEPS, part, questions=questions, limits="shared", groups=0 * labels)
        np.testing.assert_allclose(fit.chi2[rows], alone.chi2[rows], rtol=1e-6)
        np.testing.assert_allclose(fit.curves.upper[rows], alone.curves.upper[rows], rtol=1e-6)
        np.testing.assert_array_equal(fit.dof[rows], alone.dof[rows])
    assert fit.curves.upper[0] != fit.curves.upper[1]


def test_a_group_of_one_has_free_limits(x64):
    path_of("mmlu_finetuning.csv")
    scores, questions = boards()
    scores, questions = scores[0], questions[0]
    fit = fit_power_law(
        STEPS, scores, questions=questions, limits="shared", groups=np.arange(len(scores))
    )
    # The published figures of fits with free limits.
    np.testing.assert_allclose(fit.chi2, [2.81, 4.73, 14.90, 22.89], atol=0.05)
    np.testing.assert_allclose(fit.curves.upper[3], 0.5550, atol=5e-4)
    np.testing.assert_allclose(fit.curves.lower[3], 0.3437, atol=5e-4)
    np.testing.assert_array_equal(fit.dof, 6)


@pytest.mark.slow
def test_a_group_needs_two_steps_a_model_and_two_more(x64):
    exact = curve(np.array([[-1.0], [-2.0]]), 0.5, 0.2, 0.9, EFFORTS)
    few = np.full(exact.shape, np.nan)
    few[:, :2] = exact[:, :2]
    flags = []
    for points in ((2, 2), (3, 2), (3, 3), (4, 2), (9, 1)):
        part = np.where(np.arange(10) < np.array(points)[:, None], exact, np.nan)
        fit = fit_power_law(STEPS, part, questions=QUESTIONS, limits="shared")
        flags.append([bool(x & FitFlag.TOO_FEW_POINTS) for x in np.asarray(fit.flags)])
    assert flags == [[True, True], [True, True], [False, False], [False, False], [False, True]]


def test_bounds_hold_shared_limits(x64):
    scores, questions = boards()
    bounds = {"lower": 0.3, "upper": 0.62}
    fit = fit_power_law(STEPS, scores[:2], questions=questions[:2], limits="shared", **bounds)
    for board in range(2):
        found = scipy_shared(used(scores[board], questions[board]), tuple(bounds.values()))
        assert np.sum(fit.chi2[board]) == pytest.approx(2 * found.cost, rel=1e-6)
    at_bound = np.asarray((fit.curves.lower == 0.3) | (fit.curves.upper == 0.62))
    assert at_bound.any()
    np.testing.assert_array_equal(fit.has(FitFlag.AT_BOUND), at_bound)
    np.testing.assert_array_equal(fit.deviation[..., 2] == 0, fit.curves.lower == 0.3)


def test_an_unweighted_group_has_the_size_of_its_scatter(x64):
    scores, _ = boards()
    fit, same = (
        fit_power_law(STEPS, scores[1], stderr=stderr, limits="shared") for stderr in (0.0, 0.02)
    )
    assert np.all(fit.has(FitFlag.UNWEIGHTED)) and not np.any(same.has(FitFlag.UNWEIGHTED))
    np.testing.assert_allclose(fit.curves.alpha, same.curves.alpha, rtol=1e-4)
    scatter = np.sqrt(np.sum(fit.chi2) / (np.sum(fit.points) - 2 * MODELS - 2))
    np.testing.assert_allclose(fit.deviation, same.deviation / 0.02 * scatter, rtol=1e-3)


@pytest.mark.slow
def test_shared_limits_by_deviance_are_those_of_scipy(x64):
    scores = simulated(3, (2, 3), questions=40)
    fit = fit_power_law(STEPS, scores, questions=40, limits="shared", loss="deviance")

    def deviance(p, scores):
        *own, lower, upper = p
        share = curve(*np.reshape(own, (-1, 2)).T[..., None], lower, upper, EFFORTS)
        right = xlogy(scores, scores / share) + xlogy(1 - scores, (1 - scores) / (1 - share))
        return 2 * 40 * np.sum(right)

    for board in range(2):
        least = np.inf
        for lower, upper in ((0.1, 0.9), (0.3, 0.9), (0.1, 0.99), (0.3, 0.99)):
            first = [*(3 * [-1.0, 0.4]), lower, upper]
            bounds = [*(6 * [(-30, 30)]), (1e-9, 1 - 1e-9), (1e-9, 1 - 1e-9)]
            found = minimize(
                deviance, first, (scores[board],), bounds=bounds, options={"maxiter": 2000}
            )
            least = min(least, found.fun)
        assert np.sum(fit.chi2[board]) <= least + 1e-4


@pytest.mark.slow
def test_resamples_of_shared_limits_spread_as_linear_theory_says(x64):
    scores, questions = boards()
    options = {"questions": questions[1], "limits": "shared", "noise": "binomial"}
    drawn = bootstrap_power_law(jax.random.key(0), STEPS, scores[1], resamples=300, **options)
    assert drawn.curves.lower.shape == (300, MODELS)
    assert np.all(drawn.curves.lower == drawn.curves.lower[:, :1])
    for index, name in enumerate(("alpha", "beta", "lower", "upper")):
        ratio = np.std(getattr(drawn.curves, name), axis=0) / drawn.fit.deviation[:, index]
        assert np.all((ratio > 0.8) & (ratio < 1.3)), (name, ratio)


def test_bad_options_are_named():
    scores = np.full((3, 4), 0.5)
    steps = np.arange(4.0)
    with pytest.raises(ValueError, match='groups are read with limits="shared" alone'):
        fit_power_law(steps, scores, groups=[0, 0, 1])
    with pytest.raises(ValueError, match="limits must be one of 'fixed', 'free', 'shared'"):
        fit_power_law(steps, scores, limits="common")
    with pytest.raises(ValueError, match="needs a models axis"):
        fit_power_law(steps, scores[0], limits="shared")
    with pytest.raises(ValueError, match=r"one number per model of \(3,\); got shape \(2,\)"):
        fit_power_law(steps, scores, limits="shared", groups=[0, 1])
    with pytest.raises(TypeError, match="groups must be whole numbers"):
        fit_power_law(steps, scores, limits="shared", groups=[0.0, 1.0, 1.0])


@pytest.mark.slow
def test_jit_vmap_and_leading_axes_agree(x64):
    scores = simulated(2, (3, 4))

    def fit(scores):
        found = fit_power_law(STEPS, scores, questions=QUESTIONS, limits="shared")
        return found.chi2, found.curves.upper

    expected = fit(scores)
    for same in (jax.jit(fit)(scores), jax.vmap(fit)(jnp.asarray(scores))):
        for one, other in zip(same, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("shape", [(0, 7), (2, 0, 7)])
def test_no_models(shape):
    fit = fit_power_law(np.arange(7.0), np.zeros(shape), limits="shared")
    assert fit.chi2.shape == shape[:-1]
