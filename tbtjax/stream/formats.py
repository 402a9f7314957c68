"""The formats of streams: JSON Lines, CSV and Parquet, in and out."""

import os
import sys
from typing import Any, BinaryIO

from tbtjax.stream.csv_lines import CsvReader, CsvWriter
from tbtjax.stream.json_lines import JsonLinesReader, JsonLinesWriter
from tbtjax.stream.parquet import ParquetReader, ParquetWriter

#: Names of the formats and the endings of their files.
FORMATS = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv",),
    "parquet": (".parquet", ".pq"),
}

READERS = {"jsonl": JsonLinesReader, "csv": CsvReader, "parquet": ParquetReader}
WRITERS = {"jsonl": JsonLinesWriter, "csv": CsvWriter, "parquet": ParquetWriter}


def open_input(path: str) -> BinaryIO:
    """The file, or stdin for "-", unbuffered: a read gives what is there."""
    if path != "-":
        return open(path, "rb", buffering=0)
    stream: Any = getattr(sys.stdin, "buffer", sys.stdin)
    return getattr(stream, "raw", stream)


def format_of(path: str) -> str | None:
    """The format that a file's ending stands for; None where it is none of them."""
    ending = os.path.splitext(path)[1].lower()
    return next((name for name, endings in FORMATS.items() if ending in endings), None)
