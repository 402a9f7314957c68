"""Figures of sweeps: which there are, in both formats, with units; bad stores."""

import matplotlib
import numpy as np
import pytest

from tbtjax.cli import main
from tbtjax.study import parse_config, sweep
from tbtjax.study.export import open_results
from tbtjax.study.figures import figures

matplotlib.use("Agg")

CONFIG = {
    "draws": 30,
    "deviations": "adjacent",
    "quantities": ["threshold", "equilibrium", "overtake", "sensitivity"],
    "games": {
        "count": 2,
        "capability": {"kind": "normal", "mean": 0, "deviation": 1},
        "learning_rate": {"kind": "uniform", "low": 0.5, "high": 1.0},
        "rewards": {"scheme": "winner-take-all"},
        "cost": {"rate": 1.0},
    },
    "axes": [
        {"parameter": "rewards.prize", "log": [1e-3, 1e4], "points": 6},
        {"parameter": "cost.rate", "log": [0.1, 10], "points": 3},
        {"parameter": "rewards.scheme", "values": ["winner-take-all", "equal-gaps"]},
        {"parameter": "delta", "values": [0.1, 1, 10, 100]},
    ],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("plot") / "map.zarr"
    sweep(parse_config(CONFIG), path)
    return path


def test_files(store, tmp_path, capsys):
    assert main(["plot", str(store), "--out", str(tmp_path / "figures")]) == 0
    names = {p.name for p in (tmp_path / "figures").iterdir()}
    kinds = ("threshold_map", "stability_region", "threshold_by_scheme")
    kinds += ("sensitivity_bars", "sensitivity_maps", "overtaking_effort")
    assert names == {f"{kind}.{suffix}" for kind in kinds for suffix in ("png", "svg")}
    assert (tmp_path / "figures" / "threshold_map.png").read_bytes()[:4] == b"\x89PNG"
    assert "threshold_map.svg" in capsys.readouterr().out


def test_labels_and_scales(store):
    shown = dict(figures(*open_results(store)))
    axes = shown["threshold_map"].axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "rewards.prize (value)".replace("rewards.prize", "prize")
    assert axes.get_ylabel() == "rate (value per step)"
    assert "training steps" in shown["threshold_map"].axes[1].get_ylabel()
    region = shown["stability_region"]
    assert "Δ (training steps)" in region.axes[0].get_ylabel()
    (mesh,) = [c for c in region.axes[0].collections if c.get_array() is not None]
    share = np.asarray(mesh.get_array())
    assert share.shape == (4, 6)
    assert (np.diff(share, axis=0) >= 0).all()
    assert "scheme = equal-gaps" in region.get_suptitle()


def test_bad_stores(tmp_path, capsys):
    for path in (tmp_path / "none", tmp_path):
        assert main(["plot", str(path)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "not a store of `tbtjax sweep`" in error
