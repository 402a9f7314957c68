"""Records as dictionaries, tables, labelled arrays and readable text."""

import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.core
import numpy as np

# Values printed in full; of more, least, median and largest.
_MOST_VALUES = 6


def to_dict(record: Any) -> dict[str, Any]:
    """The fields by name: Python numbers, NumPy arrays, names of statuses, nested dictionaries."""
    fields = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if _is_record(value):
            fields[field.name] = to_dict(value)
        elif value is None or field.metadata.get("static", False):
            fields[field.name] = value
        else:
            values = _values(type(record), field.name, value)
            fields[field.name] = values.item() if values.ndim == 0 else values
    return fields


def to_xarray(record: Any) -> Any:
    """An xarray Dataset; see `Record.to_xarray`."""
    xarray = _imported("xarray", "to_xarray")
    games = _game_dims(record)
    variables = {name: (games + dims, values) for name, dims, values in _wide_fields(record)}
    return xarray.Dataset(variables, attrs={"record": type(record).__name__})


def to_pandas(record: Any) -> Any:
    """A pandas DataFrame; see `Record.to_pandas`."""
    pandas = _imported("pandas", "to_pandas")
    shape, games = record.batch_shape, list(_game_dims(record))
    fields = list(_wide_fields(record))
    common = {(dims, values.shape[len(shape) :]) for _, dims, values in fields}
    columns: dict[str, np.ndarray] = {}
    if len(common) == 1 and fields[0][1]:
        # All is about the same models or pairs: a row for each.
        dims, event = common.pop()
        columns = {name: values.ravel() for name, _, values in fields}
        return pandas.DataFrame(columns, index=_index(pandas, games + list(dims), shape + event))
    for name, _, values in fields:
        event = values.shape[len(shape) :]
        flat = values.reshape(int(np.prod(shape)), int(np.prod(event)))
        for place, where in enumerate(np.ndindex(event)):
            label = f"{name}[{', '.join(map(str, where))}]" if where else name
            columns[label] = flat[:, place]
    return pandas.DataFrame(columns, index=_index(pandas, games, shape))


def summary(record: Any) -> str:
    """What a record prints as: its fields' values, each with what it is."""
    texts = _meanings(type(record))
    rows = []
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if _is_record(value):
            inside = summary(value).split("\n")
            rows.append((field.name, inside[0], ""))
            rows += [(f"  {line.strip()}", "", "") for line in inside[1:]]
        elif value is not None:
            shown = _shown(type(record), field.name, value)
            rows.append((field.name, shown, texts.get(field.name, "")))
    name = max((len(row[0]) for row in rows if row[1]), default=0)
    width = max((len(row[1]) for row in rows if row[2]), default=0)
    lines = [
        f"  {row[0]:{name if row[1] else 0}}  {row[1]:{width}}  {row[2]}".rstrip() for row in rows
    ]
    return "\n".join([_title(record), *lines])


def _title(record: Any) -> str:
    title = type(record).__name__
    try:
        shape, models = record.batch_shape, record.num_models
        dtypes = {str(x.dtype) for x in jax.tree.leaves(record) if x.dtype.kind == "f"}
    except (AttributeError, TypeError, ValueError, IndexError):  # not arrays: JAX looks at it
        return title
    games = "1 game" if shape == () else f"{' × '.join(map(str, shape))} games"
    about_models = any("model" in _dims(type(record), x.name) for x in dataclasses.fields(record))
    known = [games, *([f"{models} models"] if about_models and models > 1 else []), *sorted(dtypes)]
    return f"{title} of {', '.join(known)}"


def _shown(owner: type, name: str, value: Any) -> str:
    """A field's values in a few words; what is traced or no array, by its shape or type."""
    unknown = isinstance(value, (jax.core.Tracer, jax.ShapeDtypeStruct))
    if unknown or not hasattr(value, "dtype"):
        shape = getattr(value, "shape", None)
        kind = str(getattr(value, "dtype", type(value).__name__))
        return kind if shape is None else f"{kind}[{','.join(map(str, shape))}]"
    try:
        values = _values(owner, name, value)
    except (TypeError, ValueError, RuntimeError):  # a deleted array
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if values.size <= _MOST_VALUES:
        return _nested(values.tolist())
    if values.dtype.kind in "bOU":
        names, counts = np.unique(values.astype(str), return_counts=True)
        return ", ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=True))
    if values.dtype.kind != "f":
        return f"{values.min()} to {values.max()}"
    finite = values[np.isfinite(values)]
    parts = []
    if finite.size:
        low, middle, high = (f"{x:.4g}" for x in np.quantile(finite, (0, 0.5, 1)))
        parts.append(f"{low} to {high}, median {middle}")
    for word, count in (("inf", np.isposinf(values)), ("nan", np.isnan(values))):
        if count.any():
            parts.append(f"{np.sum(count)} {word}")
    return "; ".join(parts)


def _nested(values: Any) -> str:
    if isinstance(values, list):
        return f"[{', '.join(map(_nested, values))}]"
    return f"{values:.5g}" if isinstance(values, float) else str(values)


def _meanings(owner: type) -> dict[str, str]:
    """What each field is, from the class's docstring: up to the first full stop or semicolon."""
    text = inspect.getdoc(owner) or ""
    _, _, attributes = text.partition("Attributes:\n")
    found = {}
    for entry in re.split(r"\n(?=  \w)", f"\n{attributes}"):
        name, colon, rest = entry.strip().partition(":")
        if colon:
            rest = " ".join(rest.split())
            # The shape comes first, in backquotes.
            rest = re.sub(r"^((`[^`]*`|int32|int|bool|scalar)(, |: | or |:|,| |$))*", "", rest)
            if not rest.startswith("`["):
                found[name] = re.split(r"[;.](?:\s|$)", rest)[0]
    return found


def _wide_fields(record: Any, prefix: str = "") -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Name, dimensions after the games' and values in the shape of all games, of each field."""
    yield from _wide(record, prefix, record.batch_shape, record.num_models)


def _wide(record: Any, prefix: str, shape: tuple[int, ...], models: int):
    owner = type(record)
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        name = prefix + field.name
        if _is_record(value):
            yield from _wide(value, f"{name}.", shape, models)
        elif value is not None and not field.metadata.get("static", False):
            values = _values(owner, field.name, value)
            dims = _dims(owner, field.name, name)
            ndim = len(dims)
            event = (1,) * (ndim - values.ndim) + values.shape[max(values.ndim - ndim, 0) :]
            event = tuple(models if d == "model" else k for d, k in zip(dims, event, strict=True))
            yield name, dims, np.broadcast_to(values, shape + event)


def _dims(owner: type, name: str, path: str = "") -> tuple[str, ...]:
    """Names of a field's axes after the games'."""
    ndim = getattr(owner, "event_ndims", {}).get(name, 1)
    default = {0: (), 1: ("model",), 2: ("model", f"{path}.point")}[ndim]
    return getattr(owner, "event_dims", {}).get(name, default)


def _values(owner: type, name: str, value: Any) -> np.ndarray:
    """A field's values, in NumPy; statuses by their names."""
    values = np.asarray(value)
    names: type[enum.IntEnum] | None = getattr(owner, "enums", {}).get(name)
    if names is None:
        return values
    return np.asarray(np.array([case.name for case in sorted(names)])[values])


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _game_dims(record: Any) -> tuple[str, ...]:
    ndim = len(record.batch_shape)
    return ("game",) if ndim == 1 else tuple(f"game_{axis}" for axis in range(ndim))


def _index(pandas: Any, names: list[str], shape: tuple[int, ...]) -> Any:
    if not names:
        return pandas.RangeIndex(1)
    if len(names) == 1:
        return pandas.RangeIndex(shape[0], name=names[0])
    return pandas.MultiIndex.from_product([range(size) for size in shape], names=names)


def _imported(library: str, method: str) -> Any:
    try:
        return __import__(library)
    except ImportError:
        raise ImportError(f"{method} needs {library} (pip install {library})") from None
