"""The published figures of the paper, from the package: what does one pair say about Δ*?

Chen, Zhang and Hardt measured Qwen2.5 models on Winogrande (steps of batch 8): the least effort
that passes the next stronger model is 18 steps today and 384,668 steps after 3,000 steps of
tune-before-test. Read as one pair with equal limits, the two figures fix the learning-rate ratio

    1/ρ = ln((384668 + 3001)/(18 + 1)) / ln(3001),

and so Δ* for any reward. A reward gap worth 100 steps gives the paper's "about 4" by the rule of
thumb, and 2.94 exactly. (The 100 steps are inferred: they are what makes the rule give about 4.)

Run it with `python examples/published_figures.py`. Source: arXiv 2603.08371, sections 5 and 6.
"""

import math
from typing import NamedTuple

import jax

import tbtjax

EFFORT_AT_ZERO = 18.0
EFFORT_AFTER_TUNING = 384_668.0
TUNING = 3_000.0
WORTH = 100.0


class Figures(NamedTuple):
    """What follows from the two published efforts; levels and efforts in training steps."""

    learning_rate_ratio: float
    effort_at_zero: float
    effort_after_tuning: float
    rule_of_thumb: float
    refined_bound: float
    threshold: float
    status: str


def published_figures() -> Figures:
    """The pair as a game of two models, and its figures in float64."""
    with jax.enable_x64(True):
        slope = math.log((EFFORT_AFTER_TUNING + TUNING + 1) / (EFFORT_AT_ZERO + 1))
        ratio = math.log(TUNING + 1) / slope
        # Only α's difference over the weak model's β counts, so that model may have α = 0, β = 1.
        curves = tbtjax.power_law([math.log1p(EFFORT_AT_ZERO), 0.0], [1 / ratio, 1.0])
        game = tbtjax.ranking_game(curves, [WORTH, 0.0], tbtjax.linear_cost(1.0))
        efforts = tbtjax.just_overtake_effort(game, jax.numpy.array([0.0, TUNING]))[:, 0]
        rule = tbtjax.rule_of_thumb(game)
        threshold = tbtjax.stabilizing_threshold(game)
        return Figures(
            learning_rate_ratio=float(rule.rho[0]),
            effort_at_zero=float(efforts[0]),
            effort_after_tuning=float(efforts[1]),
            rule_of_thumb=float(rule.delta[0]),
            refined_bound=float(rule.upper_bound[0]),
            threshold=float(threshold.delta),
            status=threshold.status_names(),
        )


def main() -> None:
    """Prints the figures beside the published ones."""
    figures = published_figures()
    rows = (
        ("learning-rate ratio rho", f"{figures.learning_rate_ratio:.4f}", "0.807"),
        ("just-overtake effort at 0 steps", f"{figures.effort_at_zero:,.0f}", "18"),
        ("  ... after 3,000 steps", f"{figures.effort_after_tuning:,.0f}", "384,668"),
        ("rule of thumb for Δ*", f"{figures.rule_of_thumb:.4f}", "about 4"),
        ("refined upper bound", f"{figures.refined_bound:.4f}", ""),
        (f"exact Δ* ({figures.status})", f"{figures.threshold:.4f}", ""),
    )
    print(f"{'':34}{'here':>10}  published")
    for name, here, published in rows:
        print(f"{name:34}{here:>10}  {published}")


if __name__ == "__main__":
    main()
