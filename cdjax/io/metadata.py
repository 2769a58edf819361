"""What image files say beside pixels: EXIF, XMP, colour profile, resolution; read and written."""

import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from PIL import Image, ImageCms, PngImagePlugin

from cdjax.io import exif as exif_data
from cdjax.io.exif import Exif
from cdjax.io.pieces import Slices

_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)([1-8])")
_JPEG_SEGMENT, _JPEG_PROFILE = 65_000, 255 * 65_000  # bytes


@dataclass(frozen=True)
class Metadata:
    """What a picture keeps when it is written.

    Attributes:
        exif: without orientation and thumbnail; None if there is none.
        xmp: XMP as it is in the file, its orientation reset to upright.
        profile: ICC profile of RGB colours; pixels in memory are sRGB nevertheless, and are
            converted when a file is written.
        resolution: pixels per inch along x and y.
    """

    exif: Exif | None = None
    xmp: bytes | None = None
    profile: bytes | None = None
    resolution: tuple[float, float] | None = None


NO_METADATA = Metadata()
"""Says nothing."""


def read_metadata(info: Mapping[Any, Any], tiff: Any = None) -> tuple[Metadata, int]:
    """Metadata and orientation, 1 to 8, of a picture.

    Args:
        info: exif, xmp, icc_profile and dpi as in `PIL.Image.Image.info`; what is broken is
            ignored.
        tiff: slices of a TIFF file, whose directory is its EXIF data.
    """
    raw = tiff if tiff is not None else info.get("exif")
    exif = exif_data.parse(raw) if raw else None
    xmp = info.get("xmp")
    xmp = xmp.encode(errors="replace") if isinstance(xmp, str) else xmp
    orientation = exif.orientation if exif else None
    if isinstance(xmp, bytes) and xmp:
        if orientation is None and (found := _ORIENTATION.search(xmp)):
            orientation = int(found[2])
        xmp = _ORIENTATION.sub(rb"\g<1>1", xmp)
    else:
        xmp = None
    profile = info.get("icc_profile")
    resolution = _sound(info.get("dpi")) or _sound(exif.resolution if exif else None)
    if orientation in (5, 6, 7, 8) and resolution:
        resolution = resolution[::-1]
    return Metadata(exif, xmp, profile if _is_rgb(profile) else None, resolution), orientation or 1


def of_pillow(image: Image.Image, source: IO[bytes]) -> tuple[Metadata, int]:
    """As `read_metadata`, of an image that Pillow has opened from a binary file."""
    return read_metadata(image.info, Slices(source) if image.format == "TIFF" else None)


def _sound(resolution: Any) -> tuple[float, float] | None:
    with suppress(TypeError, ValueError, ZeroDivisionError, OverflowError):
        x, y = (float(value) for value in resolution)
        if 1 <= x <= 65535 and 1 <= y <= 65535:
            return x, y
    return None


def _is_rgb(profile: Any) -> bool:
    if not isinstance(profile, bytes) or not profile:
        return False
    with suppress(OSError, ImageCms.PyCMSError, ValueError):
        return colour_space(profile) == "RGB"
    return False


def colour_space(profile: bytes) -> str:
    """Name of an ICC profile's colour space, such as `"RGB"`; OSError or PyCMSError if broken."""
    return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile describes itself as sRGB; OSError or PyCMSError if it is broken."""
    return ImageCms.getProfileDescription(io.BytesIO(profile)).startswith("sRGB")


def exif_bytes(metadata: Metadata, name: str, size: tuple[int, int]) -> bytes | None:
    """EXIF data for a file of a format of a picture of (height, width)."""
    resolution = metadata.resolution if metadata.exif or name == "WEBP" else None
    limit = _JPEG_SEGMENT if name == "JPEG" else 2**24
    return exif_data.build(metadata.exif, size, resolution, limit=limit)


def xmp_bytes(metadata: Metadata, name: str) -> bytes | None:
    """XMP for a file of a format; None if the format has no room for it."""
    if metadata.xmp and name == "JPEG" and len(metadata.xmp) > _JPEG_SEGMENT:
        return None
    return metadata.xmp


def save_options(metadata: Metadata, name: str, size: tuple[int, int]) -> dict[str, Any]:
    """Arguments of `PIL.Image.Image.save` that write metadata.

    TIFF files get the rest of it by `cdjax.io.exif.add_to_tiff`.
    """
    options: dict[str, Any] = {}
    if metadata.resolution and name != "WEBP":
        options["dpi"] = metadata.resolution
    if metadata.profile and (name != "JPEG" or len(metadata.profile) <= _JPEG_PROFILE):
        options["icc_profile"] = metadata.profile
    if name == "TIFF":
        return options
    if data := exif_bytes(metadata, name, size):
        options["exif"] = b"Exif\0\0" + data
    if xmp := xmp_bytes(metadata, name):
        if name == "PNG":
            text = PngImagePlugin.PngInfo()
            text.add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
            options["pnginfo"] = text
        else:
            options["xmp"] = xmp
    return options
