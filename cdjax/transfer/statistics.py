"""Statistics of features: counts, means, scatter and Gram matrices; a loss of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from cdjax.ops.matmul import mean_squared_error
from cdjax.ops.sizes import is_known

_POSITIONS_AT_ONCE = 2**13
"""Positions converted to float64 at a time. All of an image would need twice the memory of the
networks."""

ADAIN_EPSILON = 1e-5
"""Added to AdaIN's variances, as in its authors' implementation."""

_Array = TypeVar("_Array", Array, NDArray[np.float64])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of feature vectors; leading axes, if any, are a batch.

    They determine a transform (`cdjax.transfer.transforms`). They follow from sums over positions
    (`sums64`, `mean_and_scatter`), so windows of an image add up to the moments of the whole.

    Attributes:
        count: (...), float32, the number of vectors, or the sum of their weights.
        mean: (..., C), float32; 0 if the count is 0.
        scatter: (..., C, C), float32, the sum of (f - mean)(f - mean)^T over the vectors.
    """

    count: Array
    mean: Array
    scatter: Array

    @property
    def covariance(self) -> Array:
        """(..., C, C): scatter / (count - 1), or the scatter for a count of at most 2."""
        return self.scatter / jnp.maximum(self.count - 1, 1)[..., None, None]


def moments(features: Array, weights: Array | None = None) -> Moments:
    """Statistics of features (..., H, W, C) over H and W, summed in float64, rounded to float32.

    Whitening divides by small eigenvalues, which would show the rounding errors of sums in float32.
    Sums in float64 are also the same for every division of an image into windows.

    Args:
        features: floating-point, of any compute dtype.
        weights: (..., H, W), float32 from 0, how much each position counts; leading axes are
            broadcast. By default all count 1.
    """
    values = features.astype(jnp.float32)
    if weights is not None:
        return Moments(*_weighted_moments(values, weights))
    count = jnp.full(values.shape[:-3], values.shape[-3] * values.shape[-2], jnp.float32)
    return Moments(count, *_mean_and_scatter(values))


@jax.custom_jvp
@partial(jnp.vectorize, signature="(h,w,c)->(c),(c,c)")
@jax.custom_batching.sequential_vmap  # float64 does not survive `jax.vmap`.
def _mean_and_scatter(features: Array) -> tuple[Array, Array]:
    sums = sums64(features)
    with jax.enable_x64(True):
        mean, scatter = mean_and_scatter(features.shape[0] * features.shape[1], *sums)
        float32 = partial(lax.convert_element_type, new_dtype=jnp.float32)
        return float32(mean), float32(scatter)


@_mean_and_scatter.defjvp
def _mean_and_scatter_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    mean, scatter = _mean_and_scatter(*primals)
    apart = primals[0] - mean[..., None, None, :]
    half = jnp.einsum("...hwc,...hwd->...cd", apart, tangents[0], precision="highest")
    return (mean, scatter), (tangents[0].mean((-3, -2)), half + half.swapaxes(-1, -2))


@jax.custom_jvp
@partial(jnp.vectorize, signature="(h,w,c),(h,w)->(),(c),(c,c)")
@jax.custom_batching.sequential_vmap
def _weighted_moments(features: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Count, mean and scatter."""
    count, *sums = weighted_sums64(features, weights)
    with jax.enable_x64(True):
        found = (count, *mean_and_scatter(count + (count == 0), *sums))
        count, mean, scatter = (lax.convert_element_type(part, jnp.float32) for part in found)
    return count, mean, scatter


@_weighted_moments.defjvp
def _weighted_moments_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    features, weights = primals
    moved, gained = tangents
    count, mean, scatter = _weighted_moments(features, weights)
    apart = features - mean[..., None, None, :]
    sums = partial(jnp.einsum, precision="highest")
    total = sums("...hw,...hwc->...c", weights, moved) + sums("...hw,...hwc->...c", gained, apart)
    half = sums("...hw,...hwc,...hwd->...cd", weights, apart, moved)
    more = sums("...hw,...hwc,...hwd->...cd", gained, apart, apart)
    of_mean = total / (count + (count == 0))[..., None]
    of_count = jnp.broadcast_to(gained.sum((-2, -1)), count.shape)
    return (count, mean, scatter), (of_count, of_mean, half + half.swapaxes(-1, -2) + more)


def mean_and_scatter(count: int | _Array, total: _Array, products: _Array) -> tuple[_Array, _Array]:
    """Mean, (C,), and scatter, (C, C), from the number of positions and their `sums64`.

    Of positions with weights, it is the sum of the weights, which must not be 0.
    """
    mean = total / count
    return mean, products - total[:, None] * mean


def channel_statistics(features: Array) -> tuple[Array, Array]:
    """Channel means and standard deviations as in `adain`, of features (..., H, W, C).

    Both are (..., C), float32. For training, which needs no scatter matrices.
    """
    values = features.astype(jnp.float32)
    variance = jnp.var(values, axis=(-3, -2), ddof=1)
    return values.mean((-3, -2)), jnp.sqrt(variance + ADAIN_EPSILON)


def style_loss(taps: Mapping[str, Array], targets: Mapping[str, Array]) -> Array:
    """AdaIN's style loss: channel means and standard deviations (Huang and Belongie 2017, eq. 13).

    Args:
        taps: {name: (..., h, w, C)} of results.
        targets: the same names of their styles; heights and widths may differ.

    Returns:
        Scalar, float32: the sum over taps of the mean squared differences of means and of standard
        deviations.

    Raises:
        KeyError: if a tap has no target.
    """
    parts = [
        mean_squared_error(*pair)
        for name in taps
        for pair in zip(*map(channel_statistics, (taps[name], targets[name])), strict=True)
    ]
    return jnp.stack(parts).sum()


def sums64(features: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Sums over the positions of one image's features, in float64.

    Args:
        features: (H, W, C), float.
        weights: (H, W), how much each position counts, or True where it does; by default all do.

    Returns:
        The sums of the vectors f, (C,), and of the products f^T f, (C, C), both float64.
    """
    height, width, channels = features.shape
    step = max(1, min(height, _POSITIONS_AT_ONCE // width)) if is_known(features) else 1

    def add(start: Array | int, rows: int, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        part = lax.dynamic_slice_in_dim(features, start, rows)
        values = lax.convert_element_type(part, jnp.float64).reshape(-1, channels)
        counted = values
        if weights is not None:
            factors = lax.dynamic_slice_in_dim(weights, start, rows).reshape(-1, 1)
            counted = values * lax.convert_element_type(factors, jnp.float64)
        total, products = sums
        return total + counted.sum(0), products + lax.dot_general(
            counted, values, (((0,), (0,)), ((), ()))
        )

    with jax.enable_x64(True):
        sums = jnp.zeros(channels, jnp.float64), jnp.zeros((channels, channels), jnp.float64)
        whole = height // step
        sums = lax.fori_loop(0, whole, lambda i, sums: add(i * step, step, sums), sums)
        return add(whole * step, height % step, sums) if height % step else sums


def weighted_sums64(features: Array, weights: Array) -> tuple[Array, Array, Array]:
    """The sum of the weights, (), and `sums64` with them, in float64."""
    with jax.enable_x64(True):
        count = lax.convert_element_type(weights, jnp.float64).sum()
    return count, *sums64(features, weights)


def gram(features: Array) -> Array:
    """Gram matrices, means over positions of f f^T: (..., h, w, C) -> (..., C, C)."""
    positions = features.shape[-3] * features.shape[-2]
    product = jnp.einsum("...hwi,...hwj->...ij", features, features, precision="highest")
    return product / positions
