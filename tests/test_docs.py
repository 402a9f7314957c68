"""Every Python block of the documentation runs, and prints what the page says it prints."""

import pathlib
import re

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if "```python" in path.read_text())
# What these show takes long to compile, and the usual run has tests of it.
LONG = ("follower-game", "measuring", "monte-carlo")
# A block, and the `text` block that follows it after at most one line of words: its output.
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n[^\n`]+\n)?(?:\n```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)


@pytest.fixture
def settings_of_a_new_process(monkeypatch, tmp_path):
    """An empty folder, no window for figures, and JAX's 64-bit mode off and put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize(
    "page",
    [pytest.param(x, id=x.stem, marks=[pytest.mark.slow] if x.stem in LONG else []) for x in PAGES],
)
def test_blocks_of_a_page_run_in_order(page, settings_of_a_new_process, capsys):
    names = {"__name__": "__main__"}
    for block in BLOCK.finditer(page.read_text()):
        exec(compile(block["code"], page.name, "exec"), names)
        printed = capsys.readouterr().out
        if block["output"] is not None:
            assert printed.split() == block["output"].split(), block["code"]
