"""Independent answers to test the package against: slow, plain code that imports none of it.

Two calculations from the definitions, for power-law curves and costs rate * e ** exponent:

1. Exact, one game at a time, in mpmath: scores, overtake efforts, the verdict on the all-zero
   profile (`stability_margin`), and the stabilizing set (`threshold`), with at least 50 digits.
2. `reference_thresholds`: the stabilizing set for millions of games in NumPy, float64.

`threshold_bounds` says how far an answer may move when every input changes by a few units in the
last place; `disagreements` compares a whole batch with the reference and allows for that.

Games come as a dict of arrays, as `random_games.random_games` makes them: alpha, beta, rewards
`[count, n]`, lower, upper and cost_rate broadcastable with them, optionally cost_exponent. Levels
are measured in y = log(1 + delta). Cost rates and exponents must be positive.

How the stabilizing set is found. At a level that counts the ranking is the index order, and model
w does not gain from passing model s above it iff its overtake effort is at least g, the effort
that the reward difference is worth. Let Y(y) be the log effort at which the weak model has the
strong model's score at level y. With p = sigmoid(alpha_s + beta_s y), q = 1 - p,
a = (l_s - l_w) / (u_s - l_s) and b = (u_w - u_s) / (u_s - l_s),

    Y = (log((p + a) / (q + b)) - alpha_w) / beta_w,

stable iff W = e^Y - e^y >= g; p + a <= 0 means that the strong model is below all scores of the
weak one (misordered), q + b <= 0 that it is out of reach (stable). For beta_w > 0 and g > 0:

- Equal limits (a = b = 0): Y - log(e^y + g) is concave in y, so the set is one stretch.
- Otherwise W' has the sign of G = Y + log Y' - y for beta_s > 0, and G' that of a quadratic in
  t = p / q. So G has at most three monotone pieces and W four; each holds at most one root. For
  beta_s <= 0, W falls.

A weak model that never rises (beta_w <= 0), or one with nothing to gain, constrains the order
alone: H = log((p + a) / (q + b)) - alpha_w - beta_w y >= 0, where H' has the sign of a quadratic
in t too. No scan is needed anywhere.
"""

import dataclasses
import functools
import math
from typing import Any

import mpmath
import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.special import expit, log_expit

exact = mpmath.mp.clone()
exact.dps = 60
_ROOT_TOLERANCE = exact.mpf(10) ** -50

_CONTEST_TOLERANCE = 1e-9

LARGEST_FLOAT64 = float(np.finfo(np.float64).max)

# ---------------------------------------------------------------------------------------------
# One game, exactly
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Game:
    """One game with exact parameters, a tuple of mpmath numbers for each.

    `limits_shared` says that the limits came as one number for all models.
    """

    alpha: tuple
    beta: tuple
    lower: tuple
    upper: tuple
    rewards: tuple
    cost_rate: tuple
    cost_exponent: tuple
    limits_shared: bool

    @property
    def num_models(self):
        """Number of models."""
        return len(self.alpha)

    @property
    def is_valid(self):
        """Finite numbers, rewards that do not rise down the ranks, upper above lower limits."""
        groups = (self.alpha, self.beta, self.lower, self.upper, self.rewards, self.cost_rate)
        finite = all(exact.isfinite(value) for group in groups for value in group)
        return (
            finite
            and all(x >= y for x, y in zip(self.rewards, self.rewards[1:], strict=False))
            and all(x < y for x, y in zip(self.lower, self.upper, strict=True))
            and all(x > 0 for x in self.cost_rate)
        )


def single_game(games, index=()):
    """The game at `index` of a dict of arrays, its floating-point values taken as exact."""
    shape = np.shape(games["alpha"])
    games = {"cost_exponent": np.array(1.0), **games}
    values = {}
    for name, array in games.items():
        row = np.broadcast_to(array, shape)[index]
        values[name] = tuple(exact.mpf(float(x)) for x in row)
    shared = all(np.ndim(games[k]) == 0 or np.shape(games[k])[-1] == 1 for k in ("lower", "upper"))
    return Game(**values, limits_shared=shared)


def make_game(
    alpha: ArrayLike,
    beta: ArrayLike,
    rewards: ArrayLike,
    cost_rate: ArrayLike = 1.0,
    lower: ArrayLike = 0.0,
    upper: ArrayLike = 1.0,
    cost_exponent: ArrayLike = 1.0,
):
    """One game from numbers and lists; scalars hold for all models."""
    games = {
        "alpha": np.asarray(alpha, float),
        "beta": np.asarray(beta, float),
        "rewards": np.asarray(rewards, float),
        "cost_rate": np.asarray(cost_rate, float),
        "lower": np.asarray(lower, float),
        "upper": np.asarray(upper, float),
        "cost_exponent": np.asarray(cost_exponent, float),
    }
    return single_game(games)


def score(game, model, effort):
    """Score l + (u - l) / (1 + exp(-alpha) (1 + effort)^-beta)."""
    odds = exact.exp(game.alpha[model]) * (1 + exact.mpf(effort)) ** game.beta[model]
    return game.lower[model] + (game.upper[model] - game.lower[model]) * odds / (1 + odds)


def effort_to_reach(game, model, target):
    """Least effort e >= 0 with score at least `target`; +inf where never."""
    target = exact.mpf(target)
    if score(game, model, 0) >= target:
        return exact.mpf(0)
    if game.beta[model] <= 0 or target >= game.upper[model]:
        return exact.inf
    odds = (target - game.lower[model]) / (game.upper[model] - target)
    return (odds / exact.exp(game.alpha[model])) ** (1 / game.beta[model]) - 1


def overtake_effort(game, weak, strong, delta):
    """Effort inf{e >= 0 : v_weak(delta + e) > v_strong(delta)}; +inf where never.

    With `weak = strong + 1` this is the just-overtake effort of Def. 4.4.
    """
    delta = exact.mpf(delta)
    with exact.workdps(_digits_needed(game, delta)):
        target = score(game, strong, delta)
        start = score(game, weak, delta)
        if start > target:
            return exact.mpf(0)
        if game.beta[weak] <= 0:  # never rises above where it starts
            return exact.inf
        if start == target:
            return exact.mpf(0)
        return effort_to_reach(game, weak, target) - delta


def _digits_needed(game, delta):
    """Digits with which 1 - score and 1 + delta + e keep 60 digits of their own."""
    log_level = exact.log1p(delta)
    logits = [abs(a) + abs(b) * log_level for a, b in zip(game.alpha, game.beta, strict=True)]
    return 70 + int((max(logits) + log_level) / math.log(10))


def ranking(game, delta):
    """Models in order of baseline score at `delta`, ties to the lower index."""
    with exact.workdps(_digits_needed(game, exact.mpf(delta))):
        scores = [score(game, model, delta) for model in range(game.num_models)]
        # Sorting is stable, reversed too; and comparing rounds nothing.
        return sorted(range(game.num_models), key=scores.__getitem__, reverse=True)


def stability_margin(game, delta, deviations="all", cost=None):
    """Least of c(overtake effort) - reward difference at `delta`; the profile of zeros is a PNE
    iff it is not negative.

    Pairs and reward differences are those of the baseline ranking at `delta`: a model and each
    one ranked above it ("all"), or the one just above it ("adjacent").

    Args:
      game: one exact game.
      delta: tune-before-test level.
      deviations: "all" or "adjacent".
      cost: function of model and effort, in place of the game's own cost.

    Returns:
      The margin in units of reward; +inf for fewer than two models.
    """
    order = ranking(game, delta)
    margin = exact.inf
    for rank in range(1, game.num_models):
        weak = order[rank]
        first = 0 if deviations == "all" else rank - 1
        for rival_rank in range(first, rank):
            effort = overtake_effort(game, weak, order[rival_rank], delta)
            gain = game.rewards[rival_rank] - game.rewards[rank]
            if cost is not None:
                paid = cost(weak, effort)
            else:
                paid = game.cost_rate[weak] * effort ** game.cost_exponent[weak]
            margin = min(margin, paid - gain)
    return margin


def is_zero_effort_pne(game, delta, deviations="all"):
    """Whether the all-zero profile is a pure Nash equilibrium at `delta`."""
    return stability_margin(game, delta, deviations) >= 0


def is_stabilizing(game, delta, deviations="all"):
    """Whether `delta` belongs to the stabilizing set: right ranking, and nobody gains."""
    in_order = ranking(game, delta) == list(range(game.num_models))
    return in_order and is_zero_effort_pne(game, delta, deviations)


@dataclasses.dataclass(frozen=True)
class _Pair:
    """A weak model, the strong one above it, and the effort that passing is worth."""

    alpha_s: Any
    beta_s: Any
    lower_s: Any
    upper_s: Any
    alpha_w: Any
    beta_w: Any
    lower_w: Any
    upper_w: Any
    worth: Any

    @functools.cached_property
    def span(self):
        return self.upper_s - self.lower_s

    @functools.cached_property
    def a(self):
        return (self.lower_s - self.lower_w) / self.span

    @functools.cached_property
    def one_plus_a(self):
        return (self.upper_s - self.lower_w) / self.span

    @functools.cached_property
    def b(self):
        return (self.upper_w - self.upper_s) / self.span

    @functools.cached_property
    def one_plus_b(self):
        return (self.upper_w - self.lower_s) / self.span

    @functools.cached_property
    def width(self):
        return (self.upper_w - self.lower_w) / self.span

    def parts(self, y):
        """p, q, p + a and q + b at level y, without cancellation at either end."""
        z = self.alpha_s + self.beta_s * y
        small = exact.exp(-abs(z))
        large = 1 / (1 + small)
        small = small * large
        p, q = (large, small) if z >= 0 else (small, large)
        above_lower = self.one_plus_a - q if z >= 0 else p + self.a
        below_upper = q + self.b if z >= 0 else self.one_plus_b - p
        return p, q, above_lower, below_upper

    def order(self, y):
        """H and its slope: the strong model's logit on the weak one's scale, minus the weak's."""
        p, q, above, below = self.parts(y)
        if above <= 0 or below <= 0:
            return (-exact.inf if above <= 0 else exact.inf), exact.mpf(0)
        value = exact.log(above / below) - self.alpha_w - self.beta_w * y
        return value, self.beta_s * self.width * p * q / (above * below) - self.beta_w

    def margin(self, y):
        """Y - log(e^y + g) and its slope; it has the sign of W - g."""
        p, q, above, below = self.parts(y)
        if above <= 0 or below <= 0:
            return (-exact.inf if above <= 0 else exact.inf), exact.mpf(0)
        log_effort = (exact.log(above / below) - self.alpha_w) / self.beta_w
        weight = self.worth * exact.exp(-y)
        slope = self.beta_s / self.beta_w * self.width * p * q / (above * below)
        return log_effort - y - exact.log1p(weight), slope - 1 / (1 + weight)

    def rise(self, y):
        """G = Y + log Y' - y, with the sign of W', and its slope; for beta_s, beta_w > 0."""
        p, q, above, below = self.parts(y)
        if above <= 0 or below <= 0:
            return exact.inf, exact.mpf(0)
        log_effort = (exact.log(above / below) - self.alpha_w) / self.beta_w
        slope = self.beta_s / self.beta_w * self.width * p * q / (above * below)
        curvature = self.beta_s * (q * self.a / above - p * self.b / below)
        return log_effort + exact.log(slope) - y, slope + curvature - 1


def _pair(game, weak, strong, tilt=0):
    """The pair's parameters, each moved by the relative amount `tilt` in the stable direction.

    Stability at a level means v_w(delta + g) <= v_s(delta), so the strong model's parameters and
    the cost go up, the weak model's and the reward difference down; a negative tilt does the
    opposite. Exact ties stay ties: they survive rounding.
    """

    def moved(value, direction):
        return value + direction * tilt * abs(value)

    pair = {}
    tied_limits = game.lower[weak] == game.lower[strong] and game.upper[weak] == game.upper[strong]
    for name in ("alpha", "beta", "lower", "upper"):
        values = getattr(game, name)
        tie = values[strong] == values[weak]
        if name in ("lower", "upper"):
            fixed = tie or game.limits_shared
        else:
            fixed = tie and tied_limits
        pair[name + "_s"] = values[strong] if fixed else moved(values[strong], 1)
        pair[name + "_w"] = values[weak] if fixed else moved(values[weak], -1)
    gain = game.rewards[strong] - game.rewards[weak]
    if gain > 0:
        gain = max(moved(game.rewards[strong], -1) - moved(game.rewards[weak], 1), exact.mpf(0))
    rate = moved(game.cost_rate[weak], 1)
    worth = (gain / rate) ** (1 / game.cost_exponent[weak])
    return _Pair(**pair, worth=worth)


def _root(function, low, high, rising):
    """Root of a function, given as value and slope, that changes sign once inside [low, high]."""
    y = (low + high) / 2
    last_move = high - low
    for _ in range(1000):
        value, slope = function(y)
        if value == 0:
            return y
        if (value < 0) == rising:
            low = y
        else:
            high = y
        if high - low <= _ROOT_TOLERANCE * (1 + high):
            return (low + high) / 2
        # Newton while it stays inside the bracket and its moves halve, else a halving.
        following = (low + high) / 2
        if slope != 0 and exact.isfinite(value):
            newton = y - value / slope
            if abs(newton - y) <= _ROOT_TOLERANCE * (1 + y):
                return newton
            if low < newton < high and 2 * abs(newton - y) <= last_move:
                following = newton
        last_move = abs(following - y)
        y = following
    raise ArithmeticError("root not found")


def _sign_stretches(function, points, values):
    """Stretches where a function, monotone between neighbouring points, is not negative."""
    stretches = []
    for low, high, at_low, at_high in zip(points, points[1:], values, values[1:], strict=False):
        if at_low < 0 and at_high < 0:
            continue
        start, stop = low, high
        if at_low < 0:
            start = high if at_high == 0 else _root(function, low, high, rising=True)
        elif at_high < 0:
            stop = low if at_low == 0 else _root(function, low, high, rising=False)
        if stretches and stretches[-1][1] == start:
            stretches[-1] = (stretches[-1][0], stop)
        else:
            stretches.append((start, stop))
    return stretches


def _quadratic_roots(square, linear, constant):
    """Positive real roots, without cancellation."""
    discriminant = linear * linear - 4 * square * constant
    if discriminant < 0:
        return []
    root = exact.sqrt(discriminant)
    larger = -(linear + (root if linear >= 0 else -root)) / 2
    roots = []
    if square != 0:
        roots.append(larger / square)
    if larger != 0:
        roots.append(constant / larger)
    return [t for t in roots if t > 0]


def _equal_limits_stretches(pair, end):
    """Stable stretches of a pair with equal limits in [0, end]; concave, so at most one."""
    rise_in_alpha = pair.alpha_s - pair.alpha_w
    rise_in_beta = pair.beta_s - pair.beta_w
    if pair.worth == 0 or pair.beta_w <= 0:

        def function(y):
            return rise_in_alpha + rise_in_beta * y, rise_in_beta

        points = [exact.mpf(0), end]
    else:
        d, m = rise_in_alpha / pair.beta_w, rise_in_beta / pair.beta_w

        def function(y):
            weight = pair.worth * exact.exp(-y)
            return d + m * y - exact.log1p(weight), m + weight / (1 + weight)

        points = [exact.mpf(0), end]
        if -1 < m < 0:
            peak = exact.log(pair.worth * (1 + m) / -m)
            if 0 < peak < end:
                points.insert(1, peak)
    return _sign_stretches(function, points, [function(y)[0] for y in points])


def stable_stretches(pair, end):
    """Levels y in [0, end] at which the order is right and the weak model does not gain.

    Returns:
      Closed stretches (low, high), in order and apart.
    """
    if pair.a == 0 and pair.b == 0:
        return _equal_limits_stretches(pair, end)
    zero = exact.mpf(0)

    # Levels at which the strong model's score leaves the range of the weak model's curve.
    low, high, before, after = zero, end, None, None
    rising = pair.beta_s > 0
    if pair.beta_s == 0:
        _, _, above, below = pair.parts(zero)
        if above <= 0:
            return []
        if below <= 0:
            return [(zero, end)]
    else:
        if pair.one_plus_a <= 0:
            return []
        if pair.one_plus_b <= 0:
            return [(zero, end)]
        if pair.a < 0:  # misordered where p <= -a
            edge = (exact.log(-pair.a / pair.one_plus_a) - pair.alpha_s) / pair.beta_s
            if rising and edge > low:
                low, before = edge, -1
            elif not rising and edge < high:
                high, after = edge, -1
        if pair.b < 0:  # out of reach where q <= -b
            edge = (exact.log(pair.one_plus_b / -pair.b) - pair.alpha_s) / pair.beta_s
            if rising and edge < high:
                high, after = edge, 1
            elif not rising and edge > low:
                low, before = edge, 1
        if low >= end:
            return [(zero, end)] if before == 1 else []
        if high <= 0:
            return [(zero, end)] if after == 1 else []

    a, b = pair.a, pair.b
    width, one_plus_a, one_plus_b = pair.width, pair.one_plus_a, pair.one_plus_b

    def levels(quadratic_roots):
        found = [(exact.log(t) - pair.alpha_s) / pair.beta_s for t in quadratic_roots]
        return sorted(y for y in found if low < y < high)

    order_only = pair.worth == 0 or pair.beta_w <= 0
    function = pair.order if order_only else pair.margin
    inner = []
    if order_only and pair.beta_s != 0:
        inner = levels(
            _quadratic_roots(
                pair.beta_w * b * one_plus_a,
                pair.beta_w * (one_plus_a * one_plus_b + a * b) - pair.beta_s * width,
                pair.beta_w * a * one_plus_b,
            )
        )
    elif pair.beta_s > 0:
        turning = levels(
            _quadratic_roots(
                (1 + pair.beta_s) * b * one_plus_a,
                one_plus_a * one_plus_b + a * b - pair.beta_s / pair.beta_w * width,
                (1 - pair.beta_s) * a * one_plus_b,
            )
        )
        inner = _rise_roots(pair, [low, *turning, high], before, after)
    points = [low, *inner, high]
    values = [function(y)[0] for y in points]
    # At the edges of the weak model's range the sign is known, and the formula is singular.
    if before is not None:
        values[0] = exact.mpf(before)
    if after is not None:
        values[-1] = exact.mpf(after)
    stretches = _sign_stretches(function, points, values)
    if before == 1:
        stretches[0] = (zero, stretches[0][1])
    if after == 1:
        stretches[-1] = (stretches[-1][0], end)
    return stretches


def _rise_roots(pair, points, before, after):
    """Roots of G, which is monotone between neighbouring points."""
    values = [pair.rise(y)[0] for y in points]
    if before is not None:
        # G may tend to either infinity at the lower edge. W is negative there, so a turn from
        # falling to rising needs no break point; one from rising to falling does.
        values[0] = exact.mpf(1)
    if after is not None:
        values[-1] = exact.inf  # both Y and Y' grow without bound
    roots = []
    for low, high, at_low, at_high in zip(points, points[1:], values, values[1:], strict=False):
        if (at_low < 0) != (at_high < 0):
            roots.append(_root(pair.rise, low, high, rising=at_low < 0))
    return roots


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The stabilizing set of one game, in y = log(1 + delta).

    Attributes:
      delta: first stable level, inf if there is none, NaN for an invalid game.
      upper: end of the stretch that starts there; inf if it does not end.
      settled: level from which on every level is stable; inf if there is none.
      weak: who decides `delta`, the lower model of the pair; -1 where nobody does.
      rival: the upper model of that pair.
      deciders: all pairs (weak, rival) with a stable stretch that starts at `delta`, to within
        1e-9 (1 + delta).
      status: INVALID, NOWHERE, INTERVAL, STABLE_AT_ZERO or FOUND, the first that applies.
      by_pair: first stable level of each adjacent pair taken alone.
      stretches: the whole set, as (low, high).
    """

    delta: float
    upper: float
    settled: float
    weak: int
    rival: int
    deciders: tuple
    status: str
    by_pair: tuple
    stretches: tuple


def threshold(game, deviations="all", largest=LARGEST_FLOAT64, tilt=0.0):
    """The stabilizing set of a game, exactly.

    Args:
      game: one exact game.
      deviations: "all" or "adjacent".
      largest: greatest level that counts.
      tilt: relative change of every input, in favour of stability if positive.

    Returns:
      Threshold. A stretch that reaches `largest` counts as endless.
    """
    n = game.num_models
    if not game.is_valid:
        nan = math.nan
        return Threshold(nan, nan, nan, -1, -1, (), "INVALID", (nan,) * max(n - 1, 0), ())
    end = exact.log1p(exact.mpf(largest))
    tilt = exact.mpf(tilt)
    pairs = [(weak, weak - 1) for weak in range(1, n)]
    if deviations == "all":
        # Without a gain, order is all that is asked, and the neighbours see to that.
        pairs += [
            (weak, strong)
            for weak in range(n)
            for strong in range(weak - 1)
            if game.rewards[strong] > game.rewards[weak]
        ]
    sets = {pair: stable_stretches(_pair(game, *pair, tilt), end) for pair in pairs}
    common = [(exact.mpf(0), end)]
    for stretches in sets.values():
        common = [
            (max(low, other_low), min(high, other_high))
            for low, high in common
            for other_low, other_high in stretches
            if max(low, other_low) <= min(high, other_high)
        ]

    def as_float(level):
        return math.inf if level == end else float(level)

    by_pair = tuple(
        float(sets[weak, weak - 1][0][0]) if sets[weak, weak - 1] else math.inf
        for weak in range(1, n)
    )
    if not common:
        inf = math.inf
        return Threshold(inf, inf, inf, -1, -1, (), "NOWHERE", by_pair, ())
    (first, last), (settled, final) = common[0], common[-1]
    decider, deciders = (-1, -1), ()
    if first > 0:
        nearly = _CONTEST_TOLERANCE * (1 + first)
        starts = {pair: [low for low, _ in found] for pair, found in sets.items()}
        deciders = tuple(
            sorted(p for p, lows in starts.items() if any(abs(y - first) <= nearly for y in lows))
        )
        decider = min(pair for pair, lows in starts.items() if first in lows)
    if last < end:
        status = "INTERVAL"
    else:
        status = "STABLE_AT_ZERO" if first == 0 else "FOUND"
    return Threshold(
        delta=float(first),
        upper=as_float(last),
        settled=float(settled) if final == end else math.inf,
        weak=decider[0],
        rival=decider[1],
        deciders=deciders,
        status=status,
        by_pair=by_pair,
        stretches=tuple((float(low), as_float(high)) for low, high in common),
    )


def threshold_bounds(
    game, deviations="all", largest=LARGEST_FLOAT64, ulps=4, dtype: DTypeLike = np.float64
):
    """What becomes of `threshold` when every input changes by some units in the last place.

    Each pair's parameters are moved against the pair, then in its favour. The stabilizing set of
    any game whose inputs are that close to the given ones contains the first set and lies inside
    the second; exact ties are kept. So delta lies between the second's and the first's, and
    `settled` too; `upper` between theirs where both have as many stretches.

    Returns:
      (inner, outer): Thresholds of the two extremes.
    """
    tilt = exact.mpf(ulps) * float(np.finfo(dtype).eps)
    inner = threshold(game, deviations, largest, -tilt)
    outer = threshold(game, deviations, largest, tilt)
    return inner, outer


# ---------------------------------------------------------------------------------------------
# Many games, in NumPy
# ---------------------------------------------------------------------------------------------


def reference_thresholds(games, deviations="all", largest=LARGEST_FLOAT64, chunk=1 << 17):
    """The stabilizing sets of many games in float64, by the same pieces as `threshold`.

    Args:
      games: dict of arrays, as `random_games` makes them; any dtype, taken as exact.
      deviations: "all" or "adjacent".
      largest: greatest level that counts.
      chunk: pairs worked on at a time, about 400 bytes each.

    Returns:
      dict of arrays `[count]`: delta, upper and settled in y = log(1 + delta), weak and rival,
      status as names, contested (another pair starts within 1e-9 (1 + delta) of the deciding
      one), stretches (number of them in the set); and by_pair `[count, n-1]`.
    """
    shape = np.shape(games["alpha"])
    games = {"cost_exponent": np.array(1.0), **games}
    games = {k: np.broadcast_to(np.asarray(v, np.float64), shape) for k, v in games.items()}
    pairs = shape[1] * (shape[1] - 1) // 2 if deviations == "all" else shape[1] - 1
    step = max(1, chunk // max(pairs, 1))
    chunks = [
        _reference_chunk({k: v[i : i + step] for k, v in games.items()}, deviations, largest)
        for i in range(0, max(shape[0], 1), step)
    ]
    return {name: np.concatenate([part[name] for part in chunks]) for name in chunks[0]}


def _reference_chunk(games, deviations, largest):
    count, n = games["alpha"].shape
    end = np.log1p(largest)
    weak, strong = np.tril_indices(n, -1)
    adjacent = weak == strong + 1
    if deviations == "adjacent":
        weak, strong = weak[adjacent], strong[adjacent]
        adjacent = adjacent[adjacent]
    invalid = ~np.isfinite(np.stack(list(games.values()))).all(axis=(0, -1))
    with np.errstate(invalid="ignore"):
        invalid |= (np.diff(games["rewards"], axis=-1) > 0).any(axis=-1)
    invalid |= ~((games["upper"] > games["lower"]) & (games["cost_rate"] > 0)).all(axis=-1)

    with np.errstate(all="ignore"):
        gain = games["rewards"][:, strong] - games["rewards"][:, weak]
        worth = (gain / games["cost_rate"][:, weak]) ** (1 / games["cost_exponent"][:, weak])
        pairs = {"worth": worth.ravel()}
        for name in ("alpha", "beta", "lower", "upper"):
            pairs[name + "_s"] = games[name][:, strong].ravel()
            pairs[name + "_w"] = games[name][:, weak].ravel()
        asked = (gain > 0) | adjacent
        asked &= ~invalid[:, None]
        low = np.full((asked.size, 3), np.inf)
        high = np.full((asked.size, 3), -np.inf)
        low[~asked.ravel(), 0], high[~asked.ravel(), 0] = 0.0, end
        chosen = np.flatnonzero(asked)
        low[chosen], high[chosen] = _reference_stretches(_take(pairs, chosen), end)
    low, high = low.reshape(*asked.shape, 3), high.reshape(*asked.shape, 3)

    def first_common_level(y):
        """First level at or above y that all pairs allow."""
        while True:
            ahead = np.where(high >= y[:, None, None], np.maximum(low, y[:, None, None]), np.inf)
            following = ahead.min(axis=-1).max(axis=-1, initial=0.0)
            if np.array_equal(following, y):
                return y
            y = following

    def common_end(y):
        here = (low <= y[:, None, None]) & (high >= y[:, None, None])
        return np.where(here, high, -np.inf).max(axis=-1).min(axis=-1, initial=end)

    delta = first_common_level(np.zeros(count))
    found = delta < np.inf
    upper = np.where(found, common_end(delta), np.inf)
    to_end = np.where(high == end, low, np.inf).min(axis=-1)
    settled = to_end.max(axis=-1, initial=0.0)

    # How many stretches there are: step from one to the next.
    stretches = found.astype(int)
    reached = np.where(found, upper, np.inf)
    while (more := reached < end).any():
        following = first_common_level(np.where(more, np.nextafter(reached, np.inf), np.inf))
        stretches += following < np.inf
        reached = np.where(following < np.inf, common_end(following), np.inf)

    decided = found & (delta > 0)
    at = decided[:, None] & (low == delta[:, None, None]).any(axis=-1)
    with np.errstate(invalid="ignore"):
        nearly = np.abs(low - delta[:, None, None]) <= _CONTEST_TOLERANCE * (
            1 + delta[:, None, None]
        )
    decider = at.argmax(axis=-1) if at.shape[-1] else np.zeros(count, int)
    pair_index = np.concatenate([weak, [-1]]), np.concatenate([strong, [-1]])
    decider = np.where(decided, decider, -1)
    upper = np.where(upper == end, np.inf, upper)
    status = np.select(
        [invalid, ~found, upper < np.inf, delta == 0],
        ["INVALID", "NOWHERE", "INTERVAL", "STABLE_AT_ZERO"],
        "FOUND",
    )
    nan = np.where(invalid, np.nan, 0.0)
    return {
        "delta": delta + nan,
        "upper": upper + nan,
        "settled": settled + nan,
        "weak": pair_index[0][decider],
        "rival": pair_index[1][decider],
        "status": status,
        "contested": (decided[:, None] & nearly.any(axis=-1)).sum(axis=-1) > 1,
        "stretches": np.where(invalid, 0, stretches),
        "by_pair": low[:, adjacent, 0] + nan[:, None],
    }


def _take(pairs, index):
    return {name: values[index] for name, values in pairs.items()}


def _reference_stretches(pairs, end):
    """Low and high `[pairs, 3]` of each pair's stable stretches; (inf, -inf) where fewer."""
    span = pairs["upper_s"] - pairs["lower_s"]
    pairs = {
        **pairs,
        "a": (pairs["lower_s"] - pairs["lower_w"]) / span,
        "one_plus_a": (pairs["upper_s"] - pairs["lower_w"]) / span,
        "b": (pairs["upper_w"] - pairs["upper_s"]) / span,
        "one_plus_b": (pairs["upper_w"] - pairs["lower_s"]) / span,
        "width": (pairs["upper_w"] - pairs["lower_w"]) / span,
    }
    equal = (pairs["a"] == 0) & (pairs["b"] == 0)
    order_only = (pairs["worth"] == 0) | (pairs["beta_w"] <= 0)
    low = np.full((equal.size, 3), np.inf)
    high = np.full((equal.size, 3), -np.inf)
    for mask, solve in (
        (equal & order_only, _reference_equal_order),
        (equal & ~order_only, _reference_equal_margin),
        (~equal, _reference_different),
    ):
        chosen = np.flatnonzero(mask)
        if chosen.size:
            low[chosen], high[chosen] = solve(_take(pairs, chosen), end)
    return low, high


def _equal_order(pairs, y):
    slope = pairs["beta_s"] - pairs["beta_w"]
    return pairs["alpha_s"] - pairs["alpha_w"] + slope * y, slope


def _equal_margin(pairs, y):
    d = (pairs["alpha_s"] - pairs["alpha_w"]) / pairs["beta_w"]
    m = (pairs["beta_s"] - pairs["beta_w"]) / pairs["beta_w"]
    weight = pairs["worth"] * np.exp(-y)
    return d + m * y - np.log1p(weight), m + weight / (1 + weight)


def _logs(pairs, y):
    """Logs of p, q, p + a and q + b; p + a and q + b themselves are not positive where NaN."""
    z = pairs["alpha_s"] + pairs["beta_s"] * y
    p, q = expit(z), expit(-z)
    above = np.where(z >= 0, pairs["one_plus_a"] - q, p + pairs["a"])
    below = np.where(z >= 0, q + pairs["b"], pairs["one_plus_b"] - p)
    log_p, log_q = log_expit(z), log_expit(-z)
    # With a shared limit the logs survive where p or q itself underflows.
    log_above = np.where(pairs["a"] == 0, log_p, np.log(above))
    log_below = np.where(pairs["b"] == 0, log_q, np.log(below))
    log_above = np.where(above <= 0, np.where(pairs["a"] == 0, log_p, -np.inf), log_above)
    log_below = np.where(below <= 0, np.where(pairs["b"] == 0, log_q, -np.inf), log_below)
    return p, q, above, below, log_p + log_q - log_above - log_below, log_above - log_below


def _different_order(pairs, y):
    *_, log_ratio, logit = _logs(pairs, y)
    value = logit - pairs["alpha_w"] - pairs["beta_w"] * y
    return value, pairs["beta_s"] * pairs["width"] * np.exp(log_ratio) - pairs["beta_w"]


def _different_margin(pairs, y):
    *_, log_ratio, logit = _logs(pairs, y)
    weight = pairs["worth"] * np.exp(-y)
    value = (logit - pairs["alpha_w"]) / pairs["beta_w"] - y - np.log1p(weight)
    slope = pairs["beta_s"] / pairs["beta_w"] * pairs["width"] * np.exp(log_ratio)
    return value, slope - 1 / (1 + weight)


def _different_rise(pairs, y):
    p, q, above, below, log_ratio, logit = _logs(pairs, y)
    log_slope = np.log(pairs["beta_s"] / pairs["beta_w"] * pairs["width"]) + log_ratio
    value = (logit - pairs["alpha_w"]) / pairs["beta_w"] + log_slope - y
    over_above = np.where(pairs["a"] == 0, 0.0, q * pairs["a"] / above)
    over_below = np.where(pairs["b"] == 0, 0.0, p * pairs["b"] / below)
    slope = np.exp(log_slope) + pairs["beta_s"] * (over_above - over_below) - 1
    return np.where((above <= 0) & (pairs["a"] != 0), np.inf, value), slope


def _reference_roots(function, pairs, low, high, rising):
    """Vectorised `_root`, to about four units in the last place of 1 + y."""
    tolerance = 4 * np.finfo(np.float64).eps
    result = np.empty_like(low)
    index = np.arange(low.size)
    y, last_move = (low + high) / 2, high - low
    for _ in range(500):
        if not index.size:
            return result
        value, slope = function(pairs, y)
        left = (value < 0) == rising
        low, high = np.where(left, y, low), np.where(left, high, y)
        newton = y - value / slope
        move = np.abs(newton - y)
        inside = (low < newton) & (newton < high) & (2 * move <= last_move)
        following = np.where(inside, newton, (low + high) / 2)
        converged = (value == 0) | (move <= tolerance * (1 + y))
        narrow = high - low <= tolerance * (1 + high)
        answer = np.where(value == 0, y, np.clip(newton, low, high))
        answer = np.where(narrow & ~converged, (low + high) / 2, answer)
        done = converged | narrow
        result[index[done]] = answer[done]
        last_move = np.abs(following - y)
        keep = ~done
        index, rising, pairs = index[keep], rising[keep], _take(pairs, keep)
        low, high, y, last_move = low[keep], high[keep], following[keep], last_move[keep]
    raise ArithmeticError("roots not found")


def _reference_sign_stretches(function, pairs, points, values):
    """Vectorised `_sign_stretches`: points and values `[pairs, k]`, k <= 5."""
    size, num_points = points.shape
    low, high = np.full((size, 3), np.inf), np.full((size, 3), -np.inf)
    number = np.zeros(size, int)
    is_open = values[:, 0] >= 0
    start = points[:, 0].copy()

    def close(which, stop):
        low[which, number[which]] = start[which]
        high[which, number[which]] = stop
        number[which] += 1

    for piece in range(num_points - 1):
        at_low, at_high = values[:, piece], values[:, piece + 1]
        changed = np.flatnonzero((at_low >= 0) != (at_high >= 0))
        rising = at_low[changed] < 0
        left, right = points[changed, piece], points[changed, piece + 1]
        root = _reference_roots(function, _take(pairs, changed), left, right, rising)
        root = np.where(at_low[changed] == 0, left, np.where(at_high[changed] == 0, right, root))
        start[changed[rising]] = root[rising]
        close(changed[~rising], root[~rising])
        is_open[changed] = rising
    last = np.flatnonzero(is_open)
    close(last, points[last, -1])
    return low, high


def _reference_equal_order(pairs, end):
    size = pairs["worth"].size
    points = np.broadcast_to([0.0, end], (size, 2))
    values = np.stack([_equal_order(pairs, points[:, k])[0] for k in range(2)], axis=-1)
    return _reference_sign_stretches(_equal_order, pairs, points, values)


def _reference_equal_margin(pairs, end):
    size = pairs["worth"].size
    m = (pairs["beta_s"] - pairs["beta_w"]) / pairs["beta_w"]
    peak = np.log(pairs["worth"]) + np.log1p(m) - np.log(-m)
    peak = np.where((m < 0) & (m > -1), np.clip(peak, 0, end), 0.0)
    points = np.stack([np.zeros(size), peak, np.full(size, end)], axis=-1)
    values = np.stack([_equal_margin(pairs, points[:, k])[0] for k in range(3)], axis=-1)
    return _reference_sign_stretches(_equal_margin, pairs, points, values)


def _reference_different(pairs, end):
    """Stretches of pairs with different limits; the same steps as `stable_stretches`."""
    size = pairs["worth"].size
    a, b = pairs["a"], pairs["b"]
    rising, flat = pairs["beta_s"] > 0, pairs["beta_s"] == 0
    _, _, above, below, _, _ = _logs(pairs, np.zeros(size))
    empty = (pairs["one_plus_a"] <= 0) | (flat & (above <= 0))
    whole = ~empty & ((pairs["one_plus_b"] <= 0) | (flat & (below <= 0)))

    low, high = np.zeros(size), np.full(size, end)
    before, after = np.zeros(size), np.zeros(size)
    edge = (np.log(-a / pairs["one_plus_a"]) - pairs["alpha_s"]) / pairs["beta_s"]
    enters = (a < 0) & rising & (edge > 0)
    leaves = (a < 0) & ~rising & ~flat & (edge < end)
    low, before = np.where(enters, edge, low), np.where(enters, -1, before)
    high, after = np.where(leaves, edge, high), np.where(leaves, -1, after)
    edge = (np.log(pairs["one_plus_b"] / -b) - pairs["alpha_s"]) / pairs["beta_s"]
    enters = (b < 0) & ~rising & ~flat & (edge > 0)
    leaves = (b < 0) & rising & (edge < end)
    low, before = np.where(enters, edge, low), np.where(enters, 1, before)
    high, after = np.where(leaves, edge, high), np.where(leaves, 1, after)
    unset = ~empty & ~whole
    too_late, too_early = unset & (low >= end), unset & (high <= 0)
    whole |= (too_late & (before == 1)) | (too_early & (after == 1))
    empty |= (too_late & (before != 1)) | (too_early & (after != 1))

    result_low = np.full((size, 3), np.inf)
    result_high = np.full((size, 3), -np.inf)
    result_low[whole, 0], result_high[whole, 0] = 0.0, end
    order_only = (pairs["worth"] == 0) | (pairs["beta_w"] <= 0)
    unset = ~empty & ~whole
    for mask, function in (
        (unset & order_only, _different_order),
        (unset & ~order_only, _different_margin),
    ):
        i = np.flatnonzero(mask)
        if not i.size:
            continue
        chosen = _take(pairs, i)
        if function is _different_order:
            inner = _order_turns(chosen, low[i], high[i])
        else:
            inner = _margin_turns(chosen, low[i], high[i], before[i], after[i])
        points = np.concatenate([low[i, None], inner, high[i, None]], axis=-1)
        values = np.stack(
            [function(chosen, points[:, k])[0] for k in range(points.shape[-1])], axis=-1
        )
        at_low = (points == low[i, None]) & (before[i, None] != 0)
        at_high = (points == high[i, None]) & (after[i, None] != 0)
        values = np.where(at_low, before[i, None], values)
        values = np.where(at_high, after[i, None], values)
        starts, stops = _reference_sign_stretches(function, chosen, points, values)
        starts = np.where((before[i, None] == 1) & (starts == low[i, None]), 0.0, starts)
        stops = np.where((after[i, None] == 1) & (stops == high[i, None]), end, stops)
        result_low[i], result_high[i] = starts, stops
    return result_low, result_high


def _quadratic_levels(pairs, low, high, square, linear, constant):
    """Levels inside (low, high) at which t = p / q is a root, sorted; unused ones are `low`."""
    root = np.sqrt(linear**2 - 4 * square * constant)
    larger = -(linear + np.where(linear >= 0, root, -root)) / 2
    t = np.stack([larger / square, constant / larger], axis=-1)
    y = (np.log(t) - pairs["alpha_s"][:, None]) / pairs["beta_s"][:, None]
    return np.sort(np.where((y > low[:, None]) & (y < high[:, None]), y, low[:, None]), axis=-1)


def _order_turns(pairs, low, high):
    a, b, p_all, q_all = pairs["a"], pairs["b"], pairs["one_plus_a"], pairs["one_plus_b"]
    return _quadratic_levels(
        pairs,
        low,
        high,
        pairs["beta_w"] * b * p_all,
        pairs["beta_w"] * (p_all * q_all + a * b) - pairs["beta_s"] * pairs["width"],
        pairs["beta_w"] * a * q_all,
    )


def _margin_turns(pairs, low, high, before, after):
    """Roots of G inside (low, high), at most three, sorted; unused ones are `low`."""
    a, b, p_all, q_all = pairs["a"], pairs["b"], pairs["one_plus_a"], pairs["one_plus_b"]
    turns = _quadratic_levels(
        pairs,
        low,
        high,
        (1 + pairs["beta_s"]) * b * p_all,
        p_all * q_all + a * b - pairs["beta_s"] / pairs["beta_w"] * pairs["width"],
        (1 - pairs["beta_s"]) * a * q_all,
    )
    points = np.concatenate([low[:, None], turns, high[:, None]], axis=-1)
    values = np.stack([_different_rise(pairs, points[:, k])[0] for k in range(4)], axis=-1)
    values = np.where((points == low[:, None]) & (before[:, None] != 0), 1.0, values)
    values = np.where((points == high[:, None]) & (after[:, None] != 0), np.inf, values)
    roots = np.repeat(low[:, None], 3, axis=-1)
    for piece in range(3):
        at_low, at_high = values[:, piece], values[:, piece + 1]
        i = np.flatnonzero(((at_low < 0) != (at_high < 0)) & (pairs["beta_s"] > 0))
        roots[i, piece] = _reference_roots(
            _different_rise,
            _take(pairs, i),
            points[i, piece],
            points[i, piece + 1],
            at_low[i] < 0,
        )
    # Just before the rival gets out of reach W can fall and rise again within a rounding of z:
    # the least of it is then no number, and its value is known on the near side alone.
    rest = np.where(after == 1, pairs["beta_s"] * pairs["one_plus_b"], 1)
    hair = 1 + high + (1 + np.abs(pairs["alpha_s"])) / np.abs(rest)
    last = np.where(after == 1, high - 8 * np.finfo(np.float64).eps * hair, high)
    return np.sort(np.minimum(roots, np.maximum(last, low)[:, None]), axis=-1)


def disagreements(
    games,
    answer,
    deviations="all",
    tolerance=1e-9,
    ulps=4,
    dtype: DTypeLike = np.float64,
    largest=None,
    most=100,
):
    """Games whose answer is wrong: compared with the NumPy reference, then exactly.

    An answer counts as right if its status is the reference's, each level y = log(1 + delta) is
    within tolerance * (1 + y) of it, and the deciding pair is the same. What is left is judged
    by `threshold` and `threshold_bounds`: a change of the inputs by `ulps` units in the last
    place may explain it.

    Args:
      games: dict of arrays, as `random_games` makes them.
      answer: dict of arrays `[count]`: delta, upper, settled in steps (not logs) and status as
        names; optionally weak, rival, and by_pair `[count, n-1]`.
      deviations: "all" or "adjacent".
      tolerance: allowed error in y, relative to 1 + y.
      ulps: allowed change of every input, in units in the last place of `dtype`.
      dtype: dtype in which the answer was computed.
      largest: greatest level that counts; by default the largest number of `dtype`.
      most: how many suspects are judged exactly; more of them raise an error.

    Returns:
      List of dicts, one for each wrong game: index, what is wrong, answer, expected.
    """
    largest = float(np.finfo(dtype).max) if largest is None else largest
    levels = [name for name in ("delta", "upper", "settled", "by_pair") if name in answer]
    with np.errstate(invalid="ignore"):
        answer = {
            name: np.log1p(np.asarray(v, np.float64)) if name in levels else np.asarray(v)
            for name, v in answer.items()
        }
    expected = reference_thresholds(games, deviations, largest)
    suspect = answer["status"] != expected["status"]
    for name in levels:
        wrong = ~_is_close(answer[name], expected[name], tolerance)
        suspect |= wrong.any(axis=-1) if name == "by_pair" else wrong
    if "weak" in answer:
        wrong = (answer["weak"] != expected["weak"]) | (answer["rival"] != expected["rival"])
        suspect |= wrong & ~expected["contested"]
    suspects = np.flatnonzero(suspect)
    if suspects.size > most:
        i = suspects[0]
        raise AssertionError(
            f"{suspects.size} of {suspect.size} games differ from the reference; first {i}: "
            f"{ {k: v[i] for k, v in answer.items()} }, expected "
            f"{ {k: v[i] for k, v in expected.items()} }"
        )
    found = []
    for i in suspects:
        game = single_game(games, i)
        row = {name: values[i] for name, values in answer.items()}
        nominal = threshold(game, deviations, largest)
        near = threshold_bounds(game, deviations, largest, ulps, dtype)
        wrong = _wrong_fields(row, (nominal, *near), tolerance)
        if wrong:
            found.append(
                {"index": int(i), "wrong": wrong, "answer": row, "expected": nominal, "near": near}
            )
    return found


def _is_close(value, expected, tolerance):
    with np.errstate(invalid="ignore"):
        near = np.abs(value - expected) <= tolerance * (1 + np.abs(expected))
    return near | (value == expected) | (np.isnan(value) & np.isnan(expected))


def _wrong_fields(row, candidates, tolerance):
    """Fields of an answer outside what the exact Thresholds of near games span."""

    def outside(value, levels):
        if any(_is_close(value, level, tolerance) for level in levels):
            return False
        return not min(levels) <= value <= max(levels)

    wrong = []
    if row["status"] not in {candidate.status for candidate in candidates}:
        wrong.append("status")
    for name in ("delta", "upper", "settled"):
        if name in row and outside(row[name], [getattr(c, name) for c in candidates]):
            wrong.append(name)
    for pair, value in enumerate(row.get("by_pair", ())):
        if outside(value, [c.by_pair[pair] for c in candidates]):
            wrong.append(f"by_pair[{pair}]")
    if "weak" in row:
        pair = (int(row["weak"]), int(row["rival"]))
        allowed = {(c.weak, c.rival) for c in candidates}.union(*(c.deciders for c in candidates))
        # Neighbours who alone need the same level, as far as this dtype can tell, decide it too.
        nominal = candidates[0]
        tied = {
            (weak, weak - 1)
            for weak, level in enumerate(nominal.by_pair, start=1)
            if _is_close(level, nominal.delta, tolerance)
        }
        if pair not in allowed | tied:
            wrong.append("deciding pair")
    return wrong
