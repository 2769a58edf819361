"""What files may cost: refuses, before they are decoded, those that claim more than they hold."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cdjax.errors import ImageError

MAX_PIXELS = 2**29
"""Pixels of the largest image that is read whole: 536 megapixels."""

MAX_ASPECT = 200
"""The longer side of an image whose longer side is above `_LONG` is at most this many shorter."""

MAX_DENSITY = 500
"""Pixels for each byte of the file of a large image, at most.

Photographs have a tenth of it or fewer, and JPEG files of one colour half of it.
"""

_LARGE = 2**24  # pixels
_LONG = 2**14
_MEMORY = 3 * 2**29  # bytes that decoding may take, whatever the size of the file
_MEMORY_PER_BYTE = 50  # and of a large file, for each of its bytes
_HELD = 2**29
_MOST_BYTES = 2**26
_SCANS = 100
_SCANNED_PIXELS = 2**31  # pixels times scans of a progressive JPEG file with more scans


class LimitError(ImageError):
    """An image that is refused for what it would cost."""


@dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded.

    Attributes:
        name: the file's name, for messages.
        format: Pillow's name of the format.
        size: (height, width) as stored.
        file_bytes: size of the file.
        samples: bytes a pixel in Pillow's memory.
        progressive: whether a JPEG file is progressive or a PNG file interlaced.
        densest: pixels that a byte of the file can hold at most; 0 if unknown.
    """

    name: str
    format: str
    size: tuple[int, int]
    file_bytes: int
    samples: int = 4
    progressive: bool = False
    densest: float = 0.0

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.size[0] * self.size[1]

    def refuse(self, reason: str) -> LimitError:
        """The error of this image."""
        return LimitError(f"{self.name}: {self.size[1]}x{self.size[0]} pixels, {reason}")


def too_narrow(size: tuple[int, int]) -> bool:
    """Whether an image of a (height, width) is so long and narrow that programs for it are slow."""
    return max(size) > max(_LONG, MAX_ASPECT * min(size))


def check_header(header: Header) -> None:
    """Raises `ImageError` for an image that nothing can decode at a cost that it is worth."""
    if header.densest and header.pixels > header.densest * header.file_bytes:
        raise header.refuse(f"more than its {header.file_bytes:,} bytes can hold; it is broken")
    if too_narrow(header.size):
        raise header.refuse(
            f"too long and narrow: sides of more than {_LONG} pixels may be at most "
            f"{MAX_ASPECT} times the other; cut it into pieces"
        )


def check_density(header: Header, *, scaled: bool) -> None:
    """Raises `ImageError` for a large image in so few bytes that it is hardly a picture.

    A few kilobytes can be pixels of one colour that take hours to stylise.

    Args:
        header: of the image.
        scaled: whether it is scaled down when it is read; then only those above `MAX_PIXELS` are
            refused.
    """
    large = MAX_PIXELS if scaled else _LARGE
    if header.pixels > max(large, MAX_DENSITY * header.file_bytes):
        remedy = "cut it into pieces" if scaled else "scale it with --content-size or --style-size"
        raise header.refuse(
            f"but {header.file_bytes:,} bytes, at most one for {MAX_DENSITY} pixels: hardly a "
            f"picture; {remedy}, or save it as JPEG"
        )


def check_scans(header: Header, scans: int) -> None:
    """Raises `ImageError` for a JPEG file with so many scans that decoding would take long."""
    if scans > _SCANS and scans * header.pixels > _SCANNED_PIXELS:
        raise header.refuse(f"{scans} scans, more than {_SCANS}; save it anew as a plain JPEG")


def most_pixel_bytes(size: tuple[int, int]) -> int:
    """Bytes of a file that the pixels of a PNG or JPEG picture of (height, width) take at most.

    They are 9 a pixel of a PNG file with 16 bits a sample, and fewer of a JPEG file.
    """
    return _MOST_BYTES + 16 * size[0] * size[1]


def check_pixel_bytes(header: Header, found: int) -> None:
    """Raises `ImageError` for a PNG or JPEG file with far more bytes of pixels than they take."""
    if found > most_pixel_bytes(header.size):
        raise header.refuse(f"but {found:,} bytes or more of them; it is broken")


def check_memory(header: Header, bytes_per_pixel: int) -> None:
    """Raises `ImageError` if decoding takes more memory than a file of this size is worth."""
    allowed = max(_MEMORY, _MEMORY_PER_BYTE * header.file_bytes)
    if header.pixels * bytes_per_pixel > allowed:
        needed = header.pixels * bytes_per_pixel / 2**30
        raise header.refuse(
            f"would take {needed:.1f} GiB to decode, more than {allowed / 2**30:.1f} GiB"
        )


def check_held(name: str, length: int) -> None:
    """Raises `LimitError` for a long file of a format whose decoders hold files in memory."""
    if length > _HELD:
        most = f"{_HELD // 2**20} MiB"
        raise LimitError(
            f"{name}: {length:,} bytes, more than the {most} of a file of this format; save it as "
            "JPEG, PNG or TIFF"
        )


def check_disk(header: Header, needed: int, folder: Path) -> None:
    """Raises `ImageError` if decoding needs more bytes of a temporary folder than it should take.

    That is half of what is free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free // 2:
        raise header.refuse(
            f"would take {needed / 2**30:.1f} GiB in {folder} to decode, where "
            f"{free / 2**30:.1f} GiB are free; set TMPDIR to a larger disk"
        )


def check_pixels(header: Header, hint: str = "") -> None:
    """Raises `ImageError` beyond `MAX_PIXELS`."""
    if header.pixels > MAX_PIXELS:
        limit = f"{MAX_PIXELS // 10**6} megapixels"
        raise header.refuse(
            f"more than {limit}; {hint}" if hint else f"more than the limit of {limit}"
        )


def file_bytes(path: str | os.PathLike[str]) -> int:
    """Size of a file."""
    return os.stat(path).st_size
