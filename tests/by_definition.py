"""Utilities, rankings and best responses of power-law games by brute force, for tests.

Plain NumPy that imports nothing from the package. Games are dicts of arrays as
`random_games.random_games` makes them, with `cost_exponent` where costs are not linear. Scores are
compared in long double, where their digits are; what is closer than `TIE` units of float64 rounding
counts as a tie.
"""

import numpy as np

TIE = 32 * np.finfo(np.float64).eps


def columns(games, model, ndim=2):
    """One model's alpha, beta, lower and upper, `[games, 1, …]`, in long double."""
    count = len(games["alpha"])
    values = []
    for name in ("alpha", "beta", "lower", "upper"):
        column = np.broadcast_to(games[name], games["alpha"].shape)[:, model]
        values.append(column.astype(np.longdouble).reshape(count, *(1,) * (ndim - 1)))
    return values


def has_equal_limits(games):
    """Whether all models share their limits by shape."""
    return np.ndim(games["lower"]) == 0 and np.ndim(games["upper"]) == 0


def standing(games, model, effort):
    """What `lead` compares of one model at its total efforts `[games, …]`."""
    effort = np.asarray(effort, np.longdouble)
    alpha, beta, lower, upper = columns(games, model, effort.ndim)
    y = np.log1p(effort)
    z = alpha + beta * y
    if has_equal_limits(games):
        return z, TIE * np.abs(beta) * (1 + y)
    with np.errstate(over="ignore", under="ignore"):
        head, tail = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z))
    rounding = TIE * (np.abs(alpha) + np.abs(beta) * (1 + y))
    return z, rounding, lower, upper, (upper - lower) * head, (upper - lower) * tail


def difference(games, own, their):
    """The rival's score less the model's, from the `standing` of both, and its rounding."""
    if has_equal_limits(games):
        return their[0] - own[0], own[1] + their[1]
    near_top = (own[0] > 0) & (their[0] > 0)
    at_top = (own[5] - their[5]) - (own[3] - their[3])
    at_bottom = (their[4] - own[4]) + (their[2] - own[2])
    moved = sum(p[1] * p[4] * p[5] / (p[3] - p[2]) for p in (own, their))
    widths = sum(p[3] - p[2] for p in (own, their))
    share = sum(np.where(near_top, p[5], p[4]) / (p[3] - p[2]) for p in (own, their))
    offset = np.where(near_top, np.abs(own[3] - their[3]), np.abs(own[2] - their[2]))
    return np.where(near_top, at_top, at_bottom), moved + TIE * (widths * share + offset)


def lead(games, own, their):
    """Sign of the rival's score less the model's, from the `standing` of both: -1, 0 or 1."""
    value, rounding = difference(games, own, their)
    return np.where(np.abs(value) <= rounding, 0, np.sign(value)).astype(int)


def tie_order(games, delta):
    """`[games, n]` place of each model in the ranking at `delta`, ties to the more capable."""
    count, n = games["alpha"].shape
    level = np.broadcast_to(delta, (count,))[:, None]
    at = [standing(games, model, level) for model in range(n)]
    place = np.zeros((count, n), int)
    for model in range(n):
        for rival in range(n):
            if rival != model:
                sign = lead(games, at[model], at[rival])[:, 0]
                place[:, model] += (sign > 0) | ((sign == 0) & (rival < model))
    return place


def cost(games, model, effort):
    """Cost rate · effort^exponent of one model at efforts `[games, …]`."""
    shape = games["alpha"].shape
    rate, exponent = (
        np.broadcast_to(x, shape)[:, model].reshape(-1, *(1,) * (effort.ndim - 1))
        for x in (games["cost_rate"], games.get("cost_exponent", 1.0))
    )
    return rate * effort**exponent


def rank_at(games, delta, efforts, model, own, order):
    """0-based ranks of one model at its efforts `own` `[games, points]`, others at `efforts`."""
    count, n = efforts.shape
    level = np.broadcast_to(delta, (count,))[:, None]
    at = standing(games, model, level + own)
    rank = np.zeros(own.shape, int)
    for rival in range(n):
        if rival != model:
            sign = lead(games, at, standing(games, rival, level + efforts[:, rival, None]))
            favoured = (order[:, rival] < order[:, model])[:, None]
            rank += (sign > 0) | ((sign == 0) & favoured)
    return rank


def utility_at(games, delta, efforts, model, own, order):
    """Utilities of one model at its efforts `own` `[games, points]`, others at `efforts`."""
    rank = rank_at(games, delta, efforts, model, own, order)
    rewards = np.take_along_axis(games["rewards"], rank, axis=-1)
    return rewards - cost(games, model, own)


def utilities(games, delta, efforts):
    """`[games, n]` utilities of all models at `efforts`."""
    order = tie_order(games, delta)
    return np.concatenate(
        [
            utility_at(games, delta, efforts, model, efforts[:, model : model + 1], order)
            for model in range(efforts.shape[1])
        ],
        axis=-1,
    )


def effort_rounding(games, delta, efforts, model, own):
    """How much rounding may move efforts `own` `[games]` that tie with a rival; 0 for others."""
    total = (np.broadcast_to(delta, own.shape) + own)[:, None]
    at = standing(games, model, total)
    beta = columns(games, model)[1]
    slope = beta if has_equal_limits(games) else beta * at[4] * at[5] / (at[3] - at[2])
    moved = np.zeros(total.shape)
    for rival in range(efforts.shape[1]):
        if rival != model:
            their = standing(games, rival, total - own[:, None] + efforts[:, rival, None])
            value, rounding = difference(games, at, their)
            tied = (np.abs(value) <= rounding) & (slope > 0)
            shift = (1 + total) * rounding / np.where(slope > 0, slope, 1)
            moved = np.maximum(moved, np.where(tied, shift, 0))
    return moved[:, 0].astype(float)


def effort_to_tie(games, delta, model, rival, rival_effort):
    """Effort with which a model has its rival's score, in float64; inf or nan where never."""
    alpha, beta, lower, upper = columns(games, model, 1)
    their_alpha, their_beta, their_lower, their_upper = columns(games, rival, 1)
    delta, rival_effort = np.longdouble(delta), np.longdouble(rival_effort)
    y = np.log1p(delta + rival_effort)
    with np.errstate(all="ignore"):
        if has_equal_limits(games):
            distance = (their_alpha - alpha) + their_beta * y
        else:
            z = their_alpha + their_beta * y
            width = their_upper - their_lower
            above = (their_lower - lower) + width / (1 + np.exp(-z))
            below = (upper - their_upper) + width / (1 + np.exp(z))
            distance = np.log(above / below) - alpha
        effort = np.expm1(distance / beta) - delta
    largest = np.finfo(float).max
    return np.where((beta > 0) & (effort < largest), effort, np.inf).astype(float)


def answers(games, delta, efforts, margin, order):
    """`[games, n]` each model's best move against `efforts`, infima played with the margin."""
    count, n = efforts.shape
    level = np.broadcast_to(delta, (count,))
    played = np.empty_like(efforts)
    for model in range(n):
        own = [efforts[:, model], np.zeros(count)]
        for rival in range(n):
            if rival != model:
                least = effort_to_tie(games, level, model, rival, efforts[:, rival])
                least = np.where(least < 0, 0, least)
                tie_wins = order[:, model] < order[:, rival]
                own.append(np.where(tie_wins, least, least + margin))
        own = np.stack(own, axis=-1)
        possible = np.isfinite(own)
        own = np.where(possible, own, 0)
        utility = utility_at(games, delta, efforts, model, own, order)
        utility = np.where(possible, utility, -np.inf)
        # The best move with the least effort, if it is better than to stay.
        least_first = np.argsort(own[:, 1:], axis=-1, kind="stable")
        ordered = np.take_along_axis(utility[:, 1:], least_first, axis=-1)
        best = np.take_along_axis(least_first, np.argmax(ordered, axis=-1)[:, None], axis=-1)
        move = np.take_along_axis(own[:, 1:], best, axis=-1)[:, 0]
        better = np.take_along_axis(utility[:, 1:], best, axis=-1)[:, 0] > utility[:, 0]
        played[:, model] = np.where(better, move, efforts[:, model])
    return played


def race(games, delta, efforts, rounds, margin, order="simultaneous"):
    """`[rounds + 1, games, n]` efforts of the arms race."""
    ties = tie_order(games, delta)
    history = [efforts]
    for _ in range(rounds):
        efforts = history[-1]
        if order == "simultaneous":
            efforts = answers(games, delta, efforts, margin, ties)
        else:
            efforts = efforts.copy()
            for model in range(efforts.shape[1]):
                efforts[:, model] = answers(games, delta, efforts, margin, ties)[:, model]
        history.append(efforts)
    return np.stack(history)


def is_misranked(games, delta, efforts):
    """`[games]` whether a less capable model ranks before a more capable one."""
    order = tie_order(games, delta)
    n = efforts.shape[1]
    ranks = [rank_at(games, delta, efforts, k, efforts[:, k, None], order)[:, 0] for k in range(n)]
    return np.any(np.diff(np.stack(ranks, axis=-1), axis=-1) < 0, axis=-1)
