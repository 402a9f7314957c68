"""Readers of tidy tables: CSV, and Parquet by pyarrow."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tbtjax.measure._rows import ALONG_TRAINING, Columns, Row
from tbtjax.measure.trajectories import TrajectoryError


def read_csv(path: Path, known: Columns = ALONG_TRAINING) -> Iterator[Row]:
    """The rows of a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            header = next((line for line in lines if line), None)
            if header is None:
                raise TrajectoryError(f"{path}: is empty; expected a CSV file with a header")
            columns = known.places(path, header)
            for line in lines:
                if not any(field.strip() for field in line):
                    continue
                fault = ""
                if len(line) != len(header):
                    fault = f"has {len(line)} fields; expected {len(header)}, as in the header"
                text = {name: line[i].strip() for name, i in columns.items() if i < len(line)}
                yield Row(f"line {lines.line_num}", text, fault)
    except UnicodeDecodeError as error:
        raise TrajectoryError(f"{path}: is not text; expected a CSV file in UTF-8") from error
    except csv.Error as error:
        raise TrajectoryError(f"{path}: is not a CSV file: {error}") from error
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be read: {error.strerror}") from error


def read_parquet(path: Path, known: Columns = ALONG_TRAINING) -> Iterator[Row]:
    """The rows of a Parquet file; the columns that are not known are not read."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise TrajectoryError(
            f"{path}: is a Parquet file, and pyarrow, which reads them, is not installed; "
            "expected it (pip install 'tbtjax[parquet]'), or a CSV file"
        ) from error
    try:
        file = parquet.ParquetFile(path)
        titles = list(file.schema_arrow.names)
        columns = known.places(path, titles)
        content = file.read(columns=[titles[i] for i in columns.values()])
        lists = [content.column(titles[i]).to_pylist() for i in columns.values()]
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, TrajectoryError):
            raise
        message = " ".join(str(error).split())
        raise TrajectoryError(f"{path}: is not a readable Parquet file: {message}") from error
    for index, cells in enumerate(zip(*lists, strict=True)):
        yield Row(f"row {index + 1}", dict(zip(columns, map(_cell, cells), strict=True)))


def _cell(value: Any) -> Any:
    """A cell as a row holds it: text without blanks around it, "" for none."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else value


def is_parquet(path: Path) -> bool:
    """Whether a file begins like a Parquet file."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"
