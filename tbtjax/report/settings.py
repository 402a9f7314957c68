"""What the user of `tbtjax analyze` chooses, and the error for what does not fit."""

import dataclasses
from typing import Literal

import numpy as np

from tbtjax.report.families import Doubt
from tbtjax.rewards import equal_gaps, geometric_rewards, top_k, winner_take_all

#: What the largest adjacent reward gap is worth where the user does not say, in training steps.
DEFAULT_WORTHS = (10.0, 100.0, 1000.0, 10000.0)


class AnalysisError(ValueError):
    """The data or an option do not allow an analysis; the text is for the user, on one line."""


@dataclasses.dataclass(frozen=True)
class RewardScheme:
    """A reward scheme by name: winner-take-all, top-k:K, equal-gaps or geometric:R.

    Attributes:
      name: as the user writes it, such as "top-k:3".
      kind: the part before the colon.
      parameter: the number after it; 0 for schemes without one.
    """

    name: str
    kind: str
    parameter: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "RewardScheme":
        """The scheme that `text` names.

        Args:
          text: "winner-take-all", "top-k:K" with K ≥ 1, "equal-gaps" or "geometric:R", 0 ≤ R < 1.

        Raises:
          AnalysisError: `text` is none of these.

        Examples:
          >>> RewardScheme.parse("geometric:0.5").parameter
          0.5
        """
        kind, colon, number = text.partition(":")
        try:
            if kind in ("winner-take-all", "equal-gaps") and not colon:
                return cls(text, kind)
            if kind == "top-k" and int(number) >= 1:
                return cls(text, kind, int(number))
            if kind == "geometric" and 0 <= float(number) < 1:
                return cls(text, kind, float(number))
        except ValueError:
            pass
        raise AnalysisError(
            f"rewards {text!r} are not known; expected winner-take-all, top-k:K (K = 1, 2, ...), "
            "equal-gaps or geometric:R (0 <= R < 1)"
        )

    def unit_rewards(self, n: int) -> np.ndarray:
        """`[n]` rewards, rank 1 first, whose largest adjacent gap is 1.

        Raises:
          AnalysisError: with n models every rank would be paid alike.
        """
        if self.kind == "top-k":
            if self.parameter >= n:
                raise AnalysisError(
                    f"rewards {self.name} pay all of the {n} models alike; expected K below {n}"
                )
            return np.asarray(top_k(n, int(self.parameter)))
        if self.kind == "geometric":
            rewards = np.asarray(geometric_rewards(n, self.parameter))
            return rewards / (rewards[0] - rewards[1])
        return np.asarray(winner_take_all(n) if self.kind == "winner-take-all" else equal_gaps(n))


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the user chose; see `tbtjax analyze --help`.

    Attributes:
      order: the capability order, "size" or "score"; None for size where all models have one.
      lower: lower limit of the score (chance); the upper one is 1.
      fit: "weighted" (`fit_power_law`) or "logit-ols" (`fit_logit_ols`).
      limits: "fixed" at `lower` and 1, "free": both fitted for each model, or "shared": both fitted
        for all models together.
      rewards: the reward scheme.
      worths: what the largest adjacent reward gap is worth, in training steps; cost is linear.
      deviations: "all" or "adjacent", as in `stabilizing_threshold`.
      loss: "chi2" or "deviance", as in `fit_power_law`.
      doubt: how scores are resampled; without resamples no families of curves are compared.
      ordered: whether curves are fitted in capability order too; not with free limits.
    """

    order: Literal["size", "score"] | None = None
    lower: float = 0.0
    fit: Literal["weighted", "logit-ols"] = "weighted"
    limits: Literal["fixed", "free", "shared"] = "fixed"
    rewards: RewardScheme = RewardScheme("winner-take-all", "winner-take-all")
    worths: tuple[float, ...] = DEFAULT_WORTHS
    deviations: Literal["all", "adjacent"] = "all"
    loss: Literal["chi2", "deviance"] = "chi2"
    doubt: Doubt = dataclasses.field(default_factory=Doubt)
    ordered: bool = False
