"""Costs of additional effort, and what a reward is worth in training steps.

A cost is a record that is called on an effort and has `effort_worth(value)`, the least effort that
costs `value`: inf{e ≥ 0 : c(e) ≥ value}, 0 where value ≤ 0, +inf where never, NaN for NaN and for
unusable parameters. With it every condition c(e) ≥ G becomes e ≥ effort_worth(G), "the reward gap
in steps": costs enter the solvers only so. Parameters may differ between models (last axis n);
efforts are `[..., n]`, ≥ 0, and may carry extra leading axes. A user's own cost is a registered
frozen dataclass with these two methods. One that is convex with c(0) = 0 for all usable parameters
may say so by a class attribute `is_convex = True`: thresholds of large batches then take less time.

Source: Chen, Zhang, Hardt (arXiv 2603.08371), Assumption 4.1 (non-decreasing, convex, c(0) = 0).
"""

import dataclasses
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from tbtjax._checks import Problem, as_floating, check_broadcast
from tbtjax._records import Record


@runtime_checkable
class Cost(Protocol):
    """What a cost offers; see the module's text."""

    def __call__(self, effort: jax.Array, /) -> jax.Array:
        """Cost of `effort` training steps, `[..., n]`."""
        ...

    def effort_worth(self, value: jax.Array, /) -> jax.Array:
        """inf{e ≥ 0 : c(e) ≥ value}, `[..., n]`, in training steps; +inf where never."""
        ...


def _negative(argument: str, values: jax.Array) -> Problem:
    return Problem(
        argument, "finite and not negative", values, ~(jnp.isfinite(values) & (values >= 0))
    )


def _positive(argument: str, values: jax.Array) -> Problem:
    return Problem(argument, "finite and positive", values, ~(jnp.isfinite(values) & (values > 0)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LinearCost(Record):
    """c(e) = rate·e.

    Attributes:
      rate: `[..., n]`, `[..., 1]` or scalar: value per training step.
    """

    is_convex: ClassVar[bool] = True

    rate: jax.Array

    def __call__(self, effort: jax.Array) -> jax.Array:
        """Cost of `effort` training steps; +inf at +inf, also where the rate is 0."""
        return _product(self.rate, effort)

    def effort_worth(self, value: jax.Array) -> jax.Array:
        """value/rate, in training steps."""
        paid = (value > 0) & jnp.isfinite(value) & (self.rate > 0)
        worth = jnp.where(paid, value, 0) / jnp.where(self.rate > 0, self.rate, 1)
        return _checked(worth, value, free=self.rate == 0, usable=self.rate >= 0)

    def problems(self) -> list[Problem]:
        """Unusable parameters and where they are."""
        return [_negative("rate", self.rate)]


def _checked(worth: jax.Array, value: jax.Array, free: Any, usable: Any) -> jax.Array:
    """The effort's worth: 0 for no value, +inf where effort is free, NaN for unusable numbers."""
    worth = jnp.where(value > 0, jnp.where(free | jnp.isposinf(value), jnp.inf, worth), 0)
    return jnp.where(jnp.isnan(value) | ~usable, jnp.nan, worth)


def _product(rate: jax.Array, effort: jax.Array) -> jax.Array:
    """rate·effort with 0·inf = inf (c(+∞) = +∞) and no NaN in gradients."""
    finite = jnp.isfinite(effort)
    return jnp.where(finite, rate * jnp.where(finite, effort, 0), effort)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PowerCost(Record):
    """c(e) = scale·e^exponent. Convex iff exponent ≥ 1.

    Attributes:
      scale: `[..., n]`, `[..., 1]` or scalar: cost of one training step.
      exponent: the same, positive.
    """

    scale: jax.Array
    exponent: jax.Array

    def __call__(self, effort: jax.Array) -> jax.Array:
        """Cost of `effort` training steps; +inf at +inf."""
        inside = (effort > 0) & jnp.isfinite(effort)
        power = jnp.where(inside, effort, 1) ** self.exponent
        # Free effort costs nothing where the power overflows, too.
        cost = jnp.where(self.scale == 0, 0, self.scale) * jnp.where(self.scale == 0, 1, power)
        return jnp.where(inside, cost, effort)

    def effort_worth(self, value: jax.Array) -> jax.Array:
        """(value/scale)^(1/exponent), in training steps."""
        paid = (value > 0) & jnp.isfinite(value) & (self.scale > 0)
        ratio = jnp.where(paid, value, 1) / jnp.where(paid, self.scale, 1)
        worth = ratio ** (1 / jnp.where(self.exponent > 0, self.exponent, 1))
        usable = (self.scale >= 0) & (self.exponent > 0)
        return _checked(worth, value, free=self.scale == 0, usable=usable)

    def problems(self) -> list[Problem]:
        """Unusable parameters and where they are."""
        return [_negative("scale", self.scale), _positive("exponent", self.exponent)]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class QuadraticCost(Record):
    """c(e) = linear·e + quadratic·e².

    Attributes:
      linear: `[..., n]`, `[..., 1]` or scalar: value per training step.
      quadratic: the same: value per training step squared.
    """

    is_convex: ClassVar[bool] = True

    linear: jax.Array
    quadratic: jax.Array

    def __call__(self, effort: jax.Array) -> jax.Array:
        """Cost of `effort` training steps; +inf at +inf."""
        finite = jnp.isfinite(effort)
        e = jnp.where(finite, effort, 0)
        return jnp.where(finite, e * (self.linear + self.quadratic * e), effort)

    def effort_worth(self, value: jax.Array) -> jax.Array:
        """The positive root e of c(e) = value, in training steps."""
        free = (self.linear == 0) & (self.quadratic == 0)
        paid = (value > 0) & jnp.isfinite(value) & ~free
        v = jnp.where(paid, value, 1)
        linear = jnp.where(free, 1, self.linear)
        # 2v/(l + √(l² + 4qv)) keeps its digits where q·v is small against l², and is v/l at q = 0.
        # Divided by the larger of l and √(qv), no square leaves the dtype's range.
        size = jnp.maximum(linear, jnp.sqrt(self.quadratic) * jnp.sqrt(v))
        size = jax.lax.stop_gradient(jnp.where(size > 0, size, 1))
        v, linear = v / size, linear / size
        root = 2 * v / (linear + jnp.sqrt(linear**2 + 4 * (v * self.quadratic / size)))
        usable = (self.linear >= 0) & (self.quadratic >= 0)
        return _checked(root, value, free=free, usable=usable)

    def problems(self) -> list[Problem]:
        """Unusable parameters and where they are."""
        return [_negative("linear", self.linear), _negative("quadratic", self.quadratic)]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PiecewiseLinearCost(Record):
    """Convex piecewise linear cost from c(0) = 0: slopes between breakpoints.

    Attributes:
      breakpoints: `[..., n, pieces − 1]` or `[pieces − 1]`: efforts at which the slope changes,
        positive and rising; NaN pads the end.
      slopes: `[..., n, pieces]` or `[pieces]`, non-negative and non-decreasing; NaN pads the end.
    """

    is_convex: ClassVar[bool] = True
    event_ndims: ClassVar[dict[str, int]] = {"breakpoints": 2, "slopes": 2}

    breakpoints: jax.Array
    slopes: jax.Array

    def _pieces(self) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Start, cost at the start and slope of each piece, 0 in the padding; which are real."""
        start = jnp.concatenate([jnp.zeros_like(self.breakpoints[..., :1]), self.breakpoints], -1)
        start, slopes = jnp.broadcast_arrays(start, self.slopes)
        real = ~(jnp.isnan(start) | jnp.isnan(slopes))
        start, slopes = jnp.where(real, start, 0), jnp.where(real, slopes, 0)
        rise = jnp.cumsum(slopes[..., :-1] * (start[..., 1:] - start[..., :-1]), axis=-1)
        paid = jnp.concatenate([jnp.zeros_like(start[..., :1]), rise], -1)
        return start, jnp.where(real, paid, 0), slopes, real

    def __call__(self, effort: jax.Array) -> jax.Array:
        """Cost of `effort` training steps; +inf at +inf."""
        start, paid, slopes, real = self._pieces()
        finite = jnp.isfinite(effort)
        e = jnp.where(finite, effort, 0)[..., None]
        here = _last(real & (start <= e))
        cost = jnp.sum(jnp.where(here, paid + slopes * (e - start), 0), axis=-1)
        return jnp.where(finite, cost, effort)

    def effort_worth(self, value: jax.Array) -> jax.Array:
        """inf{e ≥ 0 : c(e) ≥ value}, in training steps."""
        start, paid, slopes, real = self._pieces()
        v = jnp.where((value > 0) & jnp.isfinite(value), value, 0)[..., None]
        here = _last(real & (paid < v)) & (slopes > 0)
        worth = start + (v - paid) / jnp.where(here, slopes, 1)
        worth = jnp.sum(jnp.where(here, worth, 0), axis=-1)
        usable = real[..., 0] & jnp.all(~real | (slopes >= 0), axis=-1)
        return _checked(worth, value, free=~jnp.any(here, axis=-1), usable=usable)

    def problems(self) -> list[Problem]:
        """Unusable parameters and where they are."""
        start, _, slopes, real = self._pieces()
        both = real[..., 1:] & real[..., :-1]
        gap = jnp.any(real[..., 1:] & ~real[..., :-1], axis=-1) | ~real[..., 0]
        unsorted = jnp.any(both & ~(start[..., 1:] > start[..., :-1]), axis=-1)
        falling = jnp.any(both & ~(slopes[..., 1:] >= slopes[..., :-1]), axis=-1)
        usable = (slopes >= 0) & jnp.isfinite(slopes) & jnp.isfinite(start)
        unusable = jnp.any(real & ~usable, axis=-1)
        return [
            Problem("breakpoints", "positive and rising", start[..., 0], unsorted),
            Problem(
                "slopes",
                "finite, not negative and non-decreasing, NaN only at the end",
                slopes[..., 0],
                gap | falling | unusable,
            ),
        ]


def _last(x: jax.Array) -> jax.Array:
    """The last True along the last axis, alone; nothing where there is none."""
    number = jnp.arange(1, x.shape[-1] + 1)
    return x & (number == jnp.max(jnp.where(x, number, 0), axis=-1, keepdims=True))


def linear_cost(rate: Any) -> LinearCost:
    """Linear cost c(e) = rate·e.

    Args:
      rate: `[..., n]`, `[..., 1]` or scalar: value per training step, ≥ 0.

    Returns:
      The cost, of the floating dtype of `rate`.

    Raises:
      TypeError: `rate` is not an array of real numbers.

    Examples:
      >>> float(linear_cost(0.5).effort_worth(10.0))
      20.0
    """
    return LinearCost(*as_floating(rate=rate))


def power_cost(scale: Any, exponent: Any) -> PowerCost:
    """Power cost c(e) = scale·e^exponent; convex, as the paper assumes, iff exponent ≥ 1.

    Args:
      scale: `[..., n]`, `[..., 1]` or scalar: cost of one training step, ≥ 0.
      exponent: the same, > 0.

    Returns:
      The cost, of the common floating dtype.

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: the shapes do not broadcast.

    Examples:
      >>> float(power_cost(2.0, 2.0).effort_worth(18.0))
      3.0
    """
    scale, exponent = as_floating(scale=scale, exponent=exponent)
    check_broadcast(scale=scale.shape, exponent=exponent.shape)
    return PowerCost(scale, exponent)


def quadratic_cost(linear: Any, quadratic: Any) -> QuadraticCost:
    """Quadratic cost c(e) = linear·e + quadratic·e².

    Args:
      linear: `[..., n]`, `[..., 1]` or scalar: value per training step, ≥ 0.
      quadratic: the same: value per training step squared, ≥ 0.

    Returns:
      The cost, of the common floating dtype.

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: the shapes do not broadcast.

    Examples:
      >>> float(quadratic_cost(1.0, 1.0).effort_worth(6.0))
      2.0
    """
    linear, quadratic = as_floating(linear=linear, quadratic=quadratic)
    check_broadcast(linear=linear.shape, quadratic=quadratic.shape)
    return QuadraticCost(linear, quadratic)


def piecewise_linear_cost(breakpoints: Any, slopes: Any) -> PiecewiseLinearCost:
    """Convex piecewise linear cost with c(0) = 0.

    Args:
      breakpoints: `[..., n, pieces − 1]`, or `[pieces − 1]` shared by all models: efforts at which
        the slope changes, positive and rising. NaN pads the end.
      slopes: `[..., n, pieces]` or `[pieces]`: value per training step, one more than breakpoints,
        non-negative and non-decreasing. NaN pads the end.

    Returns:
      The cost, of the common floating dtype.

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: there is not one slope more than breakpoints, or the shapes do not broadcast.

    Examples:
      >>> cost = piecewise_linear_cost([100.0], [1.0, 3.0])
      >>> float(cost(150.0)), float(cost.effort_worth(250.0))
      (250.0, 150.0)
    """
    breakpoints, slopes = as_floating(breakpoints=breakpoints, slopes=slopes)
    if breakpoints.ndim == 0 or slopes.ndim == 0 or (slopes.shape[-1] != breakpoints.shape[-1] + 1):
        raise ValueError(
            "slopes must have one entry more than breakpoints on the last axis; got shapes "
            f"{slopes.shape} and {breakpoints.shape}"
        )
    check_broadcast(breakpoints=breakpoints.shape[:-1], slopes=slopes.shape[:-1])
    return PiecewiseLinearCost(breakpoints, slopes)
