"""Image files for tests, most of kinds that Pillow does not write, made by hand."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def smooth(height: int = 40, width: int = 56) -> NDArray[np.uint8]:
    """Colours that JPEG and WebP keep to a few levels."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 3 + 60, columns * 3 + 40, 200 - rows - columns], -1).astype(np.uint8)


def deep_png(samples: NDArray[np.integer], colour: int, *, transparent: bytes = b"") -> bytes:
    """A 16-bit PNG, which Pillow writes for greyscale only; `colour` is the PNG colour type."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def deep_tiff(samples: NDArray[np.integer], *, bits: int = 16, photometric: int = 1) -> bytes:
    """A little-endian TIFF with one uncompressed strip; (H, W) grey or (H, W, 3) colour."""
    height, width = samples.shape[:2]
    count = 1 if samples.ndim == 2 else 3
    data = samples.astype("<u2").tobytes()
    if bits == 12:
        pairs = samples.reshape(-1, 2).astype(int)
        packed = np.stack(
            [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], -1
        )
        data = packed.astype(np.uint8).tobytes()
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, count, bits if count == 1 else 8 + 2 + 9 * 12 + 4),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8 + 2 + 9 * 12 + 4 + 6),
        (277, 3, 1, count),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (
        b"II*\0"
        + struct.pack("<I", 8)
        + directory
        + bytes(4)
        + struct.pack("<3H", *[bits] * 3)
        + data
    )


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def saved(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    """A file that Pillow writes."""
    Image.fromarray(pixels).save(path, **options)
    return path


def built_in(name: str) -> bytes:
    """An ICC profile of libvips."""
    import pyvips

    return bytes(pyvips.Operation.call("profile_load", name))


def linear_profile() -> bytes:
    """A greyscale ICC profile whose samples are proportional to light, made by hand."""
    curve = b"curv" + bytes(4) + struct.pack(">I", 0)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc" + bytes(4) + struct.pack(">I", 7) + b"linear\0" + bytes(78)
    tags, position, body = [], 128 + 4 + 3 * 12, b""
    for name, data in ((b"kTRC", curve), (b"wtpt", white), (b"desc", text)):
        data += bytes(-len(data) % 4)
        tags.append(name + struct.pack(">II", position + len(body), len(data)))
        body += data
    header = bytearray(128)
    header[0:4] = struct.pack(">I", position + len(body))
    header[8:12] = b"\x02\x40\0\0"
    header[12:24] = b"mntrGRAYXYZ "
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    return bytes(header) + struct.pack(">I", 3) + b"".join(tags) + body
