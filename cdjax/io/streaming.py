"""Images of any size: read as a whole, or opened so that regions are read on demand."""

import os
from typing import Any

from cdjax.errors import ImageError
from cdjax.io import vips
from cdjax.io.atomic import StrPath
from cdjax.io.images import MAX_PIXELS, Picture, image_size, read_image, resize
from cdjax.io.vips import VipsImage

STREAMED_PIXELS = 2**24
"""Images of more than 16.8 megapixels are read and written by libvips, if it is installed."""


def open_picture(path: StrPath, shorter_side: int | None = None) -> Picture | VipsImage:
    """Reads an image, or opens a large one whose regions are read on demand.

    It is scaled to a shorter side in pixels; None keeps its size.

    Raises:
        ImageError: if it cannot be read, or is too large and libvips is not installed.
    """
    size = image_size(path)
    if size is not None and size[0] * size[1] > STREAMED_PIXELS and not shorter_side:
        if vips.available():
            return vips.open_image(path)
        if size[0] * size[1] > MAX_PIXELS:
            raise ImageError(
                f"{os.fspath(path)}: {size[1]}x{size[0]} pixels, more than "
                f"{MAX_PIXELS // 10**6} megapixels; to read them: pip install 'pyvips[binary]'"
            )
    picture = read_image(path)
    try:
        return resize(picture, shorter_side) if shorter_side else picture
    except (ImageError, MemoryError) as error:
        reason = str(error) or "does not fit in memory"
        raise ImageError(f"{os.fspath(path)}: {reason}") from error


def raster(picture: Picture | VipsImage) -> Any:
    """The pixels of a picture as `cdjax.stylize_by_windows` takes them."""
    return picture.pixels if isinstance(picture, Picture) else picture
