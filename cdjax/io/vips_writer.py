"""Images of any size written by libvips in a stream; needs pyvips (the extra `ultra`).

A file takes the colour profile, the resolution and the alpha channel of the image it was made from.
"""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax.errors import ImageError, first_line
from cdjax.io.atomic import StrPath, atomic_file
from cdjax.io.images import FORMATS, check_size, check_suffix, is_srgb
from cdjax.io.vips import INTENT, VipsImage, colour_space, library, reported

_UNKNOWN_RESOLUTION = 1.0  # the resolution that libvips gives files without one
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
        like: the image whose profile, resolution and alpha channel the file gets; None for none.
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
    if like is not None and like.resolution[0] != _UNKNOWN_RESOLUTION:
        image = image.copy(xres=like.resolution[0], yres=like.resolution[1])
    what = f"{path}: cannot be written"
    try:
        with reported(what), atomic_file(path, overwrite=overwrite) as temporary:
            image = _in_profile(image, like.profile if like else None)
            with reported(what, decoding=True):
                _save(image, str(temporary), kind, quality)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Such as those of colour management.
        raise ImageError(f"{what} ({first_line(error)})") from error


def _in_profile(image: Any, profile: bytes | None) -> Any:
    """An sRGB image converted to an RGB profile and tagged with it; unchanged if impossible."""
    if profile is None or colour_space(profile) != "RGB":
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


def _save(image: Any, name: str, kind: str, quality: int) -> None:
    if kind == "TIFF":
        big = image.width * image.height * image.bands * 4 / 3 > _CLASSIC_TIFF
        packed = {"compression": "deflate", "predictor": "horizontal"}
        tiles = {"tile": True, "tile_width": 256, "tile_height": 256, "pyramid": True}
        image.tiffsave(name, **packed, **tiles, bigtiff=big)
    elif kind == "PNG":
        image.pngsave(name, filter="all")
    elif kind == "JPEG":
        image.jpegsave(name, Q=quality, subsample_mode="off")
    else:
        image.webpsave(name, Q=quality)
