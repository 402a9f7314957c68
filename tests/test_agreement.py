"""Direct against tuned rankings: published figures, a count over all pairs, bad tables."""

import itertools
import json
import math

import numpy as np
import pytest
from measured import path_of

from tbtjax.cli import main
from tbtjax.measure import TrajectoryError, agreement, read_direct_and_tuned

HEADER = "benchmark,model,direct,direct_stderr,tuned,tuned_stderr\n"
TABLE = HEADER + (
    "arc,a,.5,.01,.7,.01\narc,b,.4,.01,.8,.01\narc,c,.3,.01,.6,.03\narc,d,.2,,.65,\n"
    "bpb,a,1.2,,1.0,\nbpb,b,1.1,,1.1,\nbpb,c,1.3,,1.2,\n"
)


def write(folder, text=TABLE):
    path = folder / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


def tau_b(x, y):
    """Kendall's τ-b by counting pairs."""
    signs = [
        (np.sign(x[i] - x[j]), np.sign(y[i] - y[j]))
        for i, j in itertools.combinations(range(len(x)), 2)
    ]
    untied = [math.sqrt(sum(pair[k] != 0 for pair in signs)) for k in (0, 1)]
    return sum(a * b for a, b in signs) / (untied[0] * untied[1])


def test_swaps_and_their_noise(tmp_path):
    scores = read_direct_and_tuned(write(tmp_path), lower_is_better=["bpb"])
    assert (scores.benchmarks, scores.models) == (("arc", "bpb"), ("a", "b", "c", "d"))
    found = agreement(scores)
    assert found.models.tolist() == [4, 3]
    assert found.pairs.tolist() == [6, 3]
    assert found.tau == pytest.approx(
        [tau_b([5, 4, 3, 2], [7, 8, 6, 6.5]), tau_b([-1.2, -1.1, -1.3], [-1.0, -1.1, -1.2])]
    )
    arc = [swap for swap in found.swaps if swap.benchmark == "arc"]
    assert [(swap.falls, swap.rises) for swap in arc] == [("a", "b"), ("c", "d")]
    # Both lead by .1, with an error of √2·.01 each.
    assert arc[0].errors == pytest.approx(0.1 / math.hypot(0.01, 0.01))
    assert math.isnan(arc[1].errors)
    (other,) = (swap for swap in found.swaps if swap.benchmark == "bpb")
    assert (other.falls, other.rises) == ("b", "a")
    assert (other.direct_lead, other.tuned_lead) == pytest.approx((0.1, 0.1))
    # Between benchmarks, over the three models that both have; less is better on one.
    assert found.mean_direct == pytest.approx(tau_b([5, 4, 3], [-1.2, -1.1, -1.3]))
    assert found.mean_tuned == pytest.approx(tau_b([7, 8, 6], [-1.0, -1.1, -1.2]))


def test_random_scores_with_ties():
    rng = np.random.default_rng(0)
    from tbtjax.measure import DirectAndTuned

    scores = rng.integers(0, 6, (2, 5, 12)).astype(float)
    unknown = np.full((5, 12), np.nan)
    names = tuple("vwxyz"), tuple(f"m{i}" for i in range(12))
    found = agreement(DirectAndTuned("", *names, *scores, unknown, unknown))
    assert found.tau == pytest.approx([tau_b(x, y) for x, y in zip(*scores, strict=True)])
    for table, side in ((found.direct, scores[0]), (found.tuned, scores[1])):
        for i, j in itertools.combinations(range(5), 2):
            assert table[i, j] == table[j, i] == pytest.approx(tau_b(side[i], side[j]))
    for row, name in enumerate(names[0]):
        lead, later = (x[row][:, None] - x[row] for x in scores)
        swaps = [swap for swap in found.swaps if swap.benchmark == name]
        assert len(swaps) == np.sum((lead > 0) & (later < 0))


def test_published_figures():
    path = path_of("direct_vs_tuned.csv")
    corpora = ("wiki_2025", "arxiv_2025", "stackexchange_2025")
    scores = read_direct_and_tuned(path, without=corpora)
    assert (len(scores.benchmarks), len(scores.models), scores.left_out) == (24, 61, ())
    found = agreement(scores)
    tau = dict(zip(found.benchmarks, found.tau, strict=True))
    expected = {"mnli": 0.5887, "winogrande": 0.8545, "hellaswag": 0.8962, "gsm8k": 0.6316}
    assert {name: tau[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    means = (found.mean_tau, found.mean_direct, found.mean_tuned)
    assert means == pytest.approx((0.6564, 0.5173, 0.7552), abs=1e-4)
    with_corpora = agreement(read_direct_and_tuned(path, lower_is_better=corpora))
    assert len(with_corpora.benchmarks) == 27
    # Turned the right way round, the corpora agree with the benchmarks.
    assert with_corpora.mean_tuned > 0.7


BAD = {
    "twice": ("arc,a,.5,,.7,\n", "line 9: 'a' on 'arc' is there already (line 2)"),
    "no score": ("arc,e,,,.7,\n", "line 9: direct is empty; expected a score"),
    "text": ("arc,e,.5,,high,\n", "line 9: tuned is 'high'; expected a score"),
    "error": ("arc,e,.5,-1,.7,\n", "line 9: direct_stderr is '-1'; expected a standard error"),
    "no model": ("arc,,.5,,.7,\n", "line 9: model is empty; expected a name"),
    "short": ("arc,e\n", "line 9: has 2 fields; expected 6"),
}


@pytest.mark.parametrize(("row", "reason"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named_and_left_out(tmp_path, row, reason):
    path = write(tmp_path, TABLE + row)
    scores = read_direct_and_tuned(path)
    assert scores.left_out[0].startswith(f"{path}, {reason}")
    np.testing.assert_array_equal(scores.direct, read_direct_and_tuned(write(tmp_path)).direct)


def test_bad_tables_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file; expected a CSV or Parquet table"):
        read_direct_and_tuned(tmp_path / "none.csv")
    with pytest.raises(TrajectoryError, match="is a folder"):
        read_direct_and_tuned(tmp_path)
    with pytest.raises(TrajectoryError, match="header has no column tuned"):
        read_direct_and_tuned(write(tmp_path, "benchmark,model,direct\n"))
    with pytest.raises(TrajectoryError, match="expected a benchmark with two or more models"):
        read_direct_and_tuned(write(tmp_path, HEADER + "arc,a,.5,,.7,\n"))
    with pytest.raises(TrajectoryError, match=r"named 'x' \(--without\); expected one of: arc"):
        read_direct_and_tuned(write(tmp_path), without=["x"])


def test_the_command(tmp_path, capsys):
    path, out = write(tmp_path), tmp_path / "out"
    assert main(["compare", str(path), "--lower-is-better", "bpb", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "mean τ-b over 2 benchmarks: 0.3333" in text
    assert "arc             4  0.3333      6     2  33.3%" in text
    document = json.loads((out / "agreement.json").read_text(encoding="utf-8"))
    assert document["benchmarks"][0]["swaps_beyond_noise"] == 1
    assert document["swaps"][1]["errors"] is None
    names = {path.name for path in out.iterdir()}
    csv_files = {"benchmarks.csv", "between.csv", "swaps.csv"}
    assert names == {"agreement.json", "agreement.png", "agreement.svg", *csv_files}
    assert main(["compare", str(tmp_path / "none.csv")]) == 2
    assert capsys.readouterr().err.startswith("tbtjax compare: error: ")
