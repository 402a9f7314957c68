"""The computation: statistics of all draws for some cells, on all devices of a process.

Draws come in blocks of one fixed size, blocks in groups. The statistics of a block are those of
its games; a device merges the blocks of a group in order, the host the groups in order. An item is
one cell with one group, items are sharded over the devices, and each is computed in the same way
wherever it is: so chunks, devices and cluster change no bit of the result.

Everything jitted is in this importable module: a worker of a cluster compiles it once.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tbtjax.effort import just_overtake_effort
from tbtjax.equilibrium import is_zero_effort_pne
from tbtjax.study.config import Sweep
from tbtjax.study.distributions import Constant
from tbtjax.study.prior import Prior, Rewards
from tbtjax.study.sampling import assemble, constants, draw_block, unit_rewards
from tbtjax.study.statistics import (
    GAP_BINS,
    LEVEL_BINS,
    empty,
    merge,
    moments,
    summary,
)
from tbtjax.threshold import Status, rule_of_thumb, stabilizing_threshold

#: Draws in a block, and blocks in a group at most.
_BLOCK, _GROUP = 1000, 64
#: Memory for draws, in bytes, and for the results of one call, on all devices together.
_DRAWS_MEMORY, _RESULTS_MEMORY = 1 << 28, 1 << 28


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the draws are cut; it depends on their number alone.

    Attributes:
      draws: games per cell.
      block: draws in a block.
      blocks: blocks in a group.
      groups: number of groups; the last one may hold draws beyond `draws`, which do not count.
    """

    draws: int
    block: int
    blocks: int
    groups: int

    @property
    def group_size(self) -> int:
        """Draws in a group."""
        return self.block * self.blocks


def layout_of(draws: int) -> Layout:
    """The layout of a number of draws."""
    block = min(_BLOCK, draws)
    count = math.ceil(draws / block)
    groups = math.ceil(count / _GROUP)
    return Layout(draws, block, math.ceil(count / groups), groups)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a compiled program depends on besides shapes.

    Attributes:
      prior: the structure of the prior: what is constant comes as an argument.
      quantities: what is computed.
      levels: tune-before-test levels.
      deviations: "all" or "adjacent".
      raw: whether each draw's results are kept.
      is_regular: whether the games' stabilizing levels are rays.
      layout: how the draws are cut.
      dtype: of the computation.
    """

    prior: Prior
    quantities: tuple[str, ...]
    levels: tuple[float, ...]
    deviations: Any
    raw: bool
    is_regular: bool
    layout: Layout
    dtype: Any


def sensitivity_parameters(prior: Prior) -> tuple[str, ...]:
    """The parameters that Δ* is differentiated in, in order."""
    scalars = [f"rewards.{name}" for name in prior.rewards.scalars if name != "k"]
    scalars += [f"cost.{name}" for name in prior.cost.scalars]
    models = range(1, prior.most_models + 1)
    capability = [f"capability.{r}" for r in models]
    return (*scalars, *capability, *(f"learning_rate.{r}" for r in models), "lower", "upper")


def chunk_statistics(
    sweep: Sweep, cells: dict[str, np.ndarray], devices: Any = None
) -> dict[str, Any]:
    """Statistics of each cell's games.

    Args:
      sweep: the sweep, with the fixed values of the chunk in place.
      cells: `[cells]` values of rewards' and costs' numbers; one cell if empty.
      devices: the devices to use; all of the default kind if None. 64-bit mode must be on for
        float64.

    Returns:
      NumPy statistics by name, cells on the first axis: "delta", "log_delta", "status", "pair",
      "stable", "rule", "rule_below", "rule_known", "sensitivity", "log_sensitivity", as far as
      asked for; "overtake" without a cell's axis; and raw "raw_delta", "raw_status" `[cells,
      draws]`.
    """
    devices = tuple(devices or jax.devices())
    results: dict[str, Any] = {}
    quantities = tuple(sorted(set(sweep.quantities) - {"histogram", "overtake"}))
    if quantities or sweep.raw or "histogram" in sweep.quantities:
        results |= _run(sweep, cells, quantities, sweep.raw, devices)
    if "overtake" in sweep.quantities:
        found = _run(sweep, {}, ("overtake",), False, devices)
        results["overtake"] = jax.tree.map(lambda x: x[0], found["overtake"])
    return results


def _run(sweep, cells, quantities, raw, devices) -> dict[str, Any]:
    dtype = np.dtype(sweep.dtype)
    prior = sweep.games
    layout = layout_of(sweep.draws)
    structure, fixed = _structure(prior, set(cells), quantities, dtype)
    recipe = Recipe(
        prior=structure,
        quantities=quantities,
        levels=sweep.levels,
        deviations=sweep.deviations,
        raw=raw,
        is_regular=prior.is_regular,
        layout=layout,
        dtype=dtype,
    )
    count = len(next(iter(cells.values()))) if cells else 1
    per_cell = {name: np.asarray(x, dtype)[:, None] for name, x in cells.items()}
    shared = {name: x for name, x in fixed.items() if name not in per_cell}
    program, place = _program(recipe, devices)
    waves = _waves(recipe, layout, count)
    total = None
    for first in range(0, layout.groups, waves):
        groups = range(first, min(first + waves, layout.groups))
        structure: Any = _draw_structure(prior)
        draws = _draws(sweep.seed, structure, layout, groups, dtype, devices)
        items = [(cell, group) for cell in range(count) for group in range(len(groups))]
        # Every device gets as many, and two at least: a loop over one is no loop to the compiler,
        # which may then round elsewhere. What is computed twice is dropped.
        wanted = max(2, -(-len(items) // len(devices))) * len(devices)
        items += items[-1:] * (wanted - len(items))
        index = np.asarray(items, np.int32)
        values = {name: place(x[index[:, 0]]) for name, x in per_cell.items()}
        found = program(draws, shared, values, place(index[:, 1]), np.int32(first))
        held = len(groups)
        found = jax.tree.map(
            lambda x, n=held: np.asarray(x)[: count * n].reshape(count, n, *x.shape[1:]), found
        )
        for group in range(held):
            part = _widened(jax.tree.map(lambda x, g=group: x[:, g], found))
            total = part if total is None else _merged(total, part)
    assert total is not None
    return {
        name: x[:, : layout.draws] if name.startswith("raw_") else x for name, x in total.items()
    }


def _widened(part: Any) -> Any:
    """Counts of groups as 64-bit integers, numbers as float64."""

    def widen(x):
        if x.dtype == np.int32:
            return x.astype(np.int64)
        return x.astype(np.float64) if x.dtype == np.float32 else x

    return {k: x if k.startswith("raw_") else jax.tree.map(widen, x) for k, x in part.items()}


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            name: np.concatenate([x, second[name]], axis=1)
            if name.startswith("raw_")
            else merge(x, second[name])
            for name, x in first.items()
        }


def _waves(recipe: Recipe, layout: Layout, cells: int) -> int:
    """Groups of draws held at a time: as many as the memory set aside allows."""
    n = recipe.prior.most_models
    draws_bytes = layout.group_size * (2 * n + 8) * recipe.dtype.itemsize
    results = 4 * (LEVEL_BINS.count + 2) * (2 + len(recipe.levels))
    if recipe.raw:
        results += layout.group_size * (recipe.dtype.itemsize + 4)
    most = min(_DRAWS_MEMORY // draws_bytes, _RESULTS_MEMORY // (results * cells))
    return max(1, min(most, layout.groups))


def _structure(prior: Prior, cells: set[str], quantities, dtype) -> tuple[Prior, dict[str, Any]]:
    """The prior without its numbers, and the numbers: variants then share a compiled program."""
    n = prior.most_models
    fixed: dict[str, Any] = constants(prior, dtype)
    drawn = {f"rewards.{x}" for x in prior.rewards.scalars} - set(fixed) - {"rewards.prize"}
    varies = {name for name in cells if name != "rewards.prize" and name.startswith("rewards.")}
    rewards = prior.rewards
    if not (drawn or varies or not isinstance(prior.count, int | None)) and (
        "sensitivity" not in quantities
    ):
        unit = np.asarray(unit_rewards(prior, {}, fixed, dtype))
        used_up = [f"rewards.{name}" for name in ("k", "decay")]
        fixed = {name: x for name, x in fixed.items() if name not in used_up}
        fixed["rewards.unit"] = unit
        rewards = Rewards(scheme="values", values=(0.0,) * n)
    else:
        one = {
            name: Constant(value=1.0)
            for name in rewards.scalars
            if isinstance(getattr(rewards, name), Constant)
        }
        rewards = rewards.model_copy(update=one)
    one = {
        name: Constant(value=1.0)
        for name in prior.cost.scalars
        if isinstance(getattr(prior.cost, name), Constant)
    }
    return (
        prior.model_copy(
            update={
                "count": prior.count if not isinstance(prior.count, int | None) else n,
                "capability": Constant(value=0.0),
                "learning_rate": Constant(value=1.0),
                "learning_rate_order": None,
                "lower": Constant(value=0.0),
                "upper": Constant(value=1.0),
                "population": None,
                "rewards": rewards,
                "cost": prior.cost.model_copy(update=one),
            }
        ),
        fixed,
    )


def _draw_structure(prior: Prior) -> Prior:
    """The prior with the constants that no draw depends on taken out."""

    def without(part, names):
        one = Constant(value=1.0)
        constant = [x for x in names if isinstance(getattr(part, x), Constant)]
        return part.model_copy(update=dict.fromkeys(constant, one))

    rewards = without(prior.rewards, prior.rewards.scalars)
    if all(isinstance(getattr(rewards, x), Constant) for x in rewards.scalars):
        rewards = Rewards(scheme="winner-take-all")
    cost = without(prior.cost, prior.cost.scalars)
    return prior.model_copy(update={"rewards": rewards, "cost": cost})


@functools.lru_cache(maxsize=2)
def _draws(seed: int, prior: Any, layout: Layout, groups: range, dtype: Any, devices: Any):
    """Draws of some groups, `[groups, blocks, block, ...]` each, on every device."""
    key = jax.random.key(seed)
    size = layout.group_size
    parts = [draw_block(key, prior, np.uint32(g * size), size, dtype) for g in groups]

    def stack(*x):
        whole = jnp.stack(x)
        return whole.reshape(len(parts), layout.blocks, layout.block, *whole.shape[2:])

    everywhere = NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec())
    return jax.device_put(jax.tree.map(stack, *parts), everywhere)


def drawn_models(sweep: Sweep) -> dict[str, np.ndarray]:
    """What was drawn of each game's models, `[draws, n]` each: "alpha", "beta"."""
    layout = layout_of(sweep.draws)
    dtype = np.dtype(sweep.dtype)
    size = layout.group_size
    key, prior = jax.random.key(sweep.seed), _draw_structure(sweep.games)
    parts = [
        jax.tree.map(np.asarray, draw_block(key, prior, np.uint32(g * size), size, dtype))
        for g in range(layout.groups)
    ]
    return {
        name: np.concatenate([part[name] for part in parts])[: sweep.draws]
        for name in ("alpha", "beta")
    }


@functools.lru_cache(maxsize=64)
def _program(recipe: Recipe, devices: Any):
    """The compiled program of a recipe, and what puts items onto the devices."""
    mesh = Mesh(np.array(devices), ("devices",))
    split, everywhere = PartitionSpec("devices"), PartitionSpec()
    one_by_one = devices[0].platform == "cpu"

    def local(draws, shared, cells, group, first):
        def item(x):
            values, g = x
            return _item(recipe, draws, {**shared, **values}, g, first + g)

        return (jax.lax.map if one_by_one else _all_at_once)(item, (cells, group))

    program = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(everywhere, everywhere, split, split, everywhere),
        out_specs=split,
        check_vma=False,
    )

    def place(x):
        return jax.device_put(x, NamedSharding(mesh, split))

    return jax.jit(program), place


def _all_at_once(item, items):
    return jax.vmap(item)(items)


def _item(recipe: Recipe, draws, cell, place, group):
    """Statistics of one cell over one group of draws, block by block."""
    layout = recipe.layout
    mine = jax.tree.map(lambda x: x[place], draws)
    start = group * layout.group_size + jnp.arange(layout.blocks) * layout.block

    def block(total, x):
        games, first = x
        counted = first + jnp.arange(layout.block) < layout.draws
        found, raw = _block(recipe, games, cell, counted)
        return merge(total, found), raw

    shapes, _ = jax.eval_shape(
        lambda g: _block(recipe, g, cell, jnp.ones(layout.block, bool)),
        jax.tree.map(lambda x: x[0], mine),
    )
    total, raw = jax.lax.scan(block, empty(shapes), (mine, start))
    return total | {name: x.reshape(-1) for name, x in raw.items()}


def _block(recipe: Recipe, draws, cell, counted):
    """Statistics of one block of draws, and each draw's results."""
    if recipe.quantities == ("overtake",):
        return {"overtake": _overtake(recipe, draws, cell, counted)}, {}
    wanted = recipe.quantities
    if "sensitivity" in wanted:
        threshold, slopes = _differentiated(recipe, draws, cell, counted)
    else:
        threshold, slopes = _threshold(recipe, draws, cell), None
    delta, status = threshold.delta, threshold.status
    y = jnp.log1p(delta)
    usable = counted & (status < Status.NOT_CONVERGED)

    def counts(x, values):
        return jnp.sum((x == values[:, None]) & counted, axis=-1, dtype=jnp.int32)

    found: dict[str, Any] = {
        "delta": moments(delta, counted),
        "log_delta": summary(y, counted, LEVEL_BINS),
        "status": counts(status, jnp.arange(len(Status))),
    }
    if "binding" in wanted:
        found["pair"] = counts(
            jnp.where(usable, jnp.maximum(threshold.pair, 0), -1),
            jnp.arange(recipe.prior.most_models),
        )
    if "equilibrium" in wanted:
        found["stable"] = _stable(recipe, draws, cell, delta, usable)
    if "rule-of-thumb" in wanted:
        rule = rule_of_thumb(assemble(recipe.prior, draws, cell, recipe.dtype)).delta
        rule = jnp.max(rule, axis=-1)
        both = jnp.isfinite(rule) & jnp.isfinite(delta)
        gap = jnp.log1p(jnp.where(both, rule, 0)) - jnp.log1p(jnp.where(both, delta, 0))
        found["rule"] = summary(gap, usable & both, GAP_BINS)
        known = usable & ~jnp.isnan(rule)
        found["rule_known"] = jnp.sum(known, dtype=jnp.int32)
        found["rule_below"] = jnp.sum(known & (rule < delta), dtype=jnp.int32)
    if slopes is not None:
        finite = jnp.isfinite(delta)[:, None]
        relative = slopes / jnp.where(finite, 1 + delta[:, None], 1)
        finite = finite & usable[:, None]
        found["sensitivity"] = moments(slopes, finite)
        found["log_sensitivity"] = moments(relative, finite)
    raw = {"raw_delta": delta, "raw_status": status} if recipe.raw else {}
    return found, raw


def _threshold(recipe: Recipe, draws, cell):
    game = assemble(recipe.prior, draws, cell, recipe.dtype)
    return stabilizing_threshold(game, recipe.deviations)


def _differentiated(recipe: Recipe, draws, cell, counted):
    """Thresholds, and their derivatives `[draws, parameters]`."""
    scalars = [
        name
        for name in sensitivity_parameters(recipe.prior)
        if name.startswith(("rewards.", "cost."))
    ]
    size = len(counted)
    names = [*scalars, "lower", "upper"]
    given = {name: cell[name] if name in cell else draws[name] for name in names}
    point = {
        name: jnp.broadcast_to(x, (size, x.shape[-1] if x.ndim else 1)) for name, x in given.items()
    } | {name: draws[name] for name in ("alpha", "beta")}

    def total(point):
        rest = {name: x for name, x in cell.items() if name not in point}
        threshold = _threshold(recipe, {**draws, **point}, rest)
        finite = counted & jnp.isfinite(threshold.delta)
        return jnp.sum(jnp.where(finite, threshold.delta, 0)), threshold

    (_, threshold), slopes = jax.value_and_grad(total, has_aux=True)(point)

    def column(name):
        # A number of each model's own counts as one that moves them all.
        return jnp.sum(slopes[name], axis=-1, keepdims=True)

    columns = [*(column(name) for name in scalars), slopes["alpha"], slopes["beta"]]
    return threshold, jnp.concatenate([*columns, column("lower"), column("upper")], axis=-1)


def _stable(recipe: Recipe, draws, cell, delta, usable):
    """`[levels]` number of games with an equilibrium."""
    levels = jnp.asarray(recipe.levels, recipe.dtype)
    if recipe.is_regular:
        # The stabilizing levels are the ray from Δ*, and the ranking is right everywhere.
        return jnp.sum((delta <= levels[:, None]) & usable, axis=-1, dtype=jnp.int32)
    game = assemble(recipe.prior, draws, cell, recipe.dtype)

    def at(level):
        stable = is_zero_effort_pne(game, level, recipe.deviations)
        return jnp.sum(stable & usable, dtype=jnp.int32)

    return jax.lax.map(at, levels)


def _overtake(recipe: Recipe, draws, cell, counted):
    """Summary `[levels, n − 1]` of log(1 + just-overtake effort)."""
    game = assemble(recipe.prior, draws, cell, recipe.dtype)
    present = True
    if game.present is not None:
        present = game.present[:, 1:]

    def at(level):
        effort = jnp.log1p(just_overtake_effort(game, level))
        return summary(
            effort, jnp.broadcast_to(counted[:, None] & present, effort.shape), LEVEL_BINS
        )

    return jax.lax.map(at, jnp.asarray(recipe.levels, recipe.dtype))
