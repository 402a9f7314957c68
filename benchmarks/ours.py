"""tbtjax's side: the calls a user would write, from raw arrays to the answer."""

import dataclasses

import jax
import jax.numpy as jnp

import tbtjax
from tbtjax.dynamics import best_response_dynamics


def make_game(alpha, beta, rewards, lower=0.0, upper=1.0):
    curves = tbtjax.power_law(alpha, beta, lower, upper)
    return tbtjax.ranking_game(curves, rewards, tbtjax.linear_cost(1.0))


def threshold(*arrays):
    """Δ* of neighbours' deviations, `[games]`: what the peers compute."""
    return tbtjax.stabilizing_threshold(make_game(*arrays), deviations="adjacent").delta


def threshold_all(*arrays):
    """Δ* of all deviations, the package's default."""
    return tbtjax.stabilizing_threshold(make_game(*arrays), deviations="all").delta


def record(*arrays):
    """The whole record of neighbours' deviations: both ends, who decides, by pair, status."""
    return tbtjax.stabilizing_threshold(make_game(*arrays), deviations="adjacent")


def value_and_gradient(*arrays):
    """Δ* of neighbours' deviations and its derivatives in every parameter of the game."""
    delta, pullback = jax.vjp(threshold, *arrays)
    return delta, pullback(jnp.ones_like(delta))


def overtake(alpha, beta, delta, *limits):
    """Just-overtake efforts, `[games, n-1]`."""
    game = make_game(alpha, beta, jnp.zeros((), alpha.dtype), *limits)
    return tbtjax.just_overtake_effort(game, delta)


def verdict(alpha, beta, rewards, delta, *limits):
    """Whether the all-zero profile is an equilibrium (neighbours), `[games]`."""
    game = make_game(alpha, beta, rewards, *limits)
    return tbtjax.is_zero_effort_pne(game, delta, deviations="adjacent")


def response(alpha, beta, rewards, delta, efforts):
    """What each model's best response to the others' efforts is worth, `[games, n]`."""
    return tbtjax.best_response(make_game(alpha, beta, rewards), delta, efforts).utility


def dynamics(alpha, beta, rewards, delta):
    """Efforts spent in 1,000 rounds of the arms race from none, margin 1, `[games, n]`."""
    game = make_game(alpha, beta, rewards)
    return best_response_dynamics(game, delta, 0.0, 1000, 1.0).total_effort


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LogisticInLogEffort:
    """A user's own curve family, the power law under another name: it takes the general road."""

    alpha: jax.Array
    beta: jax.Array

    def score(self, effort):
        return jax.nn.sigmoid(self.alpha + self.beta * jnp.log1p(effort))

    def effort_to_reach(self, score):
        logit = jnp.log(score) - jnp.log1p(-score)
        return jnp.maximum(jnp.expm1((logit - self.alpha) / self.beta), 0)

    def limit(self):
        return jnp.ones_like(self.alpha)


def threshold_general(alpha, beta, rewards):
    """Δ* of neighbours' deviations by the road that any curve family takes."""
    curves = LogisticInLogEffort(alpha, beta)
    game = tbtjax.ranking_game(curves, rewards, tbtjax.linear_cost(1.0))
    return tbtjax.stabilizing_threshold(game, deviations="adjacent").delta
