"""3x3 convolutions of many channels to an image's three, on a CPU.

Three outputs leave most of a vector unit idle. So one matrix product multiplies every pixel by each
of the nine taps for each output, and the resulting planes are shifted and added, which fills the
vector units. The order of summation differs from that of a plain convolution, so this is used for
training only, as Winograd's algorithm is. `python -m experiments.benchmark --training` measures a
training step.
"""

import jax.numpy as jnp
from jax import Array, lax

from cdjax.ops.padding import Padding, folded, reflect

_FEW, _MANY = 3, 64
"""Most output channels and fewest input channels at which it is faster."""
_SAME = (0, 0, 0)


def is_supported(kernel: Array) -> bool:
    """Whether `convolve` with a kernel (3, 3, I, O) is faster than a plain convolution."""
    return kernel.shape[2] >= _MANY and kernel.shape[3] <= _FEW


def is_gradient_supported(kernel: Array) -> bool:
    """Whether `image_gradient` with a kernel (3, 3, I, O) is faster than a plain gradient."""
    return kernel.shape[3] >= _MANY and kernel.shape[2] <= _FEW


def _planes(images: Array, kernel: Array) -> Array:
    """Every pixel times every tap: (3, 3, O, N, H, W)."""
    n, height, width, channels = images.shape
    products = lax.dot_general(
        images.reshape(-1, channels),
        kernel.transpose(2, 0, 1, 3).reshape(channels, -1),
        (((1,), (0,)), ((), ())),
        precision=lax.Precision.HIGHEST,
    )
    return products.reshape(n, height, width, 3, 3, -1).transpose(3, 4, 5, 0, 1, 2)


def _around(plane: Array, padding: Padding) -> Array:
    """Pads a plane, (3, O, N, H, W) or (O, N, H, W), by one line at both ends of axis 3."""
    if padding == "reflect":
        return reflect(plane, 3)
    ends = [_SAME] * plane.ndim
    ends[3] = (1, 1, 0)
    return lax.pad(plane, jnp.zeros((), plane.dtype), ends)


def convolve(images: Array, kernel: Array, *, padding: Padding) -> Array:
    """3x3 convolution with a padding of 1.

    Args:
        images: (N, H, W, I), float.
        kernel: (3, 3, I, O), of the images' dtype.
        padding: as for `cdjax.ops.conv.convolve`.

    Returns:
        (N, H, W, O), of the images' dtype.
    """
    summed = _planes(images, kernel)
    # Over the kernel's rows, then its columns; both times axis 3 of a tap is shifted.
    for size in images.shape[1:3]:
        around = [_around(summed[tap], padding) for tap in range(3)]
        first, *others = (
            lax.slice_in_dim(plane, tap, tap + size, axis=3) for tap, plane in enumerate(around)
        )
        summed = sum(others, first)
    return summed.transpose(1, 2, 3, 0)


def image_gradient(gradient: Array, kernel: Array, *, padding: Padding) -> Array:
    """The gradient with respect to the images of `convolve`.

    Args:
        gradient: (N, H, W, O), with respect to the result.
        kernel: (3, 3, I, O), of the gradient's dtype.
        padding: as for `convolve`.

    Returns:
        (N, H, W, I), of the gradient's dtype.
    """
    planes = _planes(gradient, kernel.swapaxes(2, 3))
    zero = jnp.zeros((), gradient.dtype)
    shifted = [
        lax.pad(planes[i, j], zero, (_SAME, _SAME, (i, 2 - i, 0), (j, 2 - j, 0)))
        for i in range(3)
        for j in range(3)
    ]
    around = sum(shifted[1:], shifted[0]).transpose(1, 2, 3, 0)
    if padding == "zero":
        return around[:, 1:-1, 1:-1]
    return folded(folded(around, 1), 2)
