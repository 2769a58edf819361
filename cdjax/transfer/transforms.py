"""Features' statistics in, an affine map of features out: WCT and AdaIN.

Whitening and colouring (paper, section 3.1; Li et al. 2017) and AdaIN (Huang and Belongie 2017)
are both `(features - centre) @ matrix + offset`, made of content and style features' `Moments`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax

from cdjax.ops.matmul import product
from cdjax.transfer.statistics import ADAIN_EPSILON, Moments, channel_statistics

_RELATIVE_FLOOR = 5e-7
"""Eigenvalues under this fraction of the largest are float32 rounding in the scatter, not variance,
which shows where there are fewer pixels than channels."""

_RELATIVE_NOISE = 1e-12
"""Variances under this fraction of the squared mean are rounding noise too: a constant image's."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Affine:
    """The map f -> (f - centre) @ matrix + offset of feature vectors (rows).

    The centre is what keeps a whitening's large entries from being multiplied by large means.

    Attributes:
        centre: (..., C), float32.
        matrix: (..., C, C), float32.
        offset: (..., C), float32.
    """

    centre: Array
    matrix: Array
    offset: Array

    def __call__(self, features: Array) -> Array:
        """Maps features (..., H, W, C), computed in float32, to the same shape and dtype."""
        apart = features.astype(jnp.float32) - self.centre[..., None, None, :]
        mapped = jnp.einsum("...hwc,...cd->...hwd", apart, self.matrix, precision="highest")
        return (mapped + self.offset[..., None, None, :]).astype(features.dtype)


Transform = Callable[[Moments, Moments, Array | float], Affine]


def _roots_of(statistics: Moments) -> tuple[Array, Array]:
    """The symmetric square root of a covariance, (..., C, C), and its pseudo-inverse."""
    return _roots(statistics.covariance, _RELATIVE_NOISE * jnp.sum(statistics.mean**2, axis=-1))


@jax.custom_jvp
def _roots(covariance: Array, noise: Array) -> tuple[Array, Array]:
    root, inverse, *_ = _roots_and_spectrum(covariance, noise)
    return root, inverse


# One matrix after the other: JAX's batched eigh shares a CPU's threads with whatever else runs, and
# with two of them at once (content's and style's) each may wait for the other for ever.
@jax.custom_batching.sequential_vmap
def _spectrum(covariance: Array) -> tuple[Array, Array]:
    """Eigenvalues, (C,), and eigenvectors of one matrix."""
    # With float32 eigenvectors the cascade's results are further from the original's than
    # tests/transfer/test_parity.py allows; the matrices are small. No float64 product here: under
    # `jax.vmap` it would lose its type.
    with jax.enable_x64(True):
        spectrum = jnp.linalg.eigh(lax.convert_element_type(covariance, jnp.float64))
        values, vectors = (lax.convert_element_type(array, jnp.float32) for array in spectrum)
    return values, vectors


def _roots_and_spectrum(covariance: Array, noise: Array) -> tuple[Array, ...]:
    spectrum = _spectrum
    for _ in covariance.shape[:-2]:
        spectrum = jax.vmap(spectrum)
    values, vectors = spectrum(covariance)
    kept = values > jnp.maximum(_RELATIVE_FLOOR * values[..., -1], noise)[..., None]
    scale = jnp.sqrt(jnp.where(kept, values, 0))
    inverse_scale = jnp.where(kept, 1 / jnp.where(kept, scale, 1), 0)

    def compose(diagonal: Array) -> Array:
        return jnp.einsum(
            "...ck,...k,...dk->...cd", vectors, diagonal, vectors, precision="highest"
        )

    return compose(scale), compose(inverse_scale), vectors, scale, inverse_scale


@_roots.defjvp
def _roots_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    # The divided differences of the square root (Daleckii and Krein) have sums of roots below the
    # line, where the derivative of `eigh` has differences of eigenvalues: equal ones do no harm.
    root, inverse, vectors, scale, inverse_scale = _roots_and_spectrum(*primals)
    total = scale[..., :, None] + scale[..., None, :]
    both = (scale[..., :, None] > 0) & (scale[..., None, :] > 0)
    divided = jnp.where(both, 1 / jnp.where(both, total, 1), 0)
    turned = jnp.einsum(
        "...ck,...cd,...dl->...kl", vectors, tangents[0], vectors, precision="highest"
    )

    def rotate(matrix: Array) -> Array:
        return jnp.einsum("...ck,...kl,...dl->...cd", vectors, matrix, vectors, precision="highest")

    inverses = inverse_scale[..., :, None] * inverse_scale[..., None, :]
    return (root, inverse), (rotate(divided * turned), rotate(-divided * inverses * turned))


def _blend(matrix: Array, content: Moments, style: Moments, alpha: Array | float) -> Affine:
    """A share alpha of the map that takes content mean to style mean, the rest identity."""
    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    offset = alpha * style.mean + (1 - alpha) * content.mean
    return Affine(content.mean, alpha * matrix + (1 - alpha) * identity, offset)


def wct(content: Moments, style: Moments, alpha: Array | float = 1.0) -> Affine:
    """Whitening by the content's covariance, colouring by the style's.

    Directions in which the content does not vary (a constant image, fewer pixels than channels,
    dead channels) are left out instead of being divided by zero; the result is finite always, and
    so are its derivatives.

    Args:
        content: statistics of the features to be mapped, of C channels.
        style: statistics that they are to have.
        alpha: share of the transform, from 0 (identity) to 1.

    Returns:
        The map; applied to the content features at alpha 1 it gives them the style's mean and,
        as far as their own rank goes, covariance.
    """
    colouring, _ = _roots_of(style)
    _, whitening = _roots_of(content)
    matrix = product(whitening, colouring)
    return _blend(matrix, content, style, alpha)


def _deviation(statistics: Moments) -> Array:
    variance = jnp.diagonal(statistics.covariance, axis1=-2, axis2=-1)
    return jnp.sqrt(variance + ADAIN_EPSILON)


def adain(content: Moments, style: Moments, alpha: Array | float = 1.0) -> Affine:
    """AdaIN: each channel's mean and standard deviation alone. See `wct` for the arguments."""
    scale = _deviation(style) / _deviation(content)
    matrix = scale[..., None] * jnp.eye(scale.shape[-1], dtype=scale.dtype)
    return _blend(matrix, content, style, alpha)


def mixed_roots(styles: Sequence[Moments], shares: Array) -> Array:
    """The covariance, (C, C), with which `wct` colours by the weighted mean of colourings."""
    roots = [share * _roots_of(style)[0] for share, style in zip(shares, styles, strict=True)]
    root = jnp.stack(roots).sum(0)
    return product(root, root)


def mixed_deviations(styles: Sequence[Moments], shares: Array) -> Array:
    """The covariance, diagonal, with which `adain` scales to the weighted mean of deviations."""
    parts = [share * _deviation(style) for share, style in zip(shares, styles, strict=True)]
    return jnp.diag(jnp.maximum(jnp.square(jnp.stack(parts).sum(0)) - ADAIN_EPSILON, 0))


def restyled(features: Array) -> Array:
    """AdaIN of features (2N, h, w, C), contents before their styles: (N, h, w, C)."""
    content, style = jnp.split(features.astype(jnp.float32), 2)
    (mean, deviation), (new_mean, new_deviation) = map(channel_statistics, (content, style))
    scale = (new_deviation / deviation)[:, None, None]
    moved = (content - mean[:, None, None]) * scale + new_mean[:, None, None]
    return moved.astype(features.dtype)
