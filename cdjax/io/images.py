"""Reads image files into arrays and writes arrays into image files.

Pixels are sRGB: an embedded ICC profile is converted on reading, and files are written without one.
The EXIF orientation is applied, and the first frame of an animation is read. No other metadata is
kept.
"""

import io
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from cdjax.errors import ImageError, first_line
from cdjax.io.atomic import StrPath, write_bytes

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Suffixes of files that can be written, and Pillow's names of their formats."""

READABLE = {**FORMATS, ".avif": "AVIF", ".bmp": "BMP", ".gif": "GIF", ".pgm": "PPM", ".ppm": "PPM"}
"""Suffixes of files that can be read; the format of a file is recognised by its content."""

MAX_PIXELS = 2**29
"""Pixels of the largest image that is read: 536 megapixels, 2 GiB while it is decoded."""

_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
_pillow_limit = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """The pixels of an image file.

    Attributes:
        pixels: (H, W, 3) RGB, uint8, or floating-point in [0, 1]; greyscale of more than 8 bits is
            read as float32.
        alpha: (H, W) uint8, or None for an opaque picture.
    """

    pixels: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None


def read_image(path: StrPath) -> Picture:
    """Reads JPEG, PNG, WebP, TIFF, AVIF, BMP, GIF and PPM files of up to `MAX_PIXELS`.

    Greyscale, palette, CMYK and 1-bit pictures become RGB. Greyscale of 12 or 16 bits keeps its
    depth; floating-point greyscale is taken to lie in [0, 1]. Colour of 16 bits is reduced to 8 by
    Pillow. Colours of transparent pixels are those of the file.

    Raises:
        ImageError: if the file does not exist, is broken, is not an image, or is too large.
    """
    name = os.fspath(path)
    try:
        with _open(path) as file:
            width, height = file.size
            if width * height > MAX_PIXELS:
                limit = f"more than the limit of {MAX_PIXELS // 10**6} megapixels"
                raise ImageError(f"{name}: {width}x{height} pixels, {limit}")
            file.load()
            ImageOps.exif_transpose(file, in_place=True)
            return picture_of(file)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise exceptions of many kinds on broken files.
        raise ImageError(f"{name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "no such file"
        case UnidentifiedImageError():
            kinds = ", ".join(dict.fromkeys(READABLE.values()))
            return f"not an image, or broken, or not one of {kinds}"
        case MemoryError():
            return "does not fit in memory"
        case OSError(errno=int()):
            return f"cannot be read ({error.strerror})"
    return f"broken image ({first_line(error)})"


def image_size(path: StrPath) -> tuple[int, int] | None:
    """Height and width of an image as stored (orientation not applied), or None if unreadable."""
    try:
        with _open(path) as file:
            return file.height, file.width
    except Exception:  # `read_image` reports what is wrong.
        return None


def _open(path: StrPath) -> Image.Image:
    # Only formats that Pillow decodes itself; EPS, for example, would run Ghostscript. The suffix's
    # format comes first, because Pillow imports all plugins to look for one not yet imported.
    likely = READABLE.get(Path(path).suffix.lower(), "JPEG")
    formats = dict.fromkeys((likely, *READABLE.values()))
    # Pillow's limit is a global variable and too low; `read_image` checks ours. It matters only
    # while the header is read. The lock is there because files are read in several threads.
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=tuple(formats))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def picture_of(image: Image.Image) -> Picture:
    """The pixels of an image opened by Pillow, in any mode; see `read_image`."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_grey(image)
    profile = image.info.get("icc_profile")
    alpha = None
    if image.has_transparency_data:
        if image.mode not in ("LA", "RGBA"):
            image = image.convert("LA" if image.mode in ("L", "La") else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
        alpha = None if (alpha == 255).all() else alpha
        # A profile does not cover the alpha channel.
        image = image.getchannel("L") if image.mode == "LA" else image.convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    if profile:
        image = _srgb(image, profile)
    return Picture(np.asarray(image.convert("RGB")), alpha)


def _deep_grey(image: Image.Image) -> Picture:
    """Greyscale of more than 8 bits; Pillow does not say which value is white."""
    samples = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        white = 1.0
        if not np.isfinite(samples).all():
            raise ValueError("samples are not finite")
    elif image.mode == "I" and tags:
        raise ValueError(
            "the value of white in signed or 32-bit samples is unknown; save it with 16 bits"
        )
    else:
        white = float(2 ** int(tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1)
    grey = samples.astype(np.float32) / np.float32(white)
    grey = np.clip(1 - grey if tags.get(_PHOTOMETRIC) == 0 else grey, 0, 1)
    alpha = None
    if isinstance(transparent := image.info.get("transparency"), int):
        alpha = np.where(samples == transparent, 0, 255).astype(np.uint8)
    return Picture(np.repeat(grey[..., None], 3, axis=2), alpha)


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile describes itself as sRGB; OSError or PyCMSError if it is broken."""
    return ImageCms.getProfileDescription(io.BytesIO(profile)).startswith("sRGB")


def _srgb(image: Image.Image, profile: bytes) -> Image.Image:
    with suppress(ImageCms.PyCMSError, OSError, ValueError):  # A broken profile is ignored.
        if not is_srgb(profile):  # A conversion would take time and change nothing.
            source, target = io.BytesIO(profile), ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image
    return image


def resize(picture: Picture, shorter_side: int) -> Picture:
    """Scales a picture to a shorter side in pixels with Lanczos resampling, keeping its aspect.

    Returns:
        The scaled picture, of the same dtype; `picture` itself if it already has this size.

    Raises:
        ImageError: if the result would have more than `MAX_PIXELS`.
    """
    height, width = picture.pixels.shape[:2]
    scale = shorter_side / min(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return picture
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(
            f"a shorter side of {shorter_side} would make it {size[0]}x{size[1]} pixels, more than "
            f"{MAX_PIXELS // 10**6} megapixels"
        )

    def scaled(samples: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(Image.fromarray(samples).resize(size, Image.Resampling.LANCZOS))

    alpha = None if picture.alpha is None else scaled(picture.alpha)
    if picture.pixels.dtype == np.uint8:
        return Picture(scaled(picture.pixels), alpha)
    pixels = picture.pixels.astype(np.float32, copy=False)
    channels = [scaled(np.ascontiguousarray(pixels[..., c])) for c in range(3)]
    return Picture(np.clip(np.stack(channels, axis=2), 0, 1), alpha)


def write_image(
    path: StrPath, picture: Picture, *, quality: int = 95, overwrite: bool = True
) -> None:
    """Writes a picture as sRGB with 8 bits per sample, whole or not at all.

    Args:
        path: its suffix chooses the format (see `FORMATS`).
        picture: floating-point pixels are rounded to the nearest of 256 levels. JPEG has no alpha
            channel: the picture is composed over white, as a browser shows it.
        quality: 1 to 100, for JPEG and WebP.
        overwrite: whether an existing file is replaced; its mode is kept.

    Raises:
        ImageError: if the suffix is unknown, the picture is too large for the format, pixels are
            not finite, the file exists and is not to be replaced, or it cannot be written.
        TypeError: if the pixels are neither uint8 nor floating-point.
    """
    path = Path(path)
    check_suffix(path)
    check_size(path, *picture.pixels.shape[:2])
    name = FORMATS[path.suffix.lower()]
    image = Image.fromarray(levels(picture.pixels))
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
        if name == "JPEG":
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
    options: dict[str, Any] = {"quality": quality} if name in ("JPEG", "WEBP") else {}
    if name == "JPEG":
        options["subsampling"] = "4:4:4"
    elif name == "TIFF":
        options["compression"] = "tiff_lzw"
    try:
        # Encoded in memory: codecs that write to a file may not notice that the disk is full.
        encoded = io.BytesIO()
        image.save(encoded, format=name, **options)
        write_bytes(path, encoded.getvalue(), overwrite=overwrite)
    except MemoryError:
        raise
    except Exception as error:  # Codecs raise exceptions of many kinds.
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ImageError(f"{path}: cannot be written ({reason})") from error


def levels(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The uint8 levels nearest to floating-point pixels in [0, 1]; uint8 pixels are not changed.

    Raises:
        ImageError: if pixels are not finite.
        TypeError: if the pixels are neither uint8 nor floating-point.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(f"pixels must be uint8 or floating-point in [0, 1], not {pixels.dtype}")
    if not np.isfinite(pixels).all():
        raise ImageError("pixels that are not finite cannot be written")
    scaled = pixels.astype(np.float32)
    np.clip(scaled, 0, 1, out=scaled)
    scaled *= 255
    return np.rint(scaled, out=scaled).astype(np.uint8)


def check_suffix(path: Path) -> None:
    """Raises `ImageError` if images with the suffix of a path cannot be written."""
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise ImageError(f"{path}: unknown suffix {path.suffix!r}; images are written as {known}")


def check_size(path: Path, height: int, width: int) -> None:
    """Raises `ImageError` if an image is too large for the format of a path's suffix."""
    name = FORMATS[path.suffix.lower()]
    longest = _LONGEST_SIDE.get(name)
    if longest and max(height, width) > longest:
        raise ImageError(
            f"{path}: {width}x{height} pixels, but {name} is limited to {longest} per side; "
            "write .png or .tif"
        )
