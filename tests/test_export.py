"""Exported kernels answer like the library, in a process that cannot import it."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import jax
import numpy as np
import pytest
from random_games import random_games

from tbtjax import cli, is_zero_effort_pne, linear_cost, power_law, ranking_game
from tbtjax import stabilizing_threshold as threshold
from tbtjax.export import export_kernel

pytest.importorskip("flatbuffers")

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("equal_limits", "fast_weak", "saturated", "ties", "falling")

# What a caller without tbtjax does with a folder of artefacts and games.
CALLER = """
import sys
from pathlib import Path
sys.modules["tbtjax"] = None  # an import of it is an error
import jax, jax.export, numpy as np
jax.config.update("jax_enable_x64", True)
folder = Path(sys.argv[1])
for kernel in ("threshold", "verdict"):
    call = jax.jit(jax.export.deserialize(bytearray((folder / kernel).read_bytes())).call)
    for games in sorted(folder.glob(f"{kernel}*.npz")):
        with np.load(games) as arrays:
            found = call(*(arrays[name] for name in arrays.files))
        np.savez(games.with_suffix(".out"), **{k: np.asarray(v) for k, v in found.items()})
        Path(f"{games.with_suffix('.out')}.npz").rename(games.with_suffix(".out"))
assert "tbtjax" not in {name.split(".")[0] for name, module in sys.modules.items() if module}
"""


def compare(folder, python, count, sizes, max_models):
    """Writes artefacts and games, has another process call them, compares with the library."""
    for kernel in ("threshold", "verdict"):
        out = str(folder / kernel)
        words = ["export", kernel, "--max-models", str(max_models), "--out", out]
        assert cli.main(words) == 0
        about = json.loads((folder / f"{kernel}.json").read_text())
        assert about["arguments"][0] == {
            "name": "alpha", "shape": ["games", "models"], "dtype": "float64"
        }  # fmt: skip
    delta = np.random.default_rng(0).exponential(100.0, count)
    expected = {}
    for models in sizes:
        drawn = [random_games(models, count // len(KINDS), models, kind) for kind in KINDS]
        games = {name: np.concatenate([np.atleast_1d(x[name]) for x in drawn]) for name in drawn[0]}
        alpha, beta, rewards = (games[name] for name in ("alpha", "beta", "rewards"))
        rate = np.broadcast_to(games["cost_rate"], alpha.shape)
        limits = np.zeros(count), np.ones(count)
        arguments = {"alpha": alpha, "beta": beta, "lower": limits[0], "upper": limits[1]}
        arguments |= {"rewards": rewards, "rate": rate}
        with jax.enable_x64(True):
            game = ranking_game(power_law(alpha, beta), rewards, linear_cost(rate))
            record = jax.jit(threshold)(game)
            names = ("delta", "upper", "settled", "pair", "rival", "status")
            expected[f"threshold{models}"] = {x: np.asarray(getattr(record, x)) for x in names}
            verdict = np.asarray(is_zero_effort_pne(game, delta))
            expected[f"verdict{models}"] = {"zero_effort_pne": verdict}
        np.savez(folder / f"threshold{models}.npz", **arguments)
        np.savez(folder / f"verdict{models}.npz", **arguments, delta=delta)
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [python, "-c", CALLER, str(folder)]
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name, answers in expected.items():
        with np.load(folder / f"{name}.out") as found:
            assert set(found.files) == set(answers)
            for field, values in answers.items():
                assert found[field].dtype == values.dtype
                if values.dtype == np.float64:
                    # Δ* amplifies a rounding error of its logarithm by (1 + Δ*)/Δ*.
                    np.testing.assert_allclose(
                        np.log1p(found[field]), np.log1p(values), rtol=1e-13, atol=1e-13
                    )
                else:
                    np.testing.assert_array_equal(found[field], values)


def test_answers_like_the_library_without_it(tmp_path):
    compare(tmp_path, sys.executable, 600, sizes=(5,), max_models=6)


@pytest.mark.slow
def test_answers_like_the_library_from_an_environment_with_jax_alone(tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / "bin" / "python")
    wanted = (f"jax=={jax.__version__}", "flatbuffers")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    listed = subprocess.run(
        [python, "-m", "pip", "list"], capture_output=True, text=True, check=True
    )
    assert "jaxlib" in listed.stdout and "tbtjax" not in listed.stdout
    compare(tmp_path, python, 10_000, sizes=(2, 5, 20), max_models=20)


def test_every_choice_is_lowered(tmp_path):
    """Own limits, other costs, single precision, the number of models checked."""
    kernel = export_kernel(
        "threshold", max_models=3, limits="own", cost="power", dtype="float32", platforms=["cuda"]
    )
    assert [x.dtype for x in kernel.in_avals] == [np.float32] * 7
    assert kernel.out_avals[0].dtype == np.float32
    verdict = export_kernel("verdict", max_models=3, cost="quadratic")
    assert len(verdict.in_avals) == 8 and set(verdict.platforms) == {"cpu", "cuda"}
    four = np.zeros((1, 4))
    with jax.enable_x64(True), pytest.raises(ValueError, match="models"):
        verdict.call(*[np.zeros(1) if x.ndim == 1 else four for x in verdict.in_avals])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel": "effort"}, "kernel must be one of threshold, verdict; got 'effort'"),
        ({"kernel": "verdict", "cost": "cubic"}, "cost must be one of"),
        ({"kernel": "verdict", "limits": "shared"}, "limits must be one of equal, own"),
        ({"kernel": "verdict", "max_models": 1}, "max_models must be an integer of 2 or more"),
        ({"kernel": "verdict", "dtype": "int32"}, "dtype must be float32 or float64; got int32"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        export_kernel(**options)


def test_command_says_what_is_wrong(capsys, tmp_path):
    words = ["export", "verdict", "--max-models", "2", "--out", str(tmp_path / "no" / "file")]
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith("tbtjax export: error: --out ")


@pytest.mark.slow
def test_example_calls_an_artefact(tmp_path, monkeypatch, capsys):
    """The example's answers to two games of three models."""
    out = str(tmp_path / "threshold.jaxexport")
    assert cli.main(["export", "threshold", "--max-models", "3", "--out", out]) == 0
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, str(ROOT / "examples" / "call_exported.py"), out]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "Δ* = 6.190511 steps, decided by model 1 against 0: FOUND" in done.stdout
    assert "Δ* = 346.057933 steps" in done.stdout
