"""Images that tell which one they are, and from where a crop of them was cut."""

import io
from typing import Any

import numpy as np
from PIL import Image


def picture(number: int, width: int = 60, height: int = 44) -> Image.Image:
    """Red grows to the right, green downwards; blue tells which picture it is."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 240, width)
    pixels[..., 1] = np.linspace(0, 240, height)[:, None]
    pixels[..., 2] = 20 * number
    return Image.fromarray(pixels)


def numbers(images: np.ndarray) -> list[int]:
    return [round(blue / 20) for blue in images[..., 2].mean(axis=(1, 2))]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file
