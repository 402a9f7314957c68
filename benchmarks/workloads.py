"""The games that are timed: seeded NumPy arrays, the same raw inputs for every contestant.

All games meet C1 and C3 (MODEL.md, section 2), so the stabilizing set is a ray and neighbours
decide: the ground on which the peers, which know nothing else, are right as well. The one
exception, `learning_rates="shuffled"`, is timed for the package alone.
"""

import dataclasses
from typing import Any

import numpy as np

# Score curves of the games with different limits are drawn by rejection: so many games are
# drawn, then repeated under fresh rewards.
_DISTINCT_CURVES = 4096


@dataclasses.dataclass(frozen=True)
class Games:
    """Raw inputs; a linear cost of rate 1 goes without saying.

    Attributes:
      alpha, beta: `[games, n]` power-law parameters, strongest model first.
      rewards: `[games, n]` non-increasing.
      lower, upper: `[games, n]` limits of the score, or None where all models share 0 and 1.
      text: what was drawn.
    """

    alpha: np.ndarray
    beta: np.ndarray
    rewards: np.ndarray
    lower: np.ndarray | None
    upper: np.ndarray | None
    text: str

    @property
    def count(self) -> int:
        return self.alpha.shape[0]

    @property
    def num_models(self) -> int:
        return self.alpha.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return self.alpha.dtype

    @property
    def has_equal_limits(self) -> bool:
        return self.lower is None

    def arrays(self) -> tuple[np.ndarray, ...]:
        """The parameters that differ between games, in the order of every solver's arguments."""
        limits = () if self.lower is None or self.upper is None else (self.lower, self.upper)
        return (self.alpha, self.beta, self.rewards, *limits)

    def subset(self, count: int) -> "Games":
        """About `count` games spread evenly over the batch."""
        stride = max(1, self.count // count)
        return self._map(lambda x: np.ascontiguousarray(x[::stride][:count]))

    def astype(self, dtype: Any) -> "Games":
        """The same games; their rounded values are the game."""
        return self._map(lambda x: np.ascontiguousarray(x, dtype))

    def _map(self, change) -> "Games":
        fields = {
            name: None if getattr(self, name) is None else change(getattr(self, name))
            for name in ("alpha", "beta", "rewards", "lower", "upper")
        }
        return dataclasses.replace(self, **fields)


def draw_games(
    limits: str,
    count: int,
    num_models: int,
    dtype: Any,
    *,
    learning_rates: str = "decreasing",
    seed: int = 0,
) -> Games:
    """Random games of which two thirds need Δ* > 0.

    A game's models span the same range whatever n: α falls by 4 from first to last on average and
    β by a factor of .8⁴. Stakes are log-uniform over three decades, as in a study that sweeps the
    ratio of reward to cost; within a game the reward gaps are exponential.

    Args:
      limits: "equal" (0 and 1 for all) or "different".
      count: number of games.
      num_models: models in each.
      dtype: of all arrays. Drawn in float64, then rounded: the rounded values are the game.
      learning_rates: "decreasing", or "shuffled" for β in random order, which breaks C1 and C3.
      seed: of the generator.
    """
    rng = np.random.default_rng([seed, num_models, limits == "equal"])
    if limits == "equal":
        alpha, beta = _equal_limit_curves(rng, count, num_models)
        lower = upper = None
        text = "limits 0 and 1"
    else:
        distinct = _different_limit_curves(rng, min(count, _DISTINCT_CURVES), num_models)
        alpha, beta, lower, upper = (np.resize(x, (count, num_models)) for x in distinct)
        text = f"own limits for each model, {min(count, _DISTINCT_CURVES):,} sets of curves"
    effort = baseline_catch_up(alpha, beta, lower, upper)
    gaps = rng.exponential(1.0, effort.shape) * 10.0 ** rng.uniform(-1.5, 1.5, (count, 1))
    gaps *= _between(np.min(effort / gaps, axis=-1), 2 / 3)
    rewards = np.zeros((count, num_models))
    rewards[:, :-1] = np.cumsum(gaps[:, ::-1], axis=-1)[:, ::-1]
    if learning_rates == "shuffled":
        beta = rng.permuted(beta, axis=-1)
        text += ", learning rates in random order"
    return Games(alpha, beta, rewards, lower, upper, text).astype(dtype)


def _between(values: np.ndarray, share: float) -> float:
    """A number that `share` of the values lie below; none of them equals it."""
    rank = min(int(share * values.size), values.size - 1)
    ordered = np.partition(values, (max(rank - 1, 0), rank))
    return float(np.sqrt(ordered[max(rank - 1, 0)] * ordered[rank]))


def baseline_catch_up(alpha, beta, lower, upper) -> np.ndarray:
    """Effort e_r^req(0) of each adjacent pair, `[games, n-1]`."""
    if lower is None:
        return np.expm1((alpha[:, :-1] - alpha[:, 1:]) / beta[:, 1:])
    strong = _columns(slice(None, -1), alpha, beta, lower, upper)
    weak = _columns(slice(1, None), alpha, beta, lower, upper)
    return np.expm1(_log_effort_to_match(strong, weak, np.zeros((1, 1))))


def count_falling_gaps(games: Games, sample: int = 256) -> int:
    """C3 by brute force: pairs whose effort gap falls somewhere, in `sample` of the games.

    On 400 levels from Δ = 0 to 10⁸, up to where the rival gets out of reach; a fall counts from
    1e-9 of the gap on.
    """
    some = games.subset(sample).astype(np.float64)
    if some.lower is None or some.upper is None:
        lower, upper = np.zeros_like(some.alpha), np.ones_like(some.alpha)
    else:
        lower, upper = some.lower, some.upper
    log_level = np.linspace(0.0, np.log(1e8), 400).reshape(-1, 1, 1)
    strong = _columns(slice(None, -1), some.alpha, some.beta, lower, upper)
    weak = _columns(slice(1, None), some.alpha, some.beta, lower, upper)
    log_effort = _log_effort_to_match(strong, weak, log_level)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.exp(log_effort) - np.exp(log_level)
        falls = np.diff(gap, axis=0) < -1e-9 * (np.abs(gap[:-1]) + np.exp(log_level[:-1]))
    misordered = np.any(log_effort < log_level - 1e-9, axis=0)
    return int(np.sum(np.any(falls, axis=0) | misordered))


def _columns(models, *arrays):
    return tuple(x[:, models] for x in arrays)


def _equal_limit_curves(rng, count, n):
    # A gap of at least 1e-3 keeps float32 rounding from turning neighbours round.
    gaps = 1e-3 + rng.exponential(4.0 / (n - 1), (count, n - 1))
    ratios = rng.uniform(0.6, 1.0, (count, n - 1)) ** (4.0 / (n - 1))
    alpha = np.empty((count, n))
    alpha[:, 0] = rng.normal(1.0, 0.5, count)
    alpha[:, 1:] = alpha[:, :1] - np.cumsum(gaps, axis=-1)
    beta = np.empty((count, n))
    beta[:, 0] = rng.uniform(0.3, 1.0, count)
    beta[:, 1:] = beta[:, :1] * np.cumprod(ratios, axis=-1)
    return alpha, beta


def _different_limit_curves(rng, count, n):
    """Model by model, each redrawn until C1 and C3 hold between it and the one above."""
    alpha, beta = _equal_limit_curves(rng, count, n)
    lower = np.empty((count, n))
    upper = np.empty((count, n))
    lower[:, 0] = rng.uniform(0.2, 0.25, count)
    upper[:, 0] = rng.uniform(0.9, 0.98, count)
    for model in range(1, n):
        waiting = np.arange(count)
        while waiting.size:
            size = waiting.size
            strong = tuple(x[waiting, model - 1] for x in (alpha, beta, lower, upper))
            weak = (
                strong[0] - 1e-3 - rng.exponential(4.0 / (n - 1), size),
                strong[1] * rng.uniform(0.6, 1.0, size) ** (4.0 / (n - 1)),
                rng.uniform(0.2, 0.25, size),
                strong[3] - 1e-3 - rng.exponential(0.08 / (n - 1), size),
            )
            accepted = _is_monotone(strong, weak)
            for values, drawn in zip((alpha, beta, lower, upper), weak, strict=True):
                values[waiting[accepted], model] = drawn[accepted]
            waiting = waiting[~accepted]
    return alpha, beta, lower, upper


def _is_monotone(strong, weak):
    """C1 and C3 on 200 levels, with a margin that float32 rounding cannot use up."""
    log_level = np.linspace(0.0, 40.0, 200)[:, None]
    log_effort = _log_effort_to_match(strong, weak, log_level)
    with np.errstate(invalid="ignore"):
        log_gap = log_effort + np.log(-np.expm1(log_level - log_effort))
        rises = np.where(np.isinf(log_effort[1:]), 1.0, np.diff(log_gap, axis=0))
    ordered = np.all(log_effort > log_level + 1e-3, axis=0)
    return ordered & np.all(rises > 1e-4, axis=0)


def _log_effort_to_match(strong, weak, log_level):
    """log(1 + total effort) with which the weak model has the strong one's score; inf if never."""
    alpha, beta, lower, upper = strong
    weak_alpha, weak_beta, weak_lower, weak_upper = weak
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        odds = np.exp(alpha + beta * log_level)
        # Both sides times 1 + odds: 1 − score never formed as a difference.
        above_lower = (lower - weak_lower) * (1 + odds) + (upper - lower) * odds
        below_upper = (weak_upper - upper) * (1 + odds) + (upper - lower)
        log_effort = (np.log(above_lower / below_upper) - weak_alpha) / weak_beta
    return np.where(below_upper > 0, log_effort, np.inf)
