"""Result files of every kind that is known, recognised by content, into one validated table."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tbtjax.measure import _lm_eval, _trainer_state
from tbtjax.measure._names import Patterns, patterns
from tbtjax.measure._rows import Row, table
from tbtjax.measure._scores import Score, gathered
from tbtjax.measure._tables import read_csv, read_parquet
from tbtjax.measure.trajectories import Trajectories, TrajectoryError, listed, one_line

_EXPECTED = (
    "a CSV or Parquet table with columns model, step, score, a result file of "
    "lm-evaluation-harness, a trainer_state.json, or a folder of such JSON files"
)
#: What a JSON document has that is a result file, and what makes others not worth parsing.
_MARKS = ('"results"', '"log_history"')
_ENDS = ("}", "]", '"')


def read_trajectories(
    path: str | os.PathLike[str],
    *,
    task: str | Iterable[str] | None = None,
    metric: str | Iterable[str] | None = None,
    filter: str | Iterable[str] | None = None,
    step_pattern: str | None = None,
    model_pattern: str | None = None,
    default_step: float | None = None,
) -> Trajectories:
    r"""Reads and checks scores along training, in any of the formats that hold them.

    The format is recognised by content:

    - A table, CSV with a header or Parquet: columns `model`, `step` and `score`, in any order;
      where there, also `task` (or `benchmark`), `metric`, `filter`, `stderr`, `questions` (or `n`),
      `family`, `parameters_billion` and `higher_is_better`. Other columns are ignored. The rows of
      a curve must be in order of step, each step once.
    - lm-evaluation-harness: a result file, or a folder with such files anywhere in it. Task,
      metric and filter are kept apart; groups count once.
    - Hugging Face: a folder with `checkpoint-N/trainer_state.json`, or one such file. The folder
      of the run names the model.

    A bad row of a table costs its curve; a bad file of a folder, or a bad score in one, costs its
    points alone. Where a score is there twice the one of the latest `date` counts. All that is not
    used is reported in `skipped`.

    Args:
      path: a file or a folder.
      task: these tasks only, exact names.
      metric: these metrics only.
      filter: these filters only.
      step_pattern: regular expression with one group, the step, for the path of a result file
        within `path` or the model arguments in it; the last match counts. None: step,
        global_step, checkpoint, ckpt, iter or iteration with a number, such as
        `checkpoint-500`; of a model called step3-7b that is no step.
      model_pattern: regular expression with one group, the model's name, for the same texts. None:
        the name in the file, without its step, else the folder.
      default_step: step of the result files that name none, such as 0 for those of an untrained
        model; None to skip such files.

    Returns:
      The table. Curves with a bad row, or with one point only, are left out; the others are kept.
      A step is a number ≥ 0, a score a share from 0 to 1. `stderr` is NaN where the file has
      "N/A" or nothing.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      TrajectoryError: nothing in it can be used, or an option does not fit it. The message is one
        line with file, row, found and expected.

    Examples:
      >>> table = read_trajectories("results/", filter="strict-match")  # doctest: +SKIP
      >>> curves = table.select(task="gsm8k").arrays()  # doctest: +SKIP
    """
    path = Path(path)
    names = patterns(step_pattern, model_pattern, default_step)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; expected {_EXPECTED}")
    try:
        if path.is_dir():
            found = _read_tree(path, names)
        else:
            found = _read_file(path, names)
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be read: {error.strerror or error}") from error
    if names != Patterns() and isinstance(found, Trajectories):
        raise TrajectoryError(
            f"{path}: is a table, whose columns name models and steps; expected no "
            "--step-pattern, --model-pattern or --default-step"
        )
    if isinstance(found, Trajectories):
        trajectories = found.unless_empty()
    else:
        trajectories = _from_files(str(path), *found, task=task, metric=metric, filter=filter)
    return trajectories.select(task=task, metric=metric, filter=filter)


#: What the JSON files of a path hold: scores, and lines about what cannot be used.
_Found = tuple[list[Score], list[str]]


def _read_file(path: Path, names: Patterns) -> Trajectories | _Found:
    """The content of a single file."""
    if not path.is_file():  # a pipe cannot be looked at twice
        return table(str(path), read_csv(path))
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PAR1"):
        return table(str(path), read_parquet(path))
    if path.suffix.lower() == ".json" or head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        scores: list[Score] = []
        lines = []
        for item in _read_json(path, path.name, path.as_posix(), names):
            if isinstance(item, Score):
                scores.append(item)
            else:
                lines.append(item)
        return scores, lines
    if head.lstrip().startswith(b"["):
        raise TrajectoryError(f"{path}: is a JSON list; expected {_EXPECTED}")
    return table(str(path), _rows_of_text(path, head))


def _rows_of_text(path: Path, head: bytes) -> Iterable[Row]:
    if b"\x00" in head:
        raise TrajectoryError(f"{path}: is not text; expected {_EXPECTED}")
    return read_csv(path)


def _read_tree(root: Path, names: Patterns) -> _Found:
    """The content of all JSON files below `root`."""
    scores: list[Score] = []
    lines, others, count = [], [], 0
    for path in sorted(root.rglob("*.json")):
        if not path.is_file():
            continue
        count += 1
        place = path.relative_to(root).as_posix()
        for item in _read_json(path, place, place, names):
            if isinstance(item, Score):
                scores.append(item)
            elif item:
                lines.append(item)
            else:
                others.append(place)
    if not count:
        raise TrajectoryError(f"{root}: is a folder without JSON files; expected {_EXPECTED}")
    if count == len(others):
        raise TrajectoryError(f"{root}: is a folder without result files; expected {_EXPECTED}")
    if others:
        what = f"{others[0]} and {len(others) - 1} more files" if others[1:] else others[0]
        lines.append(f"{what}: neither lm-evaluation-harness results nor a trainer_state.json")
    return scores, lines


def _read_json(path: Path, place: str, part: str, names: Patterns) -> Iterable[Score | str]:
    """The scores of a JSON file, and lines about what cannot be used; "" for another kind of file.

    Args:
      path: the file.
      place: what messages call it.
      part: the part of its path in which steps are looked for.
      names: how steps and models are found.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            return [f"{place}: is empty"]
        if not any(mark in text for mark in _MARKS) and text.rstrip().endswith(_ENDS):
            return [""]  # a tokenizer's vocabulary takes long to parse
        document = json.loads(text)
    except UnicodeDecodeError:
        return [f"{place}: is not text in UTF-8"]
    except json.JSONDecodeError as error:
        what = "ends too early" if error.pos >= len(error.doc.rstrip()) else error.msg
        return [f"{place}: is not JSON (line {error.lineno}: {what})"]
    except (ValueError, RecursionError) as error:
        return [f"{place}: is JSON that cannot be read: {error}"]
    except OSError as error:
        return [f"{place}: cannot be read: {error.strerror or error}"]
    for kind in (_lm_eval, _trainer_state):
        if kind.is_one(document):
            folder = path.absolute().parent.as_posix()
            found = kind.scores(document, place, part, folder, names)
            break
    else:
        return [""]
    return [
        item.on_one_line() if isinstance(item, Score) else one_line(f"{place}: {item}")
        for item in found
    ]


def _from_files(source: str, scores: list[Score], lines: list[str], **chosen: Any) -> Trajectories:
    """The table of the chosen scores."""
    for column, wanted in chosen.items():
        if wanted is not None:
            wanted = [wanted] if isinstance(wanted, str) else list(wanted)
            there = list(dict.fromkeys(getattr(score, column) for score in scores))
            scores = [score for score in scores if getattr(score, column) in wanted]
            if not scores and there:
                named = listed([name or "(none)" for name in there])
                raise TrajectoryError(
                    f"{source}: no {column} is named {listed(wanted)}; expected one of: {named}"
                )
    rows, faults = gathered(scores)
    lines = [f"{source}: {line}" if line else source for line in (*lines, *faults)]
    if not rows:
        raise TrajectoryError(_nothing(source, lines))
    return table(source, rows, lines).unless_empty()


def _nothing(source: str, lines: list[str]) -> str:
    if not lines or lines == [source]:
        return f"{source}: is no result file; expected {_EXPECTED}"
    first = lines[0].removeprefix(f"{source}: ")
    if lines[1:]:
        return f"{source}: no score can be used, for {len(lines)} reasons; the first: {first}"
    return f"{source}: no score can be used: {first}"
