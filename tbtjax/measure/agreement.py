"""Rankings by direct evaluation against rankings after tune-before-test.

From two scores of each model on each benchmark, one as released and one after the same training
for all: how far the two rankings of a benchmark agree, which pairs of models swap and by how many
standard errors, and how far the rankings of different benchmarks agree, before and after.

Source: the comparison of Zhang, Dominguez-Olmedo, Hardt (arXiv 2507.05195); Kendall's τ-b as in
SciPy. What counts as a swap beyond noise is ours.
"""

import collections
import dataclasses
import itertools
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tbtjax.measure._rows import Columns, Fault, Row, number
from tbtjax.measure._tables import is_parquet, read_csv, read_parquet
from tbtjax.measure.trajectories import TrajectoryError, listed, one_line

_COLUMNS = Columns(
    required=("benchmark", "model", "direct", "tuned"),
    optional=("direct_stderr", "tuned_stderr"),
    aliases={
        "benchmark": ("task",),
        "direct": ("before",),
        "tuned": ("after",),
        "direct_stderr": ("before_stderr",),
        "tuned_stderr": ("after_stderr",),
    },
)
#: A swap is beyond noise where both leads exceed so many standard errors.
BEYOND_NOISE = 2.0


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DirectAndTuned:
    """Scores of models on benchmarks, evaluated directly and after tuning.

    Attributes:
      source: where they are from, for messages.
      benchmarks: names, in the order of the first axis.
      models: names, in the order of the second axis.
      direct: `[benchmarks, models]` score as released; NaN where not measured.
      tuned: `[benchmarks, models]` score after tuning; NaN where not measured.
      direct_stderr: `[benchmarks, models]` standard error; NaN where not known.
      tuned_stderr: `[benchmarks, models]` the same after tuning.
      lower_is_better: names of the benchmarks where less is better.
      left_out: one line for each row that was not used.
    """

    source: str
    benchmarks: tuple[str, ...]
    models: tuple[str, ...]
    direct: np.ndarray
    tuned: np.ndarray
    direct_stderr: np.ndarray
    tuned_stderr: np.ndarray
    lower_is_better: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class Swap(NamedTuple):
    """Two models of which the one that leads directly is behind after tuning.

    Attributes:
      benchmark: where they swap.
      falls: the model that leads directly.
      rises: the model that leads after tuning.
      direct_lead: by how much the one leads directly, ≥ 0 also where less is better.
      tuned_lead: by how much the other leads after tuning.
      errors: how many standard errors of the difference the smaller of both leads is, the errors
        of the models taken for independent; NaN where they are not known.
    """

    benchmark: str
    falls: str
    rises: str
    direct_lead: float
    tuned_lead: float
    errors: float


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement:
    """How far rankings agree.

    Attributes:
      benchmarks: names, in the order of all arrays.
      models: `[benchmarks]` number of models with both scores.
      tau: `[benchmarks]` Kendall's τ-b between the direct and the tuned ranking; NaN where all
        models tie, or with fewer than two.
      pairs: `[benchmarks]` number of pairs of models.
      swaps: pairs that swap, by benchmark, the surest first.
      direct: `[benchmarks, benchmarks]` τ-b between benchmarks, over their common models,
        evaluated directly; 1 on the diagonal.
      tuned: `[benchmarks, benchmarks]` the same after tuning.
    """

    benchmarks: tuple[str, ...]
    models: np.ndarray
    tau: np.ndarray
    pairs: np.ndarray
    swaps: tuple[Swap, ...]
    direct: np.ndarray
    tuned: np.ndarray

    @property
    def mean_tau(self) -> float:
        """Mean of `tau` over the benchmarks that have one."""
        return _mean(self.tau)

    @property
    def mean_direct(self) -> float:
        """Mean of `direct` over all pairs of benchmarks."""
        return _mean(self.direct[np.triu_indices(len(self.benchmarks), 1)])

    @property
    def mean_tuned(self) -> float:
        """Mean of `tuned` over all pairs of benchmarks."""
        return _mean(self.tuned[np.triu_indices(len(self.benchmarks), 1)])


def read_direct_and_tuned(
    path: str | os.PathLike[str],
    *,
    benchmarks: Iterable[str] | None = None,
    without: Iterable[str] = (),
    lower_is_better: Iterable[str] = (),
) -> DirectAndTuned:
    """Reads a table of scores before and after tuning.

    CSV or Parquet with the columns `benchmark` (or `task`), `model`, `direct` (or `before`) and
    `tuned` (or `after`); where there, also `direct_stderr` and `tuned_stderr`.

    Args:
      path: the file.
      benchmarks: these benchmarks only, exact names; None for all.
      without: benchmarks to leave out.
      lower_is_better: benchmarks where less is better, such as bits per byte.

    Returns:
      The scores. Rows that cannot be used are in `left_out`.

    Raises:
      FileNotFoundError: there is no such file.
      TrajectoryError: an unreadable file, missing columns, a name that is not there, or no
        benchmark with two models left.

    Examples:
      >>> scores = read_direct_and_tuned("scores.csv")  # doctest: +SKIP
      >>> print(agreement(scores).mean_tau)  # doctest: +SKIP
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: there is no such file; expected a CSV or Parquet table with columns "
            f"{listed(_COLUMNS.required)}"
        )
    if path.is_dir():
        raise TrajectoryError(f"{path}: is a folder; expected a CSV or Parquet table")
    try:
        read = read_parquet if path.is_file() and is_parquet(path) else read_csv
        cells, left_out = _cells(path, read(path, _COLUMNS))
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be read: {error.strerror or error}") from error
    there = list(dict.fromkeys(benchmark for benchmark, _ in cells))
    wanted = there if benchmarks is None else list(benchmarks)
    lower_is_better, without = tuple(lower_is_better), tuple(without)
    for option, names in (
        ("--benchmark", wanted),
        ("--without", without),
        ("--lower-is-better", lower_is_better),
    ):
        unknown = [name for name in names if name not in there]
        if unknown:
            raise TrajectoryError(
                f"{path}: no benchmark is named {unknown[0]!r} ({option}); expected one of: "
                f"{listed(there)}"
            )
    count = collections.Counter(benchmark for benchmark, _ in cells)
    rows = [name for name in wanted if name not in without and count[name] > 1]
    if not rows:
        why = f"; the first row left out: {left_out[0]}" if left_out else ""
        raise TrajectoryError(
            f"{path}: expected a benchmark with two or more models; found none{why}"
        )
    models = list(dict.fromkeys(model for benchmark, model in cells if benchmark in rows))
    table = np.full((4, len(rows), len(models)), np.nan)
    place = {name: index for index, name in enumerate(models)}
    for (benchmark, model), values in cells.items():
        if benchmark in rows:
            table[:, rows.index(benchmark), place[model]] = values
    return DirectAndTuned(
        str(path),
        tuple(rows),
        tuple(models),
        *table,
        lower_is_better=tuple(name for name in lower_is_better if name in rows),
        left_out=tuple(left_out),
    )


def _cells(
    path: Path, rows: Iterable[Row]
) -> tuple[dict[tuple[str, str], tuple[float, ...]], list[str]]:
    """The four numbers of each benchmark and model, and why other rows are not used."""
    cells: dict[tuple[str, str], tuple[float, ...]] = {}
    places: dict[tuple[str, str], str] = {}
    left_out = []
    for row in rows:
        names = [one_line(str(row.values.get(name, ""))) for name in ("benchmark", "model")]
        key = names[0], names[1]
        try:
            if row.fault:
                raise Fault(row.fault)
            for column, name in zip(("benchmark", "model"), key, strict=True):
                if not name:
                    raise Fault(f"{column} is empty; expected a name")
            if key in cells:
                raise Fault(
                    f"{key[1]!r} on {key[0]!r} is there already ({places[key]}); expected it once"
                )
            scores = [
                number(row, name, "a score", math.isfinite, _COLUMNS.required)
                for name in ("direct", "tuned")
            ]
            errors = [
                number(row, name, "a standard error, 0 or more", lambda x: x >= 0)
                for name in ("direct_stderr", "tuned_stderr")
            ]
        except Fault as fault:
            left_out.append(f"{path}, {row.place}: {fault}")
        else:
            cells[key] = (*scores, *errors)
            places[key] = row.place
    return cells, left_out


def agreement(scores: DirectAndTuned) -> Agreement:
    """Compares the rankings by direct evaluation with those after tuning.

    Kendall's τ-b counts concordant less discordant pairs over all pairs, ties corrected for: 1
    where both rankings are the same, −1 where one is the other turned round.

    Args:
      scores: the scores.

    Returns:
      τ-b by benchmark and between benchmarks, and the pairs that swap.

    Examples:
      >>> import numpy as np
      >>> unknown = np.full((1, 3), np.nan)
      >>> direct, tuned = np.array([[0.1, 0.2, 0.3]]), np.array([[0.5, 0.7, 0.6]])
      >>> names = ("arc",), ("a", "b", "c")
      >>> found = agreement(DirectAndTuned("", *names, direct, tuned, unknown, unknown))
      >>> print(f"{found.mean_tau:.4f}", found.swaps[0].falls)
      0.3333 c
    """
    sign = np.where(np.isin(scores.benchmarks, scores.lower_is_better), -1.0, 1.0)[:, None]
    direct, tuned = sign * scores.direct, sign * scores.tuned
    measured = np.isfinite(direct) & np.isfinite(tuned)
    models = measured.sum(axis=1)
    tau = np.array([_tau(x, y) for x, y in zip(direct, tuned, strict=True)])
    swaps = [
        swap for row in range(len(direct)) for swap in _swaps(scores, row, direct[row], tuned[row])
    ]
    return Agreement(
        benchmarks=scores.benchmarks,
        models=models,
        tau=tau,
        pairs=models * (models - 1) // 2,
        swaps=tuple(swaps),
        direct=_between(direct),
        tuned=_between(tuned),
    )


def _tau(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's τ-b over the entries that both have."""
    from scipy.stats import kendalltau

    both = np.isfinite(x) & np.isfinite(y)
    found: Any = kendalltau(x[both], y[both]) if both.sum() > 1 else (math.nan,)
    return float(found[0])


def _between(scores: np.ndarray) -> np.ndarray:
    """τ-b between each two rows."""
    table = np.eye(len(scores))
    for i, j in itertools.combinations(range(len(scores)), 2):
        table[i, j] = table[j, i] = _tau(scores[i], scores[j])
    return table


def _swaps(scores: DirectAndTuned, row: int, direct: np.ndarray, tuned: np.ndarray) -> list[Swap]:
    """The pairs of models that swap on one benchmark, the surest first."""
    lead, later = direct[:, None] - direct, tuned[:, None] - tuned
    falls, rises = np.nonzero((lead > 0) & (later < 0))

    def noise(error):
        return np.hypot(error[falls], error[rises])

    # Without an error, or where it is 0, nothing can be said.
    both = np.stack([noise(scores.direct_stderr[row]), noise(scores.tuned_stderr[row])])
    leads = np.stack([lead[falls, rises], -later[falls, rises]])
    known = np.all(both > 0, axis=0)
    errors = np.where(known, np.min(leads / np.where(known, both, 1), axis=0), np.nan)
    order = np.argsort(-np.where(known, errors, -1), kind="stable")
    return [
        Swap(
            scores.benchmarks[row],
            scores.models[falls[i]],
            scores.models[rises[i]],
            float(leads[0, i]),
            float(leads[1, i]),
            float(errors[i]),
        )
        for i in order
    ]


def _mean(values: np.ndarray) -> float:
    """Mean over what is not NaN; NaN where all is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
