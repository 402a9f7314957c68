"""Measured trajectories: a validated tidy table of scores along training.

`read_trajectories` reads a table, checks every curve (the points of one model on one task by one
metric), and leaves out those that cannot be used, saying why; `Trajectories` selects and orders
models and pads their curves to the arrays that `fit_power_law` takes. All is NumPy in float64.
"""

import csv
import dataclasses
import difflib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

#: Columns of the table, with other names they may have in a file. The first three must be there.
_COLUMNS = {
    "model": (),
    "step": (),
    "score": (),
    "task": ("benchmark",),
    "metric": (),
    "stderr": (),
    "questions": ("n",),
    "family": (),
    "parameters_billion": (),
}
_REQUIRED = ("model", "step", "score")
#: What tables write where they have no number.
_NO_NUMBER = ("", "nan", "n/a", "na", "none", "null", "-")


class TrajectoryError(ValueError):
    """A table, a selection or a limit that cannot be used; the message is one line for a user."""


class LeftOut(NamedTuple):
    """A curve that cannot be used, and why.

    Attributes:
      model, task, metric, family: whose curve it is.
      reason: why it cannot be used: file, row, what was found and what was expected.
    """

    model: str
    task: str
    metric: str
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
    """A tidy table of measured scores: one row per model, task, metric and step.

    The rows of a curve stand together, steps rising. Columns are `[rows]` arrays.

    Attributes:
      source: where the table is from, for messages.
      model: names of models.
      task: names of tasks; "" without such a column, as for the next two.
      metric: names of metrics.
      family: families of the models.
      step: float64 training steps, ≥ 0.
      score: float64 scores in [0, 1].
      stderr: float64 standard errors of the scores, NaN where not known, as for the next two.
      questions: float64 numbers of questions behind the scores.
      parameters_billion: float64 sizes of the models.
      left_out: the curves that could not be used.
    """

    source: str
    model: np.ndarray
    task: np.ndarray
    metric: np.ndarray
    family: np.ndarray
    step: np.ndarray
    score: np.ndarray
    stderr: np.ndarray
    questions: np.ndarray
    parameters_billion: np.ndarray
    left_out: tuple[LeftOut, ...] = ()

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
    def families(self) -> tuple[str, ...]:
        """The families, in order of appearance."""
        return _unique(self.family)

    @property
    def skipped(self) -> list[str]:
        """One line for each curve left out: file, row, what was found, what is expected."""
        return [f"{item.reason}; left out" for item in self.left_out]

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
    ) -> "Trajectories":
        """The rows of the named models, families, tasks and metrics (None: of all).

        Args:
          models: exact names; those that were left out may be among them.
          family: exact names.
          task: exact names.
          metric: exact names.

        Returns:
          A table of the rows that meet all conditions.

        Raises:
          TrajectoryError: a name that matches nothing (the message lists what there is and what
            is close), or nothing left.
        """
        keep = np.ones(len(self), dtype=bool)
        left_out = list(self.left_out)
        given = {"model": models, "family": family, "task": task, "metric": metric}
        for column, names in given.items():
            if names is not None:
                names = [names] if isinstance(names, str) else list(names)
                self._check_names(column, names)
                keep &= np.isin(getattr(self, column), names)
                left_out = [item for item in left_out if getattr(item, column) in names]
        return self._rows(keep, left_out)._unless_empty()

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
            left_out.append(LeftOut(*self._names(rows[0]), reason))
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
          TrajectoryError: several tasks or metrics to choose from, a model without a size
            although `order` is "size", or an unknown `order`.
        """
        if order not in (None, "size", "score"):
            raise TrajectoryError(f"--order is {order!r}; expected 'size' or 'score'")
        for column, names in (("task", self.tasks), ("metric", self.metrics)):
            if len(names) > 1:
                raise TrajectoryError(
                    f"{self.source}: has {len(names)} {column}s ({_listed(names)}); "
                    f"expected one: choose it with --{column}"
                )
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
                f"{_listed(unsized)}; expected a number for every model, or --order score"
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

    def _names(self, row: int) -> tuple[str, str, str, str]:
        model, task, metric, family = (getattr(self, name)[row] for name in LeftOut._fields[:4])
        return str(model), str(task), str(metric), str(family)

    def _curves(self) -> Iterator[np.ndarray]:
        """The rows of each curve."""
        start = 0
        for end in range(1, len(self) + 1):
            if end == len(self) or self._names(end)[:3] != self._names(start)[:3]:
                yield np.arange(start, end)
                start = end

    def _rows(self, keep: np.ndarray, left_out: Sequence[LeftOut]) -> "Trajectories":
        columns = {name: getattr(self, name)[keep] for name in _COLUMNS}
        return dataclasses.replace(self, **columns, left_out=tuple(left_out))

    def _check_names(self, column: str, names: list[str]) -> None:
        there = _unique([*getattr(self, column), *(getattr(x, column) for x in self.left_out)])
        there = tuple(name for name in there if name)
        if not there:
            raise TrajectoryError(
                f"{self.source}: cannot choose {column} {_listed(names)}: there is no column "
                f"{column}"
            )
        for name in names:
            if name not in there:
                close = difflib.get_close_matches(name, there, n=3, cutoff=0.5)
                hint = f"did you mean {' or '.join(close)}? " if close else ""
                raise TrajectoryError(
                    f"{self.source}: no {column} is named {name!r}; {hint}expected one of: "
                    f"{_listed(there)}"
                )

    def _unless_empty(self) -> "Trajectories":
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


def read_trajectories(path: str | os.PathLike[str]) -> Trajectories:
    """Reads and checks a table of scores along training.

    CSV with a header. Columns, in any order: `model`, `step` and `score`; where there, also `task`
    (or `benchmark`), `metric`, `stderr`, `questions` (or `n`), `family` and `parameters_billion`.
    Other columns are ignored. The points of one model on one task by one metric are a curve; its
    rows must be in order of step, each step once.

    Args:
      path: the file.

    Returns:
      The table. A curve with a bad row (a score that is NaN or outside [0, 1], a step that is
      negative, repeated or out of order, …) or with one point only is left out and reported in
      `skipped`; the others are kept.

    Raises:
      FileNotFoundError: there is no such file.
      TrajectoryError: a directory, an unreadable or empty file, missing columns, a row without a
        model, or no curve left. The message is one line with file, row, found and expected.

    Example:
      >>> table = read_trajectories("examples/scores.csv")  # doctest: +SKIP
      >>> curves = table.select(family="llama").arrays(order="size")  # doctest: +SKIP
    """
    path = Path(path)
    if path.is_dir():
        raise TrajectoryError(f"{path}: is a directory; expected a CSV file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; expected a CSV file")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(suffix for suffix in _READERS if suffix)
        raise TrajectoryError(f"{path}: cannot read {path.suffix} files; expected {known}")
    return _table(str(path), reader(path))._unless_empty()


class _Row(NamedTuple):
    """A row as a reader finds it: where it is, and the text of each column it has.

    `fault` is set where the row as a whole is malformed.
    """

    place: str
    text: dict[str, str]
    fault: str = ""


def _read_csv(path: Path) -> Iterator[_Row]:
    """The rows of a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            header = next((line for line in lines if line), None)
            if header is None:
                raise TrajectoryError(f"{path}: is empty; expected a CSV file with a header")
            columns = _columns(path, [name.strip().lower() for name in header])
            for line in lines:
                if not any(field.strip() for field in line):
                    continue
                fault = ""
                if len(line) != len(header):
                    fault = f"has {len(line)} fields; expected {len(header)}, as in the header"
                text = {name: line[i].strip() for name, i in columns.items() if i < len(line)}
                yield _Row(f"line {lines.line_num}", text, fault)
    except UnicodeDecodeError as error:
        raise TrajectoryError(f"{path}: is not text; expected a CSV file in UTF-8") from error
    except csv.Error as error:
        raise TrajectoryError(f"{path}: is not a CSV file: {error}") from error
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be read: {error.strerror}") from error


#: A reader for each suffix. A file without one, a pipe for instance, is taken for CSV.
_READERS: dict[str, Callable[[Path], Iterator[_Row]]] = {".csv": _read_csv, "": _read_csv}


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """Where in `header` each known column is."""
    columns = {}
    for name, aliases in _COLUMNS.items():
        found = [i for i, title in enumerate(header) if title == name or title in aliases]
        if len(found) > 1:
            titles = ", ".join(header[i] for i in found)
            raise TrajectoryError(
                f"{path}: header has several columns for the {name} ({titles}); expected one"
            )
        columns |= dict.fromkeys([name] if found else [], found[0] if found else 0)
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise TrajectoryError(
            f"{path}: header has no column {_listed(missing)}; found {_listed(header)}; expected "
            f"{_listed(_REQUIRED)}, separated by commas"
        )
    return columns


class _Point(NamedTuple):
    """A checked row."""

    place: str
    family: str
    step: float
    score: float
    stderr: float
    questions: float
    parameters_billion: float


class _Fault(Exception):
    """What is wrong with a row: found and expected."""


def _number(row: _Row, name: str, expected: str, accept: Callable[[float], bool]) -> float:
    """The number in a column; NaN where it is blank and not required."""
    text = row.text.get(name, "")
    try:
        value = math.nan if text.lower() in _NO_NUMBER else float(text)
    except ValueError:
        value = math.inf  # refused below, with the text
    if math.isnan(value) and name not in _REQUIRED:
        return value
    if not (math.isfinite(value) and accept(value)):
        raise _Fault(f"{name} is {repr(text) if text else 'empty'}; expected {expected}")
    return value


def _point(row: _Row, before: list[_Point]) -> _Point:
    """The row as a point of a curve with these points before it."""
    if row.fault:
        raise _Fault(row.fault)
    point = _Point(
        place=row.place,
        family=row.text.get("family", ""),
        step=_number(row, "step", "a number of training steps, 0 or more", lambda x: x >= 0),
        score=_number(row, "score", "a share from 0 to 1 (85 % is 0.85)", lambda x: 0 <= x <= 1),
        stderr=_number(row, "stderr", "a standard error, 0 or more", lambda x: x >= 0),
        questions=_number(row, "questions", "a number above 0", lambda x: x > 0),
        parameters_billion=_number(row, "parameters_billion", "a number above 0", lambda x: x > 0),
    )
    if before and point.step <= before[-1].step:
        same = [other.place for other in before if other.step == point.step]
        if same:
            raise _Fault(
                f"step {point.step:g} is there already ({same[0]}); expected each step once: "
                "average repeats, and tell tasks and metrics apart by columns"
            )
        raise _Fault(
            f"step {point.step:g} comes after step {before[-1].step:g} ({before[-1].place}); "
            "expected the rows of a model in order of step"
        )
    for name in ("family", "parameters_billion"):
        now, then = (getattr(x, name) for x in (point, before[0] if before else point))
        if now != then and not (now != now and then != then):  # NaN is NaN here
            raise _Fault(f"{name} is {now}, but {then} before ({before[0].place}); expected one")
    return point


def _table(source: str, rows: Iterable[_Row]) -> Trajectories:
    """The table of the good curves among `rows`, and why the others are not."""
    curves: dict[tuple[str, str, str], list[_Point]] = {}
    families: dict[tuple[str, str, str], str] = {}
    faults: dict[tuple[str, str, str], str] = {}
    for row in rows:
        model, task, metric = (row.text.get(name, "") for name in ("model", "task", "metric"))
        if not model:
            raise TrajectoryError(f"{source}, {row.place}: model is empty; expected a name")
        key = (model, task, metric)
        curve = curves.setdefault(key, [])
        families.setdefault(key, row.text.get("family", ""))
        if key in faults:
            continue
        try:
            curve.append(_point(row, curve))
        except _Fault as fault:
            faults[key] = f"{source}, {row.place}: model {model!r}: {fault}"
    if not curves:
        raise TrajectoryError(
            f"{source}: has a header but no rows; expected one per model and step"
        )
    for key, curve in curves.items():
        if key not in faults and len(curve) < 2:
            faults[key] = (
                f"{source}, {curve[0].place}: model {key[0]!r}: has one point only, at step "
                f"{curve[0].step:g}; expected two or more"
            )
    good = [(key, point) for key in curves if key not in faults for point in curves[key]]

    def names(values):
        return np.array(list(values), dtype=np.str_)

    def numbers(name):
        return np.array([getattr(point, name) for _, point in good], dtype=np.float64)

    return Trajectories(
        source=source,
        model=names(key[0] for key, _ in good),
        task=names(key[1] for key, _ in good),
        metric=names(key[2] for key, _ in good),
        family=names(point.family for _, point in good),
        step=numbers("step"),
        score=numbers("score"),
        stderr=numbers("stderr"),
        questions=numbers("questions"),
        parameters_billion=numbers("parameters_billion"),
        left_out=tuple(LeftOut(*key, families[key], fault) for key, fault in faults.items()),
    )


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, values)))


def _listed(names: Sequence[str], most: int = 100) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
