"""Numba peers: compiled loops over games, parallel, one game at a time.

Written for speed: divisions are multiplied out, stable pairs and pairs satisfied at the largest y
so far are skipped, and Newton's steps end when the next would change nothing that is checked.
Without Intel's SVML, which wheels of llvmlite from PyPI do not use, the logarithms are those of
the C library, one at a time.
"""

import math

import numpy as np
from numba import njit, prange

# Games per piece of parallel work, which shares its scratch arrays.
_BLOCK = 256


def _equal_solver(tuned):
    """Δ* with equal limits, `[games]` from `[games, n]` arrays, by one compiled loop.

    First pass: the unstable pairs and, from one Newton step at y = 0, a lower bound of Δ*.
    Second pass: from there, the pair that gave the bound first; the others are mostly satisfied.
    `tuned` adds what only a specialist would: a pair is dismissed without a logarithm where a
    bound shows it stable, and steps are of third order (Halley's).
    """

    @njit(parallel=True, fastmath=True, error_model="numpy")
    def solve(alpha, beta, rewards):
        games, n = alpha.shape
        real = alpha.dtype.type
        zero, one, two = real(0), real(1), real(2)
        # After a step this small the next is below 1e-10 (float32: 1e-7).
        if tuned:
            last_step = real(3e-4) if alpha.itemsize == 8 else real(3e-3)
        else:
            last_step = real(3e-6) if alpha.itemsize == 8 else real(3e-4)
        thresholds = np.empty(games, alpha.dtype)
        for block in prange((games + _BLOCK - 1) // _BLOCK):
            spread = np.empty(n, alpha.dtype)
            weak_beta = np.empty(n, alpha.dtype)
            slope = np.empty(n, alpha.dtype)
            gap = np.empty(n, alpha.dtype)
            for i in range(block * _BLOCK, min(games, (block + 1) * _BLOCK)):
                y = zero
                first = 0
                count = 0
                for r in range(1, n):
                    g = rewards[i, r - 1] - rewards[i, r]
                    b = beta[i, r]
                    a = alpha[i, r - 1] - alpha[i, r]
                    # log1p(g) ≤ g and log1p(g)² ≤ g²/(1 + g).
                    if tuned and (a >= b * g or a * a * (one + g) >= b * b * g * g):
                        continue
                    margin = a - b * math.log(one + g)
                    if margin >= zero:
                        continue
                    m = beta[i, r - 1] - b
                    bound = -margin * (one + g) / (m * (one + g) + b * g)
                    if bound > y:
                        y = bound
                        first = count
                    spread[count], weak_beta[count], slope[count], gap[count] = a, b, m, g
                    count += 1
                decay = math.exp(-y)
                for j in range(count):
                    if j == 0:
                        k = first
                    elif j <= first:
                        k = j - 1
                    else:
                        k = j
                    a, b, m, g = spread[k], weak_beta[k], slope[k], gap[k]
                    q = g * decay
                    s = a + m * y
                    if tuned and s >= b * q:
                        continue
                    h = s - b * math.log(one + q)
                    if h >= zero:
                        continue
                    for _ in range(50):
                        p = one + q
                        rise = m * p + b * q
                        if tuned:
                            step = two * h * p * rise / (two * rise * rise + h * b * q)
                        else:
                            step = h * p / rise
                        y -= step
                        decay = math.exp(-y)
                        if -step <= last_step * (one + y):
                            break
                        q = g * decay
                        h = a + m * y - b * math.log(one + q)
                thresholds[i] = one / decay - one
        return thresholds

    return solve


newton_equal = _equal_solver(tuned=False)
tuned_equal = _equal_solver(tuned=True)


@njit(inline="always")
def _odds(odds_inverse, floor, ceiling, floor_weak, ceiling_weak):
    """Numerator and denominator of the weak model's odds at the rival's score."""
    span = ceiling - floor
    grown = odds_inverse + type(odds_inverse)(1)
    return (floor - floor_weak) * grown + span, (
        ceiling_weak - ceiling
    ) * grown + span * odds_inverse


@njit(parallel=True, fastmath=True, error_model="numpy")
def newton_different(alpha, beta, rewards, lower, upper):
    """Δ* with different limits: Newton's method within a bracket, a bisection where it leaves."""
    games, n = alpha.shape
    real = alpha.dtype.type
    zero, one, half = real(0), real(1), real(0.5)
    last_step = real(3e-6) if alpha.itemsize == 8 else real(3e-4)
    finest = real(1e-10) if alpha.itemsize == 8 else real(1e-6)
    thresholds = np.empty(games, alpha.dtype)
    for block in prange((games + _BLOCK - 1) // _BLOCK):
        for i in range(block * _BLOCK, min(games, (block + 1) * _BLOCK)):
            y = zero
            decay = one
            for r in range(1, n):
                g = rewards[i, r - 1] - rewards[i, r]
                if g <= zero:
                    continue
                a, b, floor, ceiling = (
                    alpha[i, r - 1],
                    beta[i, r - 1],
                    lower[i, r - 1],
                    upper[i, r - 1],
                )
                a_weak, b_weak, floor_weak, ceiling_weak = (
                    alpha[i, r],
                    beta[i, r],
                    lower[i, r],
                    upper[i, r],
                )
                e = math.exp(-(a + b * y))
                above, below = _odds(e, floor, ceiling, floor_weak, ceiling_weak)
                if below <= zero:
                    continue
                logit = math.log(above / below) - a_weak - b_weak * y
                q = g * decay
                if logit >= b_weak * q:
                    continue
                margin = logit - b_weak * math.log(one + q)
                if margin >= zero:
                    continue
                low = y
                # From here on the rival is out of reach.
                high = (math.log((ceiling_weak - floor) / (ceiling - ceiling_weak)) - a) / b
                for _ in range(100):
                    rise = (ceiling - floor) * b * e * (above + below) / ((one + e) * above * below)
                    rise -= b_weak / (one + q)
                    new = y - margin / rise
                    newton = low < new < high
                    if not newton:
                        new = half * (low + high)
                    step = abs(new - y)
                    y = new
                    decay = math.exp(-y)
                    if (newton and step <= last_step * (one + y)) or high - low <= finest * (
                        one + y
                    ):
                        break
                    e = math.exp(-(a + b * y))
                    above, below = _odds(e, floor, ceiling, floor_weak, ceiling_weak)
                    if below <= zero:
                        high = y
                        # Forces a bisection.
                        margin, above, below, q = one, one, one, zero
                        e = zero
                        continue
                    q = g * decay
                    margin = math.log(above / below) - a_weak - b_weak * (y + math.log(one + q))
                    if margin >= zero:
                        high = y
                    else:
                        low = y
            thresholds[i] = one / decay - one
    return thresholds


@njit(parallel=True, fastmath=True, error_model="numpy")
def bisection_different(alpha, beta, rewards, lower, upper):
    """Δ* with different limits: bisection of the pairs unstable at the largest y so far."""
    games, n = alpha.shape
    real = alpha.dtype.type
    zero, one, half = real(0), real(1), real(0.5)
    finest = real(1e-10) if alpha.itemsize == 8 else real(1e-6)
    thresholds = np.empty(games, alpha.dtype)
    for block in prange((games + _BLOCK - 1) // _BLOCK):
        for i in range(block * _BLOCK, min(games, (block + 1) * _BLOCK)):
            y = zero
            for r in range(1, n):
                g = rewards[i, r - 1] - rewards[i, r]
                if g <= zero:
                    continue
                a, b, floor, ceiling = (
                    alpha[i, r - 1],
                    beta[i, r - 1],
                    lower[i, r - 1],
                    upper[i, r - 1],
                )
                a_weak, b_weak, floor_weak, ceiling_weak = (
                    alpha[i, r],
                    beta[i, r],
                    lower[i, r],
                    upper[i, r],
                )
                low = y
                high = y
                middle = y
                while True:
                    above, below = _odds(
                        math.exp(-(a + b * middle)), floor, ceiling, floor_weak, ceiling_weak
                    )
                    stable = below <= zero
                    if not stable:
                        log_total = math.log(math.exp(middle) + g)
                        stable = math.log(above / below) >= a_weak + b_weak * log_total
                    if stable:
                        high = middle
                        if middle == y:
                            break
                    else:
                        if middle == y:
                            high = (
                                math.log((ceiling_weak - floor) / (ceiling - ceiling_weak)) - a
                            ) / b
                        low = middle
                    if high - low <= finest * (one + low):
                        break
                    middle = half * (low + high)
                y = high
            thresholds[i] = math.exp(y) - one
    return thresholds


@njit(parallel=True, fastmath=True, error_model="numpy")
def overtake_equal(alpha, beta, delta):
    """Just-overtake efforts, `[games, n-1]`."""
    games, n = alpha.shape
    one = alpha.dtype.type(1)
    efforts = np.empty((games, n - 1), alpha.dtype)
    for i in prange(games):
        total = one + delta[i]
        level = math.log(total)
        for r in range(1, n):
            b = beta[i, r]
            d = (alpha[i, r - 1] - alpha[i, r] + (beta[i, r - 1] - b) * level) / b
            efforts[i, r - 1] = total * math.expm1(d)
    return efforts


@njit(parallel=True, error_model="numpy")
def overtake_different(alpha, beta, delta, lower, upper):
    """Just-overtake efforts with different limits, `[games, n-1]`; inf where out of reach."""
    games, n = alpha.shape
    one = alpha.dtype.type(1)
    efforts = np.empty((games, n - 1), alpha.dtype)
    for i in prange(games):
        total = one + delta[i]
        level = math.log(total)
        for r in range(1, n):
            k = r - 1
            e = math.exp(-(alpha[i, k] + beta[i, k] * level))
            above, below = _odds(e, lower[i, k], upper[i, k], lower[i, r], upper[i, r])
            if below <= 0:
                efforts[i, k] = np.inf
            else:
                log_total = (math.log(above / below) - alpha[i, r]) / beta[i, r]
                efforts[i, k] = total * math.expm1(log_total - level)
    return efforts


@njit(parallel=True, fastmath=True, error_model="numpy")
def verdict_equal(alpha, beta, rewards, delta):
    """Whether the all-zero profile is an equilibrium; the first pair that gains ends a game."""
    games, n = alpha.shape
    one = alpha.dtype.type(1)
    stable = np.empty(games, np.bool_)
    for i in prange(games):
        total = one + delta[i]
        level = math.log(total)
        holds = True
        for r in range(1, n):
            b = beta[i, r]
            q = (rewards[i, r - 1] - rewards[i, r]) / total
            s = alpha[i, r - 1] - alpha[i, r] + (beta[i, r - 1] - b) * level
            if s < b * q and s < b * math.log(one + q):
                holds = False
                break
        stable[i] = holds
    return stable


@njit(parallel=True, fastmath=True, error_model="numpy")
def verdict_different(alpha, beta, rewards, delta, lower, upper):
    """The same with different limits."""
    games, n = alpha.shape
    one = alpha.dtype.type(1)
    stable = np.empty(games, np.bool_)
    for i in prange(games):
        total = one + delta[i]
        level = math.log(total)
        holds = True
        for r in range(1, n):
            k = r - 1
            e = math.exp(-(alpha[i, k] + beta[i, k] * level))
            above, below = _odds(e, lower[i, k], upper[i, k], lower[i, r], upper[i, r])
            if below <= 0:
                continue
            logit = math.log(above / below) - alpha[i, r] - beta[i, r] * level
            q = (rewards[i, k] - rewards[i, r]) / total
            if logit < beta[i, r] * q and logit < beta[i, r] * math.log(one + q):
                holds = False
                break
        stable[i] = holds
    return stable
