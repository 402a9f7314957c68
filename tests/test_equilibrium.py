"""Verdicts on large batches: both roads, whatever the chunk is made of."""

import functools

import numpy as np
import oracles
import pytest
from random_games import DIFFERENT_LIMIT_KINDS, EQUAL_LIMIT_KINDS, mixed_games

import tbtjax

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
def test_verdicts_are_those_of_the_definition(limits, deviations, x64):
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
