"""Up to which worth of a better rank each level is stable, for many games at once.

Cost is linear, one per step, so a pair is held while the gap of its rewards is worth no more steps
than it takes to pass. One sweep over levels then answers for every worth: the first level that
stabilizes, and the share of resamples in which a level does.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tbtjax._rivals import chosen_models, next_stronger
from tbtjax.costs import linear_cost
from tbtjax.effort import aligned_at, effort_to_pass, overtake_effort
from tbtjax.game import ranking_game

#: Pairs of models worked on at once.
_PAIRS_AT_ONCE = 2**18
#: Leads of a score up to this are ties, in units of its last place.
_TIE_ULPS = 8


class StableWorths(NamedTuple):
    """What games are like at some levels; the first game is that of the measurements.

    Attributes:
      levels: `[levels]` Δ in training steps, rising from 0.
      by_pair: `[levels, games, n − 1]` just-overtake efforts.
      critical: `[levels, games]` the largest worth of a unit of reward, in training steps, at which
        the level is stable; −inf where the ranking without effort does not follow capability, NaN
        without curves.
      lead: `[levels, games]` least lead of a model over the best weaker one; negative there.
    """

    levels: np.ndarray
    by_pair: np.ndarray
    critical: np.ndarray
    lead: np.ndarray


class Sweep:
    """Games of one board, `[games, n]` curves, strongest first, ready for any levels."""

    def __init__(
        self, curves: Any, unit_rewards: np.ndarray, deviations: Literal["all", "adjacent"]
    ) -> None:
        n = len(unit_rewards)
        self._unit_rewards = jnp.asarray(unit_rewards)
        self._adjacent = deviations == "adjacent"
        # In order, of models paid alike the weakest is the cheapest to pass.
        self._rivals = tuple(int(k) for k in np.flatnonzero(np.diff(unit_rewards) < 0))
        self.games = curves.alpha.shape[0] if hasattr(curves, "alpha") else curves.scores.shape[0]
        pairs = n * (1 if self._adjacent else 1 + len(self._rivals))
        chunk = min(self.games, max(1, _PAIRS_AT_ONCE // pairs))
        self.chunk = -(-self.games // -(-self.games // chunk))
        self.parts = [
            jax.tree.map(lambda x, a=start: self._part(x, a), curves)
            for start in range(0, self.games, self.chunk)
        ]

    def _part(self, values: jax.Array, start: int) -> jax.Array:
        """A chunk filled up by its last entry, so that all chunks share a program."""
        if values.ndim < 2:
            return values  # shared by all games
        part = values[start : start + self.chunk]
        fill = self.chunk - part.shape[0]
        return jnp.concatenate([part, jnp.repeat(part[-1:], fill, axis=0)])

    def at(self, levels: np.ndarray, part: int) -> StableWorths:
        """One part of the games at `levels`."""
        found = _at_levels(
            self.parts[part], self._unit_rewards, jnp.asarray(levels), self._rivals, self._adjacent
        )
        size = min(self.chunk, self.games - part * self.chunk)
        return StableWorths(levels, *(np.asarray(x)[:, :size] for x in found))


@functools.partial(jax.jit, static_argnums=(3, 4))
def _at_levels(curves, unit_rewards, levels, chosen, adjacent):
    """Efforts by pair, critical worths and leads at each level; see `StableWorths`."""
    n = unit_rewards.shape[0]
    board = ranking_game(curves, unit_rewards, linear_cost(1.0))

    def at(level):
        game, here = aligned_at(board, level)
        scores = jnp.broadcast_to(game.curves.score(here), (*game.batch_shape, n))
        best_weaker = jax.lax.cummax(scores, axis=scores.ndim - 1, reverse=True)
        lead = jnp.min(scores[..., :-1] - best_weaker[..., 1:], axis=-1)
        lead += _TIE_ULPS * jnp.finfo(scores.dtype).eps
        by_pair = effort_to_pass(game, next_stronger(game), here)[0, ..., 1:]
        gap = unit_rewards[:-1] - unit_rewards[1:]
        critical = _worth(by_pair, gap, gap > 0, (-1,))
        if not adjacent:
            rivals = chosen_models(game, chosen)
            gap = unit_rewards[jnp.asarray(chosen, int)][:, None] - unit_rewards
            gap = gap.reshape(len(chosen), *(1,) * (scores.ndim - 1), n)
            pays = (gap > 0) & (rivals.index < jnp.arange(n))
            passing = _worth(effort_to_pass(game, rivals, here), gap, pays, (0, -1))
            critical = jnp.minimum(critical, passing)
        critical = jnp.where(lead < 0, -jnp.inf, critical)
        return by_pair, jnp.where(jnp.isnan(lead), jnp.nan, critical), lead

    return jax.lax.map(at, levels)


def _worth(effort: jax.Array, gap: jax.Array, pays: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The largest worth of a unit of reward at which nobody gains by these efforts."""
    return jnp.min(jnp.where(pays, effort / jnp.where(pays, gap, 1), jnp.inf), axis=axes)


def first_levels(found: StableWorths, worths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Δ* read off the levels, for every game and worth.

    Between the last unstable level and the first stable one the logarithms of level and worth are
    interpolated; where the ranking is out of order at the former, the lead tells where it ceases to
    be, and the worth rises from 0 there. A stable stretch that lies between two levels is not seen.

    Args:
      found: games at some levels.
      worths: `[worths]` of a unit of reward, in training steps.

    Returns:
      `[games, worths]` the first stabilizing level: +inf where none of the levels is one, NaN
      without curves; and the number of the first stable one of the levels.
    """
    y, games = np.log1p(found.levels), np.arange(found.critical.shape[1])
    delta = np.empty((len(games), len(worths)))
    index = np.empty(delta.shape, int)
    for column, worth in enumerate(worths):
        stable = found.critical >= worth
        first = np.argmax(stable, axis=0)
        before = np.maximum(first - 1, 0)
        above, below = found.critical[first, games], found.critical[before, games]
        ahead, behind = found.lead[first, games], found.lead[before, games]
        known = (below > 0) & np.isfinite(above) & (above > below)
        ratio = np.where(known, above, np.e) / np.where(known, below, 1)
        along = np.log(worth / np.where(known, below, worth)) / np.log(ratio)
        disorder = (behind < 0) & (ahead > behind)
        ordered = np.where(disorder, -behind / np.where(disorder, ahead - behind, 1), 0)
        share = np.where(np.isfinite(above), worth / np.where(above > 0, above, 1), 0)
        from_order = ordered + (1 - ordered) * np.clip(share, 0, 1)
        # Out of reach at the upper level: anywhere between the two, at the latest there.
        along = np.where(known, along, np.where(below > 0, 1, from_order))
        level = np.where(first == 0, 0, np.expm1(y[before] + along * (y[first] - y[before])))
        level = np.where(stable.any(axis=0), level, np.inf)
        delta[:, column] = np.where(np.isnan(found.critical[0]), np.nan, level)
        index[:, column] = first
    return delta, index


def sharpened(sweep: Sweep, found: StableWorths, worths: np.ndarray) -> np.ndarray:
    """`[worths]` Δ* of the first game, by as many levels again around each."""
    (delta,), (index,) = first_levels(_first_game(found), worths)
    for column, (first, worth) in enumerate(zip(index, worths, strict=True)):
        if first > 0:
            low, high = np.log1p(found.levels[first - 1 : first + 1])
            levels = np.expm1(np.linspace(low, high, len(found.levels)))
            (answer,), _ = first_levels(_first_game(sweep.at(levels, 0)), np.array([worth]))
            delta[column] = answer[0]
    return delta


def _first_game(found: StableWorths) -> StableWorths:
    return found._replace(critical=found.critical[:, :1], lead=found.lead[:, :1])


@jax.jit
def least_efforts(curves: Any, levels: jax.Array) -> jax.Array:
    """`[levels, games]` least effort by which any model passes one that ranks above it.

    Args:
      curves: `[games, n]` curves, strongest first.
      levels: `[levels]` Δ in training steps.
    """
    n = curves.num_models
    game = ranking_game(curves, jnp.zeros(n), linear_cost(1.0))
    weaker = jnp.arange(n)[:, None] > jnp.arange(n)

    def at(level):
        effort = overtake_effort(game, level)
        there = effort == 0  # ahead already; where both are, a tie, which ranks by capability
        behind = ~(there & ~(there & there.swapaxes(-1, -2) & weaker)) & ~jnp.eye(n, dtype=bool)
        return jnp.min(jnp.where(behind, effort, jnp.inf), axis=(-2, -1))

    return jax.lax.map(at, levels)
