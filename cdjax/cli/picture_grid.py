"""Grids of pictures beside each other, with names."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_HEADER = 14
_GAP = 6


def picture_grid(columns: Mapping[str, NDArray[np.uint8]]) -> Image.Image:
    """A row for each image and a column, with its name, for each set of images, (N, H, W, 3)."""
    pictures = np.concatenate([np.concatenate(images) for images in columns.values()], axis=1)
    pictures = np.pad(pictures, ((_HEADER, 0), (0, 0), (0, 0)), constant_values=255)
    image = Image.fromarray(pictures)
    width = image.width // len(columns)
    for i, name in enumerate(columns):
        ImageDraw.Draw(image).text((i * width + 2, 1), name, fill="black")
    return image


class Sheet:
    """A white image of cells, each with room for a name above a picture.

    Args:
        rows: of cells.
        columns: of cells.
        side: pixels of the longer side of the pictures.

    Attributes:
        side: as given.
        image: the sheet so far.
    """

    def __init__(self, rows: int, columns: int, side: int) -> None:
        self.side = side
        height, width = self.size(rows, columns, side)
        self.image = Image.new("RGB", (width, height), "white")

    @staticmethod
    def size(rows: int, columns: int, side: int) -> tuple[int, int]:
        """Height and width of a sheet."""
        return rows * (_HEADER + side + _GAP) + _GAP, columns * (side + _GAP) + _GAP

    def put(self, row: int, column: int, picture: NDArray[np.uint8]) -> None:
        """Shows a picture, (H, W, 3), both at most `side`, in the middle of a cell."""
        top, left = self._corner(row, column)
        height, width = picture.shape[:2]
        left, top = left + (self.side - width) // 2, top + (self.side - height) // 2
        self.image.paste(Image.fromarray(picture), (left, top))

    def name(self, row: int, column: int, text: str) -> None:
        """Writes a name above a picture; of a long one, the beginning and the end."""
        top, left = self._corner(row, column)
        draw, kept = ImageDraw.Draw(self.image), text
        while draw.textlength(text) > self.side and len(kept) > 2:
            # Names that begin alike often differ in their ends.
            kept = kept[: (len(kept) - 1) // 2] + kept[-(len(kept) // 2) :]
            text = f"{kept[: len(kept) // 2]}...{kept[len(kept) // 2 :]}"
        draw.text((left, top - _HEADER + 1), text, fill="black")

    def _corner(self, row: int, column: int) -> tuple[int, int]:
        """Top and left of the picture of a cell."""
        top, left = self.size(row, column, self.side)
        return top + _HEADER, left
