"""Best responses, gains and utilities, against brute force, exact numbers and the verdict."""

import dataclasses
import functools

import by_definition
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from marks import mostly_float32, mostly_float64
from random_games import (
    DIFFERENT_LIMIT_KINDS,
    EQUAL_LIMIT_KINDS,
    KINDS,
    mixed_games,
    random_games,
)

import tbtjax
from tbtjax import _rivals
from tbtjax.effort import aligned_profile, effort_to_outrank
from tbtjax.response import (
    best_response,
    developer_utility,
    deviation_gain,
    is_epsilon_pne,
    standing,
)

LIMITS = {"equal": tuple(EQUAL_LIMIT_KINDS), "different": tuple(DIFFERENT_LIMIT_KINDS)}


def make_game(games, present=None):
    cost = tbtjax.linear_cost(games["cost_rate"])
    if "cost_exponent" in games:
        cost = tbtjax.power_cost(games["cost_rate"], games["cost_exponent"])
    curves = tbtjax.power_law(games["alpha"], games["beta"], games["lower"], games["upper"])
    return tbtjax.ranking_game(curves, games["rewards"], cost, present)


def close(found, expected, dtype):
    """Equal but for the order in which the compiler adds."""
    rounding = 200 * np.finfo(dtype).eps
    np.testing.assert_allclose(found, expected, rtol=rounding, atol=1e-30)


def random_profiles(seed, games):
    """Levels and efforts from none to saturation, a quarter of them tied with another model's."""
    rng = np.random.default_rng(seed)
    count, n = games["alpha"].shape
    delta = np.where(rng.random(count) < 0.4, 0, np.exp(rng.uniform(-3, 12, count)))
    span = games["rewards"][:, :1] - games["rewards"][:, -1:]
    efforts = span / games["cost_rate"] * np.exp(rng.uniform(-12, 1, (count, n)))
    efforts *= rng.random((count, n)) < 0.6
    endless = (rng.random((count, 1)) < 0.1) & (rng.random((count, n)) < 0.5)
    efforts = np.where(endless, np.exp(rng.uniform(10, 200, (count, n))), efforts)
    for model in range(n):
        rival = rng.integers(0, n)
        tying = by_definition.effort_to_tie(games, delta, model, rival, efforts[:, rival])
        tie = (rng.random(count) < 0.25) & np.isfinite(tying) & (tying >= 0) & (rival != model)
        efforts[:, model] = np.where(tie, tying, efforts[:, model])
    return delta, efforts


def filled(games, size):
    """The games of a batch over and over, up to `size`, so that batches share programs."""
    count, n = games["alpha"].shape
    rows = np.resize(np.arange(count), size)
    wide = {k: np.broadcast_to(x, (count, n))[rows] if x.ndim else x for k, x in games.items()}
    return wide, rows


@jax.jit
def respond_to_all(game, delta, efforts):
    return best_response(game, delta, efforts), developer_utility(game, delta, efforts)


def respond(games, delta, efforts):
    """Best responses and utilities, by thousands of games."""
    count = len(efforts)
    wide, rows = filled(games, -(-count // 1000) * 1000)
    delta = np.broadcast_to(delta, count)[rows].astype(efforts.dtype)
    found = respond_to_all(make_game(wide), delta, efforts[rows])
    return jax.tree.map(lambda x: np.asarray(x)[:count], found)


def check_against_grid(limits, num_models, games_per_kind):
    games = mixed_games(num_models, games_per_kind, num_models, LIMITS[limits])
    delta, efforts = random_profiles(num_models, games)
    response, utility = respond(games, delta, efforts)
    order = by_definition.tie_order(games, delta)
    rates = np.broadcast_to(games["cost_rate"], efforts.shape)

    expected = by_definition.utilities(games, delta, efforts)
    rounding = 1e-12 * (np.max(np.abs(games["rewards"]), axis=-1, keepdims=True) + abs(expected))
    assert np.all(np.abs(utility - expected) <= rounding)

    levels = np.unique(np.concatenate([[0], np.geomspace(1e-9, 1.02, 400), np.linspace(0, 1.02)]))
    for model in range(num_models):
        rate, slack = rates[:, model], rounding[:, model]
        best, effort = response.utility[:, model], response.effort[:, model]
        # An effort that ties is known up to the rounding of the scores that it compares.
        slack = slack + rate * by_definition.effort_rounding(games, delta, efforts, model, effort)
        own = efforts[:, model]
        own_slack = rate * by_definition.effort_rounding(games, delta, efforts, model, own)
        assert np.all(best - utility[:, model] >= -slack - own_slack)

        bought = games["rewards"][np.arange(len(best)), response.rank[:, model]]
        assert np.all(np.abs(bought - rate * effort - best) <= slack)

        # More effort than all rewards are worth never pays.
        worth = (games["rewards"][:, 0] - games["rewards"][:, -1]) / rate
        grid = worth[:, None] * levels
        on_grid = np.max(
            by_definition.utility_at(games, delta, efforts, model, grid, order), axis=-1
        )
        assert np.all(on_grid <= best + slack)
        # The next level on the grid buys the same rank, at its price.
        later = np.where(grid > effort[:, None] * (1 + 1e-9), grid, np.inf)
        later = np.where(worth > 0, np.min(later, axis=-1), effort)
        assert np.all(best <= on_grid + rate * (later - effort) + slack)
    return len(delta)


@pytest.mark.parametrize(("limits", "num_models"), [("equal", 3), ("equal", 6), ("different", 4)])
def test_never_beaten_by_a_fine_grid(x64, limits, num_models):
    assert check_against_grid(limits, num_models, 60) >= 300


@pytest.mark.slow
@pytest.mark.parametrize("num_models", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("limits", LIMITS)
def test_never_beaten_by_a_fine_grid_at_length(x64, limits, num_models):
    # 5 × (11 + 6) × 120 = 10,200 games in all
    assert check_against_grid(limits, num_models, 120) == 120 * len(LIMITS[limits])


def exact_best_response(game, delta, efforts, order):
    """Supremum of each model's utility and its least effort, from the definition, in mpmath."""
    exact, n = oracles.exact, game.num_models
    with exact.workdps(400):
        level = exact.mpf(float(delta))
        scores = [oracles.score(game, k, level + exact.mpf(float(efforts[k]))) for k in range(n)]
        best = []
        for model in range(n):
            others = [k for k in range(n) if k != model]

            def rank(score, passed=False, model=model, others=others):
                return sum(
                    scores[k] > score
                    or (scores[k] == score and not passed and order[k] < order[model])
                    for k in others
                )

            choices = [(game.rewards[rank(oracles.score(game, model, level))], exact.mpf(0))]
            for k in others:
                total = oracles.effort_to_reach(game, model, scores[k])
                if total < exact.inf and game.beta[model] > 0:
                    effort = max(total - level, exact.mpf(0))
                    reached = max(scores[k], oracles.score(game, model, level))
                    choices.append((game.rewards[rank(reached, passed=True)], effort))
            best.append(max((r - game.cost_rate[model] * e, -e) for r, e in choices))
    return best


def check_exact_best_responses(kind, count, n):
    games = mixed_games(5, count, n, (kind,))
    rng = np.random.default_rng(6)
    span = (games["rewards"][:, :1] - games["rewards"][:, -1:]) / games["cost_rate"]
    efforts = span * rng.uniform(0, 1, (count, n)) * (rng.random((count, n)) < 0.6)
    delta = np.where(rng.random(count) < 0.5, 0, np.exp(rng.uniform(-1, 6, count)))
    response, _ = respond(games, delta, efforts)
    for i in range(count):
        game = oracles.single_game(games, i)
        order = np.empty(n, int)
        order[oracles.ranking(game, delta[i])] = np.arange(n)
        for model, (utility, effort) in enumerate(
            exact_best_response(game, delta[i], efforts[i], order)
        ):
            utility, effort = float(utility), float(-effort)
            own = np.array([response.effort[i, model]])
            one = {k: v if v.ndim == 0 else v[i : i + 1] for k, v in games.items()}
            moved = by_definition.effort_rounding(
                one, delta[i : i + 1], efforts[i : i + 1], model, own
            )
            rate = float(game.cost_rate[model])
            scale = float(max(abs(r) for r in game.rewards))
            assert own[0] == pytest.approx(effort, rel=1e-13, abs=moved[0] + 1e-300)
            assert response.utility[i, model] == pytest.approx(
                utility, abs=1e-13 * (scale + rate * effort) + rate * moved[0]
            )


@pytest.mark.parametrize("kind", KINDS)
def test_exact_best_responses(x64, kind):
    check_exact_best_responses(kind, 6, 4)


@pytest.mark.parametrize("kind", ["fast_weak", "ties", "different_limits"])
def test_exact_best_responses_of_many_models(x64, kind):
    """Whose moves are not put in order."""
    check_exact_best_responses(kind, 2, 14)


def test_gain_at_zero_effort_is_the_oracle_margin(x64):
    for kind in KINDS:
        games = mixed_games(8, 12, 4, (kind,))
        delta = np.linspace(0, 20, 12)
        wide, rows = filled(games, 400)
        gain = np.asarray(deviation_gain(make_game(wide), delta[rows], 0.0))
        for i in range(12):
            margin = float(oracles.stability_margin(oracles.single_game(games, i), delta[i]))
            scale = 1e-11 * float(np.max(games["rewards"][i]))
            assert float(np.max(gain[i])) == pytest.approx(max(0.0, -margin), abs=scale)


@mostly_float64
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_verdict(dtype, kind):
    game = make_game(games := mixed_games(9, 400, 4, (kind,), dtype))
    delta = jnp.expm1(jnp.linspace(0, 9, 400, dtype=dtype))
    verdict = np.asarray(tbtjax.is_zero_effort_pne(game, delta))
    gain = np.max(np.asarray(deviation_gain(game, delta, 0.0)), axis=-1)
    scale = np.max(games["rewards"], axis=-1)
    clear = (gain == 0) | (gain > 1e3 * np.finfo(dtype).eps * scale)
    assert np.mean(clear) > 0.9
    assert np.array_equal(gain[clear] == 0, verdict[clear])
    pne = np.asarray(is_epsilon_pne(game, delta, 0.0, np.zeros_like(gain)))
    assert np.array_equal(pne, gain <= 0)
    assert np.all(is_epsilon_pne(game, delta, 0.0, gain))


@jax.jit
def compare_at_least_efforts(game, delta, efforts):
    """Which rivals a model can reach by effort, and their scores beside its own at the least effort
    for that, an ulp more and less, and a thousandth more, `[4, rivals, games, n]`."""
    game, level, efforts = aligned_profile(game, delta, efforts)
    at = standing(game, level, "baseline")
    total = at.total(efforts)
    effort = effort_to_outrank(game, at.rivals, at.level, total, at.tie_suffices)
    real = at.rivals.real & jnp.isfinite(effort) & (effort > 0)
    effort = jnp.where(real, effort, 1)
    more, less = jnp.nextafter(effort, jnp.inf), jnp.nextafter(effort, -jnp.inf)
    played = jnp.stack([effort, more, less, effort * 1.001])
    return real, _rivals.compare_scores(game, at.rivals, at.total(played), total)


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_effort_that_reaches_a_rival_ties(dtype, kind):
    """However it was rounded, and one ulp beside it; the largest error seen is 2.3 ulps of 8."""
    count, n = 2000, 4
    games = mixed_games(10, count, n, (kind,), dtype)
    rng = np.random.default_rng(10)
    delta = np.exp(rng.uniform(-5, 12, count)).astype(dtype) * (rng.random(count) < 0.7)
    efforts = np.exp(rng.uniform(-5, 12, (count, n))) * (rng.random((count, n)) < 0.7)
    real, compared = compare_at_least_efforts(make_game(games), delta, efforts.astype(dtype))
    real = np.asarray(real)
    assert not np.any(real & np.asarray(compared.above | compared.below)[:3])
    error = np.abs(compared.lead / compared.resolution)[2][real] * _rivals.TIE_ULPS
    assert 0.3 < np.max(error) < 4
    # A thousandth more is seen, unless it is less than the digits that the effort has.
    seen = np.asarray(compared.below)[3][real]
    assert np.mean(seen) > (0.9 if dtype == np.float64 else 0.4)


def test_playing_the_overtake_effort_is_a_tie(dtype):
    games = random_games(11, 500, 3, "equal_limits", dtype)
    delta = jnp.linspace(0, 50, 500, dtype=dtype)
    effort = tbtjax.overtake_effort(make_game(games), delta)
    free = make_game({**games, "cost_rate": np.zeros_like(games["cost_rate"])})
    for weak, strong in ((1, 0), (2, 0), (2, 1)):
        efforts = jnp.zeros((500, 3), dtype).at[:, weak].set(effort[:, weak, strong])
        possible = np.isfinite(efforts[:, weak])
        # Behind the rival: whoever is passed on the way counts, and the rival does not.
        reward = np.asarray(developer_utility(free, delta, efforts))[:, weak]
        assert np.array_equal(reward[possible], games["rewards"][possible, strong + 1])


def test_ties_go_to_the_more_capable_or_the_baseline():
    # Equal models, and a weak model that is ahead at Δ = 10.
    game = tbtjax.ranking_game(
        tbtjax.power_law([0.0, 0.0], 1.0), [1.0, 0.0], tbtjax.linear_cost(0.1)
    )
    for effort in (0.0, 3.0):
        np.testing.assert_allclose(
            developer_utility(game, 5.0, effort), [1 - effort / 10, -effort / 10], rtol=1e-6
        )
    crossing = tbtjax.power_law([0.0, -1.0], [0.5, 1.0])
    game = tbtjax.ranking_game(crossing, [1.0, 0.0], tbtjax.linear_cost(0.001))
    assert float(tbtjax.overtake_effort(game, 10.0)[1, 0]) == 0
    needed = float(np.expm1((-1.0 + np.log(11.0)) / 0.5) - 10)  # for the strong to catch up
    for ties, ranked in (("baseline", [1, 0]), ("capability", [0, 1])):
        utility = developer_utility(game, 10.0, [needed, 0.0], ties=ties)
        paid = np.array([0.001 * needed, 0])
        np.testing.assert_allclose(utility, np.array([1, 0])[ranked] - paid, rtol=1e-4)
        # The best response costs the same: attained with one rule, approached with the other.
        response = best_response(game, 10.0, [0.0, 0.0], ties=ties)
        assert float(response.effort[0]) == pytest.approx(needed, rel=1e-4)
        assert response.rank.tolist() == [0, 0]


def test_near_ties_make_a_ranking(dtype):
    """Scores a few ulps apart, in groups: everyone has a rank of their own, groups in order."""
    rng = np.random.default_rng(12)
    count, n = 4000, 6
    group = rng.integers(0, 3, (count, n))
    spread = rng.integers(-12, 13, (count, n)) * np.finfo(dtype).eps
    alpha = (group.astype(dtype) + spread).astype(dtype)
    game = tbtjax.ranking_game(
        tbtjax.power_law(alpha, np.ones((), dtype)),
        jnp.arange(n, dtype=dtype)[::-1],
        tbtjax.linear_cost(1.0),
    )
    utility = np.asarray(developer_utility(game, 0.0, 0.0))
    assert np.array_equal(np.sort(utility, axis=-1), np.broadcast_to(np.arange(n), (count, n)))
    above = group[:, :, None] > group[:, None, :]
    assert np.all((utility[:, :, None] > utility[:, None, :]) | ~above)
    tied = (group[:, :, None] == group[:, None, :]) & (
        np.ptp(spread, axis=-1) <= 8 * np.finfo(dtype).eps
    )[:, None, None]
    index = np.arange(n)
    first = (index[:, None] < index) & tied
    assert np.any(first)
    assert np.all((utility[:, :, None] > utility[:, None, :]) | ~first)


def tabulated_utility(efforts, scores, rewards, rate, delta, played, order):
    """Utilities of tabulated games at efforts, one game at a time, in plain NumPy."""
    n = len(scores)
    reached = np.array([np.interp(delta + played[i], efforts, scores[i]) for i in range(n)])
    utility = np.empty(n)
    for i in range(n):
        ahead = (reached > reached[i] + 1e-12) | (
            (np.abs(reached - reached[i]) <= 1e-12) & (order < order[i])
        )
        utility[i] = rewards[np.sum(ahead)] - rate * played[i]
    return utility


def test_curves_with_plateaus_and_falls(x64):
    """Scores on a coarse lattice, so that most rivals are tied or on a plateau of the model's."""
    rng = np.random.default_rng(13)
    count, n = 300, 3
    points = np.array([0.0, 1.0, 2.0, 4.0, 7.0, 8.0])
    scores = rng.integers(0, 8, (count, n, points.size)) / 8
    rewards = -np.sort(-rng.integers(0, 5, (count, n)), axis=-1).astype(float)
    rate = rng.uniform(0.05, 1.0, count)
    delta = rng.choice([0.0, 0.5, 1.0, 2.0, 3.0, 7.0, 9.0], count)
    efforts = rng.choice([0.0, 0.5, 1.0, 2.0, 2.5, 4.0, 8.0], (count, n))
    game = tbtjax.ranking_game(
        tbtjax.tabulated(points, scores), rewards, tbtjax.linear_cost(rate[:, None])
    )
    response, utility = jax.tree.map(np.asarray, respond_to_all(game, delta, efforts))
    fine = np.unique(np.concatenate([np.linspace(0, 9, 721), np.linspace(0, 9, 721) + 1e-6]))
    attained = 0
    for i in range(count):
        level = np.array([np.interp(delta[i], points, curve) for curve in scores[i]])
        order = np.empty(n, int)
        order[np.argsort(-level, kind="stable")] = np.arange(n)
        arguments = (points, scores[i], rewards[i], rate[i], delta[i])
        expected = tabulated_utility(*arguments, efforts[i], order)
        np.testing.assert_allclose(utility[i], expected, atol=1e-12)
        others = np.array(
            [np.interp(delta[i] + efforts[i, k], points, scores[i, k]) for k in range(n)]
        )
        for model in range(n):
            own = np.interp(delta[i] + fine, points, scores[i, model])
            rank = np.zeros(fine.size, int)
            for k in range(n):
                if k != model:
                    tie = np.abs(others[k] - own) <= 1e-12
                    rank += np.where(tie, order[k] < order[model], others[k] > own)
            on_grid = rewards[i][rank] - rate[i] * fine
            best = response.utility[i, model]
            assert np.max(on_grid) <= best + 1e-12
            # Lattice scores are reached or left at multiples of 1/80 effort; 1e-6 on, passed.
            assert best <= np.max(on_grid) + rate[i] * 0.0126
            attained += best <= np.max(on_grid) + 1e-9
    assert attained > 0.5 * count * n


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OwnFamily:
    """A user's family: power laws that the package does not know as such."""

    alpha: jax.Array
    beta: jax.Array

    def score(self, effort):
        return jax.nn.sigmoid(self.alpha + self.beta * jnp.log1p(effort))

    def effort_to_reach(self, score):
        inside = (score > 0) & (score < 1)
        safe = jnp.where(inside, score, 0.5)
        effort = jnp.expm1((jnp.log(safe / (1 - safe)) - self.alpha) / self.beta)
        return jnp.where(inside, jnp.maximum(effort, 0), jnp.where(score < 1, 0, jnp.inf))

    def limit(self):
        return jnp.ones_like(self.alpha)


def test_a_users_own_family(x64):
    games = random_games(14, 300, 4, "equal_limits")
    rng = np.random.default_rng(14)
    efforts = rng.uniform(0, 5, (300, 4)) * (rng.random((300, 4)) < 0.5)
    known = make_game(games)
    own = OwnFamily(jnp.asarray(games["alpha"]), jnp.asarray(games["beta"]))
    other = tbtjax.ranking_game(own, games["rewards"], tbtjax.linear_cost(games["cost_rate"]))
    (expected, paid), (found, found_paid) = (
        respond_to_all(game, 2.0, efforts) for game in (known, other)
    )
    np.testing.assert_allclose(found.utility, expected.utility, rtol=1e-9)
    np.testing.assert_allclose(found.effort, expected.effort, rtol=1e-7, atol=1e-9)
    assert np.array_equal(found.rank, expected.rank)
    np.testing.assert_array_equal(found_paid, paid)


@pytest.mark.parametrize("kind", ["equal_limits", "different_limits", "falling", "ties"])
def test_float32_agrees_with_float64(kind):
    games = random_games(15, 1000, 4, kind, np.float32)
    rng = np.random.default_rng(15)
    worth = (games["rewards"][:, :1] - games["rewards"][:, -1:]) / games["cost_rate"]
    efforts = (worth * rng.uniform(0, 1, (1000, 4)) * (rng.random((1000, 4)) < 0.5)).astype(
        np.float32
    )
    single = respond(games, 3.0, efforts)
    wide = {k: v.astype(float) for k, v in games.items()}
    with jax.enable_x64(True):
        double = respond(wide, 3.0, efforts.astype(float))
    # Only where nobody is near a tie in float32, so that both see the same ranking.
    at = [
        by_definition.standing(wide, k, 3.0 + efforts[:, k : k + 1].astype(float)) for k in range(4)
    ]
    idle = [by_definition.standing(wide, k, np.full((1000, 1), 3.0)) for k in range(4)]
    clear = np.ones(1000, bool)
    for i in range(4):
        for k in range(4):
            for own, their in ((at[i], at[k]), (idle[i], at[k]), (idle[i], idle[k])):
                value, rounding = by_definition.difference(wide, own, their)
                tie = (np.abs(value) < 1e10 * rounding) & (value != 0)
                clear &= (i == k) | ~tie[:, 0]
    assert np.mean(clear) > 0.5
    for one, two in zip(jax.tree.leaves(single), jax.tree.leaves(double), strict=True):
        assert (
            one.dtype != two.dtype
            or one.dtype == np.int32
            or not np.issubdtype(one.dtype, np.floating)
        )
    scale = np.max(games["rewards"], axis=-1, keepdims=True) + np.abs(np.asarray(double[1]))
    for one, two in ((single[0].utility, double[0].utility), (single[1], double[1])):
        assert one.dtype == np.float32
        error = np.abs(np.asarray(one, float) - np.asarray(two))[clear]
        assert np.max(error / scale[clear]) < 2e-5


@mostly_float64
def test_absent_models_change_nothing(dtype):
    games = random_games(16, 200, 5, "different_limits", dtype)
    rng = np.random.default_rng(16)
    efforts = (rng.uniform(0, 9, (200, 5)) * (rng.random((200, 5)) < 0.5)).astype(dtype)
    present = np.array([True, False, True, True, False])
    spoiled = {
        k: np.where(present, np.broadcast_to(v, (200, 5)), np.nan).astype(dtype)
        for k, v in games.items()
        if k != "rewards"
    }
    spoiled["rewards"] = games["rewards"]
    larger = make_game(spoiled, present)
    kept = {k: np.broadcast_to(v, (200, 5))[:, present] for k, v in games.items() if k != "rewards"}
    smaller = make_game({**kept, "rewards": games["rewards"][:, :3]})
    delta = np.linspace(0, 30, 200).astype(dtype)
    spoiled_efforts = np.where(present, efforts, np.nan).astype(dtype)

    @jax.jit
    def answers(*profile):
        return [f(*profile) for f in (best_response, developer_utility, deviation_gain)]

    found = jax.tree.map(np.asarray, answers(larger, delta, spoiled_efforts))
    expected = jax.tree.map(np.asarray, answers(smaller, delta, efforts[:, present]))
    jax.tree.map(lambda a, b: close(a[:, present], b, dtype), found, expected)
    jax.tree.map(
        lambda a: np.testing.assert_array_equal(
            a[:, ~present], np.full((200, 2), -1 if a.dtype.kind == "i" else 0)
        ),
        found,
    )

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(curves, cost):
        game = dataclasses.replace(larger, curves=curves, cost=cost)
        response = best_response(game, delta, spoiled_efforts)
        return jnp.sum(response.utility) + jnp.sum(response.effort)

    gradient = slopes(larger.curves, larger.cost)
    for leaf in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(leaf))
        assert np.all(np.asarray(leaf)[:, ~present] == 0)


@mostly_float64
def test_one_bad_game_spoils_no_other(dtype):
    games = random_games(17, 8, 3, "equal_limits", dtype)
    efforts = np.full((8, 3), 0.5, dtype)
    delta = np.ones(8, dtype)
    good = jax.tree.leaves(respond(games, delta, efforts))
    bad = {k: v.copy() for k, v in games.items()}
    bad["alpha"][1, 2] = np.nan
    bad["rewards"][2] = [0, 1, 2]
    bad["cost_rate"][3] = -1
    bad_delta, bad_efforts = delta.copy(), efforts.copy()
    bad_delta[4], bad_efforts[5, 1], bad_efforts[6, 0] = -1, np.nan, -0.5
    found = jax.tree.leaves(respond(bad, bad_delta, bad_efforts))
    for expected, values in zip(good, found, strict=True):
        np.testing.assert_array_equal(values[[0, 7]], expected[[0, 7]])
        unusable = values[1:7]
        assert np.all(unusable == -1 if values.dtype.kind == "i" else np.isnan(unusable))
    assert is_epsilon_pne(make_game(bad), bad_delta, bad_efforts, 1e30).tolist() == [True] + [
        False
    ] * 6 + [True]


@mostly_float32
def test_endless_efforts(dtype):
    """A rival that never stops is passed by nobody it outruns, and has paid without end."""
    game = tbtjax.ranking_game(
        tbtjax.power_law(np.array([1.0, 0.0], dtype), [1.0, 0.5]),
        [1.0, 0.0],
        tbtjax.linear_cost(0.1),
    )
    efforts = np.array([np.inf, 0.0], dtype)
    assert developer_utility(game, 0.0, efforts).tolist() == [-np.inf, 0]
    response = best_response(game, 0.0, efforts)
    assert response.utility.tolist() == [1, 0]
    assert response.effort.tolist() == [0, 0]
    assert deviation_gain(game, 0.0, efforts).tolist() == [np.inf, 0]
    assert not is_epsilon_pne(game, 0.0, efforts, 1e30)


@pytest.mark.slow
@mostly_float32
def test_out_of_reach_leaves_no_nan_in_gradients(dtype):
    """The strong model is above all that the weak one can score."""
    games = {"alpha": np.array([2.0, 0.0, -1.0], dtype), "beta": np.array([1.0, 0.8, 0.7], dtype)}
    games |= {"lower": np.array([0.2, 0.1, 0.1], dtype), "upper": np.array([0.9, 0.6, 0.7], dtype)}
    games |= {"rewards": np.array([5.0, 2.0, 0.0], dtype), "cost_rate": np.array([0.01], dtype)}

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1, 2))
    def slopes(game, delta, efforts):
        response = best_response(game, delta, efforts)
        gain = deviation_gain(game, delta, efforts)
        return jnp.sum(response.utility + response.effort + gain)

    for efforts in ([0.0, 0.0, 0.0], [3.0, 1.0, 0.0], [0.0, 9.0, 1e6]):
        gradient = slopes(make_game(games), jnp.asarray(5.0, dtype), jnp.array(efforts, dtype))
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(gradient))


@jax.jit
def weighted_response(arguments, limits, weights):
    alpha, beta, rewards, cost_rate, delta, efforts = arguments
    game = {"alpha": alpha, "beta": beta, "rewards": rewards, "cost_rate": cost_rate}
    response = best_response(make_game({**game, **limits}), delta, efforts)
    weighted = weights[0] * response.utility + weights[1] * response.effort
    return response, jnp.sum(weighted, axis=-1)


@jax.jit
def weighted_slopes(*values):
    return jax.grad(lambda *values: jnp.sum(weighted_response(*values)[1]))(*values)


@pytest.mark.parametrize("kind", ["equal_limits", "different_limits", "fast_weak", "unequal_costs"])
def test_derivatives(x64, kind):
    games = mixed_games(18, 60, 4, (kind,))
    rng = np.random.default_rng(18)
    efforts = rng.uniform(0, 3, (60, 4)) * (rng.random((60, 4)) < 0.6)
    delta = rng.uniform(0, 5, 60)
    arguments = [games[name] for name in ("alpha", "beta", "rewards", "cost_rate")]
    arguments += [delta, efforts]
    fixed = {name: games[name] for name in ("lower", "upper")}, rng.normal(size=(2, 60, 4))

    gradients = weighted_slopes(arguments, *fixed)
    response, values = weighted_response(arguments, *fixed)
    for i, gradient in enumerate(gradients):
        direction = rng.normal(size=arguments[i].shape) * np.abs(arguments[i])
        if i == 5:
            direction = direction * (efforts > 0)
        step = 1e-6
        up, down = (
            weighted_response(
                [x + sign * step * direction if i == k else x for k, x in enumerate(arguments)],
                *fixed,
            )
            for sign in (1, -1)
        )
        slope = (up[1] - down[1]) / (2 * step)
        expected = np.asarray(gradient * direction).reshape(60, -1).sum(-1)
        ranks = np.stack([x.rank for x in (response, up[0], down[0])])
        same = np.all(ranks == ranks[0], axis=(0, -1))
        same &= np.all(((up[0].effort > 0) == (down[0].effort > 0)), axis=-1)
        size = 1e-6 * (1 + np.max(np.abs(values))) + 1e-5 * np.abs(expected)
        assert np.mean(same) > 0.7
        assert np.all((np.abs(slope - expected) <= size)[same])


@mostly_float32
def test_jit_vmap_and_a_loop_agree(dtype):
    games = random_games(19, 20, 4, "different_limits", dtype)
    game = make_game(games)
    rng = np.random.default_rng(19)
    efforts = (rng.uniform(0, 9, (20, 4)) * (rng.random((20, 4)) < 0.5)).astype(dtype)
    delta = rng.uniform(0, 9, 20).astype(dtype)

    def run(*profile):
        functions = (best_response, developer_utility, deviation_gain)
        return [function(*profile) for function in functions]

    batch = run(game, delta, efforts)
    mapped = jax.jit(jax.vmap(run))(game, delta, efforts)
    one_by_one = jax.jit(run)
    single = [one_by_one(game[i], delta[i], efforts[i]) for i in range(20)]
    loop = jax.tree.map(lambda *x: np.stack(x), *single)
    rounding = 200 * np.finfo(dtype).eps
    for other in (mapped, loop):
        for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=rounding, atol=1e-30)


@pytest.mark.slow
def test_shapes_broadcast():
    game = make_game(random_games(20, 6, 3, "equal_limits", np.float32))
    profiles = np.random.default_rng(20).uniform(0, 3, (5, 1, 3)).astype(np.float32)
    levels = np.linspace(0, 4, 4, dtype=np.float32)[:, None, None]
    response = best_response(game, levels, profiles)
    assert response.utility.shape == response.effort.shape == response.rank.shape == (4, 5, 6, 3)
    one = best_response(game[2], levels[1, 0, 0], profiles[3, 0])
    np.testing.assert_allclose(response.utility[1, 3, 2], one.utility, rtol=1e-6)
    assert developer_utility(game, 1.0, 0.0).shape == (6, 3)
    assert is_epsilon_pne(game, levels, profiles).shape == (4, 5, 6)
    alone = tbtjax.ranking_game(tbtjax.power_law([0.5], 1.0), [2.0], tbtjax.linear_cost(1.0))
    assert best_response(alone, 0.0, [3.0]).utility.tolist() == [2.0]
    assert deviation_gain(alone, 0.0, [3.0]).tolist() == [3.0]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((None, 0.0, 0.0), TypeError, "game must be a RankingGame"),
        (("game", 0.0, [0.0, 1.0]), ValueError, "efforts must have 3 entries"),
        (("game", 0.0, np.zeros((4, 3))), ValueError, "do not broadcast"),
        (("game", np.zeros(4), 0.0), ValueError, "delta must broadcast"),
        (("game", 0.0, [1j, 0, 0]), TypeError, "efforts must be an array"),
    ],
)
def test_errors(arguments, error, match):
    game = make_game(random_games(21, 6, 3, "equal_limits", np.float32))
    given = (game if arguments[0] == "game" else None, *arguments[1:])
    for function in (best_response, developer_utility, deviation_gain, is_epsilon_pne):
        with pytest.raises(error, match=match):
            function(*given)
    with pytest.raises(ValueError, match="ties must be"):
        developer_utility(game, 0.0, 0.0, ties="alphabetical")
