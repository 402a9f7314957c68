"""The benchmark's own correctness: its games, its peers, its checks and one row end to end."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("optimistix")

from benchmarks import (
    numba_peers,
    optimistix_peers,
    peers,
    report,
    roofline,
    rows,
    timing,
    workloads,
)

LIMITS = ("equal", "different")


def _relative(delta, y):
    return np.max(np.abs(np.log1p(np.asarray(delta, np.float64)) - y) / (1 + y))


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("models", (2, 5, 20))
def test_games_are_as_described(limits, models):
    games = workloads.draw_games(limits, 600, models, "float64")
    effort = workloads.baseline_catch_up(games.alpha, games.beta, games.lower, games.upper)
    unstable = np.any(effort < -np.diff(games.rewards), axis=-1)
    assert abs(np.mean(unstable) - 2 / 3) < 0.01
    assert workloads.count_falling_gaps(games) == 0
    assert workloads.count_falling_gaps(games.astype(np.float32)) == 0
    assert np.all(np.diff(games.rewards) <= 0)
    again = workloads.draw_games(limits, 600, models, "float64")
    assert all(np.array_equal(x, y) for x, y in zip(games.arrays(), again.arrays(), strict=True))


def test_falling_gaps_are_counted():
    games = workloads.draw_games("equal", 600, 5, "float64", learning_rates="shuffled")
    assert workloads.count_falling_gaps(games) > 100


@pytest.mark.parametrize(
    "limits, dtype",
    [
        ("equal", "float64"),
        pytest.param("equal", "float32", marks=pytest.mark.slow),
        pytest.param("different", "float64", marks=pytest.mark.slow),
    ],
)
def test_peers_agree(limits, dtype):
    games = workloads.draw_games(limits, 200, 5, dtype)
    arrays = games.arrays()
    # brentq works in Python's float64 whatever the inputs.
    loop = {"equal": peers.brentq_equal, "different": peers.brentq_different}[limits]
    y = np.log1p(loop(*arrays))
    solvers = [peers.numpy_bisection, peers.scipy_find_root]
    kinds = {"equal": ("newton", "tuned"), "different": ("newton", "bisection")}[limits]
    solvers += [getattr(numba_peers, f"{kind}_{limits}") for kind in kinds]
    for solve in solvers:
        delta = solve(*arrays)
        assert delta.dtype == dtype
        assert _relative(delta, y) < rows.BOUND[dtype], solve
    with jax.enable_x64(dtype == "float64"):
        for solve in (optimistix_peers.newton, optimistix_peers.bisection):
            delta = jax.jit(solve)(*(jax.numpy.asarray(x) for x in arrays))
            assert delta.dtype == dtype
            assert _relative(delta, y) < rows.BOUND[dtype], solve


@pytest.mark.parametrize("limits", LIMITS)
def test_effort_and_verdict_peers_agree_with_the_thresholds(limits):
    games = workloads.draw_games(limits, 200, 5, "float64")
    alpha, beta, rewards, *bounds = games.arrays()
    threshold = peers.numpy_bisection(*games.arrays())
    overtake = getattr(numba_peers, f"overtake_{limits}")
    verdict = getattr(numba_peers, f"verdict_{limits}")
    for factor, stable in ((0.999, threshold == 0), (1.001, np.full(200, True))):
        delta = factor * threshold
        efforts = peers.numpy_overtake(alpha, beta, delta, *bounds)
        np.testing.assert_allclose(overtake(alpha, beta, delta, *bounds), efforts, rtol=1e-9)
        assert np.array_equal(np.all(efforts >= -np.diff(rewards), axis=-1), stable)
        assert np.array_equal(verdict(alpha, beta, rewards, delta, *bounds), stable)


def test_checks_notice_wrong_answers():
    with jax.enable_x64(True):
        row = rows.gradient_row("different", 5, "float64", 300)
        contestant = next(c for c in row.contestants if c.name.startswith("value and"))
        delta, gradients = contestant.answers(contestant.call())
    worst, wrong, checked = row.check(contestant, (delta, gradients))
    assert (wrong, checked) == (0, 300) and worst < 1e-9
    off = delta.copy()
    off[7] += 1e-6 * (1 + off[7])
    assert row.check(contestant, (off, gradients))[1] == 1
    turned = [np.array(x) for x in gradients]
    turned[1] *= 1.001
    assert row.check(contestant, (delta, turned))[1] > 100


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="peers run on the processor")
@pytest.mark.parametrize("make", (rows.response_row, rows.dynamics_row))
def test_the_follower_game_beside_its_peer(make):
    """Another computation of the same answers; one that is off is noticed."""
    with jax.enable_x64(True):
        row = make(5, "float64", 48)
        mine, theirs = row.contestants[0], row.contestants[-1]
        answers = mine.answers(mine.call())
    assert (mine.ours, theirs.ours) == (True, False)
    assert row.check(mine, answers)[1:] == (0, 48 * 5)
    assert row.check(theirs, theirs.answers(theirs.call()))[1] == 0
    answers = answers.copy()
    answers[3, 2] += 1e-3 * row.games.rewards[3, 0]
    assert row.check(mine, answers)[1] == 1


def test_least_work_is_what_its_text_says():
    counts = roofline.least_work("threshold/equal", "float64", 5)
    positive = {key: number for key, number in counts.items() if number}
    assert positive == {
        ("log", "float32"): 8,
        ("log", "float64"): 1,
        ("expm1", "float64"): 1,
    }
    assert roofline.least_work("all/equal", "float32", 20)["log", "float32"] == 2 * 19
    different = roofline.least_work("threshold/different", "float64", 5)
    assert (different["log", "float64"], different["exp", "float64"]) == (2, 1)
    verdict = roofline.least_work("verdict/different", "float64", 5)
    assert verdict == {("log", "float32"): 8, ("exp", "float32"): 4, ("log1p", "float32"): 1}


def test_ratios_are_per_game_and_goals_take_the_better_peer():
    games = workloads.draw_games("different", 100, 5, "float64")
    contestants = [
        timing.Contestant("tbtjax, 1 device", lambda: None, 100, devices=1, ours=True),
        timing.Contestant("numba newton", lambda: None, 100),
        timing.Contestant("numba bisection", lambda: None, 50),
    ]
    seconds = {"tbtjax, 1 device": 1.0, "numba newton": 3.0, "numba bisection": 1.0}
    times = {k: timing.Times(0.0, np.full(3, s), None) for k, s in seconds.items()}
    row = rows.Row("threshold/different/n5/float64", games, contestants, lambda *_: (0, 0, 0), {})
    ratios = report.row_result(row, times, None)["ratios"]
    assert {x["of"]: x["median"] for x in ratios} == {"numba newton": 3, "numba bisection": 2}
    (goal,) = report.goals(row, times)
    assert goal["reached"]["median"] == 2 and goal["met"]


def test_one_row_end_to_end(tmp_path):
    root = pathlib.Path(__file__).resolve().parent.parent
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.run", "--quick", "--games", "256"]
    command += ["--repeats", "2", "--only", "overtake/equal/n5/float64", "--out", str(out)]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    (row,) = figures["rows"]
    assert figures["environment"]["devices"] == 2
    names = [contestant["name"] for contestant in row["contestants"]]
    assert names == ["tbtjax, 1 device", "tbtjax, 2 devices", "numba", "NumPy"]
    for contestant in row["contestants"]:
        assert contestant["wrong"] == 0 and contestant["checked"] == 256 * 4
        assert contestant["worst_error"] < 1e-9
        assert contestant["games_per_second"] > 0
    assert "overtake/equal/n5/float64" in done.stdout
