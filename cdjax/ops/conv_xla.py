"""XLA's 3x3 convolution, and how to call it on a CPU so that it is exact and uses all cores.

On a CPU, XLA runs convolutions with YNNPACK, but narrow ones with Eigen, whose order of summation
depends on the image's size. And YNNPACK

- is slow if results have fewer channels than half a vector unit;
- distributes a convolution over cores by cutting rows of pixels into pieces that fill a core's
  first-level cache. A row of a narrow layer is a single piece, and the other cores are idle. So
  several parts of such an image are placed side by side, as an image with longer rows.

`python -m experiments.benchmark --sizes 512 1024` measures the effect.
"""

import os
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from cdjax.ops.sizes import is_known

_FEWEST = 17
"""Channels of inputs or outputs from which XLA uses YNNPACK."""
_HALF_VECTOR = 8
_PIECE = 8192
"""Input values in one of YNNPACK's pieces of a row, found by timing."""
_THIN, _WIDE = 16, 64
"""Input channels below which copies cost more than they gain; channels of inputs and outputs from
which pieces are shorter, so that no copies are needed."""
CORES = os.cpu_count() or 1
"""Of the machine."""
_LOWEST = 32
"""Rows of a part below which the rows that parts share cost too much."""
_NONE = (0, 0)


def convolve_plainly(
    images: Array, kernel: Array, padding: str | Sequence[tuple[int, int]]
) -> Array:
    """XLA's convolution without bias, in full float32 precision on every backend.

    Args:
        images: (N, H, W, I), float.
        kernel: (h, w, I, O), of the images' dtype.
        padding: `"SAME"`, `"VALID"` or (before, after) for both axes.
    """
    return lax.conv_general_dilated(
        images,
        kernel,
        (1, 1),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        # The default on GPUs is TensorFloat-32.
        precision=lax.Precision.HIGHEST,
    )


def convolve_exactly(
    images: Array, kernel: Array, padding: str, *, on_all_cores: bool = True
) -> Array:
    """A 3x3 convolution for CPUs whose last bits do not depend on how an image was cut.

    As `convolve_plainly`, with `"SAME"` or `"VALID"` padding. `on_all_cores` is for a convolution
    that runs alone: where several run at the same time, it only copies more.
    """
    features_out = kernel.shape[3]
    if max(kernel.shape[2:]) < _FEWEST:
        more = _FEWEST - kernel.shape[2]
        images, kernel = _with_zeros(images, 3, more), _with_zeros(kernel, 2, more)
    if features_out < _HALF_VECTOR:
        kernel = _with_zeros(kernel, 3, _HALF_VECTOR - features_out)
    alone = on_all_cores and padding == "SAME" and is_known(images)
    if alone and (parts := _parts(images, kernel)) > 1:
        return _side_by_side(images, kernel, parts)[..., :features_out]
    return convolve_plainly(images, kernel, padding)[..., :features_out]


def _with_zeros(array: Array, axis: int, count: int) -> Array:
    """An array with zeros behind it along an axis; faster to lower than `jnp.pad`."""
    ends = [(0, count if each == axis else 0, 0) for each in range(array.ndim)]
    return lax.pad(array, jnp.zeros((), array.dtype), ends)


def _parts(images: Array, kernel: Array) -> int:
    """How many parts of an image must be side by side for every core to get a piece."""
    height, width, channels = images.shape[1:]
    if channels < _THIN or min(kernel.shape[2:]) >= _WIDE:
        return 1
    return max(1, min(-(-CORES * _PIECE // (channels * width)), height // _LOWEST))


def _side_by_side(images: Array, kernel: Array, parts: int) -> Array:
    n, height, width, channels = images.shape
    rows = -(-height // parts)
    padded = jnp.pad(images, (_NONE, (1, 1 + parts * rows - height), _NONE, _NONE))
    gap = jnp.zeros((n, rows + 2, 1, channels), images.dtype)
    beside = [padded[:, part * rows : part * rows + rows + 2] for part in range(parts)]
    row = [beside[0], *(piece for part in beside[1:] for piece in (gap, part))]
    result = convolve_plainly(lax.concatenate(row, 2), kernel, (_NONE, (1, 1)))
    starts = [part * (width + 1) for part in range(parts)]
    below = [lax.slice_in_dim(result, start, start + width, axis=2) for start in starts]
    return lax.concatenate(below, 1)[:, :height]
