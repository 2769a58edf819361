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

from cdjax.ops import upsample
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
    kernel: Array,
    bias: Array,
    borders: Array,
    *,
    pooled: bool = False,
    upsampled: bool = False,
) -> Array:
    """Computes `cdjax.ops.conv.convolve` with reflection padding and ReLU for a patch, on a CPU.

    Args:
        neighbours: the patch, (h, w, I), and those around it, nine in all, row by row. Any arrays
            of this shape stand for those beyond the image.
        kernel: (3, 3, I, O), of the patches' dtype.
        bias: (O,), of the patches' dtype.
        borders: (2, 3), int32: `Extent.borders` of the rows and of the columns.
        pooled: whether 2x2 max-pooling follows.
        upsampled: whether nearest upsampling by 2 precedes.

    Returns:
        (h, w, O); half as high and wide if `pooled`, twice if `upsampled`. Inside the image, the
        values are those of the whole image, bit for bit, compiled with `cdjax.ops.jit.EXACT`.
    """
    images = _surrounded(neighbours, borders)[None]
    if upsampled:
        images = _inner(upsample.upsample(images))
    # With zero padding, because XLA runs it faster than a convolution without.
    convolve = partial(convolve_exactly, on_all_cores=False)
    if kernel.shape[2] <= NARROW:
        features = convolve_same(images, kernel, convolve)
    else:
        features = convolve(images, kernel, "SAME")
    features = jnp.maximum(_inner(features) + bias, 0)
    return lax.squeeze(max_pool(features) if pooled else features, [0])


def _surrounded(neighbours: Sequence[Array], borders: Array) -> Array:
    """A patch with one more line on every side."""
    # Of primitive operations: those of jax.numpy take several times as long to trace and lower.
    (height, width), rows = neighbours[4].shape[:2], []
    for i, (top, bottom) in enumerate(((height - 1, height), (0, height), (0, 1))):
        left, middle, right = neighbours[3 * i : 3 * i + 3]
        columns = (left, width - 1, width), (middle, 0, width), (right, 0, 1)
        parts = [lax.slice(a, (top, b, 0), (bottom, e, a.shape[2])) for a, b, e in columns]
        rows.append(lax.concatenate(parts, 1))
    patch = lax.concatenate(rows, 0)
    for axis in (0, 1):
        numbers = (lax.slice(borders, (axis, i), (axis + 1, i + 1)) for i in range(3))
        before, place, behind = (lax.squeeze(number, [0, 1]) for number in numbers)
        for source, target in ((before, 0), (behind, place)):
            line = lax.dynamic_slice_in_dim(patch, source, 1, axis, allow_negative_indices=False)
            patch = lax.dynamic_update_slice_in_dim(
                patch, line, target, axis, allow_negative_indices=False
            )
    return patch


def _inner(images: Array) -> Array:
    """Images (N, H, W, C) without the lines on every side."""
    n, height, width, channels = images.shape
    return lax.slice(images, (0, 1, 1, 0), (n, height - 1, width - 1, channels))
