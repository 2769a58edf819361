"""Minimisation of a function of one array in compiled runs of many steps: L-BFGS or Adam.

L-BFGS uses optax's directions with a line search of its own. optax's line searches trace the
function several times, which for a deep network takes most of the compilation, and they may accept
a step that increases it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from cdjax.ops.matmul import inner

Method = Literal["lbfgs", "adam"]
Losses = dict[str, Array]
Objective = Callable[[Array], Losses]
"""Losses by name, scalars; their sum is minimised."""

_MEMORY = 10
_SUFFICIENT, _CURVATURE = 1e-4, 0.9  # The usual constants of the Wolfe conditions.
_TRIES = 20


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Point:
    """A point, the losses there by name, and the gradient of their sum."""

    variable: Array
    losses: Losses
    gradient: Array

    @property
    def value(self) -> Array:
        """The sum of the losses."""
        return total(self.losses)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Descent:
    """State of a descent between two runs; a pytree."""

    point: Point
    memory: Any  # The state of the method.
    ended: Array  # Whether no step decreases the function any further in float32.


def total(losses: Losses) -> Array:
    """The sum of losses."""
    return jnp.stack(list(losses.values())).sum()


def _evaluate(objective: Objective, variable: Array) -> Point:
    def with_losses(variable: Array) -> tuple[Array, Losses]:
        return total(losses := objective(variable)), losses

    (_, losses), gradient = jax.value_and_grad(with_losses, has_aux=True)(variable)
    return Point(variable, losses, gradient)


def _solver(method: Method, learning_rate: ArrayLike) -> optax.GradientTransformationExtraArgs:
    if method == "adam":
        return optax.with_extra_args_support(optax.adam(learning_rate))
    return optax.lbfgs(memory_size=_MEMORY, linesearch=None)


def begin(objective: Objective, start: Array, *, method: Method) -> Descent:
    """The state of a descent before its first step; to be called under `jax.jit`."""
    memory = _solver(method, 0.0).init(start)
    # With weak types, the first run would be compiled separately.
    memory = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), memory)
    return Descent(_evaluate(objective, start), memory, jnp.zeros((), bool))


def descend(
    descent: Descent,
    objective: Objective,
    steps: ArrayLike,
    *,
    method: Method,
    learning_rate: ArrayLike = 0.0,
) -> Descent:
    """Makes steps in a loop on the device; to be called under `jax.jit`.

    Args:
        descent: from `begin` or the previous run, of the same objective and method.
        objective: the function to minimise.
        steps: at most; the descent may end before.
        method: `"lbfgs"`, which never increases the function, or `"adam"`.
        learning_rate: of Adam. L-BFGS tries a step length of 1 first, along a direction whose norm
            is at most 1 at the first step.
    """
    solver = _solver(method, learning_rate)

    def step(state: tuple[Array, Descent]) -> tuple[Array, Descent]:
        count, point = state[0], state[1].point
        change, memory = solver.update(point.gradient, state[1].memory, point.variable)
        if method == "adam":
            after = _evaluate(objective, point.variable + change)
            return count + 1, Descent(after, memory, jnp.zeros((), bool))
        after, found = _search(objective, point, change)
        return count + 1, Descent(after, memory, ~found)

    def unfinished(state: tuple[Array, Descent]) -> Array:
        return (state[0] < steps) & ~state[1].ended

    return jax.lax.while_loop(unfinished, step, (jnp.zeros((), jnp.int32), descent))[1]


def _search(objective: Objective, start: Point, change: Array) -> tuple[Point, Array]:
    """A point along a direction that satisfies the weak Wolfe conditions.

    Lewis and Overton 2013, algorithm 2.6, except that a step that is too long is shortened to the
    minimum of a parabola, by at most a factor of ten. The step length 1 is tried first. After
    `_TRIES` the lowest point is returned; the second result is False if none is lower than the
    start.
    """
    slope = inner(change, start.gradient)
    # Rounding may make a direction ascend; the negative gradient always descends.
    steepest = -start.gradient / jnp.maximum(1, jnp.linalg.norm(start.gradient))
    change, slope = jax.tree.map(
        lambda own, other: jnp.where(slope < 0, own, other),
        (change, slope),
        (steepest, inner(steepest, start.gradient)),
    )

    def attempt(state: _Search) -> _Search:
        point = _evaluate(objective, start.variable + state.length * change)
        here = _Place(state.length, point.value, inner(change, point.gradient))
        # NaN counts as too high.
        lower = here.value <= start.value + _SUFFICIENT * here.length * slope
        flat = here.slope >= _CURVATURE * slope
        better = lower & (flat | (here.value < state.best.value))
        best = jax.tree.map(partial(jnp.where, better), point, state.best)
        low = jax.tree.map(partial(jnp.where, lower), here, state.low)
        high = jnp.where(lower, state.high, here.length)
        longer = jnp.where(jnp.isinf(high), 2 * low.length, (low.length + high) / 2)
        length = jnp.where(lower, longer, _shortened(state.low, here))
        return _Search(state.tries + 1, length, low, high, lower & flat, best)

    def unfinished(state: _Search) -> Array:
        return (state.tries < _TRIES) & ~state.found

    one, inf, no = jnp.ones(()), jnp.full((), jnp.inf), jnp.zeros((), bool)
    origin = _Place(0 * one, start.value, slope)
    state = _Search(jnp.zeros((), jnp.int32), one, origin, inf, no, start)
    best: Point = jax.lax.while_loop(unfinished, attempt, state).best
    return best, best.value < start.value


class _Place(NamedTuple):
    """A step length along a direction, and the function and its slope there."""

    length: Array
    value: Array
    slope: Array


class _Search(NamedTuple):
    """State of a search, which tries `length` next, between `low` and `high`."""

    tries: Array
    length: Array
    low: _Place
    high: Array
    found: Array
    best: Point


def _shortened(low: _Place, high: _Place) -> Array:
    """The minimum of the parabola through two places with `low`'s slope, kept between them."""
    width = high.length - low.length
    bend = high.value - low.value - low.slope * width
    share = -low.slope * width / (2 * bend)
    # At most half: beyond, the sufficient decrease would hardly be reached.
    return low.length + width * jnp.where(jnp.isfinite(share), jnp.clip(share, 0.1, 0.5), 0.5)
