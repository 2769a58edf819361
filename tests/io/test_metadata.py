"""Metadata of image files: broken, it is ignored; sound, it is kept in what is written."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from cdjax.data.sources import decode
from cdjax.io import vips_writer
from cdjax.io.images import Picture, read_image, write_image
from cdjax.io.streaming import without_metadata
from cdjax.io.vips import open_image
from tests.image_files import built_in, saved, smooth, written

PREFIX = b"Exif\0\0"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="1" mark="kept"/></x:xmpmeta>'
READERS: dict[str, Callable[[Path], np.ndarray[Any, Any]]] = {
    "Pillow": lambda path: read_image(path).pixels,
    "libvips": lambda path: open_image(path)[:, :],
}


def chunk(kind: bytes, data: bytes, *, broken: bool = False) -> bytes:
    check = zlib.crc32(kind + data) ^ int(broken)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def png_with(*chunks: bytes, last: bytes = b"") -> bytes:
    """A PNG file with chunks before its pixels, and after them."""
    plain = io.BytesIO()
    Image.fromarray(smooth()).save(plain, "PNG")
    data = plain.getvalue()
    return data[:33] + b"".join(chunks) + data[33:-12] + last + data[-12:]


def jpeg_with(*segments: bytes) -> bytes:
    plain = io.BytesIO()
    Image.fromarray(smooth()).save(plain, "JPEG", quality=100)
    return plain.getvalue()[:2] + b"".join(segments) + plain.getvalue()[2:]


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def exif(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """EXIF data of one directory; values are those of the file."""
    body = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(entries)) + body + bytes(4)


TURNED = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
LONG = b"parameters\0" + zlib.compress(b"x" * 3_000_000)
BROKEN_EXIF = {
    "empty": b"",
    "garbage": b"\0\x08\0\x02\x01\x12\0\x03" * 9,
    "only a header": b"II*\0",
    "a directory beyond the end": b"II*\0" + struct.pack("<I", 10**9),
    "a count beyond the end": b"II*\0" + struct.pack("<IH", 8, 65535),
    "a rational beyond the end": exif((282, 5, 1, struct.pack("<I", 10**8))),
    "a rational over zero": exif((282, 5, 1, struct.pack("<I", 26))) + bytes(8),
    "an unknown type": exif((282, 99, 1, bytes(4))),
    "a directory of itself": exif((0x8769, 4, 1, struct.pack("<I", 8))),
    "a length beyond memory": exif((282, 5, 2**32 - 1, bytes(4))),
}
SOUND_PIXELS = {
    "long text": png_with(chunk(b"zTXt", LONG.replace(b"\0", b"\0\0", 1))),
    "text of every kind": png_with(
        chunk(b"tEXt", b"no end"), chunk(b"zTXt", b"k\0\1nonsense"), chunk(b"iTXt", b"k\0\1\0\0")
    ),
    "a mebibyte of plain text": png_with(chunk(b"tEXt", b"Comment\0" + b"x" * 2**21)),
    "a long XMP": png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP * 20_000)),
    "a compressed XMP": png_with(
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP * 20_000))
    ),
    "wrong checksums": png_with(
        *(chunk(kind, b"text", broken=True) for kind in (b"tEXt", b"tIME", b"pHYs", b"bKGD"))
    ),
    "short chunks": png_with(*(chunk(kind, b"") for kind in (b"gAMA", b"cHRM", b"iCCP", b"pHYs"))),
    "a broken profile": png_with(chunk(b"iCCP", b"name\0\0" + b"no deflate")),
    "a profile of nonsense": png_with(chunk(b"iCCP", b"n\0\0" + zlib.compress(b"no" * 500_000))),
    "text after the pixels": png_with(last=chunk(b"zTXt", LONG.replace(b"\0", b"\0\0", 1))),
    "an unknown chunk": png_with(chunk(b"abCd", b"?" * 99)),
    "a long JPEG comment": jpeg_with(segment(0xFE, b"?" * 65_000)),
    "segments of nonsense": jpeg_with(
        *(segment(number, b"nonsense") for number in range(0xE1, 0xF0))
    ),
    "half a profile": jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\2" + b"?" * 60_000)),
    "many profiles": jpeg_with(
        *(segment(0xE2, b"ICC_PROFILE\0" + bytes((n, 20)) + b"?" * 60_000) for n in range(1, 21))
    ),
    "a broken MPF": jpeg_with(segment(0xE2, b"MPF\0II*\0" + b"\xff" * 30)),
    "a broken Photoshop block": jpeg_with(segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\xff")),
    "an Adobe segment that is cut off": jpeg_with(segment(0xEE, b"Adobe\0d")),
    "a JFIF segment that is cut off": jpeg_with(segment(0xE0, b"JFIF\0\1")),
    "stray bytes": jpeg_with(b"\0\1\2stray"),
    **{f"PNG, {name}": png_with(chunk(b"eXIf", data)) for name, data in BROKEN_EXIF.items()},
    **{
        f"JPEG, {name}": jpeg_with(segment(0xE1, PREFIX + data))
        for name, data in BROKEN_EXIF.items()
    },
}


@pytest.mark.parametrize("name", SOUND_PIXELS)
@pytest.mark.parametrize("large", [False, True])
def test_sound_pixels_are_read_whatever_their_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, large: bool
) -> None:
    from cdjax.io import streaming

    monkeypatch.setattr(streaming, "STREAMED_PIXELS", 1000 if large else 10**6)
    path = written(tmp_path, "picture", SOUND_PIXELS[name])
    opened = streaming.open_picture(path)
    pixels = streaming.raster(opened)[:, :]
    assert np.abs(pixels.astype(int) - smooth()).max() <= (0 if b"PNG" in path.read_bytes() else 4)
    assert decode(path, shorter_side=40).shape == smooth().shape
    for suffix in (".png", ".jpg", ".tif", ".webp"):
        target = tmp_path / f"result{suffix}"
        if isinstance(opened, Picture):
            write_image(target, opened)
        else:
            vips_writer.write_image(target, pixels, like=opened)
        assert read_image(target).pixels.shape == smooth().shape


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4, 5])
def test_orientation_is_read_from_broken_exif(
    tmp_path: Path, reader: str, order: str, kind: int
) -> None:
    value = {1: b"\6\0\0\0", 3: struct.pack(f"{order}HH", 6, 0), 4: struct.pack(f"{order}I", 6)}
    entry = (0x0112, kind, 1, value.get(kind, struct.pack(f"{order}I", 38)))
    bad = (0x010F, 2, 99, struct.pack(f"{order}I", 10**7))
    data = exif(bad, entry, order=order) + struct.pack(f"{order}II", 6, 1)
    for file in (
        jpeg_with(segment(0xE1, PREFIX + data)),
        png_with(chunk(b"eXIf", data)),
        png_with(chunk(b"eXIf", PREFIX + data)),
    ):
        pixels = READERS[reader](written(tmp_path, "picture", file))
        expected = np.rot90(smooth(), -1).astype(int)
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected).max() <= 4


@pytest.mark.parametrize("reader", READERS)
def test_orientation_is_read_from_xmp(tmp_path: Path, reader: str) -> None:
    xmp = XMP.replace(b'tion="1"', b'tion="6"')
    file = png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    pixels = READERS[reader](written(tmp_path, "picture", file))
    np.testing.assert_array_equal(pixels, np.rot90(smooth(), -1))


def described(path: Path) -> Path:
    """A photograph with all that is kept, and an orientation and a thumbnail, which are not."""
    data = Image.Exif()
    data[0x010F], data[0x8298], data[0x0112] = "Maker", "Somebody", 6
    camera = data.get_ifd(0x8769)
    camera[0x920A], camera[0xA002], camera[0xA003] = 50.0, 56, 40
    data.get_ifd(0x8825)[1] = "N"
    if path.suffix in (".jpg", ".webp", ".png"):
        thumbnail = io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(thumbnail, "JPEG")
        data.get_ifd(1)[0x0201] = thumbnail.getvalue()
    options: dict[str, Any] = {"exif": data, "dpi": (300, 150), "icc_profile": built_in("p3")}
    if path.suffix == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif path.suffix != ".tif":
        options["xmp"] = XMP
    if path.suffix == ".webp":
        data[282], data[283], data[296] = 300.0, 150.0, 2
    saved(path, smooth(), **options)
    if path.suffix == ".tif":
        # What Pillow writes lacks the camera; another picture's entries are added.
        other = read_image(described(path.with_suffix(".png")))
        write_image(path, Picture(smooth(), metadata=other.metadata))
    return path


def kept(path: Path) -> dict[str, Any]:
    with Image.open(path) as file:
        data = file.getexif()
        camera, gps = data.get_ifd(0x8769), data.get_ifd(0x8825)
        dpi = (
            (data.get(282), data.get(283))
            if 282 in data and path.suffix != ".tif"
            else file.info.get("dpi")
        )
        return {
            "maker": data.get(0x010F),
            "owner": data.get(0x8298),
            "orientation": data.get(0x0112, 1),
            "focal length": camera.get(0x920A),
            "width": camera.get(0xA002),
            "gps": gps.get(1),
            "thumbnail": bool(data.get_ifd(1)),
            "xmp": b'mark="kept"' in _bytes(file.info.get("xmp")),
            "profile": file.info.get("icc_profile"),
            "dpi": dpi and tuple(round(float(value)) for value in dpi),
        }


def _bytes(text: Any) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text or b"")


SUFFIXES = (".jpg", ".png", ".tif", ".webp")


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("source", SUFFIXES)
@pytest.mark.parametrize("reader", READERS)
def test_metadata_is_kept(tmp_path: Path, source: str, target: str, reader: str) -> None:
    content = described(tmp_path / f"content{source}")
    path = tmp_path / f"result{target}"
    rewritten(content, path, reader)
    upright = source == ".tif"  # Written by `write_image`.
    assert kept(path) == {
        "maker": "Maker",
        "owner": "Somebody",
        "orientation": 1,
        "focal length": 50,
        "width": 56 if upright else 40,
        "gps": "N",
        "thumbnail": False,
        "xmp": True,
        "profile": built_in("p3"),
        "dpi": (150, 300),
    }
    # The profile is that of the pixels.
    shown = np.abs(read_image(path).pixels.astype(int) - read_image(content).pixels)
    assert shown.mean() <= (3 if {source, target} & {".jpg", ".webp"} else 1)


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("reader", READERS)
def test_nothing_is_left_of_stripped_metadata(tmp_path: Path, target: str, reader: str) -> None:
    content = described(tmp_path / "content.jpg")
    path = tmp_path / f"result{target}"
    rewritten(content, path, reader, strip=True)
    found = kept(path)
    assert not any(found[name] for name in ("maker", "owner", "focal length", "gps", "xmp"))
    assert found["profile"] is None
    assert found["dpi"] in (None, (72, 72), (1, 1))
    for word in (b"Maker", b"Somebody", b"kept", b"Exif"):
        assert word not in path.read_bytes()


def rewritten(content: Path, path: Path, reader: str, *, strip: bool = False) -> None:
    opened = read_image(content) if reader == "Pillow" else open_image(content)
    if strip:
        opened = without_metadata(opened)  # type: ignore[assignment]
    if isinstance(opened, Picture):
        write_image(path, opened, quality=100)
    else:
        vips_writer.write_image(path, opened[:, :], like=opened, quality=100)


def test_what_is_too_long_for_jpeg_is_left_out(tmp_path: Path) -> None:
    data = Image.Exif()
    data[0x8298] = "Somebody"
    data.get_ifd(0x8769)[0x927C] = b"?" * 100_000
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode() * 20_000)
    saved(tmp_path / "content.png", smooth(), exif=data, pnginfo=text)
    for reader in READERS:
        for suffix, long in ((".jpg", False), (".png", True), (".webp", True), (".tif", True)):
            path = tmp_path / f"result{suffix}"
            rewritten(tmp_path / "content.png", path, reader)
            assert kept(path)["owner"] == "Somebody"
            assert kept(path)["xmp"] == long
            assert (path.stat().st_size > 100_000) == long


def test_a_grey_or_cmyk_profile_is_not_kept(tmp_path: Path) -> None:
    image = Image.fromarray(smooth()).convert("CMYK")
    image.save(tmp_path / "print.jpg", icc_profile=built_in("cmyk"), quality=95)
    write_image(tmp_path / "result.png", read_image(tmp_path / "print.jpg"))
    assert kept(tmp_path / "result.png")["profile"] is None


def test_a_profile_that_converts_one_way_only_leaves_srgb(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    content = saved(tmp_path / "content.png", smooth(), icc_profile=lab)
    write_image(tmp_path / "result.png", read_image(content))
    with Image.open(tmp_path / "result.png") as file:
        np.testing.assert_array_equal(np.asarray(file), smooth())
        assert "icc_profile" not in file.info
