"""Where an image is cut: windows whose cores are the image, and how large they may be.

Windows lie wholly inside the image, so that its true borders keep their padding by reflection, and
overlap by what a cut can change (`Spec.halo`), which is thrown away.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

from cdjax.networks.spec import Spec

_STEP = 64
"""Windows' sides are multiples of so many pixels, so that images of many sizes share a few compiled
shapes; a multiple of every stride."""

_LARGEST_AREA = 2048**2
"""Larger windows have hardly less overlap, and nothing else to gain."""

_COST = 2**14
"""What starting a window costs, in pixels that might be computed meanwhile."""

_WORTH_SHARING = 1.1
"""A square, which images of all sizes have in common and which need not be compiled again, is taken
if it costs no more than this, relative to the best window."""

_LAYERS_AT_ONCE = 5
"""How much memory a window takes, in its largest layers: XLA's own figure is 3 to 4 of them, and
the window before and the one behind it are on the device too."""


@dataclass(frozen=True)
class Span:
    """A window along one axis, in pixels.

    Attributes:
        start: where it begins.
        end: where it ends.
        core: the part of the image, as (begin, end), that is taken from this window.
    """

    start: int
    end: int
    core: tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A piece of an image: its rows and its columns."""

    rows: Span
    columns: Span

    @property
    def core_area(self) -> int:
        """Pixels that are taken from it."""
        (top, bottom), (left, right) = self.rows.core, self.columns.core
        return (bottom - top) * (right - left)


def spans(length: int, side: int, halo: int) -> list[Span]:
    """Windows along an axis, whose cores are the axis without gap or overlap.

    Args:
        length: of the axis, in pixels.
        side: of every window; an axis that is no longer is one window.
        halo: pixels next to a cut that no core may touch.

    Raises:
        ValueError: if a window has nothing left between two halos.
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
    """An image's windows, row by row.

    Args:
        size: height and width of the image.
        sides: of a window, likewise.
        halo: pixels next to a cut that no core may touch.

    Raises:
        ValueError: if a window has nothing left between two halos.
    """
    rows, columns = (spans(*axis, halo) for axis in zip(size, sides, strict=True))
    return [Window(row, column) for row in rows for column in columns]


def bytes_per_pixel(spec: Spec) -> int:
    """Device memory that a window of a stage takes, per pixel, float32."""
    widest = max(
        max(conv.features_in, conv.features_out) / 4**conv.level
        for conv in (*spec.encoder, *spec.decoder)
    )
    return round(4 * widest * _LAYERS_AT_ONCE)


def choose_sides(size: tuple[int, int], spec: Spec, halo: int, memory: int) -> tuple[int, int]:
    """The window that fits in the memory and with which little has to be computed.

    Args:
        size: height and width of the image.
        spec: of the stage.
        halo: pixels next to a cut that no core may touch.
        memory: bytes on the device.

    Returns:
        Height and width of a window; along an axis that is no longer, the axis's own length.

    Raises:
        ValueError: if even the smallest window needs more memory.
    """
    area = min(memory // bytes_per_pixel(spec), _LARGEST_AREA)

    def sides_along(length: int) -> list[tuple[int, int]]:
        """Every side with how many of it make up the axis."""
        smallest = (2 * halo // _STEP + 1) * _STEP
        several = [
            (side, 1 - (side - length) // (side - 2 * halo))
            for side in range(smallest, length, _STEP)
        ]
        return [*several, (length, 1)]

    def fitting() -> Iterator[tuple[int, int, int]]:
        """What a window of height and width costs in all, in pixels."""
        for height, rows in along_rows:
            for width, columns in along_columns:
                if height * width > area:
                    break
                yield rows * columns * (height * width + _COST), height, width

    along_rows, along_columns = map(sides_along, size)
    best = min(fitting(), default=None)
    if best is None:
        needed = along_rows[0][0] * along_columns[0][0] * bytes_per_pixel(spec)
        raise ValueError(
            f"stage {spec.stage} needs at least {-(-needed // 10**6)} MB of device memory for a "
            f"window, not {memory // 10**6}"
        )
    square = isqrt(area) // _STEP * _STEP
    for cost, height, width in fitting():
        if height == width == square and cost <= _WORTH_SHARING * best[0]:
            return square, square
    return best[1], best[2]
