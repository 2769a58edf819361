"""Reads image files into arrays and writes arrays into image files.

Pixels in memory are sRGB and upright, and the first frame of an animation is read. A written file
keeps the EXIF data, the XMP, the resolution and the RGB profile of the image it was made from;
colours are converted to this profile.
"""

import io
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageCms

from cdjax.errors import ImageError, first_line
from cdjax.io import decoding
from cdjax.io.alpha import fill_hidden, resize_with_alpha
from cdjax.io.atomic import StrPath, write_bytes
from cdjax.io.decoding import OpenImage
from cdjax.io.exif import add_to_tiff
from cdjax.io.formats import FORMATS as FORMATS
from cdjax.io.limits import MAX_PIXELS, too_narrow
from cdjax.io.metadata import NO_METADATA, Metadata, is_srgb, save_options

_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
_STRIP_PIXELS = 2**24
"""Larger images are converted in strips, which takes less memory."""


@dataclass(frozen=True)
class Picture:
    """The pixels of an image file.

    Attributes:
        pixels: (H, W, 3) RGB, uint8, or floating-point in [0, 1]; greyscale of more than 8 bits is
            read as float32.
        alpha: (H, W) uint8, or None for an opaque picture.
        metadata: what a file that is made of the picture keeps.
    """

    pixels: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None
    metadata: Metadata = NO_METADATA


def read_image(path: StrPath, *, at_least: int | None = None) -> Picture:
    """Reads an image file of a format in `cdjax.io.formats`, of up to `MAX_PIXELS`.

    Greyscale, palette, CMYK and 1-bit pictures become RGB. Greyscale of 12 or 16 bits keeps its
    depth; floating-point greyscale is taken to lie in [0, 1]. Colour of 16 bits is reduced to 8 by
    Pillow. Pixels that are fully transparent get the colours of their neighbours. Broken metadata
    is ignored.

    Args:
        path: the file.
        at_least: a JPEG file is decoded at 1/2, 1/4 or 1/8 of its size if its shorter side does not
            become shorter than this; None: as it is.

    Raises:
        ImageError: if the file does not exist, is broken, is not an image, or is too large.
    """
    try:
        with decoding.opened(path) as file:
            if at_least is not None:
                file.draft(at_least)
            return decoded(file)
    except ImageError as error:
        raise _named(path, error) from error
    except Exception as error:  # Pillow's decoders raise exceptions of many kinds on broken files.
        raise _named(path, ImageError(decoding.reason(error))) from error


def _named(path: StrPath, error: ImageError) -> ImageError:
    name = str(path)
    return error if str(error).startswith(name) else type(error)(f"{name}: {error}")


def image_size(path: StrPath) -> tuple[int, int] | None:
    """Height and width of an image as stored (orientation not applied), or None if unreadable."""
    with suppress(ImageError):
        header = decoding.read_header(path)
        return None if header is None else header.size
    return None


def decoded(file: OpenImage) -> Picture:
    """The picture of an open file; any exception if it is broken."""
    picture = picture_of(file.upright())
    pixels = fill_hidden(picture.pixels, picture.alpha)
    return Picture(pixels, picture.alpha, file.metadata)


def picture_of(image: Image.Image) -> Picture:
    """The pixels of an image opened by Pillow, in any mode; see `read_image`."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_grey(image)
    to_srgb = None
    if profile := image.info.get("icc_profile"):
        with suppress(ImageCms.PyCMSError, OSError, ValueError):  # A broken profile is ignored.
            if not is_srgb(profile):  # A conversion would take time and change nothing.
                to_srgb = _to_srgb(image, profile)
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    alpha = np.empty((height, width), np.uint8) if image.has_transparency_data else None
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        part = slice(top, min(top + rows, height))
        strip = image if rows >= height else image.crop((0, part.start, width, part.stop))
        if alpha is not None:
            if strip.mode not in ("LA", "RGBA"):
                strip = strip.convert("LA" if strip.mode in ("L", "La") else "RGBA")
            alpha[part] = np.asarray(strip.getchannel("A"))
            # A profile does not cover the alpha channel.
            strip = strip.getchannel("L") if strip.mode == "LA" else strip.convert("RGB")
        elif strip.mode not in ("RGB", "L", "CMYK"):
            strip = strip.convert("RGB")
        if to_srgb:
            strip = ImageCms.applyTransform(strip, to_srgb) or strip
        pixels[part] = np.asarray(strip.convert("RGB"))
    return Picture(pixels, None if alpha is None or (alpha == 255).all() else alpha)


def _to_srgb(image: Image.Image, profile: bytes) -> Any:
    """The transform of an image's colours to sRGB; PyCMSError if the profile does not fit them."""
    mode = image.mode
    if image.has_transparency_data:
        mode = "L" if mode in ("L", "La", "LA") else "RGB"
    elif mode not in ("RGB", "L", "CMYK"):
        mode = "RGB"
    target = ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(io.BytesIO(profile), target, mode, "RGB")


def _deep_grey(image: Image.Image) -> Picture:
    """Greyscale of more than 8 bits; Pillow does not say which value is white."""
    samples = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        white = 1.0
        if not np.isfinite(samples).all():
            raise ValueError("samples are not finite")
        if np.count_nonzero(samples > 1) * 2 > np.count_nonzero(samples > 0):
            raise ValueError(unknown_white(float(samples.max())))
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


def unknown_white(highest: float) -> str:
    """Why floating-point samples that are mostly above 1 are refused."""
    return (
        f"floating-point samples of up to {highest:g}, not 1: the value of white is unknown; "
        "divide them by it, or save it with 16 bits"
    )


def resize(picture: Picture, shorter_side: int) -> Picture:
    """Scales a picture to a shorter side in pixels with Lanczos resampling, keeping its aspect.

    Returns:
        The scaled picture, of the same dtype; `picture` itself if it already has this size. Colours
        count by their alpha.

    Raises:
        ImageError: if the result would have more than `MAX_PIXELS`.
    """
    return resized(picture, scaled_size(picture.pixels.shape[:2], shorter_side))


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """Does what `resize` does, to a (height, width)."""
    if size == picture.pixels.shape[:2]:
        return picture
    pixels, alpha = resize_with_alpha(picture.pixels, picture.alpha, size)
    return replace(picture, pixels=pixels, alpha=alpha)


def scaled_size(size: tuple[int, ...], shorter_side: int) -> tuple[int, int]:
    """The (height, width) of an image of a size, scaled to a shorter side.

    Raises:
        ImageError: if it has more than `MAX_PIXELS`, or is too long and narrow.
    """
    height, width = size
    scale = shorter_side / min(height, width)
    result = max(1, round(height * scale)), max(1, round(width * scale))
    made = f"a shorter side of {shorter_side} would make it {result[1]}x{result[0]} pixels"
    if result[0] * result[1] > MAX_PIXELS:
        raise ImageError(f"{made}, more than {MAX_PIXELS // 10**6} megapixels")
    if too_narrow(result):
        raise ImageError(f"{made}, too long and narrow; cut it into pieces")
    return result


def write_image(
    path: StrPath, picture: Picture | ArrayLike, *, quality: int = 95, overwrite: bool = True
) -> None:
    """Writes a picture with 8 bits per sample, and its metadata, whole or not at all.

    Colours are converted to the profile of the metadata, or are sRGB. JPEG has no room for XMP, and
    EXIF entries, beyond 64 KB.

    Args:
        path: its suffix chooses the format (see `FORMATS`).
        picture: a `Picture`, or its pixels alone. Floating-point pixels are rounded to the nearest
            of 256 levels. JPEG has no alpha channel: the picture is composed over white, as a
            browser shows it.
        quality: 1 to 100, for JPEG and WebP.
        overwrite: whether an existing file is replaced; its mode is kept.

    Raises:
        ImageError: if the suffix is unknown, the picture is too large for the format, pixels are
            not finite, the file exists and is not to be replaced, or it cannot be written.
        TypeError: if the pixels are neither uint8 nor floating-point.
        ValueError: if their shape is not (H, W, 3), or floating-point ones alone are of 0 to 255.
    """
    path = Path(path)
    check_suffix(path)
    if not isinstance(picture, Picture):
        picture = Picture(np.asarray(picture))
        if picture.pixels.dtype != np.uint8 and picture.pixels.max(initial=0) > 1.5:
            raise ValueError("pixels must be uint8 or in [0, 1]: divide 0 to 255 by 255")
    if picture.pixels.ndim != 3 or picture.pixels.shape[2] != 3:
        raise ValueError(f"pixels must be (H, W, 3), not {picture.pixels.shape}")
    size: tuple[int, int] = picture.pixels.shape[:2]
    check_size(path, *size)
    name = FORMATS[path.suffix.lower()]
    pixels = fill_hidden(levels(np.asarray(picture.pixels)), picture.alpha)
    image, metadata = _in_profile(Image.fromarray(pixels), picture.metadata)
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
    options |= save_options(metadata, name, size)
    try:
        # Encoded in memory: codecs that write to a file may not notice that the disk is full.
        encoded = io.BytesIO()
        image.save(encoded, format=name, **options)
        if name == "TIFF":
            encoded.seek(0)
            add_to_tiff(encoded, metadata.exif, metadata.xmp, size)
        write_bytes(path, encoded.getvalue(), overwrite=overwrite)
    except MemoryError:
        raise
    except Exception as error:  # Codecs raise exceptions of many kinds.
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ImageError(f"{path}: cannot be written ({reason})") from error


def _in_profile(image: Image.Image, metadata: Metadata) -> tuple[Image.Image, Metadata]:
    """An sRGB image in the colours of a profile, and metadata with that profile if it can be."""
    profile = metadata.profile
    if profile is None:
        return image, metadata
    try:
        if not is_srgb(profile):
            source, target = ImageCms.createProfile("sRGB"), io.BytesIO(profile)
            image = ImageCms.profileToProfile(image, source, target) or image
    except (ImageCms.PyCMSError, OSError, ValueError):  # Some only convert from their colours.
        return image, replace(metadata, profile=None)
    return image, metadata


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
