"""What a sweep keeps: the variables of the store, and their values for a chunk.

Cells' variables have the grid's dimensions; what does not depend on rewards and costs (effort to
overtake, drawn models) has only those of the axes that change the prior.
"""

import dataclasses
from typing import Any

import numpy as np

from tbtjax.study.config import Axis, ConfigError, Sweep, fixed_combinations
from tbtjax.study.grid import Chunk, Grid
from tbtjax.study.kernel import drawn_models, sensitivity_parameters
from tbtjax.study.statistics import (
    GAP_BINS,
    LEVEL_BINS,
    Moments,
    Summary,
    mean,
    quantiles,
    share_error,
    standard_error,
)
from tbtjax.threshold import Status

_STATUS_FLAGS = {
    "flag_values": [int(s) for s in Status],
    "flag_meanings": " ".join(s.name for s in Status),
}


@dataclasses.dataclass(frozen=True)
class Variable:
    """A variable of the store.

    Attributes:
      name: its name.
      dimensions: names; those of the grid's axes first.
      shape: sizes.
      chunks: sizes of a stored chunk.
      dtype: of the values; numbers are NaN and counts −1 where nothing was computed yet.
      attributes: long_name, units, flags.
    """

    name: str
    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: Any
    attributes: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Coordinate:
    """A coordinate along a dimension of the same name."""

    name: str
    values: Any
    attributes: dict[str, Any]


class Schema:
    """The variables and coordinates of a sweep's store."""

    def __init__(self, grid: Grid):
        """Of a grid."""
        self.grid = grid
        self.sweep = sweep = grid.sweep
        self.variants = [sweep.variant(values).games for values in fixed_combinations(sweep)]
        self.most_models = max(games.most_models for games in self.variants)
        names = [name for games in self.variants for name in sensitivity_parameters(games)]
        self.parameters = tuple(dict.fromkeys(names))
        self._sizes: dict[str, int] = {}
        self.coordinates = self._coordinates()
        self.variables = self._variables()
        taken = [axis.dimension for axis in grid.axes]
        names = {v.name for v in self.variables} | {c.name for c in self.coordinates[len(taken) :]}
        for name in taken:
            if name in names:
                raise ConfigError(
                    f"axes: {name!r} is a name of the results; give the axis a `name`"
                )

    def _coordinates(self) -> list[Coordinate]:
        sweep = self.sweep
        found = [_axis_coordinate(axis) for axis in self.grid.axes]
        wanted = set(sweep.quantities)
        text = {"long_name": "probability", "units": "1"}
        found.append(Coordinate("quantile", np.asarray(sweep.quantiles), text))
        text = {"long_name": "status of Δ*", **_STATUS_FLAGS}
        found.append(Coordinate("status", np.arange(len(Status), dtype=np.int32), text))
        if wanted & {"equilibrium", "overtake"}:
            text = {"long_name": "tune-before-test level Δ", "units": "steps"}
            found.append(Coordinate("delta", np.asarray(sweep.levels), text))
        if "histogram" in wanted:
            edges = LEVEL_BINS.edges()
            text = {
                "long_name": "upper end of a bin of log(1 + Δ*)",
                "units": "1",
                "comment": "the first bin holds Δ* = 0, the last one all above",
            }
            found.append(Coordinate("bin", np.append(edges, np.inf), text))
        if "binding" in wanted:
            text = {
                "long_name": "rank of the model whose deviation decides Δ*",
                "comment": "0: nobody does (Δ* is 0 or infinite)",
                "units": "1",
            }
            ranks = np.append(0, np.arange(2, self.most_models + 1)).astype(np.int32)
            found.append(Coordinate("binding_rank", ranks, text))
        if "overtake" in wanted:
            text = {"long_name": "rank of the model that overtakes", "units": "1"}
            ranks = np.arange(2, self.most_models + 1, dtype=np.int32)
            found.append(Coordinate("rank", ranks, text))
        if "sensitivity" in wanted:
            text = {"long_name": "parameter; capability.1 is the strongest model's α"}
            found.append(Coordinate("parameter", np.array(self.parameters), text))
        if sweep.raw:
            text = {"long_name": "index of the draw", "units": "1"}
            found.append(Coordinate("draw", np.arange(sweep.draws), text))
            text = {"long_name": "place by capability, strongest first", "units": "1"}
            models = np.arange(1, self.most_models + 1, dtype=np.int32)
            found.append(Coordinate("model", models, text))
        self._sizes = {c.name: len(c.values) for c in found}
        return found

    def _variables(self) -> list[Variable]:
        found: list[Variable] = []
        wanted = set(self.sweep.quantities)

        def add(name, extra, long_name, units, dtype: Any = np.float64, *, cells=True, **more):
            axes = [axis for axis in self.grid.axes if cells or not axis.is_scalar]
            along = [
                width
                for axis, width in zip(self.grid.axes, self.grid.chunk_shape, strict=True)
                if cells or not axis.is_scalar
            ]
            dimensions = (*(axis.dimension for axis in axes), *extra)
            sizes = tuple(self._sizes[x] for x in extra)
            shape = (*(self._sizes[axis.dimension] for axis in axes), *sizes)
            text = {"long_name": long_name, "units": units, **more}
            found.append(Variable(name, dimensions, shape, (*along, *sizes), np.dtype(dtype), text))

        def add_quantiles(name, extra, long_name, units, **more):
            more |= {"ancillary_variables": f"{name}_quantile_error"}
            add(f"{name}_quantile", (*extra, "quantile"), long_name, units, **more)
            text = f"one standard error of {name}_quantile, with the resolution of the histogram"
            more.pop("ancillary_variables")
            add(f"{name}_quantile_error", (*extra, "quantile"), text, units, **more)

        games = "games"
        finite = "mean over games with a finite Δ*"
        add("status_count", ("status",), "number of games of each status", games, np.int64)
        add("delta_mean", (), "stabilizing threshold Δ*, mean", "steps", comment=finite)
        add("delta_mean_error", (), "Monte Carlo standard error of delta_mean", "steps")
        add("log_delta_mean", (), "log(1 + Δ*), mean", "1", comment=finite)
        add("log_delta_mean_error", (), "Monte Carlo standard error of log_delta_mean", "1")
        add("delta_least", (), "least finite Δ*", "steps")
        add("delta_largest", (), "largest finite Δ*", "steps")
        add_quantiles("delta", (), "stabilizing threshold Δ*, quantile", "steps")
        if "histogram" in wanted:
            add("delta_count", ("bin",), "number of games by log(1 + Δ*)", games, np.int64)
        if "binding" in wanted:
            text = "number of games by the rank that decides Δ*"
            add("binding_count", ("binding_rank",), text, games, np.int64)
        if "equilibrium" in wanted:
            text = "share of games with a pure equilibrium"
            add("equilibrium_share", ("delta",), text, "1")
            text = "Monte Carlo standard error of equilibrium_share"
            add("equilibrium_share_error", ("delta",), text, "1")
        if "rule-of-thumb" in wanted:
            text = "rule of thumb against Δ*: log((1 + max κ^ρ)/(1 + Δ*)), mean"
            add("rule_gap_mean", (), text, "1", comment="over games where both are finite")
            add("rule_gap_mean_error", (), "Monte Carlo standard error of rule_gap_mean", "1")
            add_quantiles("rule_gap", (), "rule of thumb against Δ*, quantile", "1")
            add("rule_below_share", (), "share of games where the rule is below Δ*", "1")
            text = "Monte Carlo standard error of rule_below_share"
            add("rule_below_share_error", (), text, "1")
        if "sensitivity" in wanted:
            for name, text in (
                ("sensitivity", "derivative of Δ* in a parameter, mean"),
                ("log_sensitivity", "derivative of log(1 + Δ*) in a parameter, mean"),
            ):
                units = "per unit of the parameter"
                units = f"steps {units}" if name == "sensitivity" else units
                add(name, ("parameter",), text, units, comment=finite)
                text = f"Monte Carlo standard error of {name}"
                add(f"{name}_error", ("parameter",), text, units)
        if "overtake" in wanted:
            extra = ("delta", "rank")
            text = "least effort to overtake the next more capable model"
            add_quantiles("overtake", extra, f"{text}, quantile", "steps", cells=False)
            text = "share of games in which the next more capable model is out of reach"
            add("overtake_never_share", extra, text, "1", cells=False)
        if self.sweep.raw:
            add("draw_delta", ("draw",), "stabilizing threshold Δ*", "steps")
            add("draw_status", ("draw",), "status of Δ*", "1", np.int32, **_STATUS_FLAGS)
            extra = ("draw", "model")
            text = "logit of the normalized score without training, α"
            add("draw_capability", extra, text, "1", cells=False)
            add("draw_learning_rate", extra, "learning rate β", "1", cells=False)
        return found

    def values(
        self, chunk: Chunk, sweep: Sweep, found: dict[str, Any]
    ) -> dict[str, tuple[tuple[slice, ...], np.ndarray]]:
        """What a chunk writes: region and values of each variable.

        Args:
          chunk: the chunk.
          sweep: the sweep with the chunk's fixed values in place.
          found: its statistics (`tbtjax.study.kernel.chunk_statistics`).
        """
        arrays = _arrays(self, sweep, found)
        written = {}
        for variable in self.variables:
            every = [axis.dimension in variable.dimensions for axis in self.grid.axes]
            if not all(own or lead for own, lead in zip(every, chunk.leads, strict=True)):
                continue  # another chunk writes it
            region = tuple(r for r, own in zip(chunk.region, every, strict=True) if own)
            extra = variable.shape[len(region) :]
            shape = (*(r.stop - r.start for r in region), *extra)
            whole = (*region, *(slice(0, size) for size in extra))
            values = arrays[variable.name]
            if values.dtype.kind == "f":
                values = values.astype(variable.dtype)
            written[variable.name] = (whole, np.ascontiguousarray(values.reshape(shape)))
        return written


def _axis_coordinate(axis: Axis) -> Coordinate:
    values = axis.coordinates()
    text = {"long_name": axis.label or axis.parameter, "parameter": axis.parameter}
    if axis.unit:
        text["units"] = axis.unit
    if any(isinstance(x, str) for x in values):
        return Coordinate(axis.dimension, np.array([str(x) for x in values]), text)
    return Coordinate(axis.dimension, np.array(values), text)


def _arrays(schema: Schema, sweep: Sweep, found: dict[str, Any]) -> dict[str, np.ndarray]:
    """The variables' values, cells on the first axis where they have one."""
    p = np.asarray(sweep.quantiles)
    arrays: dict[str, np.ndarray] = {}
    if "log_delta" in found:
        log_delta: Summary = found["log_delta"]
        arrays["status_count"] = found["status"]
        arrays["delta_mean"] = mean(found["delta"])
        arrays["delta_mean_error"] = standard_error(found["delta"])
        arrays["log_delta_mean"] = mean(log_delta.moments)
        arrays["log_delta_mean_error"] = standard_error(log_delta.moments)
        some = log_delta.moments.count > 0
        for name, x in zip(("delta_least", "delta_largest"), log_delta.extremes, strict=True):
            arrays[name] = np.where(some, _levels(x), np.nan)
        _add_levels(arrays, "delta", log_delta, p)
        histogram = log_delta.histogram.copy()
        histogram[..., -1] += log_delta.infinite
        arrays["delta_count"] = histogram
    if "pair" in found:
        arrays["binding_count"] = _padded(found["pair"], schema.most_models, 0)
    if "stable" in found:
        games = found["status"][..., : Status.NOT_CONVERGED].sum(-1)[..., None]
        _add_share(arrays, "equilibrium_share", found["stable"], games)
    if "rule" in found:
        rule: Summary = found["rule"]
        arrays["rule_gap_mean"] = mean(rule.moments)
        arrays["rule_gap_mean_error"] = standard_error(rule.moments)
        values = quantiles(rule, p, GAP_BINS)
        arrays["rule_gap_quantile"], arrays["rule_gap_quantile_error"] = values
        _add_share(arrays, "rule_below_share", found["rule_below"], found["rule_known"])
    if "sensitivity" in found:
        own = sensitivity_parameters(sweep.games)
        place = [schema.parameters.index(name) for name in own]
        for name in ("sensitivity", "log_sensitivity"):
            m: Moments = found[name]
            for suffix, x in (("", mean(m)), ("_error", standard_error(m))):
                wide = np.full((*x.shape[:-1], len(schema.parameters)), np.nan)
                wide[..., place] = x
                arrays[name + suffix] = wide
    if "overtake" in found:
        ranks = schema.most_models - 1
        overtake: Summary = found["overtake"]
        _add_levels(arrays, "overtake", overtake, p)
        for name in ("overtake_quantile", "overtake_quantile_error"):
            x = np.moveaxis(_padded(np.moveaxis(arrays[name], -2, -1), ranks, np.nan), -1, -2)
            arrays[name] = x
        count = overtake.moments.count + overtake.infinite
        share = overtake.infinite / np.where(count > 0, count, np.nan)
        arrays["overtake_never_share"] = _padded(share, ranks, np.nan)
    if sweep.raw:
        arrays["draw_delta"], arrays["draw_status"] = found["raw_delta"], found["raw_status"]
        drawn = drawn_models(sweep)
        for name, x in (("draw_capability", "alpha"), ("draw_learning_rate", "beta")):
            arrays[name] = _padded(drawn[x], schema.most_models, np.nan)
    return arrays


def _levels(y: np.ndarray) -> np.ndarray:
    """Training steps from log(1 + steps)."""
    with np.errstate(over="ignore"):
        return np.expm1(y)


def _add_levels(arrays: dict[str, np.ndarray], name: str, s: Summary, p: np.ndarray) -> None:
    """Quantiles in training steps; errors carried over from the logarithm."""
    y, error = quantiles(s, p, LEVEL_BINS)
    arrays[f"{name}_quantile"] = _levels(y)
    with np.errstate(over="ignore", invalid="ignore"):
        arrays[f"{name}_quantile_error"] = np.exp(y) * np.expm1(error)


def _add_share(arrays: dict[str, np.ndarray], name: str, count: Any, games: Any) -> None:
    share = count / np.where(games > 0, games, np.nan)
    arrays[name] = share
    arrays[f"{name}_error"] = share_error(share, games)


def _padded(x: np.ndarray, size: int, filler: float) -> np.ndarray:
    """`[..., m]` to `[..., size]`."""
    wide = np.full((*x.shape[:-1], size), filler, x.dtype)
    wide[..., : x.shape[-1]] = x
    return wide
