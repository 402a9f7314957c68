"""Resampled fits against linear theory, intervals and shares against counting, tabulated points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from tbtjax import linear_cost, power_law, ranking_game, stabilizing_threshold
from tbtjax.measure import (
    bootstrap_power_law,
    bootstrap_tabulated,
    interval,
    probability_of_stability,
    tabulate,
)

STEPS = np.array([0, 10, 30, 100, 250, 500, 1000, 2000, 3000, 4000.0])


@pytest.fixture
def scores():
    """Three models, one of them without its last measurements."""
    alpha, beta = np.array([[0.0], [-0.5], [-1.5]]), np.array([[0.1], [0.15], [0.3]])
    exact = 0.25 + 0.75 * expit(alpha + beta * np.log1p(STEPS))
    drawn = np.random.default_rng(0).binomial(4000, exact) / 4000
    drawn[2, 8:] = np.nan
    return drawn


@pytest.mark.parametrize(
    "noise",
    ["binomial", *(pytest.param(x, marks=pytest.mark.slow) for x in ("gaussian", "overdispersed"))],
)
def test_the_spread_of_resamples_is_that_of_linear_theory(noise, scores, x64):
    options = {"questions": 4000, "lower": 0.25, "resamples": 600, "noise": noise}
    drawn = bootstrap_power_law(jax.random.key(1), STEPS, scores, **options)
    assert drawn.curves.alpha.shape == (600, 3) and drawn.curves.has_equal_limits
    for values, center, deviation in (
        (drawn.curves.alpha, drawn.fit.curves.alpha, drawn.fit.deviation[:, 0]),
        (drawn.curves.beta, drawn.fit.curves.beta, drawn.fit.deviation[:, 1]),
    ):
        # 600 draws tell a deviation to 3 %; the scale of an overdispersed one is drawn too.
        ratio = np.std(values, axis=0) / deviation
        excess = np.sqrt(np.maximum(drawn.fit.reduced_chi2, 1)) if noise == "overdispersed" else 1
        assert np.all(ratio > 0.88 * excess), ratio
        assert np.all(ratio < (1.6 if noise == "overdispersed" else 1.12) * excess), ratio
        assert np.all(np.abs(np.mean(values, axis=0) - center) < 0.2 * deviation)
    again = bootstrap_power_law(jax.random.key(1), STEPS, scores, **options)
    np.testing.assert_array_equal(drawn.curves.alpha, again.curves.alpha)


def test_resamples_under_jit_are_those_outside(scores, x64):
    def curves(key):
        options = {"questions": 4000, "lower": 0.25, "resamples": 500, "noise": "gaussian"}
        return bootstrap_power_law(key, STEPS, scores, **options).curves

    key = jax.random.key(3)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-8),
        jax.jit(curves)(key),
        curves(key),
    )


def test_a_misfit_has_wide_resamples_where_overdispersed(x64):
    bent = 0.55 + 0.06 * (np.arange(10) > 4) * np.ones((3, 1))
    spread = {}
    for noise in ("binomial", "overdispersed"):
        drawn = bootstrap_power_law(
            jax.random.key(2), STEPS, bent, questions=4000, lower=0.25, resamples=600, noise=noise
        )
        spread[noise] = float(np.std(drawn.curves.beta[:, 0]))
    excess = float(np.sqrt(drawn.fit.reduced_chi2[0]))
    assert excess > 2
    assert 0.9 * excess < spread["overdispersed"] / spread["binomial"] < 1.6 * excess


def test_intervals_are_samples_and_leave_out_nan(x64):
    random = np.random.default_rng(3)
    samples = random.normal(size=(101, 2, 3))
    samples[:, 0, 0] = np.inf
    samples[::2, 1, 1] = np.nan
    samples[:, 1, 2] = np.nan
    low, high = interval(samples, 0.8)
    assert low[0, 0] == high[0, 0] == np.inf
    assert np.isnan(low[1, 2]) and np.isnan(high[1, 2])
    for index in [(0, 1), (0, 2), (1, 0), (1, 1)]:
        kept = samples[:, *index]
        kept = kept[~np.isnan(kept)]
        assert low[index] == np.quantile(kept, 0.1, method="lower")
        assert high[index] == np.quantile(kept, 0.9, method="higher")
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\)"):
        interval(samples, 90)


def test_intervals_corrected_for_bias_are_those_of_the_definition(x64):
    random = np.random.default_rng(6)
    samples, estimate = random.normal(size=(200, 5)), np.array([-0.4, 0.0, 0.7, 9.0, np.nan])
    samples[:120, 1], samples[120:, 1] = 0, 1 + np.abs(samples[120:, 1])  # ties with the estimate
    low, high = interval(samples, 0.9, estimate)
    for j in (0, 2):
        ordered = np.sort(np.append(samples[:, j], estimate[j]))
        # The share of the samples below the estimate, as a normal deviate from the median.
        place = np.array(
            [np.sum(samples[:, j] < estimate[j]), np.sum(samples[:, j] <= estimate[j]) + 1]
        )
        bias = min(norm.ppf(place / 201), key=abs)
        ranks = 200 * norm.cdf(2 * bias + np.array([-1, 1]) * norm.ppf(0.95))
        assert low[j] == ordered[int(np.floor(ranks[0]))]
        assert high[j] == ordered[int(np.ceil(ranks[1]))]
    # Ties need no correction; a far estimate is inside; an unknown one counts for nothing.
    assert low[1] == 0 and high[1] == np.sort(np.append(samples[:, 1], 0))[190]
    assert high[3] == 9 and low[3] > 1
    assert (low[4], high[4]) == tuple(x[4] for x in interval(samples, 0.9))
    with pytest.raises(ValueError, match=r"estimate must have the shape of one sample, \(5,\)"):
        interval(samples, 0.9, 1.0)


def test_the_largest_of_several_is_held_more_often_by_a_corrected_interval(x64):
    random = np.random.default_rng(7)
    values = random.normal(size=(2000, 3))  # three true values of 0
    drawn = np.max(values + random.normal(size=(400, 2000, 3)), axis=-1)
    held = [
        np.mean((low <= 0) & (high >= 0))
        for low, high in (interval(drawn), interval(drawn, 0.9, np.max(values, axis=-1)))
    ]
    # Noise lifts it, and resampling once more: the correction takes a part of that back.
    assert held[0] < 0.65 and held[1] > 0.75


def test_the_share_of_stable_resamples_is_that_of_the_thresholds(x64):
    random = np.random.default_rng(4)
    alpha = np.array([1.0, 0.0, -1.5]) + random.normal(0, 0.5, (400, 3))
    beta = np.array([0.8, 0.8, 0.7]) + random.normal(0, 0.05, (400, 3))
    game = ranking_game(power_law(alpha, beta), [30.0, 10.0, 0.0], linear_cost(1.0))
    levels = np.array([0.0, 1.0, 5.0, 20.0, 1e3])
    found = stabilizing_threshold(game)
    first, last, settled = (np.asarray(x) for x in (found.delta, found.upper, found.settled))
    inside = (first <= levels[:, None]) & (levels[:, None] < last)
    expected = np.mean(inside | (levels[:, None] >= settled), axis=1)
    shares = probability_of_stability(game, levels)
    np.testing.assert_allclose(shares, expected, atol=1e-12)
    assert shares[0] < shares[1] < shares[3] < 1
    assert probability_of_stability(game, 5.0) == shares[2]
    with pytest.raises(ValueError, match="must have an axis of resamples"):
        probability_of_stability(game[0], 0.0)


def test_points_are_joined_by_step_whatever_their_order(dtype):
    nan = np.nan
    steps = np.array([100, 0, 10], dtype)
    scores = np.array([[0.8, 0.5, 0.6], [0.7, nan, 0.4], [nan, nan, nan]], dtype)
    curves = tabulate(steps, scores)
    assert curves.scores.dtype == dtype
    np.testing.assert_allclose(curves.score(jnp.asarray(0, dtype))[:2], [0.5, 0.4], rtol=1e-6)
    np.testing.assert_allclose(curves.score(jnp.asarray(5, dtype))[:2], [0.55, 0.4], rtol=1e-6)
    np.testing.assert_allclose(curves.score(jnp.asarray(55, dtype))[:2], [0.7, 0.55], rtol=1e-6)
    assert np.isnan(curves.score(jnp.asarray(0, dtype))[2])


def test_resampled_points_scatter_by_their_noise(scores, x64):
    for noise in ("binomial", "gaussian"):
        drawn = bootstrap_tabulated(
            jax.random.key(5), STEPS, scores, questions=4000, noise=noise, resamples=2000
        )
        there = ~np.isnan(scores)
        values = np.asarray(drawn.scores)[:, :, :10][:, there]
        sigma = np.sqrt(scores[there] * (1 - scores[there]) / 4000)
        assert np.all(np.abs(np.std(values, axis=0) / sigma - 1) < 0.09)
        assert np.all(np.abs(np.mean(values, axis=0) - scores[there]) < 5 * sigma / np.sqrt(2000))


def test_wrong_arguments_are_named():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="noise must be one of 'binomial', 'gaussian', 'over"):
        bootstrap_power_law(key, [0, 1], [[0.1, 0.2]], noise="poisson")
    with pytest.raises(ValueError, match="resamples must be an integer of 1 or more; got 0"):
        bootstrap_power_law(key, [0, 1], [[0.1, 0.2]], resamples=0)
    with pytest.raises(ValueError, match='"binomial" needs the number of questions'):
        bootstrap_power_law(key, [0, 1], [[0.1, 0.2]], noise="binomial")
    with pytest.raises(ValueError, match="needs questions or stderr"):
        bootstrap_tabulated(key, [0, 1], [[0.1, 0.2]])
    with pytest.raises(ValueError, match=r"steps \(3,\), scores \(1, 2\)"):
        tabulate([0, 1, 2], [[0.1, 0.2]])
