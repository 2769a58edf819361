"""Statistics of features: counts, means, scatter matrices, Gram matrices."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax

_POSITIONS_AT_ONCE = 2**13
"""Features are converted to float64 so many positions at a time: a whole image's would be twice as
large as what the networks need at once."""

ADAIN_EPSILON = 1e-5
"""Added to AdaIN's variances, as its authors do."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of feature vectors; leading axes, if any, are a batch.

    Attributes:
        count: (...), float32, how many vectors.
        mean: (..., C), float32.
        scatter: (..., C, C), float32, the sum of (f - mean)(f - mean)^T over the vectors.
    """

    count: Array
    mean: Array
    scatter: Array

    @property
    def covariance(self) -> Array:
        """(..., C, C): the scatter over count - 1, all zeros for a single vector."""
        return self.scatter / jnp.maximum(self.count - 1, 1)[..., None, None]


def moments(features: Array) -> Moments:
    """Statistics of features (..., H, W, C) over H and W: sums in float64, rounded to float32.

    Whitening divides by small eigenvalues, so that what a million roundings in float32 add up to
    would show; these are the same however an image is cut into pieces.
    """
    values = features.astype(jnp.float32)
    count = jnp.full(values.shape[:-3], values.shape[-3] * values.shape[-2], jnp.float32)
    return Moments(count, *_mean_and_scatter(values))


@jax.custom_jvp
def _mean_and_scatter(features: Array) -> tuple[Array, Array]:
    one = _mean_and_scatter_of_one
    for _ in features.shape[:-3]:
        one = jax.vmap(one)
    mean, scatter = one(features)
    return mean, scatter


# As for `_spectrum`: float64 does not survive `jax.vmap`.
@jax.custom_batching.sequential_vmap
def _mean_and_scatter_of_one(features: Array) -> tuple[Array, Array]:
    total, products = sums64(features)
    with jax.enable_x64(True):
        count = features.shape[0] * features.shape[1]
        mean = total / count
        scatter = products - total[:, None] * mean
        return lax.convert_element_type(mean, jnp.float32), lax.convert_element_type(
            scatter, jnp.float32
        )


@_mean_and_scatter.defjvp
def _mean_and_scatter_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    mean, scatter = _mean_and_scatter(*primals)
    apart = primals[0] - mean[..., None, None, :]
    half = jnp.einsum("...hwc,...hwd->...cd", apart, tangents[0], precision="highest")
    return (mean, scatter), (tangents[0].mean((-3, -2)), half + half.swapaxes(-1, -2))


def channel_statistics(features: Array) -> tuple[Array, Array]:
    """Means and standard deviations as `adain` has them, (..., C) each, of (..., H, W, C), float32.

    For training, where `moments` would also give what is not needed.
    """
    values = features.astype(jnp.float32)
    variance = jnp.var(values, axis=(-3, -2), ddof=1)
    return values.mean((-3, -2)), jnp.sqrt(variance + ADAIN_EPSILON)


def sums64(features: Array, inside: Array | None = None) -> tuple[Array, Array]:
    """Sums over the positions of one image's features, in float64.

    Args:
        features: (H, W, C), float.
        inside: (H, W), 1 at the positions that count and 0 at others; all of them by default.

    Returns:
        The sum of the vectors f, (C,), and of the products f^T f, (C, C), both float64.
    """
    height, width, channels = features.shape
    step = max(1, min(height, _POSITIONS_AT_ONCE // width))

    def add(start: Array | int, rows: int, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        part = lax.dynamic_slice_in_dim(features, start, rows)
        values = lax.convert_element_type(part, jnp.float64).reshape(-1, channels)
        if inside is not None:
            weights = lax.dynamic_slice_in_dim(inside, start, rows).reshape(-1, 1)
            values = values * lax.convert_element_type(weights, jnp.float64)
        total, products = sums
        return total + values.sum(0), products + lax.dot_general(
            values, values, (((0,), (0,)), ((), ()))
        )

    with jax.enable_x64(True):
        sums = jnp.zeros(channels, jnp.float64), jnp.zeros((channels, channels), jnp.float64)
        whole = height // step
        sums = lax.fori_loop(0, whole, lambda i, sums: add(i * step, step, sums), sums)
        return add(whole * step, height % step, sums) if height % step else sums


def gram(features: Array) -> Array:
    """Mean over positions of f f^T: (N, h, w, C) to (N, C, C)."""
    positions = features.shape[-3] * features.shape[-2]
    product = jnp.einsum("...hwi,...hwj->...ij", features, features, precision="highest")
    return product / positions
