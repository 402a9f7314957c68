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
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from tbtjax.costs import LinearCost, PiecewiseLinearCost, PowerCost, QuadraticCost
from tbtjax.curves import PowerLaw, Tabulated
from tbtjax.effort import just_overtake_effort
from tbtjax.equilibrium import is_zero_effort_pne
from tbtjax.game import RankingGame, is_valid, problems
from tbtjax.stream.blocks import (
    Games,
    block_of,
    count_pairs,
    filled_up,
    most_games,
    pairs_of,
    size_of,
)
from tbtjax.stream.records import POINTS, Layout, Stack
from tbtjax.threshold import (
    Status,
    complete_threshold,
    fast_threshold,
    rule_of_thumb,
    stabilizing_threshold,
)

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
        size = size_of(models)
        block = block_of(size)
        arrays = filled_up(stack.layout, columns, size) | {"delta": delta}
        games = Games(stack.layout, arrays, rows)
        if self._has_quick_way(stack.layout) and size > 1:
            games = games.some(~self._answer_by(self.question.quick, games, block, results))
            pairs = len(games.rows) * count_pairs(models, self._deviations)
            if 0 < pairs <= max(block, len(rows) // 4):
                games = games.some(~self._answer_pair_by_pair(games, block, results))
            block = max(1, most_games(size) // _LEFT)
        good = self._answer_by(self.question.answer, games, block, results)
        self._explain(games.some(~good), block, errors)

    def _has_quick_way(self, layout: Layout) -> bool:
        """Whether most games are answered quickly; what fills them up then are models."""
        return self.question.quick is not None and layout.curves == "power-law"

    def _answer_by(self, answer: Any, games: Games, block: int, results) -> np.ndarray:
        """Keeps the answers of `answer`, and gives its mask of games."""
        mask = np.ones(len(games.rows), bool)
        models = games.layout.models
        for start, part in games.blocks(block):
            found, good = self._program(games.layout, answer, part)(part, np.int32(models))
            rows = games.rows[start : start + block]
            self._keep(results, rows, models, found)
            mask[start : start + block] = np.asarray(good)[: len(rows)]
        return mask

    def _answer_pair_by_pair(self, games: Games, block: int, results) -> np.ndarray:
        """Keeps thresholds that are the largest of those of pairs alone, and gives the mask.

        Where every pair's stable levels are a ray, so are the game's: from the largest start on.
        """
        pairs = pairs_of(games.layout.models, self._deviations)
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

    def _explain(self, games: Games, block: int, errors: dict[int, str]) -> None:
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
