"""One self-contained page from an analysis or a sweep: opens offline, everything in it.

The charts are Vega-Lite's; its library travels inside the page (package vl-convert-python). Tables
hold the same numbers for those who do not see or hover, and can be downloaded.
"""

from tbtjax.report.page._html import PageError
from tbtjax.report.page.analysis import analysis_page, read_analysis, verdict
from tbtjax.report.page.sweep import read_sweep, sweep_page

__all__ = [
    "PageError",
    "analysis_page",
    "read_analysis",
    "read_sweep",
    "sweep_page",
    "verdict",
]
