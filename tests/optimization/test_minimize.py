"""Descent of small functions whose minimum is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.optimization.minimize import Descent, Losses, begin, descend

SCALES = jnp.asarray([1.0, 3.0, 10.0, 30.0])
CENTRE = jnp.asarray([1.0, -2.0, 0.5, 0.1])


def bowl(variable: jax.Array) -> Losses:
    parts = SCALES * jnp.square(variable - CENTRE)
    return {"first": parts[:2].sum(), "rest": parts[2:].sum()}


def rosenbrock(variable: jax.Array) -> Losses:
    x, y = variable
    return {"valley": 100 * jnp.square(y - x * x), "along": jnp.square(1 - x)}


def course(objective, start, runs: int, steps: int, **options) -> list[Descent]:
    method = options["method"]
    descent = jax.jit(partial(begin, objective, method=method))(jnp.asarray(start))
    run = jax.jit(lambda descent: descend(descent, objective, steps, **options))
    found = [descent]
    for _ in range(runs):
        found.append(run(found[-1]))
    assert run._cache_size() == 1  # The first run's program serves the others.
    return found


@pytest.mark.parametrize(
    ("objective", "start", "goal"),
    [(bowl, [0.0] * 4, CENTRE), (rosenbrock, [-1.2, 1.0], [1.0, 1.0])],
)
def test_lbfgs_reaches_the_minimum_and_never_goes_up(objective, start, goal) -> None:
    found = course(objective, start, 15, 5, method="lbfgs")
    values = [float(descent.point.value) for descent in found]
    assert values == sorted(values, reverse=True)
    np.testing.assert_allclose(found[-1].point.variable, goal, atol=2e-3)
    point = found[-1].point
    np.testing.assert_allclose(
        point.gradient, jax.grad(lambda v: sum(objective(v).values()))(point.variable), atol=1e-5
    )


def test_lbfgs_ends_where_nothing_is_lower() -> None:
    found = course(bowl, [0.0] * 4, 6, 20, method="lbfgs")
    assert not found[0].ended
    assert found[-1].ended
    np.testing.assert_array_equal(found[-1].point.variable, found[-2].point.variable)


def test_lbfgs_shortens_a_step_that_is_not_finite() -> None:
    def wall(variable: jax.Array) -> Losses:
        return {"all": -jnp.log(1 - variable).sum() - 10 * variable.sum()}

    # The first step, of norm 1, leads to the logarithm of a negative number.
    found = course(wall, [0.2], 4, 5, method="lbfgs")
    np.testing.assert_allclose(found[-1].point.variable, [0.9], atol=1e-3)


def test_lbfgs_shortens_a_step_that_is_too_long_to_a_parabolas_minimum() -> None:
    def parabola(variable: jax.Array) -> Losses:
        return {"all": 25 * jnp.square(variable - 0.2).sum()}

    # The first step, of norm 1, leads to four times the distance on the other side.
    found = course(parabola, [0.0], 1, 1, method="lbfgs")
    np.testing.assert_allclose(found[-1].point.variable, [0.2], atol=1e-6)


def test_adam_makes_its_steps() -> None:
    variable, first, second = np.zeros(4), np.zeros(4), np.zeros(4)
    for step in range(1, 8):
        gradient = 2 * np.asarray(SCALES) * (variable - np.asarray(CENTRE))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        corrected = first / (1 - 0.9**step), second / (1 - 0.999**step)
        variable = variable - 0.05 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
    found = course(bowl, [0.0] * 4, 1, 7, method="adam", learning_rate=0.05)[-1]
    np.testing.assert_allclose(found.point.variable, variable, rtol=1e-4)
    wanted = jax.tree.map(float, bowl(found.point.variable))
    assert jax.tree.map(float, found.point.losses) == pytest.approx(wanted, rel=1e-5)
