"""Runs layers over an image in bands of rows, so that intermediate features stay in CPU caches.

At full resolution the features between two layers are many times larger than the image. Writing
them to memory and reading them again takes as long as the arithmetic. A band runs through several
layers while it is in the caches. Like the windows of `cdjax.tiling.plan`, bands lie inside the
image and overlap by a halo, so the result is that of the whole image.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cdjax.ops.sizes import is_known

_BYTES = 2**24
"""Bytes of a band's largest features, which fit in a CPU's last cache with those that follow."""


def by_bands(
    function: Callable[[Array], Array], images: Array, *, halo: int, step: int, row_bytes: int
) -> Array:
    """Computes `function(images)` band by band, on a CPU if the features exceed its caches.

    Args:
        function: layers, from (N, H, W, C) to (N, H * k, W', C') for any multiple H of `step` and
            a fixed k.
        images: (N, H, W, C).
        halo: rows of the images next to a cut within which the result differs, a multiple of
            `step`.
        step: bands begin and end at its multiples.
        row_bytes: bytes of one row of the images in the largest layer.

    Returns:
        `function(images)`, bit for bit if the convolutions do not depend on the height.
    """
    if not is_known(images):
        return function(images)
    height = images.shape[1]
    # Lower bands would compute too many rows twice.
    rows = max(_BYTES // row_bytes // step * step, 8 * halo)
    if height % step or height < 2 * rows:
        return function(images)

    def banded(images: Array) -> Array:
        begins = np.arange(0, height, rows)
        starts = np.clip(begins - halo, 0, height - rows - 2 * halo)
        # The last core ends with the image, so it may overlap the one before.
        cores = np.minimum(begins, height - rows) - starts
        scale = jax.eval_shape(function, images).shape[1] / height

        def band(place: tuple[Array, Array]) -> Array:
            start, core = place
            piece = lax.dynamic_slice_in_dim(images, start, rows + 2 * halo, 1)
            first = (core * scale).astype(jnp.int32)
            return lax.dynamic_slice_in_dim(function(piece), first, int(rows * scale), 1)

        parts = lax.map(band, (jnp.asarray(starts), jnp.asarray(cores)))
        whole = parts.swapaxes(0, 1).reshape(len(images), -1, *parts.shape[3:])
        left = height % rows
        fresh = parts[-1][:, int((rows - left) * scale) :]
        return jnp.concatenate([whole[:, : int((height - left) * scale)], fresh], 1)

    return lax.platform_dependent(images, cpu=banded, default=function)
