"""Image file <-> array: what a picture's pixels are, whatever way its file stores them.

Colours reach the networks as sRGB: an embedded ICC profile is converted on reading, and files
are written without one. Pictures are read upright (EXIF orientation applied), and of an animation
the first frame is taken. No other metadata passes from a file that is read to one that is written.
"""

import io
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from cdjax.errors import ImageError
from cdjax.io.atomic import write_bytes

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Suffixes of the files that can be written, and Pillow's names of their formats."""

READABLE = {**FORMATS, ".avif": "AVIF", ".bmp": "BMP", ".gif": "GIF", ".pgm": "PPM", ".ppm": "PPM"}
"""Suffixes of the files that can be read; what a file is is seen from its content, though."""

MAX_PIXELS = 2**29
"""The largest picture that is read: 536 megapixels, 2 GiB while it is decoded."""

_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
_pillow_limit = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """The pixels of an image file.

    Attributes:
        pixels: (H, W, 3) RGB, uint8, or floating in [0, 1] as 16-bit greyscale is read (float32).
        alpha: (H, W) uint8, or None for a picture that is opaque everywhere.
    """

    pixels: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None


def read_image(path: str | os.PathLike[str]) -> Picture:
    """Reads JPEG, PNG, WebP, TIFF, AVIF, BMP, GIF and PPM files of up to `MAX_PIXELS`.

    Greyscale, palette, CMYK and 1-bit pictures become RGB. Greyscale of 12 or 16 bits keeps its
    depth, floating greyscale is taken to lie in [0, 1]; colour of 16 bits is read to 8, as Pillow
    does. Colours under transparent pixels are those of the file.

    Args:
        path: the file.

    Raises:
        ImageError: if there is no such file or it is broken, no image, or too large.
    """
    name = os.fspath(path)
    try:
        with _open(path) as file:
            width, height = file.size
            if width * height > MAX_PIXELS:
                limit = f"more than the {MAX_PIXELS // 10**6} megapixels that are read"
                raise ImageError(f"{name}: {width}x{height} pixels, {limit}")
            file.load()
            ImageOps.exif_transpose(file, in_place=True)
            return picture_of(file)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(dict.fromkeys(READABLE.values()))
        raise ImageError(f"{name}: no image, or broken, or none of {kinds}") from error
    except MemoryError as error:
        raise ImageError(f"{name}: does not fit in memory") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them trip on.
        if isinstance(error, OSError) and error.errno:
            raise ImageError(f"{name}: cannot be read ({error.strerror})") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ImageError(f"{name}: broken image ({reason})") from error


def image_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Height and width of an image as it is stored, or None if Pillow cannot tell."""
    try:
        with _open(path) as file:
            return file.height, file.width
    except Exception:  # Reading it will say what is wrong.
        return None


def _open(path: str | os.PathLike[str]) -> Image.Image:
    # Only formats that Pillow decodes itself: EPS, say, would run Ghostscript. The suffix's comes
    # first, because Pillow imports all of its plugins as soon as it meets one not yet imported.
    likely = READABLE.get(Path(path).suffix.lower(), "JPEG")
    formats = dict.fromkeys((likely, *READABLE.values()))
    # Pillow's limit is a global, too low for this library; ours is checked by the caller. Files
    # are read in several threads, and only here, where the header is read, does it matter.
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=tuple(formats))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def picture_of(image: Image.Image) -> Picture:
    """The pixels of an image that Pillow has opened, in any mode; see `read_image`."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_grey(image)
    profile = image.info.get("icc_profile")
    alpha = None
    if image.has_transparency_data:
        if image.mode not in ("LA", "RGBA"):
            image = image.convert("LA" if image.mode in ("L", "La") else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
        alpha = None if (alpha == 255).all() else alpha
        # An alpha channel is no part of a profile's colours.
        image = image.getchannel("L") if image.mode == "LA" else image.convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    if profile:
        image = _srgb(image, profile)
    return Picture(np.asarray(image.convert("RGB")), alpha)


def _deep_grey(image: Image.Image) -> Picture:
    """Greyscale of more than 8 bits; Pillow hands its samples on without saying what white is."""
    samples = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        white = 1.0
        if not np.isfinite(samples).all():
            raise ValueError("samples that are not finite")
    elif image.mode == "I" and tags:
        raise ValueError("signed or 32-bit samples have no agreed white; save it with 16 bits")
    else:
        white = float(2 ** int(tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1)
    grey = samples.astype(np.float32) / np.float32(white)
    if tags.get(_PHOTOMETRIC) == 0:
        grey = 1 - grey
    grey = np.clip(grey, 0, 1)
    alpha = None
    if isinstance(transparent := image.info.get("transparency"), int):
        alpha = np.where(samples == transparent, 0, 255).astype(np.uint8)
    return Picture(np.repeat(grey[..., None], 3, axis=2), alpha)


def _srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # A conversion from sRGB to sRGB would cost time and change nothing.
        if ImageCms.getProfileDescription(source).startswith("sRGB"):
            return image
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # A broken profile says nothing: the pixels are taken as they are.


def resize(picture: Picture, shorter_side: int) -> Picture:
    """Scales a picture up or down, aspect kept (Lanczos).

    Args:
        picture: any.
        shorter_side: what its shorter side is to become, in pixels.

    Returns:
        The picture scaled, of the same dtype; the same one if it has this size already.

    Raises:
        ImageError: if the result had more than `MAX_PIXELS`.
    """
    height, width = picture.pixels.shape[:2]
    scale = shorter_side / min(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return picture
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(
            f"a shorter side of {shorter_side} would make it {size[0]}x{size[1]} pixels, more "
            f"than {MAX_PIXELS // 10**6} megapixels"
        )

    def scaled(samples: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(Image.fromarray(samples).resize(size, Image.Resampling.LANCZOS))

    alpha = None if picture.alpha is None else scaled(picture.alpha)
    if picture.pixels.dtype == np.uint8:
        return Picture(scaled(picture.pixels), alpha)
    pixels = picture.pixels.astype(np.float32, copy=False)
    channels = [scaled(np.ascontiguousarray(pixels[..., c])) for c in range(3)]
    return Picture(np.clip(np.stack(channels, axis=2), 0, 1), alpha)


def write_image(path: str | os.PathLike[str], picture: Picture, *, quality: int = 95) -> None:
    """Writes a picture as sRGB, 8 bits a sample, whole or not at all.

    Args:
        path: its suffix chooses the format (see `FORMATS`); a file that is there is replaced.
        picture: floating pixels are rounded to the nearest of 256 levels. Where the format has no
            alpha channel (JPEG), the picture is laid on white, as a browser would show it.
        quality: 1 to 100, for JPEG and WebP.

    Raises:
        ImageError: if the suffix names no format, the format cannot hold so large a picture, or
            the file cannot be written, or pixels are not finite.
        TypeError: if the pixels are neither uint8 nor floating.
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
        write_bytes(path, encoded.getvalue())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: cannot be written ({reason})") from error


def levels(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey levels, uint8, nearest to floating pixels in [0, 1]; TypeError or ImageError if none."""
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(f"pixels must be uint8 or floating in [0, 1], not {pixels.dtype}")
    if not np.isfinite(pixels).all():
        raise ImageError("pixels that are not finite cannot be written")
    scaled = pixels.astype(np.float32)
    np.clip(scaled, 0, 1, out=scaled)
    scaled *= 255
    return np.rint(scaled, out=scaled).astype(np.uint8)


def check_suffix(path: Path) -> None:
    """Raises `ImageError`, naming the formats, if a path's suffix is of none that is written."""
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise ImageError(f"{path}: unknown suffix {path.suffix!r}; images are written as {known}")


def check_size(path: Path, height: int, width: int) -> None:
    """Raises `ImageError` if the format of a path's suffix cannot hold so large a picture."""
    name = FORMATS[path.suffix.lower()]
    longest = _LONGEST_SIDE.get(name)
    if longest and max(height, width) > longest:
        raise ImageError(
            f"{path}: {width}x{height} pixels, but {name} ends at {longest} a side; "
            "write .png or .tif"
        )
