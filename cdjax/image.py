"""Image file <-> array: what a picture's pixels are, whatever way its file stores them.

Colours reach the networks as sRGB: an embedded ICC profile is converted on reading. Pictures
are read upright (EXIF orientation applied) and of an animation the first frame is taken.
"""

import io
import os
import struct
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Suffixes of the files that can be written, and Pillow's names of their formats."""

_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class ImageError(ValueError):
    """A file that cannot be read or written as an image; the message names it and says why."""


@dataclass(frozen=True)
class Picture:
    """The pixels of an image file.

    Attributes:
        pixels: (H, W, 3) RGB, uint8, or float32 in [0, 1] where the file has 16 bits a sample.
        alpha: (H, W) uint8, or None for a picture that is opaque everywhere.
    """

    pixels: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None


def read_image(path: str | os.PathLike[str]) -> Picture:
    """Reads JPEG, PNG, WebP, TIFF and whatever else Pillow knows.

    Greyscale, palette, CMYK and 1-bit pictures become RGB; 16-bit greyscale keeps its depth. Up
    to 178 megapixels, Pillow's own limit against decompression bombs.

    Args:
        path: the file.

    Raises:
        ImageError: if there is no such file or it is broken, no image, or too large.
    """
    try:
        with warnings.catch_warnings():
            # Large pictures are what this library is for; the hard limit still holds.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                file.load()
                return _picture(ImageOps.exif_transpose(file))
    except FileNotFoundError as error:
        raise ImageError(f"{os.fspath(path)}: no such file") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise ImageError(f"{os.fspath(path)}: more than {limit} megapixels") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{os.fspath(path)}: not an image that can be read") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise ImageError(f"{os.fspath(path)}: broken image ({reason})") from error


def _picture(image: Image.Image) -> Picture:
    if image.mode in _DEEP_MODES or image.mode == "F":
        scale = 1.0 if image.mode == "F" else 65535.0
        grey = np.clip(np.asarray(image).astype(np.float32) / scale, 0, 1)
        return Picture(np.repeat(grey[..., None], 3, axis=2))
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        alpha = None if (alpha == 255).all() else alpha
    return Picture(np.asarray(_srgb(image)), alpha)


def _srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode == "RGBA":
        image = image.convert("RGB")
    if profile and image.mode in ("RGB", "L", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            return converted if converted is not None else image.convert("RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # A broken profile says nothing: the pixels are taken as they are.
    return image.convert("RGB")


def resize(picture: Picture, shorter_side: int) -> Picture:
    """The picture with its shorter side `shorter_side` pixels long, aspect kept (Lanczos)."""
    height, width = picture.pixels.shape[:2]
    scale = shorter_side / min(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return picture

    def scaled(samples: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(Image.fromarray(samples).resize(size, Image.Resampling.LANCZOS))

    alpha = None if picture.alpha is None else scaled(picture.alpha)
    if picture.pixels.dtype == np.uint8:
        return Picture(scaled(picture.pixels), alpha)
    channels = [scaled(np.ascontiguousarray(picture.pixels[..., c])) for c in range(3)]
    return replace(picture, pixels=np.clip(np.stack(channels, axis=2), 0, 1), alpha=alpha)


def write_image(path: str | os.PathLike[str], picture: Picture, *, quality: int = 95) -> None:
    """Writes a picture, 8 bits a sample, whole or not at all.

    Args:
        path: its suffix chooses the format (see `FORMATS`).
        picture: float pixels are rounded to the nearest of 256 levels. Where the format has no
            alpha channel (JPEG), the picture is laid on white.
        quality: 1 to 100, for JPEG and WebP.

    Raises:
        ImageError: if the suffix names no format, the format cannot hold so large a picture, or
            the file cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    pixels = picture.pixels
    if pixels.dtype != np.uint8:
        pixels = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    name = FORMATS[path.suffix.lower()]
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
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            temporary = file.name
            image.save(file, format=name, **options)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be written ({error})") from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def check_suffix(path: Path) -> None:
    """Raises `ImageError`, naming the formats, if a path's suffix is of none that is written."""
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise ImageError(f"{path}: unknown suffix {path.suffix!r}; images are written as {known}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
