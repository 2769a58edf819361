"""Convolutions of a patch: a piece of an image of a fixed size, for images of every size.

A program that is compiled for the size of a patch serves every image that patches cover. The lines
around a patch, which a 3x3 convolution reads, come from the patches beside it. At the borders of
the image they are reflected. The last patches of an image may extend beyond it; what is there is
computed, and read by nothing that is inside.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from cdjax.ops import conv_narrow, upsample
from cdjax.ops.conv import NARROW, convolve_same, max_pool
from cdjax.ops.conv_xla import convolve_exactly


class Extent(NamedTuple):
    """Where a patch lies along an axis of an image.

    Attributes:
        length: positions of the image in the patch, from its first one.
        first: whether the image begins with the patch.
        last: whether the image ends in it.
    """

    length: int
    first: bool
    last: bool

    def borders(self, size: int, *, upsampled: bool) -> tuple[int, int, int]:
        """Which lines are reflected in a patch of `size` that has one more line on every side.

        Args:
            size: positions of the patch.
            upsampled: whether the patch is upsampled before it is convolved. The line that
                reflects an upsampled image repeats its border.

        Returns:
            The line that is put first, the place of the line behind the image, and the line that
            is put there.
        """
        inward = 0 if upsampled else 1
        before = 1 + inward if self.first else 0
        behind = (self.length + 1, self.length - inward) if self.last else (size + 1, size + 1)
        return before, *behind


def convolve_patch(
    neighbours: Sequence[Array],
    layers: Sequence[tuple[Array, Array]],
    borders: Array,
    *,
    pooled: bool = False,
    upsampled: bool = False,
) -> Array:
    """Computes one or two `cdjax.ops.conv.convolve` with reflection padding and ReLU, on a CPU.

    Two at once are faster where features are large: what is between them stays in a core's cache.

    Args:
        neighbours: the patch, (h, w, I), and those around it, nine in all, row by row. Any arrays
            of this shape stand for those beyond the image.
        layers: kernel, (3, 3, I, O), and bias, (O,), of the convolutions, of the dtypes in which
            they are computed. For two, an image must end in at least two rows and columns of its
            last patches.
        borders: (layers, 2, 3), int32: `Extent.borders` of the rows and of the columns.
        pooled: whether 2x2 max-pooling follows.
        upsampled: whether nearest upsampling by 2 precedes.

    Returns:
        (h, w, O); half as high and wide if `pooled`, twice if `upsampled`. Inside the image, the
        values are those of the whole image, bit for bit, compiled with `cdjax.ops.jit.EXACT`.
    """
    lines = 1 if upsampled else len(layers)
    images = _reflected(_surrounded(neighbours, lines), borders, 0, lines)
    for index, (kernel, bias) in enumerate(layers):
        if index:
            images = _reflected(images, borders, index, 1)
        images = images.astype(kernel.dtype)
        if upsampled and not index:
            features = upsample.convolve_around_corners(images, kernel)
            features = features if len(layers) > 1 else _inner(features)
        else:
            features = _convolved(images, kernel)
        images = jnp.maximum(features + bias, 0)
    return lax.squeeze(max_pool(images) if pooled else images, [0])


def _convolved(images: Array, kernel: Array) -> Array:
    if conv_narrow.is_supported(*kernel.shape[2:]):
        return conv_narrow.convolve(images, kernel, padding=None)
    # With zero padding, because XLA runs it faster than a convolution without.
    convolve = partial(convolve_exactly, on_all_cores=False)
    if kernel.shape[2] <= NARROW:
        features = convolve_same(images, kernel, convolve)
    else:
        features = convolve(images, kernel, "SAME")
    return _inner(features)


# Of primitive operations: those of jax.numpy take several times as long to trace and lower.


def _surrounded(neighbours: Sequence[Array], lines: int) -> Array:
    """A patch with more lines on every side, (1, H, W, C)."""
    (height, width, channels), rows = neighbours[4].shape, []
    for i, (top, bottom) in enumerate(((height - lines, height), (0, height), (0, lines))):
        left, middle, right = neighbours[3 * i : 3 * i + 3]
        columns = (left, width - lines, width), (middle, 0, width), (right, 0, lines)
        parts = [lax.slice(part, (top, b, 0), (bottom, e, channels)) for part, b, e in columns]
        rows.append(lax.concatenate(parts, 1))
    return lax.expand_dims(lax.concatenate(rows, 0), [0])


def _reflected(images: Array, borders: Array, index: int, lines: int) -> Array:
    """A patch with `lines` on every side, the next ones reflected at the borders of the image."""
    for axis in (1, 2):
        starts = ((index, axis - 1, i) for i in range(3))
        parts = (lax.slice(borders, start, [place + 1 for place in start]) for start in starts)
        # `Extent.borders` is for a single line.
        before, place, behind = (lax.squeeze(part, [0, 1, 2]) + (lines - 1) for part in parts)
        for source, target in ((before, lines - 1), (behind, place)):
            line = lax.dynamic_slice_in_dim(images, source, 1, axis, allow_negative_indices=False)
            images = lax.dynamic_update_slice_in_dim(
                images, line, target, axis, allow_negative_indices=False
            )
    return images


def _inner(images: Array) -> Array:
    """Images (N, H, W, C) without the lines on every side."""
    n, height, width, channels = images.shape
    return lax.slice(images, (0, 1, 1, 0), (n, height - 1, width - 1, channels))
