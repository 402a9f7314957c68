"""Result files of lm-evaluation-harness, of all its versions.

Scores stand in `results[task]["metric,filter"]`, in old files in `results[task]["metric"]`, and
standard errors beside them under `metric_stderr`. Groups of tasks stand there like tasks; `groups`
repeats them.
"""

import math
from collections.abc import Iterator
from typing import Any

from tbtjax.measure._names import Patterns, argument_texts, revision
from tbtjax.measure._scores import Score, finite

#: Entries of a task's results that are no metrics.
_NO_METRIC = ("alias", "name", "sample_len", "sample_count", "")


def is_one(document: Any) -> bool:
    """Whether a JSON document is such a file."""
    return isinstance(document, dict) and isinstance(document.get("results"), dict)


def scores(
    document: dict[str, Any], place: str, path: str, folder: str, names: Patterns
) -> Iterator[Score | str]:
    """The scores of a file, and in words what in it is none.

    Args:
      document: the file's content.
      place: the file, for messages.
      path: the part of its path in which steps are looked for.
      folder: the whole path of its folder, which names the model where the file does not.
      names: how they are found.
    """
    config = _dict(document, "config")
    arguments = config.get("model_args")
    texts = argument_texts(arguments)
    given = document.get("model_name")
    given = (given,) if isinstance(given, str) and given else ()
    model, whole = names.model_in(*((path, *texts) if names.model else (*given, *texts, folder)))
    if not model:
        yield "names no model; expected model_name, config.model_args, a folder or --model-pattern"
        return
    step = names.step_in(path, *texts, revision(arguments), *given)
    if step is None:
        yield (
            "names no training step; expected one in the path, such as step_500 or "
            "checkpoint-500, --step-pattern with the form it has, or --default-step 0 where files "
            "without one are of the untrained model"
        )
        return
    date = finite(document.get("date"))
    size = finite(config.get("model_num_parameters")) / 1e9
    tasks = {**_dict(document, "groups"), **_dict(document, "results")}
    if not tasks:
        yield "has no results"
    for task, entries in tasks.items():
        if not isinstance(entries, dict):
            yield f"task {task!r}: is {_kind(entries)}; expected its metrics"
            continue
        found = False
        for key, value in entries.items():
            metric, _, chosen = (part.strip() for part in key.partition(","))
            plain = "," not in key
            if metric in _NO_METRIC or (plain and isinstance(value, str)):
                continue
            if metric.endswith("_stderr"):
                continue
            found = True
            yield Score(
                model=model,
                whole_name=whole,
                task=task,
                metric=metric,
                filter="" if chosen == "none" else chosen,
                step=step,
                score=value,
                stderr=_stderr(entries, metric, chosen, plain=plain),
                questions=_questions(document, task, entries),
                parameters_billion=size if size > 0 else math.nan,
                higher_is_better=_dict(_dict(document, "higher_is_better"), task).get(metric)
                is not False,
                date=date,
                place=place,
            )
        if not found:
            yield f"task {task!r}: has no metric"


def _stderr(entries: dict[str, Any], metric: str, chosen: str, *, plain: bool) -> float:
    """The standard error beside a metric; NaN for "N/A" and without one."""
    error = finite(entries.get(f"{metric}_stderr" + ("" if plain else f",{chosen}")))
    return error if error >= 0 else math.nan


def _questions(document: dict[str, Any], task: str, entries: dict[str, Any]) -> float:
    """The number of questions behind a task's scores; NaN where not said."""
    counts = _dict(_dict(document, "n-samples"), task)
    for count in (counts.get("effective"), counts.get("original"), entries.get("sample_len")):
        if finite(count) > 0:
            return finite(count)
    return math.nan


def _dict(document: dict[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", type(None): "null"}.get(
        type(value), "a number"
    )
