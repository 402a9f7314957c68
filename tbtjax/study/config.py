"""The description of a sweep: what is drawn, over which grid, and what is kept.

A TOML file and `Sweep(...)` in Python are the same description; `read_config` reads the former.
Every error is one line that names the key.
"""

import difflib
import math
import os
import pathlib
import tomllib
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from tbtjax.study.distributions import KINDS, Description, Finite
from tbtjax.study.prior import COST_SCALARS, SCHEME_SCALARS, Population, Prior

Quantity = Literal[
    "threshold",
    "histogram",
    "equilibrium",
    "overtake",
    "binding",
    "rule-of-thumb",
    "sensitivity",
]
_MOST_CELLS = 10**7
_MOST_GAMES = 10**13
_MOST_VARIANTS = 10**4
#: Parameters that vary within one compiled program: everything else is a variant of the prior.
_SCALARS = (
    "rewards.prize",
    *(f"rewards.{name}" for names in SCHEME_SCALARS.values() for name in names),
    *(f"cost.{name}" for names in COST_SCALARS.values() for name in names),
)
_UNITS = {
    "rewards.prize": "value",
    "rewards.k": "ranks",
    "rewards.decay": "1",
    "cost.rate": "value per step",
    "cost.scale": "value",
    "cost.exponent": "1",
    "cost.linear": "value per step",
    "cost.quadratic": "value per step squared",
    "delta": "steps",
    "count": "models",
    "seed": "1",
}


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one line that names the key."""


class Axis(Description):
    """An axis of the grid: a parameter and its values.

    Attributes:
      parameter: "delta" (tune-before-test level), "seed", or a key of the prior: "rewards.prize",
        "rewards.scheme", "cost.rate", "count", "capability.deviation", …
      values: the values, as they are; or
      log: the two ends of logarithmically spaced `points`; or
      linear: the two ends of evenly spaced `points`.
      points: how many.
      name: name of the dimension; the last part of `parameter` if left out.
      label: text on figures.
      units: units of the values; known for rewards, costs and levels.
    """

    parameter: str
    values: Annotated[tuple[Finite | str, ...], Field(min_length=1)] | None = None
    log: (
        tuple[
            Annotated[float, Field(gt=0, allow_inf_nan=False)],
            Annotated[float, Field(gt=0, allow_inf_nan=False)],
        ]
        | None
    ) = None
    linear: tuple[Finite, Finite] | None = None
    points: Annotated[int, Field(ge=1, le=10**6)] | None = None
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] | None = None
    label: str | None = None
    units: str | None = None

    @model_validator(mode="after")
    def _one_way(self):
        given = [name for name in ("values", "log", "linear") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("values: expected one of values, log and linear")
        if (self.points is None) != (given == ["values"]):
            raise ValueError("points: expected with log and linear, and not with values")
        return self

    @property
    def dimension(self) -> str:
        """Name of the axis in the store."""
        return self.name or self.parameter.rsplit(".", 1)[-1]

    @property
    def is_scalar(self) -> bool:
        """Whether the values enter a compiled program as numbers."""
        return self.parameter in _SCALARS

    @property
    def unit(self) -> str:
        """Units of the values."""
        return self.units or _UNITS.get(self.parameter, "")

    def coordinates(self) -> list[float | int | str]:
        """The values along the axis."""
        if self.values is not None:
            whole = all(isinstance(x, float) and x == int(x) for x in self.values)
            if whole and self.parameter in ("count", "seed", "rewards.k"):
                return [int(x) for x in self.values]
            return list(self.values)
        assert self.points is not None
        if self.log is not None:
            low, high = np.log10(self.log)
            values = np.logspace(low, high, self.points)
            # The ends are what was asked for, to the last digit.
            values[0], values[-1] = self.log if self.points > 1 else (self.log[0],) * 2
        else:
            assert self.linear is not None
            values = np.linspace(*self.linear, self.points)
        return values.tolist()


class Sweep(Description):
    """A grid of cells × draws, the quantities, and how they are computed.

    Attributes:
      title: a line on what this is.
      seed: of the draws.
      draws: games per cell; the same ones in every cell.
      games: the prior.
      axes: the grid.
      quantities: "threshold" (Δ*: mean, quantiles, statuses), "histogram" (of log(1 + Δ*)),
        "equilibrium" (share of games with one, at each level), "overtake" (just-overtake effort, at
        each level), "binding" (which rank decides Δ*), "rule-of-thumb" (its gap to Δ*),
        "sensitivity" (derivatives of Δ*).
      quantiles: the probabilities of the quantiles.
      raw: whether each draw's games, Δ* and status are kept too.
      deviations: "all" or "adjacent", as in `tbtjax.stabilizing_threshold`.
      dtype: of the computation.
    """

    title: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    draws: Annotated[int, Field(ge=1, le=10**9)]
    games: Prior
    axes: tuple[Axis, ...] = ()
    quantities: Annotated[tuple[Quantity, ...], Field(min_length=1)] = ("threshold",)
    quantiles: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1, max_length=1000)
    ] = (0.05, 0.25, 0.5, 0.75, 0.95)
    raw: bool = False
    deviations: Literal["all", "adjacent"] = "all"
    dtype: Literal["float32", "float64"] = "float64"

    @property
    def grid_axes(self) -> tuple[Axis, ...]:
        """The axes of the cells: all but the levels."""
        return tuple(axis for axis in self.axes if axis.parameter != "delta")

    @property
    def levels(self) -> tuple[float, ...]:
        """The tune-before-test levels of what depends on one."""
        for axis in self.axes:
            if axis.parameter == "delta":
                return tuple(float(x) for x in axis.coordinates())
        return (0.0,)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return math.prod(len(axis.coordinates()) for axis in self.grid_axes)

    def variant(self, values: dict[str, Any]) -> "Sweep":
        """The sweep with values in place of its own, by dotted keys of the prior, or "seed"."""
        document = self.model_dump(mode="json", exclude_none=True)
        for path, value in values.items():
            _put(document, path, value)
        return Sweep.model_validate(document)

    @model_validator(mode="after")
    def _grid(self):
        names = [axis.dimension for axis in self.axes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"axes: two are named {name!r}; give one a `name`")
        parameters = [axis.parameter for axis in self.axes]
        for parameter in parameters:
            if parameters.count(parameter) > 1:
                raise ValueError(f"axes: two have the parameter {parameter!r}")
        if min(self.levels) < 0:
            raise ValueError("axes.delta: expected levels that are not negative")
        if self.cells > _MOST_CELLS:
            raise ValueError(f"axes: {self.cells:,} cells; at most {_MOST_CELLS:,} are possible")
        if self.cells * self.draws > _MOST_GAMES:
            raise ValueError(
                f"draws: {self.cells:,} cells × {self.draws:,} draws are more than "
                f"{_MOST_GAMES:,} games"
            )
        if self.raw and self.cells * self.draws > 10**10:
            raise ValueError("raw: at most 10,000,000,000 games can be kept one by one")
        variants = math.prod(len(a.coordinates()) for a in self.grid_axes if not a.is_scalar)
        if variants > _MOST_VARIANTS:
            raise ValueError(
                f"axes: {variants:,} variants of the prior; at most {_MOST_VARIANTS:,} are "
                "possible (rewards' and costs' numbers do not count)"
            )
        return self


def _put(document: dict, path: str, value: Any) -> None:
    """Sets a value deep inside: "seed", or a key of `games`."""
    if path == "seed":
        document["seed"] = value
        return
    place = document["games"]
    *parents, last = path.split(".")
    for parent in parents:
        if not isinstance(place.get(parent), dict):
            raise ConfigError(f"axes: there is no parameter {path!r} in games")
        place = place[parent]
    place[last] = value


def checked(sweep: Sweep) -> Sweep:
    """`sweep`, once every axis is known to reach a parameter and every value to be possible.

    Raises:
      ConfigError: naming the axis.
    """
    document = sweep.model_dump(mode="json", exclude_none=True)
    document["axes"] = []
    for i, axis in enumerate(sweep.axes):
        if axis.parameter == "delta":
            continue
        values = axis.coordinates()
        if axis.is_scalar:
            texts = [x for x in values if isinstance(x, str)]
            if texts:
                raise ConfigError(f"axes.{i}.values: expected numbers; got {texts[0]!r}")
            part, name = axis.parameter.split(".")
            if not any(name in getattr(v.games, part).scalars for v in _variants(sweep)):
                raise ConfigError(
                    f"axes.{i}.parameter: {axis.parameter!r} has no effect: the {part} in use "
                    f"have {', '.join(getattr(sweep.games, part).scalars)}"
                )
            if name != "k":
                values = [min(values), max(values)]  # pyright: ignore
        for value in values:
            changed = _copied(document)
            try:
                _put(changed, axis.parameter, value)
                Sweep.model_validate(changed)
            except ConfigError as error:
                raise ConfigError(str(error).replace("axes:", f"axes.{i}.parameter:", 1)) from None
            except ValidationError as error:
                raise ConfigError(f"axes.{i}: at {value!r}: {one_line(error)}") from None
    for values in fixed_combinations(sweep):
        try:
            variant = sweep.variant(values)
        except ValidationError as error:
            at = ", ".join(f"{k} = {v!r}" for k, v in values.items())
            raise ConfigError(f"axes: at {at}: {one_line(error)}") from None
        for axis in sweep.axes:
            if axis.parameter == "rewards.k":
                most = max(float(x) for x in axis.coordinates())
                _check_k(most, variant)
    return sweep


def _check_k(most: float, variant: Sweep) -> None:
    count = variant.games.count
    fewest = variant.games.most_models if isinstance(count, int | None) else count.low
    if variant.games.rewards.scheme == "top-k" and most > fewest:
        raise ConfigError(
            f"axes: rewards.k: expected at most the number of models, {fewest}; got {most:g}"
        )


def _copied(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _copied(value) for key, value in document.items()}
    return [_copied(x) for x in document] if isinstance(document, list) else document


def fixed_combinations(sweep: Sweep) -> list[dict[str, Any]]:
    """Every combination of the values of the axes that are not scalars."""
    combinations: list[dict[str, Any]] = [{}]
    for axis in sweep.grid_axes:
        if not axis.is_scalar:
            combinations = [
                {**c, axis.parameter: value} for c in combinations for value in axis.coordinates()
            ]
    return combinations


def _variants(sweep: Sweep) -> list[Sweep]:
    found = []
    for values in fixed_combinations(sweep):
        try:
            found.append(sweep.variant(values))
        except ValidationError:
            continue
    return found


def parse_config(document: dict[str, Any], folder: str | os.PathLike[str] = ".") -> Sweep:
    """A checked sweep from the document of a TOML file.

    Args:
      document: the keys and values.
      folder: where a relative path to measurements starts.

    Raises:
      ConfigError: in one line, naming the key.
    """
    document = _copied(document)
    games = document.get("games")
    if isinstance(games, dict) and "fitted" in games:
        games["population"] = _fitted(games.pop("fitted"), pathlib.Path(folder))
    try:
        return checked(Sweep.model_validate(document))
    except ValidationError as error:
        raise ConfigError(one_line(error)) from None


def read_config(path: str | os.PathLike[str]) -> Sweep:
    """Reads a TOML file.

    Raises:
      ConfigError: in one line, naming the file and the key.
    """
    path = pathlib.Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    try:
        return parse_config(document, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


class _Fitted(Description):
    """`[games.fitted]`: a table of measured scores, and how curves are fitted to it."""

    path: str
    task: str | None = None
    metric: str | None = None
    models: tuple[str, ...] | None = None
    family: tuple[str, ...] | None = None
    order: Literal["size", "score"] | None = None
    lower: Annotated[float, Field(ge=0, lt=1)] = 0.0
    limits: Literal["fixed", "free"] = "fixed"
    draw: Literal["measured", "resampled", "normal"] = "resampled"


def _fitted(document: Any, folder: pathlib.Path) -> dict[str, Any]:
    from tbtjax.measure import TrajectoryError, read_trajectories
    from tbtjax.study.fitted import fitted_population

    try:
        fitted = _Fitted.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"games.fitted.{one_line(error)}") from None
    try:
        trajectories = read_trajectories(folder / fitted.path)
        trajectories = trajectories.select(
            models=fitted.models, family=fitted.family, task=fitted.task, metric=fitted.metric
        )
        population: Population = fitted_population(
            trajectories,
            draw=fitted.draw,
            lower=fitted.lower,
            limits=fitted.limits,
            order=fitted.order,
        )
    except (TrajectoryError, OSError, ValueError) as error:
        raise ConfigError(f"games.fitted: {error}") from None
    return population.model_dump(mode="json", exclude_none=True)


def one_line(error: ValidationError) -> str:
    """The first problem in one line: key, what is expected, what was found."""
    # A misspelt key is the reason why another one is missing.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    # pydantic puts the kind of a distribution, or the type that a union tried, into the place.
    place = [str(x) for x in first["loc"] if x not in KINDS and not _is_type_name(str(x))]
    kind, found = first["type"], first["input"]
    if kind == "extra_forbidden":
        return f"{'.'.join(place)}: unknown key{_suggestion(place)}"
    if kind == "missing":
        return f"{'.'.join(place)}: missing"
    if kind.startswith("union_tag"):
        text = f"expected a number or a distribution with kind = one of {', '.join(KINDS)}"
        return f"{'.'.join(place)}: {text}; got {found!r:.80}"
    message = first["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        head = ".".join(place)
        return f"{head}.{message}" if head else message
    message = message.replace("Input should be", "expected").replace("a valid ", "a ")
    return f"{'.'.join(place)}: {message}; got {found!r:.80}"


def _is_type_name(part: str) -> bool:
    return part in ("int", "float", "str", "Integers", "constrained-int") or "[" in part


def _suggestion(place: list[str]) -> str:
    """What may have been meant."""
    known = {
        name
        for model in _descriptions(Description)
        for name in model.model_fields
        if not model.__name__.startswith("_")
    }
    close = difflib.get_close_matches(place[-1], known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _descriptions(base: type[Description]) -> list[type[Description]]:
    return [x for c in base.__subclasses__() for x in (c, *_descriptions(c))]
