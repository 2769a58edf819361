"""Where an image is cut into windows, and how large the windows may be.

Windows lie inside the image, so only its true borders are padded by reflection. They overlap by
the halo (`Spec.halo`), within which a cut changes the result; the cores between the halos make up
the image.
"""

from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

import numpy as np

from cdjax.networks.patches import SIDE
from cdjax.networks.spec import Spec

_STEP = 64
"""Sides of windows are multiples of this number of pixels, so that images of many sizes share a few
compiled shapes. It is a multiple of every stride."""

_LARGEST_AREA = 2048**2
"""Pixels of the largest window; a larger one would have hardly less overlap."""

_COST = 2**14
"""The cost of starting a window, in pixels that could be computed in the same time."""

_WORTH_SHARING = 1.1
"""The largest cost, relative to the best window, at which a square window is preferred: images of
all sizes share it, so it need not be compiled again."""

_LAYERS_AT_ONCE = 5
"""Memory of a window, in multiples of its largest layer. XLA needs 3 to 4 of them, and the windows
before and after it are on the device too."""


@dataclass(frozen=True)
class Span:
    """A window along one axis, in pixels.

    Attributes:
        start: first pixel.
        end: one past the last pixel.
        core: the part, as (begin, end), that the result takes from this window.
    """

    start: int
    end: int
    core: tuple[int, int]


class Window(NamedTuple):
    """A window of an image: its rows and its columns."""

    rows: Span
    columns: Span

    @property
    def core_area(self) -> int:
        """Pixels that the result takes from it."""
        (top, bottom), (left, right) = self.rows.core, self.columns.core
        return (bottom - top) * (right - left)


def spans(length: int, side: int, halo: int) -> list[Span]:
    """Windows along an axis, whose cores cover the axis without gaps or overlaps.

    Args:
        length: of the axis, in pixels.
        side: of every window, in pixels; an axis of at most this length is one window.
        halo: pixels next to a cut that do not belong to the core.

    Raises:
        ValueError: if a window has no pixels between two halos.
    """
    if length <= side:
        return [Span(0, length, (0, length))]
    step = side - 2 * halo
    if step <= 0:
        raise ValueError(f"a window of {side} pixels is all halo; it needs more than {2 * halo}")
    starts = [*range(0, length - side, step), length - side]
    begins = [0, *(start + halo for start in starts[1:])]
    ends = [*begins[1:], length]
    return [
        Span(start, start + side, core)
        for start, core in zip(starts, zip(begins, ends, strict=True), strict=True)
    ]


def plan_windows(size: tuple[int, int], sides: tuple[int, int], halo: int) -> list[Window]:
    """The windows of an image, row by row; arguments are those of `spans`, as (height, width)."""
    rows, columns = (spans(*axis, halo) for axis in zip(size, sides, strict=True))
    return [Window(row, column) for row in rows for column in columns]


def bytes_per_pixel(spec: Spec) -> int:
    """Bytes of device memory that a window of a stage takes per pixel, in float32."""
    widest = max(max(c.features_in, c.features_out) / 4**c.level for c in spec.encoder)
    return round(4 * widest * _LAYERS_AT_ONCE)


def choose_sides(size: tuple[int, int], spec: Spec, halo: int, memory: int) -> tuple[int, int]:
    """The size of windows that fit in the memory at little overlap.

    Args:
        size: height and width of the image.
        spec: of the stage.
        halo: pixels next to a cut that do not belong to the core.
        memory: bytes of device memory.

    Returns:
        Height and width of a window, at most those of the image.

    Raises:
        ValueError: if even the smallest window needs more memory.
    """
    area = min(memory // bytes_per_pixel(spec), _LARGEST_AREA)
    smallest = (2 * halo // _STEP + 1) * _STEP
    # The possible sides along either axis, and the windows along it that each of them needs.
    sides = [np.append(np.arange(smallest, length, _STEP), length) for length in size]
    counts = [
        np.where(side < length, 1 - (side - length) // np.maximum(side - 2 * halo, 1), 1)
        for side, length in zip(sides, size, strict=True)
    ]
    pixels = np.multiply.outer(*sides)
    if pixels[0, 0] > area:
        needed = int(pixels[0, 0]) * bytes_per_pixel(spec)
        raise ValueError(
            f"stage {spec.stage} needs at least {-(-needed // 10**6)} MB of device memory for a "
            f"window, not {memory // 10**6}"
        )
    # A CPU computes whole patches, even where a window ends in one.
    computed = np.multiply.outer(*(-(-side // SIDE) * SIDE for side in sides))
    costs = np.where(pixels <= area, np.multiply.outer(*counts) * (computed + _COST), np.inf)
    square = isqrt(area) // SIDE * SIDE
    shared = np.logical_and.outer(*(side == square for side in sides))
    if (costs[shared] <= _WORTH_SHARING * costs.min()).any():
        return square, square
    row, column = np.unravel_index(costs.argmin(), costs.shape)
    return int(sides[0][row]), int(sides[1][column])
