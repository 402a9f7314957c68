"""Draws from priors: reproducible by index, in order, from the distributions asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pydantic import ValidationError

from tbtjax import geometric_rewards, top_k
from tbtjax.measure import fit_logit_ols
from tbtjax.study import (
    Beta,
    Constant,
    Costs,
    Empirical,
    Integers,
    LogNormal,
    LogUniform,
    Normal,
    Population,
    Prior,
    Rewards,
    Uniform,
    fitted_population,
    sample_games,
)

KEY = jax.random.key(7)


def prior(**changes):
    parts = {
        "count": 4,
        "capability": Normal(mean=0.0, deviation=1.0),
        "learning_rate": Uniform(low=0.5, high=1.0),
        "rewards": Rewards(scheme="winner-take-all", prize=LogUniform(low=1.0, high=1e3)),
        "cost": Costs(kind="linear", rate=0.1),
    }
    return Prior(**{**parts, **changes})


def leaves(game):
    return [np.asarray(x) for x in jax.tree.leaves(game)]


def test_a_draw_depends_on_key_and_index_alone(x64):
    whole = sample_games(KEY, prior(), (2500,))
    for start, size in ((0, 1), (3, 700), (1023, 2), (1024, 1025), (2499, 1)):
        part = sample_games(KEY, prior(), size, start=start)
        for all_games, some in zip(leaves(whole), leaves(part), strict=True):
            expected = all_games[start : start + size] if all_games.ndim > 1 else all_games
            np.testing.assert_array_equal(some, expected)


def test_shape_and_dtype(dtype):
    game = sample_games(KEY, prior(), (3, 5), dtype=dtype)
    assert (game.batch_shape, game.num_models, game.dtype) == ((3, 5), 4, dtype)
    assert all(x.dtype == dtype for x in leaves(game))
    assert sample_games(KEY, prior(), 0).batch_shape == (0,)
    assert sample_games(KEY, prior()).batch_shape == ()


def test_models_stand_in_order():
    for order in ("descending", "common", "as-drawn"):
        curves = sample_games(KEY, prior(learning_rate_order=order), 500).curves
        assert (np.diff(curves.alpha) <= 0).all()
        steps = np.diff(curves.beta)
        if order == "descending":
            assert (steps <= 0).all()
        elif order == "common":
            assert (steps == 0).all()
        else:
            assert (steps > 0).any()
            assert (steps < 0).any()


@pytest.mark.parametrize(
    ("distribution", "law"),
    [
        (Uniform(low=-1.0, high=3.0), scipy.stats.uniform(-1, 4)),
        (LogUniform(low=0.1, high=10.0), scipy.stats.loguniform(0.1, 10)),
        (Normal(mean=2.0, deviation=3.0), scipy.stats.norm(2, 3)),
        (LogNormal(median=2.0, log_deviation=0.5), scipy.stats.lognorm(0.5, scale=2)),
        (Beta(a=2.0, b=3.0, low=-1.0, high=1.0), scipy.stats.beta(2, 3, loc=-1, scale=2)),
        (
            Empirical(values=(1.0, 1.0, 4.0)),
            scipy.stats.rv_discrete(values=([1, 4], [2 / 3, 1 / 3])),
        ),
        (Integers(low=2, high=5), scipy.stats.randint(2, 6)),
    ],
    ids=lambda x: getattr(x, "kind", ""),
)
def test_distributions(x64, distribution, law):
    x = np.asarray(distribution.draw(KEY, (20_000,), np.dtype(np.float64)))
    low, high = distribution.support()
    assert low <= x.min()
    assert x.max() <= high
    if isinstance(distribution, Empirical | Integers):
        values, counts = np.unique(x, return_counts=True)
        assert scipy.stats.chisquare(counts, law.pmf(values) * len(x)).pvalue > 1e-3
    else:
        assert scipy.stats.kstest(x, law.cdf).pvalue > 1e-3


def test_what_is_drawn_first_does_not_depend_on_how_many_follow(x64, optimized):
    for distribution in (Normal(mean=2.0, deviation=3.0), Beta(a=2.0, b=3.0, low=-1.0, high=1.0)):
        few, many = (distribution.draw(KEY, (n,), np.dtype(np.float64)) for n in (7, 20_000))
        np.testing.assert_array_equal(few, many[:7])


def test_games_of_different_size():
    game = sample_games(KEY, prior(count=Integers(low=2, high=6)), 2000)
    present = np.asarray(game.present)
    assert (np.diff(present.astype(int)) <= 0).all()
    assert set(present.sum(-1)) == {2, 3, 4, 5, 6}
    alpha = np.where(present, game.curves.alpha, np.nan)
    assert (np.diff(alpha)[~np.isnan(np.diff(alpha))] <= 0).all()
    assert np.isfinite(np.asarray(game.curves.alpha)).all()


def test_larger_games_extend_smaller_ones():
    small, large = (np.asarray(sample_games(KEY, prior(count=n), 50).curves.alpha) for n in (3, 8))
    for few, many in zip(small, large, strict=True):
        assert set(few) <= set(many)


def test_rewards():
    def rewards(**scheme):
        return np.asarray(sample_games(KEY, prior(rewards=Rewards(**scheme)), 3).rewards)

    np.testing.assert_allclose(rewards(scheme="top-k", k=2, prize=5.0), 5 * top_k(4, 2))
    expected = np.broadcast_to(geometric_rewards(4, 0.5), (4,))
    np.testing.assert_allclose(rewards(scheme="geometric", decay=0.5), expected)
    np.testing.assert_allclose(rewards(scheme="equal-gaps", prize=3.0), [3, 2, 1, 0])
    np.testing.assert_allclose(rewards(scheme="values", values=(4, 2, 1, 1)), [4, 2, 1, 1])
    shared = rewards(scheme="geometric", decay=0.5, prize=10.0, prize_of="all")
    np.testing.assert_allclose(shared.sum(), 10, rtol=1e-6)
    drawn = rewards(scheme="top-k", k=Integers(low=1, high=4))
    assert drawn.shape == (3, 4)


def test_costs_of_each_model():
    costs = Costs(kind="power", scale=Uniform(low=1.0, high=2.0), exponent=1.5, per="model")
    assert sample_games(KEY, prior(cost=costs), 5).cost.scale.shape == (5, 4)


def test_measured_population():
    measured = Population(
        draw="measured", alpha=(1.0, 0.5, 0.0), beta=(0.9, 1.0, 0.7), upper=(0.9, 0.95, 0.8)
    )
    game = sample_games(KEY, prior_of(measured), 4)
    np.testing.assert_allclose(game.curves.alpha, np.tile([1.0, 0.5, 0.0], (4, 1)))
    np.testing.assert_allclose(game.curves.upper, np.tile([0.9, 0.95, 0.8], (4, 1)), rtol=1e-6)
    moved = measured.model_copy(update={"alpha_deviation": (0.1, 0.2, 0.0)})
    alpha = np.asarray(sample_games(KEY, prior_of(moved), 20_000).curves.alpha)
    np.testing.assert_allclose(alpha.mean(0), [1.0, 0.5, 0.0], atol=0.01)
    np.testing.assert_allclose(alpha.std(0), [0.1, 0.2, 0.0], atol=0.005)
    resampled = measured.model_copy(update={"draw": "resampled"})
    game = sample_games(KEY, prior_of(resampled, count=7), 300)
    assert game.num_models == 7
    pairs = {
        (float(a), float(b))
        for a, b in zip(game.curves.alpha.ravel(), game.curves.beta.ravel(), strict=True)
    }
    known = {
        (float(jnp.float32(a)), float(jnp.float32(b)))
        for a, b in zip(measured.alpha, measured.beta, strict=True)
    }
    assert pairs == known


def prior_of(population, **changes):
    rewards = Rewards(scheme="winner-take-all")
    return Prior(population=population, rewards=rewards, cost=Costs(rate=1.0), **changes)


def test_normal_population(x64):
    rng = np.random.default_rng(1)
    alpha = rng.normal(0, 1, 40)
    beta = np.exp(-0.3 + 0.2 * alpha + 0.1 * rng.normal(size=40))
    population = Population(draw="normal", alpha=tuple(alpha), beta=tuple(beta))
    curves = sample_games(KEY, prior_of(population, count=5), 20_000).curves
    drawn = np.stack([np.ravel(curves.alpha), np.log(np.ravel(curves.beta))])
    measured = np.stack([alpha, np.log(beta)])
    np.testing.assert_allclose(drawn.mean(1), measured.mean(1), atol=0.02)
    np.testing.assert_allclose(np.cov(drawn), np.cov(measured), atol=0.02)
    assert (np.diff(curves.alpha) <= 0).all()


def test_population_fitted_to_scores(x64):
    steps = np.array([0, 10, 100, 1000, 5000])
    alpha, beta = np.array([1.0, 0.2, -0.5]), np.array([0.5, 0.4, 0.45])
    scores = 1 / (1 + np.exp(-alpha[:, None] - beta[:, None] * np.log1p(steps)))
    population = fitted_population(fit_logit_ols(steps, scores, questions=10_000))
    np.testing.assert_allclose(population.alpha, alpha, atol=1e-3)
    np.testing.assert_allclose(population.beta, beta, atol=1e-3)
    assert min(population.alpha_deviation) > 0
    with pytest.raises(ValueError, match="two fitted curves"):
        fitted_population(fit_logit_ols(steps, scores[:1], questions=100))
    with pytest.raises(TypeError, match="PowerLawFit"):
        fitted_population(scores)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 1}, "count"),
        ({"cost": {"rate": -1.0}}, "rate: expected a cost that is not negative; got -1"),
        ({"cost": {"rate": {"kind": "normal", "mean": 1, "deviation": 1}}}, "draws from -inf"),
        ({"rewards": {"scheme": "top-k", "k": 5}}, "at most the number of models, 4; got 5"),
        ({"rewards": {"scheme": "top-k"}}, "k: the scheme top-k needs it"),
        ({"rewards": {"scheme": "values", "values": (1.0, 2.0)}}, "do not rise"),
        ({"upper": 0.2, "lower": Uniform(low=0.1, high=0.3)}, "above `lower`"),
        ({"learning_rate": None}, "learning_rate: missing"),
        ({"learning_rate": {"kind": "uniform", "low": 1, "high": 1}}, "low must be below high"),
        ({"count": float("nan")}, "count"),
    ],
)
def test_impossible_priors(changes, message):
    with pytest.raises(ValidationError, match=message):
        prior(**changes)


def test_arguments():
    with pytest.raises(TypeError, match="prior must be a Prior"):
        sample_games(KEY, {"count": 3}, 5)
    with pytest.raises(ValueError, match="not be negative"):
        sample_games(KEY, prior(), 5, start=-1)
    assert Constant(value=2.0).support() == (2.0, 2.0)
