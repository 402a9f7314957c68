"""The published figures, against closed forms and SciPy's root finder."""

import importlib.util
import math
import pathlib

import pytest
from scipy.optimize import brentq

EXAMPLE = pathlib.Path(__file__).parents[1] / "examples" / "published_figures.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("published_figures", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures(example):
    found = example.published_figures()
    steepness = math.log((384_668 + 3_001) / 19) / math.log(3_001)  # 1/ρ
    assert found.learning_rate_ratio == pytest.approx(1 / steepness, rel=1e-12)
    assert found.learning_rate_ratio == pytest.approx(0.807, abs=5e-4)
    assert found.effort_at_zero == pytest.approx(18, rel=1e-12)
    assert found.effort_after_tuning == pytest.approx(384_668, rel=1e-12)
    assert found.rule_of_thumb == pytest.approx((100 / 18) ** (1 / steepness), rel=1e-12)
    assert found.rule_of_thumb == pytest.approx(3.99, abs=5e-3)
    # Δ* is where passing costs all that the reward is worth: e_req(Δ*) = 100.
    root = brentq(lambda y: 19 * math.exp(y * steepness) - math.exp(y) - 100, 0, 10, xtol=1e-14)
    assert found.threshold == pytest.approx(math.expm1(root), rel=1e-11)
    assert found.threshold == pytest.approx(2.94, abs=5e-3)
    assert found.threshold <= found.refined_bound <= found.rule_of_thumb
    assert found.refined_bound == pytest.approx(2.941, abs=5e-4)
    assert found.status == "FOUND"


def test_prints_them(example, capsys):
    example.main()
    printed = capsys.readouterr().out
    for figure in ("0.8068", "18", "384,668", "3.9891", "2.9398", "FOUND"):
        assert figure in printed
