"""Reads regions of image files that are too large for Pillow, with libvips.

Needs pyvips (the extra `ultra`). As in `cdjax.io.images`, pixels are sRGB, the orientation is
applied and the first page or frame is read. Unlike there, colour of 16 bits keeps its depth.
"""

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from cdjax.errors import ImageError
from cdjax.io.alpha import fill_hidden
from cdjax.io.atomic import StrPath
from cdjax.io.containers import take_apart
from cdjax.io.images import FORMATS, Picture, unknown_white
from cdjax.io.libvips import available as available
from cdjax.io.libvips import library as library
from cdjax.io.libvips import reported as reported
from cdjax.io.limits import Header, check_disk, check_memory, file_bytes
from cdjax.io.metadata import Metadata, colour_space, is_srgb, read_metadata
from cdjax.io.pieces import Slices

_LOADERS = ("gifload", "heifload", "jpegload", "pngload", "ppmload", "tiffload", "webpload")
_DECODED_WHOLE = {"gifload": 8, "heifload": 15, "webpload": 8}  # bytes a pixel
_SEVERAL_PASSES = ("interlaced", "jpeg-multiscan")
_BLOCKS = 512  # along the longer side, for the colours of hidden pixels
_PROFILE = "icc-profile-data"
_COLOURS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb": 3, "rgb16": 3, "scrgb": 3, "cmyk": 4}
_PROFILES = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_WHITE = {"uchar": 255, "ushort": 65535, "float": 1, "double": 1}
INTENT = "perceptual"
"""Rendering intent of colour conversions; the one of Pillow, so that both readers agree."""


@dataclass(frozen=True)
class VipsImage:
    """An image file whose regions are decoded on demand; see `cdjax.tiling.buffers.Raster`.

    Files that are not tiled are decoded once, to memory or, above 100 MB, to an unnamed file in the
    system's temporary folder. Only one thread may read at a time.

    Attributes:
        name: the file's name, for messages.
        colours: pyvips image of 3 bands, uchar, or float in [0, 1] for files of 16 bits or more.
        alpha: pyvips image of 1 band, uchar, or None if the file has no alpha channel.
        metadata: what a file that is made of the image keeps.
    """

    name: str
    colours: Any
    alpha: Any | None
    metadata: Metadata

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
        block = read_region(self.colours, region, self.name)
        if self.dtype == np.uint8:
            return block
        if not np.isfinite(block).all():
            raise ImageError(f"{self.name}: broken image (samples are not finite)")
        return np.clip(block, 0, 1, out=block)

    def picture(self) -> Picture:
        """The whole image in memory; raises `ImageError` if it is broken."""
        alpha = None
        if self.alpha is not None:
            with reported(f"{self.name}: broken image", decoding=True):
                alpha = self.alpha.numpy()
            alpha = None if (alpha == 255).all() else alpha
        return Picture(fill_hidden(self[:, :], alpha), alpha, self.metadata)


def read_region(image: Any, region: tuple[slice, slice], name: str) -> NDArray[Any]:
    """The pixels of two slices of a pyvips image, as `VipsImage` reads them; one band has no axis.

    Raises:
        ImageError: if the region is broken; the file's name is that of the error.
        ValueError: if a step is not 1.
    """
    (top, bottom, down), (left, right, across) = (
        part.indices(length)
        for part, length in zip(region, (image.height, image.width), strict=True)
    )
    if (down, across) != (1, 1):
        raise ValueError(f"slices must have steps of 1, not {down} and {across}")
    height, width = max(bottom - top, 0), max(right - left, 0)
    if not height or not width:
        bands = (image.bands,) if image.bands > 1 else ()
        return np.empty(
            (height, width, *bands), np.uint8 if image.format == "uchar" else np.float32
        )
    with reported(f"{name}: broken image", decoding=True):
        pixels: NDArray[Any] = image.crop(left, top, width, height).numpy()
    return pixels


def open_image(path: StrPath) -> VipsImage:
    """Opens TIFF (BigTIFF, tiled, pyramidal), PNG, JPEG, WebP, AVIF, GIF and PPM files of any size.

    Greyscale, palette and CMYK become RGB and an ICC profile is converted to sRGB when a region is
    read. Floating-point samples are taken to be sRGB in [0, 1]. TIFF files of YCbCr without JPEG
    compression are read as if they were RGB. Broken metadata is ignored.

    Raises:
        ImageError: if the file does not exist, is not an image, is broken, has samples of unknown
            meaning, or is beyond `cdjax.io.limits`. Of a tiled file only the header is read here;
            reading a region may raise it too.
    """
    name = os.fspath(path)
    image = _load(path, "random")
    metadata, orientation = _metadata(image, path)
    if _loader(image) != "heifload":  # It has turned the pixels already.
        image = image.copy()
        image.set_type(library().GValue.gint_type, "orientation", orientation)
        image = image.autorot()
    opened = _interpreted(image, name, metadata)
    if opened.alpha is not None:
        with reported(f"{name}: broken image", decoding=True):
            opened = replace(opened, colours=_filled(opened.colours, opened.alpha))
    # A file that is not tiled is decoded as a whole once a pixel is read, and its faults are found.
    with reported(f"{name}: broken image", decoding=True):
        opened.colours.crop(0, 0, 1, 1).numpy()
        if _WHITE[image.format] == 1:
            _check_white(opened)
    return opened


def read_reduced(path: StrPath, shorter_side: int) -> Picture:
    """Reads an image scaled to about twice a shorter side, or not at all if it is smaller.

    Rows are read and reduced one after the other, so that memory does not grow with their number.

    Raises:
        ImageError: as `open_image`.
    """
    name = os.fspath(path)
    image = _load(path, "sequential")
    metadata, orientation = _metadata(image, path)
    heif = _loader(image) == "heifload"
    opened = _interpreted(image, name, metadata)
    factor = max(1, int(min(opened.shape[:2]) / (2 * shorter_side)))
    with reported(f"{name}: broken image", decoding=True):
        colours, alpha = opened.colours.cast("float"), opened.alpha
        if alpha is not None:
            colours = (colours * (alpha / 255)).bandjoin(alpha.cast("float"))
        colours = colours.shrink(factor, factor)
        if alpha is not None:
            alpha = colours[3]
            # Where nothing is visible, `fill_hidden` finds the colours.
            colours = colours.extract_band(0, n=3) * 255 / (alpha == 0).ifthenelse(1, alpha)
            colours = colours.bandjoin(alpha)
        if not heif:
            colours = colours.copy()
            colours.set_type(library().GValue.gint_type, "orientation", orientation)
            colours = colours.autorot()
        samples = colours.copy_memory().numpy()
    pixels, levels = samples[..., :3], None
    if samples.shape[2] == 4:
        levels = np.rint(samples[..., 3]).astype(np.uint8)
    if opened.dtype == np.uint8:
        pixels = np.rint(pixels).clip(0, 255).astype(np.uint8)
    pixels = fill_hidden(np.ascontiguousarray(pixels), levels)
    return Picture(pixels, levels, metadata)


def _load(path: StrPath, access: str) -> Any:
    """The image as the file has it, opened by libvips."""
    pyvips, name = library(), os.fspath(path)
    kinds = ", ".join([*dict.fromkeys(FORMATS.values()), "AVIF", "GIF", "PPM"])
    if not os.path.exists(path):
        raise ImageError(f"{name}: no such file")
    with reported(f"{name}: cannot be read"), open(path, "rb") as file:
        jpeg = file.read(2) == b"\xff\xd8"
        file.seek(0)
        # In a file name, libvips would take brackets for options, as in `a[page=2].tif`, and its
        # names are UTF-8.
        source = pyvips.Source.new_from_descriptor(file.fileno())
        # Stray bytes in a JPEG file are errors to libvips, but not to Pillow and to browsers.
        strict = "truncated" if jpeg else "error"
        with reported(f"{name}: not an image, or broken, or not one of {kinds}"):
            image = pyvips.Image.new_from_source(source, "", access=access, fail_on=strict)
            if _loader(image) not in _LOADERS:
                raise OSError(f"its reader would be {image.get('vips-loader')}")
    _check_cost(image, path, access)
    return image


def _loader(image: Any) -> str:
    """The loader's name without its kind of source, such as `"pngload"`."""
    return str(image.get("vips-loader")).partition("load")[0] + "load"


def _check_cost(image: Any, path: StrPath, access: str) -> None:
    """Raises `LimitError` if decoding takes more memory or temporary disk than there should be."""
    size = image.height, image.width
    header = Header(os.fspath(path), "", size, file_bytes(path))
    if _loader(image) in _DECODED_WHOLE:
        check_memory(header, _DECODED_WHOLE[_loader(image)])
    elif any(image.get_typeof(name) and image.get(name) for name in _SEVERAL_PASSES):
        check_memory(header, 6 if image.bands > 1 else 2)
    if access == "random" and _loader(image) != "tiffload":
        needed = header.pixels * image.bands * (2 if image.format == "ushort" else 1)
        check_disk(header, needed, Path(tempfile.gettempdir()))


def _metadata(image: Any, path: StrPath) -> tuple[Metadata, int]:
    """Metadata and orientation of an image just loaded."""
    info: dict[str, Any] = {}
    for name, key in (("exif", "exif-data"), ("xmp", "xmp-data"), ("icc_profile", _PROFILE)):
        if image.get_typeof(key):
            info[name] = bytes(image.get(key))
    tiff = _loader(image) == "tiffload"
    if image.xres != 1 and _loader(image) not in ("jpegload", "tiffload"):
        info["dpi"] = image.xres * 25.4, image.yres * 25.4
    with open(path, "rb") as file:
        if not tiff:
            part = take_apart(file, header=True)
            return read_metadata(info | (part.info if part else {}))
        return read_metadata(info, Slices(file))


def _interpreted(image: Any, name: str, metadata: Metadata) -> VipsImage:
    """The colours of an image as sRGB, and its alpha channel; decoded on demand."""
    count = _COLOURS.get(image.interpretation, 0)
    if not 0 < count <= image.bands or image.format not in _WHITE:
        kind = f"{image.bands} bands of {image.interpretation}, {image.format}"
        raise ImageError(f"{name}: cannot interpret {kind}; save it as RGB of 8 or 16 bits")
    with reported(f"{name}: cannot be converted to sRGB"):
        alpha = None
        if image.bands > count:
            alpha = (image[count] * (255 / _WHITE[image.format])).rint().cast("uchar")
        colours = _rgb(image.extract_band(0, n=count), _profile(image, count))
        if colours.format != "uchar":
            colours = (colours / _WHITE[colours.format]).cast("float")
        return VipsImage(name, colours, alpha, metadata)


def _filled(colours: Any, alpha: Any) -> Any:
    """Colours that are those of the visible pixels around where alpha is 0.

    As `cdjax.io.alpha.fill_hidden`, but from means over blocks of pixels.
    """
    if alpha.min() > 0:
        return colours
    factor = -(-max(colours.width, colours.height) // _BLOCKS)
    visible = (colours * (alpha / 255)).bandjoin(alpha).cast("float")
    means = visible.shrink(factor, factor, ceil=True).numpy()
    weight = means[..., 3:]
    blocks = np.divide(means[..., :3] * 255, weight, out=means[..., :3], where=weight > 0)
    blocks = fill_hidden(blocks, np.ceil(weight[..., 0]).astype(np.uint8))
    blocks = np.ascontiguousarray(blocks)
    height, width = blocks.shape[:2]
    shared = library().Image.new_from_memory(blocks, width, height, 3, "float")
    # The sum is an image of its own, whose memory outlives the array's.
    spread = (shared + 0).copy_memory().resize(factor, kernel="nearest")
    if colours.format == "uchar":
        spread = spread.rint()
    spread = spread.crop(0, 0, colours.width, colours.height).cast(colours.format)
    return (alpha == 0).ifthenelse(spread, colours)


def _check_white(image: VipsImage) -> None:
    """Raises `ImageError` if floating-point samples are mostly above 1."""
    if 2 * (image.colours > 1).avg() > (image.colours > 0).avg():
        raise ImageError(f"{image.name}: {unknown_white(image.colours.max())}")


def _profile(image: Any, count: int) -> bytes | None:
    """The ICC profile if it fits the number of colours; floating-point samples have none."""
    if _WHITE[image.format] == 1 or not image.get_typeof(_PROFILE):
        return None
    data = bytes(image.get(_PROFILE))
    with suppress(OSError, ImageCms.PyCMSError):
        if colour_space(data) == _PROFILES[count]:
            return data
    return None


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
