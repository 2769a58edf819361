"""Images as arguments: what is accepted, and how it becomes float32 of a size the networks take."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from cdjax.networks.spec import Spec
from cdjax.ops.sizes import is_known

Pixels = Array | np.ndarray[Any, Any]

LEVEL = np.float32(1 / 255)
"""One grey level of 8 bits. Multiplied by, not divided by 255: XLA may replace a division, and
images that NumPy converts must be the same to the last bit."""

_ROUNDING = 1e-3
"""How far floating pixels may lie outside [0, 1]; resizing and conversions round."""


def check_pixels(images: Any, name: str) -> None:
    """Checks that `images.shape` and `images.dtype` are those of an image or a batch of images.

    Raises:
        TypeError: if the dtype is neither uint8 nor floating.
        ValueError: if the shape is neither (H, W, 3) nor (N, H, W, 3), or has no pixels.
    """
    shape, dtype = images.shape, images.dtype
    if dtype.kind in "OU":
        raise TypeError(
            f"{name} must be pixels, not a path or an object; cdjax.read_image(path).pixels are"
        )
    if len(shape) not in (3, 4) or shape[-1] != 3 or 0 in shape:
        raise ValueError(
            f"{name} must be (H, W, 3) or (N, H, W, 3) with at least 1 pixel, not {shape}"
        )
    if dtype != jnp.uint8 and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name} must be uint8 or floating in [0, 1], not {dtype}")


def check_range(pixels: Pixels, name: str) -> None:
    """Raises `ValueError` if floating pixels are not in [0, 1].

    Traced arrays are not checked. An array on a device is waited for.
    """
    if pixels.dtype == jnp.uint8 or isinstance(pixels, jax.core.Tracer):
        return
    if not isinstance(pixels, jax.Array):
        low, high = float(pixels.min()), float(pixels.max())
    elif pixels.is_fully_addressable:
        low, high = np.asarray(_extremes(pixels))
    else:
        return
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        found = (
            f"values from {low:g} to {high:g}"
            if np.isfinite((low, high)).all()
            else "NaN or infinite values"
        )
        raise ValueError(
            f"{name} has {found}, but floating pixels must be in [0, 1]: divide 0 to 255 by 255, "
            "map -1 to 1 by (x + 1) / 2, and replace or clip the rest"
        )


@jax.jit
def _extremes(pixels: Array) -> Array:
    return jnp.stack([pixels.min(), pixels.max()]).astype(jnp.float32)


def as_pixels(images: ArrayLike, name: str) -> Pixels:
    """The array of an image or a batch; errors as for `check_pixels` and `check_range`."""
    # Not jnp.asarray, which compiles a program for every shape.
    pixels = images if isinstance(images, jax.Array) else np.asarray(images)
    check_pixels(pixels, name)
    check_range(pixels, name)
    return pixels


def to_float(pixels: Pixels) -> Array:
    """uint8 or floating pixels as float32 in [0, 1], of the same shape."""
    values = jnp.asarray(pixels).astype(jnp.float32)
    return values * LEVEL if pixels.dtype == jnp.uint8 else values


def as_floats(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Does what `to_float` does, with the same result, in NumPy."""
    values = pixels.astype(np.float32)
    return values * LEVEL if pixels.dtype == np.uint8 else values


def compute_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Checks a compute dtype; ValueError if it is neither float32 nor bfloat16."""
    dtype = jnp.dtype(dtype)
    if dtype not in (jnp.float32, jnp.bfloat16):
        raise ValueError(f"dtype must be float32 or bfloat16, not {dtype}")
    return dtype


def padded_size(size: Sequence[int], specs: Sequence[Spec]) -> tuple[int, int]:
    """Height and width grown to whole positions of the deepest features, at least 2 by 2."""
    stride = max(spec.stride for spec in specs)
    # The deepest convolution needs 2 positions to pad by reflection.
    height, width = (jax.core.max_dim(-(-length // stride), 2) * stride for length in size)
    return height, width


def pad(images: Array, specs: Sequence[Spec]) -> Array:
    """Continues images (N, H, W, 3) by reflection at the bottom and right to `padded_size`."""
    grown = padded_size(images.shape[1:3], specs)
    if not is_known(images):
        for axis, length in enumerate(grown, 1):
            images = jnp.take(images, _mirrored(images.shape[axis], length), axis)
        return images
    more = [(0, new - old) for new, old in zip(grown, images.shape[1:3], strict=True)]
    return jnp.pad(images, [(0, 0), *more, (0, 0)], "symmetric")


def _mirrored(length: int, grown: int) -> Array:
    """The numbers of rows or columns that `pad` repeats, where a size is known only later."""
    forth = jnp.arange(grown) % (2 * length)
    return jnp.minimum(forth, 2 * length - 1 - forth)
