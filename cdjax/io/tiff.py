"""TIFF files whose directory claims more than decoders should read."""

import struct
from contextlib import suppress
from typing import IO

from cdjax.errors import ImageError
from cdjax.io.exif import TYPE_BYTES
from cdjax.io.limits import LimitError
from cdjax.io.pieces import Piece

MAGIC = tuple(
    order + magic for order in (b"II", b"MM") for magic in (b"*\0", b"\0*", b"+\0", b"\0+")
)
"""The beginnings of files."""

_SIZES = TYPE_BYTES | {16: 8, 17: 8, 18: 8}
_COMPRESSION = 259
_PARTS = (273, 279, 324, 325)  # where strips and tiles are, and how long
_MOST_PARTS = 2**21
_MOST_ENTRIES = 2**16
_LONG_ENTRY = 2**25
_LONG_DIRECTORY = 2**27
_MOST_BYTES = 2**29


def without_long_entries(file: IO[bytes]) -> list[Piece] | None:
    """The pieces of a file whose first directory has no long entries; None if it has none anyway.

    They are what programs keep beside the pixels, such as layers. Decoders read each entry.

    Raises:
        LimitError: if the directory claims more than any picture has.
        ImageError: if the decoder of its compression, which gets the whole directory, should not.
    """
    with suppress(struct.error):  # Decoders say what is wrong.
        return _without_long_entries(file)
    return None


def _without_long_entries(file: IO[bytes]) -> list[Piece] | None:
    file.seek(0)
    header = file.read(16)
    order = "<" if header[:2] == b"II" else ">"
    big = b"+" in header[2:4]
    counter, width, inline, offset = ("Q", 20, 8, "Q") if big else ("H", 12, 4, "I")
    start = struct.unpack_from(order + offset, header, 8 if big else 4)[0]
    file.seek(start)
    count = struct.unpack(order + counter, file.read(struct.calcsize(counter)))[0]
    if count > _MOST_ENTRIES:
        raise LimitError(f"broken image (a directory of {count:,} entries)")
    kept: list[bytes] = []
    total, compressed = 0, False
    for _ in range(count):
        entry = file.read(width)
        tag, kind, number = struct.unpack_from(f"{order}HH{offset}", entry)
        size = number * _SIZES.get(kind, 0)
        total += size
        if tag == _COMPRESSION:
            compressed = struct.unpack_from(f"{order}H", entry, width - inline)[0] != 1
        if tag in _PARTS and number > _MOST_PARTS:
            raise LimitError(f"broken image (it has {number:,} parts)")
        if tag in _PARTS or (size <= _LONG_ENTRY and total <= _LONG_DIRECTORY):
            kept.append(entry)
    if compressed and total > _MOST_BYTES:
        raise ImageError(f"{total:,} bytes beside the pixels; save it without layers")
    if len(kept) == count:
        return None
    directory = struct.pack(order + counter, len(kept)) + b"".join(kept) + file.read(inline)
    directory += bytes((count - len(kept)) * width)
    return [range(start), directory, range(start + len(directory), file.seek(0, 2))]
