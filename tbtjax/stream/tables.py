"""Games from Arrow tables, without a Python object for each: the fast way in.

A table has the columns of a record: `id`, `alpha`, `beta`, `lower`, `upper`, `efforts`, `scores`,
`rewards`, `delta` and `cost`, a struct or columns `cost.kind`, `cost.rate`, …. Rows of the usual
kind (power laws, no points in the cost, nothing missing) are taken as arrays; all others become
Python objects and go the way of JSON records, which also says what is wrong with them.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tbtjax.stream.records import COST_KEYS, MAX_MODELS, POINTS, Layout, Stack, fields_of

_PLAIN_COSTS = tuple(kind for kind in COST_KEYS if kind != "piecewise-linear")


class _Column(NamedTuple):
    """A column of numbers, or of an array of numbers in each row.

    Attributes:
      values: float64, one after the other.
      offsets: `[rows + 1]` where the array of each row begins; None for a column of numbers.
      regular: `[rows]` bool: whether the row has a value.
    """

    values: np.ndarray
    offsets: np.ndarray | None
    regular: np.ndarray


def stack_table(batch: pa.RecordBatch) -> tuple[list[Stack], np.ndarray]:
    """The games of a table's usual rows.

    Args:
      batch: rows with the columns described above.

    Returns:
      Their stacks, and which rows are not among them, `[rows]` bool.
    """
    columns = _flat(batch)
    rest = np.ones(batch.num_rows, bool)
    wanted = {name: _numbers(columns[name]) for name in columns if _may_be_numbers(name)}
    alpha, rewards = wanted.get("alpha"), wanted.get("rewards")
    kind = columns.get("cost.kind")
    if kind is None or not pa.types.is_string(kind.type):
        return [], rest
    if alpha is None or alpha.offsets is None or rewards is None or rewards.offsets is None:
        return [], rest
    models = np.diff(alpha.offsets)
    encoded = kind.dictionary_encode()
    known = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    stacks = []
    for cost in _PLAIN_COSTS:
        if cost not in known:
            continue
        here = codes == known.index(cost)
        names = [name for name in fields_of("power-law", cost) if name in wanted]
        if not set(fields_of("power-law", cost)) - {"lower", "upper"} <= set(names):
            continue
        # A row that holds something else besides is not usual.
        for name in columns.keys() - {*names, "id", "delta", "cost.kind"}:
            here &= ~_not_null(columns[name])
        here &= (models > 0) & (models <= MAX_MODELS)
        for name in names:
            column = wanted[name]
            if column is None:
                here &= False
                break
            here &= column.regular
            if column.offsets is not None:
                here &= np.diff(column.offsets) == models
        if "delta" in wanted:
            here &= wanted["delta"] is not None and wanted["delta"].offsets is None
        for count in np.unique(models[here]).tolist():
            rows = np.flatnonzero(here & (models == count))
            stacks.append(_stack(cost, count, rows, wanted))
        rest &= ~here
    return stacks, rest


def to_records(batch: pa.RecordBatch, rows: np.ndarray) -> list[tuple[int, Any]]:
    """Some rows as JSON records, each with its place; what is null is left out."""
    some = pa.array(rows)
    columns = {name: column.take(some).to_pylist() for name, column in _flat(batch).items()}
    columns.pop("id", None)
    records = []
    for place, row in enumerate(rows.tolist()):
        record: dict[str, Any] = {}
        for name, values in columns.items():
            value = values[place]
            if value is None:
                continue
            if name.startswith("cost."):
                record.setdefault("cost", {})[name[5:]] = value
            else:
                record[name] = value
        records.append((row, record))
    return records


def _flat(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """The columns by name, those of a struct `cost` after "cost."."""
    columns: dict[str, pa.Array] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        if name == "cost" and pa.types.is_struct(column.type):
            for field, values in zip(column.type, column.flatten(), strict=True):
                columns[f"cost.{field.name}"] = values
        else:
            columns[name] = column
    kind = columns.get("cost.kind")
    if kind is not None and not pa.types.is_string(kind.type):
        if isinstance(kind, pa.DictionaryArray):
            kind = kind.dictionary_decode()
        columns["cost.kind"] = kind.cast(pa.string()) if _is_text(kind.type) else kind
    return columns


def _is_text(type_: pa.DataType) -> bool:
    return pa.types.is_large_string(type_) or pa.types.is_string_view(type_)


def _may_be_numbers(name: str) -> bool:
    return name not in ("id", "cost.kind", "cost", *POINTS)


def _numbers(column: pa.Array) -> _Column | None:
    """The column's numbers; None where it holds something else."""
    type_ = column.type
    if _is_number(type_):
        values = column.cast(pa.float64()).fill_null(np.nan)
        return _Column(values.to_numpy(zero_copy_only=False), None, _not_null(column))
    if pa.types.is_fixed_size_list(type_):
        column, type_ = column.cast(pa.list_(type_.value_type)), pa.list_(type_.value_type)
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_)
    if not is_list or not _is_number(type_.value_type):
        return None
    values, offsets = column.values.cast(pa.float64()), column.offsets.to_numpy()
    regular = _not_null(column)
    if values.null_count:
        missing = np.concatenate([[0], np.cumsum(~_not_null(values))])
        regular = regular & (missing[offsets[1:]] == missing[offsets[:-1]])
        values = values.fill_null(np.nan)
    return _Column(values.to_numpy(zero_copy_only=False), offsets, regular)


def _is_number(type_: pa.DataType) -> bool:
    return pa.types.is_floating(type_) or pa.types.is_integer(type_)


def _not_null(column: pa.Array) -> np.ndarray:
    if not column.null_count:
        return np.ones(len(column), bool)
    return column.is_valid().to_numpy(zero_copy_only=False)


def _stack(cost: str, models: int, rows: np.ndarray, columns: dict[str, Any]) -> Stack:
    """The games of one layout in the given rows."""
    arrays, shapes = {}, []
    for name in fields_of("power-law", cost):
        column = columns.get(name)
        if column is None:  # a limit that the table does not have
            shapes.append(())
            arrays[name] = np.full(len(rows), {"lower": 0.0, "upper": 1.0}[name])
        elif column.offsets is None:
            shapes.append(())
            arrays[name] = column.values[rows]
        else:
            shapes.append((models,))
            arrays[name] = _rows_of(column, rows, models)
    level = columns.get("delta")
    delta = np.full(len(rows), np.nan) if level is None else level.values[rows]
    return Stack(Layout("power-law", cost, models, tuple(shapes)), rows, arrays, delta)


def _rows_of(column: _Column, rows: np.ndarray, models: int) -> np.ndarray:
    """`[rows, models]` the arrays in some rows, all of one length."""
    assert column.offsets is not None
    first, last = column.offsets[[rows[0], rows[-1] + 1]] if len(rows) else (0, 0)
    if last - first == len(rows) * models and rows[-1] - rows[0] == len(rows) - 1:
        return column.values[first:last].reshape(-1, models)  # they follow each other
    return column.values[column.offsets[rows][:, None] + np.arange(models)]
