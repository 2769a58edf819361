"""The reflection-padded 3x3 convolution, max-pooling and upsampling, fast on each backend.

Arrays are NHWC, kernels HWIO. On a CPU, XLA copies slowly when it pads by reflection, so the
convolution runs zero-padded over the whole image and its four border lines are computed
again from the reflected strips they depend on: the same sums, so the same result. Elsewhere the
image is padded and convolved. `python -m experiments.benchmark` measures the cascade that
is built of these.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from cdjax.spec import Padding

_NARROW = 3
"""Channel count (an image's) at which a convolution is too thin for a CPU's vector units."""


def _convolve(images: Array, kernel: Array, padding: str) -> Array:
    return lax.conv_general_dilated(
        images,
        kernel,
        (1, 1),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        # float32 has to mean float32 on GPUs too, where the default is TensorFloat-32.
        precision=lax.Precision.HIGHEST,
    )


def _pair_columns(kernel: Array) -> Array:
    """A (3, 3, I, O) kernel as the (3, 3, 2I, 2O) kernel that works on pairs of columns."""
    height, _, features_in, features_out = kernel.shape
    left = jnp.pad(kernel, ((0, 0), (1, 2), (0, 0), (0, 0)))
    right = jnp.pad(kernel, ((0, 0), (2, 1), (0, 0), (0, 0)))
    return jnp.stack([left, right], axis=3).reshape(height, 3, 2 * features_in, 2 * features_out)


def _convolve_same(images: Array, kernel: Array) -> Array:
    n, height, width, channels = images.shape
    features_in, features_out = kernel.shape[2:]
    if min(features_in, features_out) > _NARROW or width % 2:
        return _convolve(images, kernel, "SAME")
    # Two neighbouring pixels side by side are, in NHWC, one pixel of twice the channels at no
    # cost; half of the wider kernel is zeros, and the vector units are full.
    pairs = images.reshape(n, height, width // 2, 2 * channels)
    result = _convolve(pairs, _pair_columns(kernel), "SAME")
    return result.reshape(n, height, width, features_out)


def _reflect(images: Array, axis: int) -> Array:
    """One line more at both ends of an axis; `jnp.pad` does the same by many more operations."""
    last = images.shape[axis] - 1
    first, second = (lax.slice_in_dim(images, i, i + 1, axis=axis) for i in (1, last - 1))
    return lax.concatenate([first, images, second], axis)


def _borders_corrected(images: Array, kernel: Array) -> Array:
    result = _convolve_same(images, kernel)
    n = images.shape[0]
    for axis, along in ((1, 2), (2, 1)):
        last = images.shape[axis] - 1
        # Both opposite borders, with the lines they see, in one batch.
        lines = (1, 0, 1, last - 1, last, last - 1)
        strips = [lax.slice_in_dim(images, line, line + 1, axis=axis) for line in lines]
        pair = lax.concatenate([lax.concatenate(strips[i : i + 3], axis) for i in (0, 3)], 0)
        borders = _convolve(_reflect(pair, along), kernel, "VALID")
        for edge, border in ((0, borders[:n]), (last, borders[n:])):
            result = lax.dynamic_update_slice_in_dim(result, border, edge, axis)
    return result


def _padded(images: Array, kernel: Array) -> Array:
    return _convolve(_reflect(_reflect(images, 1), 2), kernel, "VALID")


# The networks of a cascade share most layers' shapes: each shape is traced and lowered once.
@partial(jax.jit, static_argnames="padding")
def convolve(images: Array, kernel: Array, bias: Array, *, padding: Padding = "reflect") -> Array:
    """3x3 convolution with a padding of 1, plus bias.

    Args:
        images: (N, H, W, I), float; H and W at least 2 where the padding is by reflection.
        kernel: (3, 3, I, O), of the images' dtype.
        bias: (O,), of the images' dtype.
        padding: `"reflect"` (the border pixel itself not repeated) or `"zero"`.

    Returns:
        (N, H, W, O), of the images' dtype.

    Raises:
        ValueError: if an image has fewer than 2 rows or columns to reflect.
    """
    if padding == "zero":
        return _convolve(images, kernel, "SAME") + bias
    if min(images.shape[1:3]) < 2:
        raise ValueError(f"reflection padding needs 2 rows and columns, not {images.shape[1:3]}")
    return lax.platform_dependent(images, kernel, cpu=_borders_corrected, default=_padded) + bias


def max_pool(images: Array) -> Array:
    """The maximum of every 2x2 block: (N, H, W, C) -> (N, H // 2, W // 2, C)."""
    n, height, width, channels = images.shape
    height, width = height // 2, width // 2
    blocks = images[:, : 2 * height, : 2 * width].reshape(n, height, 2, width, 2, channels)
    # An explicit maximum fuses with what precedes it; XLA's window reduction does not.
    rows = jnp.maximum(blocks[:, :, 0], blocks[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


def upsample(images: Array) -> Array:
    """Every pixel as a 2x2 block (nearest): (N, H, W, C) -> (N, 2H, 2W, C)."""
    n, height, width, channels = images.shape
    blocks = jnp.broadcast_to(images[:, :, None, :, None], (n, height, 2, width, 2, channels))
    return blocks.reshape(n, 2 * height, 2 * width, channels)
