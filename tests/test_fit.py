"""Fits of power-law curves against published figures, scipy, closed forms and simulation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import mostly_float64
from measured import path_of
from scipy.optimize import least_squares, minimize
from scipy.special import expit, logit, xlogy
from scipy.stats import chi2 as chi2_distribution

from tbtjax.measure import FitFlag, fit_logit_ols, fit_power_law, read_trajectories

STEPS = np.array([0, 10, 30, 100, 250, 500, 1000, 2000, 3000, 4000.0])
EFFORTS = np.log1p(STEPS)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Each dtype, with no promotion left to chance."""
    kind = getattr(jnp, request.param)
    with (
        jax.enable_x64(kind == jnp.float64),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        yield kind


@pytest.fixture
def x64():
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        yield


@pytest.fixture(scope="module")
def mmlu():
    """The shared MMLU trajectories of all models as arrays, by size."""
    return read_trajectories(path_of("mmlu_finetuning.csv")).arrays()


@pytest.fixture
def llama(mmlu):
    """Where the models of the llama family are, strongest first."""
    return [mmlu.models.index(f"llama-{size}") for size in ("65b", "30b", "13b", "7b")]


def fitted(function, steps, scores, questions, *, dtype=np.float64, **options):
    """A fit as NumPy arrays, in the place of one of 55 models with 10 points each."""
    shape = scores.shape[:-1]
    table = np.full((4, 55, 10), np.nan)
    for layer, values in zip(
        table, (steps, scores, questions, options.pop("stderr", np.nan)), strict=True
    ):
        layer[: len(scores)] = values
    steps, scores, questions, stderr = (jnp.asarray(x, dtype) for x in table)
    fit = function(steps, scores, questions=questions, stderr=stderr, **options)

    def cut(x):
        return np.asarray(x[: shape[0]] if x.ndim else x)

    return jax.tree.map(cut, fit)


def curve(alpha, beta, lower=0.0, upper=1.0, efforts=EFFORTS):
    """The power law, in NumPy; parameters `[...]`, result `[..., points]`."""
    alpha, beta, lower, upper = (
        np.asarray(x, float)[..., None] for x in (alpha, beta, lower, upper)
    )
    return lower + (upper - lower) * expit(alpha + beta * efforts)


def sigma(scores, questions):
    """Standard deviation of a score, from its count plus a half."""
    share = (np.round(scores * questions) + 0.5) / (questions + 1)
    return np.sqrt(share * (1 - share) / questions)


def best_of_scipy(residual, starts, **options):
    """The least sum of squares that `least_squares` finds from any start."""
    return min(2 * least_squares(residual, start, **options).cost for start in starts)


def effort_to_pass(alpha, beta, lower, upper, weak, strong):
    """Least effort with which model `weak` has the untrained score of model `strong`."""
    target = lower[strong] + (upper[strong] - lower[strong]) * expit(alpha[strong])
    share = (target - lower[weak]) / (upper[weak] - lower[weak])
    return np.expm1((logit(share) - alpha[weak]) / beta[weak])


# Published figures of the llama family on MMLU: 65b, 30b, 13b, 7b. lower = .25, upper = 1.


def test_published_logit_ols(mmlu, llama, x64):
    fit = fit_logit_ols(mmlu.steps, mmlu.scores, questions=mmlu.questions, lower=0.25)
    alpha, beta = (np.asarray(x)[llama] for x in (fit.curves.alpha, fit.curves.beta))
    np.testing.assert_allclose(alpha, [-0.0260, -0.3826, -1.1279, -1.9837], atol=1e-4)
    np.testing.assert_allclose(beta, [0.0396, 0.0630, 0.1152, 0.2135], atol=1e-4)
    efforts = [effort_to_pass(alpha, beta, np.zeros(4), np.ones(4), j + 1, j) for j in range(3)]
    np.testing.assert_allclose(efforts, [287.0, 643.5, 54.08], rtol=2e-3)
    assert np.sum(fit.left_out) == 32 and np.sum(fit.left_out > 0) == 7


@mostly_float64
def test_published_weighted_fits_with_fixed_limits(mmlu, llama, dtype):
    fit = fitted(fit_power_law, mmlu.steps, mmlu.scores, mmlu.questions, dtype=dtype, lower=0.25)
    np.testing.assert_allclose(fit.chi2[llama], [58.9, 134.5, 189.9, 308.8], atol=0.1)
    assert fit.chi2.dtype == dtype
    assert np.all(fit.has(FitFlag.MISFIT)[np.array(llama)])


@mostly_float64
def test_published_weighted_fits_with_free_limits(mmlu, llama, dtype):
    fit = fitted(fit_power_law, mmlu.steps, mmlu.scores, mmlu.questions, dtype=dtype, limits="free")
    fit = jax.tree.map(lambda x: x[llama], fit)
    np.testing.assert_allclose(fit.chi2, [2.81, 4.73, 14.90, 22.89], atol=0.05)
    curves = fit.curves
    np.testing.assert_allclose(curves.alpha[3], -5.242, atol=0.01)
    np.testing.assert_allclose(curves.beta[3], 1.240, atol=0.003)
    np.testing.assert_allclose(curves.upper[3], 0.5550, atol=5e-4)
    np.testing.assert_allclose(curves.lower[3], 0.3437, atol=5e-4)
    parameters = (curves.alpha, curves.beta, curves.lower, curves.upper)
    efforts = [effort_to_pass(*parameters, j + 1, j) for j in range(3)]
    np.testing.assert_allclose(efforts, [685, 1051, 83.1], rtol=0.01)
    np.testing.assert_array_equal(fit.has(FitFlag.MISFIT), [False, False, False, True])
    assert np.all(fit.has(FitFlag.NOT_CONCAVE))


def test_all_mmlu_models_with_fixed_limits_against_scipy(mmlu, dtype):
    fit = fitted(fit_power_law, mmlu.steps, mmlu.scores, mmlu.questions, dtype=dtype, lower=0.25)
    assert not np.any(fit.has(FitFlag.NOT_CONVERGED))
    # Measured: at most 3e-13 above scipy's in float64, 9e-5 in float32.
    margin = 1e-9 if dtype == jnp.float64 else 1e-3
    starts = [(a, b) for a in (-4, -1) for b in (-0.5, 0.05, 0.5)]
    options = {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
    for i, name in enumerate(mmlu.models):
        there = ~np.isnan(mmlu.scores[i])
        x, score = np.log1p(mmlu.steps[i][there]), mmlu.scores[i][there]
        error = sigma(score, mmlu.questions[i][there])

        def residual(p, x=x, score=score, error=error):
            return (score - curve(p[0], p[1], 0.25, 1, x)) / error

        assert fit.chi2[i] <= best_of_scipy(residual, starts, **options) + margin, name
        assert fit.points[i] == there.sum() and fit.dof[i] == there.sum() - 2


def test_small_counts_with_fixed_limits_against_scipy(dtype):
    # Few right answers, more before training than after: of some, a fall at once is a minimum too.
    table = read_trajectories(path_of("lm_eval_gsm8k_pythia"), filter="strict-match").arrays()
    questions = jnp.asarray(table.questions, dtype)
    steps, scores = (jnp.asarray(x, dtype) for x in (table.steps, table.scores))
    fit = fit_power_law(steps, scores, questions=questions)
    assert not np.any(fit.has(FitFlag.NOT_CONVERGED))
    starts = [(-4, b) for b in (-0.2, 0.05, 0.4)] + [(-b * m, b) for m in (1, 9) for b in (-4, 2)]
    bounds = ([-300, -20], [300, 20])
    for i, name in enumerate(table.models):
        there = ~np.isnan(table.scores[i])
        x, score = np.log1p(table.steps[i][there]), table.scores[i][there]
        error = sigma(score, table.questions[i][there])

        def residual(p, x=x, score=score, error=error):
            return (score - curve(p[0], p[1], efforts=x)) / error

        assert fit.chi2[i] <= best_of_scipy(residual, starts, bounds=bounds) + 1e-4, name


def test_mmlu_models_with_free_limits_against_scipy(mmlu, dtype):
    fit = fitted(fit_power_law, mmlu.steps, mmlu.scores, mmlu.questions, dtype=dtype, limits="free")
    assert not np.any(fit.has(FitFlag.NOT_CONVERGED))
    assert np.all(fit.curves.upper > fit.curves.lower)
    # Measured on all 55: at most 1.4e-6 above the best of 108 starts in float64, 1.5e-4 in float32.
    margin = 1e-5 if dtype == jnp.float64 else 1e-3
    bounds = ([-200, -20, 0, 0], [200, 20, 1, 1])
    for i in range(0, len(mmlu.models), 6):
        there = ~np.isnan(mmlu.scores[i])
        x, score = np.log1p(mmlu.steps[i][there]), mmlu.scores[i][there]
        error = sigma(score, mmlu.questions[i][there])
        low, high = score.min(), score.max()
        starts = [(-b * m, b, low, high) for m in (3, 5, 7) for b in (-2, 0.7, 1.5, 4)]

        def residual(p, x=x, score=score, error=error):
            return (score - curve(*p, x)) / error

        chi2 = best_of_scipy(residual, starts, bounds=bounds, max_nfev=200)
        assert fit.chi2[i] <= chi2 + margin, mmlu.models[i]


# Synthetic curves.


def test_exact_curves_are_recovered(dtype):
    alpha = np.array([-3.0, -1.0, 0.5, 2.0, -0.2])
    beta = np.array([0.5, 0.2, 0.05, -0.3, 0.0])
    scores = curve(alpha, beta, 0.2, 0.9)
    tolerance = 1e-7 if dtype == jnp.float64 else 2e-4
    for function in (fit_power_law, fit_logit_ols):
        for questions in (10_000, np.nan):
            fit = fitted(function, STEPS, scores, questions, dtype=dtype, lower=0.2, upper=0.9)
            np.testing.assert_allclose(fit.curves.alpha, alpha, atol=tolerance)
            np.testing.assert_allclose(fit.curves.beta, beta, atol=tolerance)
            decreasing = fit.has(FitFlag.DECREASING)
            np.testing.assert_array_equal(decreasing[:4], [False, False, False, True])
            bad = FitFlag.NOT_CONVERGED | FitFlag.AT_BOUND | FitFlag.MISFIT | FitFlag.INVALID
            assert not np.any(fit.has(bad))
            assert fit.curves.alpha.dtype == fit.chi2.dtype == fit.deviation.dtype == dtype
            # Given once for all, the limits stay so: thresholds then take a faster road.
            assert fit.curves.lower.shape == fit.curves.upper.shape == ()
            assert fit.curves.has_equal_limits


def test_exact_curves_with_free_limits_are_recovered(dtype):
    parameters = np.array(
        [[-6.0, 1.2, 0.3, 0.6], [-4.0, 1.0, 0.25, 0.9], [5.0, -1.1, 0.2, 0.7], [-9.0, 2.0, 0.0, 1]]
    )
    scores = curve(*parameters.T)
    fit = fitted(fit_power_law, STEPS, scores, 10_000, dtype=dtype, limits="free")
    curves = fit.curves
    found = np.stack([curves.alpha, curves.beta, curves.lower, curves.upper], -1)
    tolerance = 1e-6 if dtype == jnp.float64 else 5e-3
    np.testing.assert_allclose(found, parameters, atol=tolerance, rtol=tolerance)
    assert np.all(fit.chi2 < tolerance)


@pytest.mark.slow
def test_deviations_and_chi2_are_right_on_average(x64):
    # 2,000 simulated models: errors over reported deviations have unit variance, χ² has mean dof.
    random = np.random.default_rng(5)
    parameters = np.array([-5.0, 1.1, 0.3, 0.7])
    questions = 3000
    scores = random.binomial(questions, curve(*parameters), (2000, 10)) / questions
    for limits, count in (("fixed", 2), ("free", 4)):
        lower, upper = (0.3, 0.7) if limits == "fixed" else (0, 1)
        fit = fit_power_law(
            STEPS, scores, questions=questions, limits=limits, lower=lower, upper=upper
        )
        curves = fit.curves
        found = np.stack(
            np.broadcast_arrays(curves.alpha, curves.beta, curves.lower, curves.upper), -1
        )
        errors = (found - parameters)[:, :count] / np.asarray(fit.deviation)[:, :count]
        # Linear theory; 2,000 draws tell a variance to 3 %.
        assert np.all(np.abs(errors.std(axis=0) - 1) < 0.08), errors.std(axis=0)
        assert np.all(np.abs(errors.mean(axis=0)) < 0.15), errors.mean(axis=0)
        assert abs(np.mean(fit.chi2) - (10 - count)) < 0.3
        assert np.all(fit.dof == 10 - count)
        # More curves than are worked on at once: they come out as in a small batch.
        for rows in (slice(0, 20), slice(990, 1010), slice(1980, 2000)):
            part = fitted(
                fit_power_law,
                STEPS,
                scores[rows],
                questions,
                limits=limits,
                lower=lower,
                upper=upper,
            )
            np.testing.assert_allclose(fit.chi2[rows], part.chi2, rtol=1e-6)
            np.testing.assert_allclose(fit.curves.beta[rows], part.curves.beta, atol=1e-4)
        misfits = np.mean(fit.has(FitFlag.MISFIT))
        assert misfits < 0.005  # 0.001 expected
        if limits == "fixed":
            np.testing.assert_array_equal(fit.deviation[:, 2:], 0)


@pytest.mark.slow
def test_unweighted_deviations_come_from_the_scatter(x64):
    random = np.random.default_rng(6)
    scores = curve(-1.0, 0.3) + random.normal(0, 0.01, (2000, 10))
    fit = fit_power_law(STEPS, scores)
    errors = (np.asarray(fit.curves.alpha) + 1) / np.asarray(fit.deviation[:, 0])
    # Student's t with 8 degrees of freedom has variance 8/6.
    assert abs(errors.var() - 8 / 6) < 0.2
    np.testing.assert_allclose(np.mean(fit.reduced_chi2), 1e-4, rtol=0.06)
    assert np.all(fit.has(FitFlag.UNWEIGHTED)) and not np.any(fit.has(FitFlag.MISFIT))
    assert np.all(np.isnan(fit.p_value))


def test_chi2_is_the_one_of_the_design(x64):
    # By hand: from questions, else stderr, else 1; the p-value by scipy.
    random = np.random.default_rng(7)
    questions, stderr = 400.0, random.uniform(0.01, 0.03, 10)
    scores = random.binomial(400, curve(-1.0, 0.3)) / 400
    nan = np.nan
    half = np.where(np.arange(10) < 5, questions, nan)
    counted = sigma(scores, questions)
    cases = {  # questions, stderr, σ
        "questions": (questions, nan, counted),
        "stderr": (nan, stderr, stderr),
        "both": (questions, stderr, counted),
        "either": (half, stderr, np.where(np.arange(10) < 5, counted, stderr)),
        "neither": (nan, nan, np.ones(10)),
        "not all": (half, nan, np.ones(10)),
        "zero stderr": (nan, np.where(np.arange(10) < 5, 0, stderr), np.ones(10)),
    }
    for name, (questions, stderr, expected) in cases.items():
        for function in (fit_power_law, fit_logit_ols):
            fit = fitted(function, STEPS, scores[None], questions, stderr=stderr)
            values = curve(fit.curves.alpha, fit.curves.beta)
            chi2 = np.sum((scores - values) ** 2 / expected**2)
            np.testing.assert_allclose(fit.chi2[0], chi2, rtol=1e-9, err_msg=name)
            unweighted = bool(fit.has(FitFlag.UNWEIGHTED)[0])
            assert unweighted == (name in ("neither", "not all", "zero stderr"))
            if not unweighted:
                p_value = chi2_distribution.sf(chi2, 8)
                np.testing.assert_allclose(fit.p_value[0], p_value, rtol=1e-7)


@pytest.mark.parametrize("loss", ["chi2", "deviance"])
def test_counts_of_none_and_of_all_have_a_finite_weight(loss, x64):
    scores = np.array([[0, 0, 0, 0.1, 0.5, 0.9, 0.9, 1, 1, 1]])
    fit = fitted(fit_power_law, STEPS, scores, 10, loss=loss)
    assert np.isfinite(fit.chi2[0]) and fit.curves.beta[0] > 0
    assert np.all(np.isfinite(fit.deviation)) and not fit.has(FitFlag.NOT_CONVERGED)[0]


def deviance(parameters, scores, questions):
    values = curve(*parameters)
    terms = xlogy(scores, scores) - xlogy(scores, values)
    terms += xlogy(1 - scores, 1 - scores) - xlogy(1 - scores, 1 - values)
    return 2 * np.sum(questions * terms)


@pytest.mark.slow
def test_the_deviance_against_scipy(x64):
    random = np.random.default_rng(8)
    parameters = np.stack(
        [
            random.uniform(-6, -4, 8),
            random.uniform(0.7, 1.3, 8),
            random.uniform(0.02, 0.3, 8),
            random.uniform(0.6, 0.98, 8),
        ]
    )
    questions = 60
    scores = random.binomial(questions, curve(*parameters)) / questions
    fixed = fitted(fit_power_law, STEPS, scores, questions, lower=0.02, upper=0.98, loss="deviance")
    free = fitted(fit_power_law, STEPS, scores, questions, limits="free", loss="deviance")
    for i in range(8):
        found = [(a, b, 0.02, 0.98) for a, b in ((-2, 0.3), (-5, 1))]
        least = min(
            minimize(
                lambda p, i=i: deviance((*p, 0.02, 0.98), scores[i], questions),
                start[:2],
                method="Nelder-Mead",
                options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 2000},
            ).fun
            for start in found
        )
        np.testing.assert_allclose(fixed.chi2[i], least, atol=1e-8)
        tiny = 1e-12
        least = min(
            minimize(
                deviance,
                start,
                args=(scores[i], questions),
                method="L-BFGS-B",
                bounds=[(-200, 200), (-20, 20), (tiny, 1 - tiny), (tiny, 1 - tiny)],
                options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10},
            ).fun
            for start in [(-5, 1, 0.1, 0.8), (-10, 2, 0.1, 0.8), tuple(parameters[:, i])]
        )
        assert free.chi2[i] <= least + 1e-4
    # What the minimum means: the gradient vanishes.
    assert np.max(np.abs(fixed.gradient)) < 1e-3 and np.max(np.abs(free.gradient)) < 1e-2


# Curves that are not as one would like them.

NAN, INF = np.nan, np.inf
RISING = curve(-1.0, 0.3, 0.25)
ODD = {
    "rising": RISING,
    "falling": curve(0.5, -0.2, 0.25),
    "flat": np.full(10, 0.6),
    "at chance": np.array([0.252, 0.247, 0.25, 0.253, 0.249, 0.246, 0.251, 0.25, 0.248, 0.25]),
    "below chance": np.linspace(0.19, 0.24, 10),
    "jump": np.where(np.arange(10) < 4, 0.3, 0.8),
    "perfect": np.ones(10),
    "one point": np.array([0.5] + [NAN] * 9),
    "two points": np.array([0.5, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, 0.6]),
    "no point": np.full(10, NAN),
    "above one": np.where(np.arange(10) == 3, 1.2, RISING),
    "infinite": np.where(np.arange(10) == 3, INF, RISING),
    "gaps": np.where(np.arange(10) % 3 == 1, NAN, RISING),
}
LOST = {"one point", "two points", "no point", "above one", "infinite"}


@pytest.mark.parametrize("limits", ["fixed", "free"])
def test_odd_curves(limits, dtype):
    scores = np.stack(list(ODD.values()))
    lower = 0.25 if limits == "fixed" else 0.0
    fit = fitted(fit_power_law, STEPS, scores, 2000, dtype=dtype, limits=limits, lower=lower)
    place = {name: i for i, name in enumerate(ODD)}
    flags = {name: FitFlag(int(fit.flags[i])) for name, i in place.items()}
    chi2 = {name: float(fit.chi2[i]) for name, i in place.items()}
    beta = {name: float(fit.curves.beta[i]) for name, i in place.items()}
    lost = LOST - ({"two points"} if limits == "fixed" else set())
    for name, i in place.items():
        assert np.isnan(chi2[name]) == (name in lost), name
        assert np.isnan(beta[name]) == (name in lost), name
        assert bool(np.any(np.isnan(fit.deviation[i]))) == (name in lost), name
        expected = ~np.isnan(ODD[name])
        assert int(fit.points[i]) == (0 if name in lost else expected.sum())
        assert int(fit.points[i] + fit.left_out[i]) == expected.sum()
        assert FitFlag.NOT_CONVERGED not in flags[name], name
        if limits == "free" and name not in lost:
            assert fit.curves.lower[i] < fit.curves.upper[i], name
    for name in ("above one", "infinite"):
        assert flags[name] == FitFlag.INVALID
    for name in lost - {"above one", "infinite"}:
        assert flags[name] == FitFlag.TOO_FEW_POINTS
    assert FitFlag.DECREASING in flags["falling"] and beta["falling"] < 0
    assert FitFlag.DECREASING not in flags["rising"] and beta["rising"] > 0
    assert FitFlag.AT_BOUND in flags["jump"] or limits == "fixed"
    assert FitFlag.MISFIT in flags["jump"] or limits == "free"
    assert chi2["gaps"] < 1e-4 and chi2["rising"] < 1e-4
    # Flat curves neither rise nor fall, in float32 up to rounding.
    assert abs(beta["flat"]) < 1e-5 and chi2["flat"] < 1e-6
    if limits == "fixed":
        # No finite curve stays at its limit: the data do not bound the parameters.
        for name in ("below chance", "perfect"):
            assert FitFlag.AT_BOUND in flags[name], name
        assert int(fit.dof[place["two points"]]) == 0 and chi2["two points"] < 1e-5
        assert np.isnan(fit.reduced_chi2[place["two points"]])
        assert FitFlag.MISFIT in flags["below chance"]


def test_logit_ols_leaves_out_what_has_no_logit(dtype):
    scores = np.stack(list(ODD.values()))
    fit = fitted(fit_logit_ols, STEPS, scores, np.nan, dtype=dtype, lower=0.25)
    for i, (name, values) in enumerate(ODD.items()):
        inside = (values > 0.25) & (values < 1)
        measured = ~np.isnan(values)
        flags = FitFlag(int(fit.flags[i]))
        if name in ("above one", "infinite"):
            assert flags == FitFlag.INVALID
        elif inside.sum() < 2:
            assert flags == FitFlag.TOO_FEW_POINTS and np.isnan(fit.curves.alpha[i])
        else:
            share = (values[inside] - 0.25) / 0.75
            slope, intercept = np.polyfit(EFFORTS[inside], logit(share), 1)
            tolerance = 1e-9 if dtype == jnp.float64 else 2e-4
            np.testing.assert_allclose(fit.curves.beta[i], slope, atol=tolerance)
            np.testing.assert_allclose(fit.curves.alpha[i], intercept, atol=tolerance)
            assert fit.points[i] == inside.sum()
            assert fit.left_out[i] == (measured & ~inside).sum()


def test_logit_ols_deviations_are_those_of_the_regression(x64):
    random = np.random.default_rng(9)
    scores = expit(-1 + 0.3 * EFFORTS + random.normal(0, 0.1, 10))
    fit = fit_logit_ols(STEPS, scores)
    (slope, intercept), covariance = np.polyfit(EFFORTS, logit(scores), 1, cov=True)
    np.testing.assert_allclose(
        fit.deviation, [*np.sqrt(np.diagonal(covariance))[::-1], 0, 0], rtol=1e-9
    )
    np.testing.assert_allclose([fit.curves.beta, fit.curves.alpha], [slope, intercept])
    np.testing.assert_allclose(fit.gradient, 0, atol=1e-11)


def test_not_concave_is_criterion_c2(x64):
    # Second differences of the curve on a fine grid from e = 0 tell where it starts convex.
    alpha, beta = np.meshgrid([-4, -2, -0.5, 1.0], [0.5, 0.95, 1.3, 2.5], indexing="ij")
    fit = fitted(fit_power_law, STEPS, curve(alpha, beta).reshape(16, 10), np.nan)
    fine = curve(alpha, beta, efforts=np.log1p(np.linspace(0, 1e-3, 3))).reshape(16, 3)
    convex = np.diff(fine, 2)[:, 0] > 0
    np.testing.assert_array_equal(fit.has(FitFlag.NOT_CONCAVE), convex)
    assert convex.any() and not convex.all()


def test_free_limits_stay_within_their_bounds(x64):
    scores = curve(-3.0, 0.5, 0.2, 0.9)[None]
    fit = fitted(fit_power_law, STEPS, scores, 5000, limits="free", lower=0.3, upper=0.8)
    assert 0.3 == fit.curves.lower[0] < fit.curves.upper[0] <= 0.8
    assert fit.has(FitFlag.AT_BOUND) and not fit.has(FitFlag.UPPER_UNIDENTIFIED)
    wider = fitted(fit_power_law, STEPS, scores, 5000, limits="free")
    assert fit.chi2 > wider.chi2 and not wider.has(FitFlag.AT_BOUND)
    # Seen only from its start on, the upper limit is a guess.
    fit = fitted(fit_power_law, STEPS, curve(-6.0, 0.5, 0.3, 0.9)[None], 5000, limits="free")
    assert fit.has(FitFlag.UPPER_UNIDENTIFIED) and fit.has(FitFlag.MIDPOINT_OUTSIDE)


def test_limits_per_model(x64):
    scores = curve([-1, -1], [0.3, 0.3], [0.2, 0.25], [0.9, 1.0])
    fit = fit_power_law(STEPS, scores, lower=[0.2, 0.25], upper=[0.9, 1.0])
    np.testing.assert_allclose(fit.curves.alpha, [-1, -1], atol=1e-7)
    np.testing.assert_array_equal(fit.curves.lower, [0.2, 0.25])
    wrong = fit_power_law(STEPS, scores, lower=[0.2, 1.0], upper=[0.9, 1.0])
    assert FitFlag(int(wrong.flags[1])) == FitFlag.INVALID
    assert np.isnan(wrong.curves.alpha[1])
    np.testing.assert_array_equal(wrong.curves.alpha[0], fit.curves.alpha[0])


# Batches.


def leaves(fit):
    return [np.asarray(x) for x in jax.tree.leaves(fit)]


@pytest.mark.parametrize("limits", ["fixed", "free"])
def test_a_bad_neighbour_changes_no_bit(limits, x64):
    random = np.random.default_rng(10)
    scores = random.binomial(500, curve(-2.0, 0.5, 0.2, 0.8), (13, 10)) / 500
    clean = leaves(fitted(fit_power_law, STEPS, scores, 500, limits=limits))
    for value in (NAN, INF, -1.0, 0.0, 1.0):
        bad = scores.copy()
        bad[5] = value
        dirty = leaves(fitted(fit_power_law, STEPS, bad, 500, limits=limits))
        for before, after in zip(clean, dirty, strict=True):
            if before.ndim:
                np.testing.assert_array_equal(np.delete(before, 5, 0), np.delete(after, 5, 0))


@pytest.mark.parametrize("function", [fit_power_law, fit_logit_ols])
def test_padding_does_not_matter(function, x64):
    random = np.random.default_rng(11)
    scores = random.binomial(500, curve(-2.0, 0.5, efforts=EFFORTS[:7]), (3, 7)) / 500
    plain = function(STEPS[:7], scores, questions=500)
    padding = np.full((3, 3), NAN)
    padded = fitted(function, STEPS, np.concatenate([scores, padding], axis=1), 500)
    for one, other in zip(leaves(plain), leaves(padded), strict=True):
        # Sums are grouped otherwise: the search takes other last steps.
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(
            functools.partial(fit_power_law, method="levenberg-marquardt"),
            marks=pytest.mark.slow,
        ),
        pytest.param(fit_power_law, marks=pytest.mark.slow),
        fit_logit_ols,
    ],
    ids=["levenberg-marquardt", "lbfgs", "logit-ols"],
)
def test_jit_vmap_loop_and_leading_axes_agree(function, x64):
    random = np.random.default_rng(12)
    scores = random.binomial(500, curve(-2.0, 0.5, 0.2, 0.8), (2, 3, 10)) / 500

    def fit(scores):
        return function(STEPS, scores, questions=500, lower=np.full(1, 0.1))

    whole = fit(scores)
    assert whole.chi2.shape == (2, 3) and whole.gradient.shape == (2, 3, 4)
    assert whole.batch_shape == (2,) and whole.num_models == 3
    games = [leaves(whole[i]) for i in range(2)]
    singles = [leaves(fit(row)) for row in scores.reshape(6, 1, 10)]
    results = {
        "jit": leaves(jax.jit(fit)(scores)),
        "vmap": leaves(jax.vmap(fit)(scores)),
        "game": [np.stack(x) for x in zip(*games, strict=True)],
        "loop": [
            np.stack(x).reshape(2, 3, *np.shape(x[0])[1:]) for x in zip(*singles, strict=True)
        ],
    }
    for name, result in results.items():
        for one, other in zip(leaves(whole), result, strict=True):
            if one.ndim > 1:  # all but the limits, which stay as they were given
                np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6, err_msg=name)


def test_no_curves(x64):
    fit = fit_power_law(STEPS, np.zeros((0, 10)), questions=500)
    assert fit.chi2.shape == (0,) and fit.deviation.shape == (0, 4)
    assert fit_logit_ols(STEPS, np.zeros((0, 10))).chi2.shape == (0,)


def test_dtype_is_that_of_the_arguments():
    with jax.enable_x64(True):
        fit = fit_power_law(jnp.arange(4), jnp.asarray([0.1, 0.2, 0.3, 0.35], jnp.float32))
        assert fit.curves.alpha.dtype == fit.deviation.dtype == jnp.float32
        assert fit.curves.lower.dtype == jnp.float32
        assert fit.dof.dtype == fit.flags.dtype == jnp.int32


# Errors at the boundary.


def test_wrong_arguments_are_named():
    scores = np.full((2, 3), 0.5)
    with pytest.raises(
        ValueError, match="limits must be one of 'fixed', 'free', 'shared'; got 'upper'"
    ):
        fit_power_law([0, 1, 2], scores, limits="upper")
    with pytest.raises(ValueError, match="loss must be one of 'chi2', 'deviance'; got 'l2'"):
        fit_power_law([0, 1, 2], scores, loss="l2")
    with pytest.raises(ValueError, match='loss="deviance" needs the number of questions'):
        fit_power_law([0, 1, 2], scores, loss="deviance")
    with pytest.raises(ValueError, match=r"steps \(4,\), scores \(2, 3\)"):
        fit_power_law([0, 1, 2, 3], scores)
    with pytest.raises(ValueError, match=r"lower \(3,\)"):
        fit_logit_ols([0, 1, 2], scores, lower=[0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="with one point or more"):
        fit_power_law(0.0, 0.5)
    with pytest.raises(TypeError, match="scores must be an array of real numbers"):
        fit_power_law([0, 1, 2], "high")


def test_flags_in_words():
    assert FitFlag(0).words() == ""
    assert (FitFlag.DECREASING | FitFlag.AT_BOUND).words() == "decreasing, at bound"
