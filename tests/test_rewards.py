"""Reward schemes: their values, their types, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tbtjax


def test_schemes():
    assert tbtjax.winner_take_all(4).tolist() == [1, 0, 0, 0]
    assert tbtjax.top_k(4, 2).tolist() == [1, 1, 0, 0]
    assert tbtjax.top_k(2, 7).tolist() == [1, 1] and tbtjax.top_k(2, 0).tolist() == [0, 0]
    assert tbtjax.equal_gaps(4).tolist() == [3, 2, 1, 0]
    assert tbtjax.geometric_rewards(4, 0.5).tolist() == [1, 0.5, 0.25, 0.125]
    assert tbtjax.geometric_rewards(3, 0.0).tolist() == [1, 0, 0]
    assert tbtjax.geometric_rewards(3, 1).tolist() == [1, 1, 1]


def test_ratios_become_games():
    rewards = tbtjax.geometric_rewards(3, np.array([[0.5], [0.25]]))
    assert rewards.shape == (2, 1, 3)
    assert rewards[1, 0].tolist() == [1, 0.25, 0.0625]


@pytest.mark.parametrize("n", [0, 1])
def test_one_rank_or_none(n):
    for scheme in (
        tbtjax.winner_take_all(n),
        tbtjax.top_k(n, 1),
        tbtjax.geometric_rewards(n, 0.5),
        tbtjax.equal_gaps(n) + 1,
    ):
        assert scheme.tolist() == [1.0] * n
        assert tbtjax.reward_gaps(scheme).shape == (0,)


def test_gaps():
    assert tbtjax.reward_gaps([5, 2.0, 2]).tolist() == [3, 0]
    assert tbtjax.reward_gaps(np.ones((2, 3, 4))).shape == (2, 3, 3)


def test_schemes_take_on_the_dtype_they_meet(dtype):
    curves = tbtjax.power_law(np.zeros(3, dtype), 1.0)
    schemes = (
        tbtjax.winner_take_all(3),
        tbtjax.top_k(3, 2),
        tbtjax.equal_gaps(3),
        tbtjax.geometric_rewards(3, 0.9),
        tbtjax.geometric_rewards(3, 1),
        np.arange(3)[::-1],
    )
    for scheme in schemes:
        assert tbtjax.ranking_game(curves, scheme, tbtjax.linear_cost(1.0)).dtype == dtype
    # A ratio of a dtype of its own keeps it.
    assert tbtjax.geometric_rewards(3, np.array(0.5, dtype)).dtype == dtype


def test_a_ratio_has_derivatives_also_at_zero():
    slopes = jax.jacobian(lambda ratio: tbtjax.geometric_rewards(4, ratio))
    assert slopes(jnp.float32(0.5)).tolist() == [0, 1, 1, 0.75]
    assert slopes(jnp.float32(0.0)).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tbtjax.winner_take_all(2.0), TypeError, "n must be an integer; got 2.0"),
        (lambda: tbtjax.equal_gaps(-1), ValueError, "n must be 0 or more; got -1"),
        (lambda: tbtjax.top_k(3, True), TypeError, "k must be an integer; got True"),
        (lambda: tbtjax.top_k(3, -1), ValueError, "k must be 0 or more; got -1"),
        (lambda: tbtjax.geometric_rewards(3, "x"), TypeError, "ratio must be an array of real"),
        (lambda: tbtjax.reward_gaps(1.0), ValueError, "ranks on its last axis; got a scalar"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
