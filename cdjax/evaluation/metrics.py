"""Similarity of images in pixels and in style, as pure functions of arrays."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from cdjax.transfer.statistics import gram

_WINDOW = 11
_SIGMA = 1.5


def psnr(images: ArrayLike, references: ArrayLike) -> Array:
    """Peak signal-to-noise ratio in dB: (N, H, W, C) in [0, 1] each, to (N,).

    Values outside [0, 1] are clipped, as in files; equal images give infinity.
    """
    difference = jnp.clip(jnp.asarray(images), 0, 1) - jnp.clip(jnp.asarray(references), 0, 1)
    return -10 * jnp.log10(jnp.mean(jnp.square(difference), axis=(-3, -2, -1)))


def _blurred(images: Array, window: Array) -> Array:
    """The valid part of a separable filter over the axes -3 and -2."""
    for axis in (images.ndim - 3, images.ndim - 2):
        size = images.shape[axis] - len(window) + 1
        cut = partial(jax.lax.slice_in_dim, images, axis=axis)
        parts = [weight * cut(i, i + size) for i, weight in enumerate(window)]
        images = sum(parts[1:], parts[0])
    return images


def ssim(images: ArrayLike, references: ArrayLike) -> Array:
    """Structural similarity (Wang et al. 2004): (N, H, W, C) in [0, 1] each, to (N,).

    Uses Gaussian windows of 11 pixels and standard deviation 1.5 that lie inside the image, and the
    constants 0.01 and 0.03. Channels are averaged; values outside [0, 1] are clipped.

    Raises:
        ValueError: if the images are smaller than a window.
    """
    x, y = (jnp.clip(jnp.asarray(a, jnp.float32), 0, 1) for a in (images, references))
    if min(x.shape[-3:-1]) < _WINDOW:
        raise ValueError(f"ssim needs images of at least 11x11 pixels, not {x.shape}")
    offsets = jnp.arange(_WINDOW) - _WINDOW // 2
    window = jnp.exp(-0.5 * jnp.square(offsets / _SIGMA))
    blurred = partial(_blurred, window=window / window.sum())
    mean_x, mean_y = blurred(x), blurred(y)
    variance_x = blurred(x * x) - mean_x**2
    variance_y = blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return jnp.mean(luminance * contrast, axis=(-3, -2, -1))


def style_distance(taps: Mapping[str, Array], references: Mapping[str, Array]) -> dict[str, Array]:
    """Mean squared difference of Gram matrices at each tap (Gatys et al. 2016).

    Args:
        taps: {name: (N, h, w, C)}.
        references: the same names; their sizes in pixels may differ.

    Returns:
        {name: (N,)}, each |G - G'|^2 / C^2 with Gram matrices averaged over positions.

    Raises:
        KeyError: if a tap has no reference.
    """
    return {
        name: jnp.mean(jnp.square(gram(features) - gram(references[name])), axis=(-2, -1))
        for name, features in taps.items()
    }
