"""What a user could put together instead: SciPy, NumPy and optimistix.

Each peer starts from the raw inputs (`workloads.Games.arrays`), knows that the games meet C1 and
C3 (so that each adjacent pair has one root and neighbours decide), and is written with the care
of somebody who wants speed: the log form of MODEL.md, a bracket in closed form, work for the
unstable pairs alone, temporaries that stay in cache. It need not be right to more than the 1e-9
(float32: 1e-5) that is checked, in y = log1p Δ.

Equal limits: the pair is stable iff h(y) = d + m·y − log1p(g·e^{−y}) ≥ 0, with
d = (α_strong − α_weak)/β_weak, m = 1/ρ − 1. Different limits: iff the rival is out of reach, or
logit(normalized rival's score) − α_weak ≥ β_weak·log(e^y + g).
"""

import math

import numpy as np
from scipy import optimize
from scipy.optimize import elementwise

# Solver tolerance in y, ten times finer than what is checked.
TOLERANCE = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-6}
# Pairs whose temporaries fit in a core's cache together.
_CHUNK = 8192


def brentq_equal(alpha, beta, rewards):
    """`scipy.optimize.brentq` in a Python loop over games; a pair satisfied already is skipped."""

    def height(y, d, m, g):
        return d + m * y - math.log1p(g * math.exp(-y))

    levels = []
    for a, b, reward in zip(alpha.tolist(), beta.tolist(), rewards.tolist(), strict=True):
        y = 0.0
        for r in range(1, len(a)):
            g = reward[r - 1] - reward[r]
            if g <= 0.0:
                continue
            d = (a[r - 1] - a[r]) / b[r]
            m = (b[r - 1] - b[r]) / b[r]
            if height(y, d, m, g) >= 0.0:
                continue
            top = math.log(g) - math.log(math.expm1(d))
            y = optimize.brentq(height, y, top, args=(d, m, g), xtol=1e-10)
        levels.append(y)
    return np.expm1(levels)


def brentq_different(alpha, beta, rewards, lower, upper):
    """The same for different limits."""

    def height(y, a, b, floor, ceiling, a_weak, b_weak, floor_weak, ceiling_weak, g):
        e = math.exp(-(a + b * y))
        below_upper = (ceiling_weak - ceiling) * (1.0 + e) + (ceiling - floor) * e
        if below_upper <= 0.0:
            return 100.0
        above_lower = (floor - floor_weak) * (1.0 + e) + (ceiling - floor)
        return math.log(above_lower / below_upper) - a_weak - b_weak * math.log(math.exp(y) + g)

    levels = []
    columns = (x.tolist() for x in (alpha, beta, rewards, lower, upper))
    for a, b, reward, low, up in zip(*columns, strict=True):
        y = 0.0
        for r in range(1, len(a)):
            g = reward[r - 1] - reward[r]
            k = r - 1
            pair = (a[k], b[k], low[k], up[k], a[r], b[r], low[r], up[r], g)
            if g <= 0.0 or height(y, *pair) >= 0.0:
                continue
            # From here on the rival is out of reach.
            top = (math.log((up[r] - low[k]) / (up[k] - up[r])) - a[k]) / b[k]
            y = optimize.brentq(height, y, top, args=pair, xtol=1e-10)
        levels.append(y)
    return np.expm1(levels)


def numpy_bisection(*arrays, tolerance=None):
    """Bisection of all unstable pairs in vectorized NumPy, a cache-sized chunk at a time."""
    return _per_pair(arrays, _bisect, tolerance)


def scipy_find_root(*arrays):
    """`scipy.optimize.elementwise.find_root` on all unstable pairs, in chunks likewise."""
    return _per_pair(arrays, _find_root, None)


def _bisect(condition, top, pairs, tolerance):
    low, high = np.zeros_like(top), top.copy()
    widest = float(np.max(high, initial=0.0))
    for _ in range(max(1, math.ceil(math.log2(max(widest / tolerance, 2.0))))):
        middle = (low + high) * low.dtype.type(0.5)
        stable = condition(middle, *pairs) >= 0
        np.copyto(high, middle, where=stable)
        np.copyto(low, middle, where=~stable)
    return high


def _find_root(condition, top, pairs, tolerance):
    tolerances = {"xatol": tolerance, "xrtol": tolerance}
    bracket = (np.zeros_like(top), top)
    return elementwise.find_root(condition, bracket, args=pairs, tolerances=tolerances).x


def _per_pair(arrays, solve, tolerance):
    equal = len(arrays) == 3
    find_pairs, condition = (_equal_pairs, _equal_margin) if equal else (_pairs, margin)
    tolerance = TOLERANCE[arrays[0].dtype] if tolerance is None else tolerance
    unstable, top, pairs = find_pairs(*arrays)
    roots = np.empty_like(top)
    for start in range(0, top.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        roots[part] = solve(condition, top[part], tuple(x[part] for x in pairs), tolerance)
    y = np.zeros(unstable.shape, top.dtype)
    y[unstable] = roots
    return np.expm1(np.max(y, axis=-1))


def _equal_margin(y, d, m, g):
    return d + m * y - np.log1p(g * np.exp(-y))


def _equal_pairs(alpha, beta, rewards):
    """Mask of the unstable pairs, and of those alone: upper bounds of the root and d, m, g."""
    g = rewards[:, :-1] - rewards[:, 1:]
    weak = beta[:, 1:]
    d = (alpha[:, :-1] - alpha[:, 1:]) / weak
    unstable = d < np.log1p(g)
    d, g = d[unstable], g[unstable]
    m = ((beta[:, :-1] - weak) / weak)[unstable]
    return unstable, np.log(g) - np.log(np.expm1(d)), (d, m, g)


def margin(y, a, b, floor, ceiling, a_weak, b_weak, floor_weak, ceiling_weak, g):
    """How far a pair is from gaining, different limits: stable iff ≥ 0."""
    e = np.exp(-(a + b * y))
    below_upper = (ceiling_weak - ceiling) * (1 + e) + (ceiling - floor) * e
    above_lower = (floor - floor_weak) * (1 + e) + (ceiling - floor)
    reach = below_upper > 0
    odds = np.divide(above_lower, below_upper, out=np.full_like(y, np.inf), where=reach)
    # Out of reach: a large finite margin, since find_root interpolates.
    logit = np.minimum(np.log(odds), 100)
    return logit - a_weak - b_weak * (y + np.log1p(g * np.exp(-y)))


def _pairs(alpha, beta, rewards, lower, upper):
    g = rewards[:, :-1] - rewards[:, 1:]
    curves = (alpha, beta, lower, upper)
    pairs = [x[:, :-1] for x in curves] + [x[:, 1:] for x in curves] + [g]
    unstable = (g > 0) & (margin(np.zeros_like(g), *pairs) < 0)
    a, b, floor, ceiling, _, _, _, ceiling_weak, _ = pairs = tuple(x[unstable] for x in pairs)
    top = (np.log((ceiling_weak - floor) / (ceiling - ceiling_weak)) - a) / b
    # Rounding must not leave the end of the bracket within reach.
    return unstable, top + 10 * TOLERANCE[top.dtype] * (1 + top), pairs


def numpy_overtake(alpha, beta, delta, *limits):
    """Just-overtake efforts in closed form, `[games, n-1]`."""
    level = np.log1p(delta)[:, None]
    if limits:
        lower, upper = limits
        floor, ceiling = lower[:, :-1], upper[:, :-1]
        e = np.exp(-(alpha[:, :-1] + beta[:, :-1] * level))
        below_upper = (upper[:, 1:] - ceiling) * (1 + e) + (ceiling - floor) * e
        above_lower = (floor - lower[:, 1:]) * (1 + e) + (ceiling - floor)
        reach = below_upper > 0
        odds = np.divide(above_lower, below_upper, out=np.full_like(e, np.inf), where=reach)
        log_total = (np.log(odds) - alpha[:, 1:]) / beta[:, 1:]
        effort = (1 + delta)[:, None] * np.expm1(log_total - level)
        return np.where(reach, effort, np.inf)
    weak = beta[:, 1:]
    d = (alpha[:, :-1] - alpha[:, 1:] + (beta[:, :-1] - weak) * level) / weak
    with np.errstate(over="ignore"):
        return (1 + delta)[:, None] * np.expm1(d)


def numpy_verdict(alpha, beta, rewards, delta, *limits):
    """Whether the all-zero profile is an equilibrium (neighbours), `[games]`."""
    effort = numpy_overtake(alpha, beta, delta, *limits)
    return np.all(effort >= rewards[:, :-1] - rewards[:, 1:], axis=-1)


def _needed(alpha, beta, delta, efforts, model):
    """Effort with which one model ties with each of the others, `[games, n - 1]`, ≥ 0."""
    total = np.log1p(delta[:, None] + efforts)
    rivals = np.delete(alpha + beta * total, model, axis=1)
    distance = (rivals - alpha[:, model, None]) / beta[:, model, None]
    needed = np.expm1(distance)
    needed -= delta[:, None]
    return np.maximum(needed, 0, out=needed)


def numpy_response(alpha, beta, rewards, delta, efforts):
    """Utility of each model's best response, `[games, n]`: equal limits, cost 1 per step.

    With the efforts that tie with its rivals in ascending order a model passes one more with each,
    so that ranks need not be counted. A cache-sized chunk at a time.
    """
    utility = np.empty_like(alpha)
    n = alpha.shape[1]
    size = max(1, _CHUNK // n)
    for start in range(0, len(alpha), size):
        part = slice(start, start + size)
        reward = rewards[part]
        for model in range(n):
            needed = _needed(alpha[part], beta[part], delta[part], efforts[part], model)
            needed.sort(axis=1)
            best = np.max(reward[:, n - 2 :: -1] - needed, axis=1)
            utility[part, model] = np.maximum(best, reward[:, -1])
    return utility


def numpy_dynamics(alpha, beta, rewards, delta, rounds=1000, margin=1.0):
    """Efforts spent in the simultaneous race from none, `[games, n]`: equal limits, cost 1 a step.

    Capability decides the ranking at Δ: the more capable tie with a rival, the others go a margin
    further. A cache-sized chunk at a time.
    """
    spent = np.empty_like(alpha)
    size = max(1, _CHUNK // alpha.shape[1])
    for start in range(0, len(alpha), size):
        part = slice(start, start + size)
        arrays = alpha[part], beta[part], rewards[part], delta[part]
        spent[part] = _race(*arrays, rounds, margin)
    return spent


def _race(alpha, beta, rewards, delta, rounds, margin):
    efforts, spent = np.zeros_like(alpha), np.zeros_like(alpha)
    n = alpha.shape[1]
    # Efforts that tie are known up to rounding.
    slack = 64 * np.finfo(alpha.dtype).eps
    for _ in range(rounds):
        played = np.empty_like(efforts)
        for model in range(n):
            needed = _needed(alpha, beta, delta, efforts, model)
            ties = np.arange(n - 1) >= model  # the others with a larger index are less capable
            # What it must exceed: a tie with the less capable, more with the others.
            above = needed + np.where(ties, -slack, slack) * (1 + delta[:, None] + needed)
            moves = np.concatenate(
                [efforts[:, model, None], np.zeros_like(alpha[:, :1]), needed + margin * ~ties],
                axis=1,
            )
            rank = np.sum(moves[:, :, None] <= above[:, None, :], axis=2)
            utility = np.take_along_axis(rewards, rank, axis=1) - moves
            best = np.max(utility, axis=1)
            least = np.min(np.where(utility >= best[:, None], moves, np.inf), axis=1)
            stays = utility[:, 0] >= best
            played[:, model] = np.where(stays, efforts[:, model], least)
        efforts = played
        spent += efforts
    return spent
