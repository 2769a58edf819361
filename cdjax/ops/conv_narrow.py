"""3x3 convolutions of many channels to an image's three, on a CPU.

Three outputs leave most of a vector unit idle. So one matrix product multiplies every pixel by each
of the nine taps for each output, and the resulting planes are shifted and added, which fills the
vector units.
"""

import jax.numpy as jnp
from jax import Array, lax

from cdjax.ops.matmul import product
from cdjax.ops.padding import Padding, folded, reflect

_FEW, _MANY = 3, 16
"""Most output channels and fewest input channels at which it is faster."""
_SAME = (0, 0, 0)


def is_supported(given: int, made: int) -> bool:
    """Whether it is faster than a plain convolution from `given` to `made` channels.

    For `image_gradient`, `given` are the channels of the gradient.
    """
    return given >= _MANY and made <= _FEW


def _planes(images: Array, kernel: Array) -> Array:
    """Every pixel times every tap: (3, 3, O, N, H, W)."""
    n, height, width, channels = images.shape
    taps = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
    products = product(images.reshape(-1, channels), taps)
    return products.reshape(n, height, width, 3, 3, -1).transpose(3, 4, 5, 0, 1, 2)


def _around(plane: Array, padding: Padding) -> Array:
    """Pads a plane, (3, O, N, H, W) or (O, N, H, W), by one line at both ends of axis 3."""
    if padding == "reflect":
        return reflect(plane, 3)
    ends = [_SAME] * plane.ndim
    ends[3] = (1, 1, 0)
    return lax.pad(plane, jnp.zeros((), plane.dtype), ends)


def convolve(images: Array, kernel: Array, *, padding: Padding | None) -> Array:
    """Computes `cdjax.ops.conv.convolve` without bias.

    Without padding, the result has two rows and two columns fewer than the images. Compiled with
    `cdjax.ops.jit.EXACT`, its last bits do not depend on how an image was cut.
    """
    summed = _planes(images, kernel)
    # Over the kernel's rows, then its columns; both times axis 3 of a tap is shifted.
    for size in images.shape[1:3]:
        around = [_around(summed[tap], padding) if padding else summed[tap] for tap in range(3)]
        inside = size if padding else size - 2
        taps = [lax.slice_in_dim(around[tap], tap, tap + inside, axis=3) for tap in range(3)]
        summed = sum(taps[1:], taps[0])
    return summed.transpose(1, 2, 3, 0)


def image_gradient(gradient: Array, kernel: Array, *, padding: Padding) -> Array:
    """The gradient with respect to images from that with respect to their convolution."""
    planes = _planes(gradient, kernel.swapaxes(2, 3))
    zero = jnp.zeros((), gradient.dtype)
    shifted = [
        lax.pad(planes[i, j], zero, (_SAME, _SAME, (i, 2 - i, 0), (j, 2 - j, 0)))
        for i in range(3)
        for j in range(3)
    ]
    return folded(sum(shifted[1:], shifted[0]).transpose(1, 2, 3, 0), padding)
