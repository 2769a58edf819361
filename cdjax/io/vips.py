"""Reads regions of image files that are too large for Pillow, with libvips.

Needs pyvips (the extra `ultra`). As in `cdjax.io.images`, pixels are sRGB, the orientation is
applied and the first page or frame is read. Unlike there, colour of 16 bits keeps its depth.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from cdjax.errors import ImageError
from cdjax.io.atomic import StrPath
from cdjax.io.images import FORMATS, is_srgb

_LOADERS = ("gifload", "heifload", "jpegload", "pngload", "tiffload", "webpload")
_COLOURS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb": 3, "rgb16": 3, "scrgb": 3, "cmyk": 4}
_PROFILES = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_WHITE = {"uchar": 255, "ushort": 65535, "float": 1, "double": 1}
INTENT = "perceptual"
"""Rendering intent of colour conversions; the one of Pillow, so that both readers agree."""


def library() -> Any:
    """The module `pyvips`; ImageError if it is not installed, or does not find libvips."""
    try:
        import pyvips
    except (ImportError, OSError) as error:
        message = "images this large need libvips: pip install 'pyvips[binary]'"
        raise ImageError(message) from error
    # The cache of operations would keep files open and decoded images on the disk after their use.
    pyvips.cache_set_max(0)
    return pyvips


def available() -> bool:
    """Whether pyvips can be imported and finds libvips; never raises."""
    with suppress(ImageError):
        return bool(library())
    return False


@contextmanager
def reported(what: str, *, decoding: bool = False) -> Iterator[None]:
    """Turns errors of libvips and of the system into `ImageError`.

    Args:
        what: beginning of the message, to which the reason is added.
        decoding: whether pixels are read. libvips reads a broken tile of a TIFF file as black and
            writes to its error log only; this raises an error then.
    """
    pyvips = library()
    if decoding:
        pyvips.vips_lib.vips_error_clear()
    try:
        yield
        if decoding and (left := pyvips.ffi.string(pyvips.vips_lib.vips_error_buffer())):
            pyvips.vips_lib.vips_error_clear()
            raise ImageError(f"{what} ({_reason(left.decode(errors='replace'))})")
    except OSError as error:
        raise ImageError(f"{what} ({error.strerror or error})") from error
    except pyvips.Error as error:
        raise ImageError(f"{what} ({_reason(error.detail)})") from error


def _reason(detail: str) -> str:
    # libvips gives one line per layer; the line of the system is the most helpful, then the first.
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    known = [line for line in lines if line.startswith("system error: ")]
    return (known or lines or ["unknown error"])[0].removeprefix("system error: ")


@dataclass(frozen=True)
class VipsImage:
    """An image file whose regions are decoded on demand; see `cdjax.tiling.buffers.Raster`.

    Files that are not tiled are decoded once, to memory or, above 100 MB, to an unnamed file in the
    system's temporary folder. Only one thread may read at a time.

    Attributes:
        name: the file's name, for messages.
        colours: pyvips image of 3 bands, uchar, or float in [0, 1] for files of 16 bits or more.
        alpha: pyvips image of 1 band, uchar, or None if the file has no alpha channel.
        profile: the file's ICC profile; None if it has none or one of another colour space.
        resolution: pixels per mm along x and y; 1.0 if the file does not say.
    """

    name: str
    colours: Any
    alpha: Any | None
    profile: bytes | None
    resolution: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, 3)."""
        return self.colours.height, self.colours.width, 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, or float32 in [0, 1]."""
        return np.dtype(np.uint8 if self.colours.format == "uchar" else np.float32)

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[Any]:
        """The pixels of two slices of step 1, clipped to the image as those of an array.

        Returns:
            (rows, columns, 3), of this image's dtype, a new array.

        Raises:
            ImageError: if the region is broken, or has samples that are not finite.
            ValueError: if a step is not 1.
        """
        (top, bottom, down), (left, right, across) = (
            part.indices(length) for part, length in zip(region, self.shape, strict=False)
        )
        if (down, across) != (1, 1):
            raise ValueError(f"slices must have steps of 1, not {down} and {across}")
        height, width = max(bottom - top, 0), max(right - left, 0)
        if not height or not width:
            return np.empty((height, width, 3), self.dtype)
        with reported(f"{self.name}: broken image", decoding=True):
            block = self.colours.crop(left, top, width, height).numpy()
        if self.dtype == np.uint8:
            return block
        if not np.isfinite(block).all():
            raise ImageError(f"{self.name}: broken image (samples are not finite)")
        return np.clip(block, 0, 1, out=block)


def open_image(path: StrPath) -> VipsImage:
    """Opens TIFF (BigTIFF, tiled, pyramidal), PNG, JPEG, WebP, AVIF and GIF files of any size.

    Greyscale, palette and CMYK become RGB and an ICC profile is converted to sRGB when a region is
    read. Floating-point samples are taken to be sRGB in [0, 1]. TIFF files of YCbCr without JPEG
    compression are read as if they were RGB.

    Raises:
        ImageError: if the file does not exist, is not an image, is broken, or has samples of
            unknown meaning. Only the header is read here; reading a region may raise it too.
    """
    pyvips, name = library(), os.fspath(path)
    if not Path(path).exists():
        raise ImageError(f"{name}: no such file")
    with reported(f"{name}: cannot be read"):
        # In a file name, libvips would take brackets for options, as in `a[page=2].tif`.
        source = pyvips.Source.new_from_file(name)
    kinds = ", ".join([*dict.fromkeys(FORMATS.values()), "AVIF", "GIF"])
    with reported(f"{name}: not an image, or broken, or not one of {kinds}"):
        image = pyvips.Image.new_from_source(source, "", access="random", fail_on="error")
        if not image.get("vips-loader").startswith(_LOADERS):
            raise OSError(f"its reader would be {image.get('vips-loader')}")
        resolution = image.xres, image.yres
        image = image.autorot()
    count = _COLOURS.get(image.interpretation, 0)
    if not 0 < count <= image.bands or image.format not in _WHITE:
        kind = f"{image.bands} bands of {image.interpretation}, {image.format}"
        raise ImageError(f"{name}: cannot interpret {kind}; save it as RGB of 8 or 16 bits")
    with reported(f"{name}: cannot be converted to sRGB"):
        alpha = None
        if image.bands > count:
            alpha = (image[count] * (255 / _WHITE[image.format])).rint().cast("uchar")
        colours = image.extract_band(0, n=count)
        profile = _profile(image, count)
        colours = _rgb(colours, profile)
        if colours.format != "uchar":
            colours = (colours / _WHITE[colours.format]).cast("float")
        return VipsImage(name, colours, alpha, profile, resolution)


def _profile(image: Any, count: int) -> bytes | None:
    """The ICC profile if it fits the number of colours; floating-point samples have none."""
    if _WHITE[image.format] == 1 or not image.get_typeof("icc-profile-data"):
        return None
    data = bytes(image.get("icc-profile-data"))
    with suppress(OSError, ImageCms.PyCMSError):
        if colour_space(data) == _PROFILES[count]:
            return data
    return None


def colour_space(profile: bytes) -> str:
    """Name of an ICC profile's colour space, such as `"RGB"`; OSError or PyCMSError if broken."""
    return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()


def _rgb(colours: Any, profile: bytes | None) -> Any:
    """Three bands of sRGB, of the same format."""
    if profile is not None and not is_srgb(profile):
        # A broken profile is ignored.
        with suppress(library().Error):
            if colours.format == "uchar":
                return colours.icc_transform("srgb", embedded=True, intent=INTENT)
            # For 16 bits a transform in one step has errors of 10 of 256 levels near black.
            light = colours.icc_import(embedded=True, intent=INTENT)
            return light.icc_export(output_profile="srgb", intent=INTENT, depth=16)
    if colours.bands == 1:
        colours = colours.bandjoin([colours, colours])
    elif colours.bands == 4:
        # As in Pillow, so that colours do not depend on which reader a file's size selects.
        white = _WHITE[colours.format]
        inks, black = colours.extract_band(0, n=3), colours[3]
        colours = ((white - inks) * (white - black) / white).rint().cast(colours.format)
    return colours.copy(interpretation="rgb16" if colours.format == "ushort" else "srgb")
