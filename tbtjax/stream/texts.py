"""Answers and ids as JSON."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tbtjax.stream.answers import STATUS_NAMES, Ragged
from tbtjax.stream.windows import MISSING, Window


def no_constant(name: str) -> Any:
    """Raises for what Python's `json` takes and JSON has not."""
    raise ValueError(f'{name} is no JSON value; infinities are written "inf" and "-inf"')


def ids_of(window: Window) -> Sequence[Any] | None:
    """The JSON value of each place's id, `MISSING` where it has none; None where no place has."""
    return window.ids if window.arrow_ids is None else window.arrow_ids.to_pylist()


def id_as_text(value: Any) -> str:
    """An id for a column of text; empty where there is none."""
    if value is MISSING or value is None:
        return ""
    return value if type(value) is str else json_of(value)


def json_of(value: Any) -> str:
    """JSON of an id; what JSON has not (a date, NaN) as a string."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(str(value))


def as_texts(values: Any, kind: str, errors: dict[int, str]) -> list[str]:
    """JSON of each row's answer."""
    if isinstance(values, Ragged):
        numbers = _numbers_as_text(values.values)
        bounds = values.offsets.tolist()
        return [f"[{', '.join(numbers[start:end])}]" for start, end in itertools.pairwise(bounds)]
    if kind == "number":
        return _numbers_as_text(values)
    if kind == "bool":
        return ["true" if value else "false" for value in values.tolist()]
    if kind == "status":
        return [f'"{STATUS_NAMES[value]}"' for value in values.tolist()]
    return [str(value) for value in values.tolist()]


def _numbers_as_text(values: np.ndarray) -> list[str]:
    """Shortest texts that read as the same float64s, as Python's `json` writes them."""
    texts = list(map(float.__repr__, values.tolist()))
    for place in np.flatnonzero(~np.isfinite(values)).tolist():
        value = values[place]
        texts[place] = "null" if value != value else '"inf"' if value > 0 else '"-inf"'
    return texts
