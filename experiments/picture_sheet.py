"""Pictures beside each other on one sheet: a row a pair of content and style, a column a method."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from experiments.picture_pairs import Squares

_GAP = 4
_SMALLEST = 8  # A font below this cannot be read.
_LINE = 1.25


@dataclass(frozen=True)
class Column:
    """A column of the sheet: what is written above it, and a picture a row."""

    title: str
    pictures: Squares


def margins(size: int) -> tuple[int, int]:
    """Pixels left of the first column, for the rows' names, and above the first row, for titles."""
    return round(0.4 * size), round(0.3 * size)


def cell(row: int, column: int, size: int) -> tuple[int, int]:
    """Where the picture of a row and a column begins: pixels from the left and from the top."""
    left, top = margins(size)
    return left + column * (size + _GAP), top + row * (size + _GAP)


def draw_sheet(columns: Sequence[Column], names: Sequence[str], *, size: int) -> Squares:
    """The sheet as one picture, at the pictures' own size, on white.

    Args:
        columns: each with a picture a row.
        names: of the rows, lines separated by line ends.
        size: pixels a side of every picture.

    Returns:
        (H, W, 3), uint8.

    Raises:
        ValueError: if a column has not one picture a row of that size.
    """
    shape = (len(names), size, size, 3)
    for column in columns:
        if column.pictures.shape != shape:
            raise ValueError(f"{column.title}: pictures {column.pictures.shape}, not {shape}")
    width, height = cell(len(names), len(columns), size)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    left, top = margins(size)
    for i, column in enumerate(columns):
        x, _ = cell(0, i, size)
        _write(draw, column.title, (x, 0, size, top), largest=size // 12, centred=True)
        for j, picture in enumerate(column.pictures):
            sheet.paste(Image.fromarray(picture), cell(j, i, size))
    for j, name in enumerate(names):
        _, y = cell(j, 0, size)
        _write(draw, name, (0, y, left, size), largest=size // 16, centred=False)
    return np.asarray(sheet)


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: tuple[int, int, int, int],
    *,
    largest: int,
    centred: bool,
) -> None:
    """Lines in the middle of a box (left, top, width, height), as large as they fit."""
    left, top, width, height = box
    lines, room = text.split("\n"), width - 2 * _GAP
    size = max(_SMALLEST, min(largest, round(height / (_LINE * len(lines) + 0.5))))
    font = ImageFont.load_default(size=size)
    while size > _SMALLEST and max(draw.textlength(line, font=font) for line in lines) > room:
        size -= 1
        font = ImageFont.load_default(size=size)
    y = top + (height - _LINE * size * len(lines)) / 2
    for line in lines:
        shown = _shortened(draw, line, font, room)
        spare = room - draw.textlength(shown, font=font) if centred else 0
        draw.text((left + _GAP + spare / 2, y), shown, fill="black", font=font)
        y += _LINE * size


def _shortened(draw: ImageDraw.ImageDraw, line: str, font: object, room: int) -> str:
    """A line cut off where it would leave its box."""
    shown = line
    while shown and draw.textlength(shown, font=font) > room:  # type: ignore[arg-type]
        line = line[:-1]
        shown = f"{line}..." if line else ""
    return shown
