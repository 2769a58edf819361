"""Image files opened by Pillow, without the faults of their metadata and within limits."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from cdjax.errors import ImageError, first_line
from cdjax.io import tiff
from cdjax.io.containers import JPEG, PNG, Container, take_apart
from cdjax.io.formats import HEIF_HINT, READABLE, RECOGNISED, likely_format
from cdjax.io.limits import (
    Header,
    LimitError,
    check_header,
    check_held,
    check_memory,
    check_pixel_bytes,
    check_pixels,
    check_scans,
    most_pixel_bytes,
)
from cdjax.io.metadata import Metadata, of_pillow
from cdjax.io.pieces import joined, metered

_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_HEADER_BYTES = 2**22
"""Decoders of most formats find the size of the picture before; some look at every byte."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DECODED_WHOLE = {"WEBP": 10, "AVIF": 4, "HEIF": 4, "GIF": 4}
"""Bytes a pixel that decoders hold besides the picture."""


class _Unlimited:
    """A context without Pillow's limit of pixels: it is too low; ours are checked in its place.

    The limit is a global variable, and files are read in several threads: it returns when the last
    of them is done.
    """

    def __init__(self) -> None:
        self._lock, self._users, self._limit = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                Image.MAX_IMAGE_PIXELS = self._limit


_unlimited = _Unlimited()


@dataclass
class OpenImage:
    """An image whose pixels are not decoded yet.

    Attributes:
        image: as Pillow opened it.
        header: what is known of it.
        metadata: what is kept of it.
        orientation: 1 to 8, to be applied to the decoded pixels.
    """

    image: Image.Image
    header: Header
    metadata: Metadata
    orientation: int

    def draft(self, shorter_side: float) -> None:
        """Has a JPEG file decoded at 1/2, 1/4 or 1/8 of its size, but not below a shorter side."""
        scale = shorter_side / min(self.image.size)
        width, height = self.image.size
        self.image.draft(None, (round(width * scale), round(height * scale)))

    def upright(self) -> Image.Image:
        """Decodes the pixels and turns them.

        Raises:
            LimitError: if that would take too much memory.
            Exception: of any kind, if the image is broken.
        """
        drafted = self.image.size != self.header.size[::-1] and self.image.format == "JPEG"
        if drafted:  # A progressive file is held as coefficients.
            check_memory(self.header, 6 if self.header.progressive else 0)
        else:
            check_pixels(self.header)
            check_memory(self.header, decoded_bytes(self.header))
        # Other decoders look at the limit for pictures within the picture, which we do not know.
        with _unlimited if self.image.format == "TIFF" else nullcontext():
            self.image.load()
        turn = _TURNS.get(self.orientation)
        return self.image if turn is None else self.image.transpose(turn)


def decoded_bytes(header: Header) -> int:
    """Bytes a pixel that reading an image as an array takes with Pillow, at most."""
    more = _DECODED_WHOLE.get(header.format, 0)
    more += 4 * min(header.samples, 4) if header.format == "JPEG2000" else 0  # 32 bits a sample
    more += 6 if header.progressive and header.format == "JPEG" else 0
    return header.samples + 3 + more


def read_header(path: str | os.PathLike[str]) -> Header | None:
    """What is known of an image from the beginning of its file; None if that cannot be read.

    Raises:
        ImageError: if it is broken or beyond the limits of `cdjax.io.limits`.
    """
    try:
        with path.open("rb") if isinstance(path, Path) else open(path, "rb") as file:
            part = take_apart(file, header=True)
            if part is not None:
                header = _header_of(part, os.fspath(path), _length(file))
            else:
                image = _of_other_format(file, os.fspath(path), likely_format(Path(path)))
                header = _header(os.fspath(path), image, _length(file))
    except Exception:  # Whoever reads the image reports what is wrong.
        return None
    check_header(header)
    return header


@contextmanager
def opened(source: str | os.PathLike[str] | IO[bytes]) -> Iterator[OpenImage]:
    """Opens an image file, or one in memory, and closes it at the end of the context.

    Raises:
        ImageError: if the file is beyond the limits of `cdjax.io.limits`.
        Exception: of any kind, from Pillow, if it is broken or no image.
    """
    if not isinstance(source, str | os.PathLike):
        yield _open(source, "image", "JPEG")
        return
    with open(source, "rb") as file:
        yield _open(file, os.fspath(source), likely_format(Path(source)))


def _open(file: IO[bytes], name: str, likely: str) -> OpenImage:
    part = take_apart(file, header=True)
    if part is None:
        image = _of_other_format(file, name, likely)
        header = _header(name, image, _length(file))
        check_header(header)
        metadata, orientation = of_pillow(image, file)
        if image.format == "TIFF":  # Pillow turns the pixels, and fails on broken directories.
            orientation, exif = 1, Image.Exif()
            exif[_ORIENTATION] = image.tag_v2.get(_ORIENTATION, 1)  # type: ignore[attr-defined]
            image.getexif = lambda: exif  # type: ignore[method-assign]
        return OpenImage(image, header, metadata, orientation)
    header = _header_of(part, name, _length(file))
    check_header(header)
    file.seek(0)
    whole = take_apart(file)
    assert whole is not None
    check_scans(header, whole.scans)
    check_pixel_bytes(header, whole.pixel_bytes)
    image = _pillow(whole.pixels(file), likely)
    image.info.update(whole.info)
    header = replace(header, samples=_samples(image))
    metadata, orientation = of_pillow(image, file)
    return OpenImage(image, header, metadata, orientation)


def _header_of(part: Container, name: str, file_bytes: int) -> Header:
    return Header(
        name,
        part.format,
        part.size,
        file_bytes,
        progressive=part.progressive,
        densest=part.densest,
    )


def _header(name: str, image: Image.Image, file_bytes: int) -> Header:
    size = image.height, image.width
    return Header(name, image.format or "", size, file_bytes, _samples(image))


def _samples(image: Image.Image) -> int:
    """Bytes a pixel of an image in Pillow's memory, and for what its transparency needs."""
    if image.mode == "F" or image.mode.startswith("I"):  # Which become floating-point colours.
        return 24
    return (1 if image.mode in ("1", "L", "P") else 4) + 24 * image.has_transparency_data


def _length(file: IO[bytes]) -> int:
    position = file.tell()
    length = file.seek(0, 2)
    file.seek(position)
    return length


def _of_other_format(file: IO[bytes], name: str, likely: str) -> Image.Image:
    """Opens a file that could not be taken apart.

    Raises:
        LimitError: if decoders would read far more of it than a picture takes.
        Exception: as `_pillow`.
    """
    file.seek(0)
    start = file.read(12)
    if start.startswith((PNG, JPEG)):
        raise LimitError(f"{name}: broken image (it does not begin with the size of a picture)")
    if (start[:4], start[8:]) == (b"RIFF", b"WEBP") or start[4:8] == b"ftyp":
        check_held(name, _length(file))
        file.seek(0)
        return _pillow(file, likely)
    if start.startswith(tiff.MAGIC):
        pieces = tiff.without_long_entries(file)
        file.seek(0)
        image = _pillow(file if pieces is None else joined(file, pieces), likely)
        image.fp = file  # type: ignore[attr-defined]  # The pixels are in the same place.
        return image
    limited, allow = metered(file, _HEADER_BYTES)
    image = _pillow(limited, likely)
    allow(2 * most_pixel_bytes(image.size))
    return image


def _pillow(file: IO[bytes], likely: str) -> Image.Image:
    """Opens a file with the decoders of the formats that it may have; HEIF with pillow-heif."""
    start = file.read(12)
    file.seek(0)
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        return _heif(file)
    # The likely format comes first: Pillow imports all plugins to look for one not yet imported.
    known = [likely] if likely != "HEIF" else []
    formats = dict.fromkeys((*known, *RECOGNISED))
    with _unlimited:
        return Image.open(file, formats=tuple(formats))


def _heif(file: IO[bytes]) -> Image.Image:
    if find_spec("pillow_heif") is None:
        raise ImageError(HEIF_HINT)
    # Not registered with Pillow, which would concern the whole process.
    from pillow_heif.as_plugin import HeifImageFile

    image: Image.Image = HeifImageFile(file)
    return image


def reason(error: Exception) -> str:
    """Why an image cannot be read, in one line."""
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
        case ImageError():
            return first_line(error)
    return f"broken image ({first_line(error)})"
