"""Copies of a finished store in other formats."""

import os
import pathlib

import numpy as np
import pandas as pd
import xarray as xr

from tbtjax.study.config import ConfigError, Sweep
from tbtjax.study.store import CHECKSUM, StoreError

_SUFFIXES = (".nc", ".csv")


def check_export(path: pathlib.Path) -> None:
    """Raises `ConfigError` where the suffix is not one that can be written."""
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"--export {path}: expected a name ending in {' or '.join(_SUFFIXES)}")


def open_results(store: str | os.PathLike[str]) -> tuple[xr.Dataset, Sweep]:
    """A store's dataset and the sweep it is of.

    Raises:
      StoreError: it is not a store of `tbtjax sweep`, or not finished.
    """
    try:
        data = xr.open_zarr(store, consolidated=True)
        sweep = Sweep.model_validate_json(data.attrs["configuration"])
        unfinished = int((data[CHECKSUM].values == 0).sum())
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{store}: not a store of `tbtjax sweep` ({error})") from None
    if unfinished:
        raise StoreError(
            f"{store}: {unfinished} chunks are not finished; `tbtjax sweep --resume` continues"
        )
    return data, sweep


def export(store: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Writes a finished store as NetCDF (.nc), or as a table with one row per cell (.csv).

    In the table a variable with further dimensions has a column for each of their values, such as
    `delta_quantile[0.5]`; what is kept draw by draw or bin by bin is left out.

    Raises:
      ConfigError: another suffix.
      StoreError: the store cannot be read, or the file not be written.
    """
    path = pathlib.Path(path)
    check_export(path)
    data, sweep = open_results(store)
    data = data.drop_vars(CHECKSUM)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        if path.suffix == ".nc":
            data.load().to_netcdf(partial, engine="h5netcdf")
        else:
            table(data, sweep).to_csv(partial, index=False)
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from None


def table(data: xr.Dataset, sweep: Sweep) -> pd.DataFrame:
    """One row per cell."""
    axes = [axis.dimension for axis in sweep.grid_axes]
    shape = tuple(data.sizes[axis] for axis in axes)
    columns: dict[str, np.ndarray] = {}
    for i, axis in enumerate(axes):
        along = data[axis].values.reshape([-1 if j == i else 1 for j in range(len(axes))])
        columns[axis] = np.broadcast_to(along, shape).ravel()
    for name, variable in data.data_vars.items():
        more = [str(d) for d in variable.dims if d not in axes]
        if {"draw", "chunk", "bin"} & set(more):
            continue
        wide = variable.broadcast_like(data[axes]) if axes else variable
        wide = wide.transpose(*axes, *more).values.reshape(*shape, -1)
        labels = pd.MultiIndex.from_product([data[d].values for d in more]) if more else [None]
        for j, label in enumerate(labels):
            parts = label if isinstance(label, tuple) else (label,)
            title = f"{name}[{','.join(map(_label, parts))}]" if more else str(name)
            columns[title] = wide[..., j].ravel()
    return pd.DataFrame(columns)


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)
