"""PNG and JPEG files taken apart: the part that holds pixels, and the metadata.

Decoders refuse whole pictures for faults of their metadata. They are given files without it.
"""

import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from cdjax.io.limits import most_pixel_bytes
from cdjax.io.pieces import Piece, Search, joined

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_METADATA_BYTES = 2**26
"""Longer pieces of metadata, after decompression, are ignored."""
_HEADER_BYTES = 2**25
"""Metadata of a JPEG file is looked for in its beginning only."""
_SEGMENT = 2**16
_MOST_CHUNKS = 2**20  # of a PNG file; writers make one for 8 KB or more
_CHUNK_BYTES = 2**20  # Longer ones are given to decoders as several: they may read one whole.
_INCH = 0.0254
_BLOCK = 2**24
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")
_SIZES = frozenset([*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)])
_SEQUENTIAL, _PROGRESSIVE, _ARITHMETIC = (0xC0, 0xC1), (0xC2, 0xC6, 0xCA, 0xCE), range(0xC9, 0xD0)
_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"


PNG_HEADER = 33
"""Bytes of a PNG file before which nothing can be inserted."""


def png_xmp(xmp: bytes) -> bytes:
    """A chunk of a PNG file."""
    data = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
    check = zlib.crc32(b"iTXt" + data)
    return struct.pack(">I", len(data)) + b"iTXt" + data + struct.pack(">I", check)


def insert(file: IO[bytes], position: int, data: bytes) -> None:
    """Inserts data into a file open for update, whatever its size."""
    end = file.seek(0, 2)
    while end > position:
        start = max(position, end - _BLOCK)
        file.seek(start)
        block = file.read(end - start)
        file.seek(start + len(data))
        file.write(block)
        end = start
    file.seek(position)
    file.write(data)


@dataclass
class Container:
    """A file taken apart.

    Attributes:
        format: PNG or JPEG.
        pieces: those of a file of the same format with little besides the pixels.
        info: metadata as Pillow names it: exif, xmp, icc_profile, dpi.
        size: (height, width) as stored.
        scans: of a JPEG file; 1 otherwise.
        progressive: whether a JPEG file is progressive or a PNG file interlaced.
        densest: pixels that a byte of the file can hold at most.
        pixel_bytes: how many of the file are for the pixels, as far as it was looked at.
    """

    format: str
    pieces: list[Piece] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    scans: int = 1
    progressive: bool = False
    densest: float = 0.0
    pixel_bytes: int = 0

    def pixels(self, file: IO[bytes]) -> IO[bytes]:
        """The file that the pieces of `file` make."""
        return joined(file, self.pieces)


def take_apart(file: IO[bytes], *, header: bool = False) -> Container | None:
    """A PNG or JPEG file at its beginning; None if it is of another format or has no size.

    Args:
        file: the file, at its beginning; its position changes.
        header: whether to read only what comes before the pixels.
    """
    start = file.read(8)
    part: Container | None = None
    with suppress(struct.error, IndexError):
        if start == PNG:
            part = _png(file, header)
        elif start[:2] == JPEG:
            file.seek(0)
            part = _jpeg(file, header)
    return part if part is not None and all(part.size) else None


def _png(file: IO[bytes], header: bool) -> Container:
    part = Container("PNG", [PNG])
    for _ in range(_MOST_CHUNKS):
        if len(start := file.read(8)) < 8:
            break
        length, kind = struct.unpack(">I4s", start)
        begin = file.tell()
        if kind == b"IDAT":
            if header:
                break
            part.pieces += _in_short_chunks(begin, length)
            part.pixel_bytes += length
        elif length > _METADATA_BYTES:
            pass
        elif kind in _PNG_METADATA:
            with suppress(ValueError, IndexError, struct.error, zlib.error):
                _PNG_METADATA[kind](file.read(length), part.info)
        elif kind in _PNG_PIXELS or not kind[0] & 0x20:  # Others need not be known.
            if kind == b"IHDR":
                _png_header(file.read(13), part)
            if kind != b"tRNS" or _is_sound(kind, file.read(length + 4)):
                part.pieces.append(range(begin - 8, begin + length + 4))
        if kind == b"IEND":
            break
        file.seek(begin + length + 4)
    return part


def _is_sound(kind: bytes, data: bytes) -> bool:
    """Whether the data of a chunk fits the checksum at its end."""
    return zlib.crc32(kind + data[:-4]) == int.from_bytes(data[-4:], "big")


def _in_short_chunks(begin: int, length: int) -> list[Piece]:
    """A chunk of pixels as it is or, if it is long, as several; nobody looks at their checksums."""
    if length <= _CHUNK_BYTES:
        return [range(begin - 8, begin + length + 4)]
    pieces: list[Piece] = []
    for at in range(begin, begin + length, _CHUNK_BYTES):
        short = min(begin + length - at, _CHUNK_BYTES)
        pieces += [struct.pack(">I4s", short, b"IDAT"), range(at, at + short), bytes(4)]
    return pieces


def _png_header(data: bytes, part: Container) -> None:
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data)
    samples = {2: 3, 4: 2, 6: 4}.get(colour, 1)
    # Deflate makes at most 1032 bytes of one.
    part.size, part.densest = (height, width), 1040 * 8 / (bits * samples or 1)
    part.progressive = bool(interlaced)


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, _METADATA_BYTES)
    return b"" if inflater.unconsumed_tail else text


def _png_profile(data: bytes, info: dict[str, Any]) -> None:
    info["icc_profile"] = _inflated(data[data.index(b"\0") + 2 :])


def _png_exif(data: bytes, info: dict[str, Any]) -> None:
    info["exif"] = data


def _png_resolution(data: bytes, info: dict[str, Any]) -> None:
    x, y, metres = struct.unpack(">IIB", data)
    if metres:
        info["dpi"] = x * _INCH, y * _INCH


def _png_text(data: bytes, info: dict[str, Any]) -> None:
    keyword, _, text = data.partition(b"\0")
    _text(keyword, text, info)


def _png_compressed_text(data: bytes, info: dict[str, Any]) -> None:
    keyword, _, text = data.partition(b"\0")
    _text(keyword, _inflated(text[1:]), info)


def _png_international_text(data: bytes, info: dict[str, Any]) -> None:
    keyword, _, rest = data.partition(b"\0")
    if keyword == b"XML:com.adobe.xmp":
        text = rest[2:].split(b"\0", 2)[2]
        info["xmp"] = _inflated(text) if rest[0] else text


def _text(keyword: bytes, text: bytes, info: dict[str, Any]) -> None:
    if keyword.startswith(b"Raw profile type "):
        _raw_profile(keyword.split()[-1], text, info)
    elif keyword == b"XML:com.adobe.xmp":
        info.setdefault("xmp", text)


def _raw_profile(kind: bytes, text: bytes, info: dict[str, Any]) -> None:
    """What ImageMagick writes: the kind, the length, and hexadecimal digits."""
    data = bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    if kind in (b"exif", b"APP1") and data.startswith(_EXIF):
        info.setdefault("exif", data)
    elif kind == b"xmp" or data.startswith(_XMP):
        info.setdefault("xmp", data.removeprefix(_XMP))


_PNG_METADATA: dict[bytes, Callable[[bytes, dict[str, Any]], None]] = {
    b"iCCP": _png_profile,
    b"eXIf": _png_exif,
    b"pHYs": _png_resolution,
    b"tEXt": _png_text,
    b"zTXt": _png_compressed_text,
    b"iTXt": _png_international_text,
}


def _jpeg(file: IO[bytes], header: bool) -> Container:
    """Segments up to the first scan are filtered; what follows is kept as it is."""
    part = Container("JPEG", [JPEG])
    profile: dict[int, bytes] = {}
    data = file.read(_HEADER_BYTES)
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == 0xD9 or marker == 0x01:
            continue
        length = struct.unpack_from(">H", data, at)[0]
        body = data[at + 2 : at + length]
        if marker in _SIZES:
            part.size = struct.unpack_from(">HH", body, 1)
            part.progressive = marker in _PROGRESSIVE
            part.densest = _densest(marker, body)
        if marker == 0xDA or found.start() > _HEADER_BYTES - 2 * _SEGMENT:
            rest = Search(file)
            part.pieces.append(range(found.start(), rest.length))
            if not header:
                end = at + most_pixel_bytes(part.size) + _BLOCK
                part.scans, part.pixel_bytes = _scans(rest, at, end)
            break
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _needed(marker, body):
            part.pieces.append(bytes((0xFF, marker)) + data[at : at + length])
        else:
            _jpeg_metadata(marker, body, part.info, profile)
        _jpeg_resolution(marker, body, part.info)
        at += max(length, 2)
    if profile:
        part.info["icc_profile"] = b"".join(profile[number] for number in sorted(profile))
    return part


def _densest(marker: int, body: bytes) -> float:
    """Pixels that a byte of a JPEG file can hold at most, from the header of its frame."""
    if marker in _ARITHMETIC:
        return 64 * 64 * 8.0
    # Of every block of 8 by 8 samples, a scan has a bit at least; a sequential one has two, for the
    # mean and for the end. The samples of a colour may be fewer than the pixels.
    factors = [(body[at] >> 4, body[at] & 15) for at in range(7, 6 + 3 * body[5], 3)]
    most = max((x for x, _ in factors), default=0) * max((y for _, y in factors), default=0)
    blocks = sum(x * y for x, y in factors) / most if most else 0
    return 64 * 8.0 / ((blocks or 1) * (2 if marker in _SEQUENTIAL else 1))


def _needed(marker: int, body: bytes) -> bool:
    """Whether a segment decides what the colours mean; decoders ignore those that are cut off."""
    jfif = marker == 0xE0 and body[:4] == b"JFIF" and len(body) >= 14
    return jfif or (marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12)


def _jpeg_metadata(
    marker: int, body: bytes, info: dict[str, Any], profile: dict[int, bytes]
) -> None:
    if marker == 0xE1 and body.startswith(_EXIF):
        info["exif"] = info.get("exif", b"") or body
    elif marker == 0xE1 and body.startswith(_XMP):
        info.setdefault("xmp", body.removeprefix(_XMP))
    elif marker == 0xE2 and body.startswith(_ICC) and len(body) > 14:
        profile.setdefault(body[12], body[14:])


def _jpeg_resolution(marker: int, body: bytes, info: dict[str, Any]) -> None:
    if marker == 0xE0 and body[:4] == b"JFIF" and len(body) >= 12:
        unit, x, y = struct.unpack_from(">BHH", body, 7)
        if unit in (1, 2):
            scale = 1.0 if unit == 1 else 2.54
            info["dpi"] = x * scale, y * scale


def _scans(file: Search, begin: int, end: int) -> tuple[int, int]:
    """The scans of a JPEG picture and the bytes up to its end, which is looked for before `end`.

    The header of its first scan is at `begin`.
    """
    scans, at = 1, begin
    with suppress(struct.error):
        while found := file.find(_MARKER, at + struct.unpack(">H", file.at(at, 2))[0], end):
            marker, at = found
            if marker == b"\xd9":
                return scans, at - begin
            scans += marker == b"\xda"
    return scans, min(end, file.length) - begin
