"""An analysis as files: analysis.json, and CSV, where a cell of what is not known is empty."""

import itertools
import pathlib
from typing import Any

from tbtjax.report._format import plain, to_json, write_csv
from tbtjax.report.document import to_document
from tbtjax.report.records import Analysis


def write_files(analysis: Analysis, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes analysis.json and the CSV files into `folder`; returns their paths."""
    content = plain(to_document(analysis))
    pairs = [f"{pair['weak']} passes {pair['strong']}" for pair in content["pairs"]]
    path = folder / "analysis.json"
    path.write_text(to_json(content) + "\n", encoding="utf-8")
    fits = [
        {key: value for key, value in model.items() if key not in ("steps", "scores", "errors")}
        | {"flags": " ".join(model["flags"])}
        for model in content["models"]
    ]
    points = [
        {
            "model": model.name,
            "step": step,
            "score": score,
            "stderr": error,
            "fitted": model.score(step),
        }
        for model in analysis.models
        for step, score, error in zip(model.steps, model.scores, model.errors, strict=True)
    ]
    return [
        path,
        write_csv(folder / "models.csv", fits),
        write_csv(folder / "points.csv", plain(points)),
        write_csv(folder / "pairs.csv", content["pairs"]),
        write_csv(
            folder / "efforts.csv", _widened(content["effort"] + content["effort_curve"], pairs)
        ),
        write_csv(
            folder / "thresholds.csv",
            _widened(content["thresholds"] + content["threshold_curve"], pairs),
        ),
        write_csv(folder / "conditions.csv", [_flat(row) for row in content["conditions"]]),
        write_csv(
            folder / "assumptions.csv",
            [
                {"max_effort": report["max_effort"], **row}
                for report in content["assumptions"]
                for row in report["violations"]
            ],
            ["max_effort", "condition", "model", "rival", "amount", "start", "end"],
        ),
        *_family_files(analysis, folder),
    ]


def _family_files(analysis: Analysis, folder: pathlib.Path) -> list[pathlib.Path]:
    """families.csv: Δ* and e0 by family with their intervals; stability.csv: the probabilities."""
    families = analysis.families
    if families is None:
        return []
    worths, figures, shares = analysis.thresholds.worths, [], []
    for reading in families.readings:
        for row, worth in enumerate(worths):
            low, high = (x[row] for x in reading.delta_interval)
            figures.append(
                [reading.family, "delta", worth, None, None, reading.delta[row], low, high]
            )
            shares += (
                {"family": reading.family, "worth": worth, "delta": level, "share": share}
                for level, share in zip(families.levels, reading.stability[row], strict=True)
            )
        for pair, (strong, weak) in enumerate(itertools.pairwise(analysis.names)):
            low, high = (x[pair] for x in reading.e0_interval)
            figures.append([reading.family, "e0", None, weak, strong, reading.e0[pair], low, high])
    for pair, (strong, weak) in enumerate(itertools.pairwise(analysis.names)):
        low, high = (x[pair] for x in families.brackets)
        figures.append(["measured", "e0", None, weak, strong, None, low, high])
    header = ["family", "figure", "worth", "weak", "strong", "value", "low", "high"]
    rows: list[dict[str, Any]] = [dict(zip(header, plain(x), strict=True)) for x in figures]
    return [
        write_csv(folder / "families.csv", rows),
        write_csv(folder / "stability.csv", plain(shares)),
    ]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the entries of inner objects in columns of their own, "exact delta"."""
    flat = {}
    for key, value in row.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat |= {f"{key} {name}".strip(): item for name, item in inner.items()}
    return flat


def _widened(rows: list[dict[str, Any]], pairs: list[str]) -> list[dict[str, Any]]:
    """Rows by their first column, once each, with `by_pair` spread over one column per pair."""
    by_first = {next(iter(row.values())): row for row in rows}
    rows = [by_first[first] for first in sorted(by_first)]
    return [
        {key: value for key, value in row.items() if key != "by_pair"}
        | dict(zip(pairs, row["by_pair"], strict=True))
        for row in rows
    ]
