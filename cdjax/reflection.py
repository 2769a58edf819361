"""Padding by reflection, the border pixel itself not repeated, and its transpose."""

from jax import Array, lax


def reflect(images: Array, axis: int) -> Array:
    """One line more at both ends of an axis; `jnp.pad` does the same by many more operations."""
    last = images.shape[axis] - 1
    first, second = (lax.slice_in_dim(images, i, i + 1, axis=axis) for i in (1, last - 1))
    return lax.concatenate([first, images, second], axis)


def folded(gradient: Array, axis: int) -> Array:
    """The gradient by an image from that by `reflect` of it: reflections add up."""
    last = gradient.shape[axis] - 3
    first, inner, end = (
        lax.slice_in_dim(gradient, *span, axis=axis)
        for span in ((0, 1), (1, last + 2), (last + 2, last + 3))
    )
    for line, reflected in ((1, first), (last - 1, end)):
        there = lax.dynamic_slice_in_dim(inner, line, 1, axis)
        inner = lax.dynamic_update_slice_in_dim(inner, there + reflected, line, axis)
    return inner
