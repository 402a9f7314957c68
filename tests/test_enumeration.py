"""The theory by enumeration: every profile of a game on a grid of efforts is looked at.

What a grid can decide, and what it is too coarse for, is worked out here in NumPy from the curves'
closed forms. Let a model that passes another play the least level of its grid that does.

- Where the all-zero profile is an equilibrium of the game, it is one of any grid that has 0.
- Where a model gains by passing another with a level of its grid, it is none of that grid.
- In an equilibrium of a grid let r be the lowest in the ranking with an effort. It is ahead of some
  model j that is ahead of it at Δ and exerts none, or r would do as well without. Let r play the
  least level with which it passes j, and j answer with its least level that ties with r. If that
  costs less than any gap between rewards, j gains by it: there is no such equilibrium. Where this
  is so for all r and j the grid is fine enough, and has no other equilibrium than all-zero.
"""

import itertools

import by_definition
import jax
import numpy as np
import pytest
from random_games import random_games

import tbtjax
from tbtjax.enumeration import grid_equilibria, payoff_array
from tbtjax.equilibrium import is_zero_effort_pne

#: Kinds that keep C1 and C3, and the costs that keep 4.1: exponents from 1 on, alike for all.
KEEPING = ("equal_limits", "monotone_different_limits")
#: Kinds that break C1 or C3 somewhere, or have a cost for each model.
BREAKING = ("fast_weak", "different_limits", "out_of_reach", "unequal_costs")


def make_games(seed, count, n, kinds, exponents):
    """`count` games, and for each a level near where its verdict changes."""
    share = -(-count // len(kinds))
    parts = [random_games(seed, share, n, kind) for kind in kinds]
    games = {
        name: np.concatenate([np.broadcast_to(p[name], p["alpha"].shape) for p in parts])[:count]
        for name in parts[0]
    }
    rng = np.random.default_rng(seed)
    exponent = rng.choice(exponents, (count, 1))
    # The rewards are worth as many steps as with linear costs.
    steps = games["rewards"] / games["cost_rate"][:, :1]
    worth = np.max(steps, axis=-1, keepdims=True)
    games["rewards"] = steps / worth * worth**exponent * games["cost_rate"][:, :1]
    games["cost_exponent"] = np.broadcast_to(exponent, (count, n))
    return games


def make_game(games):
    return tbtjax.ranking_game(
        tbtjax.power_law(games["alpha"], games["beta"], games["lower"], games["upper"]),
        games["rewards"],
        tbtjax.power_cost(games["cost_rate"], games["cost_exponent"]),
    )


def repeated(games, times):
    return {name: np.concatenate([values] * times) for name, values in games.items()}


def largest_gain(games, delta):
    """`[games]` what the best deviation from zero effort gains, 0 where none does."""
    needed, order = efforts_between(games, delta), by_definition.tie_order(games, delta)
    gain = np.zeros(len(delta))
    for r in range(order.shape[1]):
        for k in range(order.shape[1]):
            rises = gain_of_passing(games, order, r, k, needed[:, r, k])
            gain = np.maximum(gain, np.where(order[:, r] > order[:, k], rises, 0))
    return gain


def gain_of_passing(games, order, r, k, effort):
    """`[games]` what r gains by passing k with that effort, −inf where it is endless."""
    rows, possible = np.arange(len(order)), np.isfinite(effort)
    paid = by_definition.cost(games, r, np.where(possible, effort, 0)[:, None])[:, 0]
    rewards = games["rewards"]
    gain = rewards[rows, order[:, k]] - rewards[rows, order[:, r]] - paid
    return np.where(possible, gain, -np.inf)


def several_levels(seed, games, times):
    """`[times · games]` levels: to either side of one at which the verdict changes, or anywhere."""
    rng = np.random.default_rng(seed)
    count = len(games["alpha"])
    low, high = np.zeros(count), np.full(count, 8.0)  # log(1 + Δ)
    changes = (largest_gain(games, np.expm1(low)) > 0) & (largest_gain(games, np.expm1(high)) == 0)
    for _ in range(20):
        middle = (low + high) / 2
        gains = largest_gain(games, np.expm1(middle)) > 0
        low, high = np.where(gains, middle, low), np.where(gains, high, middle)
    levels = []
    for index in range(times):
        anywhere = rng.uniform(0, 8, count) * (rng.random(count) < 0.7)
        factor = (0.9, 1.01, rng.uniform(0.2, 1.5, count))[index % 3]
        levels.append(np.expm1(np.where(changes, high * factor, anywhere)))
    return np.concatenate(levels)


def efforts_between(games, delta):
    """`[games, n, n]`: effort of r (axis 1) that ties with k at Δ; 0 if ahead, +inf if never."""
    n = games["alpha"].shape[1]
    idle = np.zeros(len(delta))
    effort = np.zeros((len(delta), n, n))
    for r in range(n):
        for k in range(n):
            if r != k:
                tying = by_definition.effort_to_tie(games, delta, r, k, idle)
                effort[:, r, k] = np.where(np.isnan(tying), np.inf, np.maximum(tying, 0))
    return effort


def levels_for(seed, games, delta, count):
    """`[games, n, count]` levels: in half of the games a grid, even or growing, alike for all.

    In the others a level right after each rival of each model, and small ones to answer with.
    """
    rng = np.random.default_rng(seed)
    size, n = games["alpha"].shape
    rate, exponent = games["cost_rate"], games["cost_exponent"]
    span = games["rewards"][:, :1] - games["rewards"][:, -1:]
    worth = (span / rate) ** (1 / exponent)  # more effort than this never pays
    common = np.max(worth, axis=-1)[:, None, None]
    even = np.linspace(0, 1.02, count)
    growing = np.concatenate([[0], np.geomspace(1e-3, 1.02, count - 1)])
    grid = common * np.where(rng.random((size, 1, 1)) < 0.5, even, growing)
    grid = np.broadcast_to(grid, (size, n, count))
    after = efforts_between(games, delta) * (1 + 1e-7)
    after = np.where((after > 0) & np.isfinite(after), after, worth[..., None])
    # The least of them costs enough to be seen beside the rewards.
    paid = np.concatenate(
        [[0], np.geomspace(1e-9, 1e-3, 4), np.linspace(0.01, 1.02, count - 5 - n)]
    )
    rest = worth[..., None] * paid ** (1 / exponent[..., None])
    fitted = np.sort(np.concatenate([after, rest], axis=-1), axis=-1)
    return np.where(rng.random((size, 1, 1)) < 0.5, grid, fitted)


def least_level(levels, effort):
    """`[games]` the least of the levels `[games, count]` not below `effort`, or +inf."""
    return np.min(np.where(levels >= effort[:, None], levels, np.inf), axis=-1)


def what_the_grid_decides(games, delta, levels):
    """Two bools for each game: zero is no equilibrium of the grid; the grid is fine enough."""
    size, n = games["alpha"].shape
    order, needed = by_definition.tie_order(games, delta), efforts_between(games, delta)
    rewards = games["rewards"]
    gaps = rewards[:, :-1] - rewards[:, 1:]
    least_gap = np.min(np.where(gaps > 0, gaps, np.inf), axis=-1)
    deviates, fine = np.zeros(size, bool), np.ones(size, bool)
    for r in range(n):
        for j in range(n):
            behind = order[:, r] > order[:, j]
            played = least_level(levels[:, r], needed[:, r, j] * (1 + 1e-9))
            gain = gain_of_passing(games, order, r, j, played)
            deviates |= behind & (gain > 1e-9 * rewards[:, 0])
            possible = behind & np.isfinite(played)
            played = np.where(possible, played, 0)
            tying = by_definition.effort_to_tie(games, delta, j, r, played)
            answer = least_level(levels[:, j], tying * (1 + 1e-9))
            answered = np.isfinite(answer)
            paid = by_definition.cost(games, j, np.where(answered, answer, 0)[:, None])[:, 0]
            fine &= ~possible | (answered & (paid < least_gap * (1 - 1e-9)))
    return deviates, fine


@jax.jit
def verdicts(game, delta):
    return [is_zero_effort_pne(game, delta, deviations) for deviations in ("all", "adjacent")]


def check_theory(seed, count, n, levels_each, kinds, exponents, times=3):
    """Enumerates `count` games at `times` levels each; returns how many cases there were."""
    games = make_games(seed, count, n, kinds, exponents)
    delta = several_levels(seed, games, times)
    games = repeated(games, times)
    levels = levels_for(seed, games, delta, levels_each)
    game = make_game(games)
    found = jax.tree.map(np.asarray, grid_equilibria(game, delta, levels, max_equilibria=4))
    verdict, adjacent = map(np.asarray, verdicts(game, delta))
    deviates, fine = what_the_grid_decides(games, delta, levels)
    assert np.all(found.count >= 0)

    # Prop. 4.5: nobody gains, so nobody gains on the grid.
    assert np.all(found.zero_effort[verdict])
    assert not np.any(verdict & deviates)
    assert not np.any(found.zero_effort & deviates)
    # Thm. 4.6: any equilibrium is all-zero, so that there is none where somebody gains.
    assert np.all(found.count[fine & verdict] == 1)
    decided = fine & ~verdict & deviates
    assert np.all(found.count[decided] == 0)
    # Prop. 4.3, on every equilibrium found.
    if kinds == KEEPING:
        assert np.all(found.consistent[fine])
        assert np.all(found.consistent[(levels[:, :1] == levels).all((1, 2))]) or n > 2
        assert np.array_equal(verdict, adjacent)
    return {
        "cases": len(delta),
        "stable": int(verdict.sum()),
        "no equilibrium": int(decided.sum()),
        "too coarse": int((~fine | (~verdict & ~deviates)).sum()),
        "equilibria": int(found.count.sum()),
        "wrong order": int((~found.consistent).sum()),
        "neighbours not enough": int((adjacent & ~verdict).sum()),
    }


THEORY = [
    pytest.param(KEEPING, (1.0, 1.5, 2.0), id="assumptions-hold"),
    pytest.param(BREAKING, (0.5, 1.0, 2.0), id="assumptions-broken"),
]


def check_sizes(kinds, exponents, sizes):
    for n, count, levels in sizes:
        cases = check_theory(n, count, n, levels, kinds, exponents)
        print(f"{n} models, {levels} levels:", cases)
        assert cases["stable"] > 0.2 * cases["cases"]
        assert cases["no equilibrium"] > 0.2 * cases["cases"]
        assert cases["too coarse"] < 0.5 * cases["cases"]


@pytest.mark.parametrize(("kinds", "exponents"), THEORY)
def test_theory_by_enumeration(x64, kinds, exponents):
    check_sizes(kinds, exponents, [(2, 400, 32), (3, 100, 24)])


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "exponents"), THEORY)
def test_theory_by_enumeration_at_length(x64, kinds, exponents):
    # 10,100 games of two and three models, 500 of four, at three levels each, for each of the two.
    sizes = [(2, 7000, 64), (3, 3000, 32), (3, 100, 64), (4, 500, 16)]
    check_sizes(kinds, exponents, sizes)


def plain_equilibria(games, delta, levels, i):
    """The profiles of level indices that are equilibria of game `i`, one profile after another."""
    one = {name: values[i : i + 1] for name, values in games.items()}
    n, count = levels.shape[1:]
    profiles = list(itertools.product(range(count), repeat=n))
    efforts = np.array([levels[i, range(n), profile] for profile in profiles])
    many = {name: np.repeat(values, len(profiles), axis=0) for name, values in one.items()}
    utility = by_definition.utilities(many, np.full(len(profiles), delta[i]), efforts)
    utility = utility.reshape(*(count,) * n, n)
    stays = [utility[..., k] >= utility[..., k].max(axis=k, keepdims=True) for k in range(n)]
    return utility, np.argwhere(np.all(stays, axis=0))


@pytest.fixture(scope="module")
def coarse():
    """Games on grids of four levels, which have equilibria that the games have not."""
    games = make_games(7, 40, 3, ("ties", "fast_weak", "zero_gaps", "out_of_reach"), (1.0,))
    delta = several_levels(7, games, 1)
    levels = levels_for(7, games, delta, 10)[..., ::3]
    with jax.enable_x64(True):
        game = make_game(games)
        found = jax.tree.map(np.asarray, grid_equilibria(game, delta, levels))
        return games, delta, levels, found, np.asarray(payoff_array(game, delta, levels))


def test_equilibria_and_payoffs_against_a_loop(coarse):
    games, delta, levels, found, payoffs = coarse
    for i in range(len(delta)):
        utility, profiles = plain_equilibria(games, delta, levels, i)
        rounding = 1e-12 * games["rewards"][i, 0]
        np.testing.assert_allclose(payoffs[i], utility, rtol=1e-12, atol=rounding)
        assert found.count[i] == len(profiles)
        listed = levels[i, range(3), profiles[:8]]
        np.testing.assert_array_equal(found.efforts[i, : len(listed)], listed)
        assert np.all(np.isnan(found.efforts[i, len(listed) :]))
        assert found.zero_effort[i] == (levels[i, range(3), profiles] == 0).all(axis=-1).any()
    # None, one, and more than are listed, where nothing is paid and nothing costs.
    assert {0, 1} < set(found.count) and max(found.count) > 8


def test_quantecon_finds_the_same_equilibria(coarse):
    """The same games, in the normal form of another library."""
    game_theory = pytest.importorskip("quantecon.game_theory")
    _, _, levels, found, payoffs = coarse
    for i in range(len(levels)):
        theirs = game_theory.pure_nash_brute(game_theory.NormalFormGame(payoffs[i]))
        assert len(theirs) == found.count[i]
        for profile, efforts in zip(theirs, found.efforts[i], strict=False):
            assert levels[i, range(3), profile].tolist() == efforts.tolist()


EVEN = np.linspace(0, 12, 49)

COUNTEREXAMPLES = {
    # name: curves, cost, rewards, Δ; the best deviation gains what is in the last column
    "concave cost": (([1, 0.5, 0], [1] * 3, 0, 1), (1, 0.5), (1.6, 0.8, 0), 0, 0.289),
    "C1": (([1, 0, -0.1], [1, 0.2, 1], 0, 1), (0.1, 1), (1, 0, 0), 0, 0.800),
    "C3": (
        ([0.21, -0.19, -2.467], [0.389, 0.389, 1.103], [0.12, 0.12, 0.127], [0.931, 0.931, 0.842]),
        (1, 1),
        (41, 15, 0),
        14,
        1.582,
    ),
    "unequal costs": (([2, 1, 0.9], [1] * 3, 0, 1), ([1, 1, 0.1], 1), (1, 0, 0), 0, 0.800),
}


@pytest.mark.parametrize("name", COUNTEREXAMPLES)
def test_neighbours_are_not_enough(x64, name):
    """Nobody gains by passing the next model, and yet zero effort is no equilibrium of a grid."""
    curves, cost, rewards, delta, gain = COUNTEREXAMPLES[name]
    alpha, beta, lower, upper = (np.array(x, float) for x in curves)
    scale, exponent = (np.broadcast_to(np.array(x, float), 3) for x in cost)
    game = tbtjax.ranking_game(
        tbtjax.power_law(alpha, beta, *(np.broadcast_to(x, 3) for x in (lower, upper))),
        np.array(rewards, float),
        tbtjax.power_cost(scale, exponent),
    )
    verdict, adjacent = verdicts(game, float(delta))
    assert bool(adjacent) and not bool(verdict)
    needed = np.asarray(tbtjax.overtake_effort(game, float(delta)))[[1, 2, 2], [0, 1, 0]]
    grid = np.sort(np.concatenate([[0.0], np.geomspace(1e-3, 60, 28), needed + 1e-6]))
    payoffs = np.asarray(payoff_array(game, float(delta), grid))
    alone = [payoffs[tuple(slice(None) if k == i else 0 for k in range(3))][:, i] for i in range(3)]
    gains = [np.max(paid) - paid[0] for paid in alone]
    assert max(gains) == pytest.approx(gain, abs=1e-3)
    assert int(grid_equilibria(game, float(delta), grid).count) == 0


def efforts_of(found):
    return {tuple(profile) for profile in found.efforts.tolist() if not np.isnan(profile[0])}


def flat_cost_equilibria(free, rate, rewards):
    cost = tbtjax.piecewise_linear_cost([free], [0.0, rate])
    curves = tbtjax.power_law([1.0, 0.0], [1.0, 0.8])
    game = tbtjax.ranking_game(curves, rewards, cost)
    return game, grid_equilibria(game, 0.0, EVEN, max_equilibria=64)


def test_flat_costs_have_equilibria_with_effort(x64):
    """Free training for two steps: zero is no equilibrium, and spending it all is one."""
    game, found = flat_cost_equilibria(2.0, 0.2, [1.0, 0.0])
    assert not bool(is_zero_effort_pne(game, 0.0))
    assert {(2, 0), (1, 0), (2, 1), (2, 2)} <= efforts_of(found)
    assert not bool(found.zero_effort)


def test_flat_costs_have_equilibria_in_the_wrong_order(x64):
    _, found = flat_cost_equilibria(5.0, 1.0, [1.0, 1.0])
    assert (0, 5) in efforts_of(found)
    assert not bool(found.consistent)


def test_a_curve_that_stops_rising_has_an_equilibrium_with_effort(x64):
    """At Δ = 1 the weak model is ahead, can rise no more, and is passed for good at 6 steps."""
    curves = tbtjax.tabulated([0.0, 1.0, 9.0], [[0.4, 0.5, 0.9], [0.5, 0.8, 0.8]])
    game = tbtjax.ranking_game(curves, [1.0, 0.0], tbtjax.linear_cost(0.1))
    found = grid_equilibria(game, 1.0, EVEN, ties="capability")
    assert efforts_of(found) == {(6, 0)}


def test_one_bad_game_and_absent_models(x64):
    """A bad level spoils its game alone; an absent model plays its first level, and no rank."""
    dtype = np.float32
    alpha = np.array([[2.0, 1.0, 0.0]] * 3, dtype)
    present = np.array([[True] * 3, [True, False, True], [True] * 3])
    game = tbtjax.ranking_game(
        tbtjax.power_law(alpha, np.ones(3, dtype)),
        np.array([1, 0.5, 0], dtype),
        tbtjax.linear_cost(np.ones(1, dtype)),
        present,
    )
    levels = np.array([0, 1, 2, 4], dtype)
    found = grid_equilibria(game, np.array([9, 9, -1], dtype), levels)
    assert found.count.tolist() == [1, 1, -1]
    assert found.zero_effort.tolist() == [True, True, False]
    assert found.efforts.dtype == dtype
    assert np.all(np.isnan(found.efforts[2]))
    pair = tbtjax.ranking_game(
        tbtjax.power_law(alpha[1, ::2], np.ones(2, dtype)),
        np.array([1, 0.5], dtype),
        tbtjax.linear_cost(np.ones(1, dtype)),
    )
    with_absent = np.asarray(payoff_array(game[1], 0.0, levels))[:, 0][..., ::2]
    np.testing.assert_array_equal(with_absent, payoff_array(pair, 0.0, levels))


def test_arguments(x64):
    game = tbtjax.ranking_game(tbtjax.power_law([1.0, 0.0], 1.0), [1, 0], tbtjax.linear_cost(1.0))
    with pytest.raises(TypeError, match="game must be a RankingGame"):
        grid_equilibria(game.curves, 0.0, [0.0])
    with pytest.raises(ValueError, match=r"levels must be \[levels\], or \[..., 2, levels\]"):
        grid_equilibria(game, 0.0, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="max_equilibria must be an integer of 1 or more; got 0"):
        grid_equilibria(game, 0.0, [0.0], max_equilibria=0)
    with pytest.raises(ValueError, match="ties must be"):
        grid_equilibria(game, 0.0, [0.0], ties="none")
