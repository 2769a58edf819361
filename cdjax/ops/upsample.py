"""Nearest upsampling, and the convolution of an upsampled image without computing that image.

Of the nine pixels under a 3x3 kernel in an upsampled image, at most four differ. So the convolution
can run as a 2x2 kernel on the original image, at every corner between pixels: four kernels, whose
weights are sums, for the four upsampled pixels around the corner. That takes 4 of 9
multiplications, and the upsampled image is never in memory. Reflection padding of an upsampled
image repeats the original image's border.
"""

import jax.numpy as jnp
from jax import Array, lax

from cdjax.ops.conv_xla import convolve_exactly, convolve_plainly
from cdjax.ops.padding import AROUND, Padding, folded

_WIDEST = 128
"""Channels above which Winograd's algorithm on the upsampled image is faster."""


def upsample(images: Array) -> Array:
    """Repeats every pixel as a 2x2 block: (N, H, W, C) -> (N, 2H, 2W, C)."""
    n, height, width, channels = images.shape
    blocks = jnp.broadcast_to(images[:, :, None, :, None], (n, height, 2, width, 2, channels))
    return blocks.reshape(n, 2 * height, 2 * width, channels)


def is_supported(kernel: Array) -> bool:
    """Whether `convolve` with a kernel (3, 3, I, O) is faster than Winograd's algorithm."""
    return max(kernel.shape[2:]) <= _WIDEST


def _taps_around_a_corner(kernel: Array, axis: int) -> Array:
    """The three taps along an axis, summed if they read the same pixel: (2 results, 2 taps, ...).

    Two neighbouring pixels a b are upsampled to a a b b; the results are the two in the middle.
    """
    first, second, third = (lax.index_in_dim(kernel, i, axis, keepdims=False) for i in range(3))
    results = ([first + second, third], [first, second + third])
    return jnp.stack([jnp.stack(taps) for taps in results])


def _corner_kernel(kernel: Array) -> Array:
    """A (3, 3, I, O) kernel as (2, 2, I, 4 * O): the four upsampled pixels around every corner."""
    by_rows = _taps_around_a_corner(kernel.astype(jnp.float32), 0)
    # (2 columns, 2 taps of them, 2 rows, 2 taps of them, I, O)
    by_both = _taps_around_a_corner(by_rows, 2)
    features_in, features_out = kernel.shape[2:]
    corners = by_both.transpose(3, 1, 4, 2, 0, 5).reshape(2, 2, features_in, 4 * features_out)
    return corners.astype(kernel.dtype)


def convolve(images: Array, kernel: Array, *, padding: Padding) -> Array:
    """Computes `cdjax.ops.conv.convolve` of `upsample(images)`, without bias."""
    around = jnp.pad(images, AROUND, mode="edge" if padding == "reflect" else "constant")
    # The outermost pixels belong to the padding.
    return convolve_around_corners(around, kernel)[:, 1:-1, 1:-1]


def convolve_around_corners(images: Array, kernel: Array) -> Array:
    """The pixels around every corner between pixels of `upsample(images)`, convolved.

    Compiled with `cdjax.ops.jit.EXACT`, their last bits do not depend on how an image was cut.

    Args:
        images: (N, H, W, I), float.
        kernel: (3, 3, I, O), of the images' dtype.

    Returns:
        (N, 2H - 2, 2W - 2, O), without the outermost upsampled pixels, which have no corner.
    """
    corners = convolve_exactly(images, _corner_kernel(kernel), "VALID")
    n, rows, columns, features = corners.shape
    blocks = corners.reshape(n, rows, columns, 2, 2, features // 4).swapaxes(2, 3)
    return blocks.reshape(n, 2 * rows, 2 * columns, features // 4)


def image_gradient(gradient: Array, kernel: Array, *, padding: Padding) -> Array:
    """The gradient with respect to images from that with respect to `convolve` of them."""
    n, height, width, features = gradient.shape
    rows, columns = height // 2 + 1, width // 2 + 1
    blocks = jnp.pad(gradient, AROUND).reshape(n, rows, 2, columns, 2, features)
    corners = blocks.swapaxes(2, 3).reshape(n, rows, columns, 4 * features)
    turned = jnp.flip(_corner_kernel(kernel), (0, 1)).swapaxes(2, 3)
    around = convolve_plainly(corners, turned, AROUND[1:3])
    return folded(around, padding, inward=0)
