"""Score curves, against exact numbers, NumPy's interpolation and searches by brute force."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from random_games import KINDS, random_games

import tbtjax
from tbtjax.curves import CurveFamily, PowerLaw, Tabulated


@functools.partial(jax.jit, static_argnums=1)
def ask(curves, method, *arguments):
    """`curves.method(*arguments)` as one program, where alone each of its operations is one."""
    return getattr(curves, method)(*arguments)


# ---------------------------------------------------------------------------------------------
# Power laws
# ---------------------------------------------------------------------------------------------


def exact_scores(games, efforts):
    """`[games, efforts, models]` scores as float64, by mpmath."""
    count, n = games["alpha"].shape
    found = np.empty((count, len(efforts), n))
    for g in range(count):
        game = oracles.single_game(games, g)
        for i, effort in enumerate(efforts):
            found[g, i] = [float(oracles.score(game, m, float(effort))) for m in range(n)]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_exact(kind, dtype):
    games = random_games(1, 6, 3, kind, dtype)
    efforts = np.array([0, 0.5, 30, 4e4, 1e9], dtype)
    curves = tbtjax.power_law(*(games[k] for k in ("alpha", "beta", "lower", "upper")))
    found = np.asarray(ask(curves, "score", efforts[:, None, None]).swapaxes(0, 1))
    assert found.dtype == dtype
    expected = exact_scores(games, efforts)
    # A logit z is right to a few units in the last place of its parts; then v = l + (u − l)·σ(z).
    parts = np.abs(games["alpha"]) + np.abs(games["beta"]) * np.log1p(float(efforts[-1]))
    share = (expected - games["lower"][..., None, :]) if games["lower"].ndim else expected
    size = np.abs(expected) + share * parts[:, None, :]
    assert np.all(np.abs(found - expected) <= 4 * float(np.finfo(dtype).eps) * size)


def test_scores_keep_their_digits_down_to_tiny_odds(dtype):
    curves = tbtjax.power_law(np.array([-60.0], dtype), np.array([0.5], dtype))
    for effort, odds in ((0, -60), (np.expm1(20), -50)):
        score = ask(curves, "score", dtype.type(effort))
        assert float(score[0]) == pytest.approx(np.exp(odds), rel=1e-4)


@pytest.mark.parametrize("kind", ["equal_limits", "different_limits"])
def test_effort_and_score_undo_each_other(kind, dtype):
    games = random_games(2, 2_000, 4, kind, dtype)
    curves = tbtjax.power_law(*(games[k] for k in ("alpha", "beta", "lower", "upper")))
    effort = np.random.default_rng(3).uniform(0, 6, (2_000, 4)).astype(dtype)
    effort = np.expm1(effort)
    score = np.asarray(ask(curves, "score", effort))
    # One unit in the last place of a score is an effort of so many steps.
    unit = np.spacing(score)
    width = games["upper"] - games["lower"]
    share = (score - games["lower"]) / width
    slope = width * share * (1 - share) * games["beta"] / (1 + effort)
    back = np.asarray(ask(curves, "effort_to_reach", score))
    usable = slope * effort / unit > 100
    assert usable.mean() > 0.8
    logit = np.abs(games["alpha"]) + games["beta"] * np.log1p(effort)
    rounding = 4 * float(np.finfo(dtype).eps) * (1 + effort) * (1 + (1 + logit) / games["beta"])
    slack = 4 * unit / slope + rounding
    assert np.all(np.abs(back - effort)[usable] <= slack[usable])
    assert back.dtype == dtype


def test_effort_to_reach_is_exact(x64):
    games = random_games(4, 20, 3, "different_limits")
    curves = tbtjax.power_law(*(games[k] for k in ("alpha", "beta", "lower", "upper")))
    targets = np.linspace(0.02, 0.98, 25)
    found = np.asarray(ask(curves, "effort_to_reach", targets[:, None, None]))
    for g in range(20):
        game = oracles.single_game(games, g)
        for i, target in enumerate(targets):
            for m in range(3):
                expected = oracles.effort_to_reach(game, m, target)
                if not oracles.exact.isfinite(expected) or expected > 1e300:
                    assert np.isinf(found[i, g, m])
                else:
                    expected = float(expected)
                    parts = (abs(games["alpha"][g, m]) + 40) / games["beta"][g, m]
                    slack = 1e-16 * parts * (1 + expected)
                    near = abs(target - games["upper"][g, m]) < 1e-3
                    assert near or abs(found[i, g, m] - expected) <= 16 * slack


def power_law_of(dtype, *parameters):
    return tbtjax.power_law(*(np.array([x], dtype) for x in parameters))


@pytest.mark.parametrize(
    ("beta", "limit"), [(0.8, 0.9), (-0.8, 0.2), (0.0, 0.2 + 0.7 / (1 + np.exp(-1.5)))]
)
def test_limits(beta, limit, dtype):
    curves = power_law_of(dtype, 1.5, beta, 0.2, 0.9)
    eps = float(np.finfo(dtype).eps)
    assert ask(curves, "limit") == pytest.approx(limit, rel=2 * eps)
    far = ask(curves, "score", dtype.type(1e30))
    assert far == pytest.approx(limit, rel=4 * eps)


@pytest.mark.parametrize("beta", [0.0, -0.4])
def test_curves_that_do_not_rise_reach_only_what_they_start_with(beta, dtype, optimized):
    curves = power_law_of(dtype, 1.0, beta, 0.1, 0.9)
    start = np.asarray(ask(curves, "score", dtype.type(0)))
    scores = np.array([start, start - dtype.type(0.3), start + dtype.type(0.01), curves.upper])
    assert scores.dtype == dtype
    found = ask(curves, "effort_to_reach", scores)
    assert found[:, 0].tolist() == [0, 0, np.inf, np.inf]


def test_effort_to_reach_at_the_edges(dtype):
    curves = power_law_of(dtype, 0.0, 1.0, 0.25, 0.75)
    # Below the lower limit and at the start: nothing to do. At and above the upper limit: never.
    scores = np.array([0.0, 0.25, 0.5, 0.625, 0.75, 0.9], dtype)
    found = ask(curves, "effort_to_reach", scores)
    assert found.tolist() == pytest.approx(
        [0, 0, 0, 2, np.inf, np.inf], rel=8 * float(np.finfo(dtype).eps)
    )


def test_saturated_scores_are_at_the_limit_and_never_nan(dtype):
    curves = power_law_of(dtype, 200.0, 1.0, 0.0, 0.9)
    found = ask(curves, "score", np.array([0.0, 1e30, np.inf], dtype))
    np.testing.assert_array_equal(found, dtype.type(0.9))
    assert np.isinf(ask(curves, "effort_to_reach", np.array(0.95, dtype)))


def test_efforts_have_finite_gradients_beside_the_unreachable(dtype):
    curves = tbtjax.power_law(
        np.array([0.0, 0.0, 1.0, 0.0], dtype),
        np.array([1.0, 1.0, -1.0, 0.0], dtype),
        dtype.type(0),
        np.array([1.0, 0.4, 1.0, 1.0], dtype),
    )

    def total(curves, score):
        effort = curves.effort_to_reach(score)
        return jnp.sum(jnp.where(jnp.isfinite(effort), effort, 0))

    gradient, by_score = jax.jit(jax.grad(total, (0, 1)))(curves, np.array(0.8, dtype))
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
    # 1 + e = odds·exp(−α): dE/ds = 1/(s(1 − s))·(1 + e) of the one that reaches it.
    assert by_score == pytest.approx(4 / 0.16, rel=64 * float(np.finfo(dtype).eps))
    assert gradient.alpha.tolist() == pytest.approx(
        [-4, 0, 0, 0], rel=64 * float(np.finfo(dtype).eps)
    )


def test_rivals_stack_in_front(dtype):
    games = random_games(5, 3, 4, "different_limits", dtype)
    curves = tbtjax.power_law(*(games[k] for k in ("alpha", "beta", "lower", "upper")))
    scores = np.random.default_rng(6).uniform(0.2, 0.9, (5, 2, 3, 4)).astype(dtype)
    found = np.asarray(ask(curves, "effort_to_reach", scores))
    assert found.shape == scores.shape
    for index in np.ndindex(5, 2):
        alone = ask(curves, "effort_to_reach", scores[index])
        np.testing.assert_array_equal(found[index], alone)
    assert ask(curves, "score", scores).shape == scores.shape


def test_power_law_keeps_the_shapes_it_is_given():
    curves = tbtjax.power_law(np.zeros((5, 3)), 0.5, np.zeros((5, 1)), 1.0)
    assert [x.shape for x in jax.tree.leaves(curves)] == [(5, 3), (), (5, 1), ()]
    assert curves.batch_shape == (5,) and curves.num_models == 3
    assert curves.has_equal_limits
    assert not tbtjax.power_law(np.zeros(3), 1.0, np.zeros(3)).has_equal_limits
    assert tbtjax.power_law([0.0], [1.0], [0.0], [1.0]).has_equal_limits


def test_power_law_dtypes(x64):
    narrow, wide = np.zeros(2, np.float32), np.zeros(2)
    for arguments, expected in [
        ((narrow, 1.0), np.float32),
        ((narrow, 1), np.float32),
        ((narrow, wide), np.float64),
        ((narrow, np.arange(2)), np.float32),
        (([0.0, 1.0], 1.0), np.float64),
        ((narrow.astype(np.float16), 1.0), np.float16),
    ]:
        leaves = jax.tree.leaves(tbtjax.power_law(*arguments))
        assert {x.dtype for x in leaves} == {np.dtype(expected)}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("steep", 1.0), TypeError, "alpha must be an array of real numbers; got 'steep'"),
        (([1.0], None), TypeError, "beta must be an array of real numbers; got None"),
        (([1.0], [True]), TypeError, "beta must be an array of real numbers; got dtype bool"),
        (([1j], 1.0), TypeError, "alpha must be an array of real numbers; got dtype complex"),
        (
            (np.zeros(3), np.zeros(2)),
            ValueError,
            r"shapes do not broadcast: alpha \(3,\), beta \(2,\).* expected the last axis",
        ),
    ],
)
def test_power_law_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        tbtjax.power_law(*arguments)


# ---------------------------------------------------------------------------------------------
# Measured points
# ---------------------------------------------------------------------------------------------


def measured(seed, count, points, dtype, *, rising=False):
    """Efforts and scores `[count, points]` in quarters and eighths, so that plateaus occur."""
    rng = np.random.default_rng(seed)
    gaps = rng.integers(1, 9, (count, points)) / 4
    efforts = np.cumsum(gaps, axis=-1) - gaps[:, :1]
    scores = rng.integers(0, 9, (count, points)) / 8
    if rising:
        scores = np.sort(scores, axis=-1)
    return efforts.astype(dtype), scores.astype(dtype)


def test_tabulated_scores_are_numpys_interpolation(dtype):
    efforts, scores = measured(7, 40, 6, dtype)
    curves = tbtjax.tabulated(efforts, scores)
    asked = np.linspace(0, 15, 61, dtype=dtype)
    found = np.asarray(ask(curves, "score", asked[:, None]))
    assert found.dtype == dtype and found.shape == (61, 40)
    for m in range(40):
        expected = np.interp(asked, efforts[m], scores[m])
        np.testing.assert_allclose(found[:, m], expected, atol=2 * float(np.finfo(dtype).eps))
    np.testing.assert_array_equal(ask(curves, "limit"), scores[:, -1])


def test_shared_efforts_are_those_of_every_model(dtype):
    efforts, scores = measured(8, 5, 4, dtype)
    shared = tbtjax.tabulated(efforts[0], scores)
    apart = tbtjax.tabulated(np.broadcast_to(efforts[0], (5, 4)), scores)
    asked = np.array([0, 0.6, 2.5, 70], dtype)[:, None]
    np.testing.assert_array_equal(ask(shared, "score", asked), ask(apart, "score", asked))
    assert shared.num_models == 5 and shared.batch_shape == ()


def test_padding_is_as_if_it_were_not_there(dtype, optimized):
    efforts, scores = measured(9, 30, 5, dtype)
    nan = np.full((30, 2), np.nan, dtype)
    short = tbtjax.tabulated(efforts, scores)
    padded = [
        tbtjax.tabulated(np.append(efforts, nan, -1), np.append(scores, nan, -1)),
        # A score is missing where the effort is known.
        tbtjax.tabulated(
            np.append(efforts, efforts[:, -1:] + [1, 2], -1).astype(dtype),
            np.append(scores, nan, -1),
        ),
    ]
    asked = np.linspace(0, 20, 23, dtype=dtype)[:, None]
    targets = np.linspace(0, 1.1, 23, dtype=dtype)[:, None]
    start = dtype.type(1.5)

    @jax.jit
    def answers(curves):
        found = curves.score(asked), curves.effort_to_reach(targets), curves.limit()
        found += curves.effort_to_exceed(targets, start), curves.best_score(start, asked)
        return found, [problem.bad for problem in curves.problems()]

    expected, _ = answers(short)
    for long in padded:
        found, bad = answers(long)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        assert not any(np.any(x) for x in bad)


def first_efforts(efforts, scores, target, start, strictly, rounding):
    """inf{x ≥ start : v(x) ≥ or > target} of one curve, by its segments one after another.

    All values are exact. Where rounding hides whether the curve is there at the start already, both
    answers are right: a falling curve that has just left the target reaches it much later.
    """

    def meets(value):
        return value > target if strictly else value >= target

    now = np.interp(start, efforts, scores)
    unclear = 0 < abs(now - target) <= rounding
    if meets(now) and not unclear:
        return [start]
    later = np.inf
    for x0, x1, s0, s1 in zip(efforts, efforts[1:], scores, scores[1:], strict=False):
        if x1 > start and meets(s1):
            # The first segment that ends high enough begins too low: it crosses the target.
            later = max(x0 + (x1 - x0) * (target - s0) / (s1 - s0), start)
            break
    return [start, later] if unclear else [later]


@pytest.mark.parametrize("strictly", [False, True], ids=["reach", "exceed"])
@pytest.mark.parametrize("rising", [False, True], ids=["falling", "rising"])
def test_first_effort_is_that_of_a_walk_along_the_curve(strictly, rising, dtype):
    efforts, scores = measured(10, 60, 6, dtype, rising=rising)
    curves = tbtjax.tabulated(efforts, scores)
    eps = float(np.finfo(dtype).eps)
    # Eighths hit plateaus and points; thirds fall between.
    targets = np.concatenate([np.arange(-1, 10) / 8, np.arange(1, 6) / 6]).astype(dtype)
    for start in np.array([0, 0.25, 1.1, 4, 30], dtype):
        method = "effort_to_exceed" if strictly else "effort_to_reach"
        found = np.asarray(ask(curves, method, targets[:, None], start))
        assert found.dtype == dtype
        for i, m in np.ndindex(found.shape):
            curve = (x[m].astype(float) for x in (efforts, scores))
            right = first_efforts(*curve, float(targets[i]), float(start), strictly, 2 * eps)
            assert any(found[i, m] == pytest.approx(x, rel=16 * eps) for x in right)


def test_a_plateau_is_reached_at_its_begin_and_exceeded_at_its_end(dtype):
    curves = tbtjax.tabulated(
        np.array([0, 1, 3, 4], dtype), np.array([[0.25, 0.5, 0.5, 0.75]], dtype)
    )

    def effort(method, score, start):
        return float(ask(curves, method, dtype.type(score), dtype.type(start))[0])

    assert effort("effort_to_reach", 0.5, 0) == 1
    assert effort("effort_to_exceed", 0.5, 0) == 3
    assert effort("effort_to_exceed", 0.5, 2) == 3
    assert effort("effort_to_reach", 0.5, 2) == 2
    # The last plateau never ends.
    assert effort("effort_to_reach", 0.75, 0) == 4
    assert effort("effort_to_exceed", 0.75, 0) == np.inf


def test_best_score_is_the_best_on_the_way(dtype):
    efforts, scores = measured(11, 50, 6, dtype)
    curves = tbtjax.tabulated(efforts, scores)
    for start, budget in [(0, 0), (0.0, 3.1), (1.3, 0.2), (2, 50), (30, 1)]:
        found = np.asarray(ask(curves, "best_score", dtype.type(start), dtype.type(budget)))
        for m in range(50):
            inside = (efforts[m] >= start) & (efforts[m] <= start + budget)
            way = np.concatenate([efforts[m][inside], [start, start + budget]]).astype(dtype)
            expected = np.interp(way, efforts[m], scores[m]).max()
            assert found[m] == pytest.approx(expected, rel=8 * float(np.finfo(dtype).eps))


def test_a_weak_model_passes_on_the_way_to_a_worse_score(dtype):
    """MODEL: .4, .7, .3 at 0, 5, 10 against .5 passes it after 1.67 steps."""
    curves = tbtjax.tabulated(
        np.array([0, 5, 10], dtype), np.array([[0.5, 0.5, 0.5], [0.4, 0.7, 0.3]], dtype)
    )
    game = tbtjax.ranking_game(curves, [1.0, 0.0], tbtjax.linear_cost(0.1))
    effort = tbtjax.just_overtake_effort(game, 0.0)
    assert effort[0] == pytest.approx(5 / 3, rel=8 * float(np.finfo(dtype).eps))
    assert ask(curves, "best_score", dtype.type(0), dtype.type(10))[1] == dtype.type(0.7)
    assert not tbtjax.is_zero_effort_pne(game, 0.0)


def test_tabulated_stacks_rivals_in_front(dtype):
    efforts, scores = measured(12, 6, 4, dtype)
    curves = tbtjax.tabulated(efforts.reshape(2, 3, 4), scores.reshape(2, 3, 4))
    assert curves.batch_shape == (2,) and curves.num_models == 3
    asked = np.random.default_rng(13).uniform(0, 1, (5, 4, 2, 3)).astype(dtype)
    for method in ("score", "effort_to_reach"):
        found = np.asarray(ask(curves, method, asked))
        assert found.shape == asked.shape
        for index in np.ndindex(5, 4):
            np.testing.assert_array_equal(found[index], ask(curves, method, asked[index]))


@pytest.mark.parametrize(
    ("efforts", "scores", "argument", "index"),
    [
        ([1, 2, 3], [[0.1, 0.2, 0.3]] * 2, "efforts must be 0 at the first point", 0),
        ([0, 2, 2], [[0.1, 0.2, 0.3]] * 2, "efforts must be rising", 0),
        (
            [0, 1, 2],
            [[0.1, np.nan, 0.3], [0.1] * 3],
            "scores must be finite, NaN only at the end",
            0,
        ),
        ([0, 1, 2], [[0.5, 0.9, 0.9], [0.1, np.inf, np.inf]], "scores must be finite", 1),
    ],
)
def test_unusable_points_are_named(efforts, scores, argument, index):
    curves = tbtjax.tabulated(efforts, scores)
    game = tbtjax.ranking_game(curves, np.zeros(len(scores)), tbtjax.linear_cost(1.0))
    with pytest.raises(ValueError, match=rf"{argument}.* first at index \({index},\)"):
        tbtjax.validate(game)


@pytest.mark.parametrize(
    ("efforts", "scores", "message"),
    [
        ([0.0, 1.0], [0.1, 0.2], r"got shapes \(2,\) and \(2,\)"),
        (0.0, [[0.1]], r"got shapes \(1, 1\) and \(\)"),
        ([], np.zeros((2, 0)), "with one point or more"),
        ([0.0, 1.0], [[0.1, 0.2, 0.3]], "do not broadcast: efforts"),
        ([0.0], [[0.1, 0.2]], "same number of points; got 1 and 2"),
    ],
)
def test_tabulated_errors(efforts, scores, message):
    with pytest.raises(ValueError, match=message):
        tbtjax.tabulated(efforts, scores)


def test_one_point_is_a_constant_curve(dtype):
    curves = tbtjax.tabulated(np.zeros(1, dtype), np.array([[0.5], [0.4]], dtype))
    assert ask(curves, "score", dtype.type(9)).tolist() == ask(curves, "limit").tolist()
    assert ask(curves, "effort_to_reach", dtype.type(0.45)).tolist() == [0, np.inf]
    # An unassailable lead: the zero profile is an equilibrium at once.
    game = tbtjax.ranking_game(curves, [1.0, 0.0], tbtjax.linear_cost(0.1))
    assert np.isinf(tbtjax.just_overtake_effort(game, 0.0)[0])
    assert tbtjax.stabilizing_threshold(game).delta == 0


# ---------------------------------------------------------------------------------------------
# A family of one's own
# ---------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hill:
    """The power law with limits 0 and 1 as a Hill curve: x^β/(h + x^β) with x = 1 + e."""

    half: jax.Array
    beta: jax.Array

    def score(self, effort):
        power = (1 + effort) ** self.beta
        return power / (self.half + power)

    def effort_to_reach(self, score):
        inside = (score > 0) & (score < 1)
        odds = self.half * jnp.where(inside, score, 0.5) / (1 - jnp.where(inside, score, 0.5))
        effort = jnp.maximum(odds ** (1 / self.beta) - 1, 0)
        return jnp.where(inside, effort, jnp.where(score <= 0, 0, jnp.inf))

    def limit(self):
        return jnp.ones_like(self.half)


@pytest.fixture
def twins(x64):
    """The same games, of moderate scores, with a family of one's own and with power laws."""
    rng = np.random.default_rng(14)
    alpha = -np.sort(-rng.uniform(-1, 2, (40, 3)), axis=-1)
    beta = -np.sort(-rng.uniform(0.3, 1.2, (40, 3)), axis=-1)
    rewards = np.array([30.0, 12.0, 0.0]) * rng.uniform(0.3, 3, (40, 1))
    cost = tbtjax.linear_cost(1.0)
    power_law = tbtjax.ranking_game(tbtjax.power_law(alpha, beta), rewards, cost)
    own = tbtjax.ranking_game(Hill(jnp.exp(-alpha), jnp.asarray(beta)), rewards, cost)
    return own, power_law


def test_protocol():
    assert isinstance(tbtjax.power_law([0.0], [1.0]), CurveFamily)
    assert isinstance(tbtjax.tabulated([0.0], [[1.0]]), CurveFamily)
    assert isinstance(Hill(jnp.ones(2), jnp.ones(2)), CurveFamily)
    assert isinstance(tbtjax.power_law([0.0], [1.0]), PowerLaw)
    assert isinstance(tbtjax.tabulated([0.0], [[1.0]]), Tabulated)


def test_own_family_has_the_efforts_of_the_same_power_law(twins):
    own, power_law = twins
    assert own.batch_shape == (40,) and own.num_models == 3
    for delta in (0.0, 2.5, 80.0):
        for function in (tbtjax.just_overtake_effort, tbtjax.overtake_effort):
            found, expected = function(own, delta), function(power_law, delta)
            assert np.all(np.asarray(expected) >= 0)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            tbtjax.baseline_scores(own, delta), tbtjax.baseline_scores(power_law, delta), rtol=1e-14
        )


def test_own_family_has_the_verdicts_of_the_same_power_law(twins):
    own, power_law = twins
    levels = np.geomspace(0.1, 1e3, 40)[:, None]
    for deviations in ("all", "adjacent"):
        found = tbtjax.is_zero_effort_pne(own, levels, deviations)
        expected = tbtjax.is_zero_effort_pne(power_law, levels, deviations)
        assert 0.1 < np.mean(expected) < 0.95
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("deviations", ["all", pytest.param("adjacent", marks=pytest.mark.slow)])
def test_own_family_has_the_thresholds_of_the_same_power_law(deviations, twins):
    found, expected = (tbtjax.stabilizing_threshold(game, deviations) for game in twins)
    np.testing.assert_array_equal(found.pair, expected.pair)
    np.testing.assert_array_equal(found.rival, expected.rival)
    for name in ("delta", "by_pair"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-8)


def test_own_family_under_jit_and_in_one_game(twins):
    own, _ = twins
    found = jax.jit(tbtjax.just_overtake_effort)(own, 2.0)
    np.testing.assert_array_equal(found, tbtjax.just_overtake_effort(own, 2.0))
    one = jax.tree.map(lambda x: x[0] if x.ndim else x, own)
    np.testing.assert_allclose(tbtjax.just_overtake_effort(one, 2.0), found[0], rtol=1e-14)


def test_own_family_with_nan_is_invalid(twins):
    own, _ = twins
    curves = dataclasses.replace(own.curves, half=own.curves.half.at[1, 0].set(jnp.nan))
    game = dataclasses.replace(own, curves=curves)
    with pytest.raises(ValueError, match=r"curves must be without NaN.* first at index \(1, 0\)"):
        tbtjax.validate(game)
    status = tbtjax.stabilizing_threshold(game).status_names()
    assert np.flatnonzero(np.asarray(status) == "INVALID").tolist() == [1]
