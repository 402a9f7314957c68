"""Every Python block of the documentation runs, and prints what the page says it prints."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if "```python" in path.read_text())
# A block, and the `text` block that follows it after at most one line of words: its output.
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n[^\n`]+\n)?(?:\n```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_blocks_of_a_page_run_in_order(page, tmp_path):
    blocks = list(BLOCK.finditer(page.read_text()))
    script = "\n".join(f"{block['code']}\nprint('-- end of block --')" for block in blocks)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    printed = run.stdout.split("-- end of block --\n")
    assert len(printed) == len(blocks) + 1
    for block, text in zip(blocks, printed, strict=False):
        if block["output"] is not None:
            assert text.split() == block["output"].split(), block["code"]
