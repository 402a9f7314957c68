"""Δ* against independent calculations, on every class of game."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from marks import mostly_float64
from random_games import DIFFERENT_LIMIT_KINDS, EQUAL_LIMIT_KINDS, KINDS, random_games

import tbtjax
from tbtjax import Status, linear_cost, power_law, ranking_game, stabilizing_threshold
from tbtjax.threshold import threshold_of_few

#: Games of most tests, so that they share a program for each kind of limits: compiling one takes
#: longer than solving a million games.
GAMES, MODELS = 1_000, 5


def as_game(games, present=None):
    curves = power_law(games["alpha"], games["beta"], games["lower"], games["upper"])
    return ranking_game(curves, games["rewards"], linear_cost(games["cost_rate"]), present)


def as_answer(threshold):
    names = np.vectorize(lambda status: Status(int(status)).name, otypes=["U16"])
    fields = jax.tree.map(np.asarray, threshold)
    return {
        "delta": fields.delta,
        "upper": fields.upper,
        "settled": fields.settled,
        "by_pair": fields.by_pair,
        "status": names(fields.status),
        "weak": fields.pair,
        "rival": fields.rival,
    }


def costs_of_models(games):
    """The games with a cost rate for each model, whether they are equal or not."""
    return games | {"cost_rate": np.broadcast_to(games["cost_rate"], games["alpha"].shape)}


def assert_right(games, deviations, threshold=stabilizing_threshold):
    """No game differs from the reference by more than 1e-9, or 4 ulps of its inputs make."""
    with jax.enable_x64(True):
        answer = as_answer(threshold(as_game(games), deviations))
    assert oracles.disagreements(games, answer, deviations) == []


@pytest.mark.parametrize("deviations", ["all", pytest.param("adjacent", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_class_agrees_with_the_reference(kind, deviations):
    assert_right(costs_of_models(random_games(21, GAMES, MODELS, kind)), deviations)


@pytest.mark.parametrize("kind", [min(EQUAL_LIMIT_KINDS), min(DIFFERENT_LIMIT_KINDS)])
def test_without_fast_roads(kind):
    assert_right(random_games(23, GAMES, MODELS, kind), "all", threshold_of_few)


@pytest.mark.parametrize(
    "kind", ["fast_weak", "ties", "zero_gaps", "different_limits", "interval_then_ray"]
)
def test_jumps_over_ranks_with_a_common_cost(kind, many_chunks):
    """Fast roads look at neighbours alone there, as these are enough where they stay stable."""
    assert_right(random_games(24, GAMES, MODELS, kind), "all")


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"unequal_costs", "interval_then_ray"}))
def test_neighbours_are_enough_where_they_stay_stable(kind):
    """Ours, of a common convex cost: the reference agrees, which looks at every pair."""
    games = random_games(25, 20_000, MODELS, kind)
    neighbours, everybody = (
        oracles.reference_thresholds(games, deviations) for deviations in ("adjacent", "all")
    )
    first = neighbours["settled"]
    settled = np.isfinite(first)
    assert settled.sum() > 1_000
    np.testing.assert_allclose(everybody["settled"][settled], first[settled], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_two_models(kind):
    games = random_games(22, GAMES, 2, kind)
    # Only the weak model's cost matters.
    assert_right(games | {"cost_rate": games["cost_rate"][:, -1:]}, "all")


def assert_precise(kind, checked):
    """Within 1e-12 of 60-digit roots, or of what 4 ulps of the inputs make."""
    games = costs_of_models(random_games(41, GAMES, MODELS, kind))
    with jax.enable_x64(True):
        answer = as_answer(stabilizing_threshold(as_game(games)))
    for i in range(checked):
        inner, outer = oracles.threshold_bounds(oracles.single_game(games, i))
        if inner.status == outer.status:
            assert answer["status"][i] == inner.status
        for name in ("delta", "settled"):
            if not np.isfinite(getattr(inner, name)):
                continue
            y = np.log1p(answer[name][i])
            slack = 1e-12 * (1 + getattr(inner, name))
            low, high = getattr(outer, name), getattr(inner, name)
            # `settled` of sets with a different number of stretches cannot be compared so.
            if name == "delta" or len(inner.stretches) == len(outer.stretches):
                assert low - slack <= y <= high + slack, (kind, i, name)


@pytest.mark.parametrize("kind", KINDS)
def test_high_precision(kind):
    assert_precise(kind, 12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_high_precision_of_a_thousand_games(kind):
    assert_precise(kind, GAMES)


# Errors of y over 1 + y on 4,000 games a kind, n = 5: at most 7.2e-7 with equal limits (1.2e-6 for
# `upper`); with different limits larger on up to one game in a hundred, at most 4e-4 where
# 4 units in the last place of the inputs make 1e-2.
FLOAT32_BOUND = 4e-6


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_within_its_stated_bound(kind):
    """Within the bound, or within what 4 ulps of the float32 inputs make."""
    games = costs_of_models(random_games(51, GAMES, MODELS, kind, np.float32))
    threshold = stabilizing_threshold(as_game(games))
    assert threshold.delta.dtype == jnp.float32
    answer = as_answer(threshold)
    assert oracles.disagreements(games, answer, "all", FLOAT32_BOUND, dtype=np.float32) == []


def one(alpha, beta, rewards, lower=0.0, upper=1.0, cost=1.0, deviations="all"):
    """The threshold of one game, solved as a batch of copies, with weak models that gain nothing.

    So it is solved by the program of the other tests.
    """
    more = MODELS - len(alpha)
    far = -50.0 * np.arange(1, more + 1)

    def full(x):
        x = np.broadcast_to(np.asarray(x, np.float64), len(alpha))
        return np.broadcast_to(np.append(x, np.repeat(x[-1], more)), (GAMES, MODELS))

    games = {"alpha": full(alpha), "beta": full(beta), "rewards": full(rewards)}
    games["alpha"] = games["alpha"] + np.append(np.zeros(len(alpha)), far)
    equal = np.ndim(lower) == np.ndim(upper) == 0
    games |= (
        {"lower": np.float64(lower), "upper": np.float64(upper)}
        if equal
        else {"lower": full(lower), "upper": full(upper)}
    )
    with jax.enable_x64(True):
        threshold = stabilizing_threshold(as_game(games | {"cost_rate": full(cost)}), deviations)
    return jax.tree.map(lambda x: np.asarray(x)[0], threshold)


def test_published_pair():
    d = np.log(19.0)
    inverse_rho = np.log((384_668 + 3_001) / 19) / np.log(3_001)
    threshold = one([d, 0.0], [inverse_rho, 1.0], [100.0, 0.0])
    np.testing.assert_allclose(threshold.delta, 2.9398, atol=5e-5)
    assert threshold.status_names() == "FOUND"
    assert (int(threshold.pair), int(threshold.rival)) == (1, 0)


def test_weak_model_that_learns_faster_is_stable_on_an_interval():
    """MODEL: ρ > 1; the ray of misordered levels after the swap does not count."""
    threshold = one([np.log(20.0), 0.0], [0.8, 1.0], [1000.0, 0.0])
    assert threshold.status == Status.INTERVAL
    np.testing.assert_allclose(threshold.delta, 159.07, atol=5e-3)
    np.testing.assert_allclose(threshold.upper, 3.195e6, rtol=2e-4)
    assert threshold.settled == np.inf


def test_an_interval_and_then_a_ray():
    """MODEL: different limits, with C1 and C2 everywhere."""
    threshold = one([-0.19, -2.467], [0.389, 1.103], [10.0, 0.0], [0.12, 0.127], [0.931, 0.842])
    assert threshold.status == Status.INTERVAL
    np.testing.assert_allclose(
        [threshold.delta, threshold.upper, threshold.settled], [0.680, 53.87, 152.2], rtol=1e-3
    )


def test_rule_of_thumb_is_not_safe_with_different_limits():
    arguments = (
        [-0.96125, -0.71128],
        [0.53015, 0.52594],
        [140.0, 0.0],
        [0.27714, 0.10287],
        0.99378,
    )
    threshold = one(*arguments)
    np.testing.assert_allclose(threshold.delta, 7472.8, atol=0.05)
    with jax.enable_x64(True):
        game = ranking_game(
            power_law(*(np.asarray(x) for x in (*arguments[:2], *arguments[3:]))),
            arguments[2],
            linear_cost(1.0),
        )
        np.testing.assert_allclose(tbtjax.rule_of_thumb(game).delta[0], 126.7, atol=0.05)


def test_all_deviations_need_more_than_adjacent_ones():
    arguments = (
        [0.21, -0.19, -2.467],
        [0.389, 0.389, 1.103],
        [41.0, 15.0, 0.0],
        [0.12, 0.12, 0.127],
        [0.931, 0.931, 0.842],
    )
    adjacent, exact = one(*arguments, deviations="adjacent"), one(*arguments)
    assert adjacent.delta < 14 < exact.delta
    assert (int(exact.pair), int(exact.rival)) == (2, 0)


def test_unequal_costs_make_the_jump_over_ranks_pay():
    cost = np.array([1.0, 1.0, 0.1])
    adjacent = one([2.0, 1.0, 0.9], 1.0, [1.0, 0.0, 0.0], cost=cost, deviations="adjacent")
    exact = one([2.0, 1.0, 0.9], 1.0, [1.0, 0.0, 0.0], cost=cost)
    assert adjacent.status == Status.STABLE_AT_ZERO
    assert exact.delta > 0


def test_capability_ties_with_a_gap_never_stabilize():
    threshold = one([1.0, 1.0], [0.5, 0.5], [1.0, 0.0])
    assert threshold.status == Status.NOWHERE
    assert threshold.delta == np.inf
    assert (int(threshold.pair), int(threshold.rival)) == (-1, -1)


def test_free_effort_never_stabilizes_within_reach():
    assert one([1.0, 0.0], [0.5, 0.5], [1.0, 0.0], cost=0.0).status == Status.NOWHERE


def test_rival_out_of_reach_needs_no_level():
    threshold = one([1.0, 0.0], [0.5, 0.5], [1e6, 0.0], 0.0, [0.9, 0.6])
    assert threshold.status == Status.STABLE_AT_ZERO


@pytest.mark.parametrize(
    ("kind", "deviations"),
    [
        pytest.param("fast_weak", "all", marks=pytest.mark.slow),
        ("different_limits", "adjacent"),
    ],
)
def test_absent_models_change_nothing(kind, deviations):
    """A game with absent models, whatever their parameters, is the game of the others."""
    games = random_games(61, 40, 6, kind)
    rng = np.random.default_rng(62)
    present = np.argsort(rng.random((40, 6)), axis=1) < 3
    present[0], present[1] = False, True
    with jax.enable_x64(True):
        check_absent_models(games, present, deviations)


def check_absent_models(games, present, deviations):
    padded = {
        name: np.array(np.broadcast_to(x, (40, 6)) if x.ndim > 1 else x)
        for name, x in games.items()
    }
    for name in ("alpha", "beta"):
        padded[name][~present] = np.nan
    masked = as_answer(stabilizing_threshold(as_game(padded, present), deviations))
    assert masked["status"][0] == "STABLE_AT_ZERO"
    for members in (slice(1, 2), slice(2, None)):
        chosen = np.stack([np.flatnonzero(row) for row in present[members]])
        alone = {
            name: x
            if x.ndim == 0
            else np.take_along_axis(x[members], chosen, 1)
            if x.shape[-1] > 1
            else x[members]
            for name, x in games.items()
        }
        alone["rewards"] = games["rewards"][members, : chosen.shape[1]]
        answer = {name: x[members] for name, x in masked.items()}
        for name in ("weak", "rival"):
            place = np.argmax(chosen == answer[name][:, None], axis=1)
            answer[name] = np.where(answer[name] < 0, -1, place)
        by_pair, later = answer["by_pair"], chosen[:, 1:] - 1
        answer["by_pair"] = np.take_along_axis(by_pair, later, 1)
        assert oracles.disagreements(alone, answer, deviations) == []
        others = np.ones_like(by_pair, bool)
        np.put_along_axis(others, later, False, 1)
        assert np.all(by_pair[others] == 0)


BAD_GAMES = {
    "nan": {"alpha": np.nan},
    "infinite": {"beta": np.inf},
    "rising rewards": {"rewards": [0.0, 1.0, 2.0, 3.0, 4.0]},
    "negative cost": {"cost_rate": -1.0},
    "empty range": {"upper": -1.0},
}


@pytest.mark.parametrize("kind", ["equal_limits", "different_limits"])
@pytest.mark.parametrize("bad", BAD_GAMES)
def test_a_bad_game_leaves_its_neighbours_bits_alone(bad, kind, x64):
    games = costs_of_models(random_games(71, GAMES, MODELS, kind))
    limits = (GAMES, 1 if kind == "equal_limits" else MODELS)
    games |= {name: np.broadcast_to(games[name], limits) for name in ("lower", "upper")}
    games = {name: np.array(x) for name, x in games.items()}
    before = stabilizing_threshold(as_game(games))
    for name, value in BAD_GAMES[bad].items():
        games[name][7] = value
    after = stabilizing_threshold(as_game(games))
    assert after.status[7] == Status.INVALID
    assert np.isnan(after.delta[7]) and np.isnan(after.upper[7]) and np.isnan(after.settled[7])
    assert after.pair[7] == -1
    others = np.arange(GAMES) != 7
    for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(np.asarray(x)[others], np.asarray(y)[others])
    with pytest.raises(ValueError, match=r"1 of 1000 games have status INVALID .* index \(7,\)"):
        after.raise_if_failed()
    before.raise_if_failed()


def test_unusable_limits_in_a_large_batch(dtype, many_chunks):
    """Fast roads look at limits pair by pair: thresholds and verdicts know every unusable one."""
    games = random_games(72, GAMES, MODELS, "monotone_different_limits", dtype)
    rng = np.random.default_rng(73)
    game = np.arange(0, GAMES, 2)
    model = rng.integers(0, MODELS, game.size)
    name = rng.choice(["lower", "upper"], game.size)
    how = rng.integers(0, 5, game.size)
    values = np.array([np.nan, np.inf, -np.inf])
    for i, j, which, kind in zip(game, model, name, how, strict=True):
        if kind < 3:
            games[which][i, j] = values[kind]
        else:  # an empty range: of this model, or, the other way round, of all
            models = [j] if kind == 3 else slice(None)
            lower, upper = games["lower"][i, models].copy(), games["upper"][i, models].copy()
            games["lower"][i, models], games["upper"][i, models] = upper, lower
    games["rewards"] = games["rewards"] / 1e3  # most are stable at 0
    found = stabilizing_threshold(as_game(games))
    bad = np.arange(GAMES) % 2 == 0
    np.testing.assert_array_equal(np.asarray(found.status) == Status.INVALID, bad)
    assert np.all(np.isnan(found.delta) == bad)
    stable = np.asarray(tbtjax.is_zero_effort_pne(as_game(games), 1e3))
    assert not np.any(stable[bad]) and np.mean(stable[~bad]) > 0.5


@pytest.mark.parametrize(
    "kind", ["fast_weak", pytest.param("interval_then_ray", marks=pytest.mark.slow)]
)
def test_jit_vmap_and_a_loop_agree(kind, x64):
    games = costs_of_models(random_games(81, GAMES, MODELS, kind))
    batched = stabilizing_threshold(as_game(games))[:12]
    games = {name: x[:12] if x.ndim else x for name, x in games.items()}

    def solve(alpha, beta, lower, upper, rewards, rate):
        curves = power_law(alpha, beta, lower, upper)
        return stabilizing_threshold(ranking_game(curves, rewards, linear_cost(rate)))

    names = ("alpha", "beta", "lower", "upper", "rewards", "cost_rate")
    axes = tuple(0 if games[name].ndim > 1 else None for name in names)
    arguments = [jnp.asarray(games[name]) for name in names]
    mapped = jax.jit(jax.vmap(solve, axes))(*arguments)
    looped = [
        solve(*(x if axis is None else x[i] for x, axis in zip(arguments, axes, strict=True)))
        for i in range(12)
    ]
    looped = jax.tree.map(lambda *x: jnp.stack(x), *looped)
    for other in (mapped, looped):
        np.testing.assert_array_equal(batched.status, other.status)
        np.testing.assert_array_equal(batched.pair, other.pair)
        for name in ("delta", "upper", "settled", "by_pair"):
            np.testing.assert_allclose(
                getattr(other, name), getattr(batched, name), rtol=1e-11, atol=1e-13
            )


def test_one_compilation_serves_all_calls_of_a_shape():
    traces = []

    @jax.jit
    def solve(alpha):
        traces.append(alpha.shape)
        return stabilizing_threshold(ranking_game(power_law(alpha, 1.0), [5, 0], linear_cost(1.0)))

    for shift in range(3):
        solve.lower(jnp.array([[1.0, 0.0], [2.0, 0.0]]) + shift)
    assert len(traces) == 1


@pytest.mark.parametrize("limits", [(0.0, 1.0), ([0.0], [1.0])])
@pytest.mark.parametrize("n", [0, 1])
def test_one_model_or_none_is_stable_at_zero(n, limits, dtype):
    curves = power_law(np.zeros((3, n), dtype), np.ones((3, n), dtype), *limits)
    threshold = stabilizing_threshold(ranking_game(curves, np.zeros(n, dtype), linear_cost(1.0)))
    assert threshold.status.tolist() == [Status.STABLE_AT_ZERO] * 3
    assert threshold.delta.tolist() == [0.0] * 3
    assert threshold.by_pair.shape == (3, max(n - 1, 0))


def test_no_games_at_all(dtype):
    curves = power_law(np.zeros((0, 3), dtype), 1.0)
    threshold = stabilizing_threshold(ranking_game(curves, [2, 1, 0], linear_cost(1.0)))
    assert threshold.delta.shape == (0,)
    assert threshold.by_pair.shape == (0, 2)
    assert threshold.delta.dtype == dtype
    assert threshold.status_names() == []


@pytest.mark.slow
def test_games_axes_broadcast_against_each_other(x64):
    """A grid of rewards against a batch of curves, with a value per game on a trailing 1."""
    games = random_games(91, 3, 4, "equal_limits")
    scale = np.array([1.0, 10.0, 100.0, 1000.0])[:, None, None]
    curves = power_law(games["alpha"], games["beta"])
    grid = stabilizing_threshold(
        ranking_game(curves, games["rewards"] * scale, linear_cost(games["cost_rate"]))
    )
    assert grid.delta.shape == (4, 3)
    flat = {
        name: np.broadcast_to(x, (4, *x.shape)).reshape(12, -1) if x.ndim else x
        for name, x in games.items()
    }
    flat["rewards"] = (games["rewards"] * scale).reshape(12, -1)
    answer = {name: x.reshape(12, *x.shape[2:]) for name, x in as_answer(grid).items()}
    assert oracles.disagreements(flat, answer) == []


def test_scan_finds_wide_stretches(dtype):
    """Curves of a user's own take the scan; power laws in disguise must give the same."""
    games = random_games(101, 200, 4, "monotone_different_limits", dtype)
    exact = oracles.reference_thresholds(games)["delta"]
    curves = Disguised(*(jnp.asarray(games[name]) for name in ("alpha", "beta", "lower", "upper")))
    scanned = stabilizing_threshold(
        ranking_game(curves, games["rewards"], linear_cost(games["cost_rate"]))
    )
    # Compared by scores, saturated models lose digits that logits keep: ordinary games only.
    ordinary = exact < np.log1p(1e3)
    assert ordinary.sum() > 50
    found = np.log1p(np.asarray(scanned.delta, np.float64))
    np.testing.assert_allclose(
        found[ordinary], exact[ordinary], atol=3e4 * float(np.finfo(dtype).eps)
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Disguised:
    alpha: jax.Array
    beta: jax.Array
    lower: jax.Array
    upper: jax.Array

    def score(self, effort):
        logit = self.alpha + self.beta * jnp.log1p(effort)
        return self.lower + (self.upper - self.lower) * jax.nn.sigmoid(logit)

    def effort_to_reach(self, score):
        inside = (score > self.lower) & (score < self.upper)
        odds = jnp.where(inside, score - self.lower, 1) / jnp.where(inside, self.upper - score, 1)
        effort = jnp.expm1((jnp.log(odds) - self.alpha) / self.beta)
        return jnp.where(score >= self.upper, jnp.inf, jnp.where(inside, jnp.maximum(effort, 0), 0))

    def limit(self):
        return self.upper


@pytest.mark.slow
def test_more_scan_levels_find_a_short_interruption():
    """A dip of a measured curve is missed by a coarse scan and found by a finer one."""
    efforts = np.array([0.0, 100.0, 101.0, 102.0, 1000.0])
    scores = np.array([[0.5, 0.8, 0.5, 0.8, 0.8], [0.4, 0.6, 0.6, 0.6, 0.6]])
    game = ranking_game(tbtjax.tabulated(efforts, scores), [1.0, 0.0], linear_cost(1.0))
    coarse = stabilizing_threshold(game, scan_levels=16)
    fine = stabilizing_threshold(game, scan_levels=8192)
    assert coarse.upper == np.inf
    assert 100 < fine.upper < 101
    assert 101 < fine.settled < 102


def test_arguments_are_checked():
    game = ranking_game(power_law([1.0, 0.0], 1.0), [1, 0], linear_cost(1.0))
    with pytest.raises(ValueError, match='deviations must be "all" or "adjacent"; got \'some\''):
        stabilizing_threshold(game, "some")
    with pytest.raises(TypeError, match="game must be a RankingGame"):
        stabilizing_threshold(game.curves)
    with pytest.raises(ValueError, match="scan_levels must be an integer of 2 or more; got 1"):
        stabilizing_threshold(game, scan_levels=1)


def test_kinds_are_split_by_their_limits():
    assert set(KINDS) == set(EQUAL_LIMIT_KINDS) | set(DIFFERENT_LIMIT_KINDS)


@pytest.mark.slow
@mostly_float64
def test_a_level_stretch_of_the_condition_is_no_root(dtype):
    """Stable at 0, and at the third pair the condition is level at y = 3.27 and y = 1.6, above 0.

    More games than take the complete road at once.
    """
    alpha = [
        [2.64662741, 0.04933223, -0.56038591, -3.19630679, -3.53447734],
        [0.02840362, -0.92633547, -3.10363101, -3.21494739, -4.18199096],
    ]
    beta = [
        [0.81161111, 0.59251974, 0.58958136, 0.45445628, 0.30945478],
        [0.93604594, 0.85478651, 0.72097715, 0.5698444, 0.47622579],
    ]
    rewards = [
        [0.79762514, 0.54930955, 0.34240996, 0.02637676, 0.0],
        [1.0010783, 0.71242341, 0.51510132, 0.13038152, 0.0],
    ]
    lower = [
        [0.20124575, 0.21992358, 0.2394024, 0.21360301, 0.21050468],
        [0.20422245, 0.24827395, 0.23013279, 0.21304331, 0.21432521],
    ]
    upper = [
        [0.93328, 0.9136889, 0.85538408, 0.82430913, 0.77896267],
        [0.96046866, 0.95224893, 0.87625805, 0.80680675, 0.77571105],
    ]
    alpha, beta, rewards, lower, upper = (
        np.tile(np.asarray(x, dtype), (10, 1)) for x in (alpha, beta, rewards, lower, upper)
    )
    curves = power_law(alpha, beta, lower, upper)
    threshold = stabilizing_threshold(ranking_game(curves, rewards, linear_cost(dtype.type(1))))
    assert np.all(np.asarray(threshold.status) == Status.STABLE_AT_ZERO)
    assert np.all(np.asarray(threshold.delta) == 0) and np.all(np.asarray(threshold.by_pair) == 0)


def test_order_that_single_precision_does_not_show(x64, many_chunks):
    """β and upper limits that are equal, or fall or rise by less than float32 tells apart."""
    games = random_games(74, GAMES, MODELS, "monotone_different_limits")
    rng = np.random.default_rng(75)
    weak = rng.integers(1, MODELS, GAMES)
    game = np.arange(GAMES)
    for name in ("beta", "upper"):
        touched = rng.random(GAMES) < 0.7
        change = rng.choice([0, 1e-10, -1e-10], GAMES)
        equal = games[name][game, weak - 1] * (1 + change)
        games[name][game, weak] = np.where(touched, equal, games[name][game, weak])
    assert_right(games, "all")
