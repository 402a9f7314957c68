"""The designer's utility by its definition, and the choice of Δ against an exhaustive search."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import mostly_float64
from random_games import random_games

from tbtjax import (
    Status,
    baseline_scores,
    deviation_gain,
    is_zero_effort_pne,
    linear_cost,
    power_law,
    ranking_game,
    stabilizing_threshold,
    winner_take_all,
)
from tbtjax.designer import designer_utility, optimal_tbt

INF = math.inf


#: Games of one shape, for which programs are compiled once.
COUNT, MODELS = 125, 3


def game_of(raw, present=None):
    """Limits in the shape of the other parameters, so that all kinds share one program."""
    limits = [np.broadcast_to(raw[name], raw["alpha"].shape) for name in ("lower", "upper")]
    curves = power_law(raw["alpha"], raw["beta"], *limits)
    cost = linear_cost(np.broadcast_to(raw["cost_rate"], raw["alpha"].shape))
    return ranking_game(curves, raw["rewards"], cost, present)


def pair(dtype=np.float64, worth=10.0):
    """ρ = 1, e⁰ = e − 1: Δ* = (worth − e⁰)/e⁰."""
    curves = power_law(np.array([1, 0], dtype), 1.0)
    return ranking_game(curves, np.array([worth, 0], dtype), linear_cost(1.0))


# --- Utility -------------------------------------------------------------------------------------


def kendall_by_pairs(scores):
    """Kendall's τ between scores and capability; a tie goes to the more capable."""
    pairs = list(itertools.combinations(range(len(scores)), 2))
    if not pairs:
        return 1.0
    return sum(1 if scores[i] >= scores[j] else -1 for i, j in pairs) / len(pairs)


@mostly_float64
def test_utility_by_its_definition(dtype):
    rng = np.random.default_rng(0)
    count, n = 200, 4
    raw = random_games(1, count, n, "different_limits", dtype=dtype)
    present = rng.random((count, n)) < 0.8
    delta = (10 ** rng.uniform(-1, 3, count)).astype(dtype)
    efforts = np.where(rng.random((count, n)) < 0.5, 0, 10 ** rng.uniform(0, 4, (count, n)))
    efforts = efforts.astype(dtype)
    reward, rate = (rng.uniform(0, 100, count).astype(dtype) for _ in range(2))
    rates = np.where(rng.random((count, 1)) < 0.5, rate[:, None], rng.random((count, n)))
    rates = rates.astype(dtype)
    game = game_of(raw, present)
    # Ties go to the more capable, as in the definition below; random scores have none.
    exact, kendall = (
        np.asarray(
            designer_utility(
                game, delta, efforts, reward, rates, agreement=agreement, ties="capability"
            )
        )
        for agreement in ("exact", "kendall")
    )
    assert exact.dtype == dtype
    z = raw["alpha"] + raw["beta"] * np.log1p(delta[:, None] + efforts).astype(np.float64)
    scores = raw["lower"] + (raw["upper"] - raw["lower"]) / (1 + np.exp(-z))
    seen = set()
    for i in range(count):
        here = np.flatnonzero(present[i])
        tau = kendall_by_pairs(scores[i, here])
        paid = float(delta[i]) * sum(float(rates[i, k]) for k in here)
        close = np.abs(np.subtract.outer(scores[i, here], scores[i, here]))
        if np.any(close[~np.eye(len(here), dtype=bool)] < 1e-4):
            continue  # float32 may see a tie
        digits = {"rtol": 1e-4 if dtype == np.float32 else 1e-12}
        np.testing.assert_allclose(exact[i], float(reward[i]) * (tau == 1) - paid, **digits)
        np.testing.assert_allclose(kendall[i], float(reward[i]) * tau - paid, atol=1e-4, **digits)
        seen.add(round(tau, 3))
    assert len(seen) >= 5


@pytest.mark.slow
def test_one_rate_for_all_costs_n_times_as_much(x64):
    game = pair()
    assert float(designer_utility(game, 3.0, [0.0, 0.0], 10.0, 0.5)) == 10 - 2 * 0.5 * 3
    assert float(designer_utility(game, 3.0, [0.0, 0.0], 10.0, [0.5, 0.25])) == 10 - 0.75 * 3
    alone = dataclasses.replace(game, present=jnp.array([True, False]))
    assert float(designer_utility(alone, 3.0, [0.0, 9.0], 10.0, [0.5, 0.25])) == 10 - 0.5 * 3
    for agreement in ("exact", "kendall"):
        utility = designer_utility(alone, 3.0, [0.0, 9.0], 10.0, 0.5, agreement=agreement)
        assert float(utility) == 10 - 0.5 * 3


def test_ties_are_the_developers(dtype):
    """An effort that just reaches the rival ties with it, and does not spoil the ranking."""
    rng = np.random.default_rng(1)
    count = 500
    beta = rng.uniform(0.1, 1.2, (count, 2)).astype(dtype)
    alpha = np.stack([rng.uniform(0, 2, count), rng.uniform(-2, 0, count)], -1).astype(dtype)
    game = ranking_game(power_law(alpha, beta), winner_take_all(2), linear_cost(1.0))
    assert game.dtype == dtype
    distance = (alpha[:, 0].astype(np.float64) - alpha[:, 1]) / beta[:, 1]
    utilities = []
    for factor in (0.99, 1.0, 1.01):
        efforts = np.stack([np.zeros(count), np.expm1(distance) * factor], axis=-1).astype(dtype)
        utilities.append(designer_utility(game, 0.0, efforts, 1.0, 0.0))
    np.testing.assert_array_equal(utilities[0], 1)
    np.testing.assert_array_equal(utilities[1], 1)
    np.testing.assert_array_equal(utilities[2], 0)


def test_ties_go_by_the_baseline_or_by_capability(x64):
    # The weaker model starts ahead; the stronger one reaches it and no more.
    game = ranking_game(power_law([0.0, 1.0], 1.0), [1.0, 0.0], linear_cost(1.0))
    efforts = [math.expm1(1.0), 0.0]
    assert float(designer_utility(game, 0.0, efforts, 5.0, 1.0)) == 0
    assert float(designer_utility(game, 0.0, efforts, 5.0, 1.0, ties="capability")) == 5


def test_unusable_values_are_nan_for_their_game_alone(x64):
    raw = random_games(2, COUNT, MODELS, "equal_limits")
    raw["alpha"][1, 1] = np.nan
    delta, efforts, reward = np.ones(COUNT), np.zeros((COUNT, MODELS)), np.full(COUNT, 5.0)
    rate = np.ones((COUNT, 1))
    delta[2], efforts[3, 0], reward[4], rate[5] = -1, -1, -5, -1
    utility = designer_utility(game_of(raw), delta, efforts, reward, rate)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(utility)), [1, 2, 3, 4, 5])
    best = optimal_tbt(game_of(raw), reward, rate)
    for values in (best.delta, best.utility, best.paid):
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), [1, 4, 5])
    assert not np.any(best.stabilizes[np.array([1, 4, 5])])


def test_a_free_endless_level_costs_nothing(x64):
    assert float(designer_utility(pair(), INF, [0.0, 0.0], 7.0, 0.0)) == 7
    assert float(designer_utility(pair(), INF, [0.0, 0.0], 7.0, 1.0)) == -INF


# --- The choice of Δ -----------------------------------------------------------------------------

KINDS = (
    "equal_limits",
    "fast_weak",
    "zero_gaps",
    "unequal_costs",
    "different_limits",
    "out_of_reach",
    "monotone_different_limits",
    "interval_then_ray",
)


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(("fast_weak", "different_limits"), id="some"),
        pytest.param(KINDS, id="all", marks=pytest.mark.slow),
    ],
)
def test_choice_equals_an_exhaustive_search(kinds, x64):
    """The best of 3,000 levels, judged by the verdict and the order of the scores; 10³ games."""
    count, n = COUNT, MODELS
    levels = np.concatenate([[0], np.expm1(np.linspace(1e-3, 25, 2999))])[:, None]
    rng = np.random.default_rng(3)
    outcomes = {"today": 0, "chosen": 0, "too dear": 0, "nowhere": 0}
    for kind in kinds:
        raw = random_games(4, count, n, kind)
        game = game_of(raw)
        threshold = stabilizing_threshold(game)
        # Rewards on either side of what Δ* costs, and rates for each model or for all.
        rates = 10 ** rng.uniform(-3, 2, (count, n))
        rates = np.where(rng.random((count, 1)) < 0.5, rates[:, :1], rates)
        scale = np.where(np.isfinite(threshold.delta), threshold.delta, 1.0) + 0.1
        reward = np.sum(rates, axis=-1) * scale * 10 ** rng.uniform(-0.5, 1.0, count)
        best = optimal_tbt(game, reward, rates)

        scores = baseline_scores(game, levels)
        in_order = np.all(scores[..., :-1] >= scores[..., 1:], axis=-1)
        pays = np.asarray(is_zero_effort_pne(game, levels)) & in_order
        total = np.sum(rates, axis=-1)
        utility = np.where(pays, reward - total * levels, -total * levels)
        searched = np.max(utility, axis=0)
        at = np.argmax(utility, axis=0)
        chosen, worth = np.asarray(best.delta), np.asarray(best.utility)

        # Nothing on the grid is better, up to rounding at the ends of stretches.
        assert np.all(worth >= searched - 1e-9 * (reward + total * levels[at, 0]))
        # What is chosen is stable and ordered a hair above it, and worth what it is said to be.
        above = np.expm1(np.log1p(chosen) * (1 + 1e-12) + 1e-12)
        pays_there = np.asarray(is_zero_effort_pne(game, above))
        scores = baseline_scores(game, above)
        ordered = np.all(scores[..., :-1] >= scores[..., 1:] - 1e-12, axis=-1)
        stabilizes = np.asarray(best.stabilizes)
        assert np.all((pays_there & ordered)[stabilizes])
        np.testing.assert_allclose(
            worth, np.where(stabilizes, reward - total * chosen, 0), rtol=1e-12
        )
        # And the grid comes as near as its spacing allows, unless a stretch is shorter than that.
        after = levels[np.minimum(np.searchsorted(levels[:, 0], chosen), len(levels) - 1), 0]
        hit = np.asarray(threshold.upper) > after
        reachable = np.maximum(reward - total * after, 0)
        inside = stabilizes & hit & (chosen < levels[-2, 0])
        assert np.all((searched >= reachable * (1 - 1e-9))[inside])
        assert np.all((searched == 0)[~stabilizes])

        outcomes["today"] += np.sum(stabilizes & (chosen == 0))
        outcomes["chosen"] += np.sum(stabilizes & (chosen > 0))
        outcomes["nowhere"] += np.sum(~np.isfinite(threshold.delta))
        outcomes["too dear"] += np.sum(~stabilizes & np.isfinite(threshold.delta))
    assert sum(outcomes.values()) == count * len(kinds)
    assert min(outcomes.values()) >= (50 if kinds == KINDS else 5)


def test_closed_form(dtype):
    """ρ = 1: Δ* = (g − e⁰)/e⁰, at 2 models and rate 1 worth B − 2·Δ*."""
    first = (10 - math.expm1(1)) / math.expm1(1)
    reward = np.array([50, 2 * first + 1e-3, 2 * first - 1e-3, 0, INF], dtype)
    best = optimal_tbt(pair(dtype), reward, 1.0)
    assert best.delta.dtype == best.utility.dtype == best.paid.dtype == best.efforts.dtype == dtype
    pays = np.array([True, True, False, False, True])
    digits = {"rtol": 1e-5 if dtype == np.float32 else 1e-12}
    np.testing.assert_array_equal(best.stabilizes, pays)
    np.testing.assert_allclose(best.delta, np.where(pays, first, 0), **digits)
    np.testing.assert_allclose(
        best.utility, np.where(pays, reward - 2 * first, 0), atol=1e-5, **digits
    )
    each = np.where(pays, first, 0)[:, None] * np.ones(2)
    np.testing.assert_allclose(best.paid_by_model, each, **digits)
    np.testing.assert_allclose(best.paid, np.where(pays, 2 * first, 0), **digits)
    # Where the level is too dear the race goes on: there is no equilibrium.
    np.testing.assert_array_equal(np.isnan(best.efforts), ~pays[:, None] * np.ones(2, bool))
    assert best.batch_shape == (5,)
    assert best.num_models == 2
    assert best[0].delta.shape == ()


def test_kinks(x64):
    calm = pair(worth=1.0)
    assert stabilizing_threshold(calm).status == Status.STABLE_AT_ZERO
    best = optimal_tbt(calm, 3.0, 100.0)
    assert (float(best.delta), float(best.utility), bool(best.stabilizes)) == (0, 3, True)
    assert best.efforts.tolist() == [0, 0]
    # Out of order at every level: nothing to be had, and nothing is spent.
    wrong = ranking_game(power_law([0.0, 1.0], 1.0), [1.0, 0.0], linear_cost(1.0))
    best = optimal_tbt(wrong, 1e6, 1e-6)
    assert (float(best.delta), float(best.utility), bool(best.stabilizes)) == (0, 0, False)
    # The zero profile may be an equilibrium in the wrong order: an answer that pays nothing.
    held = ranking_game(power_law([0.0, 9.0], 1.0), [1.0, 0.0], linear_cost(1.0))
    assert bool(is_zero_effort_pne(held, 0.0))
    best = optimal_tbt(held, 1.0, 1.0)
    assert best.efforts.tolist() == [0, 0]
    assert not best.stabilizes
    # Free tuning always pays.
    assert float(optimal_tbt(pair(), 0.0, 0.0).delta) > 4


def test_the_pair_is_an_equilibrium_of_both_stages(x64):
    """At (Δ, e) no developer gains, and no other level is worth more to the designer."""
    game = pair()
    best = optimal_tbt(game, 50.0, 1.0)
    gains = deviation_gain(game, best.delta * (1 + 1e-12), best.efforts)
    assert float(jnp.max(gains)) <= 1e-9
    utility = designer_utility(game, best.delta, best.efforts, 50.0, 1.0)
    np.testing.assert_allclose(utility, best.utility, rtol=1e-12)
    assert float(jnp.max(deviation_gain(game, best.delta * 0.999, best.efforts))) > 0


@pytest.mark.slow
def test_per_model_rates_and_absent_models(x64):
    alpha, rewards = np.array([1.0, 0.5, 0.0]), [10.0, 5.0, 0.0]
    others = {"beta": np.ones(3), "lower": 0.0, "upper": 1.0, "cost_rate": 1.0}
    game = game_of({"alpha": alpha, "rewards": rewards, **others})
    rates = np.array([1.0, 2.0, 4.0])
    whole = optimal_tbt(game, 1e3, rates)
    np.testing.assert_allclose(whole.paid_by_model, rates * float(whole.delta))
    np.testing.assert_allclose(whole.paid, 7 * float(whole.delta))
    some = dataclasses.replace(game, present=jnp.array([True, False, True]))
    best = optimal_tbt(some, 1e3, rates)
    np.testing.assert_allclose(best.paid_by_model, np.array([1, 0, 4]) * float(best.delta))
    np.testing.assert_allclose(best.utility, 1e3 - 5 * float(best.delta))


def test_derivatives_go_through_the_threshold(x64):
    """Against central differences; 0 where nothing is chosen, also beside games without answer."""
    alpha = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    beta = jnp.array([[0.9, 0.8], [0.9, 0.8], [1.0, 1.0]])
    reward = jnp.array([50.0, 1.0, 50.0])

    def utility(alpha, rate):
        game = ranking_game(power_law(alpha, beta), [10.0, 0.0], linear_cost(1.0))
        return optimal_tbt(game, reward, rate).utility

    by_alpha = jax.jit(jax.jacrev(utility))(alpha, 0.5)
    assert np.all(np.isfinite(by_alpha))
    step = 1e-6
    for model in range(2):
        moved = jnp.zeros((3, 2)).at[:, model].set(step)
        slope = (utility(alpha + moved, 0.5) - utility(alpha - moved, 0.5)) / (2 * step)
        own = by_alpha[jnp.arange(3), jnp.arange(3), model]
        np.testing.assert_allclose(own, slope, rtol=1e-6, atol=1e-9)
    assert abs(float(by_alpha[0, 0, 0])) > 0.1
    np.testing.assert_array_equal(by_alpha[1:], 0)
    by_rate = jax.jit(jax.jacfwd(utility, argnums=1))(alpha, 0.5)
    game = ranking_game(power_law(alpha, beta), [10.0, 0.0], linear_cost(1.0))
    first = float(stabilizing_threshold(game).delta[0])
    np.testing.assert_allclose(by_rate, [-2 * first, 0, 0], rtol=1e-12)


def test_jit_vmap_and_a_loop_agree(x64):
    game = game_of(random_games(5, COUNT, MODELS, "fast_weak"))
    reward = np.resize(np.linspace(1.0, 1e4, 8), COUNT)
    whole = optimal_tbt(game, reward, 0.1)
    mapped = jax.jit(jax.vmap(lambda game, reward: optimal_tbt(game, reward, 0.1)))(game, reward)
    loop = [optimal_tbt(game[i], reward[i], 0.1) for i in range(8)]
    loop = jax.tree.map(lambda *x: np.stack(x), *loop)
    for name in ("delta", "utility", "stabilizes", "efforts", "paid_by_model", "paid"):
        expected = getattr(whole, name)
        np.testing.assert_allclose(getattr(mapped, name), expected, rtol=1e-12)
        np.testing.assert_allclose(getattr(loop, name), expected[:8], rtol=1e-12)
    many = optimal_tbt(game, reward[:8, None], 0.1)
    assert many.delta.shape == (8, COUNT) and many.efforts.shape == (8, COUNT, MODELS)
    np.testing.assert_allclose(jnp.diagonal(many.utility), whole.utility[:8])


def test_arguments(x64):
    game = pair()
    with pytest.raises(ValueError, match='agreement must be "exact" or "kendall"'):
        designer_utility(game, 0.0, [0.0, 0.0], 1.0, 1.0, agreement="spearman")
    with pytest.raises(ValueError, match="cost_rate must have 2 entries on the last axis"):
        optimal_tbt(game, 1.0, [1.0, 1.0, 1.0])
    with pytest.raises(TypeError, match="game must be a RankingGame"):
        optimal_tbt(game.curves, 1.0, 1.0)
    batch = ranking_game(power_law(np.ones((3, 2)), 1.0), winner_take_all(2), linear_cost(1.0))
    with pytest.raises(ValueError, match="reward must broadcast with the games' axes"):
        optimal_tbt(batch, [1.0, 2.0], 1.0)
