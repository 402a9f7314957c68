"""The digits experiment: a small run of the script, and the table that is packaged."""

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "examples" / "post_training_digits.py"
PACKAGED = ROOT / "tbtjax" / "data" / "digits_post_training.csv"
COLUMNS = "model,family,parameters_billion,task,metric,step,score,stderr,seeds".split(",")

needs_digits = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None,
    reason="scikit-learn is not installed (extra `examples`)",
)


def run(*options, **environment):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, options)],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | environment,
    )


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == COLUMNS
    return rows


def parameter_count(width):
    """64 inputs, three hidden layers, ten classes; weights and biases, layer by layer."""
    return (64 + 1) * width + 2 * (width + 1) * width + (width + 1) * 10


def check_table(rows, widths, steps, seeds):
    """Everything a reader of the table relies on, whatever was measured."""
    assert [(row["model"], int(row["step"])) for row in rows] == [
        (f"mlp-{width}", step) for width in widths for step in steps
    ]
    for row, width in zip(rows, (w for w in widths for _ in steps), strict=True):
        assert (row["family"], row["task"], row["metric"]) == ("mlp", "digits", "accuracy")
        assert round(float(row["parameters_billion"]) * 1e9) == parameter_count(width)
        assert int(row["seeds"]) == seeds
        score, stderr = float(row["score"]), float(row["stderr"])
        assert 0 < score < 1
        # The sample variance of numbers in [0, 1] is at most m (1 - m) n / (n - 1).
        assert 0 < stderr <= (score * (1 - score) / (seeds - 1)) ** 0.5


@pytest.mark.slow
@needs_digits
def test_quick_run_writes_a_valid_table_and_repeats_itself(tmp_path):
    tables = [tmp_path / "first.csv", tmp_path / "new_folder" / "again.csv"]
    for table in tables:  # one after the other: the second finds what the first has compiled
        completed = run("--quick", "--seeds", 4, "--out", table)
        assert completed.returncode == 0, completed.stderr
        assert completed.stdout.splitlines()[-1].startswith("wrote 6 rows to ")
    check_table(read(tables[0]), [11], [0, 1, 2, 5, 10, 20], seeds=4)
    assert tables[0].read_bytes() == tables[1].read_bytes()


def test_packaged_table():
    rows = read(PACKAGED)
    steps = [0, 1, 2, 5, 10, 20, 35, 50, 75, 100, 150, 200, 350, 500, 750, 1000, 1500, 2000]
    steps += [3000, 4000]
    check_table(rows, [6, 11, 20, 36, 64], steps, seeds=40)
    # What the README says of it: above chance from the start, ordered by size at every step.
    for step in steps:
        scores = [float(row["score"]) for row in rows if int(row["step"]) == step]
        assert 0.1 < scores[0] and scores == sorted(scores)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--quick"], "--quick needs --out"),
        (["--seeds", "1"], "--seeds must be at least 2, to have a standard error; got 1"),
    ],
)
def test_options_that_would_spoil_the_packaged_table_are_refused(options, message):
    before = PACKAGED.read_bytes()
    completed = run(*options)
    assert completed.returncode == 2
    assert message in completed.stderr and "Traceback" not in completed.stderr
    assert PACKAGED.read_bytes() == before


def test_missing_scikit_learn_is_said_in_one_line(tmp_path):
    (tmp_path / "sklearn.py").write_text("raise ImportError('not here')\n")
    completed = run("--out", tmp_path / "never.csv", PYTHONPATH=str(tmp_path))
    assert completed.returncode == 1
    assert completed.stderr.strip() == (
        "this example needs scikit-learn, which brings the digits: pip install 'tbtjax[examples]'"
    )
