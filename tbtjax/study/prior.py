"""Priors over leaderboard games, as frozen descriptions that TOML files and Python share.

>>> from tbtjax.study import Costs, Normal, Prior, Rewards, Uniform
>>> prior = Prior(
...     count=10,
...     capability=Normal(mean=0.0, deviation=1.0),
...     learning_rate=Uniform(low=0.5, high=1.0),
...     rewards=Rewards(scheme="winner-take-all", prize=100.0),
...     cost=Costs(kind="linear", rate=1.0),
... )
>>> prior.most_models, prior.is_regular
(10, True)
"""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tbtjax.study.distributions import Constant, Description, Distribution, Finite, Integers

Scheme = Literal["winner-take-all", "top-k", "equal-gaps", "geometric", "values"]
#: The scalars of each scheme besides the prize, and those of each kind of cost.
SCHEME_SCALARS = {"top-k": ("k",), "geometric": ("decay",)}
COST_SCALARS = {
    "linear": ("rate",),
    "power": ("scale", "exponent"),
    "quadratic": ("linear", "quadratic"),
}


def _check_support(name: str, distribution: Any, low: float, high: float, expected: str) -> None:
    """Raises where a distribution can leave [low, high]."""
    if distribution is None:
        return
    least, largest = distribution.support()
    if least < low or largest > high:
        found = (
            f"{least:g}"
            if isinstance(distribution, Constant)
            else f"{distribution.kind}, which draws from {least:g} to {largest:g}"
        )
        raise ValueError(f"{name}: expected {expected}; got {found}")


class Rewards(Description):
    """What the ranks are worth: a scheme times a prize.

    Attributes:
      scheme: "winner-take-all", "top-k", "equal-gaps" (from 1 down to 0), "geometric" (decay^(r −
        1)) or "values".
      prize: reward of the first rank, or of all ranks together.
      prize_of: which of the two.
      k: number of rewarded ranks, for "top-k".
      decay: a rank's reward over that of the rank before it, for "geometric".
      values: rewards of the ranks before the prize multiplies them, for "values".
    """

    scheme: Scheme
    prize: Distribution = Constant(value=1.0)
    prize_of: Literal["first", "all"] = "first"
    k: Distribution | None = None
    decay: Distribution | None = None
    values: Annotated[tuple[Finite, ...], Field(min_length=1)] | None = None

    @property
    def scalars(self) -> tuple[str, ...]:
        """The scalars in use."""
        return ("prize", *SCHEME_SCALARS.get(self.scheme, ()))

    @model_validator(mode="after")
    def _complete(self):
        needed = (*SCHEME_SCALARS.get(self.scheme, ()), *("values",) * (self.scheme == "values"))
        for name in needed:
            if getattr(self, name) is None:
                raise ValueError(f"{name}: the scheme {self.scheme} needs it")
        _check_support("prize", self.prize, 0, math.inf, "a number that is not negative")
        _check_support("decay", self.decay, 0, 1, "a share from 0 to 1")
        _check_support("k", self.k, 1, math.inf, "a whole number from 1 to the number of models")
        if self.k is not None:
            whole = isinstance(self.k, Integers) or (
                isinstance(self.k, Constant) and self.k.value == int(self.k.value)
            )
            if not whole:
                raise ValueError("k: expected a whole number, or the distribution `integers`")
        if self.values is not None and any(
            later > earlier for earlier, later in zip(self.values, self.values[1:], strict=False)
        ):
            raise ValueError("values: expected rewards that do not rise from rank to rank")
        return self


class Costs(Description):
    """What additional effort costs.

    Attributes:
      kind: "linear" (rate·e), "power" (scale·e^exponent) or "quadratic" (linear·e + quadratic·e²).
      rate: value per training step, for "linear".
      scale: cost of one training step, for "power".
      exponent: for "power"; the paper assumes 1 or more.
      linear: value per training step, for "quadratic".
      quadratic: value per training step squared, for "quadratic".
      per: whether the scalars are drawn once a game, or for each model.
    """

    kind: Literal["linear", "power", "quadratic"] = "linear"
    rate: Distribution | None = None
    scale: Distribution | None = None
    exponent: Distribution | None = None
    linear: Distribution | None = None
    quadratic: Distribution | None = None
    per: Literal["game", "model"] = "game"

    @property
    def scalars(self) -> tuple[str, ...]:
        """The scalars in use."""
        return COST_SCALARS[self.kind]

    @model_validator(mode="after")
    def _complete(self):
        for name in self.scalars:
            if getattr(self, name) is None:
                raise ValueError(f"{name}: the cost {self.kind} needs it")
        for name in ("rate", "scale", "linear", "quadratic"):
            expected = "a cost that is not negative"
            _check_support(name, getattr(self, name), 0, math.inf, expected)
        positive = "a positive number"
        _check_support("exponent", self.exponent, math.ulp(0.0), math.inf, positive)
        return self


class Population(Description):
    """Measured curves to draw models from, strongest model first (`fitted_population`).

    Attributes:
      draw: "measured": every game is the measured leaderboard, its curves moved by their standard
        deviations; "resampled": each model is one of the measured ones, moved likewise, in the
        measured order of capability; "normal": (α, log β) are jointly normal, with the means and
        covariance of the measured ones.
      alpha: logit of the normalized score without training, one per model.
      beta: learning rates.
      alpha_deviation: standard deviations of `alpha`; none moves where left out.
      beta_deviation: standard deviations of `beta`.
      lower: lower limit of the score: one for all, or one per model.
      upper: upper limit.
      models: names, for the record.
    """

    draw: Literal["measured", "resampled", "normal"] = "resampled"
    alpha: Annotated[tuple[Finite, ...], Field(min_length=2)]
    beta: Annotated[tuple[Finite, ...], Field(min_length=2)]
    alpha_deviation: tuple[Finite, ...] | None = None
    beta_deviation: tuple[Finite, ...] | None = None
    lower: Finite | tuple[Finite, ...] = 0.0
    upper: Finite | tuple[Finite, ...] = 1.0
    models: tuple[str, ...] = ()

    @property
    def has_shared_limits(self) -> bool:
        """Whether all models have the same limits."""
        return not isinstance(self.lower, tuple) and not isinstance(self.upper, tuple)

    @model_validator(mode="after")
    def _fits_together(self):
        size = len(self.alpha)
        for name in ("beta", "alpha_deviation", "beta_deviation", "lower", "upper"):
            values = getattr(self, name)
            if isinstance(values, tuple) and len(values) != size:
                raise ValueError(f"{name}: expected {size} values, as alpha has; got {len(values)}")
        for name in ("alpha_deviation", "beta_deviation"):
            if any(x < 0 for x in getattr(self, name) or ()):
                raise ValueError(f"{name}: expected standard deviations that are not negative")
        lower = self.lower if isinstance(self.lower, tuple) else (self.lower,) * size
        upper = self.upper if isinstance(self.upper, tuple) else (self.upper,) * size
        if any(not low < high for low, high in zip(lower, upper, strict=True)):
            raise ValueError("upper: expected limits above `lower`")
        if self.draw == "normal" and not (self.has_shared_limits and min(self.beta) > 0):
            raise ValueError('draw: "normal" needs shared limits and positive learning rates')
        return self


class Prior(Description):
    """A distribution over leaderboard games.

    Attributes:
      count: number of models, or `Integers` for games of different size.
      capability: α of each model, sorted so that the strongest is first.
      learning_rate: β of each model.
      learning_rate_order: "descending": the more capable model learns no slower, as the paper
        assumes; "as-drawn": in any order; "ascending"; "common": one for all models of a game.
        Left out: descending, and as drawn from a population.
      lower: lower limit of the score (chance).
      upper: upper limit of the score.
      limits: "shared": one draw a game; "own": one a model, as drawn.
      rewards: what the ranks are worth.
      cost: what effort costs.
      population: measured curves, in place of capability, learning rate and limits.
    """

    count: Annotated[int, Field(ge=2, le=1000)] | Integers | None = None
    capability: Distribution | None = None
    learning_rate: Distribution | None = None
    learning_rate_order: Literal["descending", "as-drawn", "ascending", "common"] | None = None
    lower: Distribution = Constant(value=0.0)
    upper: Distribution = Constant(value=1.0)
    limits: Literal["shared", "own"] = "shared"
    rewards: Rewards
    cost: Costs
    population: Population | None = None

    @property
    def most_models(self) -> int:
        """The number of models of the largest game that can be drawn."""
        if isinstance(self.count, Integers):
            return self.count.high
        if self.count is None:
            assert self.population is not None
            return len(self.population.alpha)
        return self.count

    @property
    def rate_order(self) -> str:
        """The order of learning rates, the default filled in."""
        default = "descending" if self.population is None else "as-drawn"
        return self.learning_rate_order or default

    @property
    def has_shared_limits(self) -> bool:
        """Whether the models of a game have the same limits."""
        if self.population is not None:
            return self.population.has_shared_limits
        return self.limits == "shared"

    @property
    def is_regular(self) -> bool:
        """Whether every game has its stabilizing levels on the one ray [Δ*, ∞).

        So it is for equal limits and α, β > 0 that do not rise along the models (MODEL: C1, C3).
        """
        if not self.has_shared_limits or self.rate_order not in ("descending", "common"):
            return False
        if self.population is not None:
            return self.population.draw == "normal"
        assert self.learning_rate is not None
        return self.learning_rate.support()[0] > 0

    @model_validator(mode="after")
    def _fits_together(self):
        if self.population is None:
            for name in ("count", "capability", "learning_rate"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name}: missing")
        else:
            self._check_population(self.population)
        if isinstance(self.count, Integers) and not 2 <= self.count.low <= self.count.high <= 1000:
            raise ValueError("count: expected whole numbers from 2 to 1000")
        fewest = self.count.low if isinstance(self.count, Integers) else self.most_models
        if self.rewards.k is not None and self.rewards.k.support()[1] > fewest:
            raise ValueError(
                f"rewards.k: expected at most the number of models, {fewest}; got "
                f"{self.rewards.k.support()[1]:g}"
            )
        if self.rewards.values is not None and len(self.rewards.values) != self.most_models:
            raise ValueError(
                f"rewards.values: expected {self.most_models} rewards, one per model; got "
                f"{len(self.rewards.values)}"
            )
        if not self.lower.support()[1] < self.upper.support()[0]:
            raise ValueError("upper: expected limits that are always above `lower`")
        return self

    def _check_population(self, population: Population) -> None:
        for name in ("capability", "learning_rate"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: the population has it already; leave one of them out")
        size = len(population.alpha)
        if population.draw == "measured" and self.count not in (None, size):
            raise ValueError(f"count: the measured leaderboard has {size} models; leave it out")
