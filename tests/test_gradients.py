"""Derivatives of Δ* and of just-overtake efforts against float64 central differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_games import KINDS, random_games
from scipy.optimize import brentq

import tbtjax
from tbtjax import just_overtake_effort, linear_cost, power_law, ranking_game
from tbtjax.threshold import threshold_of_few

PARAMETERS = ("alpha", "beta", "lower", "upper", "rewards", "cost_rate")


def threshold_of(parameters):
    alpha, beta, lower, upper, rewards, rate = parameters
    game = ranking_game(power_law(alpha, beta, lower, upper), rewards, linear_cost(rate))
    return tbtjax.stabilizing_threshold(game)


FIELDS = ("delta", "upper", "settled")


@jax.jit
def levels_and_gradients(parameters):
    """y = log(1 + level), of the same size in every class, `[fields, games]`; gradients by field.

    A field's gradient is that of the sum of its finite levels.
    """

    def of_fields(parameters):
        threshold = threshold_of(parameters)
        y = jnp.log1p(jnp.stack([getattr(threshold, name) for name in FIELDS]))
        return jnp.where(jnp.isfinite(y), y, 0), y

    finite, pullback, y = jax.vjp(of_fields, parameters, has_aux=True)
    ones = jnp.eye(len(FIELDS))[:, :, None] * jnp.ones_like(finite)
    return y, jax.vmap(lambda row: pullback(row)[0])(ones)


def levels(parameters):
    return np.asarray(levels_and_gradients(parameters)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_matches_central_differences(kind, x64):
    """Along a random direction per game; kinks and tangencies within the step are left out."""
    count = 200
    games = random_games(5, count, 4, kind)
    # A cost rate that is one for all models moves as one: alone, some are at a kink.
    moves = {name: x.shape for name, x in games.items()}
    games["cost_rate"] = np.broadcast_to(games["cost_rate"], (count, 4))
    parameters = tuple(jnp.asarray(games[name]) for name in PARAMETERS)
    value, found = jax.tree.map(np.asarray, levels_and_gradients(parameters))
    assert all(np.all(np.isfinite(x)) for x in found)
    rng = np.random.default_rng(6)
    checked = np.zeros(len(FIELDS), int)
    for which, name in enumerate(PARAMETERS):
        x = parameters[which]
        if x.ndim < 2:
            continue  # shared by all games: its own test below
        scale = np.maximum(np.abs(x), 1e-3 if name in ("lower", "upper") else 0.0)
        move = rng.normal(size=moves[name]) * scale * 1e-6
        estimates = []
        for factor in (1.0, 2.0):
            ends = [
                levels((*parameters[:which], x + sign * factor * move, *parameters[which + 1 :]))
                for sign in (1, -1)
            ]
            with np.errstate(invalid="ignore"):
                estimates.append((ends[0] - ends[1]) / (2 * factor))
        expected = np.sum(found[which] * move, axis=-1)
        # Where two step sizes disagree, a kink, a tangency or rounding is in the way.
        with np.errstate(invalid="ignore"):
            spread = np.abs(estimates[0] - estimates[1])
            noise = 1e-13 * (1 + np.where(np.isfinite(value), value, 0))
            usable = np.isfinite(value) & (value > 0) & np.isfinite(estimates[0])
            usable &= spread <= 1e-5 * np.abs(estimates[0]) + noise
            usable &= np.abs(estimates[0]) > 1e5 * noise
        np.testing.assert_allclose(expected[usable], estimates[0][usable], rtol=2e-4)
        checked += usable.sum(axis=-1)
        # Where a level is 0 or +inf, nothing moves it.
        still = ~np.isfinite(value) | (value == 0)
        assert np.all(found[which][still] == 0)
    moving = np.mean((value > 0) & np.isfinite(value), axis=-1)
    assert np.all((checked > 20) | (moving < 0.2)), (kind, checked, moving)


@pytest.mark.parametrize("kinds", ["equal", "different"])
def test_derivatives_do_not_depend_on_the_road(kinds, dtype, many_chunks):
    """Each road works out how its level moves: fast ones beside the complete one, by game."""

    def of_deltas(threshold, parameters):
        def deltas(*parameters):
            alpha, beta, lower, upper, rewards, rate = parameters
            curves = power_law(alpha, beta, lower, upper)
            game = ranking_game(curves, rewards, linear_cost(rate))
            return threshold(game, deviations="all").delta

        value, pullback = jax.vjp(deltas, *parameters)
        return value, pullback(jnp.ones_like(value))

    by_roads, completely = (
        jax.jit(functools.partial(of_deltas, threshold))
        for threshold in (tbtjax.stabilizing_threshold, threshold_of_few)
    )
    bound = {"float64": 1e-10, "float32": 5e-3}[dtype.name]
    moving = 0
    for kind in KINDS:
        games = random_games(8, 500, 4, kind)
        if (games["lower"].ndim == 2) != (kinds == "different"):
            continue
        games["cost_rate"] = np.broadcast_to(games["cost_rate"], (500, 4))
        parameters = [jnp.asarray(games[name], dtype) for name in PARAMETERS]
        value, found = jax.tree.map(np.asarray, by_roads(parameters))
        same, expected = jax.tree.map(np.asarray, completely(parameters))
        np.testing.assert_array_equal(np.isfinite(value), np.isfinite(same))
        for x, y in zip(found, expected, strict=True):
            assert np.all(np.isfinite(x))
            if x.ndim == 2:
                largest = np.max(np.abs(y), axis=-1, keepdims=True)
                assert np.all(np.abs(x - y) <= bound * largest), (kind, np.abs(x - y).max())
                moving += np.sum(largest > 0)
    assert moving > 1000


@pytest.mark.slow
def test_shared_parameters_collect_every_game(x64):
    games = random_games(7, 50, 4, "equal_limits")

    @jax.jit
    @jax.value_and_grad
    def total(rate):
        curves = power_law(games["alpha"], games["beta"])
        game = ranking_game(curves, games["rewards"], linear_cost(rate))
        return jnp.sum(jnp.log1p(tbtjax.stabilizing_threshold(game).delta))

    step = 1e-6
    expected = (total(1 + step)[0] - total(1 - step)[0]) / (2 * step)
    np.testing.assert_allclose(total(1.0)[1], expected, rtol=1e-6)


def test_closed_form_of_the_sensitivities(x64):
    """MODEL, sensitivity of Δ*: equal limits, at the binding pair."""
    alpha, beta, g = np.array([2.0, 0.5]), np.array([0.9, 0.7]), 300.0
    rewards = np.array([g, 0.0])

    def delta(alpha, beta, rewards):
        return threshold_of((alpha, beta, 0.0, 1.0, rewards, 1.0)).delta

    y, gradients = jax.jit(jax.value_and_grad(delta, (0, 1, 2)))(alpha, beta, rewards)
    in_alpha, in_beta, in_rewards = gradients
    y = 1 + y
    x, rho = y + g, beta[1] / beta[0]
    f = x / (rho * y) - 1
    np.testing.assert_allclose(in_alpha, [-x / (beta[1] * f), x / (beta[1] * f)], rtol=1e-12)
    expected = [-x * np.log(y) / (beta[1] * f), x * np.log(x) / (beta[1] * f)]
    np.testing.assert_allclose(in_beta, expected, rtol=1e-12)
    np.testing.assert_allclose(in_rewards, [1 / f, -1 / f], rtol=1e-12)


@pytest.mark.parametrize("gap", [1e28, 1e30, 1e33])
def test_a_large_threshold_moves_with_the_rewards(gap):
    """In float32, Δ* up to 5e37: what moves it by a number of the dtype has that derivative.

    With α equal and β = 1 + m and 1 the level solves m·y = log(1 + q), q = g·e^{−y}, from which
    dΔ*/dg = 1/(m·(1 + q) + q).
    """
    beta = np.array([1.0000002, 1.0], np.float32)
    m, g = float(beta[0]) - 1, float(np.float32(gap))
    y = brentq(lambda y: m * y - np.log1p(g * np.exp(-y)), 0, 100, xtol=1e-13)
    q = g * np.exp(-y)

    def delta(gap):
        rewards = jnp.stack([gap, jnp.zeros_like(gap)])
        game = ranking_game(power_law(jnp.zeros(2, beta.dtype), beta), rewards, linear_cost(1.0))
        return tbtjax.stabilizing_threshold(game).delta

    value, slope = jax.value_and_grad(delta)(jnp.float32(gap))
    np.testing.assert_allclose(value, np.expm1(y), rtol=1e-3)
    np.testing.assert_allclose(slope, 1 / (m * (1 + q) + q), rtol=1e-3)


@pytest.mark.parametrize(
    "limits",
    [
        (0.0, 1.0),
        pytest.param(([0.1, 0.1, 0.08], [0.95, 0.93, 0.9]), marks=pytest.mark.slow),
    ],
)
def test_hessian_is_finite_and_is_the_difference_of_gradients(limits, x64):
    rewards = np.array([120.0, 50.0, 0.0])
    lower, upper = (np.asarray(x) for x in limits)

    def squared(curves):
        """What is made of Δ* counts too: half of its Hessian comes from how Δ* itself moves."""
        alpha, beta = curves[:3], curves[3:]
        return threshold_of((alpha, beta, lower, upper, rewards, 1.0)).delta ** 2

    curves = jnp.array([2.0, 1.0, 0.0, 1.1, 1.0, 0.9])
    hessian_and_gradient = jax.jit(jax.jacfwd(lambda x: (jax.grad(squared)(x),) * 2, has_aux=True))
    hessian, _ = hessian_and_gradient(curves)
    assert np.all(np.isfinite(hessian))
    step = 1e-5
    for i in range(len(curves)):
        above, below = (hessian_and_gradient(curves.at[i].add(sign * step))[1] for sign in (1, -1))
        difference = above - below
        np.testing.assert_allclose(hessian[i], difference / (2 * step), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_other_fields_are_differentiable(x64):
    """`upper`, `settled` and `by_pair` move as their own deciding pairs say."""
    lower, upper = np.array([0.12, 0.127]), np.array([0.931, 0.842])

    def fields(g):
        rewards = jnp.stack([g, jnp.zeros_like(g)])
        arguments = (
            np.array([-0.19, -2.467]),
            np.array([0.389, 1.103]),
            lower,
            upper,
            rewards,
            1.0,
        )
        threshold = threshold_of(arguments)
        return jnp.stack(
            [threshold.delta, threshold.upper, threshold.settled, threshold.by_pair[0]]
        )

    step = 1e-5
    slopes_and_fields = jax.jit(jax.jacrev(lambda g: (fields(g),) * 2, has_aux=True))
    above, below = (slopes_and_fields(10 + sign * step)[1] for sign in (1, -1))
    slopes, _ = slopes_and_fields(10.0)
    np.testing.assert_allclose(slopes, (above - below) / (2 * step), rtol=1e-5)


def test_overtake_gradients_are_finite_beside_infinities(x64):
    games = random_games(8, 300, 5, "out_of_reach")
    parameters = tuple(jnp.asarray(games[name]) for name in PARAMETERS[:4])

    @jax.jit
    def efforts_and_gradients(parameters):
        def total(parameters):
            game = ranking_game(power_law(*parameters), games["rewards"], linear_cost(1.0))
            effort = just_overtake_effort(game, 3.0)
            return jnp.sum(jnp.where(jnp.isfinite(effort), effort, 0)), effort

        (_, effort), gradients = jax.value_and_grad(total, has_aux=True)(parameters)
        return effort, gradients

    effort, found = jax.tree.map(np.asarray, efforts_and_gradients(parameters))
    assert np.isinf(effort).any() and np.isfinite(effort).any()
    assert all(np.all(np.isfinite(x)) for x in found)


@jax.jit
def log_efforts(parameters, delta):
    """log(1 + e) for all pairs; +inf where there is no effort."""
    game = ranking_game(power_law(*parameters), 0.0, linear_cost(1.0))
    return jnp.log1p(tbtjax.overtake_effort(game, delta))


@jax.jit
def moved_efforts(parameters, delta, moves):
    return jax.jvp(lambda *p: log_efforts(p, delta), parameters, moves)


@pytest.mark.parametrize("kind", KINDS)
def test_overtake_efforts_match_central_differences(kind, x64):
    """Along a random direction in all parameters and the level at once, for every pair."""
    games = random_games(10, 200, 4, kind)
    shape = games["alpha"].shape
    # One program for limits shared by all models, one for others.
    parameters = tuple(
        jnp.asarray(np.broadcast_to(x, shape) if x.ndim else x)
        for x in (games[name] for name in PARAMETERS[:4])
    )
    rng = np.random.default_rng(11)
    delta = jnp.asarray(np.expm1(rng.uniform(0, 6, 200)))
    moves = tuple(rng.normal(size=x.shape) * np.maximum(np.abs(x), 1e-3) for x in parameters)
    if games["lower"].ndim == 0:  # shared limits move no effort
        moves = (*moves[:2], np.zeros(()), np.zeros(()))
    value, slope = moved_efforts(parameters, delta, moves)
    assert np.all(np.isfinite(slope))
    value, slope = np.asarray(value), np.asarray(slope)
    still = ~np.isfinite(value) | (value == 0)
    assert np.all(slope[still] == 0)
    ends = []
    for step in (1e-6, -1e-6, 2e-6, -2e-6):
        moved = tuple(x + step * move for x, move in zip(parameters, moves, strict=True))
        ends.append(np.asarray(log_efforts(moved, delta)))
    with np.errstate(invalid="ignore"):
        estimates = [(ends[0] - ends[1]) / 2e-6, (ends[2] - ends[3]) / 4e-6]
        # Where two step sizes disagree, an end of the reach or rounding is in the way.
        usable = np.isfinite(value) & (value > 0) & np.isfinite(estimates[0])
        usable &= np.abs(estimates[0] - estimates[1]) <= 1e-5 * np.abs(estimates[0])
    # Saturated models are out of reach or lost to rounding, most of them.
    assert usable.sum() > (10 if kind.startswith("saturated") else 100), usable.sum()
    np.testing.assert_allclose(slope[usable], estimates[0][usable], rtol=2e-4)


def test_absent_models_have_no_gradient(x64):
    games = random_games(9, 20, 5, "equal_limits")
    present = np.ones((20, 5), bool)
    present[:, 2] = False

    def total(alpha):
        game = ranking_game(
            power_law(alpha, games["beta"]),
            games["rewards"],
            linear_cost(games["cost_rate"]),
            present,
        )
        delta = tbtjax.stabilizing_threshold(game).delta
        return jnp.sum(jnp.where(jnp.isfinite(delta), jnp.log1p(delta), 0))

    alpha = games["alpha"].copy()
    alpha[:, 2] = np.nan
    found = jax.jit(jax.grad(total))(alpha)
    assert np.all(np.asarray(found)[:, 2] == 0)
    assert np.all(np.isfinite(found))
    assert np.any(np.asarray(found) != 0)
