"""Simulated leaderboards: how often intervals hold the truth, and who is warned.

A board is four models whose curves are drawn, measured at the checkpoints of the MMLU trajectories
of Dominguez-Olmedo, Dorner and Hardt (arXiv 2407.07890) on 1,000 to 14,042 questions, with binomial
noise. Each is read as `tbtjax analyze` does: by fixed limits, by free limits and by the joined
points, with resamples of each.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tbtjax
from tbtjax.measure import bootstrap_power_law, bootstrap_tabulated, interval, tabulate
from tbtjax.report.families import Ends, differ, stacked_curves
from tbtjax.report.stable_worths import Sweep, first_levels

STEPS = np.array([0, 10, 30, 100, 250, 500, 1000, 2000, 3000, 4000.0])
QUESTIONS = (1000, 14042)
CHANCE, MODELS = 0.25, 4
#: One rank more is worth so many training steps, from any rank.
WORTHS = np.array([100.0, 1000.0])
REWARDS = np.arange(MODELS)[::-1].astype(float)
LEVELS = np.expm1(np.linspace(0, np.log1p(10 * STEPS[-1]), 57))


class Boards(NamedTuple):
    """True curves, parameters `[boards, models]`."""

    alpha: np.ndarray
    beta: np.ndarray
    lower: np.ndarray | float
    upper: np.ndarray | float


class Held(NamedTuple):
    """What a family's intervals hold: of e_req(0) `[boards, pairs]`, of Δ* `[boards, worths]`."""

    e0: np.ndarray
    delta: np.ndarray


class Counted(NamedTuple):
    """What came of the boards.

    Attributes:
      fixed: whether the intervals by fixed limits hold the truth.
      free: the same by free limits.
      clear: `[boards, worths]` whether the true Δ* lies within the measured steps and one pair of
        neighbours clearly decides it: no other has more than half its threshold.
      warned: `[boards]` whether the families of curves differ anywhere on the board.
    """

    fixed: Held
    free: Held
    clear: np.ndarray
    warned: np.ndarray

    @property
    def failed(self):
        """`[boards]`: whether some interval by fixed limits does not hold the truth."""
        return ~(self.fixed.e0.all(axis=-1) & self.fixed.delta.all(axis=-1))


def right_family(random, boards):
    """Curves between chance and 1, neighbours 0.15 to 0.6 apart in logit, with rates alike."""
    gaps = random.uniform(0.15, 0.6, (boards, MODELS))
    alpha = random.uniform(0.0, 1.0, (boards, 1)) - np.cumsum(gaps, axis=1)
    ratio = random.uniform(0.85, 1.02, (boards, MODELS))
    beta = random.uniform(0.1, 0.25, (boards, 1)) * np.cumprod(ratio, axis=1)
    return Boards(alpha, beta, CHANCE, 1.0)


def wrong_family(random, boards):
    """Level at first, then rising to a limit far below 1, as measured curves do."""
    lower = random.uniform(0.48, 0.52, (boards, 1)) - 0.05 * np.arange(MODELS)
    upper = lower + random.uniform(0.12, 0.25, (boards, MODELS))
    alpha = random.uniform(-6.0, -4.0, (boards, MODELS))
    return Boards(alpha, random.uniform(0.9, 1.4, (boards, MODELS)), lower, upper)


def count(boards, seed, resamples):
    """Measures the boards, reads them by every family and counts."""
    random = np.random.default_rng(seed)
    size = len(boards.alpha)
    truth = tbtjax.power_law(*(np.asarray(x) for x in boards))
    score = np.moveaxis(np.asarray(truth.score(jnp.asarray(STEPS[:, None, None]))), 0, -1)
    questions = np.round(np.exp(random.uniform(*np.log(QUESTIONS), (size, 1, 1))))
    scores = random.binomial(questions.astype(int), score) / questions
    effort, delta, clear = true_figures(boards)

    known = {"questions": questions, "resamples": resamples}
    keys = jax.random.split(jax.random.key(seed), 3)
    e0s, deltas = {}, {}
    for family, key in zip(("fixed", "free", "interpolated"), keys, strict=True):
        if family == "interpolated":
            drawn = bootstrap_tabulated(key, STEPS, scores, **known)
            measured = tabulate(STEPS, scores)
            curves = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), measured, drawn)
        else:
            lower = CHANCE if family == "fixed" else 0.0
            drawn = bootstrap_power_law(key, STEPS, scores, limits=family, lower=lower, **known)
            curves = stacked_curves(drawn)
        e0s[family], deltas[family] = estimates(curves, size, resamples)

    def held(family):
        return Held(
            *(
                (found[family][1].low <= true) & (true <= found[family][1].high)
                for found, true in ((e0s, effort), (deltas, delta))
            )
        )

    warned = differ(e0s).any(axis=-1) | differ(deltas).any(axis=-1)
    return Counted(held("fixed"), held("free"), clear, warned)


def true_figures(boards):
    """e_req(0) `[boards, pairs]`, Δ* `[boards, worths]`, and whether that is clear."""
    curves = (np.asarray(x)[:, None] if np.ndim(x) else x for x in boards)
    game = tbtjax.ranking_game(
        tbtjax.power_law(*curves), WORTHS[:, None] * REWARDS, tbtjax.linear_cost(1.0)
    )
    found = tbtjax.stabilizing_threshold(game)
    delta, by_pair = np.asarray(found.delta), np.sort(np.asarray(found.by_pair))
    neighbours = np.asarray(found.pair - 1 == found.rival)
    clear = (delta > 0) & (delta < STEPS[-1]) & neighbours
    clear &= by_pair[..., -2] < by_pair[..., -1] / 2
    effort = np.asarray(tbtjax.just_overtake_effort(game, 0.0))[:, 0]
    return effort, np.where(delta > LEVELS[-1], np.inf, delta), clear


def estimates(curves, size, resamples):
    """(value, ends) of e_req(0) and of Δ*, with 90 % intervals."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]) if x.ndim > 1 else x, curves)
    sweep = Sweep(flat, REWARDS, "all")
    parts = [sweep.at(LEVELS, part) for part in range(len(sweep.parts))]
    figures = (
        np.concatenate([found.by_pair[0] for found in parts]),
        np.concatenate([first_levels(found, WORTHS)[0] for found in parts]),
    )
    e0, delta = (x.reshape(resamples + 1, size, -1) for x in figures)
    # As `tbtjax analyze` does: Δ* is the largest over pairs, which noise lifts.
    found = (e0[0], interval(e0[1:], 0.9)), (delta[0], interval(delta[1:], 0.9, delta[0]))
    return [(value, Ends(*(np.asarray(x) for x in ends))) for value, ends in found]


@pytest.fixture(
    scope="module",
    params=[
        (20, 40, (7, 1, 2)),
        # Other boards than those on which rules of warnings and of intervals were chosen.
        pytest.param((1000, 200, (50001, 50002, 50003)), marks=pytest.mark.slow),
    ],
)
def counted(request):
    """Boards of the right family and of the wrong one, and how many; the one shape compiles."""
    boards, resamples, (of_boards, of_right, of_wrong) = request.param
    with jax.enable_x64(True):
        random = np.random.default_rng(of_boards)
        right = count(right_family(random, boards), of_right, resamples)
        wrong = count(wrong_family(random, boards), of_wrong, resamples)
    return right, wrong, boards


def share(hits, least, most):
    """The share of hits, said, and whether it is in bounds but for chance (three deviations)."""
    room = 3 * np.sqrt(0.25 * 0.4 / hits.size)
    print(f"{hits.mean():.3f} of {hits.size}, wanted {least} to {most}")
    return least - room <= hits.mean() <= most + room


def test_intervals_hold_the_truth_where_the_family_is_right(counted):
    right, wrong, _ = counted
    for held in (right.fixed, right.free):
        assert share(held.e0, 0.86, 0.97)
        assert share(held.delta[right.clear], 0.86, 0.97)
        assert share(held.delta[~right.clear], 0.86, 1.0)
    # Curves level at first are of the family with free limits.
    assert share(wrong.free.e0, 0.86, 0.97)
    assert share(wrong.free.delta[wrong.clear], 0.86, 0.97)


def test_a_wrong_family_is_warned_of_and_a_right_one_is_not(counted):
    right, wrong, boards = counted
    assert wrong.failed.sum() > boards / 2
    assert share(wrong.warned[wrong.failed], 0.95, 1.0)
    assert share(right.warned, 0.0, 0.10)
