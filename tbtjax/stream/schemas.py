"""The JSON Schemas of the records, which come with the package."""

import importlib.resources
import json
from typing import Any

#: What goes in, what comes out of each command, and the analysis.json of `tbtjax analyze`.
SCHEMAS = ("game", "threshold", "effort", "verdict", "rule-of-thumb", "analysis")


def schema(name: str) -> dict[str, Any]:
    """A JSON Schema (draft 2020-12).

    Args:
      name: one of `SCHEMAS`: "game" for the records that go in, "analysis" for analysis.json, else
        a command's answers.

    Returns:
      The schema.

    Raises:
      ValueError: there is no such schema.

    Examples:
      >>> schema("game")["required"]
      ['rewards', 'cost']
    """
    if name not in SCHEMAS:
        raise ValueError(f"name must be one of {', '.join(SCHEMAS)}; got {name!r}")
    file = importlib.resources.files("tbtjax") / "data" / "schema" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8"))
