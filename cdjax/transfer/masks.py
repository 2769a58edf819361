"""Masks: how much every pixel of a picture counts, as arrays or read by regions.

A mask belongs to a picture of the same height and width. One of another size but the same aspect
ratio is resampled where it is read, so that masks of large pictures need not be large.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from cdjax.transfer.pixels import LEVEL

_STRIP = 2**22
"""Pixels of a mask that are reduced at a time."""


class Mask(Protocol):
    """A mask from which windows can be cut: an array, or what reads a file on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W)."""

    @property
    def dtype(self) -> Any:
        """bool, uint8, where 255 is all, or floating in [0, 1]."""

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[Any]:
        """The values of a range of rows and of columns."""


def fit_mask(mask: Any, size: tuple[int, ...], name: str) -> Any:
    """Checks a mask and fits it to a picture.

    Args:
        mask: (..., H, W), bool, uint8 or floating in [0, 1]: an array or a `Mask`.
        size: height and width of the picture.
        name: what the mask is called in errors.

    Returns:
        A mask of this size: `mask` itself as an array or, if its size is another, a `Mask`.

    Raises:
        TypeError: if the dtype is another.
        ValueError: if values are out of range, or the aspect ratio is not the picture's.
    """
    if not hasattr(mask, "shape") or (
        isinstance(mask, jax.Array) and not isinstance(mask, jax.core.Tracer)
    ):
        mask = np.asarray(mask)
    shape, dtype = mask.shape, mask.dtype
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"{name} must be (H, W) with at least 1 pixel, not {shape}")
    if dtype not in (np.bool_, np.uint8) and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name} must be bool, uint8 or floating in [0, 1], not {dtype}")
    if isinstance(mask, np.ndarray):
        _check_values(mask, name)
    if shape[-2:] == size:
        return mask
    if not _same_aspect(shape[-2:], size):
        (height, width), (rows, columns) = shape[-2:], size
        raise ValueError(
            f"{name}: {width}x{height} pixels are another aspect ratio than the picture's, "
            f"{columns}x{rows}; crop it as the picture is"
        )
    if len(shape) != 2 or isinstance(mask, jax.core.Tracer):
        raise ValueError(f"{name}: {shape} must be the picture's size, {size}; scale it before")
    return resampled(mask, (size[0], size[1]))


def _check_values(mask: NDArray[Any], name: str) -> None:
    if mask.dtype == np.bool_:
        return
    if mask.dtype == np.uint8:
        if mask.max() == 1:
            raise ValueError(f"{name}: no value is above 1 of 255; multiply it by 255")
    elif not (mask.min() >= 0 and mask.max() <= 1):
        raise ValueError(
            f"{name} must lie in [0, 1], not in {float(mask.min()):g} to {float(mask.max()):g}"
        )


def joint(mask: Any | None, other: Any | None) -> Any | None:
    """How much every pixel counts by two masks of one size, their product; None if each counts 1.

    It is a `Mask` if one of them is read by regions.
    """
    if mask is None or other is None:
        return other if mask is None else mask
    arrays = (np.ndarray, jax.Array)
    if isinstance(mask, arrays) and isinstance(other, arrays):
        return as_float(mask) * as_float(other)
    return _Joint(mask, other)


def is_full(mask: Any) -> bool:
    """Whether a mask is known to be full everywhere. Only arrays are looked at."""
    if not isinstance(mask, np.ndarray):
        return False
    return bool((mask == (255 if mask.dtype == np.uint8 else 1)).all())


def _same_aspect(size: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two sizes can be scalings of one picture, which round to whole pixels."""
    (height, width), (rows, columns) = size, other
    return abs(width * rows / height - columns) < 1 or abs(columns * height / rows - width) < 1


@dataclass(frozen=True)
class _Joint:
    """The product of two masks of one size, where it is read."""

    first: Mask
    second: Mask

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W)."""
        return self.first.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32."""
        return np.dtype(np.float32)

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[np.float32]:
        """The values of a range of rows and of columns."""
        return as_float(self.first[region]) * as_float(self.second[region])


@dataclass(frozen=True)
class _Resampled:
    """A mask with another number of rows and columns, interpolated linearly where it is read.

    Attributes:
        source: the mask, (h, w).
        shape: (H, W).
        steps: rows and columns of the source for each of this mask.
    """

    source: Mask
    shape: tuple[int, int]
    steps: tuple[float, float]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32."""
        return np.dtype(np.float32)

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[np.float32]:
        """The values of a range of rows and of columns."""
        nearest = []
        for part, length, step, last in zip(
            region, self.shape, self.steps, self.source.shape, strict=True
        ):
            start, end, _ = part.indices(length)
            places = np.clip((np.arange(start, end) + 0.5) * step - 0.5, 0, last - 1)
            before = places.astype(np.int64)
            nearest.append((before, np.minimum(before + 1, last - 1), places - before))
        (above, below, down), (left, right, across) = nearest
        top, begin = int(above.min()), int(left.min())
        block = self.source[top : int(below.max()) + 1, begin : int(right.max()) + 1]
        # Value by value, so that a value does not depend on what is read with it.
        values = as_float(block)
        values = _between(values[above - top], values[below - top], down[:, None])
        return _between(values[:, left - begin], values[:, right - begin], across)


def _between(
    first: NDArray[np.float32], second: NDArray[np.float32], share: NDArray[Any]
) -> NDArray[np.float32]:
    """Linear interpolation; the share is the second's. Equal values are kept to the last bit."""
    values: NDArray[np.float32] = first + share.astype(np.float32) * (second - first)
    return values


def as_float(mask: Any) -> Any:
    """The values of a mask, an array, as float32 in [0, 1]."""
    values = mask.astype(np.float32)
    return values * LEVEL if mask.dtype == np.uint8 else values


def resampled(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask scaled to a size; of one more than twice as large, means over squares are taken."""
    height, width = mask.shape
    factor = max(1, min(height // size[0], width // size[1]))
    steps = (height / size[0] / factor, width / size[1] / factor)
    return _Resampled(_reduced(mask, factor) if factor > 1 else mask, size, steps)


def _reduced(mask: Mask, factor: int) -> NDArray[np.float32]:
    """Means over squares of `factor` pixels a side; the last ones may be cut off."""
    height, width = mask.shape
    rows = max(1, _STRIP // (width * factor)) * factor
    strips = []
    for top in range(0, height, rows):
        strip = as_float(mask[top : min(top + rows, height), 0:width])
        more = [(0, -length % factor) for length in strip.shape]
        squares = np.pad(strip, more, "edge")
        squares = squares.reshape(len(squares) // factor, factor, -1, factor)
        strips.append(squares.mean((1, 3), dtype=np.float32))
    return np.concatenate(strips)
