"""Reflection padding by one line, without repeating the border, and its transpose."""

from typing import Literal

from jax import Array, lax

Padding = Literal["reflect", "zero"]
"""Padding of convolutions: `"reflect"` for style transfer, `"zero"` as in ImageNet's networks."""

AROUND = ((0, 0), (1, 1), (1, 1), (0, 0))
"""One line on every side of images, for `jnp.pad`."""


def reflect(images: Array, axis: int) -> Array:
    """Pads by one line at both ends of an axis, with fewer operations than `jnp.pad`."""
    last = images.shape[axis] - 1
    first, second = (lax.slice_in_dim(images, i, i + 1, axis=axis) for i in (1, last - 1))
    return lax.concatenate([first, images, second], axis)


def folded(gradient: Array, padding: Padding, *, inward: int = 1) -> Array:
    """The transpose of padding: the gradient of images from that of the padded images.

    Args:
        gradient: (N, H + 2, W + 2, C), with respect to images padded by one line on every side.
        padding: of these images.
        inward: distance of the repeated line from the border: 1 for `reflect`, 0 if the border
            itself is repeated.
    """
    if padding == "zero":
        return gradient[:, 1:-1, 1:-1]
    for axis in (1, 2):
        last = gradient.shape[axis] - 1
        ends = [lax.slice_in_dim(gradient, i, i + 1, axis=axis) for i in (0, last)]
        gradient = lax.slice_in_dim(gradient, 1, last, axis=axis)
        for line, end in zip((inward, last - 2 - inward), ends, strict=True):
            there = lax.slice_in_dim(gradient, line, line + 1, axis=axis)
            gradient = lax.dynamic_update_slice_in_dim(gradient, there + end, line, axis)
    return gradient
