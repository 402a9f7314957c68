"""Distributions of a game's parameters: one description for TOML files and for Python.

    >>> from tbtjax.study import Normal
    >>> Normal(mean=0.0, deviation=1.0).support()
    (-inf, inf)

A plain number is a constant. Each distribution draws from a key of its own; what it draws for a
model does not depend on how many models follow.
"""

import math
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Description(BaseModel):
    """A frozen description that knows no other keys than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Constant(Description):
    """Always `value`."""

    kind: Literal["constant"] = "constant"
    value: Finite

    def support(self) -> tuple[float, float]:
        """Least and largest value that can be drawn."""
        return self.value, self.value

    def draw(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Independent draws of the shape and dtype asked for."""
        del key
        return jnp.full(shape, self.value, dtype)


class _Between(Description):
    """What is drawn between `low` and `high`."""

    low: Finite
    high: Finite

    @model_validator(mode="after")
    def _ordered(self):
        if not self.low < self.high:
            raise ValueError(f"low must be below high; got {self.low} and {self.high}")
        return self

    def support(self) -> tuple[float, float]:
        """Least and largest value that can be drawn."""
        return self.low, self.high


class Uniform(_Between):
    """Uniform between `low` and `high`."""

    kind: Literal["uniform"] = "uniform"

    def draw(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Independent draws of the shape and dtype asked for."""
        return self.low + (self.high - self.low) * jax.random.uniform(key, shape, dtype)


class LogUniform(_Between):
    """Uniform in the logarithm, between `low` and `high`, both positive."""

    kind: Literal["loguniform"] = "loguniform"
    low: Positive
    high: Positive

    def draw(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Independent draws of the shape and dtype asked for."""
        width = math.log(self.high / self.low)
        values = self.low * jnp.exp(width * jax.random.uniform(key, shape, dtype))
        return jnp.clip(values, self.low, self.high)


class Normal(Description):
    """Normal with `mean` and standard `deviation`."""

    kind: Literal["normal"] = "normal"
    mean: Finite
    deviation: Positive

    def support(self) -> tuple[float, float]:
        """Least and largest value that can be drawn."""
        return -math.inf, math.inf

    def draw(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Independent draws of the shape and dtype asked for."""
        return self.mean + self.deviation * jax.random.normal(key, shape, dtype)


class LogNormal(Description):
    """Normal in the logarithm: `median`, and standard deviation of the natural logarithm."""

    kind: Literal["lognormal"] = "lognormal"
    median: Positive
    log_deviation: Positive

    def support(self) -> tuple[float, float]:
        """Least and largest value that can be drawn."""
        return math.ulp(0.0), math.inf

    def draw(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Independent draws of the shape and dtype asked for."""
        return self.median * jnp.exp(self.log_deviation * jax.random.normal(key, shape, dtype))


class Beta(_Between):
    """Beta with parameters `a` and `b`, stretched to [`low`, `high`]."""

    kind: Literal["beta"] = "beta"
    a: Positive
    b: Positive
    low: Finite = 0.0
    high: Finite = 1.0

    def draw(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Independent draws of the shape and dtype asked for."""
        # One key a value: the sampler's own rounds then depend on nothing else.
        keys = keys_of(key, math.prod(shape))
        share = jax.vmap(lambda k: jax.random.beta(k, self.a, self.b, (), dtype))(keys)
        return self.low + (self.high - self.low) * share.reshape(shape)


class Empirical(Description):
    """Any of the `values`, each as likely."""

    kind: Literal["empirical"] = "empirical"
    values: Annotated[tuple[Finite, ...], Field(min_length=1)]

    def support(self) -> tuple[float, float]:
        """Least and largest value that can be drawn."""
        return min(self.values), max(self.values)

    def draw(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Independent draws of the shape and dtype asked for."""
        return jnp.asarray(self.values, dtype)[pick(key, shape, len(self.values))]


class Integers(Description):
    """Whole numbers from `low` to `high`, both included, each as likely."""

    kind: Literal["integers"] = "integers"
    low: Annotated[int, Field(ge=0)]
    high: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _ordered(self):
        if not self.low <= self.high:
            raise ValueError(f"low must not be above high; got {self.low} and {self.high}")
        return self

    def support(self) -> tuple[float, float]:
        """Least and largest value that can be drawn."""
        return self.low, self.high

    def draw(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Independent draws of the shape and dtype asked for."""
        return (self.low + pick(key, shape, self.high - self.low + 1)).astype(dtype)


def keys_of(key: jax.Array, count: int) -> jax.Array:
    """`[count]` keys; the first ones are the same whatever `count` is."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))


def pick(key: jax.Array, shape: tuple[int, ...], count: int) -> jax.Array:
    """Indices below `count`, each as likely."""
    share = jax.random.uniform(key, shape, jnp.float32)
    return jnp.minimum((share * count).astype(jnp.int32), count - 1)


def _number_is_constant(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"kind": "constant", "value": value}
    return value


Distribution = Annotated[
    Annotated[
        Constant | Uniform | LogUniform | Normal | LogNormal | Beta | Empirical | Integers,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_number_is_constant),
]
#: The kinds, which pydantic puts into the place of an error.
KINDS = (
    *("constant", "uniform", "loguniform", "normal", "lognormal", "beta", "empirical", "integers"),
)
