"""Images read through libvips: regions of the same pixels that Pillow reads, or a line why not."""

import io
import os
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from cdjax.errors import ImageError
from cdjax.io import vips
from cdjax.io.images import FORMATS, Picture, read_image
from cdjax.io.images import write_image as write_picture
from cdjax.io.vips import VipsImage, open_image
from cdjax.io.vips_writer import write_image
from tests.image_files import built_in, deep_png, deep_tiff, linear_profile, saved, smooth, written
from tests.models import random_image

pyvips = pytest.importorskip("pyvips")

ALL = (slice(None), slice(None))
REGIONS = [ALL, (slice(3, 17), slice(20, 56)), (slice(39, 40), slice(0, 1)), (slice(5, 5), ALL[1])]
MODES = {
    ".png": ("1", "L", "P", "RGB", "LA", "RGBA"),
    ".tif": ("1", "L", "P", "RGB", "CMYK", "LA", "RGBA"),
    ".jpg": ("L", "RGB", "CMYK"),
    ".webp": ("RGB", "RGBA"),
    ".gif": ("P",),
}


def tiled(path: Path, pixels: np.ndarray[Any, Any], **options: Any) -> Path:
    height, width = pixels.shape[:2]
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels), width, height, 3, "uchar")
    image.copy(interpretation="srgb").tiffsave(str(path), tile=True, **options)
    return path


@pytest.mark.parametrize(("suffix", "mode"), [(s, mode) for s in MODES for mode in MODES[s]])
def test_regions_are_those_of_the_array_that_pillow_reads(
    tmp_path: Path, suffix: str, mode: str
) -> None:
    image = Image.fromarray(smooth()).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(smooth()[..., 1]))
    image.save(tmp_path / f"picture{suffix}", quality=90)
    expected = read_image(tmp_path / f"picture{suffix}")
    opened = open_image(tmp_path / f"picture{suffix}")
    assert opened.shape == (40, 56, 3)
    assert opened.dtype == np.uint8
    for region in REGIONS:
        np.testing.assert_array_equal(opened[region], expected.pixels[region], strict=True)
    if expected.alpha is not None:
        np.testing.assert_array_equal(opened.alpha.numpy(), expected.alpha)
    else:
        assert opened.alpha is None


def test_regions_end_at_the_borders_and_have_no_steps(tmp_path: Path) -> None:
    opened = open_image(saved(tmp_path / "picture.png", smooth()))
    np.testing.assert_array_equal(opened[30:99, -6:60], smooth()[30:, 50:])
    with pytest.raises(ValueError, match="steps of 1"):
        opened[0:10:2, 0:10]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_images_are_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"picture{suffix}", smooth(), exif=exif, quality=100)
    expected = read_image(path).pixels
    opened = open_image(path)
    np.testing.assert_array_equal(opened[ALL], expected)
    write_image(path, np.ascontiguousarray(expected), like=opened)
    with Image.open(path) as file:
        assert file.getexif().get(0x0112, 1) == 1
        assert file.size == (expected.shape[1], expected.shape[0])


def test_profiles_are_converted_to_srgb(tmp_path: Path) -> None:
    cases = {
        "wide.png": (Image.fromarray(smooth()), built_in("p3")),
        "print.jpg": (Image.fromarray(smooth()).convert("CMYK"), built_in("cmyk")),
        "grey.png": (Image.fromarray(smooth()[..., 0]), linear_profile()),
    }
    for name, (image, profile) in cases.items():
        image.save(tmp_path / name, icc_profile=profile, quality=95)
        opened = open_image(tmp_path / name)
        expected = read_image(tmp_path / name).pixels.astype(int)
        assert np.abs(opened[ALL] - expected).max() <= 2, name
        assert opened.metadata.profile == (profile if name == "wide.png" else None)
        plain = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(expected - plain).max() > 10, "the profile would not be seen"


@pytest.mark.parametrize("kind", ["broken", "sRGB", "LAB", "of grey"])
def test_profiles_that_say_nothing_change_nothing(tmp_path: Path, kind: str) -> None:
    profile = {"broken": b"nonsense" * 99, "of grey": linear_profile()}.get(kind)
    if profile is None:
        name: Any = kind
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()
    for suffix in (".tif", ".png"):
        path = saved(tmp_path / f"picture{suffix}", smooth(), icc_profile=profile)
        opened = open_image(path)
        np.testing.assert_array_equal(opened[ALL], smooth())
        assert opened.metadata.profile == (profile if kind == "sRGB" else None)


LEVELS = np.array([[0, 1, 255, 256, 300, 32767, 32768, 40000, 65280, 65535]])


@pytest.mark.parametrize("kind", ["grey", "transparent", "rgb", "rgba", "tiff", "white is zero"])
def test_sixteen_bits_keep_their_depth(tmp_path: Path, kind: str) -> None:
    data = {
        "grey": lambda: deep_png(LEVELS, 0),
        "transparent": lambda: deep_png(LEVELS, 0, transparent=struct.pack(">H", 300)),
        "rgb": lambda: deep_png(np.repeat(LEVELS[..., None], 3, 2), 2),
        "rgba": lambda: deep_png(np.repeat(LEVELS[..., None], 4, 2), 6),
        "tiff": lambda: deep_tiff(np.repeat(LEVELS[..., None], 3, 2), photometric=2),
        "white is zero": lambda: deep_tiff(LEVELS, photometric=0),
    }[kind]()
    opened = open_image(written(tmp_path, "deep", data))
    levels = 65535 - LEVELS if kind == "white is zero" else LEVELS
    assert opened.dtype == np.float32
    assert opened[0:1, 2:9].dtype == np.float32
    expected = np.repeat(levels[..., None] / 65535, 3, 2)
    alpha = {
        "transparent": np.where(LEVELS == 300, 0, 255),
        "rgba": np.rint(LEVELS / 257),
    }.get(kind)
    if alpha is None:
        assert opened.alpha is None
        shown = np.ones(LEVELS.shape, bool)
    else:
        np.testing.assert_array_equal(opened.alpha.numpy(), alpha)
        shown = alpha > 0
    np.testing.assert_allclose(opened[ALL][shown], expected[shown], atol=1e-6)
    part = shown[:, 2:9]
    np.testing.assert_allclose(opened[0:1, 2:9][part], expected[:, 2:9][part], atol=1e-6)


def test_a_profile_of_sixteen_bits_gives_the_colours_of_eight(tmp_path: Path) -> None:
    image = pyvips.Image.new_from_array(smooth().astype(np.uint16) * 257)
    image = image.copy(interpretation="rgb16")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", built_in("p3"))
    image.pngsave(str(tmp_path / "deep.png"))
    path = saved(tmp_path / "picture.png", smooth(), icc_profile=built_in("p3"))
    opened = open_image(tmp_path / "deep.png")
    assert opened.dtype == np.float32
    assert np.abs(opened[ALL] * 255 - read_image(path).pixels).max() <= 2


def test_floating_samples_are_taken_as_they_are(tmp_path: Path) -> None:
    grey = np.array([[0, 0.25, 1, 7, -1]], np.float32)
    opened = open_image(saved(tmp_path / "grey.tif", grey))
    expected = np.repeat(np.clip(grey, 0, 1)[..., None], 3, 2)
    np.testing.assert_array_equal(opened[ALL], expected, strict=True)
    colour = np.linspace(0, 1, 90, dtype=np.float32).reshape(5, 6, 3)
    image = pyvips.Image.new_from_array(colour).copy(interpretation="scrgb")
    image.tiffsave(str(tmp_path / "colour.tif"))
    np.testing.assert_array_equal(open_image(tmp_path / "colour.tif")[ALL], colour, strict=True)
    with pytest.raises(ImageError, match=r"bright\.tif: .*up to 1785, not 1"):
        open_image(saved(tmp_path / "bright.tif", grey * 255))
    opened = open_image(saved(tmp_path / "nan.tif", grey * np.nan))
    with pytest.raises(ImageError, match=r"nan\.tif: .*not finite"):
        opened[ALL]


def test_samples_without_an_agreed_meaning_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "signed.tif", np.array([[0, 2**31 - 1]], np.int32))
    pyvips.Image.new_from_array(smooth()).copy(interpretation="srgb").colourspace("lab").tiffsave(
        str(tmp_path / "lab.tif")
    )
    for name in ("signed.tif", "lab.tif"):
        with pytest.raises(ImageError, match=rf"{name}: .*save it as RGB of 8 or 16 bits"):
            open_image(tmp_path / name)


@pytest.mark.parametrize("pyramid", [False, True])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiled_tiff(tmp_path: Path, pyramid: bool, bigtiff: bool) -> None:
    pixels = random_image(500, 700)
    path = tiled(tmp_path / "large.tif", pixels, pyramid=pyramid, bigtiff=bigtiff)
    assert path.read_bytes()[2] == (43 if bigtiff else 42)
    opened = open_image(path)
    assert opened.shape == pixels.shape
    for region in (ALL, (slice(100, 400), slice(250, 270))):
        np.testing.assert_array_equal(opened[region], pixels[region])


@pytest.mark.parametrize("compression", ["lzw", "deflate", "jpeg"])
def test_only_the_tiles_of_a_region_are_decoded_and_broken_ones_are_errors(
    tmp_path: Path, compression: str
) -> None:
    pixels = random_image(512, 512)
    options = {"tile_width": 256, "tile_height": 256, "compression": compression}
    path = tiled(tmp_path / "large.tif", pixels, **options)
    with Image.open(path) as file:
        last, size = file.tag_v2[324][-1], file.tag_v2[325][-1]  # type: ignore[attr-defined]
        expected = np.asarray(file)
    data = bytearray(path.read_bytes())
    data[last : last + size] = b"\xff" * size
    path.write_bytes(data)
    opened = open_image(path)
    np.testing.assert_array_equal(opened[0:512, 0:256], expected[:, :256])
    with pytest.raises(ImageError, match=r"large\.tif: broken image \(.+\)") as caught:
        opened[300:310, 300:310]
    assert "\n" not in str(caught.value)


def test_broken_strips_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    write_picture(path, Picture(random_image(512, 512)))
    with Image.open(path) as file:
        start = file.tag_v2[273][-1]  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[start : start + 300] = b"\xff" * 300
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"picture\.tif: broken image"):
        open_image(path)[ALL]


def test_regions_are_read_in_another_thread(tmp_path: Path) -> None:
    pixels = random_image(300, 300)
    opened = open_image(tiled(tmp_path / "large.tif", pixels))
    blocks: list[np.ndarray[Any, Any]] = []
    read = threading.Thread(target=lambda: blocks.extend(opened[y : y + 10, :] for y in range(290)))
    read.start()
    read.join()
    assert len(blocks) == 290
    np.testing.assert_array_equal(blocks[123], pixels[123:133])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_truncated_files_are_named(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"cut{suffix}"
    write_picture(path, Picture(random_image(64, 64)))
    whole = path.read_bytes()
    for share in (0.0, 0.001, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ImageError, match=rf"cut\{suffix}: ") as caught:
            open_image(path)[ALL]
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    written(tmp_path, "text.png", b"A picture is worth a thousand words.\n" * 99)
    drawing = b"<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'/>"
    written(tmp_path, "drawing.png", drawing)
    for name in ("text.png", "drawing.png"):
        with pytest.raises(
            ImageError, match=rf"{name}: not an image, or broken, or not one of JPEG"
        ):
            open_image(tmp_path / name)
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        open_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match=r"cannot be read \(Is a directory\)"):
        open_image(tmp_path)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert vips.available()
    monkeypatch.setitem(sys.modules, "pyvips", None)
    assert not vips.available()
    with pytest.raises(ImageError, match=r"pip install 'pyvips\[binary\]'"):
        open_image(tmp_path / "picture.png")
    monkeypatch.delitem(sys.modules, "pyvips")
    written(tmp_path, "pyvips.py", b"raise OSError('libvips.so.42: cannot open shared object')")
    monkeypatch.syspath_prepend(tmp_path)
    assert not vips.available()


def test_a_file_that_is_read_no_more_is_closed(tmp_path: Path) -> None:
    path = saved(tmp_path / "picture.png", smooth(), icc_profile=built_in("p3"))

    def opened() -> bool:
        folder = Path("/proc/self/fd")
        return any(os.readlink(link) == str(path) for link in folder.iterdir() if link.is_symlink())

    image: VipsImage | None = open_image(path)
    assert image is not None
    assert image[0:3, 0:3].shape == (3, 3, 3)
    del image
    assert not opened()


def test_of_several_pictures_the_first_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for suffix in (".gif", ".webp", ".tif"):
        data = io.BytesIO()
        frames[0].save(data, FORMATS.get(suffix, "GIF"), save_all=True, append_images=frames[1:])
        opened = open_image(written(tmp_path, f"frames{suffix}", data.getvalue()))
        assert opened.shape == (16, 16, 3)
        np.testing.assert_allclose(opened[ALL].mean((0, 1)), [255, 0, 0], atol=3)


def test_what_glib_says_of_impossible_sizes_is_logged_and_not_printed(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert vips.available()
    caplog.set_level("WARNING", "pyvips")  # Commands that ran before may have silenced it.
    with pytest.raises(pyvips.Error):
        pyvips.Image.black(10, 2**30 + 43)
    assert capfd.readouterr().err == ""
    assert "out of range" in caplog.text
