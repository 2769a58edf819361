"""Layers over an image in bands of rows, so that what lies between them stays in a CPU's caches.

At full resolution the features between two layers are many times the image. To write them to memory
and to read them again takes as long as the arithmetic. A band goes through several layers at once
while it is in the caches. Like the windows of `cdjax.tiling.plan`, bands lie wholly inside the
image and overlap by what a cut can change, so the result is that of the whole image.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

_BYTES = 2**24
"""Of a band's largest features: what a CPU's last cache has room for, beside their successors."""


def by_bands(
    function: Callable[[Array], Array], images: Array, *, halo: int, step: int, row_bytes: int
) -> Array:
    """What `function` makes of whole images, computed band by band where that pays.

    It pays on a CPU, and if the features are larger than its caches.

    Args:
        function: layers, from (N, H, W, C) to (N, H * k, W', C'), where H is any multiple of `step`
            and k fixed.
        images: (N, H, W, C).
        halo: rows of the images next to a cut in which the result differs, a multiple of `step`.
        step: of whose multiples bands begin and end.
        row_bytes: of one row of the images in the largest of the layers.

    Returns:
        `function(images)`, to the last bit as far as the convolutions do not depend on the height.
    """
    height = images.shape[1]
    # Bands all halo would compute everything twice.
    rows = max(_BYTES // row_bytes // step * step, 8 * halo)
    if height % step or height < 2 * rows:
        return function(images)

    def banded(images: Array) -> Array:
        begins = np.arange(0, height, rows)
        starts = np.clip(begins - halo, 0, height - rows - 2 * halo)
        # The last core ends where the image does, though it began before its turn.
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
        if not left:
            return whole
        fresh = parts[-1][:, int((rows - left) * scale) :]
        return jnp.concatenate([whole[:, : int((height - left) * scale)], fresh], 1)

    return lax.platform_dependent(images, cpu=banded, default=function)
