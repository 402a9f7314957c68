"""Streams of games: right answers in every format, errors in their places, order kept."""

import csv
import io
import json
import os
import random
import sys
import threading

import jax
import jsonschema
import numpy as np
import oracles
import pytest
from random_games import random_games

from tbtjax import cli, stream
from tbtjax.stream import answers as answers_module
from tbtjax.stream.answers import Solver
from tbtjax.stream.schemas import SCHEMAS, schema

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402


def records_of(games, first=0):
    """Games of `random_games` as records, all with the same layout."""
    count = len(games["alpha"])
    rows = {name: np.broadcast_to(x, games["alpha"].shape) for name, x in games.items()}
    shared = np.ndim(games["lower"]) == 0
    records = []
    for i in range(count):
        record = {"id": first + i, "alpha": rows["alpha"][i].tolist()}
        record["beta"] = rows["beta"][i].tolist()
        for name in ("lower", "upper"):
            record[name] = float(games[name]) if shared else rows[name][i].tolist()
        record["rewards"] = rows["rewards"][i].tolist()
        record["cost"] = {"kind": "linear", "rate": rows["cost_rate"][i].tolist()}
        records.append(record)
    return records


def lines_of(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def ask(question, data, source="jsonl", sink="jsonl", **options):
    """The answers to a stream's bytes as bytes, and the totals."""
    out = io.BytesIO()
    totals = stream.run(Solver(question, **options), io.BytesIO(data), source, out, sink)
    return out.getvalue(), totals


def answers_to(question, data, **options):
    out, totals = ask(question, data, **options)
    return [json.loads(line) for line in out.splitlines()], totals


# Nine models are filled up to ten: one program serves these games, and those of ten.
KINDS = ("equal_limits", "fast_weak", "saturated", "ties", "zero_gaps", "falling")


@pytest.fixture(scope="module")
def games():
    """Records with 9 and with 10 models in turn, and their answers."""
    nine = [r for kind in KINDS for r in records_of(random_games(1, 60, 9, kind))]
    ten = [r for kind in KINDS for r in records_of(random_games(2, 60, 10, kind))]
    records = [r for pair in zip(nine, ten, strict=True) for r in pair]
    for i, record in enumerate(records):
        record["id"] = i
    answers, totals = answers_to("threshold", lines_of(records))
    assert totals == (len(records), 0, 0, "", "")
    return records, answers


def test_pairs_that_nearly_tie_are_told_apart():
    """By the quick way alone: at ρ = 1 the larger gap decides, Δ* = (g − e⁰)/e⁰."""
    record = {"alpha": [2, 1, 0], "beta": 1, "cost": {"kind": "linear", "rate": 1}}
    gaps = [(10, 10 + 1e-8), (10 + 1e-9, 10), (50, 50 + 1e-7)]
    rewards = [[first + second, second, 0] for first, second in gaps]
    data = lines_of([record | {"rewards": row} for row in rewards])
    compiled = set(answers_module._PROGRAMS)
    answers, totals = answers_to("threshold", data)
    assert totals.answered == 3
    assert [(x["pair"], x["rival"]) for x in answers] == [(2, 1), (1, 0), (2, 1)]
    assert {x["status"] for x in answers} == {"FOUND"}
    expected = [max(pair) / np.expm1(1) - 1 for pair in gaps]
    np.testing.assert_allclose([x["delta"] for x in answers], expected, rtol=1e-13)
    new = set(answers_module._PROGRAMS) - compiled
    assert {key[0] for key in new} == {stream.QUESTIONS["threshold"].quick}


def test_thresholds_are_those_of_the_reference(games):
    records, answers = games
    assert [answer["id"] for answer in answers] == list(range(len(records)))
    for models in (9, 10):
        which = [i for i, record in enumerate(records) if len(record["alpha"]) == models]
        batch = {
            name: np.array([records[i][name] for i in which])
            for name in ("alpha", "beta", "rewards")
        }
        batch["cost_rate"] = np.array([records[i]["cost"]["rate"] for i in which])
        batch |= {"lower": np.array(0.0), "upper": np.array(1.0)}
        fields = {"delta": float, "upper": float, "settled": float, "pair": int, "rival": int}
        answer = {
            name: np.array([answers[i][name] for i in which], t) for name, t in fields.items()
        }
        answer |= {"status": np.array([answers[i]["status"] for i in which])}
        answer["weak"] = answer.pop("pair")
        assert oracles.disagreements(batch, answer) == []


def table_of(records):
    """The records as a table, with integers, a fixed list and a dictionary among the columns."""
    columns = {
        "id": pa.array([record["id"] for record in records], pa.int16()),
        "alpha": pa.array([record["alpha"] for record in records]),
        "beta": pa.array([record["beta"] for record in records], pa.large_list(pa.float64())),
        "lower": pa.array([0] * len(records)),
        "rewards": pa.array([record["rewards"] for record in records]),
        "cost": pa.StructArray.from_arrays(
            [
                pa.array(["linear"] * len(records)).dictionary_encode(),
                pa.array([record["cost"]["rate"] for record in records]),
            ],
            ["kind", "rate"],
        ),
    }
    return pa.table(columns)


def test_parquet_has_the_same_answers(games, tmp_path):
    records, answers = games
    for rows, path in ((37, tmp_path / "small.parquet"), (1 << 20, tmp_path / "large.parquet")):
        parquet.write_table(table_of(records), path, row_group_size=rows)
        out, totals = ask("threshold", path.read_bytes(), source="parquet", sink="parquet")
        assert totals.answered == len(records)
        found = parquet.read_table(io.BytesIO(out)).to_pylist()
        for row, answer in zip(found, answers, strict=True):
            assert row.pop("line") is None and row.pop("error") is None
            infinite = {k: "inf" for k, v in row.items() if v == float("inf")}
            assert same(row | infinite, answer)


def test_csv_has_the_same_answers(games):
    records, answers = games
    out = io.StringIO()
    header = ["id", "alpha", "beta", "upper", "rewards", "cost.kind", "cost.rate"]
    writer = csv.writer(out)
    writer.writerow(header)
    for r in records:
        row = [
            r["id"],
            *(json.dumps(r[k]) for k in ("alpha", "beta")),
            "",
            json.dumps(r["rewards"]),
        ]
        writer.writerow([*row, r["cost"]["kind"], json.dumps(r["cost"]["rate"])])
    data = b"\xef\xbb\xbf" + out.getvalue().encode()
    lines, totals = answers_to("threshold", data, source="csv")
    assert totals.answered == len(records)
    assert all(map(same, lines, answers))
    text, _ = ask("threshold", data, source="csv", sink="csv")
    for row, answer in zip(csv.DictReader(io.StringIO(text.decode())), answers, strict=True):
        assert row["line"] == row["error"] == ""
        read = {k: type(v)(row[k]) for k, v in answer.items()}
        assert same(read, answer)


def same(found, answer):
    """Equal but for the last digits, in which a game's place in a block may show."""
    numbers = {k: pytest.approx(v, rel=1e-12) for k, v in answer.items() if type(v) is float}
    return found == answer | numbers


def small(models=9, **changes):
    record = {
        "alpha": [1.0 - 0.5 * i for i in range(models)],
        "beta": 1.0,
        "rewards": [1.0] + [0.0] * (models - 1),
        "cost": {"kind": "linear", "rate": 0.1},
    }
    return {k: v for k, v in (record | changes).items() if v is not ...}


#: What a change makes of a good record, and the words of its error.
BAD = {
    "no object": (lambda: [1, 2], "expected an object that describes a game; got an array of 2"),
    "typo": (lambda: small(uper=1), "unknown key 'uper'"),
    "no rewards": (lambda: small(rewards=...), "rewards is missing"),
    "null": (lambda: small(beta=None), "beta is null"),
    "scalar": (
        lambda: small(alpha=3),
        "alpha must be an array with an entry for each model; got 3",
    ),
    "empty": (lambda: small(alpha=[]), "got an empty array"),
    "length": (lambda: small(beta=[1, 1]), "beta must have 9 entries, one for each model; got 2"),
    "text": (lambda: small(rewards=["1"] + [0] * 8), "rewards[0] must be a number; got '1'"),
    "bool": (lambda: small(beta=True), "beta must be a number; got true"),
    "nested": (lambda: small(rewards=[[1]] * 9), "rewards[0][0]|rewards[0] must be a number"),
    "infinite": (
        lambda: small(alpha=["inf"] + [0] * 8),
        "alpha must be finite; got inf for model 0",
    ),
    "rising": (lambda: small(rewards=[0] * 8 + [1]), "rewards must be non-increasing; got 1.0 at"),
    "large": (lambda: small(beta=10**400), "beta is an integer too large|not JSON"),
    "models": (lambda: small(models=1025), "expected 1024 models or fewer; got 1025"),
    "cost": (lambda: small(cost=3), "cost must be an object such as"),
    "kind": (lambda: small(cost={"kind": "cubic"}), "cost.kind must be one of linear, power"),
    "rate": (lambda: small(cost={"kind": "linear"}), "cost.rate is missing in a linear cost"),
    "more": (
        lambda: small(cost={"kind": "linear", "rate": 1, "fee": 2}),
        "unknown key 'fee' in a linear cost; expected rate",
    ),
    "negative": (
        lambda: small(cost={"kind": "linear", "rate": -1}),
        "cost.rate must be finite and not negative; got -1.0 for model 0",
    ),
    "pieces": (
        lambda: small(cost={"kind": "piecewise-linear", "breakpoints": [1], "slopes": [1]}),
        "cost.slopes must have one entry more than cost.breakpoints; got 1 and 1",
    ),
    "both": (lambda: small(scores=[[0.5]], efforts=[0]), "alpha belongs to power-law curves"),
    "points": (
        lambda: small(alpha=..., beta=..., scores=[[0.5, 0.6]] * 9, efforts=[0]),
        "scores must have as many entries as efforts; got 2 and 1",
    ),
}


def test_bad_records_have_their_errors_in_their_places():
    records = [bad for make, _ in BAD.values() for bad in (make(), small())]
    answers, totals = answers_to("threshold", lines_of(records))
    assert (totals.answered, totals.bad, totals.first_line) == (len(BAD), len(BAD), 1)
    good = answers[1]
    for i, (name, (_, words)) in enumerate(BAD.items()):
        wrong, right = answers[2 * i : 2 * i + 2]
        assert same(right, good), name
        assert wrong["line"] == 2 * i + 1 and wrong.keys() == {"line", "error"}, name
        assert any(word in wrong["error"] for word in words.split("|")), (name, wrong)


def test_schemas_say_what_is_read_and_written(games):
    for name in SCHEMAS:
        jsonschema.Draft202012Validator.check_schema(schema(name))
    game = jsonschema.Draft202012Validator(schema("game"))
    records, answers = games
    for record in records[:50]:
        game.validate(record)
    output = jsonschema.Draft202012Validator(schema("threshold"))
    for answer in answers:
        output.validate(answer)
    # What no schema can say: lengths and what holds between numbers.
    beyond = {"length", "large", "rising", "pieces", "points"}
    for name, (make, _) in BAD.items():
        assert game.is_valid(make()) == (name in beyond), name


OTHER_COSTS = {
    # All are 0.1 a step, written in another way.
    "linear": {"rate": 0.1},
    "power": {"scale": 0.1, "exponent": 1},
    "quadratic": {"linear": [0.1, 0.1, 0.1], "quadratic": 0},
    "piecewise-linear": {"breakpoints": [[5], [5], []], "slopes": [[0.1, 0.1], [0.1, 0.1], [0.1]]},
}


def test_every_cost_and_curve(monkeypatch):
    """Verdicts on both sides of a level that all these costs share."""
    game = oracles.make_game([1.0, 0.5, 0.0], 1.0, [1.0, 0.5, 0.0], 0.1)
    records, expected = [], []
    limits = {"lower": [0.0, 0.0, 0.0], "upper": [1.0, 1.0, 1.0]}
    for delta in (0.0, 4.0, 8.0, 12.0):
        for kind, keys in OTHER_COSTS.items():
            cost = {"kind": kind, **keys}
            record = small(3, delta=delta, cost=cost, rewards=[1.0, 0.5, 0.0])
            records += [record, record | limits] if kind == "linear" else [record]
            more = 2 if kind == "linear" else 1
            expected += [oracles.is_zero_effort_pne(game, delta)] * more
    assert len(set(expected)) == 2
    tabulated = {"efforts": [0, 10, 20], "scores": [[0.5, 0.6, 0.7], [0.4, 0.55]]}
    tabulated = small(2, alpha=..., beta=..., **tabulated)
    # 10 steps of 0.1 are worth the reward: enough to pass at Δ = 0 (.55 > .5), not at 10.
    records += [tabulated | {"efforts": [[0, 10, 20], [0, 10]], "delta": d} for d in (0, 10)]
    expected += [False, True]
    answers, totals = answers_to("verdict", lines_of(records))
    assert totals.bad == 0, totals
    assert [answer["zero_effort_pne"] for answer in answers] == expected
    output = jsonschema.Draft202012Validator(schema("verdict"))
    game_schema = jsonschema.Draft202012Validator(schema("game"))
    for record, answer in zip(records, answers, strict=True):
        game_schema.validate(record)
        output.validate(answer)


def test_efforts_and_rules_of_thumb():
    records = [small(3), small(2, delta=5), small(1), small(3, delta=-1), small(3, delta="inf")]
    answers, totals = answers_to("effort", lines_of(records), delta=0.0)
    gap = np.expm1(0.5)
    assert answers[0] == {"delta": 0.0, "effort": pytest.approx([gap, gap], rel=1e-12)}
    assert answers[1]["effort"] == pytest.approx([6 * gap], rel=1e-12)
    assert answers[2]["effort"] == []
    for wrong in answers[3:]:
        assert "delta must be finite and not negative" in wrong["error"]
    assert (totals.answered, totals.bad, totals.first_line) == (3, 2, 4)
    missing, _ = answers_to("effort", lines_of([small(2)]))
    assert missing == [{"line": 1, "error": "delta is missing, and there is no --delta"}]
    rules, _ = answers_to(
        "rule-of-thumb",
        lines_of([small(2), small(2, alpha=..., beta=..., scores=[[1], [0]], efforts=[0])]),
    )
    kappa = 10 / gap
    assert rules[0]["kappa"] == rules[0]["delta"] == pytest.approx([kappa], rel=1e-12)
    assert "needs power-law curves" in rules[1]["error"]
    for name, found in (("effort", answers), ("rule-of-thumb", rules)):
        for answer in found:
            jsonschema.Draft202012Validator(schema(name)).validate(answer)


def damaged(random, line):
    """A line with one kind of damage."""
    kind = random.randrange(10)
    place = random.randrange(len(line))
    if kind == 0:
        return line[:place]
    if kind == 1:
        return (
            line[:place] + bytes([random.randrange(256)]).replace(b"\n", b"x") + line[place + 1 :]
        )
    if kind == 2:
        return line[:place] + line[place + random.randrange(1, 40) :]
    if kind == 3:
        return line[:place] + line[place : place + 40] * 2 + line[place + 40 :]
    if kind == 4:
        return bytes(random.randrange(256) for _ in range(60)).replace(b"\n", b"")
    record = json.loads(line)
    key = random.choice([k for k in record if k != "cost"])
    value = random.choice(
        (None, True, "NaN", "inf", [], {}, [[]], 10**30, -1e308, "1", [None] * 9, {"kind": 1})
    )
    if kind == 5:
        del record[key]
    elif kind == 6:
        record[key] = value
    elif kind == 7 and type(record[key]) is list:
        record[key][random.randrange(len(record[key]))] = value
    elif kind == 8:
        record["cost"][random.choice(("kind", "rate", "fee"))] = value
    else:
        number = random.choice(("NaN", "-Infinity", "1e999", "01"))
        text = json.dumps(record).replace("0.", number, 1)
        other = random.choice(("beta", "alpha", "id", "\\u0000", "\\ud800"))
        return text.replace("beta", other).encode()
    return json.dumps(record).encode()


def check_fuzzed(games, count, seed):
    """Every good record has its answer in its place, every damaged line at most one record."""
    records, answers = games
    rng = random.Random(seed)
    lines, wanted, is_damaged = [], [], []
    for i in range(count):
        which = rng.randrange(len(records))
        lines.append(json.dumps(records[which]).encode())
        wanted.append(answers[which])
        is_damaged.append(i % 2 == 1)
        if is_damaged[-1]:
            # Shared limits stay shared: one program serves all.
            lines[-1] = damaged(rng, lines[-1])
    out, totals = ask("threshold", b"\n".join(lines))
    found = iter(out.splitlines())
    output = jsonschema.Draft202012Validator(schema("threshold"))
    bad = 0
    for number, (line, answer, broken) in enumerate(zip(lines, wanted, is_damaged, strict=True), 1):
        if not line.strip():
            continue
        got = json.loads(next(found))
        if not broken:
            assert same(got, answer)
            continue
        if number % 50 == 0:
            output.validate(got)
        if "error" in got:
            bad += 1
            assert got["line"] == number and got["error"]
    assert next(found, None) is None
    assert (totals.bad, totals.failure) == (bad, "")
    assert totals.answered + totals.bad == sum(bool(line.strip()) for line in lines)
    return bad


def test_damaged_records_harm_nobody_else(games):
    assert check_fuzzed(games, 600, seed=0) > 200


@pytest.mark.slow
def test_many_damaged_records_harm_nobody_else(games):
    assert check_fuzzed(games, 20_000, seed=1) > 7_000


def test_damaged_csv_harms_nobody_else(games):
    records, answers = games
    rng = random.Random(2)
    lines, wanted = ["id,alpha,beta,rewards,cost"], []
    for i in range(200):
        which = rng.randrange(len(records))
        out = io.StringIO()
        record = records[which]
        csv.writer(out).writerow(
            [record["id"], *(json.dumps(record[k]) for k in lines[0].split(",")[1:])]
        )
        line = out.getvalue().strip()
        if i % 2:
            place = rng.randrange(len(line))
            line = (
                line[:place] + rng.choice(('"', ",", "", "[", "\x00", "\u2028")) + line[place + 1 :]
            )
        lines.append(line)
        wanted.append(None if i % 2 else answers[which])
    found, totals = answers_to("threshold", "\n".join(lines).encode(), source="csv")
    assert len(found) == 200 == totals.answered + totals.bad
    for i, (got, answer) in enumerate(zip(found, wanted, strict=True)):
        assert got.get("line", i + 2) == i + 2
        assert answer is None or same(got, answer)


def test_damaged_rows_harm_nobody_else(games):
    """Nulls, lengths and values that are wrong in single rows of a table."""
    records, answers = games
    rows = [{**json.loads(json.dumps(record)), "cost.kind": "linear"} for record in records[:60]]
    for row in rows:
        row["cost.rate"] = row.pop("cost")["rate"]
        del row["lower"], row["upper"]
    changes = [
        ("alpha", None), ("alpha", []), ("beta", [1.0]), ("rewards", [None] * 9),
        ("cost.kind", None), ("cost.kind", "cubic"), ("cost.rate", None), ("cost.rate", [-1.0] * 9),
        ("rewards", [float("nan")] * 9),
    ]  # fmt: skip
    for i, (name, value) in enumerate(changes):
        rows[6 * i][name] = value
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    found, totals = answers_to("threshold", sink.getvalue(), source="parquet")
    assert totals.bad == len(changes)
    for i, (got, answer) in enumerate(zip(found, answers[:60], strict=True)):
        if i % 6 == 0 and i // 6 < len(changes):
            assert got["line"] == i + 1 and got["id"] == i and "error" in got
        else:
            assert same(got, answer)


@pytest.fixture
def run(capfdbinary, monkeypatch):
    """Runs the command line: exit code, stdout, stderr."""

    def run(*words, data=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code = cli.main([*map(str, words)])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run


def test_exit_codes_and_totals(run, tmp_path, games):
    good, bad = lines_of(games[0][:2]), b"{\n"
    code, out, err = run("threshold", data=good)
    assert (code, err) == (0, "tbtjax threshold: 2 answered, 0 bad\n")
    assert all(map(same, map(json.loads, out.splitlines()), games[1]))
    code, out, err = run("threshold", data=bad + good)
    assert (code, out.count("\n")) == (1, 3)
    assert err.startswith("tbtjax threshold: 2 answered, 1 bad; first at line 1: not JSON")
    assert run("threshold", data=bad)[0] == 2
    assert run("threshold", data=b"")[::2] == (2, "tbtjax threshold: 0 answered, 0 bad\n")
    for words in (
        (tmp_path / "none.jsonl",),
        (tmp_path,),
        (tmp_path / "odd.txt",),
        ("--from", "parquet"),
        ("--from", "csv"),
    ):
        code, out, err = run("threshold", *words, data=b"")
        assert code == 2 and err.count("\n") == 1 and err.startswith("tbtjax threshold: error: ")
    code, _, err = run("threshold", "--from", "csv", data=b"alpha,betta\n")
    assert code == 2 and "column 'betta' is unknown" in err
    path = tmp_path / "games.jsonl"
    path.write_bytes(good)
    assert run("threshold", path, "--out", path)[0] == 2 and path.read_bytes() == good
    assert run("threshold", path, "--out", tmp_path / "answers.csv")[0] == 0
    assert (tmp_path / "answers.csv").read_text().startswith("id,delta,upper,settled,pair,rival")
    code, out, _ = run("schema", "verdict")
    assert code == 0 and json.loads(out) == schema("verdict")


def test_who_waits_for_an_answer_gets_it(games):
    """A game, its answer, the next game: on pipes that stay open."""
    records, answers = games
    their_end, our_end = os.pipe()
    answers_end, sink_end = os.pipe()
    with (
        open(their_end, "rb", buffering=0) as source,
        open(our_end, "wb", buffering=0) as games_out,
        open(answers_end, "rb") as answers_in,
        open(sink_end, "wb") as sink,
    ):
        arguments = (Solver("threshold"), source, "jsonl", sink, "jsonl")
        thread = threading.Thread(target=stream.run, args=arguments)
        thread.start()
        for record, answer in zip(records[:3], answers, strict=False):
            games_out.write(lines_of([record]))
            assert same(json.loads(answers_in.readline()), answer)
        games_out.close()
        thread.join()


def test_same_lines_are_good_without_orjson(games, monkeypatch):
    monkeypatch.setattr("tbtjax.stream.json_lines.orjson", None)
    records, answers = games
    found, _ = answers_to("threshold", lines_of(records))
    assert all(map(same, found, answers))
    assert check_fuzzed(games, 100, seed=3) > 30


def test_lines_too_long_are_passed_over(monkeypatch, games):
    monkeypatch.setattr("tbtjax.stream.windows.LONGEST_LINE", 3000)
    monkeypatch.setattr("tbtjax.stream.windows.READ", 1000)
    records, answers = games
    good = lines_of(records[:1])
    found, _ = answers_to("threshold", good + b"[" * 9000 + b"\n" + good + b"1" * 9000)
    assert [got.get("line") for got in found] == [None, 2, None, 4]
    assert same(found[0], answers[0]) and same(found[2], answers[0])


def test_leaves_the_64_bit_mode_alone():
    before = jax.config.jax_enable_x64
    answers_to("effort", lines_of([small(3)]), delta=1.0)
    assert jax.config.jax_enable_x64 == before
