"""What a user paints on the page of `cdjax serve`."""

from pathlib import Path

import numpy as np
from PIL import Image

from cdjax.cli.page_regions import COLORS


def write_strokes(layer: Path) -> list[Path]:
    """Writes a layer of 16 x 12 pixels with strokes of two colours, and masks of each beside it."""
    alpha = np.zeros((2, 12, 16), np.uint8)
    alpha[0, 2:7, 1:9], alpha[0, 7, 1:9] = 255, 100
    alpha[1, 4:11, 9:15] = 255
    pixels = np.zeros((12, 16, 4), np.uint8)
    pixels[..., 3] = alpha.sum(0)
    masks = []
    for mask, (name, color) in zip(alpha, COLORS.items(), strict=False):
        pixels[mask > 0, :3] = color
        masks.append(layer.with_name(f"{name}.png"))
        Image.fromarray(mask).save(masks[-1])
    Image.fromarray(pixels).save(layer)
    return masks
