"""EXIF data, which has the structure of a TIFF file: parsed, tidied, and added to TIFF files.

Entries are copied as bytes, so that those that break the standard neither do harm nor are lost.
What describes the stored pixels is not kept: sizes, orientation, thumbnail, positions in the file.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

Entry = tuple[int, int, bytes]
"""Type, count and data of a tag; the data is little-endian."""

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value by its type."""
_UNIT_BYTES = TYPE_BYTES | {5: 4, 10: 4}  # A rational is two numbers.
_FORMATS = {1: "B", 3: "H", 4: "I", 5: "I", 6: "b", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d"}
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x0112, 282, 283, 296
_CAMERA, _GPS, _INTEROPERABILITY, _XMP = 0x8769, 0x8825, 0xA005, 700
_PIXEL_SIZE = (0xA002, 0xA003)  # width, height
_PICTURE_TAGS = frozenset(
    [
        *(*range(254, 267), 273, 274, *range(277, 285), *range(286, 294), 296, 297, 301),
        *(*range(317, 348), *range(512, 522), *range(529, 533), _XMP, 33723, 34377, 34675, 37724),
        *(_CAMERA, _GPS, *range(50706, 51200)),
    ]
)
_MOST_ENTRIES = 1000
_MOST_BYTES = 2**24


@dataclass(frozen=True)
class Exif:
    """Descriptive entries of a picture.

    Attributes:
        main: tag -> entry of the first directory, such as artist and copyright.
        camera: the same of the Exif directory, such as the time of exposure.
        gps: the same of the GPS directory.
        orientation: 1 to 8, or None if there is none.
        resolution: pixels per inch along x and y, or None.
    """

    main: Mapping[int, Entry] = field(default_factory=dict)
    camera: Mapping[int, Entry] = field(default_factory=dict)
    gps: Mapping[int, Entry] = field(default_factory=dict)
    orientation: int | None = None
    resolution: tuple[float, float] | None = None


def parse(data: Any) -> Exif | None:
    """Parses EXIF data or a TIFF file; unreadable entries are left out.

    Args:
        data: bytes, or anything whose slices are bytes.

    Returns:
        None if it is no EXIF data at all.
    """
    start = 6 if data[:6] == b"Exif\0\0" else 0
    header = data[start : start + 16].ljust(16, b"\0")
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    if order is None:
        return None
    magic = struct.unpack_from(f"{order}H", header, 2)[0]
    if magic not in (42, 43):
        return None
    big = magic == 43
    first = struct.unpack_from(f"{order}{'Q' if big else 'I'}", header, 8 if big else 4)[0]
    layout = order, big, start
    main = _directory(data, layout, first)
    nested = []
    for tag in (_CAMERA, _GPS):
        position = _numbers(main.get(tag))
        nested.append(_directory(data, layout, int(position[0])) if position else {})
    camera, gps = nested
    camera.pop(_INTEROPERABILITY, None)
    orientation = _numbers(main.get(_ORIENTATION))
    known = bool(orientation) and orientation[0] in range(1, 9)
    return Exif(
        {tag: entry for tag, entry in main.items() if tag not in _PICTURE_TAGS},
        camera,
        gps,
        int(orientation[0]) if known else None,
        _resolution(main),
    )


def build(
    exif: Exif | None,
    size: tuple[int, int],
    resolution: tuple[float, float] | None,
    *,
    limit: int = _MOST_BYTES,
) -> bytes | None:
    """EXIF data of a picture of a (height, width); None if there is nothing to say.

    Of data longer than `limit` bytes, the longest entries are left out.
    """
    exif = exif or Exif()
    main, camera, gps = dict(exif.main), _sized(exif.camera, size), dict(exif.gps)
    main.update(_resolution_entries(resolution))
    while True:
        if not (main or camera or gps):
            return None
        data = b"II*\0" + struct.pack("<I", 8) + _tree(main, camera, gps, 8)
        if len(data) <= limit:
            return data
        longest = max(
            (main, camera, gps), key=lambda part: max(map(_length, part.values()), default=0)
        )
        longest.pop(max(longest, key=lambda tag: _length(longest[tag])))


def add_to_tiff(
    file: IO[bytes], exif: Exif | None, xmp: bytes | None, size: tuple[int, int]
) -> None:
    """Adds entries to the first directory of a little-endian TIFF file open for update.

    Entries that the directory has stay as they are; `size` is its (height, width).
    """
    header = file.read(16)
    big = header[2:4] == b"+\0"
    at = 8 if big else 4
    first = struct.unpack_from("<Q" if big else "<I", header, at)[0]
    file.seek(first)
    count = struct.unpack("<Q" if big else "<H", file.read(8 if big else 2))[0]
    width = 20 if big else 12
    raw = [file.read(width) for _ in range(count)]
    following = file.read(8 if big else 4)
    present = {struct.unpack_from("<H", entry)[0] for entry in raw}
    end = file.seek(0, 2)
    position = end + end % 2
    exif = exif or Exif()
    main = {tag: entry for tag, entry in exif.main.items() if tag not in present}
    if xmp and _XMP not in present:
        main[_XMP] = (1, len(xmp), xmp)
    if not (main or exif.camera or exif.gps):
        return
    camera = _sized(exif.camera, size)
    data = _tree(main, camera, exif.gps, position, big=big, raw=raw, following=following)
    file.write(bytes(position - end) + data)
    file.seek(at)
    file.write(struct.pack("<Q" if big else "<I", position))


def _directory(data: Any, layout: tuple[str, bool, int], position: int) -> dict[int, Entry]:
    """The entries of the directory at a position that can be read."""
    order, big, start = layout
    counter, width, inline = ("Q", 20, 8) if big else ("H", 12, 4)
    offset = "Q" if big else "I"
    position += start
    entries: dict[int, Entry] = {}
    total = 0
    try:
        count = _unpacked(order + counter, data, position)[0]
        position += struct.calcsize(order + counter)
        for number in range(min(count, _MOST_ENTRIES)):
            at = position + number * width
            tag, kind, length = _unpacked(f"{order}HH{offset}", data, at)
            size = length * TYPE_BYTES.get(kind, 0)
            total += size
            if not size or total > _MOST_BYTES:
                continue
            where = at + width - inline
            if size > inline:
                where = start + _unpacked(order + offset, data, where)[0]
            value = data[where : where + size]
            if len(value) == size:
                entries.setdefault(tag, (kind, length, _little(value, kind, order)))
    except struct.error:  # The directory ends before its end.
        pass
    return entries


def _unpacked(layout: str, data: Any, position: int) -> tuple[Any, ...]:
    return struct.unpack(layout, data[position : position + struct.calcsize(layout)])


def _little(value: bytes, kind: int, order: str) -> bytes:
    unit = _UNIT_BYTES[kind]
    if order == "<" or unit == 1:
        return value
    return b"".join(value[at : at + unit][::-1] for at in range(0, len(value), unit))


def _numbers(entry: Entry | None) -> tuple[float, ...]:
    """The values of an entry; none if it is not numeric or divides by zero."""
    if entry is None or entry[0] not in _FORMATS:
        return ()
    kind, _, data = entry
    values = struct.unpack(f"<{len(data) // _UNIT_BYTES[kind]}{_FORMATS[kind]}", data)
    if kind not in (5, 10):
        return values
    if 0 in values[1::2]:
        return ()
    return tuple(top / below for top, below in zip(values[::2], values[1::2], strict=True))


def _resolution(main: Mapping[int, Entry]) -> tuple[float, float] | None:
    x, y, unit = (
        _numbers(main.get(tag)) for tag in (_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT)
    )
    scale = {2: 1.0, 3: 2.54}.get(int(unit[0]) if unit else 2)
    if not x or scale is None:
        return None
    return x[0] * scale, (y or x)[0] * scale


def _resolution_entries(resolution: tuple[float, float] | None) -> dict[int, Entry]:
    if resolution is None:
        return {}
    ratios = [struct.pack("<2I", round(value * 1000), 1000) for value in resolution]
    return {
        _X_RESOLUTION: (_RATIONAL, 1, ratios[0]),
        _Y_RESOLUTION: (_RATIONAL, 1, ratios[1]),
        _RESOLUTION_UNIT: (_SHORT, 1, struct.pack("<H", 2)),
    }


def _sized(camera: Mapping[int, Entry], size: tuple[int, int]) -> dict[int, Entry]:
    """With the width and height of the picture, if the directory has some."""
    changed = dict(camera)
    for tag, value in zip(_PIXEL_SIZE, size[::-1], strict=True):
        if tag in changed:
            changed[tag] = (_LONG, 1, struct.pack("<I", value))
    return changed


def _length(entry: Entry) -> int:
    return len(entry[2])


def _tree(
    main: Mapping[int, Entry],
    camera: Mapping[int, Entry],
    gps: Mapping[int, Entry],
    position: int,
    *,
    big: bool = False,
    raw: Iterable[bytes] = (),
    following: bytes = bytes(4),
) -> bytes:
    """The directories as they lie in a file from `position`: main first, then camera and gps."""
    nested = {tag: part for tag, part in ((_CAMERA, camera), (_GPS, gps)) if part}
    main, pointers = dict(main), dict.fromkeys(nested, 0)
    for _ in range(2):  # The first round finds the lengths.
        main |= {tag: (_LONG, 1, struct.pack("<I", at)) for tag, at in pointers.items()}
        data = _packed(main, position, big, raw, following)
        for tag, part in nested.items():
            pointers[tag] = position + len(data)
            data += _packed(part, pointers[tag], big)
    return data


def _packed(
    entries: Mapping[int, Entry],
    position: int,
    big: bool,
    raw: Iterable[bytes] = (),
    following: bytes | None = None,
) -> bytes:
    """One directory and the data that it points to."""
    inline, offset, counter = (8, "Q", "Q") if big else (4, "I", "H")
    table = {struct.unpack_from("<H", entry)[0]: entry for entry in raw}
    count = len(entries) + len(table)
    start = position + struct.calcsize(counter) + count * (4 + 2 * inline) + inline
    beyond = b""
    for tag, (kind, length, value) in entries.items():
        if len(value) > inline:
            field = struct.pack(f"<{offset}", start + len(beyond))
            beyond += value + bytes(len(value) % 2)
        else:
            field = value.ljust(inline, b"\0")
        table[tag] = struct.pack(f"<HH{offset}", tag, kind, length) + field
    lines = b"".join(table[tag] for tag in sorted(table))
    return struct.pack(f"<{counter}", count) + lines + (following or bytes(inline)) + beyond
