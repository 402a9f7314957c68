"""Direct against tuned rankings as text, JSON, CSV and a figure."""

import collections
import pathlib
from typing import Any

import numpy as np

from tbtjax._version import __version__
from tbtjax.measure.agreement import BEYOND_NOISE, Agreement, DirectAndTuned
from tbtjax.report._format import number, plain, short, text_table, to_json, write_csv

#: Swaps shown as text; the files have all.
_MOST_SWAPS = 10


def to_text(scores: DirectAndTuned, found: Agreement) -> str:
    """The comparison as tables for a terminal."""
    lines = [
        f"Data      {scores.source}",
        f"Scores    {len(scores.models)} models on {len(scores.benchmarks)} benchmarks, evaluated "
        "directly and after tuning",
        *(f"Left out  {line}" for line in scores.left_out),
    ]
    if scores.lower_is_better:
        lines.append(f"          less is better on {', '.join(scores.lower_is_better)}")
    parts = ["\n".join(lines), _benchmarks(found), _surest(found), _summary(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _benchmarks(found: Agreement) -> str:
    rows = []
    for index in np.argsort(-np.nan_to_num(found.tau, nan=-2), kind="stable"):
        name = found.benchmarks[index]
        swaps = [swap for swap in found.swaps if swap.benchmark == name]
        pairs = int(found.pairs[index])
        rows.append(
            [
                short(name),
                str(found.models[index]),
                _tau(float(found.tau[index])),
                f"{pairs:,}",
                f"{len(swaps):,}",
                f"{len(swaps) / pairs:.1%}" if pairs else "-",
                _beyond(swaps),
            ]
        )
    header = ["benchmark", "models", "τ-b", "pairs", "swap", "share"]
    header.append(f"by > {BEYOND_NOISE:g} standard errors")
    title = (
        "Direct against tuned ranking of each benchmark: Kendall's τ-b, and pairs of models that "
        "swap"
    )
    return f"{title}\n{text_table(header, rows, text_columns=(0,))}"


def _beyond(swaps: list[Any]) -> str:
    known = [swap for swap in swaps if np.isfinite(swap.errors)]
    if not known and swaps:
        return "-"
    return f"{sum(swap.errors > BEYOND_NOISE for swap in known):,}"


def _surest(found: Agreement) -> str:
    swaps = sorted(
        (swap for swap in found.swaps if np.isfinite(swap.errors)), key=lambda swap: -swap.errors
    )
    if not swaps:
        return ""
    rows = [
        [
            short(swap.benchmark),
            short(swap.falls),
            short(swap.rises),
            number(swap.direct_lead),
            number(swap.tuned_lead),
            f"{swap.errors:.1f}",
        ]
        for swap in swaps[:_MOST_SWAPS]
    ]
    header = ["benchmark", "leads directly", "leads tuned", "by", "by", "standard errors"]
    title = "The surest swaps: both leads are so many standard errors of the difference or more"
    return f"{title}\n{text_table(header, rows, text_columns=(0, 1, 2))}"


def _summary(found: Agreement) -> str:
    count = len(found.benchmarks)
    lines = [f"Direct against tuned, mean τ-b over {count} benchmarks: {_tau(found.mean_tau)}"]
    if count > 1:
        lines.append(
            f"Between benchmarks, mean τ-b over {count * (count - 1) // 2} pairs: "
            f"{_tau(found.mean_direct)} directly, {_tau(found.mean_tuned)} tuned"
        )
    return "\n".join(lines)


def _tau(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4f}"


def _document(scores: DirectAndTuned, found: Agreement) -> dict[str, Any]:
    swaps = collections.Counter(swap.benchmark for swap in found.swaps)
    beyond = collections.Counter(
        swap.benchmark for swap in found.swaps if swap.errors > BEYOND_NOISE
    )
    return plain(
        {
            "tbtjax": __version__,
            "data": {
                "source": scores.source,
                "models": scores.models,
                "lower_is_better": scores.lower_is_better,
                "left_out": scores.left_out,
            },
            "mean_tau": found.mean_tau,
            "mean_between_direct": found.mean_direct,
            "mean_between_tuned": found.mean_tuned,
            "beyond_noise": BEYOND_NOISE,
            "benchmarks": [
                {
                    "benchmark": name,
                    "models": found.models[index],
                    "tau": found.tau[index],
                    "pairs": found.pairs[index],
                    "swaps": swaps[name],
                    "swaps_beyond_noise": beyond[name],
                }
                for index, name in enumerate(found.benchmarks)
            ],
            "between": [
                {
                    "benchmark": found.benchmarks[i],
                    "other": found.benchmarks[j],
                    "direct": found.direct[i, j],
                    "tuned": found.tuned[i, j],
                }
                for i, j in zip(*np.triu_indices(len(found.benchmarks), 1), strict=True)
            ],
            "swaps": [swap._asdict() for swap in found.swaps],
        }
    )


def write_files(
    scores: DirectAndTuned, found: Agreement, folder: pathlib.Path
) -> list[pathlib.Path]:
    """Writes agreement.json and the CSV files into `folder`; returns their paths."""
    document = _document(scores, found)
    path = folder / "agreement.json"
    path.write_text(to_json(document) + "\n", encoding="utf-8")
    written = [path]
    for name in ("benchmarks", "between", "swaps"):
        if document[name]:
            written.append(write_csv(folder / f"{name}.csv", document[name]))
    return written


def draw_agreement(found: Agreement) -> Any:
    """τ-b of each benchmark, and between benchmarks before and after; a matplotlib figure."""
    from matplotlib.figure import Figure

    order = np.argsort(np.nan_to_num(found.tau, nan=-2), kind="stable")
    names = [found.benchmarks[index] for index in order]
    several = len(names) > 1
    height = max(3.0, 1.6 + 0.24 * len(names))
    figure = Figure(figsize=(13 if several else 6, height), layout="constrained")
    axes = figure.subplots(1, 2 if several else 1, squeeze=False)[0]
    left = axes[0]
    places = np.arange(len(names))
    left.axvline(found.mean_tau, color="#666666", lw=1, ls="-.")
    left.hlines(places, 0, found.tau[order], color="#BBBBBB", lw=1)
    left.plot(found.tau[order], places, "o", color="#332288", ms=5)
    left.set_yticks(places, names, fontsize=8)
    left.set_xlim(min(0.0, np.nanmin([*found.tau, 0.0]) - 0.05), 1.0)
    left.set_xlabel("Kendall's τ-b, direct against tuned ranking")
    left.set_title(f"Mean {found.mean_tau:.3f} (dash-dotted)", fontsize=10)
    left.grid(alpha=0.25, lw=0.6, axis="x")
    if several:
        _draw_between(figure, axes[1], found, order[::-1])
    return figure


def _draw_between(figure: Any, axes: Any, found: Agreement, order: np.ndarray) -> None:
    """Agreement between benchmarks, tuned above the diagonal and direct below it."""
    names = [found.benchmarks[index] for index in order]
    table = np.triu(found.tuned[np.ix_(order, order)], 1)
    table += np.tril(found.direct[np.ix_(order, order)], -1)
    np.fill_diagonal(table, np.nan)
    image = axes.imshow(table, vmin=min(0.0, np.nanmin([*table.flat, 0])), vmax=1, cmap="cividis")
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=90)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_title(
        f"Between benchmarks, below the diagonal direct (mean {found.mean_direct:.3f}),\n"
        f"above it tuned (mean {found.mean_tuned:.3f})",
        fontsize=10,
    )
    figure.colorbar(image, ax=axes, label="Kendall's τ-b", shrink=0.8)


def write_figure(found: Agreement, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the figure as PNG and SVG into `folder`; returns their paths."""
    figure = draw_agreement(found)
    paths = [folder / f"agreement.{suffix}" for suffix in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=130)
    return paths
