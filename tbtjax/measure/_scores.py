"""Scores gathered from many result files: checked, told apart, each counted once.

In a tree of files a bad score costs its point, not its curve: `gathered` gives the rows of the good
ones in order, and a line for each file, or score in one, that was not used.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from tbtjax.measure._rows import Fault, Point, Row, point
from tbtjax.measure.trajectories import CurveName, one_line

#: A whole number of right answers, up to the rounding of a score with seven digits and more.
_WHOLE = 1e-6
#: No number of questions makes a standard error as small as this.
_LEAST_ERROR = 1e-7


@dataclasses.dataclass(frozen=True)
class Score:
    """One score as a file gives it; `step` and `score` may be anything that JSON can hold.

    Attributes:
      model: short name of the model.
      whole_name: all that names it: folder and organisation with it.
      task: name of the task.
      metric: name of the metric.
      filter: name of the filter; "" for none.
      step: training step.
      score: the score.
      stderr: its standard error; NaN where not known, as for the next two.
      questions: number of questions.
      parameters_billion: size of the model.
      higher_is_better: False where less is better.
      date: rises with the time of the measurement; NaN where not known.
      place: the file.
    """

    model: str
    whole_name: str
    task: str
    metric: str
    filter: str
    step: Any
    score: Any
    stderr: float
    questions: float
    parameters_billion: float
    higher_is_better: bool
    date: float
    place: str

    @property
    def curve(self) -> CurveName:
        """The curve it belongs to."""
        return CurveName(self.model, self.task, self.metric, self.filter)

    @property
    def kind(self) -> str:
        """Task, metric and filter, for a message."""
        metric = self.metric + (f",{self.filter}" if self.filter else "")
        return f"task {self.task!r}, metric {metric!r}" if self.task else f"metric {metric!r}"

    def on_one_line(self) -> "Score":
        """The score with names that can be written and printed on one line."""
        names = ("model", "whole_name", "task", "metric", "filter", "place")
        return dataclasses.replace(self, **{name: one_line(getattr(self, name)) for name in names})

    def row(self) -> Row:
        """The score as a row of a table."""
        values = {
            "model": self.model,
            "task": self.task,
            "metric": self.metric,
            "filter": self.filter,
            "step": self.step,
            "score": self.score,
            "stderr": self.stderr,
            "questions": self.questions,
            "parameters_billion": self.parameters_billion,
            "higher_is_better": self.higher_is_better,
        }
        return Row(self.place, values)


def finite(value: Any) -> float:
    """A finite number; NaN for all else that JSON can hold."""
    try:
        found = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def gathered(scores: Iterable[Score]) -> tuple[list[Row], list[str]]:
    """The rows of the good scores, and a line for each that is bad, missing or there twice."""
    scores = list(scores)
    good, faults = _checked(scores)
    kept, repeats = _once(_told_apart(good))
    kept = _with_counts(kept)
    order = {name: index for index, name in enumerate(dict.fromkeys(s.curve for s in kept))}
    kept.sort(key=lambda score: (order[score.curve], score.step))
    return [score.row() for score in _of_one_size(kept)], [*faults, *_missing(scores), *repeats]


def _checked(scores: Iterable[Score]) -> tuple[list[Score], list[str]]:
    """The good scores with their step a number, and what is wrong with the others.

    Where a metric is good nowhere it is said once: it is none of those that can be used.
    """
    good: list[Score] = []
    faults: dict[str, list[str]] = collections.defaultdict(list)
    usable = set()
    for score in scores:
        try:
            checked: Point = point(score.row(), [])
        except Fault as fault:
            faults[score.kind].append(f"{score.place}: {score.kind}: {fault}")
        else:
            usable.add(score.kind)
            good.append(dataclasses.replace(score, step=checked.step, score=checked.score))
    lines = []
    for kind, found in faults.items():
        if kind in usable or len(found) == 1:
            lines += found
        else:
            lines.append(f"{found[0]}; so are {len(found) - 1} more of {kind}")
    return good, lines


def _missing(scores: list[Score]) -> list[str]:
    """What other evaluations of a model on the same task have, and some have not."""
    kinds: dict[tuple[str, str], dict[str, None]] = collections.defaultdict(dict)
    there: dict[tuple[str, str, str, Any], set[str]] = collections.defaultdict(set)
    for score in scores:
        kinds[score.model, score.task][score.kind] = None
        there[score.model, score.task, score.place, str(score.step)].add(score.kind)
    without: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for (model, task, place, _), found in there.items():
        for kind in kinds[model, task]:
            if kind not in found:
                without[model, kind].append(place)
    return [
        f"{places[0]}{f' and {len(places) - 1} more' * bool(places[1:])}: {kind}: is missing; "
        f"expected it as in other results of {model!r}"
        for (model, kind), places in without.items()
    ]


def _told_apart(scores: list[Score]) -> list[Score]:
    """The scores with whole names where models of different folders share a short one.

    They are different models where they meet at two steps or more of a curve; a single score that
    is there twice is a repeat.
    """
    by_point = collections.defaultdict(set)
    for score in scores:
        by_point[score.curve, score.step].add(score.whole_name)
    meetings = collections.Counter()
    for (name, _), whole_names in by_point.items():
        for pair in itertools.combinations(sorted(whole_names), 2):
            meetings[name, pair] += 1
    shared = {name.model for (name, _), count in meetings.items() if count >= 2}
    return [
        dataclasses.replace(score, model=score.whole_name) if score.model in shared else score
        for score in scores
    ]


def _once(scores: list[Score]) -> tuple[list[Score], list[str]]:
    """Each point once, of the latest date, and which files gave it otherwise."""
    best: dict[tuple[CurveName, float], Score] = {}
    older: dict[tuple[str, str], list[Score]] = collections.defaultdict(list)
    for score in scores:
        key = score.curve, score.step
        other = best.get(key)
        if other is None:
            best[key] = score
            continue
        # Without dates the later name: lm-evaluation-harness writes the time into it.
        newer, old = sorted((other, score), key=_age)[::-1]
        best[key] = newer
        if old.score != newer.score:
            older[old.place, newer.place].append(old)
        elif old.place != newer.place and not _says_less(old, newer):
            older[old.place, newer.place].append(old)
    lines = []
    for (place, newer), found in older.items():
        more = f" and {len(found) - 1} more scores" if len(found) > 1 else ""
        lines.append(
            f"{place}: {found[0].kind} of {found[0].model!r} at step {found[0].step:g}{more}: "
            f"measured again in {newer}, which counts"
        )
    return list(best.values()), lines


def _age(score: Score) -> tuple[float, str]:
    return (score.date if math.isfinite(score.date) else -math.inf, score.place)


def _says_less(old: Score, newer: Score) -> bool:
    """Whether one file only repeats another: the history in an earlier checkpoint of a run."""
    names = [place.rpartition("/")[2] for place in (old.place, newer.place)]
    return names == ["trainer_state.json"] * 2 and old.whole_name == newer.whole_name


def _with_counts(scores: Sequence[Score]) -> list[Score]:
    """The scores with the number of questions where it can be told.

    A given number is kept where it makes every score of a kind a whole number of right answers:
    else they are no shares of questions, and a binomial error would be wrong. Where none is given,
    a share k/n with the standard error √(k/n·(1 − k/n)/(n − 1)) that lm-evaluation-harness writes
    gives n away; a score of 0 or 1, whose error is 0, takes that of the other scores of its kind.
    """
    shares = {score.kind: True for score in scores}
    counts: dict[str, set[float]] = collections.defaultdict(set)
    found = []
    for score in scores:
        inside = 0 < score.score < 1
        questions = score.questions
        if math.isnan(questions) and inside and score.stderr > _LEAST_ERROR:
            questions = 1 + score.score * (1 - score.score) / score.stderr**2
            whole = abs(questions - round(questions)) <= _WHOLE * questions
            questions = float(round(questions)) if whole else math.nan
        if not math.isnan(questions):
            right = score.score * questions
            shares[score.kind] &= abs(right - round(right)) <= _WHOLE * questions
        found.append(dataclasses.replace(score, questions=questions))
        if inside:
            counts[score.kind].add(questions)
    for index, score in enumerate(found):
        known = counts[score.kind]
        if not shares[score.kind]:
            found[index] = dataclasses.replace(score, questions=math.nan)
        elif math.isnan(score.questions) and score.score in (0, 1) and len(known) == 1:
            found[index] = dataclasses.replace(score, questions=next(iter(known)))
    return found


def _of_one_size(scores: list[Score]) -> list[Score]:
    """The scores with one size for each model: what some files do not say others do."""
    sizes: dict[str, float] = {}
    for score in scores:
        size = score.parameters_billion
        sizes[score.model] = max(sizes.get(score.model, 0.0), 0.0 if math.isnan(size) else size)
    return [
        dataclasses.replace(score, parameters_billion=sizes[score.model] or math.nan)
        for score in scores
    ]
