"""The rows of the benchmark: which contestants run on which games, and what they must answer."""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import ours, peers
from benchmarks.timing import Contestant
from benchmarks.workloads import Games, baseline_catch_up, draw_games

# Largest |y − y_ref| / (1 + y_ref) that counts as right, y = log1p Δ (efforts: log(1 + Δ + e)).
BOUND = {"float64": 1e-9, "float32": 1e-4}
# Largest error of a game's gradient beside its largest entry.
GRADIENT_BOUND = {"float64": 1e-5, "float32": 1e-2}
# The reference is NumPy bisection in float64, on so many games of each batch.
_CHECKED = 1 << 18
_GRADIENTS_CHECKED = 1 << 13
# Contestants too slow for whole batches get this many games; figures are per game.
_FEW = {"loop": 512, "vectorized": 1 << 14}


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
      name: work/limits/models/dtype.
      games: of the largest batch.
      contestants: in the order in which they run.
      check: from a contestant and its answers to (worst error, number wrong, number checked).
      facts: what is known of the games.
    """

    name: str
    games: Games
    contestants: list[Contestant]
    check: Callable[[Contestant, Any], tuple[float, int, int]]
    facts: dict


def meshes() -> dict[int, jax.sharding.Mesh]:
    """One device, and all of them where there are more; batches are split along "games"."""
    devices = np.array(jax.devices())
    return {k: jax.sharding.Mesh(devices[:k], ("games",)) for k in sorted({1, len(devices)})}


def on_devices(count: int) -> str:
    return f"{count} device" + ("s" if count > 1 else "")


def _jax_contestant(name, function, arrays, mesh, answers=np.asarray) -> Contestant:
    """`jax.jit(function)` on arrays placed beforehand, split over the mesh."""
    where = NamedSharding(mesh, PartitionSpec("games"))
    placed = [jax.device_put(x, where) for x in arrays]
    # A function of its own: the same one jitted again would not be compiled again.
    jitted = jax.jit(lambda *arguments: function(*arguments))
    return Contestant(
        f"{name}, {on_devices(mesh.size)}",
        lambda: jax.block_until_ready(jitted(*placed)),
        len(arrays[0]),
        devices=mesh.size,
        ours=function.__module__ == ours.__name__,
        answers=answers,
    )


def _plain_contestant(name, function, arrays) -> Contestant:
    return Contestant(name, lambda: function(*arrays), len(arrays[0]), answers=np.asarray)


def _optional(module: str) -> Any:
    """A module of peers, or None where its library is not installed."""
    try:
        return importlib.import_module(f"benchmarks.{module}")
    except ImportError:
        return None


def _reference(games: Games) -> np.ndarray:
    """Log levels y = log1p Δ* by NumPy bisection in float64, to the last digits."""
    arrays = games.astype(np.float64).arrays()
    return np.log1p(peers.numpy_bisection(*arrays, tolerance=1e-14))


def _distance_at_zero(games: Games) -> np.ndarray:
    """How far a game is from gaining at Δ = 0, in the logarithm of effort: > 0 where stable."""
    exact = games.astype(np.float64)
    effort = baseline_catch_up(exact.alpha, exact.beta, exact.lower, exact.upper)
    gain = exact.rewards[:, :-1] - exact.rewards[:, 1:]
    return np.min(np.log1p(effort) - np.log1p(gain), axis=-1)


def _facts(games: Games, y: np.ndarray | None = None) -> dict:
    some = games.subset(_CHECKED).astype(np.float64)
    effort = baseline_catch_up(some.alpha, some.beta, some.lower, some.upper)
    unstable = effort < some.rewards[:, :-1] - some.rewards[:, 1:]
    facts = {
        "games": games.count,
        "models": games.num_models,
        "dtype": games.dtype.name,
        "drawn": games.text,
        "share_of_games_unstable_at_0": float(np.mean(np.any(unstable, axis=-1))),
        "share_of_pairs_unstable_at_0": float(np.mean(unstable)),
    }
    if y is not None:
        quantiles = np.expm1(np.quantile(y, [0.5, 0.9, 0.99, 1.0]))
        facts["threshold_median_90_99_100_percent"] = [float(f"{x:.4g}") for x in quantiles]
    return facts


def _compare(y, reference, bound) -> tuple[float, int, int]:
    error = np.abs(y - reference) / (1 + np.abs(reference))
    error = np.where(np.isnan(error), np.inf, error)
    return float(np.max(error, initial=0.0)), int(np.sum(~(error <= bound))), error.size


def _threshold_check(games: Games, by_scores: str | None = None):
    """A check of Δ* against the reference, and the reference on the checked games.

    Args:
      games: the games.
      by_scores: how the names of contestants begin that know curves by their scores alone; see
        `_score_rounding`.
    """
    checked = games.subset(_CHECKED)
    stride = max(1, games.count // _CHECKED)
    reference = _reference(checked)

    def of_all(x):
        full = np.full(games.count, np.nan)
        full[: stride * checked.count : stride] = x
        return full

    full, distance = of_all(reference), of_all(_distance_at_zero(checked))
    slack = None if by_scores is None else of_all(_score_rounding(checked, reference))
    bound = BOUND[games.dtype.name]

    def check(contestant, answers):
        delta, status = answers if isinstance(answers, tuple) else (answers, None)
        own = max(1, games.count // contestant.games)
        expected = full[::own][: contestant.games]
        known = ~np.isnan(expected)
        y = np.log1p(delta.astype(np.float64))
        if slack is not None and contestant.name.startswith(by_scores):
            room = slack[::own][: contestant.games]
            y = np.clip(expected, y - room, y + room)
        worst, wrong, count = _compare(y[known], expected[known], bound)
        if status is not None:
            away = distance[::own][: contestant.games][known]
            right = np.where(away < 0, "FOUND", "STABLE_AT_ZERO")
            # Within rounding of a draw at Δ = 0 both are right.
            wrong += int(np.sum((status[known] != right) & (np.abs(away) > bound)))
        return worst, wrong, count

    return check, reference


def _score_rounding(games: Games, y: np.ndarray) -> np.ndarray:
    """By how much y moves if the deciding pair's scores are 4 units in the last place off.

    As much as that is where scores saturate; 0 where nobody decides. Games with equal limits.
    """
    exact = games.astype(np.float64)
    strong = np.argmax(_reference_by_pair(exact), axis=-1)
    game = np.arange(games.count)
    gap = (exact.rewards[:, :-1] - exact.rewards[:, 1:])[game, strong]

    def scores(y):
        rival = exact.alpha[game, strong] + exact.beta[game, strong] * y
        own = exact.alpha[game, strong + 1] + exact.beta[game, strong + 1] * np.log(np.exp(y) + gap)
        return [1 / (1 + np.exp(-logit)) for logit in (rival, own)]

    def apart(y):
        rival, own = scores(y)
        return rival - own

    step = 1e-5
    slope = np.abs(apart(y + step) - apart(y - step)) / (2 * step)
    ulps = sum(4 * np.spacing(x.astype(games.dtype)).astype(np.float64) for x in scores(y))
    return np.where(y > 0, ulps / slope, 0.0)


def _gradient_check(games: Games):
    """Errors of the gradients of some games, from central differences of the deciding margin.

    Implicitly: dΔ*/dp = −(1 + Δ*)·(∂margin/∂p)/(∂margin/∂y). Games with a kink close by, where
    two pairs decide or Δ* is all but 0, are left out.
    """
    stride = max(1, games.count // _GRADIENTS_CHECKED)
    some = games.subset(_GRADIENTS_CHECKED).astype(np.float64)
    count, n = some.alpha.shape
    alpha, beta, rewards, *limits = some.arrays()
    lower, upper = limits or (np.zeros_like(alpha), np.ones_like(alpha))
    by_pair = _reference_by_pair(some)
    order = np.sort(by_pair, axis=-1)
    y, second = order[:, -1], order[:, -2] if n > 2 else np.full(count, -np.inf)
    clear = np.abs(_distance_at_zero(some)) > 1e-3
    clear &= (y == 0) | ((y > 1e-4) & (y - second > 1e-3))
    game, strong = np.arange(count), np.argmax(by_pair, axis=-1)
    curves = (alpha, beta, lower, upper)
    pair = [x[game, strong] for x in curves] + [x[game, strong + 1] for x in curves]
    pair.append((rewards[:, :-1] - rewards[:, 1:])[game, strong])

    def slope(which):
        """Central difference of the margin in y (−1) or in an entry of `pair`."""
        step = 1e-6
        if which < 0:
            return (peers.margin(y + step, *pair) - peers.margin(y - step, *pair)) / (2 * step)
        step = step * np.maximum(np.abs(pair[which]), 1e-2)
        up, down = list(pair), list(pair)
        up[which], down[which] = up[which] + step, down[which] - step
        return (peers.margin(y, *up) - peers.margin(y, *down)) / (2 * step)

    scale = np.where(y > 0, -np.exp(y) / slope(-1), 0.0)
    # Order of the solvers' arguments; the gap is the strong model's reward less the weak one's.
    entries = [(0, 4), (1, 5), (8, 8), (2, 6), (3, 7)][: 3 + len(limits)]
    expected = []
    for argument, (of_strong, of_weak) in enumerate(entries):
        wanted = np.zeros((count, n))
        wanted[game, strong] = scale * slope(of_strong)
        wanted[game, strong + 1] = scale * slope(of_weak) * (-1 if argument == 2 else 1)
        expected.append(wanted)
    wanted = np.stack(expected)[:, clear]
    size = np.max(np.abs(wanted), axis=(0, 2))
    size = np.where(size > 0, size, 1.0)  # stable at 0: the gradient is 0

    def errors(gradients):
        found = np.stack([x[::stride][:count].astype(np.float64) for x in gradients])[:, clear]
        return np.max(np.abs(found - wanted), axis=(0, 2)) / size

    return errors


def _two_models(games: Games, strong: int) -> Games:
    """The games of one adjacent pair alone."""
    fields = ("alpha", "beta", "rewards", "lower", "upper")
    parts = {name: getattr(games, name) for name in fields}
    pair = {k: None if x is None else x[:, strong : strong + 2] for k, x in parts.items()}
    return dataclasses.replace(games, **pair)


def _reference_by_pair(games: Games) -> np.ndarray:
    """`_reference` of each adjacent pair alone, `[games, n − 1]`."""
    pairs = [_two_models(games, strong) for strong in range(games.num_models - 1)]
    return np.stack([_reference(pair) for pair in pairs], axis=-1)


def threshold_row(limits: str, models: int, dtype: str, count: int, seed: int = 0) -> Row:
    """Δ*: ours, on one device and on all, and every peer."""
    games = draw_games(limits, count, models, dtype, seed=seed)
    check, reference = _threshold_check(games)
    arrays = games.arrays()
    few = {name: games.subset(number).arrays() for name, number in _FEW.items()}
    contestants = []
    for mesh in meshes().values():
        contestants.append(_jax_contestant("tbtjax", ours.threshold, arrays, mesh))
    everything = list(meshes().values())[-1]

    def delta_and_status(found):
        return np.asarray(found.delta), np.array(found.status_names())

    contestants.append(
        _jax_contestant("tbtjax whole record", ours.record, arrays, everything, delta_and_status)
    )
    if (optimistix := _optional("optimistix_peers")) is not None:
        for mesh in meshes().values():
            contestants.append(
                _jax_contestant("optimistix Newton", optimistix.newton, arrays, mesh)
            )
        contestants.append(
            _jax_contestant(
                "optimistix Bisection", optimistix.bisection, few["vectorized"], everything
            )
        )
    if jax.default_backend() == "cpu":
        if (numba := _optional("numba_peers")) is not None:
            kinds = ["newton", "tuned"] if limits == "equal" else ["newton", "bisection"]
            for kind in kinds:
                solver = getattr(numba, f"{kind}_{limits}")
                contestants.append(_plain_contestant(f"numba {kind}", solver, arrays))
        loop = peers.brentq_equal if limits == "equal" else peers.brentq_different
        contestants += [
            _plain_contestant("NumPy bisection", peers.numpy_bisection, few["vectorized"]),
            _plain_contestant("SciPy find_root", peers.scipy_find_root, few["vectorized"]),
            _plain_contestant("SciPy brentq loop", loop, few["loop"]),
        ]
    name = f"threshold/{limits}/n{models}/{dtype}"
    return Row(name, games, contestants, check, _facts(games, reference))


def general_row(models: int, dtype: str, count: int) -> Row:
    """Δ* by the road of any curve family (bisection), beside the power law's own; fewer games."""
    games = draw_games("equal", max(1, count // 32), models, dtype)
    check, reference = _threshold_check(games, by_scores="any curve")
    contestants = []
    for mesh in meshes().values():
        for name, function in (
            ("power law", ours.threshold),
            ("any curve", ours.threshold_general),
        ):
            contestants.append(_jax_contestant(name, function, games.arrays(), mesh))
    return Row(
        f"general/equal/n{models}/{dtype}", games, contestants, check, _facts(games, reference)
    )


def deviations_row(models: int, dtype: str, count: int) -> Row:
    """Δ* of all deviations beside neighbours'; on these games they agree."""
    games = draw_games("equal", count, models, dtype)
    check, reference = _threshold_check(games)
    contestants = []
    for mesh in meshes().values():
        for name, function in (("adjacent", ours.threshold), ("all", ours.threshold_all)):
            contestants.append(_jax_contestant(name, function, games.arrays(), mesh))
    name = f"all/equal/n{models}/{dtype}"
    return Row(name, games, contestants, check, _facts(games, reference))


def gradient_row(limits: str, models: int, dtype: str, count: int) -> Row:
    """Δ* and its derivatives in every parameter, beside Δ* alone."""
    games = draw_games(limits, count, models, dtype)
    check, reference = _threshold_check(games)
    contestants = []
    for mesh in meshes().values():
        contestants.append(_jax_contestant("value", ours.threshold, games.arrays(), mesh))
        contestants.append(
            _jax_contestant(
                "value and gradient",
                ours.value_and_gradient,
                games.arrays(),
                mesh,
                lambda found: jax.tree.map(np.asarray, found),
            )
        )

    gradient_errors = _gradient_check(games)

    def check_both(contestant, answers):
        if contestant.name.startswith("value,"):
            return check(contestant, answers)
        delta, gradients = answers
        worst, wrong, checked = check(contestant, delta)
        error = gradient_errors(gradients)
        return worst, wrong + int(np.sum(~(error <= GRADIENT_BOUND[dtype]))), checked

    name = f"gradient/{limits}/n{models}/{dtype}"
    return Row(name, games, contestants, check_both, _facts(games, reference))


def shuffled_row(models: int, dtype: str, count: int) -> Row:
    """β in random order, where sets of levels are no rays, beside the ordered games; unchecked."""
    ordered = draw_games("equal", count, models, dtype)
    shuffled = draw_games("equal", count, models, dtype, learning_rates="shuffled")
    contestants = []
    for mesh in meshes().values():
        for name, games in (("decreasing β", ordered), ("shuffled β", shuffled)):
            contestant = _jax_contestant(name, ours.threshold_all, games.arrays(), mesh)
            contestants.append(dataclasses.replace(contestant, answers=None))
    name = f"shuffled/equal/n{models}/{dtype}"
    return Row(name, shuffled, contestants, lambda *_: (np.nan, 0, 0), _facts(shuffled))


def _levels(games: Games) -> np.ndarray:
    """Levels Δ on both sides of Δ*, none within a percent of it in y; above, where it is tiny."""
    rng = np.random.default_rng(1)
    y = _reference(games)
    factor = rng.choice([-1, 1], y.shape) * rng.uniform(0.01, 0.5, y.shape)
    y = np.where(y > 1e-3, y * (1 + factor), rng.uniform(0.1, 3.0, y.shape))
    return np.expm1(y).astype(games.dtype)


def effort_row(work: str, limits: str, models: int, dtype: str, count: int) -> Row:
    """Just-overtake efforts ("overtake") or verdicts ("verdict") at one level per game."""
    games = draw_games(limits, count, models, dtype)
    delta = _levels(games)
    few_games = games.subset(_FEW["vectorized"])
    few_delta = delta[:: max(1, count // few_games.count)][: few_games.count]

    def arguments(games, delta):
        alpha, beta, rewards, *bounds = games.arrays()
        return (alpha, beta, *([rewards] if work == "verdict" else []), delta, *bounds)

    arrays = arguments(games, delta)
    contestants = [
        _jax_contestant("tbtjax", getattr(ours, work), arrays, mesh) for mesh in meshes().values()
    ]
    if jax.default_backend() == "cpu":
        if (numba := _optional("numba_peers")) is not None:
            solver = getattr(numba, f"{work}_{limits}")
            contestants.append(_plain_contestant("numba", solver, arrays))
        closed_form = peers.numpy_overtake if work == "overtake" else peers.numpy_verdict
        contestants.append(_plain_contestant("NumPy", closed_form, arguments(few_games, few_delta)))
    check = _effort_check(work, games, delta)
    return Row(f"{work}/{limits}/n{models}/{dtype}", games, contestants, check, _facts(games))


def response_row(models: int, dtype: str, count: int) -> Row:
    """What best responses to random efforts are worth, beside NumPy."""
    games = draw_games("equal", count, models, dtype)
    delta = _levels(games)
    rng = np.random.default_rng(2)
    efforts = rng.exponential(1.0, games.alpha.shape) * games.rewards[:, :1] / 2
    efforts = np.where(rng.random(efforts.shape) < 0.5, efforts, 0).astype(games.dtype)
    return _follower_row("response", peers.numpy_response, games, delta, efforts)


def dynamics_row(models: int, dtype: str, count: int) -> Row:
    """1,000 rounds of the arms race at levels below and above Δ*, beside NumPy."""
    games = draw_games("equal", count, models, dtype)
    return _follower_row("dynamics", peers.numpy_dynamics, games, _levels(games))


def _follower_row(work: str, numpy_peer, games: Games, delta, *more) -> Row:
    """Answers `[games, n]` in units of reward, compared relative to the game's first reward."""
    arrays = (*games.arrays(), delta, *more)
    few = games.subset(_FEW["vectorized"] if work == "response" else _FEW["loop"])
    stride = max(1, games.count // few.count)
    some = [x[::stride][: few.count] for x in arrays]
    contestants = [
        _jax_contestant("tbtjax", getattr(ours, work), arrays, mesh) for mesh in meshes().values()
    ]
    if jax.default_backend() == "cpu":
        contestants.append(_plain_contestant("NumPy", numpy_peer, some))
    expected = numpy_peer(*(x.astype(np.float64) for x in some))
    scale = np.maximum(np.abs(expected), few.rewards[:, :1].astype(np.float64))

    def check(contestant, answers):
        own = slice(None, None, stride if contestant.games == games.count else 1)
        found = answers.astype(np.float64)[own][: few.count]
        return _compare((found - expected) / scale, 0.0, BOUND[games.dtype.name])

    name = f"{work}/equal/n{games.num_models}/{games.dtype.name}"
    return Row(name, games, contestants, check, _facts(games))


def _effort_check(work: str, games: Games, delta: np.ndarray):
    """Against the closed form in float64.

    Efforts are compared as log(1 + Δ + e): within the bound, or within what 4 units in the last
    place of the limits make, as much as that is where the rival is all but out of reach. Efforts
    beyond the dtype's largest number are +inf in it.
    """
    exact = games.astype(np.float64)
    level = delta.astype(np.float64)
    alpha, beta, rewards, *limits = exact.arrays()
    slack = np.zeros((games.count, games.num_models - 1))
    if work == "verdict":
        expected = peers.numpy_verdict(alpha, beta, rewards, level, *limits)
    else:
        expected = peers.numpy_overtake(alpha, beta, level, *limits)
        largest = np.finfo(games.dtype).max
        expected = np.where(expected <= largest, expected, np.inf)
        if limits:
            # Each model's upper limit up and its neighbours' down, and the other way round.
            lower, upper = limits
            ulps = 4 * np.spacing(upper.astype(games.dtype)).astype(np.float64)
            ulps *= (-1) ** np.arange(games.num_models)
            ends = [
                np.log(1 + level[:, None] + peers.numpy_overtake(alpha, beta, level, lower, moved))
                for moved in (upper - ulps, upper + ulps)
            ]
            with np.errstate(invalid="ignore"):
                slack = np.nan_to_num(np.abs(ends[1] - ends[0]), nan=0.0, posinf=np.inf)

    def check(contestant, answers):
        own = slice(None, None, max(1, games.count // contestant.games))
        mine = expected[own][: contestant.games]
        if work == "verdict":
            return 0.0, int(np.sum(answers != mine)), mine.size
        total = (1 + level)[own][: contestant.games, None]
        with np.errstate(invalid="ignore"):
            error = np.log(total + answers) - np.log(total + mine)
            error = np.where(np.isinf(answers) & np.isinf(mine), 0.0, np.abs(error))
            error = np.maximum(error - slack[own][: contestant.games], 0.0)
        return _compare(error, 0.0, BOUND[games.dtype.name])

    return check
