"""The analysis behind `tbtjax analyze`, against SciPy, closed forms and published figures."""

import csv
import itertools
import json
import math
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from tbtjax.measure import FitFlag, read_trajectories
from tbtjax.report import figures
from tbtjax.report._format import number, to_json
from tbtjax.report.analysis import analyze
from tbtjax.report.document import to_document
from tbtjax.report.files import write_files
from tbtjax.report.settings import AnalysisError, RewardScheme, Settings
from tbtjax.report.text import to_text
from tbtjax.threshold import Status

STEPS = np.array([0, 1, 3, 10, 30, 100, 300, 1000.0])
#: Strong, middle, weak: the paper's family with equal limits, without noise.
ALPHA, BETA, LOWER = np.array([1.0, 0.4, -0.5]), np.array([0.35, 0.33, 0.30]), 0.2
WORTHS = (1.0, 30.0, 300.0, 5000.0)


def curve(alpha, beta, effort, lower=LOWER):
    return lower + (1 - lower) * expit(alpha + beta * np.log1p(effort))


def write_table(path, scores, names=("strong", "middle", "weak"), stderr=0.002):
    """A CSV table of curves `[models, points]` at STEPS; the weakest model comes first."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "family", "parameters_billion", "step", "score", "stderr"])
        for size, (name, row) in reversed(list(enumerate(zip(names, scores, strict=True)))):
            for step, score in zip(STEPS, row, strict=True):
                writer.writerow([name, "f", len(names) - size, step, repr(float(score)), stderr])
    return path


def analysis_of(path, **settings):
    with jax.enable_x64(True):
        return analyze(read_trajectories(path), Settings(**settings))


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """Noiseless curves of the family, rewards (3, 1, 0)/2, all deviations."""
    path = tmp_path_factory.mktemp("exact") / "scores.csv"
    write_table(path, curve(ALPHA[:, None], BETA[:, None], STEPS))
    rewards = RewardScheme.parse("geometric:0.5")
    return analysis_of(path, lower=LOWER, rewards=rewards, worths=WORTHS)


@pytest.fixture(scope="module")
def llama():
    """The shared MMLU trajectories of the llama family."""
    folder = os.environ.get("TBTJAX_DATA") or Path(__file__).parents[2] / "shared" / "data"
    path = Path(folder) / "mmlu_finetuning.csv"
    if not path.exists():
        pytest.skip(f"no shared data: {path} (set TBTJAX_DATA to its folder)")
    return read_trajectories(path).select(family="llama")


def effort_to_pass(weak, strong, delta):
    """inf{e ≥ 0 : v(θ_weak, Δ + e) > v(θ_strong, Δ)} by root finding on the scores."""

    def lead(log_effort):
        effort = math.expm1(log_effort)
        return curve(ALPHA[weak], BETA[weak], delta + effort) - curve(
            ALPHA[strong], BETA[strong], delta
        )

    return math.expm1(brentq(lead, 0, 60, xtol=1e-14)) if lead(0) < 0 else 0.0


def test_fits_recover_noiseless_curves(exact):
    assert exact.names == ("strong", "middle", "weak")
    assert exact.order == "size"
    for model, alpha, beta in zip(exact.models, ALPHA, BETA, strict=True):
        assert (model.alpha, model.beta) == pytest.approx((alpha, beta), abs=1e-6)
        assert (model.lower, model.upper, model.dof) == (LOWER, 1, 6)
        assert model.chi2 < 1e-6
        assert not model.flags & FitFlag.MISFIT
        assert model.score(STEPS) == pytest.approx(curve(alpha, beta, STEPS), abs=1e-7)
    assert exact.warnings == ()


def test_efforts_follow_their_definition(exact):
    assert exact.effort.levels.tolist() == [0, 10, 100, 1000]
    for efforts in (exact.effort, exact.effort_curve):
        for row in range(0, len(efforts.levels), 20 if len(efforts.levels) > 20 else 1):
            delta = efforts.levels[row]
            expected = [effort_to_pass(weak, weak - 1, delta) for weak in (1, 2)]
            assert efforts.by_pair[row] == pytest.approx(expected, rel=1e-4)
            assert efforts.least[row] == pytest.approx(min(expected), rel=1e-4)
            assert efforts.weak[row] == 1 + np.argmin(expected)
            assert efforts.rival[row] == efforts.weak[row] - 1
            assert efforts.in_order[row]
    assert exact.rho == pytest.approx(BETA[1:] / BETA[:-1], rel=1e-5)


def test_thresholds_follow_their_definition(exact):
    rewards = np.array([1.0, 0.5, 0.25]) / 0.5  # geometric, largest gap 1

    def gain(worth, delta):
        """What the best deviation is worth more than it costs, in steps."""
        return max(
            worth * (rewards[rival] - rewards[weak]) - effort_to_pass(weak, rival, delta)
            for weak, rival in itertools.combinations((2, 1, 0), 2)
        )

    for row, worth in enumerate(WORTHS):
        if gain(worth, 0.0) <= 0:
            expected = 0.0
            assert exact.thresholds.status[row] == Status.STABLE_AT_ZERO
        else:
            expected = math.expm1(brentq(lambda y, w=worth: gain(w, math.expm1(y)), 0, 30))
            assert exact.thresholds.status[row] == Status.FOUND
        assert exact.thresholds.delta[row] == pytest.approx(expected, rel=1e-4, abs=1e-9)
        assert exact.thresholds.upper[row] == np.inf
    assert {0.0} < set(exact.thresholds.delta), "the worths cover both cases"
    curve_of = exact.threshold_curve
    assert np.interp(np.log(300.0), np.log(curve_of.worths), curve_of.delta) == pytest.approx(
        exact.thresholds.delta[2], rel=1e-2
    )


def test_json_is_strict_and_complete(exact):
    def refuse(word):
        raise AssertionError(f"{word} is not strict JSON")

    document = json.loads(to_json(to_document(exact)), parse_constant=refuse)
    assert [model["model"] for model in document["models"]] == list(exact.names)
    assert [pair["weak"] for pair in document["pairs"]] == ["middle", "weak"]
    assert document["settings"]["rewards"] == "geometric:0.5"
    for row, found in enumerate(document["thresholds"]):
        assert found["worth"] == WORTHS[row]
        assert found["delta"] == exact.thresholds.delta[row]
        assert found["upper"] == "inf"
        assert found["status"] in Status.__members__
        if found["delta"] > 0:
            assert found["weak"] in exact.names
            assert exact.names.index(found["rival"]) < exact.names.index(found["weak"])
        else:
            assert found["weak"] is None
    assert [row["delta"] for row in document["effort"]] == exact.effort.levels.tolist()
    assert document["effort"][1]["by_pair"] == exact.effort.by_pair[1].tolist()


def test_files_hold_the_same_numbers(exact, tmp_path):
    written = {path.name: path for path in write_files(exact, tmp_path)}
    assert set(written) == {path.name for path in tmp_path.iterdir()}
    rows = {}
    for name in ("models", "points", "pairs", "efforts", "thresholds", "assumptions"):
        with written[f"{name}.csv"].open(newline="", encoding="utf-8") as file:
            rows[name] = list(csv.DictReader(file))
    assert [float(row["alpha"]) for row in rows["models"]] == [m.alpha for m in exact.models]
    assert len(rows["points"]) == 3 * len(STEPS)
    assert [float(row["score"]) for row in rows["points"][:8]] == exact.models[0].scores.tolist()
    worths = [float(row["worth"]) for row in rows["thresholds"]]
    assert worths == sorted(set(worths))
    found = {float(row["worth"]): float(row["delta"]) for row in rows["thresholds"]}
    assert [found[worth] for worth in WORTHS] == exact.thresholds.delta.tolist()
    levels = [float(row["delta"]) for row in rows["efforts"]]
    assert levels == sorted(set(levels))
    at_ten = next(row for row in rows["efforts"] if float(row["delta"]) == 10)
    assert float(at_ten["weak passes middle"]) == exact.effort.by_pair[1, 1]
    assert rows["assumptions"] == []  # they hold: a header alone


def test_figures_are_written(exact, tmp_path):
    written = figures.write_figures(exact, tmp_path)
    assert [path.name for path in written] == [
        "curves_and_effort.png",
        "curves_and_effort.svg",
        "thresholds.png",
        "thresholds.svg",
    ]
    for path in written:
        head = path.read_bytes()[:200]
        assert (
            head.startswith(b"\x89PNG") if path.suffix == ".png" else b"<svg" in path.read_bytes()
        )


def test_text_names_cases_pairs_and_numbers(exact):
    text = to_text(exact)
    assert "stable already, without tune-before-test" in text
    assert "found: stable from there on" in text
    for weak, rival in zip(exact.thresholds.pair, exact.thresholds.rival, strict=True):
        if weak >= 0:
            assert f"{exact.names[weak]} against {exact.names[rival]}" in text
    for delta in exact.thresholds.delta:
        assert number(delta) in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (2.2013, "2.2013"),
        (402.117, "402.12"),
        (384668.0, "384,668"),
        (-0.026, "-0.026000"),
        (9.9999999, "10.0000"),
        (1.5e-7, "1.5000e-07"),
        (3.2e12, "3.2000e+12"),
        (math.inf, "inf"),
        (math.nan, "-"),
    ],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    "text",
    [
        "winner",
        "top-k",
        "top-k:0",
        "top-k:1.5",
        "geometric:1",
        "geometric:-0.1",
        "geometric:nan",
        "equal-gaps:2",
        "",
    ],
)
def test_unknown_rewards_are_refused(text):
    with pytest.raises(AnalysisError, match="expected winner-take-all, top-k:K"):
        RewardScheme.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("winner-take-all", [1, 0, 0, 0]),
        ("top-k:3", [1, 1, 1, 0]),
        ("equal-gaps", [3, 2, 1, 0]),
        ("geometric:0.5", [2, 1, 0.5, 0.25]),
    ],
)
def test_largest_gap_of_rewards_is_one(text, expected):
    assert RewardScheme.parse(text).unit_rewards(4) == pytest.approx(expected)


def test_rewards_alike_for_all_are_refused():
    with pytest.raises(AnalysisError, match="top-k:4 pay all of the 4 models alike"):
        RewardScheme.parse("top-k:4").unit_rewards(4)


def test_ranking_against_capability_is_said(tmp_path):
    """The weak model is measured above the strong one at step 0 and learns as fast."""
    scores = curve(ALPHA[:, None], BETA[:, None], STEPS)[[2, 1, 0]]
    found = analysis_of(
        write_table(tmp_path / "scores.csv", scores),
        lower=LOWER,
        rewards=RewardScheme.parse("geometric:0.5"),
        worths=WORTHS,
    )
    (warning,) = (text for text in found.warnings if "contradicts" in text)
    assert warning.startswith("at step 0 the measured ranking contradicts the capability order: ")
    starts = scores[:, 0]
    assert f"weak ({starts[2]:.4f}) is above middle ({starts[1]:.4f})" in warning
    assert not found.effort.in_order.any()
    assert (found.thresholds.status == Status.NOWHERE).all()
    text = to_text(found)
    assert "never: no level keeps middle below strong, weak below middle" in text
    # The one ahead is passed by a model behind it: nobody is counted as passing who is ahead.
    assert (found.effort.by_pair == 0).all()
    assert (found.effort.least > 0).all()


def test_assumptions_that_hold_are_said(exact):
    audit = exact.audit
    assert audit.measured.holds and audit.endless.holds
    assert not audit.differ.any()
    text = to_text(exact)
    assert "at efforts up to 1,000 steps, the last one measured" in text
    for name in ("4.1, one convex cost", "C1, stronger models", "C2, scores rise", "C3, stronger"):
        (line,) = (line for line in text.splitlines() if line.startswith(f"  {name}"))
        assert line.endswith(": holds")
    assert "Neighbours decide" in text


@pytest.fixture(scope="module")
def misled(tmp_path_factory):
    """Neighbours are not enough: the weakest model learns all but as fast as the strongest."""
    alpha, beta = np.array([[1.0], [0.0], [-0.1]]), np.array([[1.05], [0.2], [1.0]])
    path = tmp_path_factory.mktemp("misled") / "scores.csv"
    write_table(path, curve(alpha, beta, STEPS))
    return analysis_of(path, lower=LOWER, worths=(1.0, 10.0, 100.0, 500.0))


def test_broken_assumptions_are_said(misled):
    """C1: weak passes middle where 0.8·log(1 + e) = 0.1, at 0.133 steps."""
    report = misled.audit.measured
    assert np.argwhere(report.c1.fails).tolist() == [[2, 1]]
    # The largest misorder is that of the end or of some of the efforts on the way.
    efforts = np.expm1(np.linspace(0, np.log1p(1000.0), 2001))
    ahead = curve(-0.1, 1.0, efforts) - curve(0.0, 0.2, efforts)
    assert report.c1.amount[2, 1] == pytest.approx(ahead.max(), rel=1e-3)
    assert report.c2_rising.holds and report.c2_concave.holds and report.cost_convex.holds
    text = " ".join(to_text(misled).split())
    assert f"fails: weak is ahead of middle by up to {ahead.max():.3g} (at" in text
    assert "the effort that weak needs beyond middle's falls by" in text


def test_disagreement_of_the_conditions_is_said(misled):
    """At Δ = 0 passing strong takes weak e^1.1 − 1 = 2.004 steps, and middle e^5 − 1 = 147."""
    audit, passes_middle = misled.audit, math.expm1(0.1 / 0.8)
    assert audit.adjacent.delta.tolist() == [0, 0, 0, np.inf]
    assert audit.adjacent.upper[:3] == pytest.approx([passes_middle] * 3, rel=1e-5)
    assert audit.exact.delta.tolist() == [0, np.inf, np.inf, np.inf]
    assert audit.differ.tolist() == [False, True, True, False]
    assert audit.level[1:3].tolist() == [0, 0]
    assert audit.weak.tolist() == [-1, 2, 2, -1]
    assert audit.rival.tolist() == [-1, 0, 0, -1]
    gains = np.array([10, 100]) - math.expm1(1.1)
    assert audit.gain[1:3] == pytest.approx(gains, rel=1e-5)
    text = " ".join(to_text(misled).split())
    assert (
        "is not enough at 2 of 4 worths: at 10 neighbours alone say stable from 0 to 0.1331" in text
    )
    assert (
        "all models never stable: at Δ = 0 weak gains 7.9958 steps by passing strong, over" in text
    )


def test_audit_is_in_the_files(misled, tmp_path):
    document = json.loads(to_json(to_document(misled)))
    measured, endless = document["assumptions"]
    assert (measured["max_effort"], endless["max_effort"]) == (1000, "inf")
    assert [name for name, holds in measured["holds"].items() if not holds] == ["c1", "c3"]
    for report, audit in ((measured, misled.audit.measured), (endless, misled.audit.endless)):
        assert [row["condition"] for row in report["violations"]] == ["c1", "c3"]
        for row in report["violations"]:
            check = getattr(audit, row["condition"])
            assert (row["model"], row["rival"]) == ("weak", "middle")
            assert float(row["amount"]) == check.amount[2, 1]
    case = document["conditions"][1]
    assert case["differ"] and (case["weak"], case["rival"]) == ("weak", "strong")
    assert (case["exact"]["delta"], case["exact"]["status"]) == ("inf", "NOWHERE")
    assert (case["adjacent"]["delta"], case["adjacent"]["status"]) == (0, "INTERVAL")
    write_files(misled, tmp_path)
    with (tmp_path / "assumptions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["amount"]) for row in rows] == [
        float(row["amount"]) for row in measured["violations"] + endless["violations"]
    ]
    with (tmp_path / "conditions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["exact delta"] for row in rows] == ["0.0", "inf", "inf", "inf"]
    assert [row["weak"] for row in rows] == ["", "weak", "weak", ""]


def test_misfit_is_said(tmp_path):
    scores = curve(ALPHA[:, None], BETA[:, None], STEPS)
    scores[2, 3] += 0.05  # 25 standard errors
    found = analysis_of(
        write_table(tmp_path / "scores.csv", scores),
        lower=LOWER,
        rewards=RewardScheme.parse("geometric:0.5"),
        worths=WORTHS,
    )
    (warning,) = (text for text in found.warnings if "noise" in text)
    assert warning.startswith("the curves of weak miss their points by more than noise (chi2 per")
    assert found.models[2].reduced_chi2 > 50


def test_order_by_score(tmp_path):
    path = write_table(
        tmp_path / "scores.csv",
        curve(ALPHA[:, None], BETA[:, None], STEPS)[[1, 2, 0]],
        names=("big", "medium", "small"),
    )
    found = analysis_of(
        path,
        order="score",
        lower=LOWER,
        rewards=RewardScheme.parse("geometric:0.5"),
        worths=WORTHS,
    )
    assert found.names == ("small", "big", "medium")
    assert found.order == "score"


def test_published_weighted_fits(llama):
    with jax.enable_x64(True):
        found = analyze(llama, Settings(order="size", lower=0.25))
    assert found.names == ("llama-65b", "llama-30b", "llama-13b", "llama-7b")
    expected = [58.9, 134.5, 189.9, 308.8]
    assert [model.chi2 for model in found.models] == pytest.approx(expected, abs=0.1)
    (warning,) = (text for text in found.warnings if "noise" in text)
    assert "llama-65b, llama-30b, llama-13b, llama-7b miss their points" in warning


def test_published_thresholds_of_logit_fits(llama):
    settings = Settings(
        order="size",
        lower=0.25,
        fit="logit-ols",
        rewards=RewardScheme.parse("equal-gaps"),
        worths=(100.0, 1000.0, 10000.0),
        deviations="adjacent",
    )
    with jax.enable_x64(True):
        found = analyze(llama, settings)
    alpha = [-0.0260, -0.3826, -1.1279, -1.9837]
    beta = [0.0396, 0.0630, 0.1152, 0.2135]
    assert [model.alpha for model in found.models] == pytest.approx(alpha, abs=1e-4)
    assert [model.beta for model in found.models] == pytest.approx(beta, abs=1e-4)
    assert found.effort.by_pair[0] == pytest.approx([287.0, 643.5, 54.08], rel=2e-3)
    assert found.thresholds.delta[:2] == pytest.approx([2.2013, 402.12], rel=2e-3)
    assert found.thresholds.upper[:2] == pytest.approx([5835, 3514], rel=2e-3)
    assert found.thresholds.status.tolist() == [Status.INTERVAL, Status.INTERVAL, Status.NOWHERE]
    text = to_text(found)
    assert "only up to 5,835" in text
    assert "never: no level keeps llama-7b below llama-13b" in text
