"""The store of a sweep: a Zarr group that `xarray.open_zarr` opens, safe against being killed.

A chunk of cells is a chunk of every variable, so that writing one touches no other. Files are
written under another name and renamed; when all of a chunk's are on the disk, a checksum of them is
written into the variable `chunk_checksum`: that is its completion mark. Resuming recomputes every
chunk whose files do not have the checksum of their mark. The store is made under another name as
well, so that it is there with all its metadata or not at all.
"""

import contextlib
import errno
import fcntl
import filecmp
import hashlib
import json
import os
import pathlib
import shutil
import socket
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr

from tbtjax.study.grid import Chunk
from tbtjax.study.results import Schema

#: The variable of completion marks: 0, or the checksum of a chunk's files.
CHECKSUM = "chunk_checksum"
#: Where these differ, a resumed run would not end in the same bits.
_DECISIVE = ("tbtjax_version", "commit", "jax_version", "jaxlib_version", "device")


class StoreError(Exception):
    """A store that cannot be used or written; the message is one line for a user."""


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Keeps other processes off a store; a lock dies with its process.

    Raises:
      StoreError: another process has the lock, or the place cannot be written.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquired(lock)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from None
    if handle is None:
        with contextlib.suppress(OSError):
            who = lock.read_text(encoding="utf-8").strip()
            raise StoreError(f"{path}: in use by {who or 'another process'}")
        raise StoreError(f"{path}: in use by another process")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(handle)


def _acquired(lock: pathlib.Path) -> int | None:
    """An open, locked file; None where another process has it."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        # Its last holder may have removed the file between the two calls.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(lock)):
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return handle
        os.close(handle)


class Store:
    """An open store; see the module's text. Use `open_store`."""

    def __init__(self, path: pathlib.Path, schema: Schema):
        """Of a path at which the store is."""
        self.path = path
        self.schema = schema
        self._arrays: dict[str, Any] = {
            name: zarr.open_array(path / name, mode="r+")
            for name in (*(v.name for v in schema.variables), CHECKSUM)
        }

    def pending(self) -> tuple[list[int], int]:
        """Chunks to be computed, and how many of them were computed before but are damaged."""
        marks = self._marks()
        damaged = 0
        pending = []
        for index in range(self.schema.grid.chunks):
            if marks[index]:
                if self._checksum(index) == marks[index]:
                    continue
                damaged += 1
            pending.append(index)
        return pending, damaged

    def write(self, chunk: Chunk, values: dict[str, tuple[tuple[slice, ...], np.ndarray]]) -> None:
        """Writes a chunk: its data, then its mark.

        Raises:
          StoreError: the disk is full, or cannot be written.
        """
        try:
            with zarr.config.set({"array.write_empty_chunks": True}):
                for name, (region, x) in values.items():
                    self._arrays[name][region] = x
                files = self._files(chunk.index)
                for file in files:
                    _flush(file)
                for folder in {file.parent for file in files}:
                    _flush(folder)
                self._arrays[CHECKSUM][chunk.index] = self._checksum(chunk.index)
                _flush(self._mark_file(chunk.index))
        except OSError as error:
            reason = error.strerror or str(error)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = "; free some space, then --resume continues" if full else ""
            raise StoreError(f"{self.path}: {reason}{remedy}") from None

    def _marks(self) -> np.ndarray:
        """`[chunks]` marks; a damaged one counts as none."""
        marks = np.zeros(self.schema.grid.chunks, np.uint64)
        for index in range(len(marks)):
            # One by one: a mark that cannot be read must not hide the others.
            if self._mark_file(index).exists():
                with contextlib.suppress(Exception):
                    marks[index] = self._arrays[CHECKSUM][index]
        return marks

    def _mark_file(self, index: int) -> pathlib.Path:
        array = self._arrays[CHECKSUM]
        key = array.metadata.chunk_key_encoding.encode_chunk_key((index,))
        return self.path / CHECKSUM / key

    def _files(self, index: int) -> list[pathlib.Path]:
        """The data files of a chunk."""
        chunk = self.schema.grid.chunk(index)
        files = []
        for variable in self.schema.variables:
            every = [a.dimension in variable.dimensions for a in self.schema.grid.axes]
            if all(own or lead for own, lead in zip(every, chunk.leads, strict=True)):
                place = [p for p, own in zip(chunk.place, every, strict=True) if own]
                place += [0] * (len(variable.shape) - len(place))
                encoding = self._arrays[variable.name].metadata.chunk_key_encoding
                key = encoding.encode_chunk_key(tuple(place))
                files.append(self.path / variable.name / key)
        return files

    def _checksum(self, index: int) -> np.uint64:
        """Of a chunk's files; never 0. A missing file has no bytes."""
        digest = hashlib.blake2b(digest_size=8)
        for file in self._files(index):
            content = file.read_bytes() if file.exists() else b""
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
        return np.uint64(max(int.from_bytes(digest.digest(), "little"), 1))


def _flush(path: pathlib.Path) -> None:
    """Has a file's content, or a folder's entries, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_store(
    path: pathlib.Path, schema: Schema, origin: dict[str, str], *, resume: bool
) -> Store:
    """Makes a store, or opens the one that is there; hold the lock.

    Args:
      path: of the store.
      schema: what is in it.
      origin: versions, commit and device (`tbtjax.study.provenance`).
      resume: whether a store may be there already; one is made where none is.

    Returns:
      The store.

    Raises:
      StoreError: there is something else, a store of another sweep, or nothing can be written.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()  # barely created
        if path.exists() and not resume:
            raise StoreError(f"{path}: exists already; --resume continues it")
        if path.exists():
            _check_same(path, schema, origin)
        _remove(fresh)
        _make(fresh, schema, origin)
        if path.exists():
            _repair(path, fresh)
            _remove(fresh)
        else:
            os.rename(fresh, path)
            _flush(path.parent)
        return Store(path, schema)
    except OSError as error:
        with contextlib.suppress(OSError):
            _remove(fresh)
        raise StoreError(f"{path}: {error.strerror or error}") from None


def _remove(folder: pathlib.Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _attributes(schema: Schema, origin: dict[str, str]) -> dict[str, Any]:
    sweep = schema.sweep
    return {
        "Conventions": "CF-1.11",
        "title": sweep.title or "Stabilizing tune-before-test thresholds Δ*",
        "source": f"tbtjax {origin['tbtjax_version']}",
        "references": "Chen, Zhang, Hardt, arXiv 2603.08371",
        "configuration": sweep.model_dump_json(exclude_none=True),
        **origin,
    }


def _make(path: pathlib.Path, schema: Schema, origin: dict[str, str]) -> None:
    """Writes the metadata and the coordinates of an empty store."""
    group = zarr.create_group(path, zarr_format=3, attributes=_attributes(schema, origin))
    for c in schema.coordinates:
        text = c.values.dtype.kind == "U"
        array = group.create_array(
            c.name,
            shape=c.values.shape,
            chunks=c.values.shape,
            dtype=str if text else c.values.dtype,
            dimension_names=(c.name,),
            attributes=c.attributes,
            fill_value="" if text else _filler(c.values.dtype),
        )
        with zarr.config.set({"array.write_empty_chunks": True}):
            array[:] = c.values.astype(object) if text else c.values
    for v in schema.variables:
        group.create_array(
            v.name,
            shape=v.shape,
            chunks=v.chunks,
            dtype=v.dtype,
            dimension_names=v.dimensions,
            attributes=v.attributes,
            fill_value=_filler(v.dtype),
        )
    group.create_array(
        CHECKSUM,
        shape=(schema.grid.chunks,),
        chunks=(1,),
        dtype=np.uint64,
        dimension_names=("chunk",),
        attributes={"long_name": "checksum of a finished chunk of cells; 0: not finished"},
        fill_value=0,
    )
    with warnings.catch_warnings():
        # The format's specification does not have it yet; xarray opens a store faster with it.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(path, zarr_format=3)
    for file in path.rglob("*"):
        _flush(file)


def _filler(dtype: Any) -> Any:
    return np.nan if np.dtype(dtype).kind == "f" else -1


def _check_same(path: pathlib.Path, schema: Schema, origin: dict[str, str]) -> None:
    """Refuses to continue what is not a store of this very sweep."""
    try:
        document = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        attributes = document["attributes"]
        configuration = json.loads(attributes["configuration"])
    except (OSError, ValueError, KeyError, TypeError):
        raise StoreError(
            f"{path}: not a store of `tbtjax sweep`, or its zarr.json is damaged"
        ) from None
    ours = json.loads(schema.sweep.model_dump_json(exclude_none=True))
    different = sorted(_differences(configuration, ours, ""))
    if different:
        raise StoreError(
            f"{path}: made with another configuration ({', '.join(different[:3])} differ); use "
            "another --out"
        )
    for key in _DECISIVE:
        if attributes.get(key) != origin[key]:
            raise StoreError(
                f"{path}: begun with {key.replace('_', ' ')} {attributes.get(key) or 'unknown'}, "
                f"this is {origin[key] or 'unknown'}: the rest would not have the same bits"
            )


def _differences(a: Any, b: Any, key: str) -> set[str]:
    """Dotted keys at which two documents differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {
            found
            for name in a.keys() | b.keys()
            for found in _differences(a.get(name), b.get(name), f"{key}.{name}".lstrip("."))
        }
    return set() if a == b else {key}


def _repair(path: pathlib.Path, fresh: pathlib.Path) -> None:
    """Puts metadata and coordinates back that are damaged; removes what a killed process left."""
    for partial in path.rglob("*.partial"):
        partial.unlink()
    for file in fresh.rglob("*"):
        ours = path / file.relative_to(fresh)
        if file.is_dir():
            ours.mkdir(exist_ok=True)
        elif not ours.exists() or not filecmp.cmp(file, ours, shallow=False):
            shutil.copyfile(file, ours.with_name(ours.name + ".partial"))
            os.replace(ours.with_name(ours.name + ".partial"), ours)
