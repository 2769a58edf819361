"""Reflection padding by one line, without repeating the border, and its transpose."""

from typing import Literal

from jax import Array, lax

Padding = Literal["reflect", "zero"]
"""Padding of convolutions: `"reflect"` for style transfer, `"zero"` as in ImageNet's networks."""


def reflect(images: Array, axis: int) -> Array:
    """Pads by one line at both ends of an axis, with fewer operations than `jnp.pad`."""
    last = images.shape[axis] - 1
    first, second = (lax.slice_in_dim(images, i, i + 1, axis=axis) for i in (1, last - 1))
    return lax.concatenate([first, images, second], axis)


def folded(gradient: Array, axis: int, *, inward: int = 1) -> Array:
    """The transpose of padding: the gradient of an image from that of the padded image.

    Args:
        gradient: with respect to the image padded by one line at both ends of an axis.
        axis: of the padding.
        inward: distance of the repeated line from the border: 1 for `reflect`, 0 if the border
            itself is repeated.
    """
    last = gradient.shape[axis] - 1
    ends = (lax.slice_in_dim(gradient, i, i + 1, axis=axis) for i in (0, last))
    inner = lax.slice_in_dim(gradient, 1, last, axis=axis)
    for line, end in zip((inward, last - 2 - inward), ends, strict=True):
        there = lax.slice_in_dim(inner, line, line + 1, axis=axis)
        inner = lax.dynamic_update_slice_in_dim(inner, there + end, line, axis)
    return inner
