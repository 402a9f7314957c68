"""Parquet, in and out."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from tbtjax.stream.answers import STATUS_NAMES, Question, Ragged
from tbtjax.stream.records import stack_records
from tbtjax.stream.texts import id_as_text
from tbtjax.stream.windows import MISSING, READ, StreamError, Window, check_columns

# Whole blocks of `tbtjax.stream.answers`, where games are alike.
_WINDOW_ROWS = 32_000


class ParquetReader:
    """A table with the keys of a record as columns; see `tbtjax.stream.tables`."""

    def __init__(self, stream: BinaryIO):
        pa, parquet = _pyarrow()
        if not _is_seekable(stream):
            # The table of contents is at the end of the file.
            spooled = tempfile.TemporaryFile()
            while piece := stream.read(READ):
                spooled.write(piece)
            stream = spooled
        self._errors = (pa.ArrowException, OSError)
        try:
            # A file that Arrow opens itself is read without Python's lock.
            path = getattr(stream, "name", None)
            is_path = isinstance(path, str) and os.path.isfile(path)
            file = pa.OSFile(path) if is_path else pa.PythonFile(stream, mode="r")
            self._file = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        except self._errors as error:
            raise StreamError(f"is no Parquet file: {error}") from error
        schema = self._file.schema_arrow
        check_columns(schema.names)
        self.id_type = schema.field("id").type if "id" in schema.names else None
        # Dictionaries within structs are read from one group of rows at a time alone.
        structs = [field.type for field in schema if pa.types.is_struct(field.type)]
        self._by_group = any(
            pa.types.is_dictionary(part.type) for type_ in structs for part in type_
        )

    def windows(self) -> Iterator[Any]:
        """First row number and rows of each window."""
        first = 1
        groups = [[i] for i in range(self._file.num_row_groups)] if self._by_group else [None]
        try:
            for group in groups:
                for batch in self._file.iter_batches(_WINDOW_ROWS, row_groups=group):
                    yield first, batch
                    first += batch.num_rows
        except self._errors as error:
            raise StreamError(f"row {first} and later ones cannot be read: {error}") from error

    def read(self, raw: Any) -> Window:
        """The games of a window."""
        from tbtjax.stream.tables import stack_table, to_records

        first, batch = raw
        stacks, rest = stack_table(batch)
        records = to_records(batch, np.flatnonzero(rest)) if rest.any() else []
        more, errors = stack_records(records)
        ids = batch.column("id") if self.id_type is not None else None
        lines = range(first, first + batch.num_rows)
        return Window(lines, None, stacks + more, errors, ids)


class ParquetWriter:
    """A table with a row for each game; what an error leaves out is null."""

    def __init__(self, stream: BinaryIO, question: Question, id_type: Any):
        self._pa, parquet = _pyarrow()
        pa = self._pa
        self._question = question
        kinds = {
            "number": pa.float64(),
            "index": pa.int32(),
            "bool": pa.bool_(),
            "status": pa.string(),
            "pairs": pa.list_(pa.float64()),
        }
        fields = [("id", id_type or pa.string())]
        fields += [(name, kinds[kind]) for name, kind in question.outputs.items()]
        self._schema = pa.schema([*fields, ("line", pa.int64()), ("error", pa.string())])
        # Levels hardly ever repeat: no dictionary is tried for them.
        repeated = [name for name, kind in question.outputs.items() if kind == "status"]
        self._writer = parquet.ParquetWriter(
            stream, self._schema, use_dictionary=[*repeated, "error"]
        )

    def format(self, window: Window, answers: dict[str, Any]) -> Any:
        """The rows of a window."""
        pa, count = self._pa, len(window.lines)
        bad = np.zeros(count, bool)
        bad[list(window.errors)] = True
        if window.arrow_ids is not None:
            ids = window.arrow_ids
        else:
            texts = [None if x is MISSING else id_as_text(x) for x in window.ids or ()]
            ids = pa.array(texts or [None] * count, pa.string())
        columns = [ids]
        for field in list(self._schema)[1:-2]:
            values = answers[field.name]
            if isinstance(values, Ragged):
                offsets = pa.array(values.offsets, pa.int32(), mask=np.append(bad, False))
                columns.append(pa.ListArray.from_arrays(offsets, pa.array(values.values)))
            elif self._question.outputs[field.name] == "status":
                names = pa.DictionaryArray.from_arrays(pa.array(values, mask=bad), STATUS_NAMES)
                columns.append(names.cast(pa.string()))
            else:
                columns.append(pa.array(values, mask=bad).cast(field.type))
        lines: list[int | None] = [None] * count
        errors: list[str | None] = [None] * count
        for place, text in window.errors.items():
            lines[place], errors[place] = window.lines[place], text
        columns += [pa.array(lines, pa.int64()), pa.array(errors, pa.string())]
        return pa.record_batch(columns, schema=self._schema)

    def write(self, formatted: Any) -> None:
        """Writes the rows of a window."""
        self._writer.write_batch(formatted)

    def close(self) -> None:
        """Writes the table of contents."""
        self._writer.close()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise StreamError("Parquet needs pyarrow (pip install 'tbtjax[backend]')") from None
    return pyarrow, parquet


def _is_seekable(stream: BinaryIO) -> bool:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return stream.seekable()
    return False
