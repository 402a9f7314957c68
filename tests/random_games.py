"""Seeded random games for the tests, as plain NumPy arrays.

`random_games(seed, count, num_models, kind)` returns the raw parameters of `count` power-law games
of one kind. Nothing here imports the package, so the same arrays feed the package, the oracles of
`oracles.py` and the benchmarks. Every value is drawn in float64, then rounded to `dtype`; the
rounded values are the game.
"""

import zlib

import numpy as np
from numpy.typing import DTypeLike
from scipy.special import expit


def random_games(seed, count, num_models, kind, dtype: DTypeLike = np.float64):
    """Raw parameters of `count` random games of one kind.

    Kinds with equal limits (lower and upper are 0-d arrays):
      equal_limits: C1 holds: alpha falls and the learning rate never rises down the ranking.
      saturated: as equal_limits, but alpha from 10 to 45, so 1 - score rounds to 0.
      fast_weak: learning rates in random order, so most games have a pair with rho > 1.
      zero_gaps: many neighbours with equal rewards; half the games as fast_weak.
      ties: neighbours with exactly equal alpha, learning rate or reward.
      tiny_beta: learning rates from 1e-8 to 1e-2; alpha on their scale in half the games.
      near_ties: rho within 1e-7 to 1e-2 of 1 on either side, small gaps in alpha.
      huge_gaps, tiny_gaps: as equal_limits, with rewards times 1e8 and 1e-6.
      falling: some learning rates are negative or zero.
      unequal_costs: as equal_limits, with a cost rate for each model, [count, num_models].
    Kinds with a lower and an upper limit for each model:
      different_limits: C1 and C3 hold in some pairs only; shared upper, shared lower or no
        shared limits, a third each.
      out_of_reach: upper limits fall down the ranking, so strong models get out of reach.
      monotone_different_limits: C1 and C3 hold throughout.
      saturated_different_limits: alpha from 5 to 45.
      falling_different_limits: some learning rates are negative or zero.
      interval_then_ray: around the game whose stabilizing set is an interval and then a ray.

    Args:
      seed: seed of the generator; kinds with the same seed are drawn independently.
      count: number of games.
      num_models: models in each game, strongest first.
      kind: one of `KINDS`.
      dtype: dtype of all arrays.

    Returns:
      dict of alpha, beta, rewards `[count, num_models]`; lower, upper `[]` or
      `[count, num_models]`; cost_rate `[count, 1]` or `[count, num_models]`. Rewards fall or stay
      equal down the ranks, and cost rates are positive.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}; got {kind!r}")
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    games = _ordered_games(rng, count, num_models)
    if kind in EQUAL_LIMIT_KINDS:
        EQUAL_LIMIT_KINDS[kind](rng, games)
        games["lower"], games["upper"] = np.array(0.0), np.array(1.0)
    else:
        DIFFERENT_LIMIT_KINDS[kind](rng, games)
    games = {name: values.astype(dtype) for name, values in games.items()}
    if kind == "monotone_different_limits":
        _restrict_to_monotone(rng, games)
    return games


def mixed_games(seed, count, num_models, kinds, dtype: DTypeLike = np.float64):
    """`count` games of each kind in one batch, all with the shapes of `alpha`.

    Limits that are equal for all kinds stay 0-d arrays.
    """
    parts = [random_games(seed, count, num_models, kind, dtype) for kind in kinds]
    games = {}
    for name, first in parts[0].items():
        if first.ndim == 0:
            games[name] = first
        else:
            wide = [np.broadcast_to(part[name], part["alpha"].shape) for part in parts]
            games[name] = np.concatenate(wide)
    return games


def _log_uniform(rng, low, high, shape):
    return np.exp(rng.uniform(np.log(low), np.log(high), shape))


def _ordered_games(rng, count, n):
    """Games that meet C1: strictly falling alpha, learning rates that never rise."""
    shape = (count, n)
    gaps = _log_uniform(rng, 1e-3, 3.0, shape)
    alpha = rng.uniform(-2, 4, (count, 1)) - np.cumsum(gaps, axis=-1)
    beta = -np.sort(-_log_uniform(rng, 0.05, 1.5, shape), axis=-1)
    # A share of games with one learning rate for all: rho is exactly 1.
    same = rng.random((count, 1)) < 0.1
    beta = np.where(same, beta[:, :1], beta)
    cost_rate = _log_uniform(rng, 1e-3, 1e3, (count, 1))
    worth = _log_uniform(rng, 1.0, 1e5, (count, 1))
    rewards = _reward_schemes(rng, count, n) * worth * cost_rate
    return {"alpha": alpha, "beta": beta, "rewards": rewards, "cost_rate": cost_rate}


def _reward_schemes(rng, count, n):
    """Winner-take-all, top-k, equal gaps, geometric or irregular; largest adjacent gap 1."""
    rank = np.arange(n)
    k = rng.integers(1, max(n, 2), (count, 1))
    ratio = rng.uniform(0.3, 0.95, (count, 1))
    irregular = -np.sort(-_log_uniform(rng, 1e-2, 1.0, (count, n)), axis=-1)
    schemes = np.stack(
        [
            np.broadcast_to(rank == 0, (count, n)).astype(float),
            (rank < k).astype(float),
            np.broadcast_to((n - 1.0) - rank, (count, n)),
            ratio**rank,
            irregular,
        ]
    )
    chosen = schemes[rng.integers(0, len(schemes), count), np.arange(count)]
    if n < 2:
        return chosen
    return chosen / np.max(chosen[:, :-1] - chosen[:, 1:], axis=-1, keepdims=True)


def _make_equal_limits(rng, games):
    pass


def _make_saturated(rng, games):
    count = len(games["alpha"])
    games["alpha"] += np.maximum(0, rng.uniform(10, 45, (count, 1)) - games["alpha"][:, -1:])


def _make_fast_weak(rng, games):
    beta = rng.permuted(games["beta"], axis=-1)
    # Far-apart learning rates swap the ranking before any level stabilizes; most are near.
    nearness = _log_uniform(rng, 1e-3, 1.0, (len(beta), 1))
    games["beta"] = beta[:, :1] * (beta / beta[:, :1]) ** nearness


def _make_zero_gaps(rng, games):
    shape = games["alpha"].shape
    # Each rank takes the reward of the rank above with probability 0.6.
    for rank in range(1, shape[1]):
        same = rng.random(shape[0]) < 0.6
        rewards = games["rewards"]
        rewards[:, rank] = np.where(same, rewards[:, rank - 1], rewards[:, rank])
    np.minimum.accumulate(games["rewards"], axis=-1, out=games["rewards"])
    shuffled = rng.permuted(games["beta"], axis=-1)
    games["beta"] = np.where(rng.random((shape[0], 1)) < 0.5, shuffled, games["beta"])


def _make_ties(rng, games):
    count, n = games["alpha"].shape
    shuffled = rng.permuted(games["beta"], axis=-1)
    games["beta"] = np.where(rng.random((count, 1)) < 0.25, shuffled, games["beta"])
    for name in ("alpha", "beta", "rewards"):
        values = games[name]
        for model in range(1, n):
            tied = rng.random(count) < 0.3
            values[:, model] = np.where(tied, values[:, model - 1], values[:, model])
    np.minimum.accumulate(games["rewards"], axis=-1, out=games["rewards"])


def _make_tiny_beta(rng, games):
    count = len(games["alpha"])
    scale = _log_uniform(rng, 1e-8, 1e-2, (count, 1))
    games["beta"] = games["beta"] * scale
    close = rng.random((count, 1)) < 0.5
    spread = games["alpha"] - games["alpha"][:, :1]
    start = games["alpha"][:, :1]
    games["alpha"] = np.where(close, start + spread * scale, games["alpha"])


def _make_near_ties(rng, games):
    count, n = games["alpha"].shape
    nearness = _log_uniform(rng, 1e-7, 1e-2, (count, 1))
    order = np.where(rng.random((count, 1)) < 0.7, np.arange(n)[None, ::-1], np.arange(n))
    steps = (order + 0.5 * rng.random((count, n))) * nearness
    games["beta"] = games["beta"][:, :1] * (1 + steps)
    closeness = _log_uniform(rng, 1e-4, 1.0, (count, 1))
    start = games["alpha"][:, :1]
    games["alpha"] = start + (games["alpha"] - start) * closeness


def _make_huge_gaps(rng, games):
    games["rewards"] *= 1e8


def _make_tiny_gaps(rng, games):
    games["rewards"] *= 1e-6
    # Rewards this small matter only between models that are close.
    start = games["alpha"][:, :1]
    closeness = _log_uniform(rng, 1e-6, 1.0, (len(start), 1))
    games["alpha"] = start + (games["alpha"] - start) * closeness


def _make_falling(rng, games):
    shape = games["beta"].shape
    draw = rng.random(shape)
    beta = np.where(draw < 0.2, -games["beta"], games["beta"])
    games["beta"] = np.where(draw > 0.93, 0.0, beta)
    # Weak models that fall are the commoner case; half the games keep learning rates in order.
    in_order = -np.sort(-games["beta"], axis=-1)
    games["beta"] = np.where(rng.random((shape[0], 1)) < 0.5, in_order, games["beta"])


def _make_unequal_costs(rng, games):
    count, n = games["alpha"].shape
    games["cost_rate"] = games["cost_rate"] * _log_uniform(rng, 0.1, 10.0, (count, n))


def _make_different_limits(rng, games):
    count, n = games["alpha"].shape
    games["beta"] = np.where(
        rng.random((count, 1)) < 0.5, rng.permuted(games["beta"], axis=-1), games["beta"]
    )
    spread = _log_uniform(rng, 1e-3, 0.15, (count, 1))
    lower = rng.uniform(0.1, 0.35, (count, 1)) + spread * rng.uniform(-0.5, 0.5, (count, n))
    upper = rng.uniform(0.7, 0.95, (count, 1)) + spread * rng.uniform(-0.5, 0.5, (count, n))
    # In half the games the limits follow the ranking, so that some level keeps it right.
    in_order = rng.random((count, 1)) < 0.5
    lower = np.where(in_order, -np.sort(-lower, axis=-1), lower)
    upper = np.where(in_order, -np.sort(-upper, axis=-1), upper)
    shared = rng.integers(0, 3, (count, 1))
    games["lower"] = np.where(shared == 1, lower[:, :1], lower)
    games["upper"] = np.where(shared == 2, upper[:, :1], upper)


def _make_out_of_reach(rng, games):
    _make_different_limits(rng, games)
    count, n = games["alpha"].shape
    drops = _log_uniform(rng, 1e-3, 0.2, (count, 1)) * rng.random((count, n)) / n
    games["upper"] = rng.uniform(0.85, 1.0, (count, 1)) - np.cumsum(drops, axis=-1)


def _make_monotone_different_limits(rng, games):
    count, n = games["alpha"].shape
    games["lower"] = np.repeat(rng.uniform(0.1, 0.35, (count, 1)), n, axis=-1)
    games["upper"] = np.repeat(rng.uniform(0.85, 1.0, (count, 1)), n, axis=-1)


def _make_saturated_different_limits(rng, games):
    _make_different_limits(rng, games)
    count = len(games["alpha"])
    games["alpha"] += np.maximum(0, rng.uniform(5, 45, (count, 1)) - games["alpha"][:, -1:])


def _make_falling_different_limits(rng, games):
    _make_different_limits(rng, games)
    _make_falling(rng, games)


def _make_interval_then_ray(rng, games):
    """Pairs like MODEL.md's example, repeated down the ranking with a small drift."""
    count, n = games["alpha"].shape
    weak = np.arange(n) % 2 == 1
    step = np.arange(n) // 2
    jitter = _log_uniform(rng, 1e-3, 0.3, (count, 1))

    def around(strong_value, weak_value, scale):
        base = np.where(weak, weak_value, strong_value)
        return base + scale * jitter * rng.uniform(-1, 1, (count, n))

    games["alpha"] = around(-0.19, -2.467, 1.0) - step * rng.uniform(0, 3, (count, 1))
    games["beta"] = around(0.389, 1.103, 0.3)
    games["lower"] = around(0.12, 0.127, 0.03)
    games["upper"] = around(0.931, 0.842, 0.2)
    games["rewards"] = games["rewards"] / games["cost_rate"]
    games["rewards"] *= 10 / np.max(games["rewards"], axis=-1, keepdims=True, initial=1e-300)
    games["rewards"] *= games["cost_rate"] * _log_uniform(rng, 0.3, 3.0, (count, 1))


def _restrict_to_monotone(rng, games):
    """Redraws each weaker model until it meets C1 and C3 with the model above it.

    Works on values already rounded to the final dtype, since rounding could break C3.
    """
    count, n = games["alpha"].shape
    dtype = games["alpha"].dtype

    def column(name, model, where):
        return games[name][where, model].astype(np.float64)

    for model in range(1, n):
        open_games = np.arange(count)
        for attempt in range(40):
            if not open_games.size:
                break
            size = open_games.size
            strong = {
                name: column(name, model - 1, open_games)
                for name in ("alpha", "beta", "lower", "upper")
            }
            shared_lower, shared_upper = rng.random((2, size)) < 0.3
            weak = {
                "alpha": strong["alpha"] - _log_uniform(rng, 1e-3, 3.0, size),
                "beta": strong["beta"] * rng.uniform(0.5, 1.0, size),
                "lower": np.where(
                    shared_lower, strong["lower"], strong["lower"] + rng.uniform(-5e-3, 2e-3, size)
                ),
                "upper": np.where(
                    shared_upper, strong["upper"], strong["upper"] - rng.uniform(0, 0.02, size)
                ),
            }
            if attempt == 39:  # limits shared with the model above: C1 and C3 hold
                weak["lower"], weak["upper"] = strong["lower"], strong["upper"]
            weak = {name: values.astype(dtype).astype(float) for name, values in weak.items()}
            accepted = _is_monotone_pair(strong, weak)
            for name, values in weak.items():
                games[name][open_games[accepted], model] = values[accepted]
            open_games = open_games[~accepted]
        if open_games.size:
            raise RuntimeError("no monotone pair found")  # the last attempt always succeeds


def _is_monotone_pair(strong, weak):
    """Whether C1 and C3 hold at every effort, with a margin for rounding.

    Both hold iff the weak model starts below and the effort gap e^Y - e^y never falls, where
    Y(y) is the log effort at which the weak model has the strong model's score. The gap rises iff
    G = Y + log Y' - y >= 0, and G has at most two turning points.
    """
    span = strong["upper"] - strong["lower"]
    a = (strong["lower"] - weak["lower"]) / span
    b = (weak["upper"] - strong["upper"]) / span
    ratio = strong["beta"] / weak["beta"]

    def rise(y):
        z = strong["alpha"] + strong["beta"] * y
        log_p, log_q = -np.logaddexp(0, -z), -np.logaddexp(0, z)
        log_pa = np.where(a == 0, log_p, np.log(np.maximum(expit(z) + a, 0)))
        log_qb = np.where(b == 0, log_q, np.log(np.maximum(expit(-z) + b, 0)))
        log_effort = (log_pa - log_qb - weak["alpha"]) / weak["beta"]
        log_slope = np.log(ratio * (1 + a + b)) + log_p + log_q - log_pa - log_qb
        gap_slope = log_effort + log_slope - y
        return np.where(log_qb == -np.inf, np.inf, gap_slope), log_effort - y

    with np.errstate(all="ignore"):
        rise_at_zero, gap_at_zero = rise(np.zeros_like(a))
        # Turning points of G: roots t = exp(z) of a quadratic.
        square = (1 + strong["beta"]) * b * (1 + a)
        linear = (1 + a) * (1 + b) + a * b - ratio * (1 + a + b)
        constant = (1 - strong["beta"]) * a * (1 + b)
        root = np.sqrt(linear**2 - 4 * square * constant)
        lowest = np.minimum(rise_at_zero, rise(np.full_like(a, 700.0))[0])
        larger = -(linear + np.where(linear < 0, -root, root)) / 2
        for t in (larger / square, constant / larger):
            y = (np.log(t) - strong["alpha"]) / strong["beta"]
            lowest = np.where(y > 0, np.minimum(lowest, rise(y)[0]), lowest)
    rises = lowest > 1e-9
    return (b <= 0) & (a + 1 > 0) & (gap_at_zero > 1e-9) & rises


# What turns games that meet C1, with limits 0 and 1, into games of a kind.
EQUAL_LIMIT_KINDS = {
    "equal_limits": _make_equal_limits,
    "saturated": _make_saturated,
    "fast_weak": _make_fast_weak,
    "zero_gaps": _make_zero_gaps,
    "ties": _make_ties,
    "tiny_beta": _make_tiny_beta,
    "near_ties": _make_near_ties,
    "huge_gaps": _make_huge_gaps,
    "tiny_gaps": _make_tiny_gaps,
    "falling": _make_falling,
    "unequal_costs": _make_unequal_costs,
}
DIFFERENT_LIMIT_KINDS = {
    "different_limits": _make_different_limits,
    "out_of_reach": _make_out_of_reach,
    "monotone_different_limits": _make_monotone_different_limits,
    "saturated_different_limits": _make_saturated_different_limits,
    "falling_different_limits": _make_falling_different_limits,
    "interval_then_ray": _make_interval_then_ray,
}
KINDS = (*EQUAL_LIMIT_KINDS, *DIFFERENT_LIMIT_KINDS)
