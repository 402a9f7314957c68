"""Sweeps: known maps, statistics against a recount, derivatives against differences, bad input."""

import os
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

from tbtjax import (
    is_zero_effort_pne,
    just_overtake_effort,
    rule_of_thumb,
    stabilizing_threshold,
)
from tbtjax.cli import main
from tbtjax.study import ConfigError, parse_config, read_config, sample_games, sweep
from tbtjax.study.config import Sweep
from tbtjax.study.grid import make_grid
from tbtjax.study.kernel import layout_of
from tbtjax.study.runner import compute_chunk
from tbtjax.study.statistics import Bins, Extremes, Moments, Summary, merge, quantiles

PRIOR = {
    "count": 3,
    "capability": {"kind": "normal", "mean": 0.0, "deviation": 1.0},
    "learning_rate": {"kind": "uniform", "low": 0.5, "high": 1.0},
    "rewards": {"scheme": "geometric", "decay": 0.5},
    "cost": {"kind": "power", "scale": 1.0, "exponent": 1.2},
}
#: Steps of the finite differences, relative to the parameter.
STEP = 1e-5
FULL = {
    "draws": 1300,
    "seed": 5,
    "raw": True,
    "quantities": [
        "histogram",
        "equilibrium",
        "overtake",
        "binding",
        "rule-of-thumb",
        "sensitivity",
    ],
    "quantiles": [0.0, 0.1, 0.5, 0.9, 1.0],
    "games": PRIOR,
    "axes": [
        {"parameter": "rewards.prize", "values": [0.1, *(30 * (1 + k * STEP) for k in (-1, 0, 1))]},
        {"parameter": "rewards.decay", "values": [0.5 * (1 + k * STEP) for k in (-1, 0, 1)]},
        {"parameter": "delta", "values": [0.0, 3.0, 40.0]},
    ],
}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "full.zarr"
    finished = sweep(parse_config(FULL), path)
    assert (finished.failed, finished.damaged) == ({}, 0)
    return xr.open_zarr(path).load()


def games(prize, decay, draws=1300):
    document = {**PRIOR, "rewards": {"scheme": "geometric", "decay": decay, "prize": prize}}
    config = parse_config({"draws": draws, "games": document})
    return sample_games(jax.random.key(5), config.games, draws)


def test_draws_are_those_of_sample_games(full, x64):
    cell = {"prize": 2, "decay": 1}
    game = games(float(full.prize[2]), float(full.decay[1]))
    np.testing.assert_array_equal(full.draw_capability, game.curves.alpha)
    np.testing.assert_array_equal(full.draw_learning_rate, game.curves.beta)
    threshold = stabilizing_threshold(game)
    np.testing.assert_allclose(full.draw_delta[cell], threshold.delta, rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(full.draw_status[cell], threshold.status)


def test_statistics_by_recount(full):
    delta = full.draw_delta.values
    np.testing.assert_allclose(full.delta_mean, delta.mean(-1), rtol=1e-12)
    error = delta.std(-1, ddof=1) / np.sqrt(delta.shape[-1])
    np.testing.assert_allclose(full.delta_mean_error, error, rtol=1e-10)
    np.testing.assert_allclose(full.log_delta_mean, np.log1p(delta).mean(-1), rtol=1e-12)
    np.testing.assert_allclose(full.delta_least, delta.min(-1), rtol=1e-14)
    np.testing.assert_allclose(full.delta_largest, delta.max(-1), rtol=1e-14)
    for status in full.status.values:
        count = (full.draw_status == status).sum("draw")
        np.testing.assert_array_equal(full.status_count.sel(status=status), count)
    exact = np.moveaxis(np.quantile(delta, full["quantile"].values, axis=-1), 0, -1)
    off = np.abs(full.delta_quantile - exact)
    assert (off <= full.delta_quantile_error + 1e-12).all()
    # The errors say something: a histogram's resolution and some Monte Carlo noise.
    assert (full.delta_quantile_error <= 0.3 * (1 + full.delta_quantile)).sel(quantile=0.5).all()
    assert (full.delta_count.sum("bin") == 1300).all()
    np.testing.assert_array_equal(full.delta_count.isel(bin=0), (delta == 0).sum(-1))


def test_verdicts_ranks_and_the_rule_by_recount(full, x64):
    cell = {"prize": 2, "decay": 1}
    game = games(float(full.prize[2]), float(full.decay[1]))
    for level in full.delta.values:
        share = np.asarray(is_zero_effort_pne(game, level)).mean()
        assert full.equilibrium_share[cell].sel(delta=level) == share
    threshold = stabilizing_threshold(game)
    for rank in full.binding_rank.values:
        count = np.sum(np.asarray(threshold.pair) == rank - 1) if rank else 0
        count += np.sum(np.asarray(threshold.pair) < 0) if rank == 0 else 0
        assert full.binding_count[cell].sel(binding_rank=rank) == count
    rule = np.asarray(rule_of_thumb(game).delta).max(-1)
    gap = np.log1p(rule) - np.log1p(threshold.delta)
    np.testing.assert_allclose(full.rule_gap_mean[cell], gap.mean(), rtol=1e-9)
    assert full.rule_below_share[cell] == np.mean(rule < np.asarray(threshold.delta))
    for level in full.delta.values:
        effort = np.asarray(just_overtake_effort(game, level))
        found = full.sel(delta=level)
        exact = np.quantile(effort, full["quantile"].values, axis=0).T
        off = np.abs(found.overtake_quantile - exact)
        assert (off <= found.overtake_quantile_error + 1e-12).all()


def test_sensitivities_are_differences_of_the_map(full):
    """The same games in every cell: the mean's derivative is the mean of the derivatives."""
    mean = full.delta_mean.values
    for axis, parameter in enumerate(("rewards.prize", "rewards.decay")):
        values = full[parameter.split(".")[1]].values
        low, high = ((1, 3), (0, 2))[axis]
        other = (2, 1)[1 - axis]
        line = mean[:, other] if axis == 0 else mean[other]
        difference = (line[high] - line[low]) / (values[high] - values[low])
        cell = {"prize": 2, "decay": 1}
        found = full.sensitivity[cell].sel(parameter=parameter)
        np.testing.assert_allclose(found, difference, rtol=1e-5, atol=1e-5)
    assert (full.sensitivity.isel(prize=0).sel(parameter="rewards.prize") >= 0).all()


def test_known_map(tmp_path):
    """Linear cost, one learning rate: Δ* = max(0, g/e⁰ − 1), winner takes all."""
    document = {
        "draws": 40,
        "raw": True,
        "games": {
            **PRIOR,
            "learning_rate": 0.8,
            "rewards": {"scheme": "winner-take-all"},
            "cost": {"rate": 1.0},
        },
        "axes": [
            {"parameter": "rewards.prize", "log": [0.1, 1e4], "points": 7},
            {"parameter": "cost.rate", "log": [0.01, 10.0], "points": 5},
        ],
    }
    sweep(parse_config(document), tmp_path / "store")
    found = xr.open_zarr(tmp_path / "store").load()
    alpha = found.draw_capability.values
    e0 = np.expm1((alpha[:, 0] - alpha[:, 1]) / 0.8)
    worth = (found.prize / found.rate).values[..., None]
    expected = np.maximum(0, worth / e0 - 1)
    # Near Δ* = 0 what is left of 1 + Δ* is known to its own rounding.
    np.testing.assert_allclose(found.draw_delta, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.delta_mean, expected.mean(-1), rtol=1e-12)


def test_chunks_change_no_bit(full):
    config = parse_config(FULL)
    grid = make_grid(config)
    whole = compute_chunk(config, grid, 0)
    document = {
        **FULL,
        "axes": [{"parameter": a["parameter"], "values": a["values"]} for a in FULL["axes"]],
    }
    document["axes"][0]["values"] = FULL["axes"][0]["values"][2:3]
    part = parse_config(document)
    alone = compute_chunk(part, make_grid(part), 0)
    for name in ("delta", "log_delta", "status", "sensitivity", "raw_delta"):
        for all_cells, some in zip(
            jax.tree.leaves(whole[name]), jax.tree.leaves(alone[name]), strict=True
        ):
            np.testing.assert_array_equal(np.asarray(all_cells)[6:9], some)


def test_merging_is_like_counting_at_once():
    rng = np.random.default_rng(3)
    x = rng.normal(3, 1, 1000)

    def statistics(v):
        m = Moments(np.array(len(v)), np.array(v.mean()), np.array(((v - v.mean()) ** 2).sum()))
        return {"m": m, "e": Extremes(np.array(v.min()), np.array(v.max()))}

    total = statistics(x[:10])
    for part in np.split(x[10:], [100, 101, 700]):
        total = merge(total, statistics(part))
    expected = statistics(x)
    for a, b in zip(jax.tree.leaves(total), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_quantiles_with_infinite_numbers():
    bins = Bins(0.0, 1.0, 3)
    histogram = np.array([2, 2, 0, 0, 0])  # 0, 0, and two numbers up to 1
    s = Summary(
        Moments(np.array(4), np.array(0.4), np.array(0.1)),
        Extremes(np.array(0.0), np.array(0.9)),
        np.array(4),
        histogram,
    )
    value, error = quantiles(s, np.array([0.0, 0.2, 0.5, 1.0]), bins)
    assert value[0] == value[1] == 0
    assert 0 < value[2] <= 0.9 or np.isinf(value[2])
    assert np.isinf(value[3])
    assert (error >= 0).all()


def test_layout_depends_on_the_number_of_draws_alone():
    assert layout_of(7) == layout_of(7)
    for draws in (1, 999, 1000, 1001, 64_000, 64_001, 10**9):
        layout = layout_of(draws)
        size = layout.group_size * layout.groups
        assert draws <= size < draws + layout.groups * layout.block + layout.block


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = """
draws = 50
[games]
count = 3
capability = { kind = "normal", mean = 0, deviation = 1 }
learning_rate = 0.8
[games.rewards]
scheme = "top-k"
k = 2
[games.cost]
rate = 1.0
"""


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("draws = 50", "draws = 50\ndrawss = 3"), "drawss: unknown key; did you mean 'draws'?"),
        (("count = 3", "count = 3\ncapabilty = 1"), "games.capabilty: unknown key"),
        (("rate = 1.0", "rate = -1.0"), "games.cost.rate: expected a cost that is not negative"),
        (("k = 2", "k = 4"), "games.rewards.k: expected at most the number of models, 3; got 4"),
        (("draws = 50", "draws = 100_000_000_000"), "draws: expected less than or equal to"),
        (("draws = 50", "draws = 0"), "draws"),
        (("count = 3", "count = 100000"), "games.count"),
        (("count = 3", 'count = "three"'), "games.count"),
        (("deviation = 1", "deviation = nan"), "games.capability.deviation"),
        (('kind = "normal"', 'kind = "gauss"'), "games.capability: expected a number or"),
        (("[games.cost]\nrate = 1.0", ""), "games.cost: missing"),
        (("draws = 50", "draws = "), "not a TOML file"),
    ],
)
def test_bad_configurations(tmp_path, capsys, change, key):
    config = write(tmp_path, GOOD.replace(*change))
    assert main(["sweep", str(config), "--out", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert key in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.toml"]


AXIS = "\n[[axes]]\nparameter = "


@pytest.mark.parametrize(
    ("axis", "key"),
    [
        ('"cost.rate"\nvalues = [1, -1]', "axes.0: at -1.0: games.cost.rate"),
        ('"rewards.k"\nvalues = [1, 4]', "at 4: games.rewards.k: expected at most"),
        ('"cost.speed"\nvalues = [1]', "games.cost.speed: unknown key"),
        ('"cost.exponent"\nvalues = [1]', "'cost.exponent' has no effect"),
        ('"nothing.at.all"\nvalues = [1]', "no parameter 'nothing.at.all'"),
        (
            '"cost.rate"\nlog = [1, 2]\npoints = 900_000\n'
            + AXIS
            + '"rewards.prize"\nlog = [1, 2]\npoints = 900_000',
            "cells",
        ),
        ('"cost.rate"\nlog = [0, 2]\npoints = 9', "axes.0.log.0"),
        ('"cost.rate"\nlog = [1, 2]', "axes.0.points"),
        ('"cost.rate"', "axes.0.values"),
        ('"delta"\nvalues = [-1]', "levels that are not negative"),
        ('"cost.rate"\nvalues = [1]\nname = "quantile"', "'quantile' is a name of the results"),
    ],
)
def test_bad_axes(tmp_path, capsys, axis, key):
    config = write(tmp_path, GOOD + AXIS + axis)
    assert main(["sweep", str(config), "--out", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert key in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.toml"]


def test_unwritable_path(tmp_path, capsys):
    config = write(tmp_path, GOOD)
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "store"
    assert main(["sweep", str(config), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(out) in error
    assert main(["sweep", str(tmp_path / "none.toml"), "--out", "x"]) == 2
    assert "No such file" in capsys.readouterr().err
    assert main(["sweep", str(config)]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["sweep", str(config), "--out", "x", "--export", "a.xlsx"]) == 2
    assert ".nc or .csv" in capsys.readouterr().err


def test_configuration_is_kept(full):
    assert Sweep.model_validate_json(full.attrs["configuration"]) == parse_config(FULL)
    assert full.attrs["tbtjax_version"]
    assert full.delta_mean.attrs["units"] == "steps"
    assert full.status.attrs["flag_meanings"].split()[0] == "FOUND"
    assert len(full.status.attrs["flag_values"]) == len(full.status)


@pytest.mark.slow
def test_measurements_as_a_prior(tmp_path):
    rows = ["model,step,score,questions"]
    for model, alpha in (("large", 1.0), ("small", 0.0)):
        for step in (0, 10, 100, 1000):
            score = 1 / (1 + np.exp(-alpha - 0.3 * np.log1p(step)))
            rows.append(f"{model},{step},{score:.6f},1000")
    (tmp_path / "scores.csv").write_text("\n".join(rows), encoding="utf-8")
    text = GOOD.replace("count = 3", "count = 4").replace("learning_rate = 0.8", "")
    text = text.replace('capability = { kind = "normal", mean = 0, deviation = 1 }', "")
    text += '\n[games.fitted]\npath = "scores.csv"\n'
    population = read_config(write(tmp_path, text)).games.population
    assert population is not None
    np.testing.assert_allclose(population.alpha, [1.0, 0.0], atol=1e-3)
    assert population.models == ("large", "small")
    with pytest.raises(ConfigError, match=r"games.fitted.*missing.csv"):
        read_config(write(tmp_path, text.replace("scores.csv", "missing.csv")))
    with pytest.raises(ConfigError, match=r"games.fitted.pth: unknown key"):
        read_config(write(tmp_path, text.replace("path =", "pth =")))


@pytest.mark.parametrize("path", sorted(Path("examples").glob("*.toml")), ids=lambda p: p.stem)
def test_examples_are_valid(path):
    config = read_config(path)
    assert config.cells * config.draws < 10**6
    assert "title" in tomllib.loads(path.read_text(encoding="utf-8"))
    assert os.fspath(path)


@pytest.mark.slow
def test_a_thousand_cells_by_recount(tmp_path):
    """Means and quantiles of the draws themselves, within the stated errors."""
    document = {
        "draws": 400,
        "raw": True,
        "games": PRIOR,
        "axes": [
            {"parameter": "rewards.prize", "log": [1.0, 1e4], "points": 40},
            {"parameter": "cost.scale", "log": [1e-2, 1e2], "points": 25},
        ],
    }
    sweep(parse_config(document), tmp_path / "store")
    cells = xr.open_zarr(tmp_path / "store").load()
    delta = cells.draw_delta.values
    assert delta.shape[:2] == (40, 25)
    quantiles = np.moveaxis(np.quantile(delta, cells["quantile"].values, axis=-1), 0, -1)
    for name, recount in (("delta_mean", delta.mean(-1)), ("delta_quantile", quantiles)):
        off = np.abs(cells[name].values - recount)
        within = off <= 2 * cells[f"{name}_error"].values + 1e-12 * (1 + recount)
        print(name, within.reshape(1000, -1).mean(0))
        assert (within.reshape(1000, -1).mean(0) >= 0.95).all()


@pytest.mark.slow
def test_errors_hold_what_they_say(tmp_path):
    """1,000 independent cells against one of 400 times as many draws."""
    document = {
        "draws": 500,
        "games": {**PRIOR, "rewards": {"scheme": "winner-take-all", "prize": 50.0}},
    }
    many = {**document, "axes": [{"parameter": "seed", "values": list(range(1, 1001))}]}
    sweep(parse_config(many), tmp_path / "many")
    sweep(parse_config({**document, "draws": 200_000}), tmp_path / "one")
    cells, truth = (xr.open_zarr(tmp_path / name).load() for name in ("many", "one"))
    for name in ("delta_mean", "log_delta_mean", "delta_quantile"):
        off = np.abs(cells[name] - truth[name])
        within = (off <= 2 * cells[f"{name}_error"]).mean("seed")
        print(name, within.values)
        # 0.954 for the normal law; the mean of Δ* itself has a heavy tail.
        assert (within >= (0.90 if name == "delta_mean" else 0.94)).all()
