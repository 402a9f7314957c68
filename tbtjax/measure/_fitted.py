"""The record of a fit: curves, how well they fit, and flags of what is remarkable about them."""

import dataclasses
import enum
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from tbtjax._records import Record
from tbtjax.curves import PowerLaw
from tbtjax.measure._measurements import Measurements

#: A fit is a misfit where so large a χ² would be met less often than this.
_MISFIT_PROBABILITY = 1e-3


class FitFlag(enum.IntFlag):
    """What is remarkable about a fit; `PowerLawFit.flags` holds their sum."""

    #: A measured value cannot be used (score outside [0, 1] or infinite, negative step), or the
    #: limits are not lower < upper; for the deviance also: questions not known, limits outside
    #: [0, 1]. All numbers of the curve are NaN.
    INVALID = 1
    #: Fewer different steps than fitted parameters: all numbers of the curve are NaN. With shared
    #: limits a curve needs two steps, and a group two more than that among its curves.
    TOO_FEW_POINTS = 2
    #: The search ended where χ² would still fall by more than 0.001, or by more than a thousandth
    #: of χ² per degree of freedom where that is more, as its quadratic model tells, with limits
    #: within their bounds.
    NOT_CONVERGED = 4
    #: No usable questions or stderr for every point: χ² is a plain sum of squares, standard
    #: deviations are scaled by the scatter, and a misfit cannot be told.
    UNWEIGHTED = 8
    #: β < 0: the score falls with effort.
    DECREASING = 16
    #: β > 1 with e^α < (β − 1)/(β + 1): the curve starts convex, and assumption C2 fails.
    NOT_CONCAVE = 32
    #: A free limit stands at its bound, or the points do not bound the curve: its rate is at its
    #: bound or known less well than that. Data at or beyond a fixed limit do this.
    AT_BOUND = 64
    #: The midpoint log(1 + e) = −α/β lies outside the measured efforts. With fixed limits that is
    #: common and harmless; with free ones most of the rise, or its start, is an extrapolation.
    MIDPOINT_OUTSIDE = 128
    #: A fitted upper limit at its bound, or with a standard deviation above half of upper − lower.
    UPPER_UNIDENTIFIED = 256
    #: χ² so large is met with probability below 0.001: standard deviations are too small.
    MISFIT = 512
    #: Fewer than ten answers right, or fewer than ten wrong, at some point that χ² weighs by its
    #: count: χ² leans to what such a point happens to be, the deviance does not.
    SMALL_COUNTS = 1024

    def words(self) -> str:
        """The flags in words, comma-separated; empty without any.

        Examples:
          >>> FitFlag(48).words()
          'decreasing, not concave'
        """
        return ", ".join(str(flag.name).lower().replace("_", " ") for flag in self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PowerLawFit(Record):
    """Fitted power-law curves, and how far they can be trusted.

    Attributes:
      curves: the curves; fields `[..., n]`, fixed limits in the shape they were given in. NaN
        where nothing could be fitted (flag INVALID or TOO_FEW_POINTS).
      chi2: `[..., n]` Σ (score − v)²/σ² over the used points; for loss="deviance" the deviance.
      p_value: `[..., n]` probability of so large a χ² if the form of the curve and the noise are
        right; NaN without degrees of freedom and for an unweighted fit.
      dof: `[..., n]` int32: used points less fitted parameters: 2, with free limits 4, with limits
        shared by m models 2 and 2/m, rounded. A group has Σ points − 2m − 2.
      points: `[..., n]` int32: points used.
      left_out: `[..., n]` int32: measured points not used (`fit_logit_ols`: no logit exists).
      gradient: `[..., n, 4]` derivative of the minimised loss in alpha, beta, lower and upper; 0
        for what is fixed or held at its bound. What is not 0 the search has left. In shared limits
        it is that of the group's loss.
      deviation: `[..., n, 4]` standard deviations of alpha, beta, lower and upper, from the
        curvature of the loss; 0 for what is fixed or held at its bound, +inf where the points say
        nothing, NaN for an unweighted curve without degrees of freedom. They know of the noise in
        the scores alone: for a misfit they are too small.
      flags: `[..., n]` int32: a sum of `FitFlag`.
    """

    event_ndims: ClassVar[dict[str, int]] = {"gradient": 2, "deviation": 2}
    event_dims: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(
        ("gradient", "deviation"), ("model", "parameter")
    )

    curves: PowerLaw
    chi2: jax.Array
    p_value: jax.Array
    dof: jax.Array
    points: jax.Array
    left_out: jax.Array
    gradient: jax.Array
    deviation: jax.Array
    flags: jax.Array

    @property
    def reduced_chi2(self) -> jax.Array:
        """`[..., n]` chi2/dof, near 1 for a good weighted fit; NaN without degrees of freedom."""
        return per_degree(self.chi2, self.dof)

    def has(self, flag: FitFlag) -> jax.Array:
        """`[..., n]` bool: whether any of these flags is set."""
        return (self.flags & jnp.int32(flag)) != 0


def per_degree(total: jax.Array, dof: jax.Array) -> jax.Array:
    """A sum of squares per degree of freedom; NaN without any."""
    return jnp.where(dof > 0, total / jnp.maximum(dof, 1).astype(total.dtype), jnp.nan)


def chi2_probability(chi2: jax.Array, dof: jax.Array, most: int) -> jax.Array:
    """Probability of a χ² above `chi2`; NaN without degrees of freedom, of which `most` at most.

    Q = Σ_{j<⌊dof/2⌋} e^{−y} y^{j+h}/Γ(j+h+1), plus erfc(√y) for odd dof, with y = χ²/2 and h = ½
    for odd, 0 for even dof.
    """
    y = jnp.maximum(chi2 / 2, jnp.finfo(chi2.dtype).tiny)[..., None]
    odd = (dof % 2 == 1)[..., None]
    # One table for even and one for odd dof, each [1, ..., 1, terms].
    shape = (*[1] * chi2.ndim, most // 2)
    j = jnp.arange(most // 2, dtype=dof.dtype).reshape(shape)
    powers, log_gammas = (
        jnp.where(
            odd,
            jnp.asarray([f(k + 0.5) for k in range(most // 2)], chi2.dtype).reshape(shape),
            jnp.asarray([f(k) for k in range(most // 2)], chi2.dtype).reshape(shape),
        )
        for f in (float, lambda power: math.lgamma(power + 1))
    )
    terms = jnp.exp(powers * jnp.log(y) - y - log_gammas)
    total = jnp.sum(jnp.where(j < (dof // 2)[..., None], terms, 0), axis=-1)
    total += jnp.where(odd, jax.lax.erfc(jnp.sqrt(y)), 0)[..., 0]
    return jnp.where(dof > 0, total, jnp.nan)


def record_of(
    data: Measurements,
    used: jax.Array,
    too_few: jax.Array,
    curves: PowerLaw,
    *,
    chi2: jax.Array,
    dof: jax.Array,
    gradient: jax.Array,
    deviation: jax.Array,
    flags: dict[FitFlag, jax.Array],
) -> PowerLawFit:
    """The fit, with the flags that every way of fitting shares, and NaN where there is none."""
    alpha, beta, lost = curves.alpha, curves.beta, data.invalid | too_few
    first = jnp.min(jnp.where(used, data.effort, jnp.inf), axis=-1)
    last = jnp.max(jnp.where(used, data.effort, -jnp.inf), axis=-1)
    midpoint = -alpha / jnp.where(beta == 0, 1, beta)
    steeper = jnp.maximum(beta, 1)
    p_value = chi2_probability(chi2, dof, used.shape[-1])
    p_value = jnp.where(data.weighted & ~lost, p_value, jnp.nan)
    found = flags | {
        FitFlag.UNWEIGHTED: ~data.weighted,
        FitFlag.DECREASING: beta < 0,
        FitFlag.NOT_CONCAVE: (beta > 1) & (alpha < jnp.log((steeper - 1) / (steeper + 1))),
        FitFlag.MIDPOINT_OUTSIDE: (beta == 0) | (midpoint < first) | (midpoint > last),
        FitFlag.MISFIT: p_value < _MISFIT_PROBABILITY,
    }
    total = jnp.zeros(lost.shape, jnp.int32)
    for flag, there in found.items():
        total += jnp.where(there & ~lost, jnp.int32(flag), 0)
    total = jnp.where(too_few, jnp.int32(FitFlag.TOO_FEW_POINTS), total)
    total = jnp.where(data.invalid, jnp.int32(FitFlag.INVALID), total)
    points = jnp.sum(used, axis=-1, dtype=jnp.int32)
    return PowerLawFit(
        curves=dataclasses.replace(
            curves, alpha=jnp.where(lost, jnp.nan, alpha), beta=jnp.where(lost, jnp.nan, beta)
        ),
        chi2=jnp.where(lost, jnp.nan, chi2),
        p_value=p_value,
        dof=dof,
        points=points,
        left_out=jnp.sum(data.measured, axis=-1, dtype=jnp.int32) - points,
        gradient=jnp.where(lost[..., None], jnp.nan, gradient),
        deviation=jnp.where(lost[..., None], jnp.nan, deviation),
        flags=total,
    )
