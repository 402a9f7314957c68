"""Tables of measured scores: what is read, what is left out and why, selection and order."""

import os
from pathlib import Path

import numpy as np
import pytest

from tbtjax.measure import TrajectoryError, read_trajectories

HEADER = "model,step,score\n"
GOOD = "a,0,.5\na,10,.6\nb,0,.4\nb,10,.5\n"


def write(folder, text, name="scores.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_all_columns_are_read(tmp_path):
    path = write(
        tmp_path,
        "seed,family,model,benchmark,metric,step,score,stderr,n,parameters_billion\n"
        "1,f,a,arc,acc,0,0.25,0.01,400,1.5\n"
        "1,f,a,arc,acc,1e3,0.5,,,1.5\n"
        "1,g,b c,arc,acc,0,0.125,N/A,200,\n"
        "1,g,b c,arc,acc,7,1,0.02,200,\n",
    )
    table = read_trajectories(path)
    assert table.models == ("a", "b c")
    assert table.families == ("f", "g")
    assert table.tasks == ("arc",)
    assert table.metrics == ("acc",)
    assert table.skipped == []
    assert len(table) == 4
    np.testing.assert_array_equal(table.step, [0, 1000, 0, 7])
    np.testing.assert_array_equal(table.score, [0.25, 0.5, 0.125, 1])
    np.testing.assert_array_equal(table.stderr, [0.01, np.nan, np.nan, 0.02])
    np.testing.assert_array_equal(table.questions, [400, np.nan, 200, 200])
    np.testing.assert_array_equal(table.parameters_billion, [1.5, 1.5, np.nan, np.nan])
    for column in (table.step, table.score, table.stderr, table.questions):
        assert column.dtype == np.float64


def test_spreadsheet_habits_are_understood(tmp_path):
    # A byte order mark, capitals, blanks around names and numbers, empty lines, quoted commas.
    text = '\ufeffModel, Step ,SCORE\n\n"a, large",0, 0.5\n,,\n"a, large",10,0.6\n'
    table = read_trajectories(write(tmp_path, text))
    assert table.models == ("a, large",)
    np.testing.assert_array_equal(table.score, [0.5, 0.6])


def test_rows_of_different_models_may_alternate(tmp_path):
    text = HEADER + "a,0,.1\nb,0,.2\na,5,.3\nb,5,.4\n"
    table = read_trajectories(write(tmp_path, text))
    np.testing.assert_array_equal(table.model, ["a", "a", "b", "b"])
    np.testing.assert_array_equal(table.score, [0.1, 0.3, 0.2, 0.4])


BAD_MODEL = {
    "nan score": ("c,0,nan\nc,1,.4\n", "line 6: model 'c': score is 'nan'; expected a share"),
    "no score": ("c,0,.3\nc,1,\n", "line 7: model 'c': score is empty; expected a share"),
    "text score": ("c,0,high\nc,1,.4\n", "line 6: model 'c': score is 'high'; expected a share"),
    "per cent": ("c,0,51.2\nc,1,52\n", "line 6: model 'c': score is '51.2'; expected a share"),
    "negative score": ("c,0,-.1\nc,1,.4\n", "line 6: model 'c': score is '-.1'; expected a share"),
    "negative step": ("c,-1,.1\nc,1,.4\n", "line 6: model 'c': step is '-1'; expected a number"),
    "infinite step": ("c,0,.1\nc,inf,.4\n", "line 7: model 'c': step is 'inf'; expected a number"),
    "no step": ("c,,.1\nc,1,.4\n", "line 6: model 'c': step is empty; expected a number"),
    "unsorted": (
        "c,0,.1\nc,10,.4\nc,5,.2\n",
        "line 8: model 'c': step 5 comes after step 10 (line 7); expected the rows of a model in "
        "order of step",
    ),
    "repeated": (
        "c,0,.1\nc,10,.4\nc,10,.5\n",
        "line 8: model 'c': step 10 is there already (line 7); expected each step once",
    ),
    "started again": (
        "c,0,.1\nc,10,.4\nc,0,.1\n",
        "line 8: model 'c': step 0 is there already (line 6); expected each step once",
    ),
    "one point": (
        "c,3,.1\n",
        "line 6: model 'c': has one point only, at step 3; expected two or more",
    ),
    "short row": ("c,0\nc,1,.4\n", "line 6: model 'c': has 2 fields; expected 3"),
    "long row": ("c,0,.1,9\nc,1,.4\n", "line 6: model 'c': has 4 fields; expected 3"),
}


@pytest.mark.parametrize("rows, reason", BAD_MODEL.values(), ids=BAD_MODEL)
def test_a_bad_model_is_named_and_left_out(tmp_path, rows, reason):
    path = write(tmp_path, HEADER + GOOD + rows)
    table = read_trajectories(path)
    assert table.models == ("a", "b")
    (line,) = table.skipped
    assert line.startswith(f"{path}, {reason}")
    assert line.endswith("; left out")
    assert "\n" not in line


@pytest.mark.parametrize("rows, reason", BAD_MODEL.values(), ids=BAD_MODEL)
def test_an_error_where_no_model_is_left(tmp_path, rows, reason):
    path = write(tmp_path, HEADER + rows)
    _, reason = reason.split(": ", 1)
    with pytest.raises(TrajectoryError) as caught:
        read_trajectories(path)
    assert str(caught.value).startswith(f"{path}, line ")
    assert "\n" not in str(caught.value)


def test_how_many_are_bad_is_said_where_all_are(tmp_path):
    path = write(tmp_path, HEADER + "a,0,50\na,1,60\nb,0,40\nb,1,50\n")
    with pytest.raises(TrajectoryError) as caught:
        read_trajectories(path)
    assert str(caught.value) == (
        f"{path}: none of 2 curves can be used; the first: line 2: model 'a': score is '50'; "
        "expected a share from 0 to 1 (85 % is 0.85)"
    )


@pytest.mark.parametrize(
    "row, reason",
    [
        ("c,0,.1,-1,9,1,f\nc,1,.2,1,9,1,f\n", "stderr is '-1'; expected a standard error"),
        ("c,0,.1,1,0,1,f\nc,1,.2,1,9,1,f\n", "questions is '0'; expected a number above 0"),
        ("c,0,.1,1,9,7B,f\nc,1,.2,1,9,1,f\n", "parameters_billion is '7B'; expected a number"),
        ("c,0,.1,1,9,1,f\nc,1,.2,1,9,2,f\n", "parameters_billion is 2.0, but 1.0 before (line 4)"),
        ("c,0,.1,1,9,1,f\nc,1,.2,1,9,1,g\n", "family is g, but f before (line 4); expected one"),
    ],
)
def test_bad_optional_columns(tmp_path, row, reason):
    header = "model,step,score,stderr,questions,parameters_billion,family\n"
    path = write(tmp_path, header + "a,0,.1,1,9,1,f\na,1,.2,1,9,1,f\n" + row)
    table = read_trajectories(path)
    assert table.models == ("a",)
    assert reason in table.skipped[0]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "is empty; expected a CSV file with a header"),
        ("\n\n", "is empty; expected a CSV file with a header"),
        (HEADER, "has a header but no rows"),
        ("model,step\na,0\n", "header has no column score; found model, step; expected model,"),
        ("model;step;score\na;0;1\n", "found model;step;score; expected model, step, score, sep"),
        ("model,step,score,task,benchmark\n", "several columns for the task (task, benchmark)"),
        (HEADER + GOOD + " ,0,.5\n", ", line 6: model is empty; expected a name"),
    ],
)
def test_a_bad_file_is_an_error(tmp_path, text, reason):
    path = write(tmp_path, text)
    with pytest.raises(TrajectoryError) as caught:
        read_trajectories(path)
    assert str(caught.value).startswith(str(path))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no.csv: there is no such file; expected a CSV"):
        read_trajectories(tmp_path / "no.csv")
    with pytest.raises(TrajectoryError, match="is a folder without JSON files; expected a CSV or"):
        read_trajectories(tmp_path)
    image = tmp_path / "figure.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    with pytest.raises(TrajectoryError, match="is not text; expected a CSV or Parquet table"):
        read_trajectories(image)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(TrajectoryError, match="is not text; expected a CSV"):
        read_trajectories(binary)


TABLE = (
    "model,family,task,step,score,parameters_billion\n"
    "small,x,arc,0,.3,1\nsmall,x,arc,10,.5,1\n"
    "large,x,arc,0,.4,9\nlarge,x,arc,10,.45,9\n"
    "other,y,arc,0,.6,3\nother,y,arc,10,.7,3\nother,y,arc,20,.35,3\n"
    "small,x,gsm,0,.1,1\nsmall,x,gsm,10,.2,1\n"
    "large,x,gsm,0,.2,9\nlarge,x,gsm,10,nan,9\n"
)


def test_selection_and_what_was_left_out_of_it(tmp_path):
    table = read_trajectories(write(tmp_path, TABLE))
    assert table.select(family="x", task="arc").models == ("small", "large")
    assert table.select(models=["other", "large"], task="arc").models == ("large", "other")
    assert table.select(task="arc").skipped == []
    assert "model 'large': score is 'nan'" in table.select(task="gsm").skipped[0]
    # What cannot be used is not unknown: the error says why.
    with pytest.raises(TrajectoryError, match=r"line 12: model 'large': score is 'nan'"):
        table.select(models="large", task="gsm")
    with pytest.raises(TrajectoryError, match="no model meets all conditions"):
        table.select(models="other", family="x")


def test_unknown_names_are_an_error_with_those_there_are(tmp_path):
    path = write(tmp_path, TABLE)
    table = read_trajectories(path)
    with pytest.raises(TrajectoryError) as caught:
        table.select(models=["small", "larg"])
    assert str(caught.value) == (
        f"{path}: no model is named 'larg'; did you mean large? expected one of: small, large, "
        "other"
    )
    with pytest.raises(TrajectoryError, match="no family is named 'X'"):
        table.select(family="X")  # names are exact
    with pytest.raises(TrajectoryError, match="no task is named 'ar'; did you mean arc"):
        table.select(task="ar")
    with pytest.raises(TrajectoryError, match="cannot choose metric acc: there is no column"):
        table.select(metric="acc")


def test_several_tasks_and_none_chosen(tmp_path):
    path = write(tmp_path, TABLE)
    with pytest.raises(TrajectoryError) as caught:
        read_trajectories(path).arrays()
    assert str(caught.value) == (
        f"{path}: has 2 tasks (arc, gsm); expected one: choose it with --task"
    )


def test_orders_and_padding(tmp_path):
    table = read_trajectories(write(tmp_path, TABLE)).select(task="arc")
    arrays = table.arrays()
    assert (arrays.order, arrays.models) == ("size", ("large", "other", "small"))
    nan = np.nan
    np.testing.assert_array_equal(arrays.steps, [[0, 10, nan], [0, 10, 20], [0, 10, nan]])
    np.testing.assert_array_equal(
        arrays.scores, [[0.4, 0.45, nan], [0.6, 0.7, 0.35], [0.3, 0.5, nan]]
    )
    assert np.isnan(arrays.stderr).all() and arrays.stderr.shape == (3, 3)
    # The score at the largest step, not the best one.
    by_score = table.arrays(order="score")
    assert (by_score.order, by_score.models) == ("score", ("small", "large", "other"))


def test_models_of_one_size_are_ordered_by_score(tmp_path):
    text = "model,step,score,parameters_billion\n"
    text += "a,0,.1,7\na,1,.2,7\nb,0,.1,7\nb,1,.3,7\nc,0,.1,7\nc,1,.2,7\n"
    assert read_trajectories(write(tmp_path, text)).arrays().models == ("b", "a", "c")


def test_order_without_sizes(tmp_path):
    text = "model,step,score,parameters_billion\na,0,.1,7\na,1,.2,7\nb,0,.1,\nb,1,.3,\n"
    table = read_trajectories(write(tmp_path, text))
    assert (table.arrays().order, table.arrays().models) == ("score", ("b", "a"))
    with pytest.raises(TrajectoryError, match="--order is size, but parameters_billion is not"):
        table.arrays(order="size")
    assert table.select(models="a").arrays().order == "size"
    with pytest.raises(TrajectoryError, match="--order is 'rank'; expected 'size' or 'score'"):
        table.arrays(order="rank")


def test_limits(tmp_path):
    table = read_trajectories(write(tmp_path, TABLE)).select(task="arc")
    kept = table.within_limits(0.45)
    assert kept.models == ("small", "other")
    assert kept.skipped == [
        f"{table.source}: model 'large': its highest score is 0.45; expected one above the lower "
        "limit 0.45 (option --lower: the score by chance); left out"
    ]
    np.testing.assert_array_equal(kept.score, [0.3, 0.5, 0.6, 0.7, 0.35])  # .3 < .45 stays
    with pytest.raises(TrajectoryError, match=r"--lower is 0.8; .* run from 0.3 to 0.7"):
        table.within_limits(0.8)
    for lower, upper, message in (
        (25, 1, "--lower is 25; expected a score from 0 to 1"),
        (-0.1, 1, "--lower is -0.1; expected a score from 0 to 1"),
        (float("nan"), 1, "--lower is nan; expected a score from 0 to 1"),
        (0.5, 0.5, "--lower is 0.5; expected a score below the upper limit 0.5"),
        (0.5, 1.5, "--upper is 1.5; expected a score from 0 to 1"),
    ):
        with pytest.raises(TrajectoryError, match=message):
            table.within_limits(lower, upper)


def test_the_shared_mmlu_trajectories():
    folder = os.environ.get("TBTJAX_DATA") or Path(__file__).parents[2] / "shared" / "data"
    path = Path(folder) / "mmlu_finetuning.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there; set TBTJAX_DATA to the folder of the shared data")
    table = read_trajectories(path)
    assert (len(table), len(table.models), table.skipped) == (548, 55, [])
    arrays = table.select(family="llama").arrays()
    assert arrays.models == ("llama-65b", "llama-30b", "llama-13b", "llama-7b")
    np.testing.assert_array_equal(
        arrays.steps[0], [0, 10, 30, 100, 250, 500, 1000, 2000, 3000, 4000]
    )
    np.testing.assert_array_equal(arrays.questions, 14042)
    # scores are whole counts
    counts = arrays.scores * arrays.questions
    np.testing.assert_allclose(counts, np.round(counts), atol=0.01)
