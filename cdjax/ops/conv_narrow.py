"""3x3 convolutions of many channels to an image's three, on a CPU.

Three outputs leave most of a vector unit idle. So one product makes of every pixel what each of the
nine taps makes of it for each of the outputs, and these planes, shifted, are added up: along them
the vectors are full. Sums are in another order than a plain convolution's. Hence, as Winograd's
algorithm, for training only: `python -m experiments.benchmark --training` measures a step.
"""

import jax.numpy as jnp
from jax import Array, lax

from cdjax.ops.padding import Padding, folded, reflect

_FEW, _MANY = 3, 64
"""Channels, of results up to which and of what is convolved from which it is faster."""
_SAME = (0, 0, 0)


def suits(kernel: Array) -> bool:
    """Whether `convolve` with a kernel is faster than a plain convolution."""
    return kernel.shape[2] >= _MANY and kernel.shape[3] <= _FEW


def suits_gradient(kernel: Array) -> bool:
    """Whether `image_gradient` with a kernel is."""
    return kernel.shape[3] >= _MANY and kernel.shape[2] <= _FEW


def _planes(images: Array, kernel: Array) -> Array:
    """(3, 3, O, N, H, W): every pixel times every tap."""
    n, height, width, channels = images.shape
    products = lax.dot_general(
        images.reshape(-1, channels),
        kernel.transpose(2, 0, 1, 3).reshape(channels, -1),
        (((1,), (0,)), ((), ())),
        precision=lax.Precision.HIGHEST,
    )
    return products.reshape(n, height, width, 3, 3, -1).transpose(3, 4, 5, 0, 1, 2)


def _around(plane: Array, padding: Padding) -> Array:
    """One line more at both ends of axis 3, (3, O, N, H, W) or (O, N, H, W)."""
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
        padding: as `cdjax.ops.conv.convolve` has it.

    Returns:
        (N, H, W, O), of the images' dtype.
    """
    summed = _planes(images, kernel)
    # Over the kernel's rows, then over its columns: what is shifted is axis 3 of a tap both times.
    for size in images.shape[1:3]:
        around = [_around(summed[tap], padding) for tap in range(3)]
        first, *others = (
            lax.slice_in_dim(plane, tap, tap + size, axis=3) for tap, plane in enumerate(around)
        )
        summed = sum(others, first)
    return summed.transpose(1, 2, 3, 0)


def image_gradient(gradient: Array, kernel: Array, *, padding: Padding) -> Array:
    """The gradient by the images of `convolve`, (N, H, W, I), from that by its result."""
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
