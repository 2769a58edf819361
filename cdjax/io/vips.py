"""Image files too large for Pillow: libvips reads regions of them and writes them in a stream.

Needs pyvips (the extra `ultra`). What pixels mean is what `cdjax.io.images` says: sRGB, upright,
the first page or frame. Unlike there, colour of 16 bits keeps its depth, and a file that is written
takes the colour profile, the resolution and the alpha channel of the one it was made of.
"""

import io
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from cdjax.errors import ImageError
from cdjax.io.images import (
    FORMATS,
    check_size,
    check_suffix,
)

_LOADERS = ("gifload", "heifload", "jpegload", "pngload", "tiffload", "webpload")
_COLOURS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb": 3, "rgb16": 3, "scrgb": 3, "cmyk": 4}
_PROFILES = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_WHITE = {"uchar": 255, "ushort": 65535, "float": 1, "double": 1}
_UNKNOWN_RESOLUTION = 1.0  # what libvips says of files without one
_SCREEN = 72 / 25.4  # pixels per mm, for the files that must have a resolution
_CLASSIC_TIFF = 3_500_000_000
_INTENT = "perceptual"  # Pillow's, so that both readers show the same colours


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
        if _colour_space(data) == _PROFILES[count]:
            return data
    return None


def _colour_space(profile: bytes) -> str:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()


def _is_srgb(profile: bytes) -> bool:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.getProfileDescription(source).startswith("sRGB")


def _rgb(colours: Any, profile: bytes | None) -> Any:
    """Three bands of sRGB, of the same samples."""
    if profile is not None and not _is_srgb(profile):
        # A profile that only looks sound says nothing: the pixels are taken as they are.
        with suppress(library().Error):
            if colours.format == "uchar":
                return colours.icc_transform("srgb", embedded=True, intent=_INTENT)
            # From 16 bits to 16 the transform in one step is ten levels (of 256) off near black.
            light = colours.icc_import(embedded=True, intent=_INTENT)
            return light.icc_export(output_profile="srgb", intent=_INTENT, depth=16)
    if colours.bands == 1:
        colours = colours.bandjoin([colours, colours])
    elif colours.bands == 4:
        # As Pillow: the same file must not change its colours with its size.
        white = _WHITE[colours.format]
        inks, black = colours.extract_band(0, n=3), colours[3]
        colours = ((white - inks) * (white - black) / white).rint().cast(colours.format)
    return colours.copy(interpretation="rgb16" if colours.format == "ushort" else "srgb")


def image_of(pixels: NDArray[np.uint8], like: VipsImage | None, *, flat: bool = False) -> Any:
    """A pyvips image in sRGB that reads an array where it lies, with the alpha channel of `like`.

    Args:
        pixels: (H, W, 3) uint8, an array or a file mapped to memory; copied only if it is not
            contiguous.
        like: the image it was made of, or None.
        flat: lays it on white instead of keeping the alpha channel.

    Raises:
        TypeError: if the pixels are not uint8.
        ValueError: if their shape is another, or `like` has alpha and another size.
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
        raise ValueError(f"{pixels.shape} pixels cannot have the alpha channel of {like.shape}")
    image = image.bandjoin(like.alpha)
    return image.flatten(background=255) if flat else image


def write_image(
    path: str | os.PathLike[str],
    pixels: NDArray[np.uint8],
    *,
    like: VipsImage | None,
    quality: int = 95,
) -> None:
    """Writes pixels of any number, whole or not at all.

    TIFF is tiled and pyramidal, and BigTIFF where it would not fit otherwise. The colours are
    those of `like`'s profile, which is embedded, if it is one of RGB, else sRGB.

    Args:
        path: its suffix chooses the format (see `cdjax.io.images.FORMATS`); a file that is there is
            replaced. JPEG has no alpha channel: the picture is laid on white.
        pixels: (H, W, 3) uint8 in sRGB, an array or a file mapped to memory.
        like: the image whose profile, resolution and alpha channel the file gets; None for none.
        quality: 1 to 100, for JPEG and WebP.

    Raises:
        ImageError: if the suffix names no format, the format cannot hold so large a picture, or
            the file cannot be written.
        TypeError: if the pixels are not uint8.
        ValueError: if their shape is another, or `like` has alpha and another size.
    """
    path = Path(path)
    check_suffix(path)
    kind = FORMATS[path.suffix.lower()]
    image = image_of(pixels, like, flat=kind == "JPEG")
    check_size(path, image.height, image.width)
    if like is not None and like.xres != _UNKNOWN_RESOLUTION:
        image = image.copy(xres=like.xres, yres=like.yres)
    temporary = path.with_name(f".cdjax-{secrets.token_hex(8)}.part")
    try:
        what = f"{path}: cannot be written"
        with reported(what), open(temporary, "xb") as file:
            image = _in_profile(image, like.profile if like else None)
            with reported(what, decoding=True):
                _save(image, str(temporary), kind, quality)
            os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _in_profile(image: Any, profile: bytes | None) -> Any:
    """An sRGB image in the colours of a profile, which is attached; as it is if that cannot be."""
    if profile is None or _colour_space(profile) != "RGB":
        return image
    pyvips = library()
    if _is_srgb(profile):
        image = image.copy()
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        return image
    with tempfile.NamedTemporaryFile(suffix=".icc") as file:
        file.write(profile)
        file.flush()
        # Profiles of scanners, say, tell what colours are, but not how to make them.
        with suppress(pyvips.Error):
            return image.icc_transform(file.name, input_profile="srgb", intent=_INTENT)
    return image


def _save(image: Any, name: str, kind: str, quality: int) -> None:
    if kind == "TIFF":
        pyramid = image.width * image.height * image.bands * 4 / 3
        image.tiffsave(
            name,
            compression="deflate",
            predictor="horizontal",
            tile=True,
            tile_width=256,
            tile_height=256,
            pyramid=True,
            bigtiff=pyramid > _CLASSIC_TIFF,
        )
    elif kind == "PNG":
        image.pngsave(name, filter="all")
    elif kind == "JPEG":
        image.jpegsave(name, Q=quality, subsample_mode="off")
    else:
        image.webpsave(name, Q=quality)
