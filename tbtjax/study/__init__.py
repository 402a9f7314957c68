"""Monte Carlo studies: games drawn from priors, maps over grids, and the files they are kept in.

`sample_games` draws games; `sweep` computes a map, described by a `Sweep`, into a Zarr store that
`xarray.open_zarr` opens. Needs the extra `study`.
"""

from tbtjax.study.cluster import ClusterError
from tbtjax.study.config import Axis, ConfigError, Sweep, parse_config, read_config
from tbtjax.study.distributions import (
    Beta,
    Constant,
    Empirical,
    Integers,
    LogNormal,
    LogUniform,
    Normal,
    Uniform,
)
from tbtjax.study.fitted import fitted_population
from tbtjax.study.prior import Costs, Population, Prior, Rewards
from tbtjax.study.runner import Finished, sweep
from tbtjax.study.sampling import sample_games
from tbtjax.study.store import StoreError

__all__ = [
    "Axis",
    "Beta",
    "ClusterError",
    "ConfigError",
    "Constant",
    "Costs",
    "Empirical",
    "Finished",
    "Integers",
    "LogNormal",
    "LogUniform",
    "Normal",
    "Population",
    "Prior",
    "Rewards",
    "StoreError",
    "Sweep",
    "Uniform",
    "fitted_population",
    "parse_config",
    "read_config",
    "sample_games",
    "sweep",
]
