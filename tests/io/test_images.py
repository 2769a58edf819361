"""Files of every kind of sample, written by Pillow or by hand, and what is read of them."""

import io
import struct
import sys
import threading
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from cdjax.errors import ImageError
from cdjax.io.images import FORMATS, Picture, read_image, write_image
from tests.image_files import deep_png, deep_tiff, linear_profile, smooth, written
from tests.models import random_image

MODES = {
    ".png": ("1", "L", "P"),
    ".tif": ("1", "L", "P", "CMYK", "YCbCr"),
    ".jpg": ("1", "L", "CMYK", "YCbCr"),
}


def test_an_alpha_channel_that_is_opaque_everywhere_is_none(tmp_path: Path) -> None:
    Image.fromarray(smooth()).convert("RGBA").save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "opaque.png").alpha is None


@pytest.mark.parametrize(("suffix", "mode"), [(s, mode) for s in MODES for mode in MODES[s]])
def test_other_modes_become_the_rgb_that_they_show(tmp_path: Path, suffix: str, mode: str) -> None:
    image = Image.fromarray(smooth()).convert(mode)
    path = tmp_path / f"picture{suffix}"
    image.save(path, quality=100)
    shown = np.asarray(image.convert("RGB")).astype(int)
    picture = read_image(path)
    assert picture.pixels.shape == (40, 56, 3)
    assert np.abs(picture.pixels - shown).max() <= (6 if suffix == ".jpg" else 1)


def test_grey_with_alpha(tmp_path: Path) -> None:
    grey, alpha = smooth()[..., 0], smooth()[..., 1]
    Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    picture = read_image(tmp_path / "la.png")
    shown = alpha > 0
    np.testing.assert_array_equal(picture.pixels[shown], np.repeat(grey[..., None], 3, 2)[shown])
    np.testing.assert_array_equal(picture.alpha, alpha)


@pytest.mark.parametrize("kind", ["one index", "alpha of every index", "grey", "colour"])
def test_a_transparent_colour_is_alpha(tmp_path: Path, kind: str) -> None:
    values = np.array([[0, 1, 2, 1]], np.uint8)
    mode = {"grey": "L", "colour": "RGB"}.get(kind, "P")
    image = Image.fromarray(np.stack([values] * 3, -1) if mode == "RGB" else values)
    expected = np.stack([values] * 3, -1)
    if mode == "P":
        palette = [10, 20, 30, 40, 50, 60, 70, 80, 90]
        image.putpalette(palette)
        expected = np.asarray(palette, np.uint8).reshape(3, 3)[values]
    transparency = {"alpha of every index": bytes([255, 9, 255]), "colour": (1, 1, 1)}.get(kind, 1)
    image.save(tmp_path / "picture.png", transparency=transparency)
    picture = read_image(tmp_path / "picture.png")
    hidden = 9 if kind == "alpha of every index" else 0
    np.testing.assert_array_equal(picture.alpha, [[255, hidden, 255, hidden]])
    shown = picture.alpha > 0
    np.testing.assert_array_equal(picture.pixels[shown], expected[shown])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", FORMATS)
def test_pictures_are_read_upright_and_written_without_orientation(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(smooth())
    path = tmp_path / f"picture{suffix}"
    stored.save(path, exif=exif, quality=100)
    marked = stored.copy()
    marked.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(marked)).astype(int)
    picture = read_image(path)
    assert picture.pixels.shape == upright.shape
    assert np.abs(picture.pixels - upright).max() <= 8
    write_image(path, picture)
    with Image.open(path) as file:
        assert 0x0112 not in file.getexif()
        assert file.size == (upright.shape[1], upright.shape[0])


LEVELS = np.array([[0, 1, 255, 256, 300, 32767, 32768, 40000, 65280, 65535]])


@pytest.mark.parametrize("kind", ["png", "tiff", "tiff white is zero", "pgm"])
def test_deep_grey_keeps_its_depth(tmp_path: Path, kind: str) -> None:
    levels = LEVELS
    if kind == "png":
        path = written(tmp_path, "deep.png", deep_png(LEVELS, 0))
    elif kind == "pgm":
        data = b"P5 10 1 65535\n" + LEVELS.astype(">u2").tobytes()
        path = written(tmp_path, "deep.pgm", data)
    else:
        white_is_zero = kind != "tiff"
        data = deep_tiff(LEVELS, photometric=0 if white_is_zero else 1)
        path = written(tmp_path, "deep.tif", data)
        levels = 65535 - LEVELS if white_is_zero else LEVELS
    picture = read_image(path)
    assert picture.pixels.dtype == np.float32
    assert picture.alpha is None
    expected = np.repeat(levels[..., None] / 65535, 3, 2)
    np.testing.assert_allclose(picture.pixels, expected, atol=1e-6)


def test_deep_grey_has_the_white_of_its_file(tmp_path: Path) -> None:
    levels = np.array([[0, 1, 2048, 4095]])
    path = written(tmp_path, "deep.tif", deep_tiff(levels, bits=12))
    np.testing.assert_allclose(read_image(path).pixels[..., 0], levels / 4095, atol=1e-6)


def test_a_transparent_level_of_deep_grey_is_alpha(tmp_path: Path) -> None:
    data = deep_png(LEVELS, 0, transparent=struct.pack(">H", 300))
    picture = read_image(written(tmp_path, "deep.png", data))
    np.testing.assert_array_equal(picture.alpha, np.where(LEVELS == 300, 0, 255))


@pytest.mark.parametrize("kind", ["rgb png", "rgba png", "grey and alpha png", "rgb tiff"])
def test_deep_colour_is_neither_clipped_nor_wrapped(tmp_path: Path, kind: str) -> None:
    channels = {"rgba png": 4, "grey and alpha png": 2}.get(kind, 3)
    samples = np.repeat(LEVELS[..., None], channels, 2)
    if kind == "rgb tiff":
        path = written(tmp_path, "deep.tif", deep_tiff(samples, photometric=2))
    else:
        path = written(tmp_path, "deep.png", deep_png(samples, {2: 4, 3: 2, 4: 6}[channels]))
    picture = read_image(path)
    expected = np.repeat(LEVELS[..., None], 3, 2) / 257
    assert np.abs(picture.pixels - expected).max() <= 1
    assert (picture.alpha is None) == (channels == 3)
    if picture.alpha is not None:
        assert np.abs(picture.alpha - LEVELS / 257).max() <= 1


def test_floating_grey_is_taken_as_it_is(tmp_path: Path) -> None:
    grey = np.array([[0, 0.25, 1, 7, -1]], np.float32)
    Image.fromarray(grey).save(tmp_path / "grey.tif")
    np.testing.assert_array_equal(
        read_image(tmp_path / "grey.tif").pixels[..., 2], np.clip(grey, 0, 1)
    )
    Image.fromarray(grey * 255).save(tmp_path / "grey.tif")
    with pytest.raises(ImageError, match=r"grey\.tif: .*up to 1785, not 1: .*divide them by it"):
        read_image(tmp_path / "grey.tif")
    Image.fromarray(grey * np.nan).save(tmp_path / "grey.tif")
    with pytest.raises(ImageError, match=r"grey\.tif: .*not finite"):
        read_image(tmp_path / "grey.tif")


def test_samples_without_an_agreed_white_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 2**31 - 1]], np.int32)).save(tmp_path / "grey.tif")
    with pytest.raises(ImageError, match="save it with 16 bits"):
        read_image(tmp_path / "grey.tif")


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_an_icc_profile_is_converted_to_srgb(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (8, 8), 55 if mode == "L" else (55, 77))
    image.save(tmp_path / "linear.png", icc_profile=linear_profile())
    picture = read_image(tmp_path / "linear.png")
    # 55/255 of white's light is level 128 or so of sRGB.
    assert np.abs(picture.pixels.astype(int) - 128).max() <= 2
    assert (picture.alpha is None) == (mode == "L")


@pytest.mark.parametrize("kind", ["broken", "sRGB", "LAB"])
def test_a_profile_that_is_broken_or_of_srgb_or_of_no_rgb_changes_nothing(
    tmp_path: Path, kind: Literal["broken", "sRGB", "LAB"]
) -> None:
    pixels = random_image(32, 32)
    profile = b"nonsense"
    if kind != "broken":
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()
    Image.fromarray(pixels).save(tmp_path / "picture.png", icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "picture.png").pixels, pixels)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_the_first_frame_of_an_animation_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    path = tmp_path / f"frames{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(read_image(path).pixels.mean((0, 1)), [255, 0, 0], atol=3)


def test_the_content_decides_what_a_file_is(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "picture.tif")
    (tmp_path / "picture.tif").rename(tmp_path / "picture.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "picture.jpg").pixels, smooth())


@pytest.mark.parametrize("suffix", FORMATS)
def test_truncated_files_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    write_image(path, Picture(random_image(64, 64)))
    whole = path.read_bytes()
    for share in (0.0, 0.001, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ImageError, match=rf"cut\{suffix}: ") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    written(tmp_path, "text.png", b"A picture is worth a thousand words.\n" * 99)
    written(tmp_path, "script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(ImageError, match=r"text\.png: not an image"):
        read_image(tmp_path / "text.png")
    with pytest.raises(ImageError, match=r"script\.png: not an image"):
        read_image(tmp_path / "script.png")
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


def test_bombs_are_refused_and_large_pictures_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 2**15
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    bomb = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(4)
    path = written(tmp_path, "bomb.png", bomb)
    with pytest.raises(ImageError, match=r"bomb\.png: 32768x32768 pixels, more than its 45 bytes"):
        read_image(path)
    path.write_bytes(bomb + bytes(2**22))
    with pytest.raises(ImageError, match=r"bomb\.png: 32768x32768 pixels, more than the limit"):
        read_image(path)
    # Beyond what Pillow lets through by itself, and below our limit.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("large.png", "large.tif", "large.bmp", "large.gif"):
        Image.fromarray(smooth()[..., 0]).save(tmp_path / name)
        pixels = read_image(tmp_path / name).pixels
        np.testing.assert_array_equal(pixels, smooth()[..., :1].repeat(3, axis=2))
    assert Image.MAX_IMAGE_PIXELS == 100


def test_files_are_read_in_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    write_image(tmp_path / "picture.png", Picture(smooth()))
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(20):
                read_image(tmp_path / "picture.png")
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_profile_of_other_colours_than_the_pixels_is_ignored(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(smooth()).save(data, "PNG", icc_profile=linear_profile())
    path = written(tmp_path, "picture.png", data.getvalue())
    np.testing.assert_array_equal(read_image(path).pixels, smooth())
