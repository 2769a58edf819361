"""Files of gigabytes that hold a small picture, or none: they cost little memory and time.

Each has a hole, so that it takes no place on the disk.
"""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.image_files import smooth

LENGTH = 3_000_000_000
MEMORY = 2**30
HOLE = 1_900_000_000
PICTURE = smooth()

READ = """
import resource, sys
from pathlib import Path
from PIL import Image
from cdjax.errors import ImageError
from cdjax.io import vips
from cdjax.io.streaming import open_picture
Image.init(), vips.available()
for path in map(Path, sys.argv[2:]):
    space = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmSize" in line)
    resource.setrlimit(resource.RLIMIT_AS, (1024 * space + int(sys.argv[1]), -1))
    try:
        print(path.name, open_picture(path).pixels.shape)
    except ImageError as error:
        print(path.name, "refused:", error)
"""


def encoded(name: str, **options: object) -> bytes:
    data = io.BytesIO()
    Image.fromarray(PICTURE).save(data, name, **options)  # type: ignore[arg-type]
    return data.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with_hole(kind: bytes, before: bytes = b"", within: bytes = b"") -> tuple[bytes, bytes]:
    """What is before and behind the hole in a chunk of a PNG file."""
    png = encoded("PNG")
    start = png[:33] + before + struct.pack(">I", HOLE) + kind + within
    return start, bytes(4) + png[33:]


def tiff_with_entries(*entries: tuple[int, int, int], compression: int = 1) -> bytes:
    """A TIFF file with entries of tag, type and count more, whose data is said to be at 100."""
    height, width = PICTURE.shape[:2]
    known = {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, compression),
        262: (3, 1, 2), 277: (3, 1, 3), 278: (4, 1, height), 279: (4, 1, PICTURE.size),
    }  # fmt: skip
    tags = known | {tag: (kind, count, 100) for tag, kind, count in entries}
    tags.setdefault(273, (4, 1, 8 + 2 + 12 * (len(tags) + 1) + 4))
    table = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(4) + PICTURE.tobytes()


def long_files() -> dict[str, tuple[bytes, bytes]]:
    """What is before and behind the hole in files, by their names."""
    jpeg, png = encoded("JPEG"), encoded("PNG")
    scan = jpeg.index(b"\xff\xda")
    pixels = png[33:-12]
    files = {
        "after.jpg": jpeg,
        "after.png": png,
        **{f"after.{suffix}": encoded(name) for suffix, name in OTHERS.items()},
        "scan.jpg": jpeg[: scan + 40],
        "none.jpg": jpeg[:2],
        "begun.jpg": jpeg[:20],
        "riff.webp": b"RIFF" + struct.pack("<I", LENGTH - 8) + b"WEBPVP8 ",
        "film.avif": struct.pack(">I", 20) + b"ftypavif" + bytes(8),
        "lines.xpm": b'/* XPM */\nstatic char * x[] = {\n"60 60 2 1",\n"a c #000000",\n"b c #fff",',
        "bits.xbm": b"#define im_width 60\n#define im_height 60\nstatic char im_bits[] = {\n",
        "cards.fits": b"SIMPLE  =                    T".ljust(80),
        "blocks.gif": encoded("GIF")[:13] + bytes(768) + b"\x21\xfe",
        "resources.psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHHII", 3, 60, 60, 8, 3, 0, HOLE),
        "bytes.tif": tiff_with_entries((50000, 1, HOLE)),
        "profile.tif": tiff_with_entries((34675, 7, HOLE)),
        "text.tif": tiff_with_entries((315, 2, HOLE)),
        "numbers.tif": tiff_with_entries((50000, 4, HOLE // 4)),
        "strips.tif": tiff_with_entries((273, 4, 10**8), (279, 4, 10**8)),
        "packed.tif": tiff_with_entries((50000, 1, HOLE), compression=5),
    }
    return {
        **{name: (start, b"") for name, start in files.items()},
        **{f"{kind}.png": png_with_hole(kind.encode()) for kind in CHUNKS},
        "pixels.png": png_with_hole(b"IDAT", within=zlib.compress(bytes(PICTURE.size + 99))),
        "more.png": png_with_hole(b"IDAT", before=pixels),
    }


OTHERS = {
    "webp": "WEBP", "avif": "AVIF", "gif": "GIF", "tif": "TIFF", "bmp": "BMP", "ppm": "PPM",
    "tga": "TGA", "qoi": "QOI", "jp2": "JPEG2000", "ico": "ICO", "icns": "ICNS", "sgi": "SGI",
}  # fmt: skip
CHUNKS = ("PLTE", "ABCD", "tRNS", "tEXt", "zTXt", "iTXt", "iCCP", "eXIf")
REFUSED = {
    "after.webp": "more than the 512 MiB",
    "after.avif": "more than the 512 MiB",
    "riff.webp": "more than the 512 MiB",
    "film.avif": "more than the 512 MiB",
    "scan.jpg": "or more of them; it is broken",
    "none.jpg": "does not begin with the size",
    "begun.jpg": "does not begin with the size",
    "pixels.png": "or more of them; it is broken",
    "more.png": "or more of them; it is broken",
    "strips.tif": "100,000,000 parts",
    "packed.tif": "save it without layers",
    **dict.fromkeys(("lines.xpm", "bits.xbm", "cards.fits", "blocks.gif"), "does not end where"),
    "resources.psd": "does not end where",
}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
def test_files_of_gigabytes_cost_little(tmp_path: Path) -> None:
    paths = []
    for name, (start, end) in long_files().items():
        paths.append(tmp_path / name)
        with open(paths[-1], "wb") as file:
            file.write(start)
            file.truncate(len(start) + HOLE if end else LENGTH)
            file.seek(0, 2)
            file.write(end)
    command = [sys.executable, "-c", READ, str(MEMORY), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines.keys() == {path.name for path in paths}
    for name, line in lines.items():
        if name in REFUSED:
            assert line.startswith("refused:"), f"{name}: {line}"
            assert REFUSED[name] in line, f"{name}: {line}"
        else:
            assert line.endswith(", 3)"), f"{name}: {line}"
