"""The audit of assumptions against brute force, its own witnesses, and planted violations."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import oracles
import pytest
from marks import mostly_float32, mostly_float64
from random_games import KINDS, mixed_games, random_games

from tbtjax import (
    is_zero_effort_pne,
    linear_cost,
    piecewise_linear_cost,
    power_cost,
    power_law,
    quadratic_cost,
    ranking_game,
    tabulated,
    winner_take_all,
)
from tbtjax.assumptions import check_assumptions

INF = math.inf


#: Power laws of one shape where a test does not need its own: one compiled program for all.
GAMES, FEW, MODELS = 4000, 200, 3


def game_of(raw):
    limits = (np.broadcast_to(raw[name], raw["alpha"].shape) for name in ("lower", "upper"))
    curves = power_law(raw["alpha"], raw["beta"], *limits)
    return ranking_game(curves, raw["rewards"], linear_cost(raw["cost_rate"]))


def power_laws(alpha, beta, lower=0.0, upper=1.0, cost=None):
    """Games with limits of the same shape as the other parameters, so none is equal by shape."""
    alpha = np.asarray(alpha)
    beta, lower, upper = (
        np.broadcast_to(np.asarray(x, alpha.dtype), alpha.shape) for x in (beta, lower, upper)
    )
    cost = linear_cost(1.0) if cost is None else cost
    n = alpha.shape[-1]
    return ranking_game(power_law(alpha, beta, lower, upper), winner_take_all(n), cost)


def fails(report):
    """Names of the conditions that fail somewhere."""
    fields = [f.name for f in dataclasses.fields(report) if f.name[:2] in ("co", "c1", "c2", "c3")]
    return {name for name in fields if not np.all(getattr(report, name).holds)}


# --- Brute force in NumPy ------------------------------------------------------------------------


def odds_parts(model, effort):
    """Normalized score and what is left to 1, each with its own digits, `[..., efforts]`."""
    z = model["alpha"] + model["beta"] * np.log1p(effort)
    tail = np.exp(-np.abs(z))
    return np.where(z > 0, 1, tail) / (1 + tail), np.where(z > 0, tail, 1) / (1 + tail)


def slope_of(model, effort):
    """Derivative of the score in the effort."""
    p, q = odds_parts(model, effort)
    return (model["upper"] - model["lower"]) * model["beta"] * p * q / (1 + effort)


def lead(strong, weak, effort):
    """The stronger model's score minus the weaker's."""
    (p, q), (weak_p, weak_q) = odds_parts(strong, effort), odds_parts(weak, effort)
    width, weak_width = (m["upper"] - m["lower"] for m in (strong, weak))
    from_bottom = (strong["lower"] - weak["lower"]) + (width * p - weak_width * weak_p)
    from_top = (strong["upper"] - weak["upper"]) + (weak_width * weak_q - width * q)
    return np.where((q < 0.5) & (weak_q < 0.5), from_top, from_bottom)


def effort_to_match(strong, weak, effort, eps):
    """E(strong, v_weak(effort)), and what rounding in a dtype with `eps` may make of it."""
    p, q = odds_parts(weak, effort)
    width, weak_width = (m["upper"] - m["lower"] for m in (strong, weak))
    below, above = weak["lower"] - strong["lower"], strong["upper"] - weak["upper"]
    own_p, own_q = (below + weak_width * p) / width, (above + weak_width * q) / width
    start = strong["alpha"] + 0 * effort
    with np.errstate(all="ignore"):
        logit = np.where(own_q > 0, np.log(np.maximum(own_p, 0)) - np.log(own_q), INF)
        digits = 1 + np.abs(strong["alpha"]) + np.abs(strong["beta"]) * np.log1p(effort)
        digits = digits + np.abs(weak["alpha"]) + np.abs(logit)
        digits += (weak_width * p + np.abs(below)) / np.abs(width * own_p)
        digits += (weak_width * q + np.abs(above)) / np.abs(width * own_q)
        distance = (logit - start) / strong["beta"]
        rounding = 50 * eps * digits / np.abs(strong["beta"])
        reached = np.where(strong["beta"] > 0, np.expm1(distance), INF)
        error = (1 + reached) * np.expm1(rounding) + 50 * eps * (1 + reached)
    effort = np.where(logit <= start, 0, reached)
    unsure = np.abs(logit - start) <= 50 * eps * digits
    error = np.where(logit <= start, 0, error)
    return effort, np.where(unsure, INF, np.where(np.isinf(effort), 0, error))


def largest_fall(values, errors=0.0):
    """The largest certain fall along the last axis."""
    with np.errstate(invalid="ignore"):
        falls = np.maximum.accumulate(values - errors, axis=-1) - (values + errors)
    return np.max(np.where(np.isnan(falls), 0, falls), axis=-1)


def brute_gap_fall(strong, weak, top, eps, count=600):
    """C3 by its definition: the largest fall of E(weak, s) − E(strong, s) beyond rounding."""
    levels = np.linspace(0, 1, count) * np.log1p(top)
    effort = np.where(weak["beta"] > 0, np.expm1(levels), 0)
    matched, error = effort_to_match(strong, weak, effort, eps)
    # Scores that both models have from the start.
    gap = np.concatenate([np.zeros_like(matched[:, :1]), effort - matched], axis=-1)
    error = np.concatenate([np.zeros_like(matched[:, :1]), error + 50 * eps * effort], axis=-1)
    return largest_fall(gap, error)


def columns(raw, model):
    """One model's parameters, `[games, 1]` in float64."""
    shape = raw["alpha"].shape
    return {
        name: np.broadcast_to(raw[name], shape)[:, model, None].astype(np.float64)
        for name in ("alpha", "beta", "lower", "upper")
    }


def exact_gap_falls(strong, weak, top, count=300):
    """Whether E(weak, s) − E(strong, s) falls between neighbouring efforts of a grid, in mpmath."""
    with mpmath.workdps(60):
        (sa, sb, sl, su), (wa, wb, wl, wu) = (
            [mpmath.mpf(float(m[name])) for name in ("alpha", "beta", "lower", "upper")]
            for m in (strong, weak)
        )

        def gap(effort):
            score = wl + (wu - wl) / (1 + mpmath.exp(-wa - wb * mpmath.log1p(effort)))
            if score <= sl + (su - sl) / (1 + mpmath.exp(-sa)):
                return effort
            if score >= su or sb <= 0:
                return -mpmath.inf
            logit = mpmath.log((score - sl) / (su - score))
            return effort - mpmath.expm1((logit - sa) / sb)

        levels = [mpmath.log1p(float(top)) * i / (count - 1) for i in range(count)]
        highest = mpmath.mpf(0)
        for level in levels if wb > 0 else levels[:1]:
            now = gap(mpmath.expm1(level))
            if now < highest:
                return True
            highest = max(highest, now)
        return False


@mostly_float64
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_against_brute_force(kind, dtype):
    n, count = MODELS, FEW
    raw = random_games(11, count, n, kind, dtype=dtype)
    top = np.exp(np.random.default_rng(3).uniform(1, 15, count)).astype(dtype)
    report = check_assumptions(game_of(raw), top)
    assert report.c1.amount.dtype == dtype
    c1, c3, rising, concave = (
        jax.tree.map(np.asarray, x)
        for x in (report.c1, report.c3, report.c2_rising, report.c2_concave)
    )
    top = top.astype(np.float64)[:, None]
    effort = np.minimum(np.expm1(np.linspace(0, 1, 600) * np.log1p(top)), top)
    eps = float(jnp.finfo(dtype).eps)
    undecided = 0
    for weak in range(n):
        model = columns(raw, weak)
        width = model["upper"] - model["lower"]
        # C2: falls of the score and rises of its slope on the grid.
        p, _ = odds_parts(model, effort)
        fall = largest_fall(width * p, 1e-14 * width)
        np.testing.assert_array_equal(rising.fails[:, weak], model["beta"][:, 0] < 0)
        assert np.all(fall <= rising.amount[:, weak] * (1 + 100 * eps) + 100 * eps)
        slope = slope_of(model, effort)
        steepest = np.max(np.abs(slope), axis=-1)
        rise = largest_fall(-slope, 1e-13 * np.abs(slope))
        assert np.all(concave.fails[rise > 100 * eps * steepest, weak])
        assert np.all(rise <= concave.amount[:, weak] + 300 * eps * steepest)
        ends = np.stack([concave.start[:, weak], concave.end[:, weak]], axis=-1).astype(np.float64)
        witness = np.diff(slope_of(model, ends))[:, 0]
        found = concave.fails[:, weak]
        error = np.abs(witness - concave.amount[:, weak]) - 300 * eps * steepest
        assert np.all((error < 1e-3 * witness)[found])
        for strong in range(weak):
            pair = columns(raw, strong)
            # C1: at least what the grid shows, and true at the effort that is named.
            behind = np.max(-lead(pair, model, effort), axis=-1)
            found = c1.fails[:, weak, strong]
            assert np.all(found[behind > 100 * eps])
            amount = c1.amount[:, weak, strong].astype(np.float64)
            assert np.all(amount >= 0.9 * behind - 100 * eps)
            where = c1.start[found, weak, strong].astype(np.float64)[:, None]
            ahead = lead(*({k: v[found] for k, v in m.items()} for m in (pair, model)), where)
            np.testing.assert_allclose(amount[found], -ahead[:, 0], rtol=1e-3, atol=1000 * eps)
            # C3: at least what the grid shows; what it does not show is decided in mpmath.
            fall = brute_gap_fall(pair, model, top, eps)
            found = c3.fails[:, weak, strong]
            amount = c3.amount[:, weak, strong].astype(np.float64)
            assert np.all(found[fall > 0])
            assert np.all(amount >= fall * (1 - 1000 * eps))
            for i in np.flatnonzero(found & ~(fall > 0)):
                one = ({name: x[i, 0] for name, x in m.items()} for m in (pair, model))
                undecided += not exact_gap_falls(*one, top[i, 0])
    assert undecided <= 0.005 * count * n


# --- Curves and costs of one's own ---------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Exponential:
    """v = 1 − exp(−rate·(e + start))."""

    rate: jax.Array
    start: jax.Array

    def score(self, effort):
        return -jnp.expm1(-self.rate * (effort + self.start))

    def effort_to_reach(self, score):
        below = score < 1
        effort = -jnp.log1p(-jnp.where(below, score, 0)) / self.rate - self.start
        return jnp.where(below, jnp.maximum(effort, 0), jnp.inf)

    def limit(self):
        return jnp.ones_like(self.rate)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bent:
    """v = slope·e up to `bend`, and 1/2 of the slope beyond, without end; a cost and a curve."""

    slope: jax.Array
    bend: jax.Array

    def __call__(self, effort):
        return self.slope * (jnp.minimum(effort, self.bend) + effort) / 2

    def effort_worth(self, value):
        first = value / self.slope
        return jnp.where(first <= self.bend, first, 2 * first - self.bend)

    score = __call__
    effort_to_reach = effort_worth

    def limit(self):
        return jnp.full_like(self.slope, jnp.inf)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EntryFee:
    """c = fee + rate·e, also at e = 0 where `due_at_zero`."""

    fee: jax.Array
    rate: jax.Array
    due_at_zero: bool = dataclasses.field(metadata={"static": True})

    def __call__(self, effort):
        due = (effort > 0) | self.due_at_zero
        return jnp.where(due, self.fee, 0) + self.rate * effort

    def effort_worth(self, value):
        return jnp.maximum(value - self.fee, 0) / self.rate


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExponentialCost:
    """c = scale·(exp(e/steps) − 1)."""

    scale: jax.Array
    steps: jax.Array

    def __call__(self, effort):
        return self.scale * jnp.expm1(effort / self.steps)

    def effort_worth(self, value):
        return self.steps * jnp.log1p(jnp.maximum(value, 0) / self.scale)


# --- No false alarm ------------------------------------------------------------------------------

#: 100,000 games of each dtype in all, and a fifth of them in the usual run.
a_fifth_or_all = pytest.mark.parametrize(
    "share", [pytest.param(1 / 5, id="fifth"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)


def ordered_power_laws(rng, count, n, dtype, steepest=1.0):
    """Falling alpha, learning rates that never rise, `[count, n]`: C1, C3; C2 if steepest ≤ 1."""
    alpha = rng.uniform(-3, 6, (count, 1)) - np.cumsum(10 ** rng.uniform(-3, 0.5, (count, n)), -1)
    beta = -np.sort(-rng.uniform(0.02, steepest, (count, n)), axis=-1)
    beta = np.where(rng.random((count, 1)) < 0.2, beta[:, :1], beta)
    return alpha.astype(dtype), beta.astype(dtype)


def convex_costs(rng, count, dtype):
    scale = (10 ** rng.uniform(-3, 3, (count, 1))).astype(dtype)
    other = rng.uniform(0, 2, (count, 1)).astype(dtype)
    slopes = np.cumsum(rng.uniform(0, 1, (count, 1, 3)) * scale[..., None], axis=-1).astype(dtype)
    return [
        linear_cost(scale),
        power_cost(scale, 1 + other),
        quadratic_cost(scale, other),
        piecewise_linear_cost(np.array([10, 500], dtype), slopes),
        ExponentialCost(jnp.asarray(scale), jnp.asarray(100 + 1000 * other)),
    ]


def assert_clean(game, max_effort):
    report = check_assumptions(game, max_effort)
    assert fails(report) == set()
    assert np.all(report.valid)
    for check in (report.c1, report.c3, report.c2_concave, report.cost_convex):
        assert not np.any(check.fails)
        assert np.all(check.amount == 0)
        assert np.all(np.isnan(check.start))


@mostly_float32
@a_fifth_or_all
def test_equal_limits_that_satisfy_all(share, dtype):
    rng = np.random.default_rng(0)
    count = round(10_000 * share)
    for cost in convex_costs(rng, count, dtype):
        alpha, beta = ordered_power_laws(rng, count, 4, dtype)
        lower = rng.uniform(0, 0.5, (count, 1)).astype(dtype)
        present = rng.random((count, 4)) < 0.8
        # What absent models are like does not matter.
        alpha = np.where(present, alpha, rng.normal(size=(count, 4))).astype(dtype)
        beta = np.where(present, beta, rng.normal(size=(count, 4))).astype(dtype)
        curves = power_law(alpha, beta, lower, lower + np.float32(0.5))
        top = np.where(rng.random(count) < 0.5, INF, 1e5).astype(dtype)
        assert_clean(ranking_game(curves, winner_take_all(4), cost, present), top)


@pytest.mark.slow
@mostly_float64
@a_fifth_or_all
def test_different_limits_that_satisfy_all(share, dtype):
    """Accepted by brute force: order and growing gap on a fine grid, with a margin for what is
    between its efforts."""
    rng = np.random.default_rng(1)
    n, top = 3, 1e5
    effort = np.minimum(np.expm1(np.linspace(0, np.log1p(top), 200)), top)[None]
    games, count, wanted = [], 20_000, round(20_000 * share)
    for _ in range(round(5 * share) + 1):
        alpha, beta = ordered_power_laws(rng, count, n, dtype)
        lower, upper = (
            rng.uniform(low, high, (count, 1))
            - np.cumsum(rng.uniform(0, 0.02, (count, n)) * (rng.random((count, n)) < 0.7), -1)
            for low, high in ((0.1, 0.3), (0.7, 1.0))
        )
        raw = {"alpha": alpha, "beta": beta}
        raw |= {"lower": lower.astype(dtype), "upper": upper.astype(dtype)}
        good = np.ones(count, bool)
        for weak in range(1, n):
            strong, model = columns(raw, weak - 1), columns(raw, weak)
            good &= np.all(lead(strong, model, effort) > 1e-4, axis=-1)
            matched, _ = effort_to_match(strong, model, effort, 2.2e-16)
            with np.errstate(all="ignore"):
                growth = np.diff(effort) / np.diff(matched)
            good &= np.all((matched[:, 1:] == 0) | (growth > 1.1), axis=-1)
        games.append({name: x[good] for name, x in raw.items()})
    raw = {name: np.concatenate([g[name] for g in games]) for name in games[0]}
    assert len(raw["alpha"]) >= wanted
    clean = power_laws(**{name: x[:wanted] for name, x in raw.items()})
    assert_clean(clean, np.full(wanted, top, dtype))


def growing_gap_tables(rng, count, n, points, dtype):
    """Concave tables whose effort gaps grow: efforts at common scores, slower for weaker models.

    Returns:
      efforts and scores `[count, n, points]`.
    """
    # Model i starts at the score number n − 1 − i.
    levels = 0.2 + np.cumsum(rng.uniform(0.02, 0.08, (count, points + n)), axis=-1) * 0.6
    steps = np.cumsum(rng.uniform(0.1, 10, (count, points + n)), axis=-1)
    steps /= np.diff(levels, axis=-1, prepend=0.2)[:, :1] / np.diff(levels, axis=-1, prepend=0.2)
    steps = np.maximum.accumulate(steps / np.diff(levels, axis=-1, prepend=0.2), axis=-1)
    steps *= np.diff(levels, axis=-1, prepend=0.2)
    efforts, scores = np.zeros((count, n, points)), np.zeros((count, n, points))
    slower = np.cumprod(rng.uniform(1.01, 2, (count, n)), axis=-1)
    for model in range(n):
        first = n - 1 - model
        run = steps[:, first + 1 : first + points] * slower[:, model, None]
        efforts[:, model, 1:] = np.cumsum(run, axis=-1)
        scores[:, model] = levels[:, first : first + points]
    return efforts.astype(dtype), scores.astype(dtype)


@mostly_float32
@a_fifth_or_all
def test_tables_that_satisfy_all(share, dtype):
    rng = np.random.default_rng(2)
    count = round(15_000 * share)
    efforts, scores = growing_gap_tables(rng, count, 3, 6, dtype)
    top = np.where(rng.random(count) < 0.5, INF, 10 ** rng.uniform(0, 3, count)).astype(dtype)
    game = ranking_game(tabulated(efforts, scores), winner_take_all(3), linear_cost(1.0))
    assert_clean(game, top)


@pytest.mark.slow
@mostly_float64
@a_fifth_or_all
def test_curves_of_ones_own_that_satisfy_all(share, dtype):
    rng = np.random.default_rng(3)
    count = round(15_000 * share)
    rate = -np.sort(-(10 ** rng.uniform(-4, 0, (count, 2))), axis=-1)
    start = rng.uniform(0.1, 10, (count, 1)) / rate * np.array([1.0, 0.5])
    curves = Exponential(jnp.asarray(rate, dtype), jnp.asarray(start, dtype))
    game = ranking_game(curves, winner_take_all(2), linear_cost(1.0))
    top = np.where(rng.random(count) < 0.5, INF, 10 ** rng.uniform(0, 6, count)).astype(dtype)
    assert_clean(game, top)
    rate[1, 0] = np.nan
    curves = dataclasses.replace(curves, rate=jnp.asarray(rate, dtype))
    spoiled = check_assumptions(dataclasses.replace(game, curves=curves), top)
    np.testing.assert_array_equal(spoiled.valid, np.arange(count) != 1)


# --- Planted violations --------------------------------------------------------------------------


@mostly_float64
def test_planted_overtaking(dtype):
    """A weaker model that learns faster: found from the effort on at which it is ahead."""
    rng = np.random.default_rng(4)
    count, n = GAMES, MODELS
    alpha, beta = ordered_power_laws(rng, count, n, dtype, steepest=0.5)
    weak = rng.integers(1, n, count)
    rows = np.arange(count)
    crossing = 10 ** rng.uniform(1, 4, count)
    ahead = (alpha[rows, weak - 1] - alpha[rows, weak]).astype(np.float64)
    beta[rows, weak] = beta[rows, weak - 1] + ahead / np.log1p(crossing)
    game = power_laws(alpha, beta)
    crossing = np.expm1(ahead / (beta[rows, weak].astype(float) - beta[rows, weak - 1]))

    for reach in (0.9, 1.1, 1e3, INF):
        report = check_assumptions(game, (crossing * reach).astype(dtype))
        c1, c3 = report.c1, report.c3
        found = np.asarray(c1.fails)[rows, weak, weak - 1]
        assert np.all(found == (reach > 1))
        np.testing.assert_array_equal(c1.holds, ~np.any(c1.fails, axis=(-2, -1)))
        assert np.all(np.asarray(c3.fails)[rows, weak, weak - 1][found])
        if reach > 1:
            where = np.asarray(c1.start)[rows, weak, weak - 1]
            assert np.all(where >= crossing * 0.999)
            assert np.all(np.asarray(c1.amount)[rows, weak, weak - 1] > 0)
        # All other pairs: a line in log(1 + e), above 0 at both ends.
        a, b = alpha.astype(np.float64), beta.astype(np.float64)
        end = np.log1p(np.minimum(crossing * reach, 1e300))[:, None, None]
        lines = (a[:, None, :] - a[..., None]) + (b[:, None, :] - b[..., None]) * end
        lower = np.tri(n, k=-1, dtype=bool)
        sure = np.abs(lines) > 1e-4
        expected = (lines <= 0) & lower
        if reach == INF:
            expected = (b[:, None, :] < b[..., None]) & lower
            sure[:] = True
        np.testing.assert_array_equal(np.asarray(c1.fails)[sure], expected[sure])


@mostly_float64
def test_planted_convex_and_falling_curves(dtype):
    rng = np.random.default_rng(5)
    count, n = GAMES, MODELS
    rows = np.arange(count)
    alpha, beta = ordered_power_laws(rng, count, n, dtype)
    bad = rng.integers(0, n, count)
    steep = rng.uniform(1.05, 1.5, count)
    turn = 10 ** rng.uniform(-1, 3, count)  # the effort up to which the curve is convex
    with np.errstate(divide="ignore"):
        at_turn = np.log((steep - 1) / (steep + 1))
    alpha[rows, bad] = at_turn - steep * np.log1p(turn)
    beta[rows, bad] = steep
    reach = np.full(count, 1e6, dtype)
    report = check_assumptions(power_laws(alpha, beta), reach)
    np.testing.assert_array_equal(report.c2_concave.fails, np.arange(n) == bad[:, None])
    assert np.all(report.c2_rising.holds)
    np.testing.assert_allclose(report.c2_concave.start[rows, bad], 0)
    np.testing.assert_allclose(report.c2_concave.end[rows, bad], turn, rtol=2e-4, atol=1e-4)

    beta[rows, bad] = -steep
    report = check_assumptions(power_laws(alpha, beta), reach)
    np.testing.assert_array_equal(report.c2_rising.fails, np.arange(n) == bad[:, None])
    assert np.all(report.c2_rising.amount[rows, bad] > 0)
    np.testing.assert_allclose(report.c2_rising.end[rows, bad], 1e6)


@mostly_float64
def test_planted_gap_in_tables(dtype):
    """Two tables with common scores: one step of the gap falls, by so much, between two scores."""
    rng = np.random.default_rng(6)
    count, points = 2000, 6
    rows = np.arange(count)
    efforts, scores = growing_gap_tables(rng, count, 2, points, np.float64)
    # The strong model passes points 0, …, points − 2 at scores 1, …, points − 1 of the weak one.
    at = rng.integers(1, points - 2, count)
    gap = efforts[rows, 1, at + 1] - efforts[rows, 0, at]
    before = efforts[rows, 1, at] - efforts[rows, 0, at - 1]
    fall = before * rng.uniform(0.01, 0.5, count)
    shift = (gap - before) + fall
    later = np.arange(points) >= at[:, None]
    efforts[:, 0] += np.where(later, shift[:, None], 0)
    # Later steps of the weak model are longer by the same: the gap grows again, and C1 holds.
    later = np.arange(points) >= at[:, None] + 2
    efforts[:, 1] += np.where(later, 3 * (shift + gap)[:, None], 0)
    curves = tabulated(efforts.astype(dtype), scores.astype(dtype))
    report = check_assumptions(ranking_game(curves, winner_take_all(2), linear_cost(1.0)), INF)
    assert np.all(report.c1.holds)
    assert np.all(np.asarray(report.c3.fails)[:, 1, 0])
    digits = 1e-3 if dtype == jnp.float32 else 1e-9
    scale = np.max(efforts[:, :, -1], axis=-1)
    error = np.abs(np.asarray(report.c3.amount)[:, 1, 0] - fall)
    assert np.all(error <= digits * (fall + scale))
    np.testing.assert_allclose(report.c3.start[:, 1, 0], scores[rows, 1, at], rtol=1e-4)
    np.testing.assert_allclose(report.c3.end[:, 1, 0], scores[rows, 1, at + 1], rtol=1e-4)


@mostly_float64
def test_planted_points_in_tables(dtype):
    rng = np.random.default_rng(7)
    count, points, n = 2000, 6, 2
    rows = np.arange(count)
    efforts, scores = growing_gap_tables(rng, count, n, points, dtype)
    model, at = rng.integers(0, n, count), rng.integers(1, points - 1, count)

    def report_of(scores):
        curves = tabulated(efforts, scores)
        return check_assumptions(ranking_game(curves, winner_take_all(n), linear_cost(1.0)), INF)

    one = np.arange(n) == model[:, None]
    # A point below the chord of its neighbours.
    low = scores.copy()
    left, here, right = (scores[rows, model, at + i].astype(float) for i in (-1, 0, 1))
    x = [efforts[rows, model, at + i].astype(float) for i in (-1, 0, 1)]
    chord = left + (right - left) * (x[1] - x[0]) / (x[2] - x[0])
    low[rows, model, at] = left + 0.9 * (chord - left)
    report = report_of(low)
    np.testing.assert_array_equal(report.c2_concave.fails, one)
    assert np.all(report.c2_rising.holds)
    kink = low[rows, model, at].astype(float)
    first, second = (kink - left) / (x[1] - x[0]), (right - kink) / (x[2] - x[1])
    amount = np.asarray(report.c2_concave.amount)[rows, model]
    np.testing.assert_allclose(amount, second - first, rtol=1e-2 if dtype == jnp.float32 else 1e-9)
    np.testing.assert_allclose(report.c2_concave.start[rows, model], x[0])
    np.testing.assert_allclose(report.c2_concave.end[rows, model], x[2])
    # A point lower than the one before.
    fallen = scores.copy()
    fallen[rows, model, at + 1] = here - 0.01
    report = report_of(fallen)
    np.testing.assert_array_equal(report.c2_rising.fails, one)
    np.testing.assert_allclose(report.c2_rising.amount[rows, model], 0.01, rtol=1e-4)
    np.testing.assert_allclose(report.c2_rising.start[rows, model], x[1])
    np.testing.assert_allclose(report.c2_rising.end[rows, model], x[2])
    # A point of the weaker model above the stronger's curve.
    high = scores.copy()
    effort = efforts[rows, 1, at].astype(float)
    curve = np.array([np.interp(*a) for a in zip(effort, efforts[:, 0], scores[:, 0], strict=True)])
    high[rows, 1, at] = curve + 0.02
    report = report_of(high)
    assert np.all(np.asarray(report.c1.fails)[:, 1, 0])
    assert np.all(np.asarray(report.c1.amount)[:, 1, 0] >= 0.02 * (1 - 1e-4))
    assert np.all(np.asarray(report.c3.fails)[:, 1, 0])


@mostly_float64
def test_planted_gap_of_power_laws(dtype):
    """Around MODEL's pair with two stretches: C1 and C2 hold, C3 does not."""
    rng = np.random.default_rng(8)
    count = GAMES
    parameters = {
        "alpha": [1.5, -0.19, -2.467],
        "beta": [0.4, 0.389, 1.103],
        "lower": [0.12, 0.12, 0.127],
        "upper": [0.931, 0.931, 0.842],
    }
    noise = {name: 1 + 1e-3 * rng.uniform(-1, 1, (count, 1)) for name in parameters}
    raw = {name: (np.array(x) * noise[name]).astype(dtype) for name, x in parameters.items()}
    report = check_assumptions(power_laws(**raw), np.full(count, INF, dtype))
    assert fails(report) == {"c3"}
    assert np.all(np.asarray(report.c3.fails) == [[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    gap_at = []
    for end in (report.c3.start, report.c3.end):
        score = np.asarray(end)[:, 2, 1, None].astype(np.float64)
        efforts = []
        for model in (2, 1):
            m = columns(raw, model)
            logit = np.log((score - m["lower"]) / (m["upper"] - score))
            efforts.append(np.expm1(np.maximum((logit - m["alpha"]) / m["beta"], 0)))
        gap_at.append(efforts[0] - efforts[1])
    witness = (gap_at[0] - gap_at[1])[:, 0]
    amount = np.asarray(report.c3.amount)[:, 2, 1]
    assert np.all(amount > 5)
    np.testing.assert_allclose(amount, witness, rtol=1e-2 if dtype == jnp.float32 else 1e-9)


def priced(cost, dtype):
    """Three models that satisfy everything, at a cost."""
    return power_laws(np.linspace(1, 0, MODELS).astype(dtype), 0.9, cost=cost)


@mostly_float64
def test_planted_costs(dtype):
    rng = np.random.default_rng(9)
    count, n = 1000, MODELS
    bad = rng.integers(0, n, count)
    one = np.arange(n) == bad[:, None]
    exponent = np.where(one, rng.uniform(0.2, 0.99, (count, n)), rng.uniform(1, 3, (count, n)))
    report = check_assumptions(priced(power_cost(1.0, exponent.astype(dtype)), dtype), 100.0)
    np.testing.assert_array_equal(report.cost_convex.fails, one)
    assert np.all(report.cost_positive.holds)
    assert not np.any(report.cost_common.holds)

    # A slope that falls at a bend, of a user's own cost: between two efforts of the grid.
    bend = (10 ** rng.uniform(0, 3, (count, 1))).astype(dtype)
    slope = (10 ** rng.uniform(-3, 3, (count, 1))).astype(dtype)
    convex = check_assumptions(priced(Bent(jnp.asarray(slope), jnp.asarray(bend)), dtype), 1e5)
    assert fails(convex) == {"cost_convex"}
    check = convex.cost_convex
    np.testing.assert_allclose(check.amount, np.broadcast_to(slope / 2, (count, n)), rtol=1e-2)
    step = 1 + np.expm1(np.asarray(check.resolution))[:, None]
    assert np.all(step < 1.1)
    assert np.all(check.start < bend)
    assert np.all(1 + check.end <= (1 + bend) * step**200)
    assert np.all(check.end > bend)

    # Free at first.
    free = (10 ** rng.uniform(0, 3, (count, 1, 1))).astype(dtype)
    cost = piecewise_linear_cost(free, np.array([0.0, 2.0], dtype))
    positive = check_assumptions(priced(cost, dtype), 1e5)
    assert fails(positive) == {"cost_positive"}
    np.testing.assert_allclose(positive.cost_positive.amount, free[:, :, 0] * np.ones(n))
    assert fails(check_assumptions(priced(linear_cost(0.0), dtype), INF)) == {"cost_positive"}

    # An entry fee: a cost for nothing, or a jump, which is not convex.
    fee = [jnp.asarray(x, dtype) for x in (0.9, 0.1)]
    due = check_assumptions(priced(EntryFee(*fee, due_at_zero=True), dtype), 100.0)
    assert fails(due) == {"cost_zero"}
    np.testing.assert_allclose(due.cost_zero.amount, 0.9, rtol=1e-6)
    jump = check_assumptions(priced(EntryFee(*fee, due_at_zero=False), dtype), 100.0)
    assert fails(jump) == {"cost_convex"}


@pytest.mark.slow
@mostly_float64
def test_unequal_costs(dtype):
    rates = np.array([[1, 1, 1], [1, 2, 1], [3, 1, 1]], dtype)
    check = check_assumptions(priced(linear_cost(rates), dtype), 1e3).cost_common
    np.testing.assert_array_equal(check.fails, [[0, 0, 0], [0, 1, 0], [0, 1, 1]])
    np.testing.assert_allclose(check.amount, [[0, 0, 0], [0, 0.5, 0], [0, 2 / 3, 2 / 3]], rtol=1e-5)
    # The strongest model present is the measure.
    game = priced(linear_cost(rates), dtype)
    game = dataclasses.replace(game, present=jnp.array([False, True, True]))
    check = check_assumptions(game, 1e3).cost_common
    np.testing.assert_array_equal(check.fails, [[0, 0, 0], [0, 0, 1], [0, 0, 0]])


def test_curve_without_limit(x64):
    curves = Bent(jnp.array([2.0, 1.0]), jnp.array([1.0, 1.0]))
    game = ranking_game(curves, winner_take_all(2), linear_cost(1.0))
    report = check_assumptions(game, 100.0)
    # Both start at 0: an exact tie of curves that still rise.
    assert fails(report) == {"c1", "c2_bounded"}
    assert report.c1.start[1, 0] == 0
    assert report.c1.amount[1, 0] == 0


# --- MODEL's criteria and counterexamples --------------------------------------------------------


@pytest.mark.slow
@mostly_float64
def test_equal_limits_without_end_are_decided_by_the_parameters(dtype):
    """C1 iff alpha falls and beta does not rise; C3 iff neither rises. To the last digit."""
    rng = np.random.default_rng(10)
    count = GAMES
    alpha = np.repeat(rng.uniform(-3, 5, (count, 1)), MODELS, axis=-1).astype(dtype)
    beta = np.repeat(rng.uniform(0.1, 1, (count, 1)), MODELS, axis=-1).astype(dtype)
    alpha[:, 2:], beta[:, 2:] = -10, 0.05
    for values in (alpha, beta):
        toward = rng.choice([-INF, 0, INF], count).astype(dtype)
        stepped = np.nextafter(values[:, 1], toward, dtype=dtype)
        values[:, 1] = np.where(toward == 0, values[:, 1], stepped)
    by_shape = ranking_game(power_law(alpha, beta), winner_take_all(MODELS), linear_cost(1.0))
    by_value = power_laws(alpha, beta, 0.25, 0.75)
    for game in (by_shape, by_value):
        report = check_assumptions(game, np.full(count, INF, dtype))
        order = (alpha[:, 0] > alpha[:, 1]) & (beta[:, 0] >= beta[:, 1])
        np.testing.assert_array_equal(report.c1.holds, order)
        gap = (alpha[:, 0] >= alpha[:, 1]) & (beta[:, 0] >= beta[:, 1])
        np.testing.assert_array_equal(report.c3.holds, gap)


@mostly_float64
def test_upper_limits_decide_without_end(dtype):
    for upper, holds in (([0.9, 0.91], False), ([0.9, 0.9], True), ([0.91, 0.9], True)):
        game = power_laws(np.array([1, 0], dtype), 0.8, upper=upper)
        report = check_assumptions(game, INF)
        assert bool(report.c1.holds) == bool(report.c3.holds) == holds
        if not holds:
            assert report.c3.amount[1, 0] == INF
            np.testing.assert_allclose(report.c1.amount[1, 0], 0.01, rtol=1e-2)
        assert check_assumptions(game, 1.0).c1.holds


@dataclasses.dataclass(frozen=True)
class SquareRoot:
    def __call__(self, effort):
        return jnp.sqrt(effort)

    def effort_worth(self, value):
        return jnp.where(value > 0, value, 0) ** 2


jax.tree_util.register_dataclass(SquareRoot, [], [])

COUNTEREXAMPLES = {
    # name: (alpha, beta, lower, upper), cost, rewards, Δ, what fails, whether neighbours suffice
    "concave cost": (([1, 0.5, 0], 1, 0, 1), SquareRoot(), (1.6, 0.8, 0), 0, {"cost_convex"}),
    "concave power": (([1, 0.5, 0], 1, 0, 1), (1, 0.5), (1.6, 0.8, 0), 0, {"cost_convex"}),
    "entry fee": (([2, 1, 0], 1, 0, 1), (0.9, 0.1, False), (2, 1, 0), 0, {"cost_convex"}),
    "C1": (([1, 0, -0.1], [1, 0.2, 1], 0, 1), 0.1, (1, 0, 0), 0, {"c1", "c3"}),
    "C3": (
        ([0.21, -0.19, -2.467], [0.389, 0.389, 1.103], [0.12, 0.12, 0.127], [0.931, 0.931, 0.842]),
        1,
        (41, 15, 0),
        14,
        {"c3"},
    ),
    "unequal costs": (([2, 1, 0.9], 1, 0, 1), [1, 1, 0.1], (1, 0, 0), 0, {"cost_common"}),
}


@pytest.mark.parametrize("name", COUNTEREXAMPLES)
def test_counterexamples_are_named(name, x64):
    """Where neighbours do not decide, the audit says which assumption is to blame."""
    curves, cost, rewards, delta, expected = COUNTEREXAMPLES[name]
    if isinstance(cost, tuple):
        cost = (
            power_cost(*cost)
            if len(cost) == 2
            else EntryFee(*(jnp.asarray(float(x)) for x in cost[:2]), due_at_zero=cost[2])
        )
    elif not isinstance(cost, SquareRoot):
        cost = linear_cost(cost)
    alpha = np.array(curves[0], float)
    game = power_laws(alpha, *curves[1:], cost=cost)
    game = dataclasses.replace(game, rewards=jnp.array(rewards, float))
    assert bool(is_zero_effort_pne(game, float(delta), "adjacent"))
    assert not bool(is_zero_effort_pne(game, float(delta), "all"))
    report = check_assumptions(game, INF)
    assert fails(report) == expected
    assert not report.holds


def test_flat_costs_and_curves_are_named(x64):
    flat = piecewise_linear_cost([2.0], [0.0, 0.2])
    assert fails(check_assumptions(priced(flat, np.float64), 1e3)) == {"cost_positive"}
    curves = tabulated([[0.0, 1.0, 9.0]] * 2, [[0.4, 0.5, 0.9], [0.5, 0.8, 0.8]])
    game = ranking_game(curves, [1, 0], linear_cost(0.1))
    report = check_assumptions(game, 100.0)
    assert fails(report) == {"c1", "c3"}
    # (1, .5) against (1, .8); E(strong) goes from 0 at .4 to 7 at .8 while E(weak) goes to 1.
    assert report.c1.amount[1, 0] == pytest.approx(0.3)
    assert report.c1.start[1, 0] == 1
    assert report.c3.amount[1, 0] == pytest.approx(6)
    assert (report.c3.start[1, 0], report.c3.end[1, 0]) == pytest.approx((0.4, 0.8))


def test_where_all_holds_neighbours_decide_and_levels_are_a_ray(x64):
    """What the paper concludes from its assumptions, on games that the audit passes."""
    checked = 0
    for kinds in (
        ("equal_limits", "fast_weak"),
        ("different_limits", "monotone_different_limits"),
    ):
        raw = mixed_games(12, GAMES // 2, MODELS, kinds)
        holds = np.asarray(check_assumptions(game_of(raw), np.full(GAMES, INF)).holds)
        exact, adjacent = (oracles.reference_thresholds(raw, d) for d in ("all", "adjacent"))
        np.testing.assert_allclose(exact["delta"][holds], adjacent["delta"][holds], rtol=1e-9)
        assert np.all(np.isinf(exact["upper"][holds]))
        checked += holds.sum()
    assert checked > GAMES // 2


# --- The record ----------------------------------------------------------------------------------


@mostly_float64
def test_invalid_games_leave_their_neighbours_alone(dtype):
    raw = random_games(13, FEW, MODELS, "different_limits", dtype=dtype)
    top = np.full(FEW, 1e4, dtype)
    whole = check_assumptions(game_of(raw), top)
    broken = {name: values.copy() for name, values in raw.items()}
    broken["alpha"][1, 2] = np.nan
    broken["upper"][4] = broken["lower"][4]
    broken["cost_rate"][6] = -1
    broken["rewards"][8] = [0, 1, 2]
    top[10] = -1
    bad = [1, 4, 6, 8, 10]
    report = check_assumptions(game_of(broken), top)
    rest = np.setdiff1d(np.arange(FEW), bad)
    np.testing.assert_array_equal(np.flatnonzero(~np.asarray(report.valid)), bad)
    for name in ("cost_zero", "cost_common", "c2_concave", "c1", "c3"):
        check, healthy = getattr(report, name), getattr(whole, name)
        assert not np.any(check.holds[np.array(bad)])
        assert not np.any(check.fails[np.array(bad)])
        assert np.all(np.isnan(check.amount[np.array(bad)]))
        for one, other in zip(jax.tree.leaves(check), jax.tree.leaves(healthy), strict=True):
            np.testing.assert_array_equal(one[rest], other[rest])
    assert "unusable" in report[1].describe()


def test_absent_models_break_nothing(x64):
    raw = random_games(14, FEW, MODELS, "fast_weak")
    present = np.random.default_rng(0).random((FEW, MODELS)) < 0.6
    game = dataclasses.replace(game_of(raw), present=jnp.asarray(present))
    top = np.full(FEW, 1e4)
    report = check_assumptions(game, top)
    full = check_assumptions(game_of(raw), top)
    both = present[:, :, None] & present[:, None, :]
    np.testing.assert_array_equal(report.c1.fails, np.asarray(full.c1.fails) & both)
    np.testing.assert_array_equal(report.c3.fails, np.asarray(full.c3.fails) & both)
    np.testing.assert_array_equal(
        report.c2_concave.fails, np.asarray(full.c2_concave.fails) & present
    )
    empty = dataclasses.replace(game, present=jnp.zeros_like(game.present))
    assert np.all(check_assumptions(empty, top).holds)


@pytest.mark.parametrize(
    "family", ["power", *(pytest.param(x, marks=pytest.mark.slow) for x in ("table", "own"))]
)
def test_jit_vmap_and_a_loop_agree(family, x64):
    if family == "power":
        game = game_of(random_games(15, FEW, MODELS, "different_limits"))
    elif family == "table":
        rng = np.random.default_rng(1)
        efforts = np.cumsum(rng.uniform(1, 5, (6, 3, 4)), axis=-1)
        efforts[..., 0] = 0
        efforts[2, 1, 3] = np.nan
        scores = np.where(np.isnan(efforts), np.nan, rng.random((6, 3, 4)))
        game = ranking_game(tabulated(efforts, scores), [2, 1, 0], linear_cost(1.0))
    else:
        rate = np.random.default_rng(2).random((6, 3))
        game = ranking_game(
            Exponential(jnp.asarray(rate), jnp.ones(3)), [2, 1, 0], linear_cost(1.0)
        )
    levels = np.array([1.0, 10.0, 100.0, 1e3, 1e4, INF])
    top = np.resize(levels, game.batch_shape)
    whole = check_assumptions(game, top)
    assert whole.batch_shape == game.batch_shape and whole.num_models == 3
    mapped = jax.jit(jax.vmap(check_assumptions, (None, 0)))(game, levels)  # [level, game]
    for i in range(6):
        one = check_assumptions(game[i], top[i])
        for a, b, c in zip(
            *(jax.tree.leaves(x) for x in (whole[i], one, mapped[i, i])), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-9)
            np.testing.assert_allclose(a, c, rtol=1e-9)


def test_tables_with_padding_are_like_shorter_ones(x64):
    short = tabulated([[0, 5, 9], [0, 4, 20.0]], [[0.5, 0.7, 0.9], [0.4, 0.75, 0.8]])
    nan = math.nan
    long = tabulated(
        [[0, 5, 9, nan, nan], [0, 4, 20.0, nan, nan]],
        [[0.5, 0.7, 0.9, nan, nan], [0.4, 0.75, 0.8, nan, nan]],
    )
    short, long = (ranking_game(c, [1, 0], linear_cost(1.0)) for c in (short, long))
    for top in (0.0, 3.0, 7.0, 30.0, INF):
        reports = [check_assumptions(game, top) for game in (short, long)]
        for a, b in zip(*(jax.tree.leaves(r) for r in reports), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    # The weak model is ahead from 2.1 steps on: .7 − .2·… against .4 + .35·….
    assert fails(check_assumptions(short, 1.0)) == set()
    assert "c1" in fails(check_assumptions(short, 4.0))


@pytest.mark.parametrize("n", [1, 2])
def test_small_games(n, x64):
    report = check_assumptions(power_laws(np.arange(n) * -1.0, 0.5), 0.0)
    assert bool(report.holds)
    assert report.c1.fails.shape == (n, n)


def test_describe(x64):
    raw = COUNTEREXAMPLES["C3"][0]
    game = power_laws(np.array(raw[0]), *raw[1:])
    report = check_assumptions(game, 1e4)
    text = report.describe(["large", "medium", "small"])
    assert "C1, stronger models score higher: holds." in text
    amount = float(report.c3.amount[2, 1])
    assert (
        f"the effort that small needs beyond medium's falls by {amount:.4g} steps from score 0.6954"
        in text
    )
    assert "model 2" in report.describe()
    with pytest.raises(ValueError, match="names must have 3 entries, one per model; got 2"):
        report.describe(["a", "b"])
    many = jax.tree.map(lambda x: jnp.stack([x, x]), report)
    with pytest.raises(ValueError, match=r"this is a batch of shape \(2,\)"):
        many.describe()
    free = check_assumptions(priced(linear_cost(0.0), np.float64), 100.0).describe()
    assert "every model trains free of charge up to 100 steps" in free
    clean = check_assumptions(priced(linear_cost(1.0), np.float64), INF).describe()
    assert clean.count("holds.") == 4
    own = check_assumptions(priced(SquareRoot(), np.float64), 100.0).describe()
    assert "seen at efforts between which 1 + e grows by up to" in own


def test_arguments(x64):
    game = priced(linear_cost(1.0), np.float64)
    with pytest.raises(TypeError, match="game must be a RankingGame"):
        check_assumptions(game.curves, 1.0)
    batch = game_of(random_games(0, 3, 2, "equal_limits"))
    with pytest.raises(ValueError, match="max_effort must broadcast"):
        check_assumptions(batch, [1.0, 2.0])
