"""Verdicts on large batches: all roads, whatever the chunk is made of."""

import functools

import jax
import numpy as np
import oracles
import pytest
from random_games import DIFFERENT_LIMIT_KINDS, EQUAL_LIMIT_KINDS, mixed_games

import tbtjax
from tbtjax import equilibrium
from tbtjax.effort import aligned_at

COUNT, MODELS = 400, 4
KINDS = {"equal": EQUAL_LIMIT_KINDS, "different": DIFFERENT_LIMIT_KINDS}


@functools.cache
def games_and_levels(limits):
    """A batch of all classes, and levels at many of which scores do not follow capability."""
    games = mixed_games(11, COUNT, MODELS, KINDS[limits])
    rng = np.random.default_rng(12)
    count = len(games["alpha"])
    return games, np.where(rng.random(count) < 0.2, 0, np.exp(rng.uniform(-3, 12, count)))


def make_game(games):
    curves = tbtjax.power_law(games["alpha"], games["beta"], games["lower"], games["upper"])
    return tbtjax.ranking_game(curves, games["rewards"], tbtjax.linear_cost(games["cost_rate"]))


def verdict(games, levels, deviations):
    return np.asarray(tbtjax.is_zero_effort_pne(make_game(games), levels, deviations))


def picked(games, which):
    return {name: x[which] if x.ndim else x for name, x in games.items()}


@pytest.mark.parametrize("deviations", ["all", "adjacent"])
@pytest.mark.parametrize("limits", KINDS)
def test_verdicts_are_those_of_the_definition(limits, deviations, x64, many_chunks):
    games, levels = games_and_levels(limits)
    found = verdict(games, levels, deviations)
    some = np.random.default_rng(13).choice(len(levels), 400, replace=False)
    ordered, clear = [], []
    for i in some:
        game = oracles.single_game(games, (i,))
        margin = oracles.stability_margin(game, levels[i], deviations)
        scale = max(abs(x) for x in game.rewards)  # closer than this to 0, rounding decides
        ordered.append(oracles.ranking(game, levels[i]) == list(range(MODELS)))
        clear.append(abs(margin) > 1e-7 * scale)
        assert found[i] == (margin >= 0) or not clear[-1], (i, float(margin))
    assert 0.2 < np.mean(ordered) < 0.95
    assert np.mean(clear) > 0.9


@pytest.mark.parametrize("deviations", ["all", "adjacent"])
def test_verdicts_do_not_depend_on_the_rest_of_the_batch(deviations, x64):
    """Mostly games in order, mostly others, and each among few."""
    games, levels = games_and_levels("equal")
    together = verdict(games, levels, deviations)
    scores = np.asarray(tbtjax.baseline_scores(make_game(games), levels))
    in_order = np.all(np.diff(scores) < 0, axis=-1)
    # As many of each kind in every batch, so that one program serves.
    size = min(in_order.sum(), (~in_order).sum())
    assert size > 300
    first, other = np.flatnonzero(in_order)[:size], np.flatnonzero(~in_order)[:size]
    few = size // 20
    for most, least in ((first, other), (other, first)):
        batch = np.concatenate([most[few:], least[:few]])
        batch = np.random.default_rng(14).permutation(batch)
        found = verdict(picked(games, batch), levels[batch], deviations)
        np.testing.assert_array_equal(found, together[batch])
    for start in range(0, 160, 16):
        few_games = slice(start, start + 16)
        found = verdict(picked(games, few_games), levels[few_games], deviations)
        np.testing.assert_array_equal(found, together[few_games])


@pytest.mark.parametrize("deviations", ["all", "adjacent"])
@pytest.mark.parametrize("limits", KINDS)
def test_the_fast_road_never_contradicts(limits, deviations, dtype):
    """On every class, with unusable numbers among them, and close to where a pair turns."""
    games = mixed_games(15, 1_000, MODELS, KINDS[limits], dtype)
    rng = np.random.default_rng(16)
    count = len(games["alpha"])
    delta = np.asarray(tbtjax.stabilizing_threshold(make_game(games), deviations).delta, float)
    near = np.isfinite(delta) & (rng.random(count) < 0.7)
    close = np.where(near, delta, 1) * (1 + rng.choice([-1, 1], count) * 10 ** -rng.uniform(1, 9))
    levels = np.where(near, close, np.exp(rng.uniform(-3, 12, count))).astype(dtype)
    for name in ("alpha", "beta", "rewards"):
        spoiled = rng.random(games[name].shape) < 0.005
        wrong = rng.choice([np.nan, np.inf, -np.inf, -1.0], games[name].shape)
        games[name] = np.where(spoiled, wrong, games[name]).astype(dtype)
    levels[:20] = np.repeat([np.nan, np.inf, -1.0, 0.0, 1e30], 4)
    chunk = equilibrium._Levelled(*aligned_at(make_game(games), levels))
    stable, is_open = jax.jit(equilibrium._surely, static_argnums=1)(chunk, deviations)
    expected = jax.jit(equilibrium._any_order, static_argnums=1)(chunk, deviations)
    sure = ~np.asarray(is_open)
    np.testing.assert_array_equal(np.asarray(stable)[sure], np.asarray(expected)[sure])
    assert 0.2 < np.mean(sure) < 1


@pytest.mark.parametrize("deviations", ["all", "adjacent"])
@pytest.mark.parametrize("limits", KINDS)
def test_chunks_do_not_show(limits, deviations, dtype, many_chunks, monkeypatch):
    games = mixed_games(17, COUNT, MODELS, KINDS[limits], dtype)
    levels = np.exp(np.random.default_rng(18).uniform(-3, 12, len(games["alpha"]))).astype(dtype)
    chunked = verdict(games, levels, deviations)
    monkeypatch.undo()
    jax.clear_caches()
    np.testing.assert_array_equal(verdict(games, levels, deviations), chunked)


def test_many_levels_of_one_game(x64, many_chunks):
    curves = tbtjax.power_law([2.0, 1.0, 0.0], [0.8, 0.8, 0.7], [0.2, 0.2, 0.1], [0.9, 0.88, 0.85])
    game = tbtjax.ranking_game(curves, [30.0, 10.0, 0.0], tbtjax.linear_cost(1.0))
    levels = np.linspace(0, 6, 2_001)
    delta = float(tbtjax.stabilizing_threshold(game).delta)
    assert 1 < delta < 5
    stable = np.asarray(tbtjax.is_zero_effort_pne(game, levels))
    np.testing.assert_array_equal(stable, levels >= delta)
