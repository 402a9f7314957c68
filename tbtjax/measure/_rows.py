"""From rows, as readers find them, to a validated table.

A reader yields a `Row` for each measurement. `table` checks every row and every curve, and leaves
out the curves that cannot be used, saying why.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import numpy as np

from tbtjax.measure.trajectories import (
    COLUMNS,
    CurveName,
    LeftOut,
    Trajectories,
    TrajectoryError,
    listed,
    one_line,
)

#: Columns that every table must have.
REQUIRED = ("model", "step", "score")
#: What tables write where they have no number.
_NO_NUMBER = ("", "nan", "n/a", "na", "none", "null", "-", "<na>")
_YES, _NO = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")


class Row(NamedTuple):
    """A row as a reader finds it: where it is, and the text or number of each column it has.

    `fault` is set where the row as a whole is malformed.
    """

    place: str
    values: dict[str, Any]
    fault: str = ""


class Point(NamedTuple):
    """A checked row."""

    place: str
    family: str
    step: float
    score: float
    stderr: float
    questions: float
    parameters_billion: float
    higher_is_better: bool


class Fault(Exception):
    """What is wrong with a row: found and expected."""


def shown(value: Any) -> str:
    """A value for a message, not longer than a line can bear."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def number(
    row: Row,
    name: str,
    expected: str,
    accept: Callable[[float], bool],
    required: Collection[str] = REQUIRED,
) -> float:
    """The number in a column; NaN where it is blank and not required.

    Raises:
      Fault: it is no number, or none that is accepted.
    """
    found = row.values.get(name, "")
    value = _as_float(found)
    if math.isnan(value) and name not in required:
        return value
    if not (math.isfinite(value) and accept(value)):
        what = "empty" if found == "" else shown(found)
        raise Fault(f"{name} is {what}; expected {expected}")
    return value


def _as_float(found: Any) -> float:
    """A number or the text of one; NaN for none, +inf, which nothing accepts, for all else."""
    if found is None or (isinstance(found, str) and found.strip().lower() in _NO_NUMBER):
        return math.nan
    try:
        return math.inf if isinstance(found, bool) else float(found)
    except (TypeError, ValueError, OverflowError):
        return math.inf


def point(row: Row, before: list[Point]) -> Point:
    """The row as a point of a curve with these points before it.

    Raises:
      Fault: what the row cannot be used for.
    """
    if row.fault:
        raise Fault(row.fault)
    checked = Point(
        place=row.place,
        family=one_line(str(row.values.get("family", ""))),
        step=number(row, "step", "a number of training steps, 0 or more", lambda x: x >= 0),
        score=number(row, "score", "a share from 0 to 1 (85 % is 0.85)", lambda x: 0 <= x <= 1),
        stderr=number(row, "stderr", "a standard error, 0 or more", lambda x: x >= 0),
        questions=number(row, "questions", "a number above 0", lambda x: x > 0),
        parameters_billion=number(row, "parameters_billion", "a number above 0", lambda x: x > 0),
        higher_is_better=_yes(row, "higher_is_better"),
    )
    if before and checked.step <= before[-1].step:
        same = [other.place for other in before if other.step == checked.step]
        if same:
            raise Fault(
                f"step {checked.step:g} is there already ({same[0]}); expected each step once: "
                "average repeats, and tell tasks and metrics apart by columns"
            )
        raise Fault(
            f"step {checked.step:g} comes after step {before[-1].step:g} ({before[-1].place}); "
            "expected the rows of a model in order of step"
        )
    for name in ("family", "parameters_billion", "higher_is_better"):
        now, then = (getattr(x, name) for x in (checked, before[0] if before else checked))
        if now != then and not (now != now and then != then):  # NaN is NaN here
            raise Fault(f"{name} is {now}, but {then} before ({before[0].place}); expected one")
    return checked


def _yes(row: Row, name: str) -> bool:
    """Whether a column says yes; yes where it says nothing."""
    found = row.values.get(name, "")
    text = str(found).strip().lower()
    if found is None or text in _NO_NUMBER or text in _YES:
        return True
    if text in _NO:
        return False
    raise Fault(f"{name} is {shown(found)}; expected true or false")


def table(source: str, rows: Iterable[Row], skipped: Iterable[str] = ()) -> Trajectories:
    """The table of the good curves among `rows`, and why the others are not in it.

    Raises:
      TrajectoryError: a row without a model, or no rows at all.
    """
    curves: dict[CurveName, list[Point]] = {}
    families: dict[CurveName, str] = {}
    faults: dict[CurveName, str] = {}
    for row in rows:
        name = CurveName(*(one_line(str(row.values.get(x, ""))) for x in CurveName._fields))
        if not name.model:
            raise TrajectoryError(f"{source}, {row.place}: model is empty; expected a name")
        curve = curves.setdefault(name, [])
        families.setdefault(name, one_line(str(row.values.get("family", ""))))
        if name in faults:
            continue
        try:
            curve.append(point(row, curve))
        except Fault as fault:
            faults[name] = f"{source}, {row.place}: model {name.model!r}: {fault}"
    if not curves:
        raise TrajectoryError(
            f"{source}: has a header but no rows; expected one per model and step"
        )
    for name, curve in curves.items():
        if name not in faults and len(curve) < 2:
            faults[name] = (
                f"{source}, {curve[0].place}: model {name.model!r}: has one point only, at step "
                f"{curve[0].step:g}; expected two or more"
            )
    good = [(name, point) for name in curves if name not in faults for point in curves[name]]
    columns = {}
    for column, kind in COLUMNS.items():
        part = 0 if column in CurveName._fields else 1
        columns[column] = np.array([getattr(pair[part], column) for pair in good], dtype=kind)
    return Trajectories(
        source=source,
        **columns,
        left_out=tuple(LeftOut(*name, families[name], fault) for name, fault in faults.items()),
        skipped_files=tuple(skipped),
    )


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns that a kind of table has.

    Attributes:
      required: those that must be there.
      optional: those that are read where they are there.
      aliases: other names that they may have in a file.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    aliases: dict[str, tuple[str, ...]]

    def places(self, path: Any, header: list[str]) -> dict[str, int]:
        """Where in `header` each known column is.

        Raises:
          TrajectoryError: a required column is missing, or one is there twice.
        """
        titles = [title.strip().lower() for title in header]
        columns = {}
        for name in (*self.required, *self.optional):
            names = (name, *self.aliases.get(name, ()))
            found = [i for i, title in enumerate(titles) if title in names]
            if len(found) > 1:
                several = ", ".join(titles[i] for i in found)
                raise TrajectoryError(
                    f"{path}: header has several columns for the {name} ({several}); expected one"
                )
            columns |= dict.fromkeys([name] if found else [], found[0] if found else 0)
        missing = [name for name in self.required if name not in columns]
        if missing:
            raise TrajectoryError(
                f"{path}: header has no column {listed(missing)}; found {listed(titles)}; expected "
                f"{listed(self.required)}, separated by commas"
            )
        return columns


#: The columns of scores along training.
ALONG_TRAINING = Columns(
    required=REQUIRED,
    optional=tuple(name for name in COLUMNS if name not in REQUIRED),
    aliases={"task": ("benchmark",), "questions": ("n",)},
)
