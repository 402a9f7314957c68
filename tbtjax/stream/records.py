"""Games from JSON objects: what a record may hold, and stacks of games of one layout.

A record is checked for its keys, shapes and kinds of values here; what the numbers may be (rewards
that do not rise, rates that are not negative) is the core's to say (`tbtjax.game.problems`).
"""

import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

#: Models in one game at most: all pairs of them are looked at.
MAX_MODELS = 1024

#: Keys of a cost besides `kind`, by kind. Those of "piecewise-linear" hold points.
COST_KEYS = {
    "linear": ("rate",),
    "power": ("scale", "exponent"),
    "quadratic": ("linear", "quadratic"),
    "piecewise-linear": ("breakpoints", "slopes"),
}

#: What holds points: an array shared by all models, or one array for each model.
POINTS = ("efforts", "scores", "cost.breakpoints", "cost.slopes")

_CURVE_KEYS = {
    "power-law": ("alpha", "beta", "lower", "upper"),
    "tabulated": ("efforts", "scores"),
}
_DEFAULTS = {"lower": 0.0, "upper": 1.0}
#: Keys of a record.
KEYS = frozenset(("id", "rewards", "cost", "delta", *itertools.chain(*_CURVE_KEYS.values())))
_INFINITIES = {"inf": math.inf, "-inf": -math.inf}


class RecordError(ValueError):
    """A record that cannot be used, and why."""


class Layout(NamedTuple):
    """What games have in common that are computed together.

    Attributes:
      curves: "power-law" or "tabulated".
      cost: a key of `COST_KEYS`.
      models: number of models.
      shapes: shape of the value of each of `fields`, for one game.
    """

    curves: str
    cost: str
    models: int
    shapes: tuple[tuple[int, ...], ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the parameters, those of the cost after "cost."."""
        return fields_of(self.curves, self.cost)


class Stack(NamedTuple):
    """Games of one layout.

    Attributes:
      layout: what they have in common.
      rows: `[games]` their places in the window.
      columns: by field, `[games, *shape]`.
      delta: `[games]` levels; NaN where a record gives none.
    """

    layout: Layout
    rows: np.ndarray
    columns: dict[str, np.ndarray]
    delta: np.ndarray


def fields_of(curves: str, cost: str) -> tuple[str, ...]:
    """Names of the parameters of a game, in the order of `Layout.shapes`."""
    return (*_CURVE_KEYS[curves], "rewards", *(f"cost.{key}" for key in COST_KEYS[cost]))


def stack_records(records: Iterable[tuple[int, Any]]) -> tuple[list[Stack], dict[int, str]]:
    """Stacks the games of one layout.

    Args:
      records: places in the window, and the JSON values found there.

    Returns:
      The stacks, and what is wrong with the other records, by place.
    """
    by_layout: dict[Layout, tuple[list[int], list[list[Any]], list[Any]]] = {}
    errors: dict[int, str] = {}
    like_last = None
    for row, record in records:
        found = None if like_last is None else like_last(record)
        if found is None:
            try:
                found = _read(record)
            except RecordError as error:
                errors[row] = str(error)
                continue
            like_last = _reader_like(record, found[0])
        layout, values, delta = found
        rows, all_values, deltas = by_layout.setdefault(layout, ([], [], []))
        rows.append(row)
        all_values.append(values)
        deltas.append(delta)
    stacks = []
    for layout, (rows, all_values, deltas) in by_layout.items():
        try:
            columns, delta = _columns(layout, all_values), _array(deltas, ())
        except (TypeError, OverflowError):
            kept = []
            for place, row in enumerate(rows):
                try:
                    parts = zip(layout.fields, all_values[place], layout.shapes, strict=True)
                    all_values[place] = [_number(*part) for part in parts]
                    deltas[place] = _number("delta", deltas[place], ())
                    kept.append(place)
                except RecordError as error:
                    errors[row] = str(error)
            if not kept:
                continue
            rows = [rows[place] for place in kept]
            columns = _columns(layout, [all_values[place] for place in kept])
            delta = _array([deltas[place] for place in kept], ())
        stacks.append(Stack(layout, np.asarray(rows), columns, delta))
    return stacks, errors


def _read(record: Any) -> tuple[Layout, list[Any], Any]:
    """Layout, values in the order of its fields, and level of one record."""
    if type(record) is not dict:
        raise RecordError(f"expected an object that describes a game; got {shown(record)}")
    if not KEYS.issuperset(record):
        unknown = next(key for key in record if key not in KEYS)
        raise RecordError(f"unknown key {shown(unknown)}; expected some of {', '.join(_ORDERED)}")
    is_table = "scores" in record or "efforts" in record
    curves = "tabulated" if is_table else "power-law"
    first = _array_of(record, "scores" if is_table else "alpha")
    models = len(first)
    if models > MAX_MODELS:
        raise RecordError(f"expected {MAX_MODELS} models or fewer; got {models}")
    values: list[Any] = []
    shapes: list[tuple[int, ...]] = []
    if is_table:
        given = next((key for key in _CURVE_KEYS["power-law"] if key in record), None)
        if given is not None:
            raise RecordError(f"{given} belongs to power-law curves, scores to tabulated ones")
        _add_points(values, shapes, "efforts", _array_of(record, "efforts"), models)
        if any(type(row) is not list for row in first):
            raise RecordError("scores must be an array of arrays, one for each model")
        _add_points(values, shapes, "scores", first, models)
        _check_counts("efforts", values[0], "scores", values[1], 0)
    else:
        for key in _CURVE_KEYS["power-law"]:
            value = record.get(key, _DEFAULTS.get(key))
            if value is None:
                raise RecordError(_missing(record, key))
            _add(values, shapes, key, value, models)
    _add(values, shapes, "rewards", _array_of(record, "rewards"), models)
    cost = record.get("cost")
    if type(cost) is not dict:
        raise RecordError(_missing(record, "cost") if cost is None else _no_cost(cost))
    kind = cost.get("kind")
    if type(kind) is not str or kind not in COST_KEYS:
        raise RecordError(f"cost.kind must be one of {', '.join(COST_KEYS)}; got {shown(kind)}")
    keys = COST_KEYS[kind]
    if len(cost) != len(keys) + 1:
        for key in cost:
            if key != "kind" and key not in keys:
                raise RecordError(
                    f"unknown key {shown(key)} in a {kind} cost; expected {', '.join(keys)}"
                )
    for key in keys:
        if key not in cost:
            raise RecordError(f"cost.{key} is missing in a {kind} cost")
        name = f"cost.{key}"
        if name not in POINTS:
            _add(values, shapes, name, cost[key], models)
        elif type(cost[key]) is not list:
            raise RecordError(f"{name} must be an array; got {shown(cost[key])}")
        else:
            _add_points(values, shapes, name, cost[key], models)
    if kind == "piecewise-linear":
        _check_counts("cost.breakpoints", values[-2], "cost.slopes", values[-1], 1)
    delta = record.get("delta", math.nan)
    return Layout(curves, kind, models, tuple(shapes)), values, delta


def _reader_like(record: dict[str, Any], layout: Layout) -> Any:
    """Reads records of this one's form as `_read` does, and faster; others become None.

    Streams hold long runs of games of one form, so most records need no more than a comparison.
    None where the form holds points.
    """
    if layout.curves != "power-law" or layout.cost == "piecewise-linear":
        return None
    names = record.keys() | _DEFAULTS.keys()
    cost_names, kind = record["cost"].keys(), layout.cost
    of_game = operator.itemgetter(*_CURVE_KEYS["power-law"], "rewards", "cost")
    of_cost = operator.itemgetter("kind", *COST_KEYS[kind])
    lengths = [shape[0] if shape else -1 for shape in layout.shapes]

    def read(other: Any) -> tuple[Layout, list[Any], Any] | None:
        if type(other) is not dict:
            return None
        other = _DEFAULTS | other
        if other.keys() != names:
            return None
        *values, cost = of_game(other)
        if type(cost) is not dict or cost.keys() != cost_names:
            return None
        other_kind, *more = of_cost(cost)
        values += more
        found = [len(value) if type(value) is list else -1 for value in values]
        if other_kind != kind or found != lengths or None in values:
            return None
        return layout, values, other.get("delta", math.nan)

    return read


_ORDERED = ("id", *_CURVE_KEYS["power-law"], *_CURVE_KEYS["tabulated"], "rewards", "cost", "delta")


def _no_cost(cost: Any) -> str:
    return f'cost must be an object such as {{"kind": "linear", "rate": 1}}; got {shown(cost)}'


def _missing(record: dict, key: str) -> str:
    return f"{key} is null" if key in record else f"{key} is missing"


def _array_of(record: dict, key: str) -> list:
    value = record.get(key)
    if value is None:
        raise RecordError(_missing(record, key))
    if type(value) is not list or not value:
        raise RecordError(
            f"{key} must be an array with an entry for each model; got {shown(value)}"
        )
    return value


def _add(values: list, shapes: list, name: str, value: Any, models: int) -> None:
    """A number, or an array of one for each model."""
    if type(value) is list:
        if len(value) != models:
            raise RecordError(
                f"{name} must have {models} entries, one for each model; got {len(value)}"
            )
        shapes.append((models,))
    else:
        shapes.append(())
    values.append(value)


def _add_points(values: list, shapes: list, name: str, value: list, models: int) -> None:
    """An array of points, or one such array for each model; the end is filled with NaN."""
    if not any(type(entry) is list for entry in value):
        shapes.append((len(value),))
        values.append(value)
        return
    if any(type(entry) is not list for entry in value) or len(value) != models:
        raise RecordError(
            f"{name} must be an array of numbers, or {models} such arrays, one for each model"
        )
    points = max(map(len, value))
    shapes.append((models, points))
    values.append([[*entry, *(math.nan,) * (points - len(entry))] for entry in value])


def _check_counts(first: str, few: list, second: str, many: list, more: int) -> None:
    """Raises unless each model has `more` entries more of the second than of the first."""

    def counts(value):
        if value and type(value[0]) is list:
            return [sum(entry == entry for entry in row) for row in value]
        return [len(value)]

    fewer, larger = counts(few), counts(many)
    for own, other in itertools.zip_longest(
        fewer, larger, fillvalue=fewer[0] if len(fewer) == 1 else larger[0]
    ):
        if other != own + more or other == 0:
            wanted = "one entry more than" if more else "as many entries as"
            raise RecordError(f"{second} must have {wanted} {first}; got {other} and {own}")


def _columns(layout: Layout, values: Sequence[Sequence[Any]]) -> dict[str, np.ndarray]:
    """By field `[games, *shape]`; raises TypeError where something is no plain number."""
    by_field = zip(*values, strict=True)
    fields = zip(layout.fields, layout.shapes, by_field, strict=True)
    return {name: _array(column, shape) for name, shape, column in fields}


def _array(values: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    """`[games, *shape]` float64 of nested lists of plain numbers; else TypeError."""
    flat: Sequence[Any] = values
    for _ in shape:
        flat = list(itertools.chain.from_iterable(flat))
    if not {float, int}.issuperset(map(type, flat)):
        raise TypeError
    return np.array(flat, np.float64).reshape(len(values), *shape)


def _number(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """`value` with every entry a float; infinities are written "inf" and "-inf"."""
    if shape:
        return [_number(f"{name}[{i}]", entry, shape[1:]) for i, entry in enumerate(value)]
    if type(value) is str and value in _INFINITIES:
        return _INFINITIES[value]
    if type(value) not in (int, float):
        raise RecordError(f"{name} must be a number; got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise RecordError(f"{name} is an integer too large for a float64") from None


def shown(value: Any) -> str:
    """A JSON value in an error message: short, on one line."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if type(value) is dict:
        return "an object"
    if type(value) is list:
        return f"an array of {len(value)}" if value else "an empty array"
    text = ascii(value) if type(value) is str else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
