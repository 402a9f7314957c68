"""Stores: interrupted, killed, damaged, on one device or many, they end in the same bits."""

import csv
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import tbtjax.study.store as store_module
from tbtjax.cli import main
from tbtjax.study import Finished, StoreError, parse_config, sweep
from tbtjax.study.export import export, open_results

CONFIG = """
draws = 40
quantities = ["threshold", "overtake"]
deviations = "adjacent"
[games]
count = 2
capability = { kind = "normal", mean = 0, deviation = 1 }
learning_rate = { kind = "uniform", low = 0.5, high = 1.0 }
[games.rewards]
scheme = "winner-take-all"
[games.cost]
rate = 1.0
[[axes]]
parameter = "seed"
values = [SEEDS]
[[axes]]
parameter = "rewards.prize"
log = [1, 1e3]
points = 5
"""
ROOT = Path(__file__).parents[1]


def config_text(seeds):
    return CONFIG.replace("SEEDS", ", ".join(map(str, range(seeds))))


def parsed(seeds=6):
    import tomllib

    return parse_config(tomllib.loads(config_text(seeds)))


def fingerprint(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted store and its files."""
    path = tmp_path_factory.mktemp("whole") / "store"
    assert sweep(parsed(), path) == Finished(path, 6, 6, 0, {})
    return path, fingerprint(path)


def is_like(path, whole) -> bool:
    beside = {p.name for p in path.parent.iterdir()} - {path.name, "config.toml"}
    return fingerprint(path) == whole[1] and not beside


def test_opens_in_xarray(whole):
    data = xr.open_zarr(whole[0])
    assert data.delta_quantile.dims == ("seed", "prize", "quantile")
    assert data.overtake_quantile.dims == ("seed", "delta", "rank", "quantile")
    assert np.isfinite(data.delta_mean.values).all()
    assert data.delta_mean.encoding["chunks"] == (1, 5)
    assert data.attrs["Conventions"].startswith("CF")


def test_exists_already(whole, tmp_path):
    with pytest.raises(StoreError, match="exists already; --resume continues it"):
        sweep(parsed(), whole[0])
    assert sweep(parsed(), whole[0], resume=True).computed == 0
    assert is_like(whole[0], whole)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="not a store"):
        sweep(parsed(), tmp_path / "mine", resume=True)


def test_resume_starts_what_is_not_there(whole, tmp_path):
    assert sweep(parsed(), tmp_path / "a" / "store", resume=True).computed == 6
    assert is_like(tmp_path / "a" / "store", whole)
    # Barely created: an empty folder, and what a killed creation leaves beside it.
    empty = tmp_path / "b" / "store"
    empty.mkdir(parents=True)
    (tmp_path / "b" / "store.new" / "delta_mean").mkdir(parents=True)
    (tmp_path / "b" / "store.lock").write_text("process 1 on elsewhere\n")
    assert sweep(parsed(), empty, resume=True).computed == 6
    assert is_like(empty, whole)


def test_another_configuration_is_refused(whole):
    with pytest.raises(StoreError, match=r"another configuration \(axes differ\)"):
        sweep(parsed(7), whole[0], resume=True)
    other = parsed().model_copy(update={"draws": 41})
    with pytest.raises(StoreError, match=r"another configuration \(draws differ\)"):
        sweep(other, whole[0], resume=True)


def test_another_version_is_refused(whole, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(whole[0], path)
    text = (path / "zarr.json").read_text().replace('"tbtjax_version"', '"was_version"')
    (path / "zarr.json").write_text(text)
    with pytest.raises(StoreError, match="begun with tbtjax version unknown"):
        sweep(parsed(), path, resume=True)
    (path / "zarr.json").write_text(text[:100])
    with pytest.raises(StoreError, match=r"zarr.json is damaged"):
        sweep(parsed(), path, resume=True)


@pytest.mark.parametrize("seed", range(3))
def test_any_damaged_file_is_made_again(whole, tmp_path, seed):
    rng = random.Random(seed)
    path = tmp_path / "store"
    shutil.copytree(whole[0], path)
    files = [f for f in sorted(path.rglob("*")) if f.is_file() and f != path / "zarr.json"]
    for file in rng.sample(files, 6):
        content = file.read_bytes()
        how = rng.randrange(3)
        if how == 0:
            file.write_bytes(content[: len(content) // 2])
        elif how == 1:
            file.unlink()
        else:
            place = rng.randrange(len(content))
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    (path / "delta_mean" / "c.0123.partial").write_bytes(b"half")
    finished = sweep(parsed(), path, resume=True)
    assert finished.failed == {}
    assert is_like(path, whole)


def test_a_truncated_chunk_is_reported(whole, tmp_path, capsys):
    path = tmp_path / "store"
    shutil.copytree(whole[0], path)
    chunk = path / "delta_mean" / "c" / "3" / "0"
    chunk.write_bytes(chunk.read_bytes()[:5])
    (tmp_path / "config.toml").write_text(config_text(6), encoding="utf-8")
    assert main(["sweep", str(tmp_path / "config.toml"), "--out", str(path), "--resume"]) == 0
    assert "1 damaged chunks computed again" in capsys.readouterr().err
    assert is_like(path, whole)


@pytest.mark.parametrize("writes", [1, 2, 5, 17])
def test_interrupted_between_any_two_writes(whole, tmp_path, monkeypatch, writes):
    path = tmp_path / "store"
    count = 0
    flush = store_module._flush

    def interrupted(file):
        nonlocal count
        count += "store.new" not in str(file)
        if count > writes:
            raise KeyboardInterrupt
        flush(file)

    monkeypatch.setattr(store_module, "_flush", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(parsed(), path)
    monkeypatch.undo()
    assert fingerprint(path) != whole[1]
    assert sweep(parsed(), path, resume=True).computed > 0
    assert is_like(path, whole)


def test_full_disk(whole, tmp_path, monkeypatch, capsys):
    (tmp_path / "config.toml").write_text(config_text(6), encoding="utf-8")
    path = tmp_path / "store"
    count = 0
    flush = store_module._flush

    def full(file):
        nonlocal count
        count += "store.new" not in str(file)
        if count > 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(file)

    monkeypatch.setattr(store_module, "_flush", full)
    assert main(["sweep", str(tmp_path / "config.toml"), "--out", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "No space left on device; free some space, then --resume continues" in error
    monkeypatch.undo()
    assert 0 < sweep(parsed(), path, resume=True).computed < 6
    assert is_like(path, whole)


def test_one_process_at_a_time(whole, tmp_path):
    path = tmp_path / "store"
    code = (
        "import sys, pathlib\n"
        "from tbtjax.study.store import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n"
        "    print('locked', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        message = f"in use by process {other.pid} on {socket.gethostname()}"
        with pytest.raises(StoreError, match=message):
            sweep(parsed(), path, resume=True)
        assert not path.exists()
    finally:
        other.kill()
        other.communicate()
    # The lock of the dead does not block.
    assert (tmp_path / "store.lock").exists()
    assert sweep(parsed(), path, resume=True).computed == 6
    assert is_like(path, whole)


def test_a_failing_chunk_is_reported(whole, tmp_path, monkeypatch, capsys):
    import tbtjax.study.runner as module

    path = tmp_path / "store"
    (tmp_path / "config.toml").write_text(config_text(6), encoding="utf-8")
    compute = module.compute_chunk

    def poisoned(config, grid, index):
        if index == 2:
            raise RuntimeError("no memory for this one")
        return compute(config, grid, index)

    monkeypatch.setattr(module, "compute_chunk", poisoned)
    command = ["sweep", str(tmp_path / "config.toml"), "--out", str(path)]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "1 of 6 chunks failed" in error
    assert "Chunk 2: RuntimeError: no memory for this one" in error
    with pytest.raises(StoreError, match="1 chunks are not finished"):
        open_results(path)
    monkeypatch.undo()
    assert main([*command, "--resume"]) == 0
    assert is_like(path, whole)


def test_export(whole, tmp_path):
    data, _ = open_results(whole[0])
    export(whole[0], tmp_path / "a.nc")
    copy = xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf")
    xr.testing.assert_equal(copy, data.drop_vars("chunk_checksum").load())
    assert copy.delta_mean.attrs == data.delta_mean.attrs
    export(whole[0], tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    row = {name: float(value) for name, value in rows[7].items()}
    cell = data.sel(seed=row["seed"], prize=row["prize"])
    assert row["delta_quantile[0.5]"] == cell.delta_quantile.sel(quantile=0.5)
    assert row["status_count[0]"] == cell.status_count.sel(status=0)
    assert row["overtake_never_share[0,2]"] == cell.overtake_never_share.values
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.nc"]
    copy.close()


def command(folder, *arguments, devices=1, **options):
    """`tbtjax sweep` in a process of its own."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    code = "import sys; from tbtjax.cli import main; sys.exit(main())"
    words = ["sweep", folder / "config.toml", "--devices", devices, *arguments]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        env={**os.environ, **cache},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process) -> str:
    error = process.communicate(timeout=600)[1]
    assert process.returncode == 0, error
    return error


@pytest.mark.slow
def test_eight_devices_one_device(whole, tmp_path):
    (tmp_path / "config.toml").write_text(config_text(6), encoding="utf-8")
    for devices in (1, 8):
        out = tmp_path / str(devices) / "store"
        assert finish(command(tmp_path, "--out", out, devices=devices)) == ""
        assert is_like(out, whole)


def wait_for_lock(lock: Path, process) -> None:
    """Until the process has the lock, or has ended."""
    mine = f"process {process.pid} "
    while process.poll() is None and not (lock.exists() and lock.read_text().startswith(mine)):
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """SIGKILL from the first file on: while the store is made, while it compiles, at any write."""
    kills, seeds = 20, 60
    (tmp_path / "config.toml").write_text(config_text(seeds), encoding="utf-8")
    finish(command(tmp_path, "--out", tmp_path / "warm"))  # what is compiled is kept
    process = command(tmp_path, "--out", tmp_path / "whole")
    wait_for_lock(tmp_path / "whole.lock", process)
    begin = time.monotonic()
    finish(process)
    duration = time.monotonic() - begin
    expected = fingerprint(tmp_path / "whole")
    assert fingerprint(tmp_path / "warm") == expected
    rng = random.Random(4)
    out = tmp_path / "killed" / "store"
    progress = []
    for _ in range(kills):
        process = command(tmp_path, "--out", out, "--resume")
        wait_for_lock(out.with_name("store.lock"), process)
        time.sleep(duration * rng.choice([0.05, 0.3, 1.0]) * rng.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        progress.append(len(list((out / "chunk_checksum" / "c").glob("*"))))
        if progress[-1] == seeds:
            shutil.rmtree(out)
    print("chunks done at the kills:", progress)
    finish(command(tmp_path, "--out", out, "--resume"))
    assert fingerprint(out) == expected
    assert [p.name for p in out.parent.iterdir()] == ["store"]


def poisoned_task(document, index):
    """A task that takes its worker with it, once for chunk 1 and always for chunk 3."""
    from tbtjax.study.cluster import compute_remotely

    mark = Path(os.environ["TBTJAX_TEST_MARK"])
    if index == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if index == 3 and "lasting" in mark.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return compute_remotely(document, index)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lasting", [False, True])
def test_cluster_with_a_worker_killed(whole, tmp_path, monkeypatch, lasting):
    import tbtjax.study.runner as module
    from tbtjax.study.cluster import compute_on

    mark = tmp_path / ("lasting" if lasting else "once")
    monkeypatch.setenv("TBTJAX_TEST_MARK", str(mark))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    monkeypatch.setattr(
        module, "compute_on", lambda address, config: compute_on(address, config, poisoned_task)
    )
    path = tmp_path / "cluster" / "store"
    finished = sweep(parsed(), path, cluster="local:2")
    assert mark.exists()
    assert set(finished.failed) == ({3} if lasting else set())
    if lasting:
        assert "KilledWorker" in finished.failed[3]
        assert sweep(parsed(), path, resume=True).computed == 1
    assert is_like(path, whole)


def test_no_cluster(tmp_path, capsys):
    (tmp_path / "config.toml").write_text(config_text(6), encoding="utf-8")
    words = ["sweep", str(tmp_path / "config.toml"), "--out", str(tmp_path / "store")]
    assert main([*words, "--cluster", "somewhere"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--cluster somewhere" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.toml"]


def test_attributes_name_everything(whole):
    attributes = json.loads((whole[0] / "zarr.json").read_text())["attributes"]
    for key in ("configuration", "tbtjax_version", "commit", "jax_version", "device", "title"):
        assert key in attributes
