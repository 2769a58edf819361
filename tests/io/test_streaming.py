"""Pictures of any size and format: whichever of Pillow and libvips can read one does."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdjax.errors import ImageError
from cdjax.io import streaming
from cdjax.io.formats import READABLE
from cdjax.io.streaming import open_picture, raster, read_picture
from tests.image_files import saved, smooth


@pytest.fixture(params=["with libvips", "without"])
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of 1000 pixels are large."""
    monkeypatch.setattr(streaming, "STREAMED_PIXELS", 1000)
    if request.param == "without":
        monkeypatch.setitem(sys.modules, "pyvips", None)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("suffix", [".bmp", ".ppm", ".tga", ".gif", ".jp2", ".ico", ".dib", ".qoi"])
def test_every_format_is_read_however_large(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    try:
        Image.fromarray(smooth()).save(path, "BMP" if suffix == ".dib" else None)
    except (KeyError, ValueError):
        path.write_bytes(b"qoif" + struct.pack(">IIBB", 56, 40, 3, 0) + _qoi() + bytes(7) + b"\1")
    pixels = raster(open_picture(path))[:, :]
    if suffix != ".ico":  # Scaled to a size that icons have.
        assert np.abs(pixels.astype(int) - smooth()).max() <= (20 if suffix == ".gif" else 1)


def _qoi() -> bytes:
    """The pixels of `smooth`, one by one."""
    return b"".join(b"\xfe" + bytes(pixel) for pixel in smooth().reshape(-1, 3))


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("place", ["start", "header", "middle", "end"])
def test_stray_bytes_in_a_jpeg_file_do_not_matter(tmp_path: Path, place: str) -> None:
    path = saved(tmp_path / "picture.jpg", smooth(), quality=100)
    data = path.read_bytes()
    at = {"start": 2, "header": data.index(b"\xff\xda"), "middle": 0, "end": len(data) - 2}[place]
    data = data[:at] + b"\0\1\2" + data[at:] if at else data.replace(b"\xff\xda", b"\xff\xff\xda")
    path.write_bytes(data)
    pixels = raster(open_picture(path))[:, :]
    assert np.abs(pixels.astype(int) - smooth()).max() <= 6


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_picture_is_reduced_to_what_resizing_makes(
    tmp_path: Path, suffix: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if suffix == ".bmp" else {"exif": exif}
    pixels = np.asarray(Image.fromarray(smooth()).resize((561, 403)))
    path = saved(tmp_path / f"picture{suffix}", pixels, **options)
    reduced = read_picture(path, 50).pixels
    monkeypatch.setattr(streaming, "STREAMED_PIXELS", 10**9)
    expected = read_picture(path, 50).pixels
    assert reduced.shape == expected.shape
    assert np.abs(reduced.astype(int) - expected).max() <= 6


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("size", [None, 10])
def test_hidden_colours_decide_nothing(tmp_path: Path, size: int | None) -> None:
    alpha = np.full((40, 56), 255, np.uint8)
    alpha[10:30, 20:50] = 0
    results = []
    for hidden in (0, 255):
        pixels = np.full((40, 56, 3), (200, 100, 50), np.uint8)
        pixels[alpha == 0] = hidden
        path = saved(tmp_path / f"{hidden}.png", np.dstack([pixels, alpha]))
        results.append(np.asarray(raster(open_picture(path, size))[:, :]))
    np.testing.assert_array_equal(*results)
    assert np.abs(results[0].astype(int) - (200, 100, 50)).max() <= 1


def claiming(path: Path, size: int) -> Path:
    """A JPEG file whose header claims to be a square of another size."""
    data = bytearray(saved(path, smooth()).read_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", size, size)
    path.write_bytes(data)
    return path


def scans(path: Path) -> Path:
    """A progressive JPEG file whose last scan comes 2000 times."""
    Image.new("RGB", (2000, 2000)).save(path, progressive=True)
    data = path.read_bytes()
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    path.write_bytes(data[:end] + 2000 * data[last:end] + data[end:])
    return path


def image(path: Path, mode: str, width: int, height: int) -> Path:
    Image.new(mode, (width, height)).save(path)
    return path


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("size", [None, 64])
@pytest.mark.parametrize(
    "name", ["claims.jpg", "scans.jpg", "tall.png", "large.webp", "claims.qoi"]
)
def test_what_costs_more_than_it_is_worth_is_refused(
    tmp_path: Path, name: str, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cdjax.io import limits

    path = tmp_path / name
    if name == "claims.jpg":
        claiming(path, 65500)
        message = r"65500x65500 pixels, more than its [\d,]+ bytes can hold"
    elif name == "scans.jpg":
        scans(path)
        message = r"2000x2000 pixels, 2010 scans, more than 100"
    elif name == "tall.png":
        image(path, "L", 1, 200_000)
        message = "1x200000 pixels, too long and narrow"
    else:
        monkeypatch.setattr(limits, "_MEMORY", 2**20)
        message = r"\d+x\d+ pixels, would take .* GiB to decode"
        if name == "claims.qoi" and size is None:
            message = "20000x20000 pixels, but 64 bytes, .* hardly a picture; scale it"
        if name == "large.webp":
            image(path, "RGB", 3000, 3000)
        else:
            path.write_bytes(b"qoif" + struct.pack(">IIBB", 20000, 20000, 3, 0) + bytes(50))
    with pytest.raises(ImageError, match=rf"{name}: {message}") as caught:
        open_picture(path, size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [None, 64])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_file_has_some_bits_for_every_block(
    tmp_path: Path, size: int | None, progressive: bool
) -> None:
    path = image(tmp_path / "flat.jpg", "L", 4200, 4200)
    Image.open(path).save(path, optimize=True, progressive=progressive)
    assert read_picture(path, 64).pixels.shape == (64, 64, 3)
    # So many pixels that each block of 64 has fewer bits than any picture could have.
    side = int((path.stat().st_size * (520 if progressive else 260)) ** 0.5)
    claimed = path.read_bytes().replace(
        struct.pack(">HH", 4200, 4200), struct.pack(">HH", side, side), 1
    )
    path.write_bytes(claimed)
    with pytest.raises(ImageError, match=r"flat\.jpg: .* more than its [\d,]+ bytes can hold"):
        open_picture(path, size)


def test_large_pictures_in_few_bytes_are_read_only_if_they_are_scaled(tmp_path: Path) -> None:
    path = image(tmp_path / "page.png", "1", 5000, 5000)
    with pytest.raises(ImageError, match=r"page\.png: 5000x5000 pixels, but .* hardly a picture"):
        open_picture(path)
    assert raster(open_picture(path, 64)).shape == (64, 64, 3)
    flat = image(tmp_path / "flat.png", "RGB", 4200, 4200)
    assert raster(open_picture(flat)).shape == (4200, 4200, 3)


def test_large_one_bit_pictures_are_reduced_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cdjax.io import limits

    path = image(tmp_path / "page.png", "1", 5000, 5000)
    assert read_picture(path, 64).pixels.shape == (64, 64, 3)
    monkeypatch.setattr(limits, "_MEMORY", 2**20)
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(ImageError, match=r"page\.png: 5000x5000 pixels, would take"):
        read_picture(path, 64)


@pytest.mark.usefixtures("large")
def test_names_need_not_be_utf8(tmp_path: Path) -> None:
    path = tmp_path / b"na\xefve.png".decode(errors="surrogateescape")
    saved(path, smooth())
    np.testing.assert_array_equal(raster(open_picture(path))[:, :], smooth())


def test_heic_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "phone.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(ImageError, match=r"phone\.heic: HEIC needs .*pip install 'cdjax\[heif\]'"):
        open_picture(path)


def test_heic(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "phone.heic"
    pillow_heif.from_pillow(Image.fromarray(smooth())).save(path, quality=100)
    assert np.abs(read_picture(path).pixels.astype(int) - smooth()).max() <= 8


def test_suffixes_are_those_that_pillow_knows() -> None:
    Image.init()
    known = Image.registered_extensions()
    for suffix in (".jfif", ".jpe", ".dib", ".avif", ".gif", ".jp2", ".tga", ".qoi", ".pbm"):
        assert READABLE[suffix] == known[suffix]


def test_samples_that_only_libvips_knows_are_refused_for_what_they_are(tmp_path: Path) -> None:
    pyvips = pytest.importorskip("pyvips")
    samples = smooth().astype(np.float32)
    names = {
        "samples of up to": samples,
        "not finite": samples * np.float32("nan"),
        "uint": samples.astype("u4"),
    }
    for reason, array in names.items():
        image = pyvips.Image.new_from_array(array).copy(interpretation="srgb")
        image.tiffsave(str(tmp_path / "rgb.tif"))
        with pytest.raises(ImageError, match=rf"rgb\.tif: .*{reason}") as caught:
            read_picture(tmp_path / "rgb.tif")
        assert "not an image" not in str(caught.value)
    (tmp_path / "rgb.tif").write_text("no picture")
    with pytest.raises(ImageError, match=r"rgb\.tif: not an image, or broken, or not one of"):
        read_picture(tmp_path / "rgb.tif")
