"""`trainer_state.json`, the record that the Hugging Face Trainer keeps of a run.

`log_history` has a row for each evaluation: `step` and `eval_<metric>`, or for one of several data
sets `eval_<data set>_<metric>`. Later checkpoints repeat the history of earlier ones.
"""

import math
from collections.abc import Iterator
from typing import Any

from tbtjax.measure._names import Patterns
from tbtjax.measure._scores import Score, finite

_NO_METRIC = ("loss", "runtime", "jit_compilation_time", "model_preparation_time")
_NO_METRIC_ENDS = ("_per_second", "_mem_cpu_alloc_delta", "_mem_gpu_alloc_delta")
_NO_METRIC_STARTS = ("mem_",)
#: The file does not say of which metrics less is better; of those that can be shares, these.
_LESS_IS_BETTER = ("wer", "cer", "ter", "mae", "mse", "rmse", "error", "error_rate", "brier_score")


def is_one(document: Any) -> bool:
    """Whether a JSON document is such a file."""
    return isinstance(document, dict) and isinstance(document.get("log_history"), list)


def scores(
    document: dict[str, Any], place: str, path: str, folder: str, names: Patterns
) -> Iterator[Score | str]:
    """The scores of a file, and in words what in it is none.

    Args:
      document: the file's content.
      place: the file, for messages.
      path: the part of its path in which the user's pattern looks for the model.
      folder: the whole path of its folder: that of the run names the model.
      names: how the model is found.
    """
    model, whole = names.model_in(path if names.model else folder)
    if not model:
        yield "names no model; expected a folder that does, or --model-pattern"
        return
    evaluations = [
        row
        for row in document["log_history"]
        if isinstance(row, dict) and any(str(key).startswith("eval_") for key in row)
    ]
    if not evaluations:
        yield "has no evaluations (rows with eval_… in log_history)"
    last = finite(document.get("global_step"))
    nameless = 0
    for row in evaluations:
        values = {key.removeprefix("eval_"): row[key] for key in row if key.startswith("eval_")}
        data_sets = sorted(
            (key.removesuffix("_runtime") for key in values if key.endswith("_runtime")),
            key=len,
            reverse=True,
        )
        for key, value in values.items():
            task = next((name for name in data_sets if key.startswith(f"{name}_")), "")
            metric = key.removeprefix(f"{task}_") if task else key
            if (
                metric in _NO_METRIC
                or metric.endswith((*_NO_METRIC_ENDS, "_loss"))
                or metric.startswith(_NO_METRIC_STARTS)
            ):
                continue
            if "step" not in row:
                nameless += 1
                continue
            yield Score(
                model=model,
                whole_name=whole,
                task=task,
                metric=metric,
                filter="",
                step=row["step"],
                score=value,
                stderr=math.nan,
                questions=_questions(values, f"{task}_" if task else ""),
                parameters_billion=math.nan,
                higher_is_better=metric not in _LESS_IS_BETTER,
                date=last,
                place=place,
            )
    if nameless:
        yield f"has {nameless} scores in rows of log_history without a step"


def _questions(values: dict[str, Any], prefix: str) -> float:
    """The number of questions, where time and rate, both rounded, leave one whole number."""
    time = finite(values.get(f"{prefix}runtime"))
    rate = finite(values.get(f"{prefix}samples_per_second"))
    # The Trainer rounds times to 4 and rates to 3 digits after the point.
    count = time * rate
    doubt = 5e-5 * rate + 5e-4 * time
    if not (0 < doubt < 0.5 and count >= 0.5):
        return math.nan
    return float(round(count)) if abs(count - round(count)) <= doubt else math.nan
