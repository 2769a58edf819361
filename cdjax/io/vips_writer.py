"""Images of any size written by libvips in a stream; needs pyvips (the extra `ultra`).

A file takes the alpha channel and the metadata of the image it was made from.
"""

import io
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cdjax.errors import ImageError, first_line
from cdjax.io.atomic import StrPath, atomic_file
from cdjax.io.containers import PNG_HEADER, insert, png_xmp
from cdjax.io.exif import add_to_tiff
from cdjax.io.images import FORMATS, check_size, check_suffix
from cdjax.io.metadata import NO_METADATA, Metadata, exif_bytes, is_srgb, xmp_bytes
from cdjax.io.vips import INTENT, VipsImage, library, reported

_SCREEN = 72 / 25.4  # pixels per mm, for formats that must have a resolution
_CLASSIC_TIFF = 3_500_000_000  # bytes of samples above which a file is written as BigTIFF


def image_of(pixels: NDArray[np.uint8], like: VipsImage | None, *, flat: bool = False) -> Any:
    """An sRGB pyvips image of pixels with the alpha channel of `like`; see `write_image`.

    It shares the memory of the pixels if they are contiguous. If `flat`, it is composed over white
    instead of keeping the alpha channel.
    """
    if pixels.dtype != np.uint8:
        raise TypeError(f"pixels must be uint8, not {pixels.dtype}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"pixels must be (H, W, 3), not {pixels.shape}")
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels)
    image = library().Image.new_from_memory(data, width, height, 3, "uchar")
    image = image.copy(interpretation="srgb", xres=_SCREEN, yres=_SCREEN)
    if like is None or like.alpha is None:
        return image
    if pixels.shape != like.shape:
        raise ValueError(f"pixels {pixels.shape} do not fit the alpha channel of {like.shape}")
    image = image.bandjoin(like.alpha)
    return image.flatten(background=255) if flat else image


def write_image(
    path: StrPath,
    pixels: NDArray[np.uint8],
    *,
    like: VipsImage | None,
    quality: int = 95,
    overwrite: bool = True,
) -> None:
    """Writes an image of any size, whole or not at all.

    TIFF is tiled and pyramidal, and BigTIFF above 3.5 GB of samples. If `like` has an RGB profile,
    colours are converted to it and it is embedded; otherwise they are sRGB.

    Args:
        path: its suffix chooses the format (see `cdjax.io.images.FORMATS`). JPEG has no alpha
            channel: the picture is composed over white.
        pixels: (H, W, 3) uint8 in sRGB, an array or a file mapped to memory.
        like: the image whose metadata and alpha channel the file gets; None for none.
        quality: 1 to 100, for JPEG and WebP.
        overwrite: whether an existing file is replaced; its mode is kept.

    Raises:
        ImageError: if the suffix is unknown, the picture is too large for the format, the file
            exists and is not to be replaced, or it cannot be written.
        TypeError: if the pixels are not uint8.
        ValueError: if their shape is not (H, W, 3), or `like` has alpha and another size.
    """
    path = Path(path)
    check_suffix(path)
    kind = FORMATS[path.suffix.lower()]
    image = image_of(pixels, like, flat=kind == "JPEG")
    check_size(path, image.height, image.width)
    metadata = NO_METADATA if like is None else like.metadata
    what = f"{path}: cannot be written"
    try:
        with reported(what), atomic_file(path, overwrite=overwrite) as temporary:
            image = _described(_in_profile(image, metadata.profile), metadata, kind)
            with reported(what, decoding=True):
                # Otherwise libvips writes EXIF data of its own.
                exif = metadata.exif is not None or metadata.resolution is not None
                keep = [*["exif"] * exif, "xmp", "icc"]
                _save(image, os.fsencode(temporary), kind, quality, ":".join(keep))
            with open(temporary, "rb+") as file:
                if kind == "TIFF":
                    add_to_tiff(file, metadata.exif, metadata.xmp, (image.height, image.width))
                elif kind == "PNG" and metadata.xmp:
                    # libvips would write plain text, where few look for it.
                    insert(file, PNG_HEADER, png_xmp(metadata.xmp))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Such as those of colour management.
        raise ImageError(f"{what} ({first_line(error)})") from error


def _in_profile(image: Any, profile: bytes | None) -> Any:
    """An sRGB image converted to an RGB profile and tagged with it; unchanged if impossible."""
    if profile is None:
        return image
    pyvips = library()
    if is_srgb(profile):
        image = image.copy()
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        return image
    with tempfile.NamedTemporaryFile(suffix=".icc") as file:
        file.write(profile)
        file.flush()
        # Some profiles, such as those of scanners, only convert from their colours.
        with suppress(pyvips.Error):
            return image.icc_transform(file.name, input_profile="srgb", intent=INTENT)
    return image


def _described(image: Any, metadata: Metadata, kind: str) -> Any:
    """An image with the resolution, EXIF data and XMP that a file of a kind gets."""
    image = image.copy()
    if metadata.resolution:
        x, y = (value / 25.4 for value in metadata.resolution)
        image = image.copy(xres=x, yres=y)
    pyvips = library()
    if kind != "TIFF" and (data := exif_bytes(metadata, kind, (image.height, image.width))):
        # libvips writes the entries that it has read itself, here from a picture of one pixel.
        tiny = io.BytesIO()
        Image.new("L", (1, 1)).save(tiny, "PNG", exif=data)
        read = pyvips.Image.new_from_buffer(tiny.getvalue(), "")
        for name in read.get_fields():
            if name.startswith("exif-"):
                image.set_type(read.get_typeof(name), name, read.get(name))
    if kind in ("JPEG", "WEBP") and (xmp := xmp_bytes(metadata, kind)):
        image.set_type(pyvips.GValue.blob_type, "xmp-data", xmp)
    return image


def _save(image: Any, name: bytes, kind: str, quality: int, keep: str) -> None:
    if kind == "TIFF":
        big = image.width * image.height * image.bands * 4 / 3 > _CLASSIC_TIFF
        packed = {"compression": "deflate", "predictor": "horizontal"}
        tiles = {"tile": True, "tile_width": 256, "tile_height": 256, "pyramid": True}
        image.tiffsave(name, **packed, **tiles, bigtiff=big, keep=keep)
    elif kind == "PNG":
        image.pngsave(name, filter="all", keep=keep)
    elif kind == "JPEG":
        image.jpegsave(name, Q=quality, subsample_mode="off", keep=keep)
    else:
        image.webpsave(name, Q=quality, keep=keep)
