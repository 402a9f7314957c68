"""Large batches: chunks, several devices, memory."""

import functools
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_games import random_games

from tbtjax import _batch, linear_cost, power_law, ranking_game, stabilizing_threshold
from tbtjax._records import align


def thresholds(games):
    curves = power_law(games["alpha"], games["beta"], games["lower"], games["upper"])
    return stabilizing_threshold(
        ranking_game(curves, games["rewards"], linear_cost(games["cost_rate"]))
    )


@pytest.mark.parametrize("kind", ["fast_weak", "monotone_different_limits"])
def test_chunks_do_not_show(kind, x64, monkeypatch):
    """A batch that is no multiple of the chunk, worked through in one chunk and in many."""
    games = random_games(1, 1_003, 4, kind)
    whole = thresholds(games)
    for platform, sizes in _batch._SIZES.items():
        monkeypatch.setitem(_batch._SIZES, platform, sizes._replace(entries=400, own=0))
    jax.clear_caches()
    chunked = thresholds(games)
    jax.clear_caches()
    for x, y in zip(jax.tree.leaves(whole), jax.tree.leaves(chunked), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_games_left_open_take_the_next_road(x64, monkeypatch):
    """In many chunks and blocks: each game is answered by the first road that knows it."""
    for platform, sizes in _batch._SIZES.items():
        small = sizes._replace(entries=40, own=0, lanes=1, again=64, rest=8)
        monkeypatch.setitem(_batch._SIZES, platform, small)
    size = 1_003
    need = np.random.default_rng(0).integers(0, 3, size)
    # Some that need the second road pass for settled, but for the check: not in every chunk.
    hidden = (need == 1) & (np.arange(size) % 200 < 100)
    curves = power_law(np.stack([need, np.arange(size), hidden], axis=-1), 1.0)
    game = align(ranking_game(curves, np.zeros(3), linear_cost(1.0)))

    def road(number, has_check):
        def solve(chunk):
            need, index, hidden = chunk.curves.alpha.T
            answers = {"road": need * 0 + number, "index": index}
            is_open = need > number
            if has_check:
                is_open = is_open & (hidden == 0), (hidden > 0) | (index % 3 == 0)
            return answers if number == 2 else (answers, is_open)

        return solve

    def passes(chunk):
        return chunk.curves.alpha[:, 2] == 0

    for check in (None, passes):
        first, again, rest = (road(i, check is not None and i == 0) for i in range(3))
        roads = _batch.Roads(first, rest, again=again, check=check)
        solve = functools.partial(_batch.map_games, roads, entries_per_game=1)
        found = jax.jit(solve)(game)
        np.testing.assert_array_equal(found["road"], need)
        np.testing.assert_array_equal(found["index"], np.arange(size))


def test_memory_beyond_inputs_and_outputs_is_small():
    """The compiler's own account for 10⁶ games of 20 models."""
    shape = jax.ShapeDtypeStruct((10**6, 20), jnp.float32)

    def delta(alpha, beta, rewards):
        game = ranking_game(power_law(alpha, beta), rewards, linear_cost(1.0))
        return stabilizing_threshold(game).delta

    memory = jax.jit(delta).lower(shape, shape, shape).compile().memory_analysis()
    if memory is None:
        pytest.skip("this backend gives no memory analysis")
    needed = memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert memory.temp_size_in_bytes <= needed


DEVICES = """
    import sys
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    from random_games import random_games
    from tbtjax import linear_cost, power_law, ranking_game, stabilizing_threshold

    jax.config.update("jax_enable_x64", True)
    rounding = float(sys.argv[1])
    games = random_games(1, int(sys.argv[2]), 4, "fast_weak")
    arrays = [jnp.asarray(games[name]) for name in ("alpha", "beta", "rewards", "cost_rate")]

    def delta(alpha, beta, rewards, rate):
        game = ranking_game(power_law(alpha, beta), rewards, linear_cost(rate))
        return stabilizing_threshold(game).delta

    expected = delta(*arrays)
    automatic = Mesh(np.array(jax.devices()), ("games",))
    explicit = jax.make_mesh((2,), ("games",))
    for mesh in (automatic, explicit):
        sharded = jax.device_put(arrays, NamedSharding(mesh, P("games")))
        compiled = jax.jit(delta).lower(*sharded).compile()
        text = compiled.as_text()
        assert "all-gather" not in text and "all-reduce" not in text
        for solve in (delta, compiled):
            found = solve(*sharded)
            assert found.sharding.spec[0] == "games", found.sharding
            np.testing.assert_allclose(found, expected, rtol=rounding)
    own = jax.jit(jax.shard_map(delta, mesh=automatic, in_specs=P("games"), out_specs=P("games")))
    sharded = jax.device_put(arrays, NamedSharding(automatic, P("games")))
    # There it is not known how many games the other devices have, which decides upon the roads.
    np.testing.assert_allclose(own(*sharded), expected, rtol=1e-14)
    print("same on", len(jax.devices()), "devices")
"""


@pytest.mark.slow
def test_no_bit_depends_on_how_long_neighbours_take(x64):
    """Games are solved in blocks, each until its slowest is done."""
    games = random_games(1, 2_000, 4, "fast_weak")
    names = ("alpha", "beta", "rewards", "cost_rate")

    @jax.jit
    def solve(alpha, beta, rewards, rate):
        game = ranking_game(power_law(alpha, beta), rewards, linear_cost(rate))
        threshold = stabilizing_threshold(game)
        return threshold.delta, threshold.upper, threshold.by_pair

    together = solve(*(games[name] for name in names))
    kept = np.arange(2_000) % 3 == 0
    alpha = np.where(kept[:, None], games["alpha"], np.nan)
    alone = solve(alpha, *(games[name] for name in names[1:]))
    for whole, part in zip(together, alone, strict=True):
        np.testing.assert_array_equal(part[kept], whole[kept])


@pytest.mark.parametrize(
    "compiled", ["as here", pytest.param("as users do", marks=pytest.mark.slow)]
)
def test_sharded_games_are_solved_where_they_are(compiled):
    """Two host devices, meshes of both kinds, and the caller's own shard_map.

    No bit differs as users compile; in a hurry, programs for one device and for two round apart.
    """
    flags, rounding, environment = os.environ.get("XLA_FLAGS", ""), 1e-15, dict(os.environ)
    size = 2_000
    if compiled == "as users do":
        # More than one chunk, on each device less.
        flags, rounding, size = "", 0, 6_000
        environment.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)
    flags += " --xla_force_host_platform_device_count=2"
    path = os.pathsep.join([os.path.dirname(__file__), os.getcwd(), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DEVICES), str(rounding), str(size)],
        env={**environment, "XLA_FLAGS": flags, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "same on 2 devices" in done.stdout


def test_a_thread_local_64_bit_mode_is_noticed():
    before = _batch._is_mode_global()
    with jax.enable_x64(not jax.config.jax_enable_x64):
        assert _batch._is_mode_global() != before
