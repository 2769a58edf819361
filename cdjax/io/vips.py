"""Image files too large for Pillow: libvips reads regions of them and writes them in a stream.

Needs pyvips (the extra `ultra`). What pixels mean is what `cdjax.io.images` says: sRGB, upright,
the first page or frame. Unlike there, colour of 16 bits keeps its depth, and a file that is written
takes the colour profile, the resolution and the alpha channel of the one it was made of.
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
from cdjax.io.images import FORMATS

_LOADERS = ("gifload", "heifload", "jpegload", "pngload", "tiffload", "webpload")
_COLOURS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb": 3, "rgb16": 3, "scrgb": 3, "cmyk": 4}
_PROFILES = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_WHITE = {"uchar": 255, "ushort": 65535, "float": 1, "double": 1}
INTENT = "perceptual"  # Pillow's, so that both readers show the same colours


def available() -> bool:
    """Whether pyvips can be imported and finds its library; never raises."""
    try:
        import pyvips  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def library() -> Any:
    """The module `pyvips`.

    Raises:
        ImageError: if it is not there, or does not find libvips.
    """
    if not available():
        raise ImageError("images this large need libvips: pip install 'cdjax[ultra]'")
    import pyvips

    # Operations that libvips remembers keep their files open, and decoded images on the disk,
    # long after nobody uses them.
    pyvips.cache_set_max(0)
    return pyvips


@contextmanager
def reported(what: str, *, decoding: bool = False) -> Iterator[None]:
    """Turns errors of libvips and of the system into `ImageError`: `what` and, after it, why.

    Args:
        what: the file and what cannot be done with it.
        decoding: whether pixels are read. Of a broken tile of a TIFF file libvips says nothing but
            what stands in its log of errors, and goes on with black; that is an error here.
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
    # libvips tells every layer's view, one a line: the system's says most, then the first.
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    known = [line for line in lines if line.startswith("system error: ")]
    return (known or lines or ["unknown error"])[0].removeprefix("system error: ")


@dataclass(frozen=True)
class VipsImage:
    """An image file whose regions are decoded on demand; see `cdjax.tiling.buffers.Raster`.

    Files that are not tiled are decoded once, to memory or, beyond 100 MB, to a file without a
    name in the system's folder for temporary ones. One thread may read while others do not.

    Attributes:
        name: of the file, for messages.
        colours: pyvips image of 3 bands, uchar, or float in [0, 1] for files of 16 bits or more.
        alpha: pyvips image of 1 band, uchar, or None if the file has no alpha channel.
        profile: the file's ICC profile; None if it has none or one that does not fit its colours.
        xres: pixels per mm across; 1.0 if the file does not say.
        yres: pixels per mm down; likewise.
    """

    name: str
    colours: Any
    alpha: Any | None
    profile: bytes | None
    xres: float
    yres: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, 3)."""
        return self.colours.height, self.colours.width, 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, or float32 in [0, 1]."""
        return np.dtype(np.uint8 if self.colours.format == "uchar" else np.float32)

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[Any]:
        """The pixels of rows and columns.

        Args:
            region: two slices of step 1; what lies beyond the borders is left out, as of an array.

        Returns:
            (rows, columns, 3), of this image's dtype, not shared with anything.

        Raises:
            ImageError: if the file is broken there, or has samples that are not finite.
            ValueError: if a step is not 1.
        """
        (top, bottom, down), (left, right, across) = (
            part.indices(length) for part, length in zip(region, self.shape, strict=False)
        )
        if (down, across) != (1, 1):
            raise ValueError(f"regions have steps of 1, not {down} and {across}")
        height, width = max(bottom - top, 0), max(right - left, 0)
        if not height or not width:
            return np.empty((height, width, 3), self.dtype)
        with reported(f"{self.name}: broken image", decoding=True):
            block = self.colours.crop(left, top, width, height).numpy()
        if self.dtype == np.uint8:
            return block
        if not np.isfinite(block).all():
            raise ImageError(f"{self.name}: broken image (samples that are not finite)")
        return np.clip(block, 0, 1, out=block)


def open_image(path: str | os.PathLike[str]) -> VipsImage:
    """Opens TIFF (BigTIFF, tiled, pyramidal), PNG, JPEG, WebP, AVIF and GIF files of any size.

    Greyscale, palette and CMYK become RGB and an ICC profile is converted to sRGB, all of it where
    a region is read. Floating samples are taken to lie in [0, 1], as they are seen. TIFF that
    holds YCbCr without JPEG's compression is not told from RGB.

    Args:
        path: the file.

    Raises:
        ImageError: if there is no such file, or it is no image or broken, or has samples of no
            agreed meaning. Only the header is read here: reading a region may raise it too.
    """
    pyvips, name = library(), os.fspath(path)
    if not Path(path).exists():
        raise ImageError(f"{name}: no such file")
    with reported(f"{name}: cannot be read"):
        # A source, unlike a file's name, cannot hold options: `a[page=2].tif` is just a name.
        source = pyvips.Source.new_from_file(name)
    kinds = ", ".join([*dict.fromkeys(FORMATS.values()), "AVIF", "GIF"])
    with reported(f"{name}: no image, or broken, or none of {kinds}"):
        image = pyvips.Image.new_from_source(source, "", access="random", fail_on="error")
        if not image.get("vips-loader").startswith(_LOADERS):
            raise OSError(f"it is read by {image.get('vips-loader')}")
        resolution = image.xres, image.yres
        image = image.autorot()
    count = _COLOURS.get(image.interpretation, 0)
    if not 0 < count <= image.bands or image.format not in _WHITE:
        kind = f"{image.bands} bands of {image.interpretation}, {image.format}"
        raise ImageError(f"{name}: {kind}, have no agreed white; save it as RGB of 8 or 16 bits")
    with reported(f"{name}: cannot be converted to sRGB"):
        alpha = None
        if image.bands > count:
            alpha = (image[count] * (255 / _WHITE[image.format])).rint().cast("uchar")
        colours = image.extract_band(0, n=count)
        profile = _profile(image, count)
        colours = _rgb(colours, profile)
        if colours.format != "uchar":
            colours = (colours / _WHITE[colours.format]).cast("float")
        return VipsImage(name, colours, alpha, profile, *resolution)


def _profile(image: Any, count: int) -> bytes | None:
    """The image's ICC profile, if it is one of such colours; floating samples have none."""
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


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile describes itself as sRGB."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.getProfileDescription(source).startswith("sRGB")


def _rgb(colours: Any, profile: bytes | None) -> Any:
    """Three bands of sRGB, of the same samples."""
    if profile is not None and not is_srgb(profile):
        # A profile that only looks sound says nothing: the pixels are taken as they are.
        with suppress(library().Error):
            if colours.format == "uchar":
                return colours.icc_transform("srgb", embedded=True, intent=INTENT)
            # From 16 bits to 16 the transform in one step is ten levels (of 256) off near black.
            light = colours.icc_import(embedded=True, intent=INTENT)
            return light.icc_export(output_profile="srgb", intent=INTENT, depth=16)
    if colours.bands == 1:
        colours = colours.bandjoin([colours, colours])
    elif colours.bands == 4:
        # As Pillow: the same file must not change its colours with its size.
        white = _WHITE[colours.format]
        inks, black = colours.extract_band(0, n=3), colours[3]
        colours = ((white - inks) * (white - black) / white).rint().cast(colours.format)
    return colours.copy(interpretation="rgb16" if colours.format == "ushort" else "srgb")
