"""Which of the paper's assumptions a game breaks: by whom, where, and by how much.

    >>> from tbtjax import check_assumptions, linear_cost, power_law, ranking_game
    >>> game = ranking_game(power_law([1.0, 0.0], [0.8, 0.9]), [1.0, 0.0], linear_cost(0.1))
    >>> report = check_assumptions(game, 1e6)
    >>> bool(report.c1.holds), bool(report.c2_holds), bool(report.c3.holds)
    (False, True, False)

The weaker model learns faster here and gets ahead after (e^10 − 1) steps.

Source: Chen, Zhang, Hardt (arXiv 2603.08371), Assumption 4.1, C1–C3. The exact criteria are ours.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from tbtjax._audit import (
    GRID_EFFORTS,
    CostFindings,
    CurveFindings,
    Finding,
    cost_findings,
    cost_is_exact,
    curve_findings,
    effort_grid,
    grid_resolution,
    looks,
)
from tbtjax._audit_pairs import PairFindings, pair_findings
from tbtjax._audit_words import report_in_words, violations_in_words
from tbtjax._batch import Roads, chunk_size, map_games
from tbtjax._checks import as_level
from tbtjax._records import Record, align, register_with_types
from tbtjax._rivals import stronger_rivals
from tbtjax.costs import linear_cost
from tbtjax.curves import PowerLaw, Tabulated, power_law
from tbtjax.game import RankingGame, is_valid, models_present


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ModelCheck(Record):
    """One condition, checked for each model.

    Attributes:
      holds: `[...]` bool: whether no present model breaks it; False for an invalid game.
      fails: `[..., n]` bool: which models break it.
      amount: `[..., n]` by how much; 0 where it holds.
      start: `[..., n]` the effort from which on, in training steps; NaN where it holds.
      end: `[..., n]` the effort up to which.
      resolution: `[...]` 0 where the verdict is exact; else the largest step, in log(1 + effort),
        of the grid on which it rests: what happens between two neighbours can be missed.

    Amounts and places are NaN for an invalid game.
    """

    event_ndims: ClassVar[dict[str, int]] = {"holds": 0, "resolution": 0}

    holds: jax.Array
    fails: jax.Array
    amount: jax.Array
    start: jax.Array
    end: jax.Array
    resolution: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairCheck(Record):
    """One condition, checked for each pair of models; fields as in `ModelCheck`.

    Attributes:
      holds: `[...]` bool.
      fails: `[..., n, n]` bool; entry (r, k) is the weaker model r against the stronger k. Other
        entries are False.
      amount: `[..., n, n]`.
      start: `[..., n, n]` an effort in training steps, or a score.
      end: `[..., n, n]` the same.
      resolution: `[...]`.
    """

    event_ndims: ClassVar[dict[str, int]] = {
        "holds": 0,
        "fails": 2,
        "amount": 2,
        "start": 2,
        "end": 2,
        "resolution": 0,
    }
    event_dims: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(
        ("fails", "amount", "start", "end"), ("model", "rival")
    )

    holds: jax.Array
    fails: jax.Array
    amount: jax.Array
    start: jax.Array
    end: jax.Array
    resolution: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AssumptionReport(Record):
    """Which assumptions hold at efforts from 0 to `max_effort`; see `check_assumptions`.

    Attributes:
      valid: `[...]` bool: False where a parameter, or `max_effort`, is unusable.
      max_effort: `[...]` up to which effort was checked, in training steps.
      cost_zero: 4.1, c(0) = 0. Amount: |c(0)|.
      cost_positive: 4.1 (ours), c(e) > 0 for e > 0. Amount and end: up to which effort training
        is free, in steps.
      cost_convex: 4.1, c is convex. Amount: the largest fall of the marginal cost, in value per
        step, from its peak at `start` to `end`.
      cost_common: all models have one cost. Amount: the largest relative difference to the cost of
        the strongest model present, at that effort.
      c2_rising: C2, v does not fall. Amount: the largest fall of the score.
      c2_concave: C2, v is concave. Amount: the largest rise of the marginal score, in score per
        step, from its least value at `start` to `end`.
      c2_bounded: C2, v(∞) is finite.
      c1: the stronger model scores higher at every effort. Amount: by how much the weaker one is
        ahead, and at which effort; for power laws the largest of some 130 efforts looked at (the
        verdict does not depend on them).
      c3: E(r, s) − E(k, s), the effort gap, does not fall as the score s rises. Amount: its largest
        fall in training steps, +inf where the weaker model gets where the stronger never does;
        `start` and `end` are the scores between which it falls.
    """

    event_ndims: ClassVar[dict[str, int]] = {"valid": 0, "max_effort": 0}

    valid: jax.Array
    max_effort: jax.Array
    cost_zero: ModelCheck
    cost_positive: ModelCheck
    cost_convex: ModelCheck
    cost_common: ModelCheck
    c2_rising: ModelCheck
    c2_concave: ModelCheck
    c2_bounded: ModelCheck
    c1: PairCheck
    c3: PairCheck

    @property
    def cost_holds(self) -> jax.Array:
        """`[...]` bool: Assumption 4.1, with one cost for all. c → ∞ follows from the parts."""
        return (
            self.cost_zero.holds
            & self.cost_positive.holds
            & self.cost_convex.holds
            & self.cost_common.holds
        )

    @property
    def c2_holds(self) -> jax.Array:
        """`[...]` bool: C2."""
        return self.c2_rising.holds & self.c2_concave.holds & self.c2_bounded.holds

    @property
    def holds(self) -> jax.Array:
        """`[...]` bool: everything that the paper assumes."""
        return self.cost_holds & self.c1.holds & self.c2_holds & self.c3.holds

    def violations(
        self, names: Sequence[str] | None = None, *, most: int = 3
    ) -> dict[str, list[str]]:
        """What one game breaks, in words; for use outside jit.

        Args:
          names: the models' names, strongest first; "model 0", "model 1", … if None.
          most: how many violations of a condition, the largest first, to put in words; the others
            are counted.

        Returns:
          The four assumptions in words, each with a list of phrases, empty where it holds.

        Raises:
          ValueError: this is a batch of games, the game is not valid, or `names` has another length
            than the models.

        Examples:
          >>> from tbtjax import linear_cost, power_law, ranking_game
          >>> game = ranking_game(power_law([1.0, 0.0], [0.5, 0.9]), [1, 0], linear_cost(0.1))
          >>> found = check_assumptions(game, 100.0).violations(["A", "B"])
          >>> found["C1, stronger models score higher"]
          ['B is ahead of A by up to 0.0209 (at 57.28 steps)']
        """
        return violations_in_words(self, names, most)

    def describe(self, names: Sequence[str] | None = None, *, most: int = 3) -> str:
        """The findings on one game in words, a line for each; for use outside jit.

        Args:
          names: the models' names, strongest first; "model 0", "model 1", … if None.
          most: how many violations of a condition to put in words, see `violations`.

        Returns:
          Lines joined by newlines.

        Raises:
          ValueError: this is a batch of games, or `names` has another length than the models.

        Examples:
          >>> from tbtjax import linear_cost, power_law, ranking_game
          >>> game = ranking_game(power_law([1.0, 0.0], [0.5, 0.9]), [1, 0], linear_cost(0.1))
          >>> print(check_assumptions(game, 100.0).describe(["A", "B"]).splitlines()[1])
          C1, stronger models score higher: fails: B is ahead of A by up to 0.0209 (at 57.28 steps).
        """
        return report_in_words(self, names, most)


def check_assumptions(game: RankingGame, max_effort: Any) -> AssumptionReport:
    """Checks the paper's assumptions at efforts from 0 to `max_effort`.

    - 4.1: c(0) = 0, c convex and (ours) c(e) > 0 for e > 0; then c → ∞. One cost for all models.
    - C1: v increases in capability at every effort. Equal limits: α_k + β_k·y > α_r + β_r·y at both
      ends of y = log(1 + e), so without end α_k > α_r and β_k ≥ β_r.
    - C2: v does not fall, is concave and saturates. Power law: β ≥ 0, and β ≤ 1 or
      e^α ≥ (β − 1)/(β + 1).
    - C3: for k stronger than r, E(r, s) − E(k, s) does not fall at any score s that r reaches.
      Equal limits, without end: α_k ≥ α_r and β_k ≥ β_r.

    C1 and C3 are checked for all pairs of present models. Exact for power laws, also with
    different limits (turning points in closed form), for tabulated curves (by their points) and for
    the costs of this package, of which `cost_common` alone is seen on a grid; on a grid of 256
    efforts for curves and costs of your own. A violation that rounding of parameters and scores
    could have made is not reported; nor is a tie of scores, unless it is exact: of power laws with
    equal limits, or of other curves that still rise.

    Args:
      game: any batch `[...]` of games.
      max_effort: largest effort that matters, Δ included, in training steps, ≥ 0; +inf for all.
        Broadcasts with the games' axes.

    Returns:
      The report; an invalid game (`validate` names the reason), or a cost or curve of your own that
      gives NaN, has `valid` False, nothing holds for it and its amounts are NaN. Absent models
      break nothing.

    Raises:
      TypeError: `game` is not a `RankingGame`.
      ValueError: `max_effort` does not broadcast with the games' axes.

    Examples:
      >>> from tbtjax import linear_cost, power_law, ranking_game
      >>> game = ranking_game(power_law([1.0, 0.0], [0.9, 0.8]), [1.0, 0.0], linear_cost(0.1))
      >>> bool(check_assumptions(game, float("inf")).holds)
      True

    Source: Chen, Zhang, Hardt (arXiv 2603.08371), Assumption 4.1, C1–C3.
    """
    if not isinstance(game, RankingGame):
        raise TypeError(
            f"game must be a RankingGame (ranking_game(...)); got {type(game).__name__}"
        )
    max_effort = as_level("max_effort", max_effort, game.dtype, game.batch_shape)
    # Costs and curves are audited apart: one compiled program serves games with other costs.
    cost, curves = _Part(game.cost), _Part(game.curves)
    costs = _of_costs(cost, game.rewards, game.present, max_effort, game.num_models)
    return _report(curves, game.present, max_effort, costs, game.num_models)


@register_with_types
@dataclasses.dataclass(frozen=True)
class _Part:
    """Curves or a cost of any kind."""

    value: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Audited(Record):
    """A game and how far to look, `[..., 1]`."""

    game: RankingGame
    max_effort: jax.Array

    def parts(self) -> tuple[RankingGame, jax.Array, jax.Array]:
        """The game, up to which effort to look `[games, 1]`, and who is present `[games, n]`."""
        size = chunk_size(self)
        present = models_present(self.game)
        max_effort = jnp.where(self.max_effort >= 0, self.max_effort, 0)
        return (
            self.game,
            jnp.broadcast_to(max_effort, (size, 1)),
            jnp.broadcast_to(present, (size, self.game.num_models)),
        )


class _CostAudit(NamedTuple):
    """Findings `[..., n]`, resolutions `[...]` and where costs and rewards are usable, `[...]`."""

    findings: CostFindings
    resolution: jax.Array
    common_resolution: jax.Array
    usable: jax.Array


class _CurveAudit(NamedTuple):
    """Findings `[..., n]` and `[..., n, n]`, resolution and where curves are usable, `[...]`."""

    findings: CurveFindings
    pairs: PairFindings
    resolution: jax.Array
    usable: jax.Array


@functools.partial(jax.jit, static_argnums=4)
def _of_costs(cost: _Part, rewards, present, max_effort: jax.Array, models: int) -> _CostAudit:
    nothing = jnp.zeros(models, max_effort.dtype)
    game = RankingGame(power_law(nothing, nothing), rewards, cost.value, present)

    def find(audited: _Audited) -> _CostAudit:
        game, max_effort, present = audited.parts()
        found, broken = cost_findings(game, max_effort, present)
        resolution = grid_resolution(effort_grid(max_effort, GRID_EFFORTS))[:, 0]
        exact = jnp.zeros_like(resolution)
        one_cost = jax.eval_shape(game.cost, max_effort).shape[-1] == 1
        return _CostAudit(
            CostFindings(*(x._replace(fails=x.fails & present) for x in found)),
            exact if cost_is_exact(game.cost) else resolution,
            exact if one_cost else resolution,
            is_valid(game) & ~jnp.any(broken & present, axis=-1),
        )

    audited = align(_Audited(game, max_effort[..., None]))
    return map_games(Roads(find), audited, entries_per_game=GRID_EFFORTS * game.num_models)


def _of_curves(game: RankingGame, max_effort: jax.Array) -> _CurveAudit:
    exact = isinstance(game.curves, PowerLaw | Tabulated)
    n = game.num_models

    def find(audited: _Audited) -> _CurveAudit:
        game, max_effort, present = audited.parts()
        found = curve_findings(game, max_effort)
        pairs = pair_findings(game, stronger_rivals(game, "all"), max_effort, present)
        resolution = grid_resolution(effort_grid(max_effort, GRID_EFFORTS))[:, 0]
        broken = jnp.zeros_like(present)
        if not exact:
            broken = jnp.any(jnp.isnan(looks(game, max_effort)[1]), axis=0)
        return _CurveAudit(
            CurveFindings(*(x._replace(fails=x.fails & present) for x in found)),
            PairFindings(*(_square(x, max_effort.shape[0], n) for x in pairs)),
            jnp.zeros_like(resolution) if exact else resolution,
            is_valid(game) & ~jnp.any(broken & present, axis=-1),
        )

    audited = align(_Audited(game, max_effort[..., None]))
    looks_at_pairs = 4 if isinstance(game.curves, PowerLaw) else GRID_EFFORTS
    return map_games(Roads(find), audited, entries_per_game=looks_at_pairs * n * n)


def _square(finding: Finding, size: int, n: int) -> Finding:
    """`[rivals, games, n]` to `[games, n, n]`: entry (r, k), r against k."""
    shift = jnp.broadcast_to((jnp.arange(n)[:, None] - jnp.arange(n)) % n, (size, n, n))

    def square(x):
        x = jnp.broadcast_to(x, (n - 1, size, n))
        by_shift = jnp.moveaxis(jnp.concatenate([jnp.zeros((1, size, n), x.dtype), x]), 0, -1)
        return jnp.take_along_axis(by_shift, shift, axis=-1)

    return Finding(*(square(x) for x in finding))


@functools.partial(jax.jit, static_argnums=4)
def _report(
    curves: _Part, present, max_effort: jax.Array, costs: _CostAudit, models: int
) -> AssumptionReport:
    """The findings on the curves, and beside them those on the costs."""
    nothing = jnp.zeros(models, max_effort.dtype)
    game = RankingGame(curves.value, nothing, linear_cost(nothing), present)
    found = _of_curves(game, max_effort)
    valid = costs.usable & found.usable & (max_effort >= 0)
    games, n = valid.shape, found.findings.rising.fails.shape[-1]

    def parts(finding: Finding, resolution: jax.Array | float, event: int) -> dict[str, jax.Array]:
        usable = valid[(..., *(None,) * event)]
        shape = (*games, *(n,) * event)
        fails = jnp.broadcast_to(finding.fails, shape) & usable

        def known(x, filler):
            return jnp.where(usable, jnp.where(fails, x, filler), jnp.nan)

        return {
            "holds": valid & ~jnp.any(fails, axis=tuple(range(-event, 0))),
            "fails": fails,
            "amount": known(finding.amount, 0),
            "start": known(finding.start, jnp.nan),
            "end": known(finding.end, jnp.nan),
            "resolution": jnp.broadcast_to(jnp.asarray(resolution, max_effort.dtype), games),
        }

    cost, curve, pair = costs.findings, found.findings, found.pairs
    return AssumptionReport(
        valid=valid,
        max_effort=jnp.broadcast_to(max_effort, games),
        cost_zero=ModelCheck(**parts(cost.zero, costs.resolution, 1)),
        cost_positive=ModelCheck(**parts(cost.positive, costs.resolution, 1)),
        cost_convex=ModelCheck(**parts(cost.convex, costs.resolution, 1)),
        cost_common=ModelCheck(**parts(cost.common, costs.common_resolution, 1)),
        c2_rising=ModelCheck(**parts(curve.rising, found.resolution, 1)),
        c2_concave=ModelCheck(**parts(curve.concave, found.resolution, 1)),
        c2_bounded=ModelCheck(**parts(curve.bounded, 0.0, 1)),
        c1=PairCheck(**parts(pair.order, found.resolution, 2)),
        c3=PairCheck(**parts(pair.gap, found.resolution, 2)),
    )
