"""Games in, answers out, as a stream: the backend of tools that are not written in Python.

`records` reads games from JSON objects, `tables` from Arrow tables; `answers` computes in blocks of
few shapes, so that few programs are compiled; `json_lines`, `csv_lines` and `parquet` read and
write `windows` of a stream; `run` puts them together in constant memory, order kept.

The records are described by the JSON Schemas in `tbtjax/data/schema/` (`schema(name)`).
"""

from tbtjax.stream.answers import QUESTIONS
from tbtjax.stream.formats import FORMATS
from tbtjax.stream.run import StreamError, Totals, run
from tbtjax.stream.schemas import SCHEMAS, schema

__all__ = ["FORMATS", "QUESTIONS", "SCHEMAS", "StreamError", "Totals", "run", "schema"]
