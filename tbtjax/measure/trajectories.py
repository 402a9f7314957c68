"""Measured trajectories: a validated tidy table of scores along training.

A curve is the points of one model on one task by one metric and filter. `read_trajectories` checks
all curves and leaves out those that cannot be used, saying why; `Trajectories` selects and orders
models and pads their curves to the arrays that `fit_power_law` takes. All is NumPy in float64.
"""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

#: Columns of the table and their types.
COLUMNS: dict[str, Any] = {
    "model": np.str_,
    "step": np.float64,
    "score": np.float64,
    "task": np.str_,
    "metric": np.str_,
    "filter": np.str_,
    "stderr": np.float64,
    "questions": np.float64,
    "family": np.str_,
    "parameters_billion": np.float64,
    "higher_is_better": np.bool_,
}


class TrajectoryError(ValueError):
    """A table, a selection or a limit that cannot be used; the message is one line for a user."""


class CurveName(NamedTuple):
    """What tells a curve from all others."""

    model: str
    task: str
    metric: str
    filter: str


class LeftOut(NamedTuple):
    """A curve that cannot be used, and why.

    Attributes:
      model, task, metric, filter, family: whose curve it is.
      reason: why it cannot be used: file, row, what was found and what was expected.
    """

    model: str
    task: str
    metric: str
    filter: str
    family: str
    reason: str


class TrajectoryArrays(NamedTuple):
    """Curves as arrays for fitting, strongest model first, NaN = not measured.

    Attributes:
      models: names, in the order of the first axis.
      steps: `[models, points]` float64 training steps, rising; NaN pads the end.
      scores: `[models, points]` scores in [0, 1].
      stderr: `[models, points]` standard errors; NaN where not known.
      questions: `[models, points]` numbers of questions; NaN where not known.
      order: what the models are ordered by, "size" or "score".
    """

    models: tuple[str, ...]
    steps: np.ndarray
    scores: np.ndarray
    stderr: np.ndarray
    questions: np.ndarray
    order: str


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Trajectories:
    """A tidy table of measured scores: one row per model, task, metric, filter and step.

    The rows of a curve stand together, steps rising. Columns are `[rows]` arrays.

    Attributes:
      source: where the table is from, for messages.
      model: names of models.
      task: names of tasks; "" without such a column, as for the next three.
      metric: names of metrics.
      filter: how answers were taken from the text, such as "strict-match".
      family: families of the models.
      step: float64 training steps, ≥ 0.
      score: float64 scores in [0, 1].
      stderr: float64 standard errors of the scores, NaN where not known, as for the next two.
      questions: float64 numbers of questions behind the scores.
      parameters_billion: float64 sizes of the models.
      higher_is_better: bool, False where less of the metric is better.
      left_out: the curves that could not be used.
      skipped_files: one line for each file, or score in one, that was not used.
    """

    source: str
    model: np.ndarray
    task: np.ndarray
    metric: np.ndarray
    filter: np.ndarray
    family: np.ndarray
    step: np.ndarray
    score: np.ndarray
    stderr: np.ndarray
    questions: np.ndarray
    parameters_billion: np.ndarray
    higher_is_better: np.ndarray
    left_out: tuple[LeftOut, ...] = ()
    skipped_files: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in order of appearance."""
        return _unique(self.model)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order of appearance."""
        return _unique(self.task)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, in order of appearance."""
        return _unique(self.metric)

    @property
    def filters(self) -> tuple[str, ...]:
        """The filters, in order of appearance."""
        return _unique(self.filter)

    @property
    def families(self) -> tuple[str, ...]:
        """The families, in order of appearance."""
        return _unique(self.family)

    @property
    def skipped(self) -> list[str]:
        """One line for each file and curve left out: place, what was found, what is expected."""
        lines = (*self.skipped_files, *(item.reason for item in self.left_out))
        return [f"{line}; left out" for line in lines]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.model)

    def __repr__(self) -> str:
        """Counts, not contents."""
        tasks = f", tasks: {', '.join(self.tasks)}" if any(self.tasks) else ""
        return (
            f"Trajectories({self.source}: models: {len(self.models)}, points: {len(self)}{tasks}, "
            f"left out: {len(self.left_out)})"
        )

    def select(
        self,
        *,
        models: str | Iterable[str] | None = None,
        family: str | Iterable[str] | None = None,
        task: str | Iterable[str] | None = None,
        metric: str | Iterable[str] | None = None,
        filter: str | Iterable[str] | None = None,
    ) -> "Trajectories":
        """The rows of the named models, families, tasks, metrics and filters (None: of all).

        Args:
          models: exact names; those that were left out may be among them.
          family: exact names.
          task: exact names.
          metric: exact names.
          filter: exact names.

        Returns:
          A table of the rows that meet all conditions.

        Raises:
          TrajectoryError: a name that matches nothing (the message lists what there is and what
            is close), or nothing left.
        """
        keep = np.ones(len(self), dtype=bool)
        left_out = list(self.left_out)
        given = {
            "model": models,
            "family": family,
            "task": task,
            "metric": metric,
            "filter": filter,
        }
        for column, names in given.items():
            if names is not None:
                names = [names] if isinstance(names, str) else list(names)
                self._check_names(column, names)
                keep &= np.isin(getattr(self, column), names)
                left_out = [item for item in left_out if getattr(item, column) in names]
        return self._rows(keep, left_out).unless_empty()

    def within_limits(self, lower: float, upper: float = 1.0) -> "Trajectories":
        """The table without the models that never score between the limits.

        Single scores at or below `lower` (chance) are measurements like all others and stay.

        Args:
          lower: lower limit of the score.
          upper: upper limit of the score.

        Returns:
          The table; models with all scores at or below `lower`, or all at or above `upper`, are
          in `left_out`.

        Raises:
          TrajectoryError: the limits are not 0 ≤ lower < upper ≤ 1, or no model is left.
        """
        for name, value in (("lower", lower), ("upper", upper)):
            if not 0 <= value <= 1:
                raise TrajectoryError(f"--{name} is {value:g}; expected a score from 0 to 1")
        if lower >= upper:
            raise TrajectoryError(
                f"--lower is {lower:g}; expected a score below the upper limit {upper:g}"
            )
        keep = np.ones(len(self), dtype=bool)
        left_out = []
        for rows in self._curves():
            scores = self.score[rows]
            if scores.max() <= lower:
                reason = f"its highest score is {scores.max():g}; expected one above the lower"
                reason += f" limit {lower:g} (option --lower: the score by chance)"
            elif scores.min() >= upper:
                reason = f"its lowest score is {scores.min():g}; expected one below the upper"
                reason += f" limit {upper:g}"
            else:
                continue
            keep[rows] = False
            reason = f"{self.source}: model {str(self.model[rows[0]])!r}: {reason}"
            left_out.append(LeftOut(*self._name(rows[0]), str(self.family[rows[0]]), reason))
        if not keep.any():
            raise TrajectoryError(
                f"--lower is {lower:g}; expected a score by chance that models of {self.source} "
                f"exceed: their scores run from {self.score.min():g} to {self.score.max():g}"
            )
        return self._rows(keep, (*self.left_out, *left_out))

    def arrays(self, order: Literal["size", "score"] | None = None) -> TrajectoryArrays:
        """The curves of one task and metric as padded arrays, strongest model first.

        Args:
          order: what strength is: "size" (parameters_billion) or "score" (each model's score at
            its largest step). None: size where all models have one, else score. Ties go to the
            model with the higher score, then to the earlier one.

        Returns:
          `[models, points]` arrays, NaN where not measured.

        Raises:
          TrajectoryError: several tasks, metrics or filters to choose from, a metric of which
            less is better, a model without a size although `order` is "size", or an unknown
            `order`.
        """
        if order not in (None, "size", "score"):
            raise TrajectoryError(f"--order is {order!r}; expected 'size' or 'score'")
        self._check_one_score()
        curves = list(self._curves())
        sizes = np.array([self.parameters_billion[rows[0]] for rows in curves])
        final = np.array([self.score[rows[-1]] for rows in curves])
        unsized = [
            str(self.model[rows[0]])
            for rows, size in zip(curves, sizes, strict=True)
            if math.isnan(size)
        ]
        if order == "size" and unsized:
            raise TrajectoryError(
                f"{self.source}: --order is size, but parameters_billion is not known for "
                f"{listed(unsized)}; expected a number for every model, or --order score"
            )
        order = order or ("score" if unsized else "size")
        keys = (-final, -sizes) if order == "size" else (-final,)
        ranked = [curves[i] for i in np.lexsort(keys)]
        points = max((len(rows) for rows in ranked), default=0)

        def padded(column):
            table = np.full((len(ranked), points), np.nan)
            for i, rows in enumerate(ranked):
                table[i, : len(rows)] = column[rows]
            return table

        return TrajectoryArrays(
            tuple(str(self.model[rows[0]]) for rows in ranked),
            *(padded(x) for x in (self.step, self.score, self.stderr, self.questions)),
            order=order,
        )

    def _check_one_score(self) -> None:
        """Raises where the scores are not of one task, metric and filter, or less is better."""
        for column, names in (
            ("task", self.tasks),
            ("metric", self.metrics),
            ("filter", self.filters),
        ):
            if len(names) > 1:
                named = [name or "(none)" for name in names]
                raise TrajectoryError(
                    f"{self.source}: has {len(names)} {column}s ({listed(named)}); "
                    f"expected one: choose it with --{column}"
                )
        if not self.higher_is_better.all():
            raise TrajectoryError(
                f"{self.source}: less of {self.metrics[0] or 'this score'} is better "
                "(higher_is_better is false); expected a score that rises with quality"
            )

    def _name(self, row: int) -> CurveName:
        return CurveName(*(str(getattr(self, part)[row]) for part in CurveName._fields))

    def _curves(self) -> Iterator[np.ndarray]:
        """The rows of each curve."""
        start = 0
        for end in range(1, len(self) + 1):
            if end == len(self) or self._name(end) != self._name(start):
                yield np.arange(start, end)
                start = end

    def _rows(self, keep: np.ndarray, left_out: Sequence[LeftOut]) -> "Trajectories":
        columns = {name: getattr(self, name)[keep] for name in COLUMNS}
        return dataclasses.replace(self, **columns, left_out=tuple(left_out))

    def _check_names(self, column: str, names: list[str]) -> None:
        there = _unique([*getattr(self, column), *(getattr(x, column) for x in self.left_out)])
        if any(names) and not any(there):
            raise TrajectoryError(
                f"{self.source}: cannot choose {column} {listed(names)}: there is no column "
                f"{column}"
            )
        for name in names:
            if name not in there:
                close = difflib.get_close_matches(name, there, n=3, cutoff=0.5)
                hint = f"did you mean {' or '.join(close)}? " if close else ""
                raise TrajectoryError(
                    f"{self.source}: no {column} is named {name!r}; {hint}expected one of: "
                    f"{listed([name or '(none)' for name in there])}"
                )

    def unless_empty(self) -> "Trajectories":
        """The table; an error that says why where it has no rows."""
        if len(self):
            return self
        if not self.left_out:
            raise TrajectoryError(f"{self.source}: no model meets all conditions of the selection")
        first = self.left_out[0].reason
        if len(self.left_out) > 1:
            first = first.removeprefix(self.source).lstrip(",: ")
            count = len(self.left_out)
            first = f"{self.source}: none of {count} curves can be used; the first: {first}"
        raise TrajectoryError(first)


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, values)))


def one_line(text: str) -> str:
    """`text` without line ends, and with a question mark for what UTF-8 cannot write."""
    return " ".join(text.encode("utf-8", "replace").decode().replace("\x00", " ").split())


def listed(names: Sequence[str], most: int = 100) -> str:
    """Names with commas; the first `most` of them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
