"""Statistics of the colours of an image that is read in parts."""

import jax.numpy as jnp
import numpy as np

from cdjax.tiling.buffers import Raster
from cdjax.transfer.pixels import LEVEL
from cdjax.transfer.statistics import Moments, mean_and_scatter

_PIXELS_AT_ONCE = 2**20


def color_moments(image: Raster) -> Moments:
    """What `cdjax.transfer.color.color_moments` returns, read in strips of rows."""
    height, width, channels = image.shape
    total, products = np.zeros(channels), np.zeros((channels, channels))
    rows = max(1, _PIXELS_AT_ONCE // width)
    for top in range(0, height, rows):
        strip = image[top : min(top + rows, height), 0:width]
        # The same float32 values as those of `to_float`.
        values = strip.astype(np.float32) * (LEVEL if strip.dtype == np.uint8 else np.float32(1))
        values = values.reshape(-1, channels).astype(np.float64)
        total += values.sum(0)
        products += values.T @ values
    count = height * width
    parts = (np.float32(count), *map(np.float32, mean_and_scatter(count, total, products)))
    return Moments(*map(jnp.asarray, parts))
