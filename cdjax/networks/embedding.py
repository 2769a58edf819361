"""Linear embeddings: a student's taps -> features of the teacher's width."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cdjax.networks.layers import Parameters
from cdjax.networks.spec import Spec
from cdjax.ops.matmul import product


@jax.custom_vjp
def _embed(features: Array, kernel: Array, bias: Array) -> Array:
    return product(features, kernel) + bias


def _embed_forward(features: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    return _embed(features, kernel, bias), (features, kernel)


def _embed_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    features, kernel = saved
    # JAX's own gradients have XLA transpose all of `gradient` in memory, and read it once more for
    # the bias, which here is the weight of a feature that is 1 everywhere.
    rows, columns = (array.reshape(-1, array.shape[-1]) for array in (features, gradient))
    rows = jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], 1)
    by_both = jax.lax.dot_general(
        rows,
        columns,
        (((0,), (0,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    ).astype(kernel.dtype)
    return product(gradient, kernel.T), by_both[:-1], by_both[-1]


_embed.defvjp(_embed_forward, _embed_backward)


class Embedding(nn.Module):
    """The linear embeddings Q_j (paper, section 3.2): a 1x1 convolution a tap. Training only.

    Attributes:
        spec: the student's spec, whose taps are embedded.
        widths: the teacher's channels at each of those taps.
    """

    spec: Spec
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, taps: dict[str, Array]) -> dict[str, Array]:
        """Maps every tap, (..., C'), to the teacher's width, (..., C); no ReLU follows."""
        embedded = {}
        for (name, features), width in zip(self.spec.taps, self.widths, strict=True):
            kernel, bias = Parameters((features, width), name=name)()
            dtype = taps[name].dtype
            embedded[name] = _embed(taps[name], kernel.astype(dtype), bias.astype(dtype))
        return embedded
