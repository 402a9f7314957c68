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
import math

import mpmath
import numpy as np
from scipy.special import expit, log_expit

exact = mpmath.mp.clone()
exact.dps = 60
_ROOT_TOLERANCE = exact.mpf(10) ** -50

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


def make_game(alpha, beta, rewards, cost_rate=1.0, lower=0.0, upper=1.0, cost_exponent=1.0):
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

    alpha_s: object
    beta_s: object
    lower_s: object
    upper_s: object
    alpha_w: object
    beta_w: object
    lower_w: object
    upper_w: object
    worth: object

    def __post_init__(self):
        span = self.upper_s - self.lower_s
        derived = {
            "a": (self.lower_s - self.lower_w) / span,
            "one_plus_a": (self.upper_s - self.lower_w) / span,
            "b": (self.upper_w - self.upper_s) / span,
            "one_plus_b": (self.upper_w - self.lower_s) / span,
            "width": (self.upper_w - self.lower_w) / span,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

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
    for step in range(1000):
        value, slope = function(y)
        if value == 0:
            return y
        if (value < 0) == rising:
            low = y
        else:
            high = y
        if high - low <= _ROOT_TOLERANCE * (1 + high):
            return (low + high) / 2
        # Newton inside the bracket; every fourth step halves it, so the loop always ends.
        following = (low + high) / 2
        if step % 4 != 3 and slope != 0 and exact.isfinite(value):
            newton = y - value / slope
            if abs(newton - y) <= _ROOT_TOLERANCE * (1 + y):
                return newton
            if low < newton < high:
                following = newton
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
      deciders: all pairs (weak, rival) with a stable stretch that starts at `delta`.
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
    deciders = ()
    if first > 0:
        deciders = tuple(
            sorted(pair for pair, found in sets.items() if any(low == first for low, _ in found))
        )
    if last < end:
        status = "INTERVAL"
    else:
        status = "STABLE_AT_ZERO" if first == 0 else "FOUND"
    return Threshold(
        delta=float(first),
        upper=as_float(last),
        settled=float(settled) if final == end else math.inf,
        weak=deciders[0][0] if deciders else -1,
        rival=deciders[0][1] if deciders else -1,
        deciders=deciders,
        status=status,
        by_pair=by_pair,
        stretches=tuple((float(low), as_float(high)) for low, high in common),
    )


def threshold_bounds(game, deviations="all", largest=LARGEST_FLOAT64, ulps=4, dtype=np.float64):
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
