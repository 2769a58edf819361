"""Regions painted on the page of `cdjax serve`: a colour for each painting becomes a mask."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cdjax.errors import UsageError
from cdjax.io.images import Picture, image_size, write_image
from cdjax.io.streaming import read_picture

COLORS = {
    "red": (228, 26, 28),
    "blue": (30, 110, 240),
    "yellow": (255, 221, 0),
    "green": (40, 160, 70),
    "violet": (160, 60, 190),
    "white": (255, 255, 255),
}
"""The brush colours of the first painting, the second and so on."""
_EXACT = 30
"""Sum of differences up to which a pixel has a colour; others lie between two strokes."""
_LARGEST = 2048
"""Shorter side, in pixels, to which larger layers are scaled."""


def write_masks(layer: Path | None, paintings: int, folder: Path) -> tuple[Path, ...]:
    """Writes the masks of what is painted; none if nothing is.

    Args:
        layer: a picture of the strokes, transparent elsewhere.
        paintings: how many there are.
        folder: where the masks are written.

    Raises:
        ImageError: if the layer cannot be read.
        UsageError: as `masks_of`.
    """
    if layer is None:
        return ()
    size = image_size(layer)
    found = masks_of(read_picture(layer, min(*size, _LARGEST) if size else None), paintings)
    folder.mkdir()
    written = []
    for number, mask in enumerate(found, 1):
        written.append(folder / f"mask{number}.png")
        write_image(written[-1], Picture(np.repeat(mask[..., None], 3, axis=2)))
    return tuple(written)


def masks_of(layer: Picture, paintings: int) -> list[NDArray[np.uint8]]:
    """A mask for each painting, (H, W): how opaque its colour is; empty if nothing is painted.

    With one painting, every colour counts. Pixels at the edge of two strokes, whose colours are
    mixed, count as the most similar one beside them.

    Raises:
        UsageError: if a colour is used for which there is no painting.
    """
    alpha = layer.alpha
    if alpha is None:
        alpha = np.full(layer.pixels.shape[:2], 255, np.uint8)
    if not alpha.any():
        return []
    if paintings == 1:
        return [alpha]
    values = layer.pixels.astype(np.int16)
    colors = np.asarray([*COLORS.values()], np.int16)
    distances = np.stack([abs(values - color).sum(-1, dtype=np.int16) for color in colors])
    exact = distances <= _EXACT
    for number, name in enumerate(COLORS):
        if number >= paintings and (exact[number] & (alpha == 255)).any():
            raise UsageError(f"{name} is for painting {number + 1}, but there are {paintings}")
    owners = _owners(distances[:paintings], exact[:paintings])
    return [np.where(owners == number, alpha, 0) for number in range(paintings)]


def _owners(distances: NDArray[np.int16], exact: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The index of the colour that each pixel counts as."""
    near = ImageFilter.MaxFilter(3)
    beside = [np.asarray(Image.fromarray(found * np.uint8(1)).filter(near)) > 0 for found in exact]
    nobody = ~np.any(beside, axis=0)
    far = np.iinfo(np.int16).max
    return np.where(beside | nobody, distances, far).argmin(0)
