"""3x3 convolutions on a CPU with a quarter of the multiplications: Winograd's F(4x4, 3x3).

Four outputs of a one-dimensional convolution with three taps are coefficients of a product of
polynomials, which its values at six points (0, 1, -1, 2, -2 and infinity) determine: six
multiplications instead of twelve (Winograd 1980; Lavin and Gray 2016). With matrices O, K and I of
small integers and fractions,

    outputs = O ((K taps) * (I inputs))

for every tile of four outputs and the six inputs on which they depend. In two dimensions the same
is done along both axes: 36 multiplications instead of 144 for 16 outputs. Over the channels they
are 36 matrix products of (tiles, I) by (I, O), which a CPU runs at full speed.

The gradient with respect to the inputs is the transpose, with the kernel's channels exchanged:
I^T (K taps)^T O^T gradient. Padding affects only the first and the last tile of an axis.

Rounding errors are a few times those of a plain sum, about 1e-5 of the largest output, and depend
on where tiles begin, so windows of an image would differ from the whole. It is for training only.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import getfullargspec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental.xla_metadata import set_xla_metadata
from numpy.typing import NDArray

from cdjax.ops.matmul import product
from cdjax.ops.padding import Padding

TILE = 4
"""Outputs of a tile along each axis."""
_NARROWEST = 64
"""Channels of inputs and outputs from which it is faster than a plain convolution."""

_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_KERNEL = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float32
) / np.float32(24)
_OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32
)


def is_supported(images: Array, kernel: Array) -> bool:
    """Whether `convolve` accepts images (N, H, W, I) and is faster than a plain convolution."""
    whole = all(size and size % TILE == 0 for size in images.shape[1:3])
    return whole and min(kernel.shape[2:]) >= _NARROWEST and images.dtype == jnp.float32


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps XLA from fusing a function with the operations before and after it.

    Otherwise it fuses the passes along both axes, and computes the first one again for each of the
    six values that the second one reads. An optimization barrier is removed before fusion.
    """
    compiled = jax.jit(function, static_argnames=getfullargspec(function).kwonlyargs)

    @wraps(function)
    def call(*arguments: Array, **options: Any) -> Any:
        with set_xla_metadata(inlineable="false"):
            return compiled(*arguments, **options)

    return call


def _weighted_sum(
    parts: Sequence[Array], weights: NDArray[np.float32], *, axis: int, new: Sequence[int]
) -> Array:
    """The sum of `weights[m] * parts[m]`; the parts do not have the `new` axes of the result.

    The axes of `weights[m]` are those of the result from `axis`.
    """
    ndim, after = parts[0].ndim + len(new), axis + weights.ndim - 1
    shape = (1,) * axis + weights.shape[1:] + (1,) * (ndim - after)
    terms = [
        jnp.asarray(weight.reshape(shape)) * lax.expand_dims(part, new)
        for part, weight in zip(parts, weights, strict=True)
    ]
    return sum(terms[1:], terms[0])


def _unstacked(stacked: Array, axis: int) -> list[Array]:
    return [lax.index_in_dim(stacked, i, axis, keepdims=False) for i in range(stacked.shape[axis])]


def _moved(
    first: Array, earlier: Array, later: Array, last: Array, axis: int
) -> tuple[Array, Array]:
    """Moves `earlier` one tile forward, behind `first`, and `later` back, before `last`."""
    forward = lax.concatenate([first, lax.slice_in_dim(earlier, 0, -1, axis=axis)], axis)
    return forward, lax.concatenate([lax.slice_in_dim(later, 1, None, axis=axis), last], axis)


def _end(tiles: Array, index: int, axis: int) -> Array:
    return lax.slice_in_dim(tiles, index, index + 1 or None, axis=axis)


@_alone
def _neighbours(blocks: Array, *, axis: int, padding: Padding) -> tuple[Array, Array]:
    """The inputs before and after each tile of blocks (..., tiles, 4, ...), tiles at `axis`."""
    tiles = _unstacked(blocks, axis + 1)
    # By reflection, pixel 1 precedes pixel 0, and the last pixel but one follows the last.
    before, behind = _end(tiles[1], 0, axis), _end(tiles[2], -1, axis)
    if padding == "zero":
        before, behind = jnp.zeros_like(before), jnp.zeros_like(behind)
    return _moved(before, tiles[3], tiles[0], behind, axis)


@_alone
def _inputs_to_points(blocks: Array, before: Array, behind: Array, *, axis: int) -> Array:
    return _weighted_sum([before, *_unstacked(blocks, axis + 1), behind], _INPUT.T, axis=0, new=[0])


@_alone
def _points_to_outputs(points: Array, *bias: Array, axis: int, rectified: bool = False) -> Array:
    """The outputs along an axis; with bias and ReLU after the last axis."""
    outputs = _weighted_sum(_unstacked(points, 0), _OUTPUT.T, axis=axis + 1, new=[axis + 1])
    outputs = sum(bias, outputs)
    return jax.nn.relu(outputs) if rectified else outputs


@_alone
def _outputs_to_points(blocks: Array, *results: Array, axis: int) -> Array:
    """The points of a gradient with respect to outputs, or to ReLU's results if given."""
    for made in results:
        blocks = jnp.where(made > 0, blocks, 0)
    return _weighted_sum(_unstacked(blocks, axis + 1), _OUTPUT, axis=0, new=[0])


@_alone
def _overlaps(points: Array, *, axis: int) -> tuple[Array, Array]:
    """The points at 0 and at infinity that belong to a tile's neighbours, or return from a border.

    Only the point at 0 depends on the input before a tile, only that at infinity on the one after.
    """
    zero, infinity = (lax.index_in_dim(points, i, 0, keepdims=False) for i in (0, -1))
    return _moved(_end(zero, 0, axis), infinity, zero, _end(infinity, -1, axis), axis)


@_alone
def _points_to_inputs(
    points: Array, earlier: Array, later: Array, *, axis: int, padding: Padding
) -> Array:
    """The transpose of `_inputs_to_points` and `_neighbours`."""
    tiles = points.shape[axis + 1]
    weights = np.repeat(_INPUT[:, None, 1 : TILE + 1], tiles, axis=1)
    from_earlier, from_later = np.zeros((2, tiles, TILE), np.float32)
    from_earlier[1:, 0] = _INPUT[-1, -1]
    from_later[:-1, -1] = _INPUT[0, 0]
    if padding == "reflect":
        from_earlier[0, 1], from_later[-1, -2] = _INPUT[0, 0], _INPUT[-1, -1]
    parts = [*_unstacked(points, 0), earlier, later]
    all_weights = np.concatenate([weights, from_earlier[None], from_later[None]])
    return _weighted_sum(parts, all_weights, axis=axis, new=[axis + 1])


def _kernel_to_points(kernel: Array, *, after: Array | None = None) -> Array:
    """A kernel's values at all points, (3, 3, I, O) -> (6, 6, I, O).

    XLA must compute `after` first; otherwise it computes the points of all layers at the start and
    holds them in memory.
    """
    weights = jnp.asarray(np.einsum("ia,jb->ijab", _KERNEL, _KERNEL).reshape(36, 9))
    if after is not None:
        # Adds 0, but XLA does not know that the array is finite.
        weights += 0 * after[(0,) * after.ndim]
    points = product(weights, kernel.reshape(9, -1))
    return points.reshape(6, 6, *kernel.shape[2:])


def _products(points: Array, kernel: Array) -> Array:
    """Matrix products over the channels at every point."""
    by_point = points.reshape(len(kernel) ** 2, -1, points.shape[-1])
    result = product(by_point, kernel.reshape(len(kernel) ** 2, *kernel.shape[2:]))
    return result.reshape(*points.shape[:-1], -1)


def _tiled(images: Array) -> Array:
    n, height, width, channels = images.shape
    return images.reshape(n, height // TILE, TILE, width // TILE, TILE, channels)


def convolve(
    images: Array, kernel: Array, bias: Array, *, padding: Padding, rectified: bool = False
) -> Array:
    """Computes `cdjax.ops.conv.convolve` of float32 images, H and W multiples of `TILE`."""
    values = _tiled(images)
    # Along the width first. The points are a new first axis, so the tiles of rows then have the
    # index that those of columns had.
    for axis in (3, 2):
        before, behind = _neighbours(values, axis=axis, padding=padding)
        values = _inputs_to_points(values, before, behind, axis=axis)
    values = _points_to_outputs(_products(values, _kernel_to_points(kernel)), axis=2)
    values = _points_to_outputs(values, bias, axis=3, rectified=rectified)
    return values.reshape(*images.shape[:3], -1)


def image_gradient(gradient: Array, kernel: Array, *results: Array, padding: Padding) -> Array:
    """The gradient with respect to the images of `convolve`, whose result is given after ReLU."""
    values = _outputs_to_points(_tiled(gradient), *map(_tiled, results), axis=3)
    values = _outputs_to_points(values, axis=2)
    # Not the transpose of the kernel's points: a CPU multiplies by a wide matrix faster than by a
    # transposed one.
    points = _kernel_to_points(kernel.swapaxes(2, 3), after=gradient)
    values = _products(values, points)
    for axis in (2, 3):
        earlier, later = _overlaps(values, axis=axis)
        values = _points_to_inputs(values, earlier, later, axis=axis, padding=padding)
    return values.reshape(*gradient.shape[:3], -1)
