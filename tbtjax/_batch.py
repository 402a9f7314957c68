"""Working through large batches of games: in chunks that fit the cache, on every device in use.

`map_games(roads, tree)` applies functions of a chunk of games to a whole batch:

- The loop slices chunks out of the inputs and writes results in place: beyond inputs and outputs,
  memory for one chunk is used. The last chunk overlaps the one before it; nothing is padded.
- Costlier roads are taken for the games that need them alone, after the others, gathered from all
  chunks.
- Where the games' axes are sharded over devices, each device works through its own games and
  nothing is communicated: by a partitioning rule where the compiler chooses shardings (`Auto` mesh
  axes), by `shard_map` where they are part of the types (`Explicit` axes). The partitioning rule
  needs JAX's 64-bit mode to be set for the whole process; under `with jax.enable_x64(...)` every
  device does all the work instead.
"""

import concurrent.futures
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tbtjax._records import batch_shape, event_ndims


class _Sizes(NamedTuple):
    """What is worked on at once.

    Attributes:
      entries: array entries of a chunk of games.
      own: of these a game has so many besides those that a road says.
      lanes: what is worked on at once is multiples of so many games.
      again: the second road takes a chunk, but no larger a part of all games than this: else most
        of a chunk would be idle in small batches.
      rest: the costly road takes so large a part of a chunk.
    """

    entries: int
    own: int
    lanes: int
    again: int
    rest: int

    def chunk(self, entries_per_game: int) -> int:
        """How many games are solved at once."""
        return self.whole(max(self.entries // (entries_per_game + self.own), 1))

    def whole(self, games: int) -> int:
        """So many games, or a few less, in whole lanes."""
        return games - games % self.lanes if games > self.lanes else games


# On a CPU numbers of one game each should stay in the first-level cache and those of models in the
# second, in whole vectors of games. On an accelerator chunks bound the memory, and a turn of a loop
# is launches of kernels, however few games it is for.
_SIZES = {"cpu": _Sizes(48_000, 48, 16, 16, 16), "default": _Sizes(1 << 23, 0, 1, 16, 128)}
# So few games take the costly road at once: more roads would take longer to compile, and to run.
# Their last digits may be others than in a larger batch, as may those of a batch of so few chunks
# that the second road takes it as one.
_FEW = 16
_FEW_CHUNKS = 3


class Roads(NamedTuple):
    """How a chunk of games is solved.

    The functions take a record whose leaves are `[games, *event]`, or `[1, *event]` where shared
    by all games. Each game's results must not depend on the other games.

    Attributes:
      first: returns a pytree of arrays `[games, ...]`; and where there is a `rest`, besides, which
        games it leaves open, `[games]` bool; where there is a `check`, a pair of these: which games
        it leaves open, and which it leaves open unless they pass.
      rest: a costlier road, taken for the open games alone: they are gathered from many chunks.
        Returns results like those of `first`.
      again: between the two: leaves fewer games open than `first` does and takes longer. Taken for
        what `first` leaves open; and in its place where all games are few chunks, as one road less
        compiles faster. Returns the same two.
      check: returns which games pass, `[games]` bool. Called only for chunks with games that need
        it.
      on_accelerator: what stands in for `first` and `again` on an accelerator; None: they do.
      more_entries: how many times as many array entries as `first` the others work on for a game.
    """

    first: Callable[..., Any]
    rest: Callable[..., Any] | None = None
    again: Callable[..., Any] | None = None
    check: Callable[..., Any] | None = None
    on_accelerator: Callable[..., Any] | None = None
    more_entries: int = 1


def chunk_size(chunk: Any) -> int:
    """Number of games in a chunk, whose leaves are `[games, *event]` or `[1, *event]`."""
    return max(x.shape[0] for x in jax.tree.leaves(chunk))


def map_games(roads: Roads, tree: Any, *, entries_per_game: int) -> Any:
    """Solves all games of `tree`, chunk by chunk.

    Args:
      roads: how.
      tree: a record; its leaves' leading axes are games.
      entries_per_game: about how many array entries a road works on for one game; sets the chunk.

    Returns:
      The roads' results, with the games' axes of `tree` in place of `[games]`.
    """
    mesh, specs = _explicit_shardings(tree)
    total = math.prod(batch_shape(tree))
    if mesh is not None:
        leaves, structure = jax.tree.flatten(tree)

        def local(*parts):
            return _map_local(roads, structure.unflatten(parts), entries_per_game, total)

        games = _games_spec(tree, specs)
        return jax.shard_map(
            local, mesh=mesh, in_specs=tuple(specs), out_specs=games, check_vma=False
        )(*leaves)
    return _map_local(roads, tree, entries_per_game, total)


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


def _map_local(roads: Roads, tree: Any, entries_per_game: int, total: int) -> Any:
    """`map_games` without explicit shardings: flattens the games' axes and runs the chunks.

    `total` is how many games there are on all devices.
    """
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

    def of_parts(road):
        return road and (lambda *parts: road(structure.unflatten(parts)))

    roads = roads._replace(
        first=of_parts(roads.first),
        rest=of_parts(roads.rest),
        again=of_parts(roads.again),
        check=of_parts(roads.check),
        on_accelerator=of_parts(roads.on_accelerator),
    )
    result = _chunked(roads, size, entries_per_game, total)(*flat)
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), result)


def _chunked(roads: Roads, size: int, entries_per_game: int, total: int) -> Callable[..., Any]:
    """`size` games in chunks; the roads' arguments are `[size, *event]` or `[1, *event]`.

    Which roads are taken depends on `total`, not on how many of these games a device has.
    """

    def run(*parts):
        games = max((x.shape[0] for x in parts), default=1) if size else 0
        if games == 0:
            ones = [jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for x in parts]
            shapes = jax.eval_shape(roads.rest or roads.first, *ones)
            return jax.tree.map(lambda x: jnp.zeros((0, *x.shape[1:]), x.dtype), shapes)
        chunks = {platform: sizes.chunk(entries_per_game) for platform, sizes in _SIZES.items()}

        def run_as(platform):
            sizes, chunk = _SIZES[platform], chunks[platform]
            smaller = sizes.whole(max(chunk // roads.more_entries, 1))
            first, rest, again, check = roads.first, roads.rest, roads.again, roads.check
            if total <= _FEW and rest is not None:
                first, rest, again, check, chunk = rest, None, None, None, smaller
            elif platform != "cpu" and roads.on_accelerator is not None:
                first, again, check, chunk = roads.on_accelerator, None, None, smaller
            elif total <= max(chunk, _FEW_CHUNKS * smaller) and again is not None:
                first, again, check, chunk = again, None, None, _FEW_CHUNKS * smaller
            chunk = min(chunk, games)
            later = [
                (road, min(games, max(_FEW, block)))
                for road, block in (
                    (again, min(smaller, games // sizes.again)),
                    (rest, sizes.whole(smaller // sizes.rest)),
                )
                if road is not None
            ]
            return lambda *x: _run_chunks(first, check, later, x, games, chunk)

        # Where the same is done everywhere the roads are traced once; so they are for few games
        # where there is no accelerator.
        on_cpu = jax.default_backend() == "cpu"
        few = min(chunks.values()) * (_FEW_CHUNKS if on_cpu else 1)
        if games <= few and (on_cpu or roads.on_accelerator is None):
            return run_as("cpu")(*parts)
        return jax.lax.platform_dependent(*parts, cpu=run_as("cpu"), default=run_as("default"))

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
        result = _chunked(roads, more, entries_per_game, axis_size * total)(*joined)
        result = jax.tree.map(lambda x: x.reshape(axis_size, size, *x.shape[1:]), result)
        return result, jax.tree.map(lambda _: True, result)

    return apply


def _is_mode_global() -> bool:
    """Whether JAX's 64-bit mode is the same in a new thread.

    The compiler splits programs over devices in a thread of its own. A mode set for one thread
    alone (`with jax.enable_x64(True)`) would be lost there.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(jnp.result_type, float).result()
    return elsewhere == jnp.result_type(float)


def _run_chunks(
    first: Callable[..., Any],
    check: Callable[..., Any] | None,
    later: Sequence[tuple[Callable[..., Any], int]],
    parts: Any,
    games: int,
    chunk: int,
) -> Any:
    """Solves `games` games, `chunk` at a time, writing results in place.

    Args:
      first: as in `Roads`.
      check: the same.
      later: the roads for what is left open, and how many games each takes at once. All but the
        last say again what they leave open.
      parts: the games' arrays.
      games: how many there are.
      chunk: how many are solved at once.
    """
    chunks = -(-games // chunk)
    if chunks == 1 and not later:
        return first(*parts)
    # Traced once, for the shapes and for the loop.
    first, later = jax.jit(first), [(jax.jit(road), block) for road, block in later]
    # Inside the caller's own shard_map what a loop carries must vary over the devices that the
    # inputs vary over: this False does, and the compiler folds it away.
    false = functools.reduce(jnp.logical_or, [jnp.isnan(x.ravel()[0]) for x in parts]) & False

    def slice_out(x, start):
        return x if x.shape[0] == 1 else jax.lax.dynamic_slice_in_dim(x, start, chunk)

    def solve(start) -> Any:
        new = first(*(slice_out(x, start) for x in parts))
        if not later:
            return new, None
        if check is None:
            return new
        new, (is_open, unless) = new
        passes = check

        def checked():
            # Slices of its own: a copy of those above would be made for it, needed or not.
            return is_open | (unless & ~passes(*(slice_out(x, start) for x in parts)))

        return new, jax.lax.cond(jnp.any(unless & ~is_open), checked, lambda: is_open)

    def step(i, carry):
        # The last chunk starts early enough to be whole; the games it shares with the one before
        # it get the same results twice.
        start = jnp.minimum(i * chunk, games - chunk)
        new, is_open = solve(start)
        results, waiting = carry
        if chunks == 1:
            results = jax.tree.map(lambda x: jnp.where(false, jnp.zeros_like(x), x), new)
        else:
            results = jax.tree.map(
                lambda whole, x: jax.lax.dynamic_update_slice_in_dim(whole, x, start, 0),
                results,
                new,
            )
        if waiting is not None:
            waiting = waiting.joined(is_open, start + jnp.arange(chunk, dtype=jnp.int32))
        return results, waiting

    waiting = None
    if later:
        room = chunks * chunk + max(block for _, block in later)
        waiting = _Waiting.nobody(room, false)
    if chunks == 1:
        results, waiting = step(0, (None, waiting))
    else:
        shapes, _ = jax.eval_shape(solve, 0)
        empty = jax.tree.map(
            lambda x: jnp.broadcast_to(false.astype(x.dtype), (games, *x.shape[1:])), shapes
        )
        results, waiting = jax.lax.fori_loop(0, chunks, step, (empty, waiting))
    if waiting is None:
        return results
    # Not within the loop over chunks: the compiler drops from a loop results that nobody uses, but
    # not through a loop inside it.
    for i, (road, block) in enumerate(later):
        is_last = i == len(later) - 1
        results, waiting = _work_off(road, block, is_last, results, waiting, parts, games)
    return results


class _Waiting(NamedTuple):
    """The games that a road leaves open, gathered from all chunks.

    Attributes:
      line: `[room]` int32 their indices; what is behind them means nothing.
      held: how many they are.
    """

    line: jax.Array
    held: jax.Array

    @classmethod
    def nobody(cls, room: int, false: jax.Array) -> "_Waiting":
        none = false.astype(jnp.int32)
        return cls(jnp.broadcast_to(none, (room,)), none)

    def joined(self, is_open: jax.Array, index: jax.Array) -> "_Waiting":
        """With the open ones of some games, `[some]` each: which are, and the games' indices."""
        number = _running_count(is_open)
        place = jnp.where(is_open, self.held + number - 1, len(self.line))
        line = self.line.at[place].set(index.astype(self.line.dtype), mode="drop")
        return _Waiting(line, self.held + number[-1])


def _running_count(mask: jax.Array) -> jax.Array:
    """`[size]` int32: how many are true up to each.

    Products with triangles of ones, within rows and of the rows' sums: on a CPU they take half as
    long as cumulative sums.
    """
    size = len(mask)
    row = 1 << math.ceil(math.log2(size) / 2)
    counts = jnp.pad(mask, (0, -size % row)).reshape(-1, row).astype(jnp.float32)
    product = functools.partial(jnp.dot, precision="highest")  # float32 has all numbers up to 2^24
    within = product(counts, jnp.triu(jnp.ones((row, row), jnp.float32)))
    rows = len(counts)
    before = product(within[:, -1], jnp.triu(jnp.ones((rows, rows), jnp.float32), 1))
    return (within + before[:, None]).reshape(-1)[:size].astype(jnp.int32)


def _work_off(
    road: Callable[..., Any],
    block: int,
    is_last: bool,
    results: Any,
    waiting: _Waiting,
    parts: Any,
    games: int,
) -> tuple[Any, _Waiting]:
    """Solves those that wait, a block at a time; and who waits then."""

    def some(carry):
        _, done, _ = carry
        return done < waiting.held

    def solve(carry):
        results, done, still = carry
        index = jax.lax.dynamic_slice_in_dim(waiting.line, done, block)
        real = jnp.arange(block) < waiting.held - done
        new = road(*(x if x.shape[0] == 1 else x[jnp.where(real, index, 0)] for x in parts))
        if not is_last:
            new, is_open = new
            still = still.joined(is_open & real, index)
        results = jax.tree.map(
            lambda whole, x: whole.at[jnp.where(real, index, games)].set(
                jnp.broadcast_to(x, (block, *x.shape[1:])), mode="drop"
            ),
            results,
            new,
        )
        return results, done + block, still

    # A line of its own: one that is read and written would be copied every time.
    nobody = _Waiting(0 * waiting.line[: 0 if is_last else None], 0 * waiting.held)
    results, _, still = jax.lax.while_loop(some, solve, (results, nobody.held, nobody))
    return results, still
