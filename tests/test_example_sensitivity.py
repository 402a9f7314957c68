"""The example of sensitivities, against the closed form and the published signs."""

import importlib.util
import pathlib

import numpy as np
import pytest

EXAMPLE = pathlib.Path(__file__).parents[1] / "examples" / "sensitivity.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("sensitivity", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sensitivities(example):
    delta, decided_by, rows = example.sensitivities()
    assert decided_by == "12B against 27B"
    (alpha, weak_alpha), (beta, weak_beta) = example.ALPHA[:2], example.BETA[:2]
    g = example.REWARDS[0] - example.REWARDS[1]
    y, x = 1 + delta, 1 + delta + g
    # Δ* is where passing takes all the steps that the gap is worth.
    reach = (alpha - weak_alpha + beta * np.log(y)) / weak_beta
    np.testing.assert_allclose(np.exp(reach), x, rtol=1e-12)
    # With F = X/(ρ·y) − 1, as in the closed form of the sensitivities at a pair with equal limits.
    f = x * beta / (weak_beta * y) - 1
    expected = {
        ("27B", "alpha"): -x / (weak_beta * f),
        ("12B", "alpha"): x / (weak_beta * f),
        ("27B", "beta"): -x * np.log(y) / (weak_beta * f),
        ("12B", "beta"): x * np.log(x) / (weak_beta * f),
        ("27B", "reward"): 1 / f,
        ("12B", "reward"): -1 / f,
        ("12B", "cost rate"): -g / f,
    }
    found = {(row.model, row.parameter): row for row in rows}
    assert set(found) == set(expected)
    for key, slope in expected.items():
        assert found[key].derivative == pytest.approx(slope, rel=1e-10)
    row = found["12B", "beta"]
    assert row.elasticity == pytest.approx(row.derivative * weak_beta / delta, rel=1e-12)
    assert row.per_standard_error == pytest.approx(row.derivative * 0.003, rel=1e-12)
    assert [row.parameter for row in rows][:4] == ["alpha", "alpha", "beta", "beta"]


def test_table(example, capsys):
    example.main()
    printed = capsys.readouterr().out
    assert printed.startswith("Δ* = 60.13 steps, decided by 12B against 27B")
    assert len(printed.splitlines()) == 9
