"""Interleaved timing of several contestants in one process."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# Thread pools spin for a while after a call; the next contestant should not pay for it.
_PAUSE = 0.005


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One way to get a row's answer.

    Attributes:
      name: as printed.
      call: does the work once and returns when it is done.
      games: how many games one call works through.
      devices: JAX devices it uses; None where that is not JAX's to say.
      ours: whether it is tbtjax.
      answers: from what `call` returns to NumPy arrays, for the check; None: not checked.
    """

    name: str
    call: Callable[[], Any]
    games: int
    devices: int | None = None
    ours: bool = False
    answers: Callable[[Any], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Times:
    """`first` call in seconds (compilation included), later calls `[repeats]`, last result."""

    first: float
    seconds: np.ndarray
    result: Any


def time_interleaved(contestants: list[Contestant], repeats: int) -> dict[str, Times]:
    """Runs A B C A B C …, after a first call and a warm-up call of each."""
    first, results = {}, {}
    for contestant in contestants:
        start = time.perf_counter()
        results[contestant.name] = contestant.call()
        first[contestant.name] = time.perf_counter() - start
        contestant.call()
    seconds = np.empty((repeats, len(contestants)))
    for i in range(repeats):
        for j, contestant in enumerate(contestants):
            time.sleep(_PAUSE)
            start = time.perf_counter()
            contestant.call()
            seconds[i, j] = time.perf_counter() - start
    return {
        contestant.name: Times(first[contestant.name], seconds[:, j], results[contestant.name])
        for j, contestant in enumerate(contestants)
    }


def paired_ratio(numerator: np.ndarray, denominator: np.ndarray) -> dict[str, float]:
    """Median and quartiles of the ratios of times taken in the same round."""
    low, median, high = np.quantile(numerator / denominator, [0.25, 0.5, 0.75])
    return {"median": float(median), "low": float(low), "high": float(high)}
