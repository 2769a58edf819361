"""Grids of pictures beside each other, with names."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_HEADER = 14


def picture_grid(columns: Mapping[str, NDArray[np.uint8]]) -> Image.Image:
    """A row for each image and a column, with its name, for each set of images, (N, H, W, 3)."""
    pictures = np.concatenate([np.concatenate(images) for images in columns.values()], axis=1)
    pictures = np.pad(pictures, ((_HEADER, 0), (0, 0), (0, 0)), constant_values=255)
    image = Image.fromarray(pictures)
    width = image.width // len(columns)
    for i, name in enumerate(columns):
        ImageDraw.Draw(image).text((i * width + 2, 1), name, fill="black")
    return image
