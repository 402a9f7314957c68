"""Checks of the oracles themselves: published figures, named games, and one method against another.

The exact oracle finds stabilizing sets by monotone pieces; here its answers are held against the
verdict from the definitions and against a plain scan, and the NumPy reference against it.
"""

import math

import numpy as np
import oracles
import pytest
from random_games import DIFFERENT_LIMIT_KINDS, EQUAL_LIMIT_KINDS, KINDS, random_games
from scipy.special import expit

TWO_STRETCHES = {  # C1 and C2 hold, C3 does not
    "alpha": [-0.19, -2.467],
    "beta": [0.389, 1.103],
    "lower": [0.12, 0.127],
    "upper": [0.931, 0.842],
    "rewards": [10, 0],
}
SWAPPING = {"alpha": [math.log(20), 0], "beta": [0.8, 1], "rewards": [1000, 0]}


def in_steps(result):
    return [(math.expm1(low), math.expm1(high)) for low, high in result.stretches]


def tangent_game(offset):
    """A pair with rho > 1 whose margin peaks at 0 plus `offset` units in alpha's last place."""
    m, worth = -0.2, 50.0
    peak = math.log(worth * (1 + m) / -m)
    alpha = math.log1p(-m / (1 + m)) - m * peak
    alpha += offset * np.spacing(alpha)
    return oracles.make_game([alpha, 0.0], [0.8, 1.0], [worth, 0.0])


def test_published_figures():
    # One equal-limits pair with e_req(0) = 18 and e_req(3000) = 384,668.
    rho = math.log(3001) / math.log((384668 + 3001) / 19)
    assert rho == pytest.approx(0.807, abs=5e-4)
    game = oracles.make_game([math.log(19), 0.0], [1 / rho, 1.0], [100, 0])
    assert float(oracles.overtake_effort(game, 1, 0, 0)) == pytest.approx(18, rel=1e-12)
    assert float(oracles.overtake_effort(game, 1, 0, 3000)) == pytest.approx(384668, rel=1e-12)
    assert in_steps(oracles.threshold(game))[0][0] == pytest.approx(2.9398, abs=5e-5)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (TWO_STRETCHES, [(0.680, 53.87), (152.2, math.inf)]),
        (SWAPPING, [(159.07, 3.195e6)]),
        (
            {
                "alpha": [-0.96125, -0.71128],
                "beta": [0.53015, 0.52594],
                "lower": [0.27714, 0.10287],
                "upper": 0.99378,
                "rewards": [140, 0],
            },
            [(7472.8, math.inf)],
        ),
    ],
)
def test_named_stabilizing_sets(parameters, expected):
    result = oracles.threshold(oracles.make_game(**parameters))
    assert len(in_steps(result)) == len(expected)
    for found, published in zip(in_steps(result), expected, strict=True):
        assert found == pytest.approx(published, rel=7e-4)
    assert (result.weak, result.rival) == (1, 0)
    assert result.status == ("FOUND" if math.isinf(expected[0][1]) else "INTERVAL")


def test_swapped_ranking_is_an_equilibrium_but_not_counted():
    game = oracles.make_game(**SWAPPING)
    for delta, in_order, is_pne in [
        (159.0, True, False),
        (159.1, True, True),
        (3.194e6, True, True),
        (3.196e6, True, False),
        (3.203e6, False, False),
        (3.205e6, False, True),
    ]:
        assert (oracles.ranking(game, delta) == [0, 1]) == in_order
        assert oracles.is_zero_effort_pne(game, delta) == is_pne
        assert oracles.is_stabilizing(game, delta) == (in_order and is_pne)


@pytest.mark.parametrize(
    ("parameters", "delta", "cost", "adjacent", "everyone"),
    [
        (
            {"alpha": [1, 0.5, 0], "beta": 1.0, "rewards": [1.6, 0.8, 0]},
            0,
            lambda model, effort: effort**0.5,
            0.0054,
            -0.289,
        ),
        (
            {"alpha": [2, 1, 0], "beta": 1.0, "rewards": [2, 1, 0]},
            0,
            lambda model, effort: 0.9 + 0.1 * effort,
            0.0718,
            -0.461,
        ),
        (
            {"alpha": [1, 0, -0.1], "beta": [1, 0.2, 1], "rewards": [1, 0, 0], "cost_rate": 0.1},
            0,
            None,
            0.0105,
            -0.800,
        ),
        (
            {
                "alpha": [0.21, -0.19, -2.467],
                "beta": [0.389, 0.389, 1.103],
                "lower": [0.12, 0.12, 0.127],
                "upper": [0.931, 0.931, 0.842],
                "rewards": [41, 15, 0],
            },
            14,
            None,
            0.787,
            -1.582,
        ),
        (
            {"alpha": [2, 1, 0.9], "beta": 1.0, "rewards": [1, 0, 0], "cost_rate": [1, 1, 0.1]},
            0,
            None,
            0.0105,
            -0.800,
        ),
        (
            {"alpha": [1, 0], "beta": [1, 0.8], "rewards": [1, 0]},
            0,
            lambda model, effort: 0.2 * max(0, effort - 2),
            -0.9019,
            -0.9019,
        ),
    ],
    ids=["concave cost", "entry fee", "C1", "C3", "unequal costs", "flat cost"],
)
def test_published_margins(parameters, delta, cost, adjacent, everyone):
    game = oracles.make_game(**parameters)
    margins = [
        float(oracles.stability_margin(game, delta, deviations, cost))
        for deviations in ("adjacent", "all")
    ]
    assert margins == pytest.approx([adjacent, everyone], abs=6e-4)


def test_adjacent_deviations_can_miss_the_gainer():
    game = oracles.make_game([1, 0, -0.1], [1, 0.2, 1], [1, 0, 0], cost_rate=0.1)
    assert oracles.threshold(game, "adjacent").delta == 0
    assert oracles.threshold(game, "all").status == "NOWHERE"


def test_overtake_effort_closed_form_and_out_of_reach():
    game = oracles.make_game([1.0, 0.5], [0.75, 0.5], [1, 0])
    for delta in (0.0, 7.0, 1e5):
        expected = math.exp(1.0) * (1 + delta) ** 1.5 - 1 - delta
        assert float(oracles.overtake_effort(game, 1, 0, delta)) == pytest.approx(expected)
        assert oracles.overtake_effort(game, 0, 1, delta) == 0
    # The strong model's score passes 0.6 where its odds, 1 + delta, pass 2.
    reach = oracles.make_game([0, 0], 1.0, [1, 0], lower=0.0, upper=[0.9, 0.6])
    assert oracles.overtake_effort(reach, 1, 0, 0.999) < math.inf
    assert oracles.overtake_effort(reach, 1, 0, 1.001) == math.inf
    tied = oracles.make_game([0, 0], 1.0, [1, 0])
    assert oracles.overtake_effort(tied, 1, 0, 3) == 0
    falling = oracles.make_game([1, 0], [1, -1], [1, 0])
    assert oracles.overtake_effort(falling, 1, 0, 3) == math.inf


def test_scores_and_inverse():
    game = oracles.make_game([0.3, 50.0], [0.7, 2.0], [1, 0], lower=[0.1, 0.25], upper=[0.8, 1.0])
    for model in (0, 1):
        for effort in (0.0, 0.5, 1e3):
            reached = oracles.effort_to_reach(game, model, oracles.score(game, model, effort))
            assert float(reached) == pytest.approx(effort, abs=1e-12)
        assert oracles.effort_to_reach(game, model, game.upper[model]) == math.inf
        assert oracles.effort_to_reach(game, model, game.lower[model]) == 0
    logit = 0.3 + 0.7 * math.log(1001)
    expected = 0.1 + 0.7 / (1 + math.exp(-logit))
    assert float(oracles.score(game, 0, 1000.0)) == pytest.approx(expected, rel=1e-14)


def test_games_without_a_pair_and_invalid_games():
    for alpha in ([], [0.3]):
        result = oracles.threshold(oracles.make_game(alpha, 1.0, [1.0] * len(alpha)))
        assert (result.delta, result.status) == (0, "STABLE_AT_ZERO")
    games = random_games(0, 4, 3, "equal_limits")
    games["alpha"][0, 1] = np.nan
    games["rewards"][1] = [0, 1, 0]
    games["cost_rate"][2] = -1
    result = oracles.reference_thresholds(games)
    assert list(result["status"][:3]) == ["INVALID"] * 3
    assert result["status"][3] != "INVALID"
    assert np.isnan(result["delta"][:3]).all()
    for index in range(3):
        assert oracles.threshold(oracles.single_game(games, index)).status == "INVALID"


def test_levels_beyond_the_largest_number_do_not_count():
    game = oracles.make_game([3.0, 0.0], [0.031, 0.03], [1e90, 0.0])
    assert oracles.threshold(game).status == "FOUND"
    assert oracles.threshold(game, largest=float(np.finfo(np.float32).max)).status == "NOWHERE"


@pytest.mark.parametrize("kind", KINDS)
def test_set_agrees_with_the_definitions(kind):
    rng = np.random.default_rng(3)
    games = random_games(4, 6, 3, kind)
    for index in range(6):
        game = oracles.single_game(games, index)
        for deviations in ("all", "adjacent"):
            stretches = oracles.threshold(game, deviations).stretches
            ends = [y for stretch in stretches for y in stretch if 0 < y < math.inf]
            levels = [0.0, *rng.uniform(0, 12, 3), rng.uniform(0, 300)]
            levels += [y * (1 + sign * 1e-13) for y in ends for sign in (-1, 1)]
            for y in levels:
                inside = any(low <= y <= high for low, high in stretches)
                delta = oracles.exact.expm1(oracles.exact.mpf(y))
                assert oracles.is_stabilizing(game, delta, deviations) == inside, (index, y)


@pytest.mark.parametrize("kind", ["fast_weak", "falling", *DIFFERENT_LIMIT_KINDS])
def test_reference_agrees_with_a_scan_of_the_budget_form(kind):
    # Stable iff v_w(delta + g) <= v_s(delta), in order iff v_w(delta) <= v_s(delta); a weak
    # model that falls is best at once.
    games = random_games(6, 400, 2, kind)
    shape = games["alpha"].shape
    column = {k: np.broadcast_to(v, shape)[:, :, None] for k, v in games.items()}
    y = np.concatenate([np.linspace(0, 25, 1500), np.linspace(25, 300, 300)])

    def score(model, log_effort):
        z = column["alpha"][:, model] + column["beta"][:, model] * log_effort
        lower, upper = column["lower"][:, model], column["upper"][:, model]
        return lower + (upper - lower) * expit(z)

    gap = (column["rewards"][:, 0] - column["rewards"][:, 1]) / column["cost_rate"][:, 1]
    with np.errstate(divide="ignore"):
        effort = np.where(column["beta"][:, 1] > 0, np.logaddexp(y, np.log(gap)), y)
    lead, lead_after = score(0, y) - score(1, y), score(0, y) - score(1, effort)
    stable = (lead >= 0) & (lead_after >= 0)
    sure = (np.abs(lead) > 1e-11) & (np.abs(lead_after) > 1e-11)
    assert sure.mean() > 0.5

    result = oracles.reference_thresholds(games)
    delta, upper, settled = (result[k][:, None] for k in ("delta", "upper", "settled"))
    first = (delta <= y) & (y <= upper)
    expected = first | (settled <= y)
    # With two stretches these are all the levels; with more, those outside are left out.
    sure &= (result["stretches"][:, None] <= 2) & (
        (result["stretches"][:, None] < 2) | (settled < np.inf)
    )
    np.testing.assert_array_equal(stable[sure], expected[sure])


@pytest.mark.parametrize("deviations", ["all", "adjacent"])
@pytest.mark.parametrize("kind", KINDS)
def test_reference_agrees_with_the_exact_oracle(kind, deviations):
    games = random_games(5, 12, 4, kind)
    result = oracles.reference_thresholds(games, deviations)
    for index in range(12):
        expected = oracles.threshold(oracles.single_game(games, index), deviations)
        assert result["status"][index] == expected.status
        assert result["stretches"][index] == len(expected.stretches)
        for name in ("delta", "upper", "settled", "by_pair"):
            values = np.atleast_1d(result[name][index])
            exact_values = np.atleast_1d(getattr(expected, name))
            finite = np.isfinite(exact_values)
            assert np.all(finite == np.isfinite(values))
            values, exact_values = values[finite], exact_values[finite]
            error = np.abs(values - exact_values) / (1 + exact_values)
            assert error.max(initial=0) < 2e-12, name  # 1.6e-13 is the worst of 34,000 games
        if not result["contested"][index]:
            pair = (result["weak"][index], result["rival"][index])
            assert pair == (expected.weak, expected.rival)


def test_reference_takes_games_in_chunks():
    games = random_games(5, 50, 4, "different_limits")
    whole = oracles.reference_thresholds(games)
    parts = oracles.reference_thresholds(games, chunk=42)
    for name, values in whole.items():
        np.testing.assert_array_equal(values, parts[name])


@pytest.mark.parametrize("kind", ["equal_limits", "near_ties", "ties", "different_limits"])
def test_bounds_hold_every_game_near_by(kind):
    rng = np.random.default_rng(8)
    games = random_games(7, 6, 3, kind)
    for index in range(6):
        inner, outer = oracles.threshold_bounds(oracles.single_game(games, index))
        nominal = oracles.threshold(oracles.single_game(games, index))
        assert outer.delta <= nominal.delta <= inner.delta
        assert outer.settled <= nominal.settled <= inner.settled
        for _ in range(4):
            # Equal inputs get equal changes, so that ties stay.
            near = {}
            for name, values in games.items():
                levels, inverse = np.unique(values, return_inverse=True)
                change = rng.integers(-4, 5, levels.shape) * np.finfo(float).eps * 0.99
                near[name] = (levels * (1 + change))[inverse].reshape(values.shape)
            result = oracles.threshold(oracles.single_game(near, index))
            assert outer.delta <= result.delta <= inner.delta
            assert outer.settled <= result.settled <= inner.settled


def test_tangency_is_recognized():
    inner, outer = oracles.threshold_bounds(tangent_game(0))
    assert (inner.status, outer.status) == ("NOWHERE", "INTERVAL")
    assert outer.upper - outer.delta > 1e-8
    inner, outer = oracles.threshold_bounds(tangent_game(10**6))
    assert (inner.status, outer.status) == ("INTERVAL", "INTERVAL")
    inner, outer = oracles.threshold_bounds(tangent_game(-(10**6)))
    assert (inner.status, outer.status) == ("NOWHERE", "NOWHERE")


def test_dip_that_ends_within_rounding_of_where_the_rival_gets_out_of_reach():
    """The weak model comes from behind and passes; its gain is largest where no number lies."""
    games = {
        "alpha": np.array([[0.4138730764389038, -0.27001115679740906]]),
        "beta": np.array([[0.08523166179656982, 0.7570666074752808]]),
        "lower": np.array([[0.08656232059001923, 0.08259094506502151]]),
        "upper": np.array([[0.9945728182792664, 0.9942240118980408]]),
        "rewards": np.array([[0.021071312949061394, 0.01919405348598957]]),
        "cost_rate": np.array([[0.0035334890708327293]]),
    }
    reference = oracles.reference_thresholds(games)
    expected = oracles.threshold(oracles.single_game(games, 0))
    assert reference["status"][0] == expected.status == "INTERVAL"
    for name in ("delta", "upper", "settled"):
        np.testing.assert_allclose(reference[name][0], getattr(expected, name), rtol=1e-12)
    assert 87 < expected.settled < 88


@pytest.mark.parametrize("kind", ["equal_limits", "fast_weak", "interval_then_ray"])
def test_disagreements_are_found(kind):
    games = random_games(9, 60, 4, kind)
    result = oracles.reference_thresholds(games)
    names = ("delta", "upper", "settled", "weak", "rival", "status", "by_pair")
    answer = {name: result[name].copy() for name in names}
    for name in ("delta", "upper", "settled", "by_pair"):
        answer[name] = np.expm1(answer[name])
    assert oracles.disagreements(games, answer, tolerance=1e-12) == []
    index = np.flatnonzero((result["delta"] > 0.1) & ~result["contested"] & (result["delta"] < 9))
    answer["delta"][index[0]] *= 1 + 1e-7
    answer["weak"][index[1]], answer["rival"][index[1]] = -1, -1
    answer["status"][index[2]] = "STABLE_AT_ZERO"
    found = {row["index"]: row["wrong"] for row in oracles.disagreements(games, answer)}
    assert found == {
        index[0]: ["delta"],
        index[1]: ["deciding pair"],
        index[2]: ["status"],
    }


def test_kinds_are_what_they_say():
    for kind in KINDS:
        games = random_games(1, 300, 4, kind, np.float32)
        again = random_games(1, 300, 4, kind, np.float32)
        for name, values in games.items():
            assert values.dtype == np.float32, name
            np.testing.assert_array_equal(values, again[name])
        assert (np.diff(games["rewards"]) <= 0).all()
        assert (games["upper"] > games["lower"]).all()
        assert (games["lower"].ndim == 0) == (kind in EQUAL_LIMIT_KINDS)
    statuses = {
        kind: oracles.reference_thresholds(random_games(2, 300, 4, kind))["status"]
        for kind in KINDS
    }
    for kind in ("equal_limits", "monotone_different_limits"):  # C1 and C3: a ray, always
        assert set(statuses[kind]) <= {"FOUND", "STABLE_AT_ZERO"}
    for kind in ("fast_weak", "zero_gaps", "different_limits", "falling_different_limits"):
        assert set(statuses[kind]) == {"NOWHERE", "INTERVAL", "FOUND", "STABLE_AT_ZERO"}
