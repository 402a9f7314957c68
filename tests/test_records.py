"""Records: which axes are games, and how they are picked."""

import dataclasses
from typing import Any

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


def own_cost(number):
    """A cost of one's own class, one of many with the same fields."""

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Own:
        rate: Any

        def __call__(self, effort):
            return self.rate * effort

        def effort_worth(self, value):
            return number * value / self.rate

    return Own


def game_with(cost):
    return tbtjax.ranking_game(tbtjax.power_law([1.0, 0.0], 1.0), [4.0, 0.0], cost)


def test_what_is_compiled_for_one_cost_is_not_run_on_another():
    """jaxlib 0.10 takes dataclasses with as many fields for one another, one time in a hundred."""

    @jax.jit
    def worth(game):
        return game.cost.effort_worth(game.rewards)[0]

    for number in range(400):
        assert worth(game_with(own_cost(number)(jnp.array(2.0)))) == 2 * number
        if number % 100 == 0:
            assert worth(game_with(tbtjax.linear_cost(1.0))) == 4


def test_the_structure_of_a_game_tells_types_apart():
    rate, one, other = jnp.array(1.0), own_cost(1), own_cost(2)
    costs = [one(rate), other(rate), one(one(rate)), one(other(rate)), tbtjax.linear_cost(1.0)]
    games = [jax.tree.structure(tbtjax.game.RankingGame(0, 0, cost)) for cost in costs]
    again = [jax.tree.structure(tbtjax.game.RankingGame(1, 1, cost)) for cost in costs]
    assert [[a == b for b in again] for a in games] == np.eye(len(games), dtype=bool).tolist()
    assert [hash(x) for x in games] == [hash(x) for x in again]


def test_a_number_stands_for_a_part_of_a_game():
    """In `in_axes`, and for costs of one's own too."""
    for cost in (own_cost(3)(jnp.array(2.0)), tbtjax.linear_cost(2.0)):
        game = dataclasses.replace(game_with(cost), rewards=jnp.array([[4.0, 0.0], [8.0, 0.0]]))
        axes = tbtjax.game.RankingGame(None, 0, None)
        assert jax.vmap(lambda one: one.rewards[0], in_axes=(axes,))(game).tolist() == [4, 8]


def test_paths_name_the_fields():
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(some_game())]
    assert paths[:2] == [".curves.alpha", ".curves.beta"] and ".cost.slopes" in paths
