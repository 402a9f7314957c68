"""Readers of result files: the right table from sound ones, damage survived and named."""

import json
import math
import re
import shutil
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from measured import path_of

from tbtjax.measure import TrajectoryError, read_trajectories

PYTHIA = ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
STEPS = (0, 10, 30, 100, 250, 500, 1000, 2500, 5000, 10000, 15000, 20000, 25000)


def result(task="gsm8k", model_args="pretrained=org/llama", score=0.5, **more):
    """An lm-evaluation-harness document with one score of 200 questions."""
    error = math.sqrt(score * (1 - score) / 199) if isinstance(score, float) else "N/A"
    entries = {"alias": task, "acc,none": score, "acc_stderr,none": error}
    return {"results": {task: entries}, "config": {"model_args": model_args}} | more


def write(root, files):
    """Writes documents, or text, below `root`; returns `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return root


def curve(table, model):
    """The steps and scores of a model."""
    rows = table.model == model
    return dict(zip(table.step[rows].tolist(), table.score[rows].tolist(), strict=True))


def test_the_shared_tree_reads_to_the_right_table():
    tree = path_of("lm_eval_gsm8k_pythia")
    table = read_trajectories(tree)
    assert table.skipped == []
    assert set(table.models) == {f"pythia-{size}" for size in PYTHIA}
    assert (table.tasks, table.metrics) == (("gsm8k",), ("exact_match",))
    assert len(table) == len(PYTHIA) * len(STEPS) * 2
    for name in ("strict-match", "flexible-extract"):
        chosen = table.select(filter=name)
        for size in PYTHIA:
            rows = chosen.model == f"pythia-{size}"
            assert chosen.step[rows].tolist() == list(STEPS)
            for step, score, stderr in zip(
                chosen.step[rows], chosen.score[rows], chosen.stderr[rows], strict=True
            ):
                path = tree / f"pythia-{size}" / f"step_{step:.0f}" / "gsm8k.json"
                raw = json.loads(path.read_text())["results"]["gsm8k"]
                assert score == raw[f"exact_match,{name}"]
                assert stderr == raw[f"exact_match_stderr,{name}"]
    # GSM8K has 1,319 test questions; the files do not say so, but their standard errors do.
    assert (table.questions == 1319).all()
    assert (read_trajectories(tree, filter="strict-match").filter == "strict-match").all()


def test_damaged_copies_of_the_shared_tree(tmp_path):
    tree = path_of("lm_eval_gsm8k_pythia")
    root = shutil.copytree(tree, tmp_path / "copy", copy_function=shutil.copyfile)
    for folder in [root, *root.rglob("*/")]:
        folder.chmod(0o755)

    def change(name, edit):
        path = root / name
        path.write_text(edit(path.read_text()))

    def score(text, new):
        return re.sub(r'("exact_match,strict-match": )[^,]*', rf"\g<1>{new}", text)

    change("pythia-1b/step_0/gsm8k.json", lambda text: text[: len(text) // 2])
    change("pythia-1b/step_10/gsm8k.json", lambda text: score(text, "NaN"))
    change("pythia-1b/step_30/gsm8k.json", lambda text: score(text, '"N/A"'))
    change(
        "pythia-1b/step_100/gsm8k.json",
        lambda text: re.sub(r'"exact_match(_stderr)?,strict-match": [^,]*,', "", text),
    )
    change("pythia-1b/step_250/gsm8k.json", lambda text: "")
    copy = root / "pythia-1b" / "step_500" / "again.json"
    document = json.loads((root / "pythia-1b" / "step_500" / "gsm8k.json").read_text())
    document["results"]["gsm8k"]["exact_match,strict-match"] = 0.25
    document["date"] = 2e9
    copy.write_text(json.dumps(document))

    table = read_trajectories(root)
    strict = table.select(filter="strict-match")
    assert sorted(curve(strict, "pythia-1b")) == [500, *STEPS[6:]]
    assert curve(strict, "pythia-1b")[500] == 0.25
    flexible = table.select(filter="flexible-extract")
    assert sorted(curve(flexible, "pythia-1b")) == [10, 30, 100, *STEPS[5:]]
    assert len(strict.select(models=[f"pythia-{size}" for size in PYTHIA if size != "1b"])) == 91
    wanted = (
        r"step_0/gsm8k.json: is not JSON \(line \d+: ",
        r"step_10/gsm8k.json: task 'gsm8k', metric 'exact_match,strict-match': score is nan;",
        r"step_30/gsm8k.json: task 'gsm8k', .*: score is 'N/A'; expected a share from 0 to 1",
        r"step_100/gsm8k.json: task 'gsm8k', metric 'exact_match,strict-match': is missing;",
        r"step_250/gsm8k.json: is empty",
        r"step_500/gsm8k.json: .* at step 500 .*: measured again in pythia-1b/step_500/again.json",
    )
    assert len(table.skipped) == len(wanted), table.skipped
    for pattern in wanted:
        assert any(re.search(pattern, line) for line in table.skipped), (pattern, table.skipped)


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("llama/step_500/results.json", 500),
        ("llama/checkpoint-500/results_2024-06-01T10-00-00.123.json", 500),
        ("llama/global_step500.json", 500),
        ("llama/iter_0000500/x.json", 500),
        ("org__llama__checkpoint-500/results.json", 500),
        ("step_10/llama/checkpoint-500/results.json", 500),  # the last one
        ("step3-7b/checkpoint-500/results.json", 500),
        ("step3-7b/step500.json", 500),
        ("step3-7b/results.json", None),
        ("step3-vl-10b/results.json", None),
        ("step3.5-flash/results.json", None),
        ("footstep3/results.json", None),
        ("llama/results.json", None),
    ],
)
def test_steps_in_paths(tmp_path, path, step):
    files = {path: result(model_args=""), "llama/step_1/a.json": result(model_args="")}
    files["llama/step_2/a.json"] = result(model_args="")
    table = read_trajectories(write(tmp_path, files), model_pattern="(.)")  # all of one model
    steps = {1.0, 2.0} | ({float(step)} if step is not None else set())
    assert set(table.step) == steps
    assert [("names no training step" in line) for line in table.skipped] == [True] * (step is None)


def test_steps_and_models_in_the_arguments(tmp_path):
    arguments = {
        "a": "pretrained=org/llama-7b,revision=step1000,dtype=float16",
        "b": {"pretrained": "org/llama-7b", "peft": "/runs/llama-7b/checkpoint-2000"},
        "c": "pretrained=/cache/models--org--llama-7b/snapshots/0a1b2c/,revision=step3000",
        "d": "pretrained=org/step3-7b",
        "e": "pretrained=/runs/step3-7b/checkpoint-10",
        "f": "pretrained=/runs/step3-7b-step20",
    }
    files = {f"{name}.json": result(model_args=text) for name, text in arguments.items()}
    table = read_trajectories(write(tmp_path, files))
    assert sorted(curve(table, "llama-7b")) == [1000, 2000, 3000]
    assert sorted(curve(table, "step3-7b")) == [10, 20]
    (line,) = table.skipped
    assert "d.json: names no training step" in line
    table = read_trajectories(tmp_path, default_step=0)
    assert sorted(curve(table, "step3-7b")) == [0, 10, 20]


def test_patterns_of_the_user(tmp_path):
    files = {
        f"{model}/ep{step}k.json": result(model_args="pretrained=/tmp/model", score=0.25 + step / 8)
        for model in ("x", "y")
        for step in (0, 1, 2)
    }
    write(tmp_path, files)
    options = {"step_pattern": r"ep(\d+)k", "model_pattern": r"^(\w+)/"}
    table = read_trajectories(tmp_path, **options)
    assert table.models == ("x", "y")
    assert curve(table, "y") == {0: 0.25, 1: 0.375, 2: 0.5}
    for name, pattern, message in (
        ("step_pattern", "ep(", "--step-pattern is 'ep(', which is no regular expression"),
        ("step_pattern", "ep", "--step-pattern is 'ep', with 0 groups"),
        ("step_pattern", "(e)p", "--step-pattern '(e)p' takes 'e' in 'x/ep0k.json'; expected a n"),
        ("model_pattern", "(a)(b)", "--model-pattern is '(a)(b)', with 2 groups"),
        ("default_step", -1, "--default-step is -1; expected a number of training steps"),
    ):
        with pytest.raises(TrajectoryError) as caught:
            read_trajectories(tmp_path, **(options | {name: pattern}))
        assert str(caught.value).startswith(message)
    text = "model,step,score\na,0,.5\na,1,.6\n"
    with pytest.raises(TrajectoryError, match="is a table, whose columns name models and steps"):
        read_trajectories(write(tmp_path, {"t.csv": text}) / "t.csv", step_pattern="(1)")


def test_old_files_groups_and_what_is_no_metric(tmp_path):
    old = {"results": {"arc": {"acc": 0.5, "acc_stderr": 0.1, "acc_norm": 0.75}}, "versions": {}}
    group = {"alias": "mmlu", "acc,none": 0.5, "acc_stderr,none": 0.01}
    new = {
        "results": {
            "mmlu": group,
            "mmlu_law": {"acc,none": 0.25, "name": "law", "sample_len": 100, "alias": " - law"},
            "wikitext": {"word_perplexity,none": 12.5, "word_perplexity_stderr,none": "N/A"},
            "wer": {"wer,none": 0.125, " ": " "},
        },
        "groups": {"mmlu": group, "only_group": {"acc,none": 0.5}},
        "n-samples": {"mmlu_law": {"original": 120, "effective": 100}},
        "higher_is_better": {"wer": {"wer": False}, "mmlu": {"acc": True}},
        "config": {"model_num_parameters": 7_000_000_000},
        "model_name": "org/llama",
        "date": 1.7e9,
    }
    files = {
        f"llama/step_{step}/{name}.json": document
        for step in (0, 5)
        for name, document in (("old", old), ("new", new))
    }
    table = read_trajectories(write(tmp_path, files))
    assert table.models == ("llama",)
    rows = {
        (task, metric): (score, n, better)
        for task, metric, score, n, better in zip(
            *(table.task, table.metric, table.score, table.questions, table.higher_is_better),
            strict=True,
        )
    }
    assert list(rows) == [
        *(("mmlu", "acc"), ("only_group", "acc"), ("mmlu_law", "acc"), ("wer", "wer")),
        *(("arc", "acc"), ("arc", "acc_norm")),
    ]
    assert len(table) == 12
    assert set(table.filters) == {""}
    assert rows["mmlu_law", "acc"] == (0.25, 100, True)
    assert rows["wer", "wer"][2] == np.False_
    (line,) = table.skipped
    assert "metric 'word_perplexity': score is 12.5; expected a share" in line
    assert line.endswith("; so are 1 more of task 'wikitext', metric 'word_perplexity'; left out")
    assert (table.parameters_billion == 7).all()
    with pytest.raises(TrajectoryError, match="less of wer is better"):
        table.select(task="wer").arrays()


def test_numbers_of_questions_are_those_of_shares(tmp_path):
    files = {}
    for step, score in ((0, 0.0), (1, 0.25), (2, 1.0)):
        files[f"m/step_{step}/share.json"] = result("share", score=score)
        # An F1 score is no share of its 200 questions, and its error not that of one.
        document = result("f1", score=score * 0.37)
        document["results"]["f1"]["acc_stderr,none"] = 0.03
        document["n-samples"] = {"f1": {"effective": 200}}
        files[f"m/step_{step}/f1.json"] = document
    table = read_trajectories(write(tmp_path, files))
    assert table.select(task="share").questions.tolist() == [200, 200, 200]
    assert np.isnan(table.select(task="f1").questions).all()


def test_later_measurements_count(tmp_path):
    files = {
        "m/step_0/a.json": result(score=0.25, date=2.0),
        "m/step_0/b.json": result(score=0.5, date=1.0),
        "m/step_5/results_2024-01-01T00.json": result(score=0.25),
        "m/step_5/results_2024-01-02T00.json": result(score=0.5),
    }
    table = read_trajectories(write(tmp_path, files))
    assert curve(table, "llama") == {0: 0.25, 5: 0.5}
    assert [line.split(": ")[1] for line in table.skipped] == [
        "m/step_0/b.json",
        "m/step_5/results_2024-01-01T00.json",
    ]


def test_models_of_one_short_name_are_told_apart(tmp_path):
    files = {
        f"{org}/step_{step}.json": result(model_args=f"pretrained={org}/llama,revision=step{step}")
        for org in ("x", "y")
        for step in (0, 5)
    }
    assert read_trajectories(write(tmp_path, files)).models == ("x/llama", "y/llama")


def trainer_state(steps, start=0.5, last=None):
    history = []
    for step in steps:
        history.append({"epoch": 1.0, "loss": 2.0, "step": step})
        history.append(
            {
                "epoch": 1.0,
                "eval_loss": 1.5,
                "eval_accuracy": start + step / 4096,
                "eval_runtime": 12.3456,
                "eval_samples_per_second": round(512 / 12.3456, 3),
                "eval_steps_per_second": 1.2,
                "eval_mnli_loss": 1.0,
                "eval_mnli_runtime": 1.5,
                "eval_mnli_accuracy": 0.25,
                "step": step,
            }
        )
    return {"global_step": last or steps[-1], "log_history": history, "best_metric": None}


def test_trainer_states(tmp_path):
    files = {
        "runs/llama/checkpoint-128/trainer_state.json": trainer_state((64, 128)),
        "runs/llama/checkpoint-256/trainer_state.json": trainer_state((64, 128, 192, 256)),
        "runs/llama/checkpoint-256/config.json": {"model_type": "llama"},
        "runs/llama/checkpoint-256/tokenizer.json": {"model": {}},
        "runs/pythia/trainer_state.json": trainer_state((64, 128), start=0.25),
    }
    table = read_trajectories(write(tmp_path, files))
    accuracy = table.select(task="")
    assert accuracy.metrics == ("accuracy",)
    assert curve(accuracy, "llama") == {s: 0.5 + s / 4096 for s in (64, 128, 192, 256)}
    assert curve(accuracy, "pythia") == {64: 0.265625, 128: 0.28125}
    assert (accuracy.questions == 512).all()
    assert set(table.select(task="mnli").score) == {0.25}
    assert table.skipped == [
        f"{tmp_path}: runs/llama/checkpoint-256/config.json and 1 more files: neither "
        "lm-evaluation-harness results nor a trainer_state.json; left out"
    ]
    single = read_trajectories(tmp_path / "runs/llama/checkpoint-256/trainer_state.json", task="")
    assert curve(single, "llama") == curve(accuracy, "llama")
    # One run alone: its folder is the root's own name.
    assert read_trajectories(tmp_path / "runs/llama").models == ("llama",)


def test_a_history_that_was_written_anew(tmp_path):
    files = {
        "m/checkpoint-4/trainer_state.json": trainer_state((2, 4), start=0.25),
        "m/checkpoint-8/trainer_state.json": trainer_state((2, 4, 8), start=0.5),
    }
    table = read_trajectories(write(tmp_path, files), task="")
    assert curve(table, "m")[2] == 0.5 + 2 / 4096
    (line,) = table.skipped
    assert "at step 2 and 1 more scores: measured again in m/checkpoint-8" in line


def test_parquet(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "scores.bin"  # by content, not by name
    columns = {
        "score": [0.25, 0.5, 0.5, None],
        "Model": ["a", "a", "b", "b"],
        "seed": [1, 2, 3, 4],
        "step": [0, 10, 0, 10],
        "n": [8, None, 8, 8],
    }
    parquet.write_table(pyarrow.table(columns), path)
    table = read_trajectories(path)
    assert curve(table, "a") == {0: 0.25, 10: 0.5}
    np.testing.assert_array_equal(table.questions, [8, np.nan])
    (line,) = table.skipped
    assert line.startswith(f"{path}, row 4: model 'b': score is empty; expected a share")

    parquet.write_table(pyarrow.table({"model": ["a"], "step": [0]}), path)
    with pytest.raises(TrajectoryError, match="header has no column score; found model, step"):
        read_trajectories(path)
    path.write_bytes(b"PAR1" + bytes(50))
    with pytest.raises(TrajectoryError, match="is not a readable Parquet file"):
        read_trajectories(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TrajectoryError, match=r"pyarrow, .*\(pip install 'tbtjax\[parquet\]'"):
        read_trajectories(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "", "a.json: is empty"),
        ("a.json", "{}", "result file"),
        ("a.json", "[1]", "result file"),
        ("a.txt", "[1]", "is a JSON list"),
        ("a.json", '{"results": ', "a.json: is not JSON (line 1: ends too early)"),
        ("a.json", result(), "a.json: names no training step; expected one in the path, such"),
        ("step_1/a.json", result(), "'llama': has one point only, at step 1"),
        ("step_1/a.json", {"results": {}}, "a.json: has no results"),
        ("step_1/a.json", result(score=[1]), "acc': score is [1]; expected a share"),
        ("step_1/a.json", result(score=True), "acc': score is True; expected a share"),
        ("step_1/a.json", {"results": {"t": 5}}, "a.json: task 't': is a number; expected"),
        ("m/trainer_state.json", {"log_history": [1, {}]}, "has no evaluations"),
        ("a.json", '{"results":' + '{"a":' * 99999, "a.json: is JSON that cannot be read"),
    ],
)
def test_a_lone_bad_file_is_an_error(tmp_path, name, content, message):
    write(tmp_path, {name: content})
    for path in (tmp_path, tmp_path / name):
        if path == tmp_path and not name.endswith(".json"):
            continue
        with pytest.raises(TrajectoryError) as caught:
            read_trajectories(path)
        assert message in str(caught.value)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_unknown_names_in_a_tree(tmp_path):
    files = {f"m/step_{step}/a.json": result() for step in (0, 5)}
    write(tmp_path, files)
    with pytest.raises(TrajectoryError, match="no task is named mmlu; expected one of: gsm8k"):
        read_trajectories(tmp_path, task="mmlu")
    with pytest.raises(TrajectoryError, match=r"no filter is named x; expected one of: \(none\)"):
        read_trajectories(tmp_path, filter="x")


# What JSON can hold, with the words that readers look for, so that many cases get far.
_WORDS = st.sampled_from(
    [
        *("results", "groups", "config", "model_args", "model_name", "n-samples", "date", "gsm8k"),
        *("acc,none", "acc_stderr,none", "acc", "acc_stderr", "alias", "log_history", "step"),
        *("eval_accuracy", "eval_runtime", "eval_samples_per_second", "global_step", "effective"),
        *("higher_is_better", "sample_len", "model_num_parameters", "", " ", ",", "\ud800", "a\n"),
    ]
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.floats(0, 1),
    st.sampled_from([0.5, 1e-170, 10**400, "N/A", "nan", "0.5", "pretrained=a/b,revision=step5"]),
    st.sampled_from(["checkpoint-5", "\ud800", "a\x00", "step_" + "9" * 5000]),
    st.text(max_size=5),
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=6),
    max_leaves=20,
)


def _mostly(good, bad=_LEAVES):
    """Mostly sound values, so that a table is left, with bad ones among them."""
    return st.sampled_from([good] * 5 + [None]).flatmap(
        lambda chosen: bad if chosen is None else chosen
    )


_SHARE = st.floats(0, 1)
_ENTRIES = st.fixed_dictionaries(
    {"acc,none": _mostly(_SHARE), "acc_stderr,none": _mostly(st.floats(0, 0.1))},
    optional={"f1,none": _LEAVES, "alias": _LEAVES, "sample_len": _LEAVES},
)
_RESULT = st.fixed_dictionaries(
    {"results": _mostly(st.dictionaries(_WORDS, _mostly(_ENTRIES), min_size=1, max_size=2), _JSON)},
    optional={
        "config": _mostly(st.just({"model_args": "pretrained=org/llama"}), _JSON),
        "n-samples": _JSON,
        "date": _LEAVES,
        "model_name": _mostly(st.just("org/llama")),
        "higher_is_better": _JSON,
    },
)
_EVALUATION = st.fixed_dictionaries(
    {"eval_accuracy": _mostly(_SHARE), "step": _mostly(st.integers(0, 99))},
    optional={"eval_runtime": _LEAVES, "eval_samples_per_second": _LEAVES, "loss": _LEAVES},
)
_STATE = st.fixed_dictionaries(
    {"log_history": st.lists(_mostly(_EVALUATION, _JSON), min_size=2, max_size=3)},
    optional={"global_step": _LEAVES},
)
_LINE = st.tuples(
    _mostly(st.sampled_from("ab")).map(str),
    _mostly(st.integers(0, 9)).map(str),
    _mostly(_SHARE).map(str),
    _mostly(st.just("100")).map(str),
)
_TABLE = st.lists(_LINE, max_size=8).map(
    lambda lines: "\n".join(
        ["model,step,score,n", *(",".join(f'"{x}"' for x in line) for line in sorted(lines))]
    )
)
_SOUND = st.one_of(_RESULT, _STATE).map(json.dumps)
_CUT = st.tuples(_SOUND, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])
_TEXT = st.one_of(_SOUND, _SOUND, _SOUND, _TABLE, _CUT, _JSON.map(json.dumps), st.text(max_size=60))
_BYTES = _TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=60)
_NAMES = st.sampled_from(
    ["m/step_1/a.json", "m/step_2/b.json", "m/checkpoint-3/trainer_state.json", "a.json", "b.csv"]
)
_TREES = st.dictionaries(_NAMES, _BYTES, min_size=1, max_size=4)


def survives(root, files):
    """Reads a tree, and each file in it alone: a table whose lines are lines, or one clear error.

    Returns:
      How many of the paths gave a table.
    """
    for path in root.rglob("*.*"):
        path.unlink()
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    tables = 0
    for path in (root, *(root / name for name in files)):
        try:
            table = read_trajectories(path)
        except TrajectoryError as error:
            assert str(path) in str(error)
            lines = [str(error)]
        else:
            tables += 1
            lines = table.skipped
            assert ((table.score >= 0) & (table.score <= 1)).all()
            assert (np.isfinite(table.step) & (table.step >= 0)).all()
            assert all(table.models)
        for line in lines:
            assert "\n" not in line
            line.encode("utf-8")
    return tables


_SETTINGS = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
}


@pytest.fixture(scope="module")
def fuzz_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "tree"


@hypothesis.settings(max_examples=200, **_SETTINGS)
@hypothesis.given(files=_TREES)
def test_generated_malformed_inputs(fuzz_folder, files):
    survives(fuzz_folder, files)


@pytest.mark.slow
@hypothesis.settings(max_examples=10_000, **_SETTINGS)
@hypothesis.given(files=_TREES)
def test_ten_thousand_generated_malformed_inputs(fuzz_folder, files):
    survives(fuzz_folder, files)
