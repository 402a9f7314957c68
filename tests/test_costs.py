"""Costs and what a value is worth in steps, against exact inverses and the definition."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import exact

import tbtjax
from tbtjax.costs import Cost

# A cost, the same in mpmath, and its inverse.
COSTS = {
    "linear": (
        (tbtjax.linear_cost, 0.3),
        lambda e: exact.mpf("0.3") * e,
        lambda v: v / exact.mpf("0.3"),
    ),
    "power": (
        (tbtjax.power_cost, 2.0, 1.5),
        lambda e: 2 * e ** exact.mpf(1.5),
        lambda v: (v / 2) ** (1 / exact.mpf(1.5)),
    ),
    "concave": (
        (tbtjax.power_cost, 3.0, 0.5),
        lambda e: 3 * exact.sqrt(e),
        lambda v: (v / 3) ** 2,
    ),
    "quadratic": (
        (tbtjax.quadratic_cost, 0.5, 0.25),
        lambda e: e / 2 + e**2 / 4,
        lambda v: exact.sqrt(1 + 4 * v) - 1,
    ),
    "square": ((tbtjax.quadratic_cost, 0.0, 4.0), lambda e: 4 * e**2, lambda v: exact.sqrt(v) / 2),
    "pieces": (
        (tbtjax.piecewise_linear_cost, [10.0, 1e4], [0.5, 0.5, 2.0]),
        lambda e: e / 2 if e <= 10**4 else 5_000 + 2 * (e - 10**4),
        lambda v: 2 * v if v <= 5_000 else 10**4 + (v - 5_000) / 2,
    ),
    "free at first": (
        (tbtjax.piecewise_linear_cost, [2.0], [0.0, 0.25]),
        lambda e: max(e - 2, 0) / 4,
        lambda v: 2 + 4 * v,
    ),
}


def make(name, dtype):
    constructor, *parameters = COSTS[name][0]
    return constructor(*(np.asarray(x, dtype) for x in parameters))


@jax.jit
def paid_and_worth(cost, amounts):
    return cost(amounts), cost.effort_worth(amounts)


@pytest.mark.parametrize("name", COSTS)
def test_costs_and_worths_are_exact(name, dtype):
    cost, (_, exact_cost, exact_worth) = make(name, dtype), COSTS[name]
    assert isinstance(cost, Cost)
    amounts = np.concatenate([[0], np.geomspace(1e-6, 1e9, 40)]).astype(dtype)
    paid, worth = paid_and_worth(cost, amounts[:, None])
    assert paid.dtype == worth.dtype == dtype and paid.shape == (41, 1)
    eps = float(np.finfo(dtype).eps)
    # The rate 0.3 is rounded, and an exponent: a rounded logarithm of 1e9 makes 21 ulps.
    rounding = 32 * eps
    for i, amount in enumerate(amounts):
        expected = float(exact_cost(exact.mpf(float(amount))))
        # A cost that starts late loses what its start has.
        late = 2 * eps if name == "free at first" else 0
        assert float(paid[i, 0]) == pytest.approx(expected, rel=rounding, abs=late)
        expected = float(exact_worth(exact.mpf(float(amount)))) if amount else 0
        assert float(worth[i, 0]) == pytest.approx(expected, rel=rounding)


@pytest.mark.parametrize("name", COSTS)
def test_what_no_effort_is_worth(name, dtype):
    cost = make(name, dtype)
    # As many as in the test above, so that one program serves both.
    values = np.resize(np.array([-np.inf, -1, 0, np.inf, np.nan], dtype), 41)
    paid, worth = (x[:5, 0] for x in paid_and_worth(cost, values[:, None]))
    np.testing.assert_array_equal(worth, [0, 0, 0, np.inf, np.nan])
    np.testing.assert_array_equal(paid[2:], [0, np.inf, np.nan])


FREE = {
    "linear": (tbtjax.linear_cost, 0.0),
    "power": (tbtjax.power_cost, 0.0, 2.0),
    "quadratic": (tbtjax.quadratic_cost, 0.0, 0.0),
    "pieces": (tbtjax.piecewise_linear_cost, [5.0], [0.0, 0.0]),
}


@pytest.mark.parametrize("name", FREE)
def test_free_effort_costs_nothing_and_never_a_value(name, dtype):
    constructor, *parameters = FREE[name]
    cost = constructor(*(np.asarray(x, dtype) for x in parameters))
    paid, worth = paid_and_worth(cost, np.array([[0], [1e-9], [3], [1e30]], dtype))
    assert paid[:, 0].tolist() == [0, 0, 0, 0]
    assert worth[:, 0].tolist() == [0, np.inf, np.inf, np.inf]


UNUSABLE = [
    tbtjax.linear_cost([-1.0, np.nan]),
    tbtjax.power_cost([-1.0, 1.0], [1.0, -2.0]),
    tbtjax.quadratic_cost([-1.0, 1.0], [1.0, np.nan]),
    tbtjax.piecewise_linear_cost([1.0], [[-1.0, 1.0], [np.nan, 1.0]]),
]


@pytest.mark.parametrize("cost", UNUSABLE, ids=lambda cost: type(cost).__name__)
def test_unusable_costs_are_worth_nan_and_are_named(cost):
    assert np.all(np.isnan(cost.effort_worth(np.float32(2.0))))
    assert any(np.any(problem.bad) for problem in cost.problems())


def test_digits_survive_far_from_the_units_of_a_cost(dtype):
    """Each of these was once lost: to a square, to a difference from a far breakpoint."""
    eps = float(np.finfo(dtype).eps)
    huge, tiny = dtype.type(1e25), dtype.type(1e-30)
    quadratic = tbtjax.quadratic_cost(
        np.array([tiny, huge, 0, 0], dtype), np.array([0, 1, tiny, huge], dtype)
    )
    values = np.array([1, 1e30, 1e30, 1e-9], dtype)
    _, worth = paid_and_worth(quadratic, values)
    np.testing.assert_allclose(worth, [1e30, 1e5, 1e30, 1e-17], rtol=16 * eps)
    far = tbtjax.piecewise_linear_cost(np.array([1e8], dtype), np.array([1, 1], dtype))
    for found in paid_and_worth(far, np.array([0.3], dtype)):
        np.testing.assert_allclose(found, [0.3], rtol=2 * eps)
    free = tbtjax.power_cost(dtype.type(0), dtype.type(3))
    assert paid_and_worth(free, dtype.type(1e30))[0] == 0


def test_padding_is_as_if_it_were_not_there(dtype):
    """Also for derivatives."""
    short = tbtjax.piecewise_linear_cost(np.array([3.0], dtype), np.array([1.0, 2.0], dtype))
    nan = dtype.type(np.nan)
    padded = tbtjax.piecewise_linear_cost(
        np.array([3.0, nan], dtype), np.array([1.0, 2.0, nan], dtype)
    )
    amounts = np.array([0, 1, 3, 7.5], dtype)[:, None]

    @jax.jit
    def answers(cost):
        def total(cost):
            return jnp.sum(cost(amounts)) + jnp.sum(cost.effort_worth(amounts))

        return cost(amounts), cost.effort_worth(amounts), jax.grad(total)(cost)

    (paid, worth, slopes), (other_paid, other_worth, other_slopes) = answers(short), answers(padded)
    np.testing.assert_array_equal(paid, other_paid)
    np.testing.assert_array_equal(worth, other_worth)
    assert other_slopes.breakpoints[1] == 0 and other_slopes.slopes[2] == 0
    np.testing.assert_array_equal(other_slopes.breakpoints[:1], slopes.breakpoints)
    np.testing.assert_array_equal(other_slopes.slopes[:2], slopes.slopes)
    assert not any(np.any(problem.bad) for problem in padded.problems())


@pytest.mark.parametrize("name", COSTS)
def test_derivatives(name, x64):
    """Finite in every parameter at every value, also at 0, beyond reach and where effort is free;
    at ordinary values those of central differences."""
    cost = make(name, np.dtype(np.float64))
    values = np.array([0, 0.7, 40.0, 7e4, np.inf])

    @jax.jit
    def each(cost):
        return cost.effort_worth(values[:, None])[:, 0], cost(values[:, None])[:, 0]

    jacobians = jax.jit(jax.jacrev(each))(cost)
    leaves, structure = jax.tree.flatten(jax.device_get(cost))
    for found in jacobians:
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found))
    for k, leaf in enumerate(leaves):
        for index in np.ndindex(leaf.shape):
            if leaf[index] == 0:
                continue  # a bound: differences would leave it
            step = 1e-6 * float(leaf[index])
            ends = []
            for moved in (step, -step):
                other = leaf.copy()
                other[index] += moved
                ends.append(each(structure.unflatten([*leaves[:k], other, *leaves[k + 1 :]])))
            for which, found in enumerate(jacobians):
                with np.errstate(invalid="ignore"):
                    expected = (ends[0][which] - ends[1][which]) / (2 * step)
                slope = np.asarray(jax.tree.leaves(found)[k]).reshape(5, *leaf.shape)
                slope = slope[(slice(None), *index)]
                np.testing.assert_allclose(slope[1:4], expected[1:4], rtol=1e-5, atol=1e-6)


def test_parameters_per_model_and_rivals_in_front(dtype):
    cost = tbtjax.power_cost(np.array([[1], [2]], dtype), np.array([1, 2, 3], dtype))
    assert cost.batch_shape == (2,) and cost.num_models == 3
    efforts = np.random.default_rng(1).uniform(0, 9, (4, 2, 3)).astype(dtype)
    expected = np.array([[1], [2]]) * efforts ** np.array([1.0, 2.0, 3.0])
    paid, worth = paid_and_worth(cost, efforts)
    np.testing.assert_allclose(paid, expected, rtol=8 * float(np.finfo(dtype).eps))
    assert worth.shape == (4, 2, 3)


@pytest.mark.parametrize("name", COSTS)
def test_convex_costs_say_so(name, x64):
    """Two values together are worth no more steps than the two are one by one."""
    cost = make(name, np.float64)
    one, other = np.random.default_rng(2).lognormal(2, 4, (2, 10_000))
    one, other, both = (np.asarray(cost.effort_worth(x)) for x in (one, other, one + other))
    is_convex = np.all(both <= (one + other) * (1 + 1e-14))
    assert is_convex == (name != "concave")
    # A power's depends on its exponent.
    assert getattr(cost, "is_convex", False) == (name not in ("concave", "power"))


def test_a_cost_of_ones_own(x64):
    """Any registered record with the two methods; here an exponential one."""

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Exponential:
        rate: jax.Array

        def __call__(self, effort):
            return jnp.expm1(self.rate * effort)

        def effort_worth(self, value):
            return jnp.log1p(jnp.maximum(value, 0)) / self.rate

    curves = tbtjax.power_law([1.0, 0.0], 1.0)
    own = tbtjax.ranking_game(curves, [np.expm1(2.0), 0.0], Exponential(jnp.array(0.5)))
    # The gap is worth 4 steps.
    known = tbtjax.ranking_game(curves, [4.0, 0.0], tbtjax.linear_cost(1.0))
    found, expected = (tbtjax.stabilizing_threshold(game).delta for game in (own, known))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("make_cost", "error", "message"),
    [
        (lambda: tbtjax.linear_cost("dear"), TypeError, "rate must be an array of real numbers"),
        (
            lambda: tbtjax.power_cost(np.ones(3), np.ones(2)),
            ValueError,
            r"do not broadcast: scale \(3,\), exponent \(2,\)",
        ),
        (
            lambda: tbtjax.quadratic_cost(1.0, None),
            TypeError,
            "quadratic must be an array of real numbers; got None",
        ),
        (
            lambda: tbtjax.piecewise_linear_cost([1.0], [1.0]),
            ValueError,
            r"one entry more than breakpoints on the last axis; got shapes \(1,\) and \(1,\)",
        ),
        (
            lambda: tbtjax.piecewise_linear_cost(np.ones((2, 1)), np.ones((3, 2))),
            ValueError,
            r"do not broadcast: breakpoints \(2,\), slopes \(3,\)",
        ),
    ],
)
def test_errors(make_cost, error, message):
    with pytest.raises(error, match=message):
        make_cost()
