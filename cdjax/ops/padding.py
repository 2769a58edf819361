"""Padding by reflection, the border pixel itself not repeated, and the transpose of padding."""

from typing import Literal

from jax import Array, lax

Padding = Literal["reflect", "zero"]
"""How convolutions pad: by reflection for style transfer, by zeros as ImageNet's networks do."""


def reflect(images: Array, axis: int) -> Array:
    """One line more at both ends of an axis; `jnp.pad` does the same by many more operations."""
    last = images.shape[axis] - 1
    first, second = (lax.slice_in_dim(images, i, i + 1, axis=axis) for i in (1, last - 1))
    return lax.concatenate([first, images, second], axis)


def folded(gradient: Array, axis: int, *, inward: int = 1) -> Array:
    """The gradient by an image from that by it with a line more at both ends of an axis.

    Args:
        gradient: by the longer image.
        axis: of the lines.
        inward: how far from its end lies the line that was repeated: 1 by `reflect`, 0 where the
            border itself is repeated.
    """
    last = gradient.shape[axis] - 1
    ends = (lax.slice_in_dim(gradient, i, i + 1, axis=axis) for i in (0, last))
    inner = lax.slice_in_dim(gradient, 1, last, axis=axis)
    for line, end in zip((inward, last - 2 - inward), ends, strict=True):
        there = lax.slice_in_dim(inner, line, line + 1, axis=axis)
        inner = lax.dynamic_update_slice_in_dim(inner, there + end, line, axis)
    return inner
