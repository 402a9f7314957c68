"""The command `tbtjax`: what it prints and writes, and one clear line for bad input."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tbtjax import __version__
from tbtjax.cli import main
from tbtjax.report._format import number

HEADER = "model,family,parameters_billion,step,score,questions"
STEPS = (0, 10, 100, 1000)
#: Scores at STEPS; as many models and points everywhere, so that programs are compiled once.
GOOD = {
    "large": ("f", 3, (0.80, 0.83, 0.86, 0.88)),
    "medium": ("f", 2, (0.60, 0.65, 0.71, 0.75)),
    "small": ("g", 1, (0.30, 0.38, 0.45, 0.53)),
}


def rows_of(models):
    return [
        f"{name},{family},{size},{step},{score},2000"
        for name, (family, size, scores) in models.items()
        for step, score in zip(STEPS, scores, strict=True)
    ]


@pytest.fixture
def write(tmp_path):
    """Writes a table of the good models, changed by a function of its rows; returns its path."""

    def write(change=lambda rows: rows, header=HEADER):
        path = tmp_path / "scores.csv"
        path.write_text("\n".join([header, *change(rows_of(GOOD))]) + "\n", encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Runs the command in an empty folder: exit code, stdout, stderr."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def run(*arguments):
        try:
            code = main(["analyze", "--resamples", "0", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def fails_with(result, *words):
    """Exit code 2, nothing on stdout, one line on stderr that holds all `words`."""
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1 and err.endswith("\n"), err
    assert err.startswith(("tbtjax analyze: error: ", "tbtjax: error: "))
    for word in words:
        assert word in err


def test_prints_and_writes_everything(run, write):
    code, out, err = run(write(), "--worth", 50000, "--out", "results")
    assert (code, err) == (0, "")
    document = json.loads(Path("results/analysis.json").read_text(encoding="utf-8"))
    assert document["tbtjax"] == __version__
    assert document["data"]["order"] == "size"
    assert [model["model"] for model in document["models"]] == ["large", "medium", "small"]
    for model in document["models"]:
        assert f"  {number(model['alpha'])}  " in out
    (threshold,) = document["thresholds"]
    assert threshold["worth"] == 50000
    assert f"{threshold['weak']} against {threshold['rival']}" in out
    files = {path.name for path in Path("results").iterdir()}
    assert files == {
        "analysis.json",
        *(f"{name}.csv" for name in ("models", "points", "pairs", "efforts", "thresholds")),
        *("conditions.csv", "assumptions.csv"),
        *(f"curves_and_effort.{suffix}" for suffix in ("png", "svg")),
        *(f"thresholds.{suffix}" for suffix in ("png", "svg")),
    }
    for name in files:
        assert name in out


def test_computes_in_float64(run, write):
    code, *_ = run(write(), "--worth", 100)
    assert code == 0
    with Path("tbtjax-analysis/pairs.csv").open(newline="", encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    with Path("tbtjax-analysis/models.csv").open(newline="", encoding="utf-8") as file:
        models = {row["model"]: row for row in csv.DictReader(file)}
    for pair in pairs:
        weak, strong = models[pair["weak"]], models[pair["strong"]]
        lead = (float(strong["alpha"]) - float(weak["alpha"])) / float(weak["beta"])
        assert float(pair["e0"]) == pytest.approx(math.expm1(lead), rel=1e-12)
        assert float(pair["rho"]) == pytest.approx(
            float(weak["beta"]) / float(strong["beta"]), rel=1e-12
        )


def test_without_matplotlib_gives_numbers(run, write, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run(write(), "--worth", 100, "--out", "results")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith(
        "; no figures: matplotlib is not installed (pip install 'tbtjax[report]')"
    )
    assert {path.suffix for path in Path("results").iterdir()} == {".json", ".csv"}


def test_one_bad_model_is_left_out(run, write):
    path = write(lambda rows: [*rows, "broken,f,4,0,nan,2000", "broken,f,4,10,0.5,2000"])
    code, out, _ = run(path, "--worth", 100)
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.startswith("Left out"))
    assert "scores.csv, line 14: model 'broken'" in line
    assert "expected a share from 0 to 1" in line
    assert "Models    3 with 12 points" in out


def test_selection_by_name(run, write):
    path = write(lambda rows: [*rows, "other,h,4,0,0.5,2000", "other,h,4,10,0.6,2000"])
    for options in (("--family", "f", "g"), ("--models", "small", "large", "medium")):
        code, out, _ = run(path, *options, "--worth", 100)
        assert code == 0
        assert "Models    3 with 12 points" in out
        assert "other" not in out


def _without(column):
    names = HEADER.split(",")
    index = names.index(column)

    def drop(line):
        return ",".join(cell for i, cell in enumerate(line.split(",")) if i != index)

    return drop


@pytest.mark.parametrize("column", ["model", "step", "score"])
def test_missing_column(run, write, column):
    drop = _without(column)
    path = write(lambda rows: [drop(row) for row in rows], header=drop(HEADER))
    fails_with(run(path), "scores.csv: header has no column", column, "expected model, step, score")


def _only(*rows):
    return lambda _: list(rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: [], ("has a header but no rows",)),
        (_only("a,f,1,0,0.5,9", "b,f,2,0,0.6,9"), ("line 2", "one point only", "two or more")),
        (_only("a,f,1,10,0.5,9", "a,f,1,0,0.4,9"), ("line 3", "step 0 comes after step 10")),
        (_only("a,f,1,10,0.5,9", "a,f,1,10,0.4,9"), ("line 3", "step 10 is there already")),
        (_only("a,f,1,0,55,9", "a,f,1,10,60,9"), ("line 2", "score is '55'", "from 0 to 1")),
        (_only("a,f,1,0,nan,9", "a,f,1,10,.6,9"), ("line 2", "score is 'nan'")),
        (_only("a,f,1,0,.5,9", "a,f,1,10,.6,9"), ("expected 2 or more models", "found 1, a")),
        (_only("a,f,1,-1,.5,9", "a,f,1,10,.6,9"), ("line 2", "step is '-1'")),
        (_only("a,f,1,0,.5"), ("line 2", "has 5 fields; expected 6")),
    ],
)
def test_bad_rows(run, write, change, words):
    fails_with(run(write(change)), "scores.csv", *words)


def test_bad_files(run, tmp_path):
    fails_with(run(tmp_path / "none.csv"), "none.csv: there is no such file")
    fails_with(run(tmp_path), "is a folder without JSON files; expected a CSV")
    (tmp_path / "empty.csv").touch()
    fails_with(run(tmp_path / "empty.csv"), "empty.csv: is empty")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    fails_with(run(tmp_path / "image.csv"), "image.csv: is not text")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--models", "lage", "small"), ("no model is named 'lage'", "did you mean large?")),
        (("--family", "h"), ("no family is named 'h'", "expected one of: f, g")),
        (("--task", "mmlu"), ("there is no column task",)),
        (("--benchmark", "mmlu"), ("there is no column task",)),
        (("--models", "small"), ("expected 2 or more models", "found 1, small")),
        (("--lower", "0.95"), ("--lower is 0.95", "from 0.3 to 0.88")),
        (("--lower", "0.85"), ("found 1, large", "lower limit 0.85")),
        (("--lower", "1"), ("--lower", "from 0 to below 1; got '1'")),
        (("--lower", "-0.1"), ("--lower", "from 0 to below 1; got '-0.1'")),
        (("--lower", "chance"), ("--lower", "from 0 to below 1; got 'chance'")),
        (("--order", "name"), ("--order", "invalid choice: 'name'")),
        (("--fit", "ols"), ("--fit", "invalid choice: 'ols'")),
        (("--rewards", "top-k:x"), ("--rewards", "'top-k:x'", "expected winner-take-all")),
        (("--rewards", "top-k:3"), ("top-k:3 pay all of the 3 models alike",)),
        (("--worth", "100", "0"), ("--worth", "a positive number", "got '0'")),
        (("--worth", "many"), ("--worth", "a positive number", "got 'many'")),
        (("--worth", "inf"), ("--worth", "a positive number", "got 'inf'")),
        (("--fit", "logit-ols", "--limits", "free"), ("--limits free", "--fit weighted")),
        (("--ordered", "--limits", "free"), ("--ordered", "fixed or shared", "--limits free")),
        (("--deviations", "some"), ("--deviations", "invalid choice")),
        (("--speed", "9"), ("unrecognized arguments: --speed 9",)),
    ],
)
def test_bad_options(run, write, options, words):
    fails_with(run(write(), *options), *words)


def test_order_needs_sizes(run, write):
    drop = _without("parameters_billion")
    path = write(lambda rows: [drop(row) for row in rows], header=drop(HEADER))
    fails_with(run(path, "--order", "size"), "--order is size", "parameters_billion")


def test_several_tasks_need_a_choice(run, write):
    path = write(
        lambda rows: [f"{row},{task}" for task in ("arc", "piqa") for row in rows],
        header=f"{HEADER},task",
    )
    fails_with(run(path), "has 2 tasks (arc, piqa)", "--task")
    code, out, _ = run(path, "--benchmark", "piqa", "--worth", 100)
    assert code == 0
    assert "piqa" in out.splitlines()[0]


def test_output_folder_that_cannot_be(run, write, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = run(write(), "--worth", 100, "--out", tmp_path / "file")
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("tbtjax analyze: error: --out ")
    assert err.endswith("expected a folder that can be written\n")


def command(*arguments, **options):
    """The command in a process of its own."""
    code = "import sys; from tbtjax.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=Path(__file__).parents[1],
        check=False,
        **options,
    )


def test_help_and_version():
    shown = command("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "analyze" in shown.stdout
    assert command("--version").stdout == f"tbtjax {__version__}\n"


def test_help_in_a_plain_terminal():
    shown = command("--help", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (shown.returncode, shown.stderr) == (0, "")


def test_no_command():
    shown = command()
    assert shown.returncode == 2
    assert shown.stderr.count("\n") == 1
    assert "COMMAND" in shown.stderr


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from tbtjax.cli import main\n"
        "try:\n    main(['analyze', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'matplotlib', 'optax', 'tbtjax.measure', 'tbtjax.report'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert shown.stdout.splitlines()[-1] == "[]"


def test_packaged_data(run):
    code, out, err = run("--worth", 10, 100, 1000)
    assert (code, err) == (0, "")
    document = json.loads(Path("tbtjax-analysis/analysis.json").read_text(encoding="utf-8"))
    assert document["data"]["source"] == "packaged data digits_post_training.csv"
    assert len(document["models"]) >= 5
    for model in document["models"]:
        assert len(model["steps"]) >= 15
        assert model["steps"][0] == 0
        assert model["lower"] == 0.1
    assert [row["worth"] for row in document["thresholds"]] == [10, 100, 1000]
    assert "Δ*" in out


def test_the_command_keeps_its_programs(tmp_path):
    words = ["tbtjax", "analyze", "missing.csv", "--rewards", "top-k:1"]
    script = f"""
import sys
from tbtjax.cli import main
sys.argv = {words}
assert main() == 2
import jax
print(jax.config.jax_compilation_cache_dir)
"""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert found.stdout.startswith(str(tmp_path / "tbtjax"))
