"""Families of curves side by side: against thresholds and efforts worked out otherwise."""

import dataclasses
import json
import math

import jax
import jsonschema
import numpy as np
import pytest
from scipy.special import expit

import tbtjax
from tbtjax.measure import FitFlag, probability_of_stability, read_trajectories
from tbtjax.report import figures
from tbtjax.report._format import to_json
from tbtjax.report.analysis import analyze
from tbtjax.report.document import to_document
from tbtjax.report.families import Doubt, Ends, differ
from tbtjax.report.files import write_files
from tbtjax.report.fitted import shape_in_words
from tbtjax.report.settings import AnalysisError, RewardScheme, Settings
from tbtjax.report.stable_worths import Sweep, first_levels, least_efforts, sharpened
from tbtjax.report.text import to_text
from tbtjax.stream.schemas import schema

STEPS = np.array([0, 3, 10, 30, 100, 300, 1000.0])
#: Strong, middle, weak: the paper's family without noise, measured on many questions.
ALPHA, BETA = np.array([1.0, 0.4, -0.5]), np.array([0.35, 0.33, 0.30])
WORTHS = (1.0, 30.0, 300.0)
QUESTIONS = 1_000_000


def analysis_of(scores, folder, settings):
    rows = [
        f"{name},{size},{step:g},{score:.6f},{QUESTIONS}"
        for name, size, curve in zip(("strong", "middle", "weak"), (3, 2, 1), scores, strict=True)
        for step, score in zip(STEPS, curve, strict=True)
    ]
    path = folder / "scores.csv"
    path.write_text("\n".join(["model,parameters_billion,step,score,questions", *rows]) + "\n")
    with jax.enable_x64(True):
        return analyze(read_trajectories(path), settings)


@pytest.fixture(scope="module")
def settings():
    return Settings(worths=WORTHS, doubt=Doubt(resamples=60))


@pytest.fixture(scope="module")
def found(settings, tmp_path_factory):
    """The analysis of curves of the family."""
    scores = expit(ALPHA[:, None] + BETA[:, None] * np.log1p(STEPS))
    return analysis_of(scores, tmp_path_factory.mktemp("right"), settings)


@pytest.fixture(scope="module")
def bent(settings, tmp_path_factory):
    """The analysis of curves that are level at first, and end far below 1."""
    scores = 0.3 + 0.25 * expit(3 * ALPHA[:, None] - 6 + 1.2 * np.log1p(STEPS))
    return analysis_of(scores, tmp_path_factory.mktemp("wrong"), settings)


@pytest.fixture(scope="module")
def boards():
    """64 boards of 5 models, some out of order, and rewards of which two are alike."""
    random = np.random.default_rng(0)
    alpha = np.sort(random.normal(0, 1, (64, 5)))[:, ::-1] + random.normal(0, 0.05, (64, 5))
    beta = random.uniform(0.2, 1.0, (64, 5))
    return alpha, beta, np.array([2.0, 1.0, 1.0, 0.5, 0.0])


def test_families_agree_where_all_are_right(found):
    families = found.families
    assert [reading.family for reading in families.readings] == ["fixed", "free", "interpolated"]
    exact, effort = found.thresholds.delta, found.effort.by_pair[0]
    assert 0 < exact[1] < exact[2]
    for reading, tolerance in zip(families.readings, (1e-6, 0.1, 0.3), strict=True):
        # Free limits within the noise; straight lines within their own error.
        assert reading.delta == pytest.approx(exact, rel=tolerance)
        assert reading.e0 == pytest.approx(effort, rel=tolerance)
        assert np.all(reading.delta_interval.low <= reading.delta)
        assert np.all(reading.delta <= reading.delta_interval.high)
    assert not families.delta_differs.any() and not families.e0_differs.any()
    assert found.warnings == ()
    intervals = families.intervals
    for ends, true in ((intervals.alpha, ALPHA), (intervals.beta, BETA)):
        assert np.all(ends.low < true) and np.all(true < ends.high)
    assert np.all(intervals.by_pair.low[0] < effort) and np.all(effort < intervals.by_pair.high[0])
    assert np.all(intervals.least.low <= found.effort.least)
    assert np.all(found.effort.least <= intervals.least.high)
    for row, delta in enumerate(exact):
        shares = families.readings[0].stability[row]
        assert shares[np.searchsorted(families.levels, 2 * delta + 1)] == 1
        if delta > 1:
            assert shares[np.searchsorted(families.levels, delta / 2)] == 0


def test_measured_brackets_hold_the_effort(found):
    low, high = found.families.brackets
    for pair, (weak, strong) in enumerate(((1, 0), (2, 1))):
        effort = math.expm1((ALPHA[strong] - ALPHA[weak]) / BETA[weak])
        assert low[pair] <= effort <= high[pair]
        assert high[pair] in STEPS


def test_a_wrong_family_is_warned_of(bent):
    assert bent.families.delta_differs.any()
    words = " ".join(bent.warnings)
    assert "Δ* depends on the family of curves by more than noise" in words
    assert "3 of 3 measured curves do not plainly rise ever more slowly: S-shaped: strong" in words


def test_files_follow_the_schema_and_text_shows_all_families(found, bent, tmp_path):
    for analysis in (found, bent, dataclasses.replace(found, families=None)):
        document = json.loads(to_json(to_document(analysis)))
        jsonschema.validate(document, schema("analysis"))
        text = to_text(analysis)
        assert ("joined points" in text) == (analysis.families is not None)
    names = {path.name for path in write_files(found, tmp_path)}
    assert {"families.csv", "stability.csv"} <= names
    drawn = {path.name for path in figures.write_figures(found, tmp_path)}
    assert "stability.png" in drawn


@pytest.mark.slow
def test_the_price_of_the_capability_order_in_files_and_words(found, tmp_path):
    # The middle model learns faster than the strong one.
    beta = np.array([0.30, 0.36, 0.20])
    scores = expit(ALPHA[:, None] + beta[:, None] * np.log1p(STEPS))
    settings = Settings(worths=WORTHS, doubt=Doubt(resamples=0), ordered=True)
    analysis = analysis_of(scores, tmp_path, settings)
    order = analysis.capability_order
    np.testing.assert_array_equal(order.tied, [[False, True], [False, False]])
    assert order.beta[0] == order.beta[1] > order.beta[2]
    assert order.ties == 1 and order.price == pytest.approx(order.cost.sum()) and order.price > 100
    assert order.chi2 == pytest.approx([model.chi2 for model in analysis.models] + order.cost)
    assert order.p_value < 1e-6
    text = " ".join(to_text(analysis).split())
    assert "for 1 of 4 possible ties" in text and "Tied in beta: strong = middle." in text
    document = json.loads(to_json(to_document(analysis)))
    jsonschema.validate(document, schema("analysis"))
    tied = [model["beta_tied"] for model in document["capability_order"]["models"]]
    assert tied == [False, True, False]
    # Curves that follow the order by themselves.
    free = dataclasses.replace(order, ties=0, price=0.0)
    text = to_text(dataclasses.replace(analysis, capability_order=free))
    assert "follow it as they are" in " ".join(text.split())
    assert json.loads(to_json(to_document(found)))["capability_order"] is None
    with pytest.raises(AnalysisError, match="--ordered needs --limits fixed or shared"):
        analysis_of(scores, tmp_path, dataclasses.replace(settings, limits="free"))


@pytest.mark.slow
def test_shared_limits_are_a_family_of_their_own(tmp_path):
    scores = 0.3 + 0.4 * expit(ALPHA[:, None] - 1 + 2 * BETA[:, None] * np.log1p(STEPS))
    settings = Settings(
        worths=WORTHS, doubt=Doubt(resamples=60), limits="shared", fit="weighted", ordered=True
    )
    analysis = analysis_of(scores, tmp_path, settings)
    families = [reading.family for reading in analysis.families.readings]
    assert families == ["fixed", "shared", "free", "interpolated"]
    assert analysis.families.used == "shared"
    for model in analysis.models:
        assert (model.lower, model.upper) == pytest.approx((0.3, 0.7), abs=0.01)
    jsonschema.validate(json.loads(to_json(to_document(analysis))), schema("analysis"))
    text = to_text(analysis)
    assert "Δ* by four families" in text and "curves with shared limits follow it" in " ".join(
        text.split()
    )
    assert "stability.png" in {path.name for path in figures.write_figures(analysis, tmp_path)}


@pytest.mark.slow
@pytest.mark.parametrize("deviations", ["all", pytest.param("adjacent", marks=pytest.mark.slow)])
def test_levels_and_shares_are_those_of_games_solved_one_by_one(boards, deviations, x64):
    alpha, beta, rewards = boards
    curves = tbtjax.power_law(alpha, beta)
    worths = np.array([5.0, 50.0])
    game = tbtjax.ranking_game(
        tbtjax.power_law(alpha[:, None], beta[:, None]),
        worths[:, None] * rewards,
        tbtjax.linear_cost(1.0),
    )
    exact = np.asarray(tbtjax.stabilizing_threshold(game, deviations).delta)
    levels = np.expm1(np.linspace(0, 12, 60))
    sweep = Sweep(curves, rewards, deviations)
    at = sweep.at(levels, 0)
    delta, _ = first_levels(at, worths)
    exact = np.where(exact > levels[-1], np.inf, exact)
    assert 10 < np.sum(np.isfinite(exact) & (exact > 0)) < exact.size
    # A stretch between two levels is not seen: two of a hundred games may have one.
    close = np.isclose(delta, exact, rtol=0.02, atol=0.02)
    assert np.mean(close) > 0.97, (delta[~close], exact[~close])
    assert sharpened(sweep, at, worths) == pytest.approx(exact[0], rel=1e-5)
    if deviations == "all":
        shares = probability_of_stability(game, levels[::20], deviations)
        mine = np.mean(at.critical[::20, :, None] >= worths, axis=1)
        np.testing.assert_allclose(mine, shares, atol=1e-12)


def test_least_efforts_are_those_of_the_analysis(found, x64):
    models = found.models
    alpha, beta = (np.array([[getattr(x, name) for x in models]]) for name in ("alpha", "beta"))
    curves = tbtjax.power_law(alpha, beta, models[0].lower, models[0].upper)
    least = least_efforts(curves, found.effort.levels)[:, 0]
    assert np.asarray(least) == pytest.approx(found.effort.least, rel=1e-9)


def test_who_assumes_less_decides():
    def estimate(value, low, high):
        return np.array([value]), Ends(np.array([low]), np.array([high]))

    def differs(fixed, other, family="free"):
        return bool(differ({"fixed": fixed, family: other})[0])

    exact = estimate(100.0, 99.0, 101.0)
    assert not differs(exact, estimate(150.0, 90.0, 250.0))
    assert differs(exact, estimate(150.0, 120.0, 160.0))
    # Joined points have an error of their own.
    assert not differs(exact, estimate(150.0, 120.0, 160.0), "interpolated")
    assert differs(exact, estimate(200.0, 160.0, 250.0), "interpolated")
    unknown = estimate(150.0, np.nan, np.nan)
    assert not differs(exact, unknown)
    assert differs(estimate(1000.0, 999.0, 1001.0), unknown)
    never = estimate(np.inf, np.inf, np.inf)
    assert differs(exact, never) and not differs(never, never)


@pytest.mark.parametrize(
    ("scores", "flags", "words"),
    [
        ((0.3, 0.4, 0.5), 0, ""),
        ((0.30, 0.31, 0.29), 0, "flat"),
        ((0.5, 0.6, 0.4), 0, "ends below its start"),
        ((0.3, 0.6, 0.5), 0, "falls on the way"),
        ((0.3, 0.4, 0.5), FitFlag.NOT_CONCAVE, "S-shaped"),
        ((0.24, 0.25, 0.5), 0, "2 of 3 at or below chance"),
    ],
)
def test_shapes_in_words(scores, flags, words):
    assert shape_in_words(np.array(scores), np.full(3, 0.01), 0.25, bool(flags)) == words


def test_reward_schemes_with_ties_leave_nobody_out(boards, x64):
    """The weakest of those paid alike is the cheapest to pass: the others change nothing."""
    alpha, beta, _ = boards
    rewards = RewardScheme.parse("top-k:3").unit_rewards(5)
    curves = tbtjax.power_law(alpha, beta)
    level = 7.0
    at = Sweep(curves, rewards, "all").at(np.array([level]), 0)
    game = tbtjax.ranking_game(curves, rewards, tbtjax.linear_cost(1.0))
    effort = np.asarray(tbtjax.overtake_effort(game, level))
    scores = np.asarray(tbtjax.baseline_scores(game, level))
    for board in range(64):
        expected = min(effort[board, r, k] for r in (3, 4) for k in (0, 1, 2))
        if np.any(np.diff(scores[board]) > 0):
            expected = -np.inf
        assert at.critical[0, board] == pytest.approx(expected, rel=1e-12)
