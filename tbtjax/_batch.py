"""Working through large batches of games: in chunks that fit the cache, on every device in use.

`map_games(solve, tree)` applies a function of a chunk of games to a whole batch:

- The loop slices chunks out of the inputs and writes results in place: beyond inputs and outputs,
  memory for one chunk is used. The last chunk overlaps the one before it; nothing is padded.
- Where the games' axes are sharded over devices, each device works through its own games and
  nothing is communicated: by a partitioning rule where the compiler chooses shardings (`Auto` mesh
  axes), by `shard_map` where they are part of the types (`Explicit` axes). The partitioning rule
  needs JAX's 64-bit mode to be set for the whole process; under `with jax.enable_x64(...)` every
  device does all the work instead.
"""

import concurrent.futures
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tbtjax._records import batch_shape, event_ndims

# On a CPU a chunk's working arrays should stay in the second-level cache; on an accelerator chunks
# only bound the memory.
_CHUNK_ENTRIES = {"cpu": 20_000, "default": 1 << 24}


def map_games(solve: Callable[[Any], Any], tree: Any, *, entries_per_game: int) -> Any:
    """Applies `solve` to all games of `tree`, chunk by chunk.

    Args:
      solve: function of a record like `tree` whose leaves are `[games, *event]`, or `[1, *event]`
        where shared by all games; returns a pytree of arrays `[games, ...]`. Each game's results
        must not depend on the other games.
      tree: a record; its leaves' leading axes are games.
      entries_per_game: about how many array entries `solve` works on for one game; sets the chunk.

    Returns:
      What `solve` returns, with the games' axes of `tree` in place of `[games]`.
    """
    mesh, specs = _explicit_shardings(tree)
    if mesh is not None:
        leaves, structure = jax.tree.flatten(tree)

        def local(*parts):
            return _map_local(solve, structure.unflatten(parts), entries_per_game)

        games = _games_spec(tree, specs)
        return jax.shard_map(
            local, mesh=mesh, in_specs=tuple(specs), out_specs=games, check_vma=False
        )(*leaves)
    return _map_local(solve, tree, entries_per_game)


def _explicit_shardings(tree: Any) -> tuple[Any, list[PartitionSpec]]:
    """The mesh and the specs of the leaves where sharding is part of their types; else no mesh."""
    mesh, specs = None, []
    for leaf in jax.tree.leaves(tree):
        sharding = jax.typeof(leaf).sharding
        if sharding is None:
            specs.append(PartitionSpec())
            continue
        spec = tuple(sharding.spec)
        specs.append(PartitionSpec(*spec))
        if any(name is not None for name in spec) and any(
            kind == AxisType.Explicit for kind in sharding.mesh.axis_types
        ):
            mesh = sharding.mesh
    return mesh, specs


def _games_spec(tree: Any, specs: list[PartitionSpec]) -> PartitionSpec:
    """The sharding of the games' axes of `tree`; its models axes must not be sharded."""
    shape = batch_shape(tree)
    names: list[Any] = [None] * len(shape)
    for leaf, ndim, spec in zip(
        jax.tree.leaves(tree), jax.tree.leaves(event_ndims(tree)), specs, strict=True
    ):
        games = max(leaf.ndim - ndim, 0)
        padded = (*spec, *(None,) * (leaf.ndim - len(spec)))
        if any(name is not None for name in padded[games:]):
            raise ValueError(
                f"games may be sharded over devices, models may not: got {spec} for an array of "
                f"shape {leaf.shape}, whose last {leaf.ndim - games} axes belong to one game"
            )
        for axis, name in enumerate(padded[:games]):
            names[len(shape) - games + axis] = name or names[len(shape) - games + axis]
    return PartitionSpec(*names)


def _map_local(solve: Callable[[Any], Any], tree: Any, entries_per_game: int) -> Any:
    """`map_games` without explicit shardings: flattens the games' axes and runs the chunks."""
    shape = batch_shape(tree)
    size = math.prod(shape)
    leaves, structure = jax.tree.flatten(tree)
    flat = []
    for leaf, ndim in zip(leaves, jax.tree.leaves(event_ndims(tree)), strict=True):
        games = max(leaf.ndim - ndim, 0)
        event = (1,) * (ndim - leaf.ndim) + leaf.shape[games:]
        if math.prod(leaf.shape[:games]) == 1:
            flat.append(leaf.reshape(1, *event))  # shared by all games, and stored once
        else:
            flat.append(jnp.broadcast_to(leaf, (*shape, *event)).reshape(size, *event))

    def solve_flat(*parts):
        return solve(structure.unflatten(parts))

    result = _chunked(solve_flat, size, entries_per_game)(*flat)
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), result)


def _chunked(solve: Callable[..., Any], size: int, entries_per_game: int) -> Callable[..., Any]:
    """`solve` over `size` games in chunks; its arguments are `[size, *event]` or `[1, *event]`."""

    def run(*parts):
        games = max((x.shape[0] for x in parts), default=1) if size else 0
        if games == 0:
            ones = [jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for x in parts]
            shapes = jax.eval_shape(solve, *ones)
            return jax.tree.map(lambda x: jnp.zeros((0, *x.shape[1:]), x.dtype), shapes)
        chunks = {
            platform: max(entries // entries_per_game, 1)
            for platform, entries in _CHUNK_ENTRIES.items()
        }
        if games <= min(chunks.values()):  # one chunk everywhere: `solve` is traced once
            return solve(*parts)
        return jax.lax.platform_dependent(
            *parts,
            cpu=lambda *x: _run_chunks(solve, x, games, chunks["cpu"]),
            default=lambda *x: _run_chunks(solve, x, games, chunks["default"]),
        )

    # The compiler may split the games over devices: each then runs the chunks of its own.
    split = custom_partitioning(run)

    def partition(mesh, arguments, results):
        first = jax.tree.leaves(results)[0]
        games = (*first.sharding.spec, None)[0]

        def along_games(x, is_split):
            return NamedSharding(mesh, PartitionSpec(games if is_split else None))

        ours = tuple(along_games(x, x.shape[0] == size) for x in arguments)
        return mesh, run, jax.tree.map(lambda x: along_games(x, True), results), ours

    def infer(mesh, arguments, results):
        specs = [x.sharding.spec for x in arguments if x.shape[0] == size and x.sharding]
        games = next((spec[0] for spec in specs if len(spec) and spec[0] is not None), None)
        return jax.tree.map(lambda x: NamedSharding(mesh, PartitionSpec(games)), results)

    def rule(mesh, arguments, results):
        labels = iter(f"x{i}" for i in range(10**6))

        def side(values):
            terms = []
            for x in values:
                lead = "games" if x.shape[:1] == [size] or x.shape[:1] == (size,) else next(labels)
                terms.append(" ".join([lead, *(next(labels) for _ in x.shape[1:])]))
            return ", ".join(terms)

        return f"{side(arguments)} -> {side(jax.tree.leaves(results))}"

    split.def_partition(partition=partition, infer_sharding_from_operands=infer, sharding_rule=rule)

    @jax.custom_batching.custom_vmap
    def apply(*parts):
        # A partitioned function cannot hold arrays of its own, as a user's curves may.
        if size > 1 and _is_mode_global() and not jax.make_jaxpr(run)(*parts).consts:
            return split(*parts)
        return run(*parts)

    @apply.def_vmap
    def apply_to_more(axis_size, is_batched, *parts):
        # Further games under the caller's vmap join the games' axis and its chunks.
        more = axis_size * size

        def join(x, batched):
            if not batched and x.shape[0] == 1:
                return x
            own = x if batched else x[None]
            return jnp.broadcast_to(own, (axis_size, size, *own.shape[2:])).reshape(
                more, *own.shape[2:]
            )

        joined = [join(x, batched) for x, batched in zip(parts, is_batched, strict=True)]
        result = _chunked(solve, more, entries_per_game)(*joined)
        result = jax.tree.map(lambda x: x.reshape(axis_size, size, *x.shape[1:]), result)
        return result, jax.tree.map(lambda _: True, result)

    return apply


def solve_again(solve: Callable[[Any], Any], tree: Any, again: jax.Array, results: Any) -> Any:
    """`results` with those of some games of a chunk replaced by what `solve` says.

    The games are gathered, a block at a time: a costly road is taken for the games that need it
    alone, and for none of the others.

    Args:
      solve: as in `map_games`.
      tree: the chunk; leaves `[games or 1, *event]`.
      again: `[games]` bool.
      results: pytree of arrays `[games, ...]` like those of `solve`.

    Returns:
      The results of all games.
    """
    games = again.shape[0]
    block = min(games, max(16, games // 128))
    (order,) = jnp.nonzero(again, size=-(-games // block) * block, fill_value=games)
    blocks = -(-jnp.sum(again) // block)

    def step(i, results):
        index = jax.lax.dynamic_slice_in_dim(order, i * block, block)
        part = jax.tree.map(
            lambda x: x if x.shape[0] == 1 else x[jnp.minimum(index, games - 1)], tree
        )
        new = solve(part)
        return jax.tree.map(
            lambda old, x: old.at[index].set(
                jnp.broadcast_to(x, (block, *x.shape[1:])), mode="drop"
            ),
            results,
            new,
        )

    return jax.lax.fori_loop(0, blocks, step, results)


def _is_mode_global() -> bool:
    """Whether JAX's 64-bit mode is the same in a new thread.

    The compiler splits programs over devices in a thread of its own. A mode set for one thread
    alone (`with jax.enable_x64(True)`) would be lost there.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(jnp.result_type, float).result()
    return elsewhere == jnp.result_type(float)


def _run_chunks(solve: Callable[..., Any], parts: Any, games: int, chunk: int) -> Any:
    """Solves `games` games, `chunk` at a time, writing results in place."""
    if games <= chunk:
        return solve(*parts)
    solve = jax.jit(solve)  # traced once, for the shapes and for the loop

    def slice_out(x, start):
        return x if x.shape[0] == 1 else jax.lax.dynamic_slice_in_dim(x, start, chunk)

    def step(i, results):
        # The last chunk starts early enough to be whole; the games it shares with the one before
        # it get the same results twice.
        start = jnp.minimum(i * chunk, games - chunk)
        new = solve(*(slice_out(x, start) for x in parts))
        return jax.tree.map(
            lambda all_games, x: jax.lax.dynamic_update_slice_in_dim(all_games, x, start, 0),
            results,
            new,
        )

    shapes = jax.eval_shape(lambda *x: solve(*(slice_out(y, 0) for y in x)), *parts)
    # Inside the caller's own shard_map the loop's carry must vary over the devices that the inputs
    # vary over: this False does, and the compiler folds it away.
    false = functools.reduce(jnp.logical_or, [jnp.isnan(x.ravel()[0]) for x in parts]) & False

    def allocate(x):
        return jnp.broadcast_to(false.astype(x.dtype), (games, *x.shape[1:]))

    empty = jax.tree.map(allocate, shapes)
    return jax.lax.fori_loop(0, -(-games // chunk), step, empty)
