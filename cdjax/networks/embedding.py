"""Linear embeddings: a student's taps -> features of the teacher's width."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cdjax.networks.layers import Parameters
from cdjax.networks.spec import Spec
from cdjax.ops.matmul import product, product_of_rows


@jax.custom_vjp
def _embed(features: Array, kernel: Array, bias: Array) -> Array:
    return product(features, kernel) + bias


def _embed_forward(features: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    return _embed(features, kernel, bias), (features, kernel)


def _embed_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    features, kernel = saved
    # JAX's own gradients make XLA transpose `gradient` in memory and read it once more for the
    # bias, which here is the weight of an additional feature that is 1 everywhere.
    rows, columns = (array.reshape(-1, array.shape[-1]) for array in (features, gradient))
    rows = jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], 1)
    by_both = product_of_rows(rows, columns).astype(kernel.dtype)
    return product(gradient, kernel.T), by_both[:-1], by_both[-1]


_embed.defvjp(_embed_forward, _embed_backward)


class Embedding(nn.Module):
    """The linear embeddings Q_j (paper, section 3.2): one 1x1 convolution per tap, for training.

    Attributes:
        spec: of the student, whose taps are embedded.
        widths: channels of the teacher at each tap.
    """

    spec: Spec
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, taps: dict[str, Array]) -> dict[str, Array]:
        """Maps every tap, (..., C'), to the teacher's width, (..., C), without ReLU."""
        embedded = {}
        for (name, features), width in zip(self.spec.taps, self.widths, strict=True):
            layer = Parameters((features, width), name=name)()
            kernel, bias = (layer[part].astype(taps[name].dtype) for part in ("kernel", "bias"))
            embedded[name] = _embed(taps[name], kernel, bias)
        return embedded
