"""Samples of input and target vectors, and the sums over them that least squares needs.

Samples are cut into chunks of one size. Products within a chunk are float32, sums over chunks
float64, so every function here must be called under `jax.enable_x64(True)`.
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
"""Samples whose products are summed in float32; relative rounding errors stay near 1e-8."""


@dataclass(frozen=True)
class Samples:
    """Input and target vectors, in chunks.

    Attributes:
        inputs: (K, M, D), float32. The last column is the constant 1; padding is 0 in all columns
            and so has no influence on sums.
        targets: (K, M, C), floating-point.
        count: number of samples without the padding.
    """

    inputs: Array
    targets: Array
    count: int


def make_samples(inputs: NDArray[Any], targets: NDArray[Any]) -> Samples:
    """Cuts samples into chunks, appends the constant and puts them on JAX's default device.

    Args:
        inputs: (N, D - 1), floating-point.
        targets: (N, C), floating-point; their dtype is kept.
    """
    count, width = inputs.shape
    chunk = min(_CHUNK, count)
    chunks = -(-count // chunk)
    padded = np.zeros((chunks * chunk, width + 1), np.float32)
    padded[:count, :-1] = inputs
    padded[:count, -1] = 1
    wanted = np.zeros((chunks * chunk, targets.shape[1]), targets.dtype)
    wanted[:count] = targets
    return Samples(
        jnp.asarray(padded.reshape(chunks, chunk, -1)),
        jnp.asarray(wanted.reshape(chunks, chunk, -1)),
        count,
    )


def _summed(terms: Callable[..., Any], *chunked: Array) -> Any:
    """The sum in float64 over chunks of a pytree of terms."""
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
    """A choice of the targets: (K, M, C) to (K, M, len(chosen))."""
    return targets[..., chosen]


@jax.jit
def relu_moments(inputs: Array, targets: Array) -> Array:
    """A^T A of A = [relu(Z), 1]: (C + 1, C + 1)."""

    def terms(x: Array, z: Array) -> Array:
        positive = jnp.concatenate([_positive(z), x[:, -1:]], -1)
        return product(positive.T, positive)

    return _summed(terms, inputs, targets)


@jax.jit
def relu_masked_moments(inputs: Array, targets: Array, kernel: Array) -> Array:
    """X^T Y where targets Y without influence are replaced by the prediction X W.

    A target has no influence after a ReLU where it and the prediction are both negative.
    """

    def terms(x: Array, y: Array) -> Array:
        y = y.astype(x.dtype)
        return product(x.T, jnp.where(y > 0, y, jnp.minimum(product(x, kernel), 0)))

    return _summed(terms, inputs, targets)


@jax.jit
def projected_relu(
    inputs: Array, targets: Array, matrix: Array, mean: Array
) -> tuple[Array, Array]:
    """relu(Z) times a matrix, minus a mean except in padding; and its sum of squares."""

    def project(parts: tuple[Array, Array]) -> Array:
        return product(_positive(parts[1]), matrix) - parts[0][:, -1:] * mean

    result = lax.map(project, (inputs, targets))
    return result, _summed(lambda t: jnp.sum(jnp.square(t)), result)


def _positive(values: Array) -> Array:
    return jnp.maximum(values.astype(jnp.float32), 0)


def _hidden(inputs: Array, kernel: Array) -> Array:
    """relu(X W) with the constant appended."""
    return jnp.concatenate([_positive(product(inputs, kernel)), inputs[..., -1:]], -1)


@jax.jit
def hidden_moments(inputs: Array, targets: Array, kernel: Array) -> tuple[Array, Array]:
    """H^T H and H^T T of H = [relu(X W), 1]: (W + 1, W + 1) and (W + 1, C)."""

    def terms(x: Array, t: Array) -> tuple[Array, Array]:
        h = _hidden(x, kernel)
        return product(h.T, h), product(h.T, t)

    return _summed(terms, inputs, targets)


@jax.jit
def hidden_gradient(inputs: Array, targets: Array, kernel: Array, solution: Array) -> Array:
    """Half the gradient of |H B - T|^2 with respect to the kernel, (D, W), at a given B."""

    def terms(x: Array, t: Array) -> Array:
        h = _hidden(x, kernel)
        residual = product(h, solution) - t
        slope = jnp.where(h[:, :-1] > 0, product(residual, solution[:-1].T), 0)
        return product(x.T, slope)

    return _summed(terms, inputs, targets)


@jax.jit
def relu_loss(inputs: Array, targets: Array, kernel: Array) -> tuple[Array, Array]:
    """|relu(X W) - T|^2 and half its gradient with respect to the kernel, (D, C)."""

    def terms(x: Array, t: Array) -> tuple[Array, Array]:
        before = product(x, kernel)
        residual = jnp.maximum(before, 0) - t.astype(before.dtype)
        slope = jnp.where(before > 0, residual, 0)
        return jnp.sum(jnp.square(residual)), product(x.T, slope)

    return _summed(terms, inputs, targets)
