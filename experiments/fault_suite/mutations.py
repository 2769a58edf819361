"""Damages bytes in the ways in which files are damaged, or made to harm."""

import struct
import zlib
from collections.abc import Callable

import numpy as np

_HEADER = 256
"""Bytes at the beginning of most formats that hold sizes and offsets."""
_TELLING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_SIDES = (0, 1, 2, 3, 9, 1000, 4096, 16384, 65500, 65535, 2**20, 2**31 - 1)
_PNG = b"\x89PNG\r\n\x1a\n"

Mutation = Callable[[bytes, bytes, np.random.Generator], bytes]
"""From a file, another file of any kind, and a source of chance to a damaged file."""


def _place(data: bytes, generator: np.random.Generator) -> int:
    """An offset, half of the time within the header."""
    end = len(data) if generator.random() < 0.5 else min(len(data), _HEADER)
    return int(generator.integers(max(end, 1)))


def flip_bits(data: bytes, _: bytes, generator: np.random.Generator) -> bytes:
    """Up to 64 bits are the other way round."""
    result = bytearray(data)
    for _count in range(2 ** int(generator.integers(7))):
        result[_place(data, generator)] ^= 1 << int(generator.integers(8))
    return bytes(result)


def overwrite(data: bytes, _: bytes, generator: np.random.Generator) -> bytes:
    """A run of bytes is of one value, or random."""
    start, length = _place(data, generator), 2 ** int(generator.integers(12))
    fill = bytes([int(generator.choice([0, 255, 0x20]))]) * length
    if generator.random() < 0.5:
        fill = generator.bytes(length)
    return data[:start] + fill[: len(data) - start] + data[start + length :]


def truncate(data: bytes, _: bytes, generator: np.random.Generator) -> bytes:
    """The end is missing."""
    return data[: _place(data, generator)]


def drop(data: bytes, _: bytes, generator: np.random.Generator) -> bytes:
    """A part is missing."""
    start = _place(data, generator)
    return data[:start] + data[start + 2 ** int(generator.integers(12)) :]


def shuffle(data: bytes, _: bytes, generator: np.random.Generator) -> bytes:
    """The chunks of the format, or else parts, are in another order, some twice, some missing."""
    parts = _parts(data, generator)
    chosen = generator.integers(1, len(parts), max(1, len(parts) - 1)).tolist()
    order = generator.permutation(np.arange(1, len(parts))).tolist()
    return b"".join(parts[i] for i in (0, *(order if generator.random() < 0.5 else chosen)))


def _parts(data: bytes, generator: np.random.Generator) -> list[bytes]:
    """A file in pieces of which the first stays first: chunks of PNG, JPEG and RIFF, or any."""
    cuts = [0]
    if data.startswith(_PNG):
        at = 8
        while at + 12 <= len(data):
            cuts.append(at)
            at += 12 + int.from_bytes(data[at : at + 4], "big")
    elif data.startswith(b"\xff\xd8"):
        at = 2
        while at + 4 <= len(data) and data[at] == 0xFF:
            cuts.append(at)
            if data[at + 1] == 0xDA:
                break
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    elif data.startswith(b"RIFF"):
        at = 12
        while at + 8 <= len(data):
            cuts.append(at)
            length = int.from_bytes(data[at + 4 : at + 8], "little")
            at += 8 + length + length % 2
    elif data.startswith(b"PK"):
        at = 0
        while (at := data.find(b"PK", at + 1)) > 0:
            cuts.append(at)
    if len(cuts) < 3:
        cuts = [0, *sorted(generator.integers(1, max(2, len(data)), 4).tolist())]
    ends = [*cuts[1:], len(data)]
    return [data[start:end] for start, end in zip(cuts, ends, strict=True)]


def change_number(data: bytes, _: bytes, generator: np.random.Generator) -> bytes:
    """A field of two, four or eight bytes has a value at a limit."""
    result, value = bytearray(data), int(generator.choice(_TELLING))
    form = str(generator.choice(["<H", ">H", "<I", ">I", "<Q", ">Q"]))
    size = struct.calcsize(form)
    at = _place(data, generator)
    result[at : at + size] = struct.pack(form, value % 256**size)
    return bytes(result)


def change_size(data: bytes, _: bytes, generator: np.random.Generator) -> bytes:
    """The width or the height, wherever it seems to be, is absurd."""
    found = []
    for side in (53, 43):
        for form in (">I", "<I", ">H", "<H"):
            code = struct.pack(form, side)
            start = -1
            while 0 <= (start := data.find(code, start + 1)) < _HEADER:
                found.append((start, form))
        text = str(side).encode()
        if 0 <= (start := data.find(text)) < _HEADER:
            found.append((start, str(len(text))))
    if not found:
        return change_number(data, b"", generator)
    result = bytearray(data)
    for index in generator.permutation(len(found))[: int(generator.integers(1, 3))].tolist():
        (start, form), side = found[index], int(generator.choice(_SIDES))
        if form.isdigit():  # Of another length, so it is the last change.
            return bytes(result[:start]) + str(side).encode() + bytes(result[start + int(form) :])
        size = struct.calcsize(form)
        result[start : start + size] = struct.pack(form, side % 256**size)
    return bytes(result)


def splice(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """The beginning of one file, and the end of another."""
    return data[: _place(data, generator)] + other[_place(other, generator) :]


def append(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """Something follows the end: rubbish, zeros, or another file."""
    kind = int(generator.integers(3))
    return data + (generator.bytes(1000), bytes(2**16), other)[kind]


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits, overwrite, truncate, drop, shuffle, change_number, change_size, change_size, splice,
    append,
)  # fmt: skip
"""All mutations; those that are here twice are tried twice as often."""


def mutate(data: bytes, other: bytes, generator: np.random.Generator) -> tuple[str, bytes]:
    """The names of one to three mutations, and a file with all of them.

    Half of the damaged PNG files get right checksums, so that decoders see the damage.
    """
    names = []
    for _ in range(int(generator.choice([1, 1, 1, 2, 3]))):
        mutation = MUTATIONS[int(generator.integers(len(MUTATIONS)))]
        names.append(mutation.__name__)
        data = mutation(data or b"\0", other, generator)
    if generator.random() < 0.5:
        data = with_checksums(data)
    return "+".join(names), data


def with_checksums(data: bytes) -> bytes:
    """A PNG file whose chunks have the checksums of their content; other files unchanged."""
    if not data.startswith(_PNG):
        return data
    result, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        result[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(result)
