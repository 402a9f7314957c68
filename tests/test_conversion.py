"""Arguments from other libraries, and records as text, dictionaries, tables and datasets."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tbtjax import (
    best_response,
    is_zero_effort_pne,
    just_overtake_effort,
    linear_cost,
    power_law,
    ranking_game,
    rule_of_thumb,
    stabilizing_threshold,
    tabulated,
)
from tbtjax._checks import as_array

ALPHA, BETA, REWARDS = [1.0, 0.5, 0.0], [0.9, 0.8, 0.7], [10.0, 0.0, 0.0]


@pytest.fixture(scope="module")
def threshold():
    game = ranking_game(power_law(ALPHA, BETA), [REWARDS, [0, 0, 0]], linear_cost(1.0))
    return stabilizing_threshold(game)


class OnlyDlpack:
    """What offers DLPack and nothing else."""

    def __init__(self, values):
        self._array = np.asarray(values, np.float32)

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def kinds_of_array():
    """Functions that make an array of a list, with a name each."""
    yield "list", list
    yield "tuple", tuple
    yield "nested scalars", lambda values: [np.float64(x) for x in values]
    yield "numpy", np.array
    yield "numpy view", lambda values: np.array(values[::-1])[::-1]
    yield "jax", jnp.array
    yield "dlpack", OnlyDlpack


@pytest.mark.parametrize("make", [pytest.param(f, id=name) for name, f in kinds_of_array()])
def test_arrays_of_every_kind_are_read(make):
    values = [1.5, -2.0, 0.25]
    array = as_array("x", make(values))
    assert isinstance(array, jax.Array) and array.dtype == jnp.float32
    assert array.tolist() == values
    assert power_law(make(values), 1.0).alpha.dtype == jnp.float32


def test_dtype_that_comes_back():
    """The widest floating dtype given; float64 needs JAX's 64-bit mode."""
    half, single, double = (np.ones(2, dtype) for dtype in (np.float16, np.float32, np.float64))
    assert power_law(half, 1.0).alpha.dtype == jnp.float16
    assert power_law(half, single).alpha.dtype == jnp.float32
    assert power_law(double, 1.0).alpha.dtype == jnp.float32
    assert power_law([1, 0], 1).alpha.dtype == jnp.float32
    with jax.enable_x64(True):
        assert power_law(double, single).alpha.dtype == jnp.float64
        assert power_law(single, 1.0).alpha.dtype == jnp.float32
        game = ranking_game(power_law(single, 1.0), [1, 0], linear_cost(1.0))
        assert just_overtake_effort(game, 0.0).dtype == jnp.float32
        assert is_zero_effort_pne(game, np.float64(1.0)).dtype == jnp.bool_


def test_integers_that_are_too_long_become_floats():
    assert as_array("x", 2**40).dtype == jnp.float32
    assert as_array("x", np.array([2**40, 1])).tolist() == [2.0**40, 1.0]
    assert as_array("x", [3, 4]).dtype == jnp.int32


def test_what_holds_no_numbers_is_named():
    for value in ("abc", ["1", "2"], [[1.0], [1.0, 2.0]], None, {}, [None], True, 1j, object()):
        with pytest.raises(TypeError, match="alpha must be an array of real numbers"):
            power_law(value, 1.0)


def test_later_changes_of_the_argument_change_nothing():
    values = np.array([1.0, 0.0], np.float32)
    curves = power_law(values, 1.0)
    values[:] = 7
    assert curves.alpha.tolist() == [1.0, 0.0]


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    curves = power_law(torch.tensor(ALPHA), torch.tensor(BETA, dtype=torch.float64))
    game = ranking_game(curves, torch.tensor(REWARDS), linear_cost(torch.tensor(1.0)))
    assert game.dtype == jnp.float32
    plain = ranking_game(power_law(ALPHA, BETA), REWARDS, linear_cost(1.0))
    level = torch.tensor([0.0, 3.0])
    np.testing.assert_array_equal(
        just_overtake_effort(game, level), just_overtake_effort(plain, level.numpy())
    )
    assert power_law(torch.ones(2, dtype=torch.bfloat16), 1.0).alpha.dtype == jnp.bfloat16
    with jax.enable_x64(True):
        assert power_law(torch.ones(2, dtype=torch.float64), 1.0).alpha.dtype == jnp.float64
    with pytest.raises(TypeError, match=r"alpha .*grad.*detach"):
        power_law(torch.ones(2, requires_grad=True), 1.0)
    back = torch.from_dlpack(just_overtake_effort(plain, 0.0))
    assert back.dtype == torch.float32 and back.shape == (2,)


def test_pandas_columns():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"alpha": ALPHA, "beta": BETA, "rewards": REWARDS})
    game = ranking_game(power_law(table.alpha, table.beta), table.rewards, linear_cost(1.0))
    plain = ranking_game(power_law(ALPHA, BETA), REWARDS, linear_cost(1.0))
    for ours, theirs in zip(jax.tree.leaves(game), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    scores = pandas.DataFrame([[0.5, 0.6], [0.4, None]], dtype="Float64")
    curves = tabulated([0.0, 10.0], scores)
    assert np.isnan(curves.scores[1, 1]) and curves.scores.shape == (2, 2)
    with pytest.raises(TypeError, match="alpha must be"):
        power_law(pandas.Series(["a", "b"]), 1.0)


def test_records_print_what_they_hold(threshold):
    text = repr(threshold)
    assert text.startswith("StabilizingThreshold of 2 games, float32\n")
    assert "delta    [6.1905, 0]" in text and "the first stabilizing level" in text
    assert "[FOUND, STABLE_AT_ZERO]" in text
    many = jax.tree.map(lambda x: jnp.repeat(x, 10, axis=0), threshold)
    assert "STABLE_AT_ZERO: 10" in repr(many) and "0 to 6.191, median" in repr(many)
    assert "20 inf" in repr(many)


def test_records_print_under_tracing():
    seen = []

    @jax.jit
    def traced(game):
        seen.append(repr(game))
        return game.rewards

    game = ranking_game(power_law(ALPHA, BETA), REWARDS, linear_cost(1.0))
    traced(game)
    assert "alpha  float32[3]" in seen[0]
    assert "RankingGame" in repr(jax.tree.structure(game))
    assert "float32[2]" in repr(jax.eval_shape(stabilizing_threshold, game))
    assert repr(jax.tree.map(lambda _: None, game))
    assert repr(jax.tree.map(lambda _: object(), game))


def test_records_as_dictionaries(threshold):
    found = threshold.to_dict()
    assert found["status"].tolist() == ["FOUND", "STABLE_AT_ZERO"]
    assert found["by_pair"].shape == (2, 2) and found["by_pair"].dtype == np.float32
    one = threshold[0].to_dict()
    assert one["status"] == "FOUND" and type(one["delta"]) is float and one["pair"] == 1
    game = ranking_game(power_law(ALPHA, BETA), REWARDS, linear_cost(1.0)).to_dict()
    assert game["curves"]["alpha"].tolist() == ALPHA
    assert game["cost"] == {"rate": 1.0} and game["present"] is None


def test_records_as_tables(threshold):
    pandas = pytest.importorskip("pandas")
    table = threshold.to_pandas()
    assert list(table.columns[:2]) == ["delta", "upper"] and table.index.name == "game"
    assert table["by_pair[0]"].tolist() == threshold.by_pair[:, 0].tolist()
    assert table["status"].tolist() == ["FOUND", "STABLE_AT_ZERO"]
    game = ranking_game(power_law(ALPHA, BETA), REWARDS, linear_cost(1.0))
    models = best_response(game, [0.0, 5.0], 0.0).to_pandas()
    assert models.index.names == ["game", "model"] and models.shape == (6, 3)
    assert isinstance(models.index, pandas.MultiIndex)
    assert len(threshold[0].to_pandas()) == 1
    assert rule_of_thumb(game).to_pandas().index.name == "pair_of_neighbours"


def test_records_as_datasets(threshold, tmp_path):
    pytest.importorskip("xarray")
    dataset = threshold.to_xarray()
    assert dict(dataset.sizes) == {"game": 2, "pair_of_neighbours": 2}
    assert dataset["status"].values.tolist() == ["FOUND", "STABLE_AT_ZERO"]
    assert dataset["delta"].dtype == np.float32
    game = ranking_game(power_law([ALPHA] * 2, BETA), REWARDS, linear_cost(1.0)).to_xarray()
    assert game["curves.alpha"].dims == ("game", "model")
    assert game["cost.rate"].shape == (2, 3)


@pytest.mark.parametrize("library", ["pandas", "xarray"])
def test_missing_libraries_are_named(threshold, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"to_{library} needs {library} \(pip install"):
        getattr(threshold, f"to_{library}")()


def test_calls_of_one_shape_are_compiled_once():
    """NumPy, lists, Python numbers and JAX arrays alike."""
    compiled, counts = [], []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for make in (np.array, list, jnp.array):
            for delta in (0.0, 1, np.float64(2.0), jnp.float32(3.0)):
                game = ranking_game(power_law(make(ALPHA), make(BETA)), REWARDS, linear_cost(2.5))
                before = len(compiled)
                just_overtake_effort(game, delta)
                is_zero_effort_pne(game, delta)
                counts.append(len(compiled) - before)
        assert counts[0] > 0
        assert not any(counts[1:]), counts
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
