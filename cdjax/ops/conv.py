"""The reflection-padded 3x3 convolution and max-pooling, fast on each backend.

Arrays are NHWC, kernels HWIO. On a CPU, XLA pads by reflection slowly. So there the convolution
runs zero-padded over the whole image, and the four border lines are computed again from the
reflected strips on which they depend: the same sums, so the same result. On other backends the
image is padded and convolved. `python -m experiments.benchmark` measures the cascade.

Gradients on a CPU are written out too, because XLA's own are convolutions of shapes that it runs at
a few GFLOP/s. The gradient with respect to the images is again a 3x3 convolution, that with respect
to the kernel is three matrix products.

Algorithm `"winograd"` selects the faster algorithm of `cdjax.ops.conv_winograd`, whose last bits
depend on how an image is cut.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from cdjax.ops import conv_narrow, conv_winograd, upsample
from cdjax.ops.conv_xla import convolve_exactly, convolve_plainly
from cdjax.ops.matmul import product_of_rows
from cdjax.ops.padding import AROUND, Padding, folded, reflect

Algorithm = Literal["direct", "winograd"]
"""`"winograd"`: on a CPU, that algorithm for supported shapes; otherwise as `"direct"`, but without
exact last bits."""

NARROW = 3
"""Channels up to which a convolution is too narrow for a CPU's vector units, as of an image."""

_Convolution = Callable[[Array, Array, str], Array]
"""Takes images, a kernel and `"SAME"` or `"VALID"`."""
_Gradients = tuple[Array, Array, Array]


def _pair_columns(kernel: Array) -> Array:
    """The (3, 3, 2I, 2O) kernel that does on pairs of columns what a (3, 3, I, O) kernel does."""
    height, _, features_in, features_out = kernel.shape
    left = jnp.pad(kernel, ((0, 0), (1, 2), (0, 0), (0, 0)))
    right = jnp.pad(kernel, ((0, 0), (2, 1), (0, 0), (0, 0)))
    return jnp.stack([left, right], axis=3).reshape(height, 3, 2 * features_in, 2 * features_out)


def convolve_same(images: Array, kernel: Array, convolve: _Convolution = convolve_plainly) -> Array:
    """A zero-padded 3x3 convolution, (N, H, W, I) -> (N, H, W, O), also of an image's channels."""
    n, height, width, channels = images.shape
    features_in, features_out = kernel.shape[2:]
    if min(features_in, features_out) > NARROW or width % 2:
        return convolve(images, kernel, "SAME")
    # In NHWC, two neighbouring pixels are one pixel of twice the channels at no cost. Half of the
    # wider kernel is zeros, but the vector units are full.
    pairs = images.reshape(n, height, width // 2, 2 * channels)
    result = convolve(pairs, _pair_columns(kernel), "SAME")
    return result.reshape(n, height, width, features_out)


def _borders_corrected(images: Array, kernel: Array, convolve: _Convolution) -> Array:
    result = convolve_same(images, kernel, convolve)
    n = images.shape[0]
    for axis, along in ((1, 2), (2, 1)):
        last = images.shape[axis] - 1
        # Both opposite borders, with the lines on which they depend, in one batch.
        lines = (1, 0, 1, last - 1, last, last - 1)
        strips = [lax.slice_in_dim(images, line, line + 1, axis=axis) for line in lines]
        pair = lax.concatenate([lax.concatenate(strips[i : i + 3], axis) for i in (0, 3)], 0)
        borders = convolve(reflect(pair, along), kernel, "VALID")
        for edge, border in ((0, borders[:n]), (last, borders[n:])):
            result = lax.dynamic_update_slice_in_dim(result, border, edge, axis)
    return result


def _padded(images: Array, kernel: Array, *, padding: Padding, upsampled: bool = False) -> Array:
    if upsampled:
        images = upsample.upsample(images)
    if padding == "zero":
        return convolve_plainly(images, kernel, "SAME")
    return convolve_plainly(reflect(reflect(images, 1), 2), kernel, "VALID")


def _kernel_gradient(padded: Array, gradient: Array) -> Array:
    """The kernel's gradient from padded images, (N, H + 2, W + 2, I), and gradient (N, H, W, O)."""
    height, features_out = gradient.shape[1], gradient.shape[3]
    # The gradient shifted by 0, 1 and 2 columns, side by side: one matrix product per row of the
    # kernel, wide enough for a CPU.
    zero = jnp.zeros((), gradient.dtype)
    same = (0, 0, 0)
    shifted = [lax.pad(gradient, zero, (same, same, (j, 2 - j, 0), same)) for j in range(3)]
    targets = lax.concatenate(shifted, 3).reshape(-1, 3 * features_out)
    rows = [
        product_of_rows(padded[:, i : i + height].reshape(-1, padded.shape[-1]), targets)
        for i in range(3)
    ]
    kernel = jnp.stack(rows).reshape(3, padded.shape[-1], 3, features_out).swapaxes(1, 2)
    return kernel.astype(gradient.dtype)


class _Options(NamedTuple):
    """The static options of `convolve`; `upsampled` only where `cdjax.ops.upsample` does it."""

    padding: Padding
    algorithm: Algorithm
    rectified: bool
    upsampled: bool


def _before_relu(gradient: Array, *results: Array) -> Array:
    """The gradient before ReLU, given ReLU's results, if ReLU was applied."""
    return jnp.where(results[0] > 0, gradient, 0) if results else gradient


def _cpu_gradients(
    images: Array, kernel: Array, gradient: Array, *results: Array, options: _Options
) -> _Gradients:
    padding, fast = options.padding, options.algorithm == "winograd"
    features_in, features_out = kernel.shape[2:]
    before = _before_relu(gradient, *results)
    if options.upsampled:
        by_images = upsample.image_gradient(before, kernel, padding=padding)
        images = upsample.upsample(images)
    elif fast and conv_winograd.is_supported(images, kernel):
        by_images = conv_winograd.image_gradient(gradient, kernel, *results, padding=padding)
    elif conv_narrow.is_supported(features_out, features_in):
        by_images = conv_narrow.image_gradient(before, kernel, padding=padding)
    else:
        around = before if padding == "zero" else jnp.pad(before, AROUND)
        by_images = convolve_same(around, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
        by_images = by_images if padding == "zero" else folded(by_images, padding)
    reflected = padding == "reflect"
    padded = reflect(reflect(images, 1), 2) if reflected else jnp.pad(images, AROUND)
    return by_images, _kernel_gradient(padded, before), before.sum((0, 1, 2))


def _complete(
    images: Array, kernel: Array, bias: Array, *, without: Callable[..., Array], rectified: bool
) -> Array:
    """Adds bias, and ReLU if `rectified`, to a convolution `without` them."""
    result = without(images, kernel) + bias
    return jax.nn.relu(result) if rectified else result


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _convolution(images: Array, kernel: Array, bias: Array, options: _Options) -> Array:
    padding, algorithm, rectified, upsampled = options
    complete = partial(_complete, rectified=rectified)
    default = partial(complete, without=partial(_padded, padding=padding, upsampled=upsampled))
    on_cpu: Callable[..., Array]
    if upsampled:
        on_cpu = partial(complete, without=partial(upsample.convolve, padding=padding))
    elif algorithm == "winograd" and conv_winograd.is_supported(images, kernel):
        on_cpu = partial(conv_winograd.convolve, padding=padding, rectified=rectified)
    elif conv_narrow.is_supported(*kernel.shape[2:]):
        on_cpu = partial(complete, without=partial(conv_narrow.convolve, padding=padding))
    elif padding == "reflect":
        # Results with "winograd" depend on the cut anyway.
        exact = convolve_exactly if algorithm == "direct" else convolve_plainly
        on_cpu = partial(complete, without=partial(_borders_corrected, convolve=exact))
    else:
        return default(images, kernel, bias)
    return lax.platform_dependent(images, kernel, bias, cpu=on_cpu, default=default)


def _forward(
    images: Array, kernel: Array, bias: Array, options: _Options
) -> tuple[Array, tuple[Array, ...]]:
    result = _convolution(images, kernel, bias, options)
    return result, (images, kernel, result) if options.rectified else (images, kernel)


def _backward(options: _Options, saved: tuple[Array, ...], gradient: Array) -> _Gradients:
    def automatic(images: Array, kernel: Array, gradient: Array, *results: Array) -> _Gradients:
        before = _before_relu(gradient, *results)
        plainly = partial(_padded, padding=options.padding, upsampled=options.upsampled)
        by_images, by_kernel = jax.vjp(plainly, images, kernel)[1](before)
        return by_images, by_kernel, before.sum((0, 1, 2))

    images, kernel, *results = saved
    on_cpu = partial(_cpu_gradients, options=options)
    arguments = (images, kernel, gradient, *results)
    return lax.platform_dependent(*arguments, cpu=on_cpu, default=automatic)


_convolution.defvjp(_forward, _backward)


# The networks of a cascade share most shapes; each shape is traced and lowered once.
@partial(jax.jit, static_argnames=("padding", "algorithm", "rectified", "upsampled"))
def convolve(
    images: Array,
    kernel: Array,
    bias: Array,
    *,
    padding: Padding = "reflect",
    algorithm: Algorithm = "direct",
    rectified: bool = False,
    upsampled: bool = False,
) -> Array:
    """3x3 convolution with a padding of 1, plus bias, followed by ReLU if `rectified`.

    Args:
        images: (N, H, W, I), float; H and W at least 2 for reflection padding.
        kernel: (3, 3, I, O), of the images' dtype.
        bias: (O,), of the images' dtype.
        padding: `"reflect"` (without repeating the border pixel) or `"zero"`.
        algorithm: `"direct"`, whose results, compiled with `cdjax.ops.jit.EXACT`, do not depend
            on how an image was cut, bit for bit; or `"winograd"`, which is faster on a CPU from 64
            channels.
        rectified: whether ReLU follows; it costs less here than as a separate operation.
        upsampled: whether nearest upsampling by 2 precedes; it costs less here than by itself.

    Returns:
        (N, H, W, O), or (N, 2H, 2W, O) if `upsampled`, of the images' dtype.

    Raises:
        ValueError: if an image has fewer than 2 rows or columns to reflect.
    """
    at_once = upsampled and (algorithm == "direct" or upsample.is_supported(kernel))
    if upsampled and not at_once:
        images = upsample.upsample(images)
    if padding == "reflect" and not at_once and any(length < 2 for length in images.shape[1:3]):
        raise ValueError(f"reflection padding needs 2 rows and columns, not {images.shape[1:3]}")
    return _convolution(images, kernel, bias, _Options(padding, algorithm, rectified, at_once))


def max_pool(images: Array) -> Array:
    """The maximum of every 2x2 block: (N, H, W, C) -> (N, H // 2, W // 2, C)."""
    n, height, width, channels = images.shape
    height, width = height // 2, width // 2
    blocks = images[:, : 2 * height, : 2 * width].reshape(n, height, 2, width, 2, channels)
    # An explicit maximum fuses with what precedes it; XLA's window reduction does not.
    rows = jnp.maximum(blocks[:, :, 0], blocks[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])
