"""What the theory says of every game, on more than 10⁵ random ones; and what batching must not do.

Results are numbered as in arXiv 2603.08371. One shape of batch for all classes: compiling takes
longer than solving.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_games import random_games

import tbtjax
from tbtjax import Status, linear_cost, power_cost, power_law, ranking_game

GAMES, MODELS = 20_000, 5

# Classes that meet C1 and C3; costs are linear and common, so neighbours decide.
REGULAR = [
    "equal_limits",
    "saturated",
    "tiny_beta",
    "huge_gaps",
    "tiny_gaps",
    "monotone_different_limits",
]
EQUAL = REGULAR[:-1]


@functools.cache
def games_of(kind):
    return random_games(3, GAMES, MODELS, kind)


def make(games, present=None):
    curves = power_law(games["alpha"], games["beta"], games["lower"], games["upper"])
    return ranking_game(curves, games["rewards"], linear_cost(games["cost_rate"]), present)


@functools.cache
def thresholds(kind):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, tbtjax.stabilizing_threshold(make(games_of(kind))))


@pytest.mark.parametrize("kind", REGULAR)
def test_training_all_makes_passing_dearer(kind, x64):
    """Lemma 5.2: e_req(Δ) never falls as Δ grows. Prop. 5.1: limits follow capability."""
    game = make(games_of(kind))
    rng = np.random.default_rng(4)
    levels = np.sort(rng.uniform(0, 12, (GAMES, 4)), axis=-1).T
    efforts = [np.asarray(tbtjax.just_overtake_effort(game, np.expm1(y))) for y in levels]
    assert np.mean(np.isfinite(efforts[0])) > 0.5
    for less, more in itertools.pairwise(efforts):
        assert np.all(more >= less * (1 - 1e-9))
    limits = np.broadcast_to(game.curves.limit(), (GAMES, MODELS))
    assert np.all(np.diff(limits, axis=-1) <= 0)


@pytest.mark.parametrize("kind", [*EQUAL, pytest.param(REGULAR[-1], marks=pytest.mark.slow)])
def test_levels_that_stabilize_are_a_ray(kind, x64):
    """Prop. 5.3, Cor. 5.5: an equilibrium at Δ is one at every higher level; Δ* is the first."""
    game, threshold = make(games_of(kind)), thresholds(kind)
    assert np.all(np.isinf(threshold.upper)) and np.all(threshold.settled == threshold.delta)
    first = np.log1p(threshold.delta)
    found = np.isfinite(first)
    first = np.where(found, first, 0)
    assert found.mean() > 0.6
    rng = np.random.default_rng(5)
    # Just above, somewhere above; just below, somewhere below (where there is a below).
    rounding = 1e-9 * (1 + first)
    near, far = first + rounding, first + rng.exponential(3, GAMES)
    below, far_below = first - rounding, first * rng.random(GAMES)
    for deviations in ("all", "adjacent"):
        verdicts = [
            np.asarray(tbtjax.is_zero_effort_pne(game, np.expm1(np.maximum(y, 0)), deviations))
            for y in (near, far, below, far_below)
        ]
        # A level of 1e300 steps and more has no digits left for budgets.
        possible = found & (far < 600)
        assert np.all(verdicts[0][possible]) and np.all(verdicts[1][possible])
        clear = possible & (first > 2 * rounding)
        assert not np.any(verdicts[2][clear])
        assert not np.any(verdicts[3][clear & (far_below < first - rounding)])


@pytest.mark.parametrize("kind", EQUAL)
def test_the_rule_of_thumb_lies_between_its_bounds(kind, x64):
    """Prop. 5.6 with our bounds: equal limits and ρ ≤ 1."""
    game, threshold = make(games_of(kind)), thresholds(kind)
    rule = jax.tree.map(np.asarray, tbtjax.rule_of_thumb(game))
    needed = (rule.kappa > 1) & np.isfinite(rule.kappa) & np.isfinite(rule.e0)
    assert np.any(needed)
    y = np.log1p(threshold.by_pair)
    slack = 1e-9 * (1 + y)
    with np.errstate(divide="ignore"):
        bounds = [np.log1p(x) for x in (rule.lower_bound, rule.upper_bound, rule.delta)]
    lower, upper, power = bounds
    known = needed & np.isfinite(upper) & np.isfinite(y)
    assert known.sum() > 0.9 * (needed & np.isfinite(y)).sum()
    assert np.all(lower[known] <= (y + slack)[known])
    assert np.all(y[known] <= (upper + slack)[known])
    # 1 + Δ* ≤ κ^ρ, so κ^ρ − 1 is still safe.
    assert np.all(rule.upper_bound[known] + 1 <= rule.delta[known] * (1 + 1e-9))
    assert np.all(y[known] <= (power + slack)[known])
    idle = (rule.kappa <= 1) & np.isfinite(rule.e0)
    assert np.all(threshold.by_pair[idle & (rule.kappa < 1 - 1e-9)] == 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InCommonUnits:
    """Curves at one level with effort measured as φ_i(e) = c^{-1}(c_i(e)); φ_i is linear here."""

    alpha: jax.Array
    beta: jax.Array
    level: jax.Array
    unit: jax.Array

    def score(self, effort):
        total = self.level + effort / self.unit
        return jax.nn.sigmoid(self.alpha + self.beta * jnp.log1p(total))

    def effort_to_reach(self, score):
        inside = jnp.clip(score, 1e-300, 1 - 1e-16)
        total = jnp.expm1((jnp.log(inside) - jnp.log1p(-inside) - self.alpha) / self.beta)
        return jnp.maximum(total - self.level, 0) * self.unit

    def limit(self):
        return jnp.ones_like(self.alpha)


@pytest.mark.parametrize("kind", ["equal_limits", "fast_weak", "near_ties", "ties", "zero_gaps"])
def test_separable_costs_are_a_common_cost_in_other_units(kind, x64):
    """Prop. B.1, at a fixed Δ: c_i(e) = w_i·c(e) and φ_i(e) = c^{-1}(w_i·c(e))."""
    games = games_of(kind)
    rng = np.random.default_rng(6)
    exponent, level = 1.5, np.expm1(rng.uniform(0, 6, GAMES))
    weight = games["cost_rate"] * np.exp(rng.normal(size=(GAMES, MODELS)))
    curves = power_law(games["alpha"], games["beta"])
    game = ranking_game(curves, games["rewards"], power_cost(weight, exponent))
    unit = weight ** (1 / exponent)
    common = ranking_game(
        InCommonUnits(*map(jnp.asarray, (games["alpha"], games["beta"], level[:, None], unit))),
        games["rewards"],
        power_cost(1.0, exponent),
    )
    efforts = np.asarray(tbtjax.overtake_effort(game, level))
    expected = efforts * unit[:, :, None]
    scores = np.asarray(tbtjax.baseline_scores(game, level))
    found = np.asarray(tbtjax.overtake_effort(common, 0.0))
    # Scores near saturation, and efforts below the rounding of Δ, have few digits.
    digits = 1e-12 * (1 + level[:, None, None]) * unit[:, :, None] / (1 - scores[:, :, None])
    digits = digits / games["beta"][:, :, None]
    close = np.abs(found - expected) <= 1e-9 * expected + digits
    assert np.all(close | ~np.isfinite(expected) | (scores[:, None, :] > 1 - 1e-9))
    verdict, other = (
        np.asarray(tbtjax.is_zero_effort_pne(g, x)) for g, x in ((game, level), (common, 0.0))
    )
    assert np.mean(verdict == other) > 0.998 and 0.02 < np.mean(verdict) < 0.98
    # Where they differ, somebody's gain is within rounding.
    paid = weight[:, :, None] * np.where(np.isfinite(efforts), efforts, 1e300) ** exponent
    gain = games["rewards"][:, None, :] - games["rewards"][:, :, None]
    margin = np.abs(paid - gain) <= 1e-7 * np.abs(gain)
    assert np.all(np.any(margin, axis=(1, 2))[verdict != other])


# --- Batches -------------------------------------------------------------------------------------

NEIGHBOURS = {
    "nan": {"alpha": np.nan},
    "infinite": {"beta": np.inf, "rewards": np.inf},
    "tied": {"alpha": 1.0, "beta": 0.5},
    "smaller": {"present": [True, False, True]},
    "one model": {"present": [False, False, True]},
    "no model": {"present": False},
}
QUESTIONS = (
    lambda game: tbtjax.baseline_scores(game, 2.0),
    lambda game: tbtjax.just_overtake_effort(game, 2.0),
    lambda game: tbtjax.overtake_effort(game, 2.0),
    lambda game: tbtjax.is_zero_effort_pne(game, 2.0),
    lambda game: tbtjax.is_zero_effort_pne(game, 2.0, "adjacent"),
    tbtjax.stabilizing_threshold,
    tbtjax.rule_of_thumb,
)


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("fast_weak", np.float32),
        pytest.param("different_limits", np.float64, marks=pytest.mark.slow),
    ],
)
def test_neighbours_leave_a_games_bits_alone(kind, precision, x64):
    """Whatever else is in the batch; by one program, traced once."""
    games = random_games(7, 300, 3, kind, precision)
    games = {k: np.array(np.broadcast_to(x, (300, 3) if x.ndim else ())) for k, x in games.items()}
    games["present"] = np.ones((300, 3), bool)
    traces = []

    @jax.jit
    def answers(games):
        traces.append(kind)
        game = make(games, games["present"])
        return [question(game) for question in QUESTIONS]

    before = answers(games)
    others = np.arange(300) != 7
    for changes in NEIGHBOURS.values():
        changed = {name: x.copy() for name, x in games.items()}
        for name, value in changes.items():
            changed[name][7] = value
        after = answers(changed)
        for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            np.testing.assert_array_equal(np.asarray(x)[others], np.asarray(y)[others])
        if "present" in changes and np.sum(changes["present"]) < 2:
            assert after[5].status[7] == Status.STABLE_AT_ZERO
    assert len(traces) == 1


@pytest.mark.parametrize(
    "kind", [pytest.param("fast_weak", marks=pytest.mark.slow), "different_limits"]
)
def test_jit_vmap_and_a_loop_agree(kind, x64):
    """Efforts and verdicts; thresholds have a test of their own."""
    games = {name: x[:12] if x.ndim else x for name, x in games_of(kind).items()}
    shared = [name for name, x in games.items() if not x.ndim]

    def answers(games):
        return [question(make(games)) for question in QUESTIONS[:5]]

    batched = answers(games)
    jitted = jax.jit(answers)(games)
    mapped = jax.vmap(answers, ({k: None if k in shared else 0 for k in games},))(games)
    one = jax.jit(answers)
    looped = [one({k: x if k in shared else x[i] for k, x in games.items()}) for i in range(12)]
    looped = jax.tree.map(lambda *x: np.stack(x), *looped)
    for other in (jitted, mapped, looped):
        for x, y in zip(batched, other, strict=True):
            if x.dtype == bool:
                np.testing.assert_array_equal(x, y)
            else:
                np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-13)
