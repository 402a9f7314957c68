"""Records: which axes are games, and how they are picked."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tbtjax
from tbtjax._records import Record, align, event_ndims


def some_game():
    """Curves with games' axes (4, 1), rewards (3,), padded costs shared by all games."""
    curves = tbtjax.power_law(np.arange(8.0).reshape(4, 1, 2), 0.5, np.zeros((1, 1)), 1.0)
    cost = tbtjax.piecewise_linear_cost(np.ones((2, 1)), [1.0, 2.0])
    return tbtjax.ranking_game(curves, np.arange(6.0).reshape(3, 2), cost)


def shapes(record):
    return [x.shape for x in jax.tree.leaves(record)]


def test_batch_shape_is_the_broadcast_of_the_games_axes():
    game = some_game()
    assert game.batch_shape == (4, 3) and game.num_models == 2
    assert game.curves.batch_shape == (4, 1) and game.cost.batch_shape == ()
    # What is shared is stored once.
    assert shapes(game) == [(4, 1, 2), (), (1, 1), (), (3, 2), (2, 1), (2,)]


def test_picking_games():
    game = some_game()
    one = game[1, 2]
    assert one.batch_shape == () and one.num_models == 2
    assert one.curves.alpha.tolist() == [2, 3] and one.rewards.tolist() == [4, 5]
    assert game[1].batch_shape == (3,) and game[-1].curves.alpha.shape == (3, 2)
    assert game[:2].batch_shape == (2, 3)
    assert game[..., 0].batch_shape == (4,) and game[..., 0].rewards[2].tolist() == [0, 1]
    assert game[jnp.array([3, 3, 0])].batch_shape == (3, 3)
    assert game[None].batch_shape == (1, 4, 3)
    assert game[np.arange(12).reshape(4, 3) > 8].batch_shape == (3,)
    # Costs belong to all games: they are not copied.
    assert game[1].cost.slopes.shape == (2,)


def test_one_game_has_no_axis_to_pick_from():
    one = some_game()[0, 0]
    with pytest.raises(IndexError, match="this RankingGame holds one game"):
        one[0]
    assert shapes(one[...]) == shapes(one[()]) == shapes(one)


def test_answers_are_records_too():
    threshold = tbtjax.stabilizing_threshold(some_game())
    assert threshold.batch_shape == (4, 3)
    assert threshold[2].by_pair.shape == (3, 1) and threshold[2].delta.shape == (3,)
    assert threshold[2, 1].status.shape == ()


def test_games_survive_jax_transformations():
    game = some_game()
    leaves, structure = jax.tree.flatten(game)
    again = jax.tree.unflatten(structure, leaves)
    assert type(again) is tbtjax.RankingGame and again.batch_shape == (4, 3)
    doubled = jax.jit(lambda g: jax.tree.map(lambda x: 2 * x, g))(game)
    np.testing.assert_array_equal(doubled.curves.alpha, 2 * game.curves.alpha)
    with pytest.raises(dataclasses.FrozenInstanceError):
        game.rewards = 0


def test_align_gives_every_leaf_the_same_games_axes():
    game = some_game()
    aligned = align(game)
    assert shapes(aligned) == [
        (4, 1, 2), (1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 3, 2), (1, 1, 2, 1), (1, 1, 1, 2),
    ]  # fmt: skip
    assert aligned.batch_shape == game.batch_shape and aligned.num_models == game.num_models
    assert align(game, 4).curves.alpha.shape == (1, 1, 4, 1, 2)


def test_event_axes_of_a_record_of_ones_own():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Own(Record):
        event_ndims = {"points": 2, "verdict": 0}  # noqa: RUF012

        points: jax.Array
        verdict: jax.Array
        inner: dict

    own = Own(jnp.ones((5, 3, 2)), jnp.ones(5), {"x": jnp.ones(3)})
    assert jax.tree.leaves(event_ndims(own)) == [2, 0, 1]
    assert own.batch_shape == (5,) and own.num_models == 3
    assert own[2].points.shape == (3, 2) and own[2].verdict.shape == ()
    assert own[2].inner["x"].shape == (3,)
