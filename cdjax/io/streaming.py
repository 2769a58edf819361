"""Images of any size: read as a whole, or opened so that regions are read on demand."""

import os
import weakref
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from PIL import UnidentifiedImageError

from cdjax.errors import ImageError
from cdjax.io import decoding, vips
from cdjax.io.atomic import StrPath
from cdjax.io.images import Picture, read_image, resize, resized, scaled_size
from cdjax.io.limits import (
    MAX_PIXELS,
    Header,
    LimitError,
    check_density,
    check_memory,
    check_pixels,
)
from cdjax.io.metadata import NO_METADATA
from cdjax.io.remote import Address, fetched
from cdjax.io.vips import VipsImage

STREAMED_PIXELS = 2**24
"""Images of more than 16.8 megapixels are read and written by libvips, if it is installed."""


def open_picture(
    path: StrPath, shorter_side: int | None = None, *, flat: bool = False
) -> Picture | VipsImage:
    """Reads an image, or opens a large one whose regions are read on demand.

    It may be at an `Address`. It is scaled to a shorter side in pixels; None keeps its size.
    Whichever of Pillow and libvips can read an image does. A flat one, such as a mask, may have
    many pixels in few bytes.

    Raises:
        ImageError: if it cannot be read, is too large and libvips is not installed, or would cost
            more than `cdjax.io.limits` allow.
    """
    if not isinstance(path, Address):
        return _opened(path, shorter_side, flat)
    with ExitStack() as copy:
        picture = _opened(copy.enter_context(fetched(path)), shorter_side, flat)
        if isinstance(picture, VipsImage):  # Which reads the file later.
            picture = replace(picture, name=str(path))
            weakref.finalize(picture, copy.pop_all().close)
        return picture


def _opened(path: StrPath, shorter_side: int | None, flat: bool) -> Picture | VipsImage:
    header = _checked_header(path, scaled=flat or bool(shorter_side))
    if header is not None and header.pixels > STREAMED_PIXELS and not shorter_side:
        if vips.available():
            try:
                return vips.open_image(path)
            except LimitError:
                raise
            except ImageError:  # Of a format or a fault that Pillow may know how to read.
                if header.pixels > MAX_PIXELS:
                    raise
        check_pixels(header, "to read them: pip install 'pyvips[binary]'")
    return _read_whole(path, shorter_side, header)


def _checked_header(path: StrPath, *, scaled: bool) -> Header | None:
    header = decoding.read_header(path)
    if header is not None:
        check_density(header, scaled=scaled)
    return header


def read_picture(path: StrPath, shorter_side: int | None = None) -> Picture:
    """Reads an image as a whole, scaled to a shorter side in pixels unless that is None.

    Raises:
        ImageError: as `open_picture`.
    """
    with fetched(path) as local:
        header = _checked_header(local, scaled=bool(shorter_side))
        return _read_whole(local, shorter_side, header)


def _read_whole(path: StrPath, shorter_side: int | None, header: Header | None) -> Picture:
    try:
        if header and shorter_side and header.pixels > STREAMED_PIXELS:
            return _reduced(path, shorter_side, header)
        picture = _read(path)
        return resize(picture, shorter_side) if shorter_side else picture
    except (ImageError, MemoryError) as error:
        name, reason = os.fspath(path), str(error) or "does not fit in memory"
        if reason.startswith(str(name)):
            raise
        raise ImageError(f"{name}: {reason}") from error


def _read(path: StrPath) -> Picture:
    """A picture by Pillow or, if it cannot read it, by libvips."""
    try:
        return read_image(path)
    except LimitError:
        raise
    except ImageError as error:
        if not vips.available():
            raise
        try:
            return vips.open_image(path).picture()
        except ImageError as other:
            # Of samples that Pillow does not know, libvips says what is wrong with them.
            unknown = isinstance(error.__cause__, UnidentifiedImageError)
            vague = any(text in str(other) for text in ("not an image", "unknown error"))
            raise other if unknown and not vague else error from None


def _reduced(path: StrPath, shorter_side: int, header: Header) -> Picture:
    """A large picture scaled without its full size in memory, where that is possible."""
    size = scaled_size(header.size, shorter_side)
    picture = _nearly(path, shorter_side, header)
    height, width = picture.pixels.shape[:2]
    if (height > width) != (header.size[0] > header.size[1]):  # Turned by its orientation.
        size = size[::-1]
    return resized(picture, size)


def _nearly(path: StrPath, shorter_side: int, header: Header) -> Picture:
    """The picture with a shorter side of at least twice what it will be.

    Resizing it makes no visible difference to resizing the original.
    """
    if header.format == "JPEG":
        return read_image(path, at_least=2 * shorter_side)
    if vips.available():
        try:
            return vips.read_reduced(path, shorter_side)
        except LimitError:
            raise
        except ImageError:
            pass
    check_pixels(header)
    check_memory(header, decoding.decoded_bytes(header))
    return _read(path)


def raster(picture: Picture | VipsImage) -> Any:
    """The pixels of a picture as `cdjax.stylize_by_windows` takes them."""
    return picture.pixels if isinstance(picture, Picture) else picture


def without_metadata(picture: Picture | VipsImage) -> Picture | VipsImage:
    """The picture whose file will say nothing beside its pixels."""
    return replace(picture, metadata=NO_METADATA)
