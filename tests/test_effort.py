"""Scores and efforts at a level, against 60-digit calculations from the definitions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from random_games import KINDS, random_games

import tbtjax
from tbtjax import just_overtake_effort, linear_cost, overtake_effort, power_law, ranking_game

GAMES, MODELS = 200, 4
ULPS = 8
LEVELS = np.expm1(np.linspace(0, 12, GAMES))


def make(games):
    shape = games["alpha"].shape
    games = {k: np.broadcast_to(x, shape) if x.ndim else x for k, x in games.items()}
    curves = power_law(games["alpha"], games["beta"], games["lower"], games["upper"])
    return ranking_game(curves, games["rewards"], linear_cost(games["cost_rate"]))


def effort_of_moved(game, weak, rival, tilt, level):
    """Effort to pass where each input has moved by the relative amount `tilt`, all one way."""
    pair = oracles._pair(game, weak, rival, tilt)
    both = {
        name: (getattr(pair, name + "_s"), getattr(pair, name + "_w"))
        for name in ("alpha", "beta", "lower", "upper")
    }
    one = oracles.exact.mpf(1)
    moved = oracles.Game(
        **both,
        rewards=(one, one),
        cost_rate=(one, one),
        cost_exponent=(one, one),
        limits_shared=game.limits_shared,
    )
    # Ties go to the more capable model, which comes first in the moved game.
    order = (1, 0) if rival < weak else (0, 1)
    if rival > weak:
        moved = dataclasses.replace(moved, **{name: x[::-1] for name, x in both.items()})
    return oracles.overtake_effort(moved, *order, level)


@pytest.mark.parametrize("kind", KINDS)
def test_efforts_are_exact(kind, dtype):
    """Within what 8 units in the last place of the inputs and of 1 + Δ make."""
    games = random_games(1, GAMES, MODELS, kind, dtype)
    levels = LEVELS.astype(dtype)
    efforts = np.asarray(overtake_effort(make(games), levels))
    adjacent = np.asarray(just_overtake_effort(make(games), levels))
    assert efforts.dtype == adjacent.dtype == dtype
    assert np.all(efforts[:, range(MODELS), range(MODELS)] == 0)
    eps, largest = float(np.finfo(dtype).eps), float(np.finfo(dtype).max)
    for i in range(0, GAMES, 10):
        game = oracles.single_game(games, i)
        level = float(levels[i])
        for weak, rival in np.ndindex(MODELS, MODELS):
            if weak == rival:
                continue
            low, high = (effort_of_moved(game, weak, rival, x * eps, level) for x in (-ULPS, ULPS))
            slack = ULPS * eps * (1 + level)
            found = [float(efforts[i, weak, rival])]
            found += [float(adjacent[i, weak - 1])] if rival == weak - 1 else []
            for effort in found:
                # Beyond the largest number everything is +inf.
                assert low - slack <= effort or low > 0.9 * largest, (i, weak, rival)
                assert effort <= high + slack or high > 0.9 * largest, (i, weak, rival)


@pytest.mark.parametrize(
    ("curves", "expected"),
    [
        (([1.0, 0.0], 1.0), np.inf),
        (([1.0, 0.0], [0.5, 1.0]), np.inf),
        (([1.0, 0.0], 1.0, 0.0, [0.8, 0.9]), 0),
        (([1.0, 0.0], [-0.1, 1.0]), 0),
        (([1.0, 0.0], 0.0), np.inf),
    ],
)
def test_after_endless_training_scores_are_at_their_limits(curves, expected):
    game = ranking_game(power_law(*curves), [1, 0], linear_cost(1.0))
    level = np.array([np.inf, 1.0])
    scores = tbtjax.baseline_scores(game, level)
    np.testing.assert_array_equal(scores[0], np.broadcast_to(game.curves.limit(), 2))
    assert just_overtake_effort(game, level)[0, 0] == expected
    assert tbtjax.is_zero_effort_pne(game, np.inf)

    def total(curves):
        moved = ranking_game(curves, [1, 0], linear_cost(1.0))
        effort = just_overtake_effort(moved, level)
        return jnp.sum(jnp.where(jnp.isfinite(effort), effort, 0))

    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(jax.grad(total)(game.curves)))


def test_what_has_no_answer_is_nan(dtype):
    game = make(random_games(2, 3, MODELS, "different_limits", dtype))
    levels = np.array([-1, np.nan, 1], dtype)
    for answer in (tbtjax.baseline_scores, just_overtake_effort, overtake_effort):
        found = np.asarray(answer(game, levels))
        assert np.all(np.isnan(found[:2])) and not np.any(np.isnan(found[2]))


def test_efforts_to_unreachable_scores_leave_gradients_finite(x64):
    """An effort beyond the largest number is none, whichever way it is asked for."""
    curves = power_law(np.array([0.0, 0.0]), np.array([1e-3, 1.0]))

    def total(curves):
        effort = curves.effort_to_reach(0.9)
        return jnp.sum(jnp.where(jnp.isfinite(effort), effort, 0))

    assert curves.effort_to_reach(0.9).tolist() == [np.inf, pytest.approx(8)]
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(jax.grad(total)(curves)))
    assert np.isnan(curves.effort_to_reach(np.nan)).all()


def test_levels_broadcast_with_games():
    game = make(random_games(3, 5, MODELS, "equal_limits", np.float32))
    assert just_overtake_effort(game, np.zeros((2, 1))).shape == (2, 5, MODELS - 1)
    assert overtake_effort(game[0], np.zeros((2, 3))).shape == (2, 3, MODELS, MODELS)
    with pytest.raises(ValueError, match=r"delta must broadcast with the games' axes \(5,\)"):
        just_overtake_effort(game, np.zeros(4))
    with pytest.raises(TypeError, match="game must be a RankingGame"):
        overtake_effort(game.curves, 0.0)
