"""Estimators of pairs against closed forms, brackets and slopes against loops over the points."""

import jax
import numpy as np
import pytest
from scipy.special import expit, logit

from tbtjax import linear_cost
from tbtjax.measure import (
    bootstrap_power_law,
    estimate_pairs,
    local_slope_ratio,
    overtake_brackets,
)

STEPS = np.array([0, 10, 30, 100, 300, 1000.0])
ALPHA, BETA = np.array([1.0, 0.2]), np.array([0.3, 0.24])
WORTH, LOWER = 500.0, 0.1


def test_estimates_are_the_closed_forms_and_their_intervals_hold_the_truth(x64):
    scores = LOWER + (1 - LOWER) * expit(ALPHA[:, None] + BETA[:, None] * np.log1p(STEPS))
    drawn = bootstrap_power_law(
        jax.random.key(0), STEPS, scores, questions=1e5, lower=LOWER, resamples=400
    )
    found = estimate_pairs(drawn, [WORTH, 0.0], linear_cost(1.0), level=0.95)
    rho = BETA[1] / BETA[0]
    e0 = np.expm1((ALPHA[0] - ALPHA[1]) / BETA[1])
    kappa = WORTH / e0
    upper = ((WORTH + kappa**rho) / (1 + e0)) ** rho - 1
    true = {
        **{"rho": rho, "e0": e0, "kappa": kappa, "delta": kappa**rho},
        **{"upper_bound": upper, "lower_bound": ((1 + WORTH) / (1 + e0)) ** rho - 1},
    }
    for name, figure in true.items():
        value, low, high = getattr(found, name)
        assert value[0] == pytest.approx(figure, rel=1e-3), name  # the fits are that exact
        assert low[0] < figure < high[0], name
    # To first order the deviation of log(1 + e0) is that of the differences of the parameters.
    alpha, beta = (np.asarray(getattr(drawn.curves, name)) for name in ("alpha", "beta"))
    linear = np.std((alpha[:, 0] - alpha[:, 1]) / beta[:, 1])
    width = np.log1p(found.e0.high[0]) - np.log1p(found.e0.low[0])
    assert width == pytest.approx(2 * 1.96 * linear, rel=0.2)


def test_brackets_by_case():
    nan, inf = np.nan, np.inf
    steps = np.array([[0, 10, 100], [0, 10, 100], [0, 10, 100], [0, 10, nan], [5, 10, 20]])
    scores = np.array(
        [[0.5, 0.6, 0.7], [0.4, 0.5, 0.6], [0.45, 0.5, 0.6], [0.1, 0.2, nan], [0.0] * 3]
    )
    low, high = overtake_brackets(steps, scores)
    np.testing.assert_array_equal(low, [10, 0, 10, nan])
    np.testing.assert_array_equal(high, [100, 0, inf, nan])


def test_brackets_do_not_depend_on_the_order_of_points(x64):
    random = np.random.default_rng(1)
    scores = random.uniform(0.2, 0.8, (50, 4, 6)).round(2)
    scores[random.random(scores.shape) < 0.2] = np.nan
    order = random.permutation(6)
    low, high = overtake_brackets(STEPS, scores)
    again = overtake_brackets(STEPS[order], scores[..., order])
    np.testing.assert_array_equal(low, again.low)
    np.testing.assert_array_equal(high, again.high)
    for board in range(50):
        for weak in (1, 2, 3):
            start, own = scores[board, weak - 1, 0], scores[board, weak]
            if np.isnan(start) or np.isnan(own[0]):
                assert np.isnan(low[board, weak - 1]) and np.isnan(high[board, weak - 1])
                continue
            measured = [(step, score) for step, score in zip(STEPS, own, strict=True) if score > 0]
            passed = [step for step, score in measured if score > start]
            end = passed[0] if passed else np.inf
            before = [step for step, _ in measured if step < end]
            assert high[board, weak - 1] == end
            assert low[board, weak - 1] == (before[-1] if before else 0)


def test_local_slopes_of_a_power_law_have_the_ratio_of_its_rates(x64):
    scores = LOWER + (1 - LOWER) * expit(ALPHA[:, None] + BETA[:, None] * np.log1p(STEPS))
    efforts = [0.0, 5.0, 10.0, 500.0, 1000.0, 1001.0]
    ratio = np.asarray(local_slope_ratio(STEPS, scores, efforts, lower=LOWER))[0]
    np.testing.assert_allclose(ratio[:5], BETA[1] / BETA[0], rtol=1e-9)
    assert np.isnan(ratio[5])
    # Other checkpoints for each model, one score without a logit.
    steps = np.array([[0, 20, 200.0], [0, 50, 100.0], [0, 50, 100.0]])
    scores = np.array([[0.3, 0.5, 0.6], [0.2, 0.4, 0.45], [0.1, 0.3, 0.35]])
    ratio = np.asarray(local_slope_ratio(steps, scores, [30.0, 60.0], lower=LOWER))
    share = (scores - LOWER) / (1 - LOWER)
    strong = (logit(share[0, 2]) - logit(share[0, 1])) / np.log(201 / 21)
    weak = (logit(share[1, 1]) - logit(share[1, 0])) / np.log(51)
    assert ratio[0, 0] == pytest.approx(weak / strong, rel=1e-9)
    assert np.isnan(ratio[1, 0]) and np.isfinite(ratio[1, 1])


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"scores must be \[..., models, points\]"):
        overtake_brackets([0, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"steps \(3,\), scores \(1, 2\)"):
        local_slope_ratio([0, 1, 2], [[0.1, 0.2]], [1.0])
