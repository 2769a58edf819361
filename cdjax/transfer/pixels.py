"""Images as arguments: what is accepted, and how it becomes float32 of a size the networks take."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from cdjax.networks.spec import Spec

Pixels = Array | np.ndarray[Any, Any]

LEVEL = np.float32(1 / 255)
"""One grey level of 8 bits. Multiplied by, not divided by 255: XLA may replace a division, and
images that NumPy converts must be the same to the last bit."""


def check_pixels(images: Any, name: str) -> None:
    """Checks that `images.shape` and `images.dtype` are those of an image or a batch of images.

    Raises:
        TypeError: if the dtype is neither uint8 nor floating.
        ValueError: if the shape is neither (H, W, 3) nor (N, H, W, 3), or has no pixels.
    """
    shape, dtype = images.shape, images.dtype
    if len(shape) not in (3, 4) or shape[-1] != 3 or 0 in shape:
        raise ValueError(
            f"{name} must be (H, W, 3) or (N, H, W, 3) with at least 1 pixel, not {shape}"
        )
    if dtype != jnp.uint8 and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name} must be uint8 or floating in [0, 1], not {dtype}")


def as_pixels(images: ArrayLike, name: str) -> Pixels:
    """The array of an image or a batch of images; errors as for `check_pixels`."""
    # Not jnp.asarray, which compiles a program for every shape.
    pixels = images if isinstance(images, jax.Array) else np.asarray(images)
    check_pixels(pixels, name)
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
    height, width = (max(-(-length // stride), 2) * stride for length in size)
    return height, width


def pad(images: Array, specs: Sequence[Spec]) -> Array:
    """Continues images (N, H, W, 3) by reflection at the bottom and right to `padded_size`."""
    grown = padded_size(images.shape[1:3], specs)
    more = [(0, new - old) for new, old in zip(grown, images.shape[1:3], strict=True)]
    return jnp.pad(images, [(0, 0), *more, (0, 0)], "symmetric")
