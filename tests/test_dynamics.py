"""The arms race, against a plain loop, the theory and its own definition."""

import importlib.util
import pathlib

import by_definition
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import mostly_float32, mostly_float64
from random_games import mixed_games, random_games
from test_response import make_game

import tbtjax
from tbtjax.dynamics import best_response_dynamics
from tbtjax.response import deviation_gain

EXAMPLE = pathlib.Path(__file__).parents[1] / "examples" / "arms_race.py"
KINDS = {
    "equal": ("equal_limits", "fast_weak", "unequal_costs", "zero_gaps", "ties"),
    "different": ("different_limits", "monotone_different_limits", "out_of_reach"),
}


def worth(games):
    """What the first rank is worth more than the last, in the cheapest model's steps."""
    return (games["rewards"][:, 0] - games["rewards"][:, -1]) / np.min(games["cost_rate"], axis=-1)


@pytest.mark.parametrize("order", ["simultaneous", "sequential"])
@pytest.mark.parametrize(("limits", "num_models"), [("equal", 4), ("different", 3)])
def test_against_a_plain_loop(x64, limits, num_models, order):
    games = mixed_games(1, 40, num_models, KINDS[limits])
    rng = np.random.default_rng(1)
    count = len(games["alpha"])
    delta = np.where(rng.random(count) < 0.5, 0, rng.uniform(0, 5, count))
    start = rng.uniform(0, 1, (count, num_models)) * worth(games)[:, None]
    start *= rng.random((count, 1)) < 0.5
    margin = np.maximum(worth(games) * 0.02347, 1e-6)
    race = best_response_dynamics(make_game(games), delta, start, 30, margin, order=order)
    expected = by_definition.race(games, delta, start, 30, margin, order)
    scale = 1 + delta[:, None] + expected
    assert np.max(np.abs(race.efforts - expected) / scale) < 1e-9
    np.testing.assert_allclose(race.total_effort, np.sum(race.efforts[1:], axis=0), rtol=1e-12)
    wrong = [by_definition.is_misranked(games, delta, np.asarray(e)) for e in race.efforts[1:]]
    np.testing.assert_allclose(race.wrong_ranking, np.mean(wrong, axis=0), rtol=1e-12)
    assert 0 < np.mean(race.wrong_ranking) < 1
    logit = games["alpha"] + games["beta"] * np.log1p(delta[:, None] + np.asarray(race.efforts))
    span = games["upper"] - games["lower"]
    np.testing.assert_allclose(
        race.scores, games["lower"] + span / (1 + np.exp(-logit)), rtol=1e-12
    )


@pytest.mark.parametrize("order", ["simultaneous", "sequential"])
def test_periods(x64, order):
    games = mixed_games(2, 60, 3, KINDS["equal"])
    game = make_game(games)
    margin = worth(games) * np.where(np.arange(300) % 2, 0.1234, 0.01234) + 1e-6
    races, start = [], np.zeros((300, 3))
    for _ in range(3):  # each from where the last was left
        races.append(best_response_dynamics(game, 0.5, start, 60, margin, order=order))
        start = races[-1].efforts[-1]
    history = np.concatenate([races[0].efforts[:1], *(race.efforts[1:] for race in races)])
    period = np.asarray(races[0].period)
    for i in range(len(period)):
        back = [p for p in range(1, 61) if np.array_equal(history[60, i], history[60 - p, i])]
        assert period[i] == (min(back) if back else 0)
        if period[i]:  # and so it goes on
            np.testing.assert_array_equal(history[60 + period[i] :, i], history[60 : -period[i], i])
    assert {0, 1, 4} < set(period.tolist())


@mostly_float64
@pytest.mark.parametrize("order", ["simultaneous", "sequential"])
def test_settles_above_the_threshold_and_not_below(dtype, order):
    games = mixed_games(3, 150, 3, ("equal_limits",), dtype)
    game = make_game(games)
    threshold = np.asarray(tbtjax.stabilizing_threshold(game).delta)
    moderate = (threshold > 0.1) & (threshold < 1e4)
    game, threshold = game[moderate], threshold[moderate]
    assert len(threshold) > 60
    margin = (worth(games)[moderate] * 1e-3).astype(dtype)
    above = best_response_dynamics(game, threshold * 1.01, 0.0, 5, margin, order=order)
    assert np.all(above.efforts == 0)
    assert np.all(above.period == 1)
    assert np.all(above.wrong_ranking == 0)
    below = best_response_dynamics(game, threshold * 0.5, 0.0, 50, margin, order=order)
    # A settled race is an equilibrium but for the price of the margin, if rounding lets it pass.
    settled = np.asarray(below.period) == 1
    efforts = np.asarray(below.efforts[-1])
    gain = np.max(deviation_gain(game, threshold * 0.5, efforts), axis=-1)
    total = 1 + threshold + np.max(efforts, axis=-1) + margin
    passes = margin > 100 * np.finfo(dtype).eps * total * (1 + np.log(total))
    assert np.mean(passes) > (0.99 if dtype == np.float64 else 0.8)
    price = np.asarray(game.cost.rate)[:, 0] * margin
    rounding = 1e3 * np.finfo(dtype).eps * np.max(np.asarray(game.rewards), axis=-1)
    assert np.all((gain <= price + rounding)[settled & passes])
    assert np.mean(settled) < 0.2
    assert np.all(np.asarray(below.total_effort).sum(-1)[~settled] > 0)


def test_a_margin_that_is_not_worth_it():
    """At Δ = 0 passing costs 0.172 of 1: a margin worth 0.83 more is not paid."""
    curves = tbtjax.power_law([1.0, 0.0], 1.0)
    game = tbtjax.ranking_game(curves, [1.0, 0.0], tbtjax.linear_cost(0.1))
    small, large = (best_response_dynamics(game, 0.0, 0.0, 4, margin) for margin in (8.2, 8.4))
    assert float(small.efforts[1, 1]) == pytest.approx(np.e - 1 + 8.2, rel=1e-6)
    assert int(large.period) == 1 and np.all(large.efforts == 0)
    # With three models the next best move: the last passes one rival, and not two.
    curves = tbtjax.power_law([2.0, 1.0, 0.0], 1.0)
    game = tbtjax.ranking_game(curves, [2.0, 1.0, 0.0], tbtjax.linear_cost(0.25))
    moved = best_response_dynamics(game, 0.0, 0.0, 1, 1.0).efforts[1]
    np.testing.assert_allclose(moved, [0, np.e, np.e], rtol=1e-6)
    cheap = tbtjax.ranking_game(curves, [2.0, 1.0, 0.0], tbtjax.linear_cost(0.1))
    moved = best_response_dynamics(cheap, 0.0, 0.0, 1, 1.0).efforts[1]
    np.testing.assert_allclose(moved, [0, np.e, np.e**2], rtol=1e-6)


def test_a_margin_below_rounding_passes_nobody():
    curves = tbtjax.power_law([1.0, 0.0], 1.0)
    game = tbtjax.ranking_game(curves, [1.0, 0.0], tbtjax.linear_cost(0.1))
    for margin in (0.0, 1e-7):
        race = best_response_dynamics(game, 0.0, 0.0, 3, margin)
        assert np.all(race.efforts == 0)
        assert int(race.period) == 1


def test_who_gains_nothing_stays():
    """Equal rewards: efforts are given up; at no cost they are kept."""
    curves = tbtjax.power_law([1.0, 0.0], 1.0)
    start = [3.0, 40.0]
    race = best_response_dynamics(
        tbtjax.ranking_game(curves, [1.0, 1.0], tbtjax.linear_cost(0.1)), 0.0, start, 3, 0.1
    )
    np.testing.assert_array_equal(race.efforts[1:], np.zeros((3, 2)))
    free = tbtjax.ranking_game(curves, [1.0, 1.0], tbtjax.linear_cost(0.0))
    race = best_response_dynamics(free, 0.0, start, 3, 0.1)
    np.testing.assert_array_equal(race.efforts, np.broadcast_to(start, (4, 2)))
    assert int(race.period) == 1
    assert float(race.wrong_ranking) == 1


@pytest.mark.slow
def test_curves_that_fall(x64):
    """The weak model passes on its way up, and no further."""
    curves = tbtjax.tabulated([0.0, 5.0, 10.0], [[0.5, 0.5, 0.5], [0.4, 0.7, 0.3]])
    game = tbtjax.ranking_game(curves, [1.0, 0.0], tbtjax.linear_cost(0.01))
    race = best_response_dynamics(game, 0.0, 0.0, 5, 0.5)
    expected = np.array([0, 5 / 3 + 0.5])
    np.testing.assert_allclose(race.efforts[1:], np.broadcast_to(expected, (5, 2)), rtol=1e-12)
    assert int(race.period) == 1
    overshot = best_response_dynamics(game, 0.0, 0.0, 5, 7.0)  # behind the peak and below the rival
    assert np.all(overshot.efforts == 0)


@mostly_float32
def test_one_bad_game_spoils_no_other(dtype):
    games = random_games(4, 7, 3, "equal_limits", dtype)
    start, delta = np.full((7, 3), 0.5, dtype), np.ones(7, dtype)
    margin = (worth(games) * 0.01).astype(dtype)
    good = best_response_dynamics(make_game(games), delta, start, 10, margin)
    bad = {name: values.copy() for name, values in games.items()}
    bad["alpha"][1, 2] = np.nan
    bad["rewards"][2] = [0, 1, 2]
    bad_start, bad_delta, bad_margin = start.copy(), delta.copy(), margin.copy()
    bad_delta[3], bad_start[4, 1], bad_margin[5] = -1, np.nan, -1
    race = best_response_dynamics(make_game(bad), bad_delta, bad_start, 10, bad_margin)
    kept = np.array([0, 6])
    for field in ("efforts", "scores"):
        np.testing.assert_array_equal(getattr(race, field)[:, kept], getattr(good, field)[:, kept])
        assert np.all(np.isnan(getattr(race, field)[:, 1:6]))
    for field in ("total_effort", "wrong_ranking"):
        np.testing.assert_array_equal(getattr(race, field)[kept], getattr(good, field)[kept])
        assert np.all(np.isnan(getattr(race, field)[1:6]))
    assert np.all(race.period[1:6] == 0)
    assert race.efforts.dtype == race.scores.dtype == race.wrong_ranking.dtype == dtype


def test_absent_models_change_nothing(x64):
    games = random_games(5, 50, 4, "different_limits")
    present = np.array([True, False, True, True])
    spoiled = {k: np.broadcast_to(v, (50, 4)) for k, v in games.items()}
    spoiled = {k: np.where(present, v, np.nan) for k, v in spoiled.items()}
    larger = make_game({**spoiled, "rewards": games["rewards"]}, present)
    kept = {k: np.broadcast_to(v, (50, 4))[:, present] for k, v in games.items()}
    smaller = make_game({**kept, "rewards": games["rewards"][:, :3]})
    margin = worth(games) * 0.05
    delta = np.linspace(0, 2, 50)
    race = best_response_dynamics(larger, delta, [0.0, np.nan, 0.0, 0.0], 12, margin)
    expected = best_response_dynamics(smaller, delta, 0.0, 12, margin)
    scale = 1 + np.asarray(expected.efforts)
    assert np.max(np.abs(race.efforts[..., present] - expected.efforts) / scale) < 1e-9
    assert np.all(race.efforts[..., ~present] == 0)
    assert np.all(np.isnan(race.scores[..., ~present]))
    np.testing.assert_allclose(race.wrong_ranking, expected.wrong_ranking, atol=1e-12)


def test_jit_vmap_and_a_loop_agree(x64):
    games = mixed_games(6, 50, 3, ("monotone_different_limits",))
    game, margin, delta = make_game(games), worth(games) * 0.03, np.linspace(0, 2, 50)

    def run(game, delta, margin):
        return best_response_dynamics(game, delta, 0.0, 12, margin)

    batch = run(game, delta, margin)
    mapped = jax.jit(jax.vmap(run))(game, delta, margin)
    for i in range(6):
        one = run(game[i], delta[i], margin[i])
        here = jax.tree.map(lambda x, i=i: x[i], mapped)
        for name in ("efforts", "scores"):
            np.testing.assert_allclose(getattr(here, name), getattr(one, name), rtol=1e-9)
            np.testing.assert_allclose(getattr(batch, name)[:, i], getattr(one, name), rtol=1e-9)
        assert one.period == here.period == batch.period[i]
    levels = jnp.linspace(0, 2, 4)[:, None]
    wide = best_response_dynamics(game, levels, np.zeros((5, 1, 1, 3)), 3, 0.1)
    assert wide.efforts.shape == wide.scores.shape == (4, 5, 4, 50, 3)
    assert wide.period.shape == wide.wrong_ranking.shape == (5, 4, 50)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rounds": 0}, "rounds must be an integer"),
        ({"rounds": 2.0}, "rounds must be an integer"),
        ({"order": "random"}, "order must be"),
        ({"ties": "random"}, "ties must be"),
        ({"efforts": [0.0, 0.0]}, "efforts must have 3 entries"),
        ({"margin": np.ones(4)}, "margin must broadcast"),
    ],
)
def test_errors(options, match):
    game = make_game(random_games(7, 6, 3, "equal_limits", np.float32))
    arguments = {"delta": 0.0, "efforts": 0.0, "rounds": 2, "margin": 0.1, **options}
    with pytest.raises(ValueError, match=match):
        best_response_dynamics(game, **arguments)


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("arms_race", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_example(example, tmp_path, capsys):
    figure = tmp_path / "race.png"
    example.main(["--out", str(figure)])
    assert figure.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "repeats" in printed and "settles" in printed
