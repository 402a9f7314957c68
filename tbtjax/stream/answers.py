"""Answers to stacks of games, in blocks of few shapes.

A program is compiled for a question, a kind of games, a number of models and a length of block. So
numbers of models are rounded up to a few sizes and blocks have one length for each size:

- For thresholds of power-law curves the models that fill a game up are weaker copies of its last
  one: the same learning rate, limits, cost and reward, and a start so much lower that whoever could
  gain is never one of them. At every level they need more than the last model for no more reward,
  so Δ* and who decides it are the game's own, and games keep the core's fast road.
- Everywhere else they are absent (`present`).

Most thresholds are found on the core's fast road. Where it leaves a game open because two pairs ask
for nearly the same level, each pair is tried as a game of its own, with the same program. The
complete road, which takes several times as long to compile, is compiled where that does not help.

Programs are compiled under a lock and run without it: threads may answer different windows.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from tbtjax.costs import LinearCost, PiecewiseLinearCost, PowerCost, QuadraticCost
from tbtjax.curves import PowerLaw, Tabulated
from tbtjax.effort import just_overtake_effort
from tbtjax.equilibrium import is_zero_effort_pne
from tbtjax.game import RankingGame, is_valid, problems
from tbtjax.stream.records import POINTS, Layout, Stack
from tbtjax.threshold import (
    Status,
    complete_threshold,
    fast_threshold,
    rule_of_thumb,
    stabilizing_threshold,
)

# Sizes that numbers of models are rounded up to.
_SIZES = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64),
    *(80, 96, 128, 160, 192, 256, 384, 512, 768, 1024),
)  # fmt: skip
# Blocks of games: no more parameters than the core works on at a time (`tbtjax._batch`), and no
# more pairs than memory is for.
_BLOCKS = (2000, 1000, 500, 250, 125, 64, 32, 16, 8, 4, 2, 1)
_BLOCK_ENTRIES, _BLOCK_PAIRS = 20_000, 1 << 20
# Blocks of games that a quick way leaves open hold so much less: the other way takes longer.
_LEFT = 32

_COSTS = {
    "linear": LinearCost,
    "power": PowerCost,
    "quadratic": QuadraticCost,
    "piecewise-linear": PiecewiseLinearCost,
}
_PROGRAMS: dict[Any, Any] = {}
_LOCK = threading.Lock()
#: By the numbers that answers have.
STATUS_NAMES = [status.name for status in sorted(Status)]


class Ragged(NamedTuple):
    """Numbers of which each row has its own count.

    Attributes:
      values: of all rows, one after the other.
      offsets: `[rows + 1]` where each row begins, and the end.
    """

    values: np.ndarray
    offsets: np.ndarray


class Question(NamedTuple):
    """What can be asked of a game.

    Attributes:
      answer: function of a batch of games, levels and options that gives a value for each of
        `outputs`, and a mask of usable games.
      quick: the same for power-law games with two or more models that are all present, and a mask
        of games that it answers; None where there is no quicker way.
      outputs: names of the answers, and what they are: "number", "index", "status", "bool", or
        "pairs" for a number of each adjacent pair. A status is a number, an index of
        `STATUS_NAMES`.
      needs_delta: whether it is asked at a level.
      power_law_only: whether it is about power-law curves alone.
    """

    answer: Callable[..., tuple[dict[str, jax.Array], jax.Array]]
    outputs: dict[str, str]
    needs_delta: bool = False
    power_law_only: bool = False
    quick: Callable[..., tuple[dict[str, jax.Array], jax.Array]] | None = None


def _threshold(game: RankingGame, delta: jax.Array, deviations: Any):
    if isinstance(game.curves, PowerLaw):
        found = complete_threshold(game, deviations)
    else:
        found = stabilizing_threshold(game, deviations)
    return _threshold_outputs(found), found.status != Status.INVALID


def _quick_threshold(game: RankingGame, delta: jax.Array, deviations: Any):
    found, is_known = fast_threshold(game, deviations)
    return _threshold_outputs(found), is_known


def _threshold_outputs(found: Any) -> dict[str, jax.Array]:
    return {name: getattr(found, name) for name in QUESTIONS["threshold"].outputs}


def _effort(game: RankingGame, delta: jax.Array, deviations: Any):
    return {"delta": delta, "effort": just_overtake_effort(game, delta)}, is_valid(game)


def _verdict(game: RankingGame, delta: jax.Array, deviations: Any):
    stable = is_zero_effort_pne(game, delta, deviations)
    return {"delta": delta, "zero_effort_pne": stable}, is_valid(game)


def _rule_of_thumb(game: RankingGame, delta: jax.Array, deviations: Any):
    rule = rule_of_thumb(game)
    return {name: getattr(rule, name) for name in _RULE}, is_valid(game)


_RULE = ("e0", "rho", "kappa", "delta", "upper_bound", "lower_bound")

#: By name of the command.
QUESTIONS = {
    "threshold": Question(
        _threshold,
        {
            **dict.fromkeys(("delta", "upper", "settled"), "number"),
            **dict.fromkeys(("pair", "rival"), "index"),
            "status": "status",
        },
        quick=_quick_threshold,
    ),
    "effort": Question(_effort, {"delta": "number", "effort": "pairs"}, needs_delta=True),
    "verdict": Question(_verdict, {"delta": "number", "zero_effort_pne": "bool"}, needs_delta=True),
    "rule-of-thumb": Question(_rule_of_thumb, dict.fromkeys(_RULE, "pairs"), power_law_only=True),
}


class Solver:
    """Answers one question."""

    def __init__(self, question: str, deviations: str = "all", delta: float | None = None):
        self.question = QUESTIONS[question]
        self._name = question
        self._deviations = deviations
        self._delta = np.nan if delta is None else delta

    def answer(
        self, stacks: list[Stack], count: int, errors: dict[int, str]
    ) -> dict[str, np.ndarray | Ragged]:
        """The answers of a window.

        Args:
          stacks: the window's games.
          count: number of places in the window.
          errors: gets what is wrong with unusable games, by place.

        Returns:
          By output: an array `[count]`, or a `Ragged` of `count` rows. Anything where there is no
          game or an error.
        """
        pairs = np.zeros(count, np.int64)
        for stack in stacks:
            pairs[stack.rows] = stack.layout.models - 1
        offsets = np.concatenate([[0], np.cumsum(pairs)])
        results: dict[str, np.ndarray | Ragged] = {}
        kinds = {"number": float, "index": np.int64, "bool": bool, "status": np.int32}
        for name, kind in self.question.outputs.items():
            if kind == "pairs":
                results[name] = Ragged(np.full(offsets[-1], np.nan), offsets)
            else:
                results[name] = np.zeros(count, kinds[kind])
        with jax.enable_x64(True):
            for stack in stacks:
                self._answer_stack(stack, results, errors)
        return results

    def _answer_stack(self, stack: Stack, results, errors: dict[int, str]) -> None:
        rows, delta = stack.rows, stack.delta
        if self.question.power_law_only and stack.layout.curves != "power-law":
            text = f"{self._name} needs power-law curves (alpha, beta)"
            errors.update(dict.fromkeys(rows.tolist(), text))
            return
        columns, models = stack.columns, stack.layout.models
        if self.question.needs_delta:
            delta = np.where(np.isnan(delta), self._delta, delta)
            usable = (delta >= 0) & (delta < np.inf)
            for row, level in zip(rows[~usable].tolist(), delta[~usable].tolist(), strict=True):
                errors[row] = (
                    "delta is missing, and there is no --delta"
                    if level != level
                    else f"delta must be finite and not negative; got {level}"
                )
            rows, delta = rows[usable], delta[usable]
            columns = {name: column[usable] for name, column in columns.items()}
        else:
            delta = np.zeros(len(rows))
        if not len(rows):
            return
        size = next(size for size in _SIZES if size >= models)
        arrays = _filled_up(stack.layout, columns, size) | {"delta": delta}
        games = _Games(stack.layout, arrays, rows)
        most = max(1, min(_BLOCK_ENTRIES // size, _BLOCK_PAIRS // size**2))
        block = next(block for block in _BLOCKS if block <= most)
        if self._has_quick_way(stack.layout) and size > 1:
            games = games.some(~self._answer_by(self.question.quick, games, block, results))
            if len(games.rows) * len(_pairs(models, self._deviations)) <= max(
                block, len(rows) // 4
            ):
                games = games.some(~self._answer_pair_by_pair(games, block, results))
            block = max(1, most // _LEFT)
        good = self._answer_by(self.question.answer, games, block, results)
        self._explain(games.some(~good), block, errors)

    def _has_quick_way(self, layout: Layout) -> bool:
        """Whether most games are answered quickly; what fills them up then are models."""
        return self.question.quick is not None and layout.curves == "power-law"

    def _answer_by(self, answer: Any, games: "_Games", block: int, results) -> np.ndarray:
        """Keeps the answers of `answer`, and gives its mask of games."""
        mask = np.ones(len(games.rows), bool)
        models = games.layout.models
        for start, part in games.blocks(block):
            found, good = self._program(games.layout, answer, part)(part, np.int32(models))
            rows = games.rows[start : start + block]
            self._keep(results, rows, models, found)
            mask[start : start + block] = np.asarray(good)[: len(rows)]
        return mask

    def _answer_pair_by_pair(self, games: "_Games", block: int, results) -> np.ndarray:
        """Keeps thresholds that are the largest of those of pairs alone, and gives the mask.

        Where every pair's stable levels are a ray, so are the game's: from the largest start on.
        """
        pairs = _pairs(games.layout.models, self._deviations)
        alone = games.taken_apart(pairs)
        found = {name: np.zeros(len(alone.rows)) for name in self.question.outputs}
        known = self._answer_by(self.question.quick, alone, block, found)
        known = np.all(known.reshape(-1, len(pairs)), axis=1)
        delta = found["delta"].reshape(-1, len(pairs))
        deciding = np.argmax(delta, axis=1)
        first = np.max(delta, axis=1, initial=0)
        rival, weak = np.where(first > 0, pairs[deciding].T, -1)
        answers = {
            "delta": first,
            "upper": np.full_like(first, np.inf),
            "settled": first,
            "pair": weak,
            "rival": rival,
            "status": np.where(first > 0, Status.FOUND, Status.STABLE_AT_ZERO),
        }
        for name, values in answers.items():
            results[name][games.rows[known]] = values[known]
        return known

    def _program(self, layout: Layout, answer: Any, arrays: dict[str, np.ndarray]) -> Any:
        """`answer` compiled for games of a kind, sizes and block."""
        shapes = tuple((name, x.shape) for name, x in arrays.items())
        key = (answer, self._deviations, layout.curves, layout.cost, shapes)
        if key in _PROGRAMS:
            return _PROGRAMS[key]
        with _LOCK:
            if key not in _PROGRAMS:

                def run(arrays, models):
                    parameters = dict(arrays)
                    delta = parameters.pop("delta")
                    filled = None if self._has_quick_way(layout) else models
                    return answer(_game(layout, parameters, filled), delta, self._deviations)

                inputs = jax.tree.map(
                    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (arrays, np.int32(0))
                )
                _PROGRAMS[key] = jax.jit(run).lower(*inputs).compile()
            return _PROGRAMS[key]

    def _keep(self, results, rows: np.ndarray, models: int, found: dict[str, jax.Array]) -> None:
        for name, kind in self.question.outputs.items():
            values = np.asarray(found[name])[: len(rows)]
            target = results[name]
            if kind == "pairs":
                places = target.offsets[rows][:, None] + np.arange(models - 1)
                target.values[places] = values[:, : models - 1]
            else:
                target[rows] = values

    def _explain(self, games: "_Games", block: int, errors: dict[int, str]) -> None:
        """What is wrong with games that cannot be used."""
        for start, part in games.blocks(block):
            rows = games.rows[start : start + block].tolist()
            program = self._program(games.layout, _first_problems, part)
            found = program(part, np.int32(games.layout.models))
            for (name, expected), (bad, index, value) in zip(
                _problem_names(games.layout), (map(np.asarray, x) for x in found), strict=True
            ):
                for place in np.flatnonzero(bad[: len(rows)]).tolist():
                    what = "at index" if name == "rewards" else "for model"
                    got = "it is not" if name in POINTS else f"got {value[place]}"
                    text = f"{name} must be {expected}; {got} {what} {index[place]}"
                    errors.setdefault(rows[place], text)


class _Games(NamedTuple):
    """Games of one layout, filled up to a size.

    Attributes:
      layout: their layout, of the models that they have.
      arrays: parameters `[games, ...]`, and `delta`.
      rows: `[games]` their places in the window.
    """

    layout: Layout
    arrays: dict[str, np.ndarray]
    rows: np.ndarray

    def some(self, mask: np.ndarray) -> "_Games":
        """Those in the mask."""
        arrays = {name: x[mask] for name, x in self.arrays.items()}
        return _Games(self.layout, arrays, self.rows[mask])

    def taken_apart(self, pairs: np.ndarray) -> "_Games":
        """A game for each pair `[pairs, 2]` of models of each game, in order."""
        columns, shapes = {}, []
        for name in self.layout.fields:
            x = self.arrays[name]
            if x.shape[1] == 1:
                columns[name] = np.repeat(x[:, 0], len(pairs))
                shapes.append(())
            else:
                columns[name] = x[:, pairs].reshape(-1, 2, *x.shape[2:])
                shapes.append((2, *x.shape[2:]))
        layout = self.layout._replace(models=2, shapes=tuple(shapes))
        arrays = _filled_up(layout, columns, self.arrays["rewards"].shape[1])
        arrays["delta"] = np.repeat(self.arrays["delta"], len(pairs))
        return _Games(layout, arrays, np.arange(len(arrays["delta"])))

    def blocks(self, length: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """The first game and the parameters of each block."""
        for start in range(0, len(self.rows), length):
            here = slice(start, start + length)
            yield start, {name: _whole_block(x[here], length) for name, x in self.arrays.items()}


@functools.cache
def _pairs(models: int, deviations: str) -> np.ndarray:
    """`[pairs, 2]` a stronger model and the weak one that might pass it; neighbours first."""
    furthest = models - 1 if deviations == "all" else min(models - 1, 1)
    ranks = range(1, furthest + 1)
    pairs = [(weak - apart, weak) for apart in ranks for weak in range(apart, models)]
    return np.array(pairs, int).reshape(-1, 2)


def _whole_block(x: np.ndarray, block: int) -> np.ndarray:
    """The rows, the last one repeated up to `block` rows."""
    if len(x) == block:
        return x
    return x[np.minimum(np.arange(block), len(x) - 1)]


def _filled_up(layout: Layout, columns: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """The parameters `[games, size]`, or `[games, 1]` for limits that all models share."""
    shapes = dict(zip(layout.fields, layout.shapes, strict=True))
    shared = {name for name in ("lower", "upper") if shapes.get(name) == ()}
    keep_shared = len(shared) == 2
    arrays = {}
    for name, values in columns.items():
        if name in POINTS:
            less = name == "cost.breakpoints"
            points = 1 << max(1, (values.shape[-1] + less - 1).bit_length())
            arrays[name] = _points_filled_up(values, layout.models, size, points - less)
        elif name in shared and keep_shared:
            arrays[name] = values[:, None]
        elif values.ndim == 1:
            arrays[name] = np.repeat(values[:, None], size, axis=1)
        else:
            arrays[name] = np.pad(values, ((0, 0), (0, size - layout.models)), mode="edge")
    if size > layout.models and "alpha" in arrays:
        # Lower in the logit by more than the learning rate: further off by more than a factor e.
        step = 1 + np.abs(arrays["beta"][:, -1:])
        arrays["alpha"][:, layout.models :] -= step * np.arange(1, size - layout.models + 1)
    return arrays


def _points_filled_up(values: np.ndarray, models: int, size: int, points: int) -> np.ndarray:
    """Points `[games, size, points]`; NaN after the last."""
    if values.ndim == 2:
        values = np.repeat(values[:, None], models, axis=1)
    values = np.pad(values, ((0, 0), (0, size - models), (0, 0)), mode="edge")
    more = points - values.shape[2]
    return np.pad(values, ((0, 0), (0, 0), (0, more)), constant_values=np.nan)


def _game(layout: Layout, arrays: dict[str, Any], models: jax.Array | None) -> RankingGame:
    """The games; models from `models` on are absent, where it is given."""
    curves = {"power-law": PowerLaw, "tabulated": Tabulated}[layout.curves]
    parts = {name: x for name, x in arrays.items() if "." not in name and name != "rewards"}
    cost = {name[5:]: x for name, x in arrays.items() if name.startswith("cost.")}
    present = None
    if models is not None:
        shape = arrays["rewards"].shape
        present = jax.numpy.broadcast_to(jax.numpy.arange(shape[-1]) < models, shape)
    return RankingGame(curves(**parts), arrays["rewards"], _COSTS[layout.cost](**cost), present)


def _first_problems(game: RankingGame, delta: jax.Array, deviations: Any):
    """For each check of the core: which games fail, the first model and the value there."""
    found = []
    for problem in problems(game):
        bad = jax.numpy.broadcast_to(problem.bad, game.rewards.shape)
        index = jax.numpy.argmax(bad, axis=-1)
        values = jax.numpy.broadcast_to(problem.values, bad.shape)
        value = jax.numpy.take_along_axis(values, index[:, None], axis=-1)[:, 0]
        found.append((jax.numpy.any(bad, axis=-1), index, value))
    return found


@functools.cache
def _problem_names(layout: Layout) -> list[tuple[str, str]]:
    """Name in the record and what is expected, for each check of the core."""
    points = {name for name in layout.fields if name in POINTS}
    arrays = {name: np.zeros((1, 2, 2) if name in points else (1, 2)) for name in layout.fields}
    if "cost.breakpoints" in arrays:
        arrays["cost.breakpoints"] = arrays["cost.breakpoints"][..., :1]
    found = problems(_game(layout, arrays, None))
    names = [(problem.argument, problem.expected) for problem in found]
    of_cost = {name[5:] for name in layout.fields if name.startswith("cost.")}
    return [(f"cost.{name}" if name in of_cost else name, text) for name, text in names]
