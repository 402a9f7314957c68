"""Games put together: shapes, dtypes, what is refused and what `validate` says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tbtjax
from tbtjax import linear_cost, power_law, ranking_game, validate

CURVES, COST = power_law([1.0, 0.0], 0.9), linear_cost(0.01)


def test_all_parameters_get_one_dtype(x64):
    curves = power_law(np.zeros(2, np.float32), 1.0)
    for rewards, cost, expected in [
        ([1, 0], linear_cost(1), np.float32),
        (np.array([1, 0]), linear_cost(0.1), np.float32),
        ([1.0, 0.0], linear_cost(np.float64(0.1)), np.float64),
        (tbtjax.equal_gaps(2), tbtjax.power_cost(1.0, 2.0), np.float32),
    ]:
        game = ranking_game(curves, rewards, cost)
        assert {x.dtype for x in jax.tree.leaves(game)} == {np.dtype(expected)} == {game.dtype}


def test_numbers_alone_make_a_game_of_the_default_dtype():
    game = ranking_game(power_law([1, 0], 1), [1, 0], linear_cost(1))
    assert game.dtype == np.float32
    # Integers that 32 bits cannot hold are read as floats.
    assert ranking_game(CURVES, [10**10, 0], COST).rewards[0] == np.float32(1e10)
    assert tbtjax.is_zero_effort_pne(game, 10**10)
    assert tbtjax.baseline_scores(game, np.array([3_000_000_000])).shape == (1, 2)


@pytest.mark.parametrize(
    ("parts", "num_models", "batch_shape"),
    [
        ((CURVES, [1, 0], COST), 2, ()),
        ((CURVES, 1.0, COST), 2, ()),
        pytest.param((CURVES, np.ones((4, 1)), COST), 2, (4,), marks=pytest.mark.slow),
        ((CURVES, [1, 0], linear_cost(np.ones((4, 1, 1)))), 2, (4, 1)),
        ((CURVES, [1, 0], COST, np.ones((5, 2), bool)), 2, (5,)),
        pytest.param((CURVES, [1, 0], COST, True), 2, (), marks=pytest.mark.slow),
        ((power_law([[1.0]] * 3, 1.0), [1.0], COST), 1, (3,)),
        ((power_law(np.zeros(0), 1.0), np.zeros(0), COST), 0, ()),
        ((power_law(np.zeros((0, 3)), 1.0), [2, 1, 0], COST), 3, (0,)),
        # Curves that all models share: the costs say how many models there are.
        ((power_law(1.0, 1.0), [2, 1, 0], linear_cost([1.0, 2.0, 3.0])), 3, ()),
    ],
)
def test_shapes(parts, num_models, batch_shape):
    game = ranking_game(*parts)
    assert game.num_models == num_models and game.batch_shape == batch_shape
    n = num_models
    assert tbtjax.baseline_scores(game, 1.0).shape[-1:] == (n,)
    assert tbtjax.just_overtake_effort(game, 1.0).shape[-1:] == (max(n - 1, 0),)
    assert tbtjax.overtake_effort(game, 1.0).shape[-2:] == (n, n)
    assert tbtjax.is_zero_effort_pne(game, 1.0).shape == batch_shape
    assert tbtjax.stabilizing_threshold(game).delta.shape == batch_shape
    validate(game)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Saturating:
    """Scores 1 − exp(−(start + e)), of whatever arrays a user may put in."""

    start: jax.Array

    def score(self, effort):
        return -jnp.expm1(-(self.start + effort))

    def effort_to_reach(self, score):
        return jnp.maximum(-jnp.log1p(-score) - self.start, 0)

    def limit(self):
        return jnp.ones_like(self.start)


def test_families_of_numpy_arrays():
    game = ranking_game(Saturating(np.array([1.0, 0.5])), [1.0, 0.0], linear_cost(1.0))
    assert game.dtype == np.float32
    np.testing.assert_allclose(tbtjax.just_overtake_effort(game, 0.0), [0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ((None, [1, 0], COST), TypeError, "got NoneType without `score`"),
        ((CURVES, [1, 0], 0.1), TypeError, r"such as linear_cost\(rate\); got float"),
        ((CURVES, "all", COST), TypeError, "rewards must be an array of real numbers"),
        ((CURVES, [1, 0], COST, [1, 0]), TypeError, "present must be a bool mask; got dtype int"),
        ((CURVES, [2, 1, 0], COST), ValueError, r"curves \(2,\), rewards \(3,\)"),
        ((power_law(1.0, 1.0), [1, 0], COST), ValueError, "rewards must have 1 entries"),
        ((CURVES, [1, 0], COST, np.ones(3, bool)), ValueError, r"present \(3,\)"),
    ],
)
def test_errors(parts, error, message):
    with pytest.raises(error, match=message):
        ranking_game(*parts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": [[1, 0], [np.nan, 0]]}, r"alpha must be finite; 1 of 4 .* \(1, 0\): nan"),
        ({"beta": [1, np.inf]}, r"beta must be finite; 1 of 2 .* \(1,\): inf"),
        ({"upper": [1.0, 0.0]}, r"upper must be finite and above `lower`.* \(1,\): 0.0"),
        ({"rewards": [0, 1]}, r"rewards must be non-increasing; 1 of 2 .* \(1,\): 1.0"),
        ({"rewards": [np.inf, 1]}, r"rewards must be finite; 1 of 2 .* \(0,\): inf"),
        ({"rate": -1.0}, r"rate must be finite and not negative; 2 of 2 .* are not"),
    ],
)
def test_validate_names_what_is_unusable(changes, message):
    values = {"alpha": [1, 0], "beta": 1.0, "lower": 0.0, "upper": 1.0, "rewards": [1, 0]}
    values |= {"rate": 0.1} | changes
    curves = power_law(*(values[name] for name in ("alpha", "beta", "lower", "upper")))
    game = ranking_game(curves, values["rewards"], linear_cost(values["rate"]))
    with pytest.raises(ValueError, match=message):
        validate(game)
    # An absent model's values do not matter, nor does what no rank gets.
    if np.shape(values["alpha"]) == (2,):
        at = int(message.split(r"\(")[-1][0]) if r"\(" in message else None
        mask = np.arange(2) != at if at is not None else np.zeros(2, bool)
        if "rewards" not in changes:
            validate(dataclasses.replace(game, present=jnp.asarray(mask)))


def test_rewards_beyond_the_present_models_may_be_anything():
    game = ranking_game(CURVES, [1.0, np.nan], COST, np.array([True, False]))
    validate(game)
    assert tbtjax.stabilizing_threshold(game).delta == 0
