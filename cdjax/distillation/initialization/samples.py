"""Rows of vectors, and the sums over them that least squares needs; summed in float64.

Rows are cut into chunks of one size, whose products are float32 and whose sums are float64: callers
hold `jax.enable_x64(True)` around the whole of a fit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from cdjax.ops.matmul import product

_CHUNK = 1024
"""Rows whose products are summed in float32 before float64 takes over: rounding stays near 1e-8."""


@dataclass(frozen=True)
class Rows:
    """Input and target vectors of one layer.

    Attributes:
        inputs: (K, M, D), float32; the last column is 1, or 0 in rows of padding, which are zero
            throughout and so count for nothing.
        targets: (K, M, C), floating-point.
        count: how many rows are not padding.
    """

    inputs: Array
    targets: Array
    count: int


def make_rows(inputs: NDArray[Any], targets: NDArray[Any]) -> Rows:
    """Chunks of rows, the constant appended.

    Args:
        inputs: (N, D - 1), floating-point.
        targets: (N, C), floating-point; kept in their dtype.

    Returns:
        Rows on JAX's default device.
    """
    count, width = inputs.shape
    chunk = min(_CHUNK, count)
    chunks = -(-count // chunk)
    padded = np.zeros((chunks * chunk, width + 1), np.float32)
    padded[:count, :-1] = inputs
    padded[:count, -1] = 1
    wanted = np.zeros((chunks * chunk, targets.shape[1]), targets.dtype)
    wanted[:count] = targets
    return Rows(
        jnp.asarray(padded.reshape(chunks, chunk, -1)),
        jnp.asarray(wanted.reshape(chunks, chunk, -1)),
        count,
    )


def _summed(terms: Callable[..., Any], *chunked: Array) -> Any:
    """The sum in float64 over chunks of a tree of arrays."""
    shapes = jax.eval_shape(terms, *(a[0] for a in chunked))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float64), shapes)

    def step(total: Any, parts: tuple[Array, ...]) -> tuple[Any, None]:
        return jax.tree.map(lambda a, b: a + b.astype(jnp.float64), total, terms(*parts)), None

    return lax.scan(step, zeros, chunked)[0]


@jax.jit
def moments(left: Array, right: Array) -> Array:
    """X^T Y: (K, M, D) and (K, M, C) to (D, C)."""
    return _summed(lambda x, y: product(x.T, y.astype(x.dtype)), left, right)


@jax.jit
def columns(targets: Array, chosen: Array) -> Array:
    """Some of the targets: (K, M, C) to (K, M, len(chosen))."""
    return targets[..., chosen]


@jax.jit
def rectified_moments(inputs: Array, targets: Array) -> Array:
    """A^T A of A = [relu(Z), 1]: (C + 1, C + 1)."""

    def terms(x: Array, z: Array) -> Array:
        positive = jnp.concatenate([_positive(z), x[:, -1:]], -1)
        return product(positive.T, positive)

    return _summed(terms, inputs, targets)


@jax.jit
def forgiven_moments(inputs: Array, targets: Array, kernel: Array) -> Array:
    """X^T Y for targets Y that ask nothing where they and the prediction X W are both negative."""

    def terms(x: Array, y: Array) -> Array:
        y = y.astype(x.dtype)
        return product(x.T, jnp.where(y > 0, y, jnp.minimum(product(x, kernel), 0)))

    return _summed(terms, inputs, targets)


@jax.jit
def turned(inputs: Array, targets: Array, matrix: Array, mean: Array) -> tuple[Array, Array]:
    """relu(Z) times a matrix, minus a mean where a row is not padding; and its sum of squares."""

    def turn(parts: tuple[Array, Array]) -> Array:
        return product(_positive(parts[1]), matrix) - parts[0][:, -1:] * mean

    result = lax.map(turn, (inputs, targets))
    return result, _summed(lambda t: jnp.sum(jnp.square(t)), result)


def _positive(values: Array) -> Array:
    return jnp.maximum(values.astype(jnp.float32), 0)


def _hidden(inputs: Array, kernel: Array) -> Array:
    """relu(X W) with the constant behind it."""
    return jnp.concatenate([_positive(product(inputs, kernel)), inputs[..., -1:]], -1)


@jax.jit
def projection(inputs: Array, targets: Array, kernel: Array) -> tuple[Array, Array]:
    """H^T H and H^T T of H = [relu(X W), 1]: (W + 1, W + 1) and (W + 1, C)."""

    def terms(x: Array, t: Array) -> tuple[Array, Array]:
        h = _hidden(x, kernel)
        return product(h.T, h), product(h.T, t)

    return _summed(terms, inputs, targets)


@jax.jit
def projection_slope(inputs: Array, targets: Array, kernel: Array, solution: Array) -> Array:
    """Half the gradient of |H B - T|^2 by the kernel, (D, W), at a given B."""

    def terms(x: Array, t: Array) -> Array:
        h = _hidden(x, kernel)
        residual = product(h, solution) - t
        slope = jnp.where(h[:, :-1] > 0, product(residual, solution[:-1].T), 0)
        return product(x.T, slope)

    return _summed(terms, inputs, targets)


@jax.jit
def rectified_loss(inputs: Array, targets: Array, kernel: Array) -> tuple[Array, Array]:
    """|relu(X W) - T|^2 and half its gradient by the kernel, (D, C)."""

    def terms(x: Array, t: Array) -> tuple[Array, Array]:
        before = product(x, kernel)
        # Where the target is zero and the prediction is not, and the reverse, both count.
        residual = jnp.maximum(before, 0) - t.astype(before.dtype)
        slope = jnp.where(before > 0, residual, 0)
        return jnp.sum(jnp.square(residual)), product(x.T, slope)

    return _summed(terms, inputs, targets)
