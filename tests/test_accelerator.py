"""An accelerator's answers beside the processor's, on every class of game.

Skipped where JAX has no accelerator; the other tests run on it by themselves, where there is one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from random_games import KINDS, random_games
from test_threshold import FLOAT32_BOUND, GAMES, MODELS, as_answer, as_game, costs_of_models

from tbtjax import (
    is_zero_effort_pne,
    just_overtake_effort,
    overtake_effort,
    stabilizing_threshold,
)

pytestmark = pytest.mark.skipif(
    jax.default_backend() == "cpu", reason="JAX has no accelerator here"
)

# Of y = log(1 + Δ) and of log(1 + Δ + effort), relative to 1 + y, between the two devices.
BOUND = {"float64": 2e-12, "float32": 2 * FLOAT32_BOUND}
# Of derivatives, relative to a game's largest one; and how many may be further apart. Near a
# tangency derivatives grow without bound, and in float32 they have no digits there.
GRADIENT_BOUND = {"float64": (1e-8, 2e-3), "float32": (2e-2, 1e-2)}


@jax.jit
def quantities(games, delta):
    """Everything that is compared, of one batch on one device."""
    game = as_game(games)
    threshold = {name: stabilizing_threshold(game, name) for name in ("all", "adjacent")}
    efforts = {"next": just_overtake_effort(game, delta), "all": overtake_effort(game, delta)}
    verdicts = {name: is_zero_effort_pne(game, delta, name) for name in ("all", "adjacent")}

    def total(games):
        y = jnp.log1p(stabilizing_threshold(as_game(games)).delta)
        return jnp.sum(jnp.where(jnp.isfinite(y), y, 0))

    return threshold, efforts, verdicts, jax.grad(total)(games)


def on_both(games, delta):
    """The same on the processor and on the accelerator, as NumPy arrays."""
    for device in (jax.devices("cpu")[0], jax.devices()[0]):
        found = quantities(*jax.device_put((games, delta), device))
        assert {x.device for x in jax.tree.leaves(found)} == {device}
        yield jax.tree.map(np.asarray, found)


def are_apart(found, expected, bound):
    with np.errstate(invalid="ignore"):
        error = np.abs(found - expected)
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        return ~(same | (error <= bound * (1 + np.abs(expected))))


@pytest.mark.parametrize("kind", KINDS)
def test_an_accelerator_agrees_with_the_processor(kind, dtype):
    """Within the stated bounds, or both right by the reference: within what 4 ulps make."""
    bound = BOUND[dtype.name]
    games = costs_of_models(random_games(81, GAMES, MODELS, kind, dtype))
    delta = np.random.default_rng(82).lognormal(2, 3, GAMES).astype(dtype)
    (level, effort, verdict, gradient), other = on_both(games, delta)
    same_pair = {}
    for deviations in level:
        mine, theirs = as_answer(level[deviations]), as_answer(other[0][deviations])
        suspect = mine["status"] != theirs["status"]
        for name in ("delta", "upper", "settled"):
            suspect |= are_apart(*(np.log1p(x[name].astype(float)) for x in (theirs, mine)), bound)
        few = {name: x[suspect] if x.ndim else x for name, x in games.items()}
        for answer in (mine, theirs):
            answer = {name: x[suspect] for name, x in answer.items()}
            tolerance = 1e-12 if dtype == np.float64 else FLOAT32_BOUND
            wrong = oracles.disagreements(
                few, answer, deviations, tolerance, dtype=dtype, most=GAMES
            )
            assert wrong == []
        assert np.mean(suspect) < 0.03
        same_pair[deviations] = (mine["weak"] == theirs["weak"]) & ~suspect
    for deviations in effort:
        one, two = (np.asarray(x[deviations], float) for x in (effort, other[1]))
        total = 1 + delta.astype(float).reshape(-1, *(1,) * (one.ndim - 1))
        assert np.mean(are_apart(np.log(total + two), np.log(total + one), bound)) < 1e-3
    for deviations in verdict:
        assert np.mean(verdict[deviations] != other[2][deviations]) <= 2e-3
    for name, mine in gradient.items():
        theirs = other[3][name]
        if mine.ndim == 0:
            continue  # shared by all games, those with another deciding pair included
        size = np.max(np.abs(mine), axis=-1, keepdims=True)
        furthest, many = GRADIENT_BOUND[dtype.name]
        apart = np.abs(theirs - mine) > furthest * size
        assert np.mean(apart[same_pair["all"]]) < many, name
