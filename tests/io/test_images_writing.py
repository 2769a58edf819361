"""Images resized and written: the content of the files, and what remains after a failure."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdjax.errors import ImageError
from cdjax.io.images import FORMATS, Picture, read_image, resize, write_image
from tests.image_files import smooth, written
from tests.models import random_image

LOSSLESS = (".png", ".tif", ".tiff")


@pytest.mark.parametrize("suffix", [*FORMATS, ".PNG", ".JpG"])
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str) -> None:
    pixels = smooth()
    path = tmp_path / f"picture{suffix}"
    write_image(path, Picture(pixels))
    again = read_image(path)
    assert again.alpha is None
    assert again.pixels.dtype == np.uint8
    with Image.open(path) as file:
        assert file.format == FORMATS[suffix.lower()]
    difference = np.abs(again.pixels.astype(int) - pixels)
    assert difference.max() <= (0 if suffix.lower() in LOSSLESS else 8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_kept(tmp_path: Path, suffix: str) -> None:
    alpha = np.linspace(0, 255, 40 * 56).reshape(40, 56).astype(np.uint8)
    path = tmp_path / f"picture{suffix}"
    write_image(path, Picture(smooth(), alpha))
    again = read_image(path)
    np.testing.assert_array_equal(again.alpha, alpha)
    if suffix in LOSSLESS:
        np.testing.assert_array_equal(again.pixels, smooth())


def test_jpeg_shows_transparent_pictures_on_white(tmp_path: Path) -> None:
    alpha = np.full((40, 56), 255, np.uint8)
    alpha[:16] = 0
    alpha[16:32] = 128
    write_image(tmp_path / "picture.jpg", Picture(np.zeros((40, 56, 3), np.uint8), alpha))
    pixels = read_image(tmp_path / "picture.jpg").pixels
    assert pixels[:15].min() > 250
    assert abs(int(pixels[24].mean()) - 127) <= 3
    assert pixels[33:].max() < 5


@pytest.mark.parametrize(("side", "size"), [(20, (20, 28)), (80, (80, 112)), (1, (1, 1))])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_resize_makes_the_shorter_side_so_long(
    side: int, size: tuple[int, int], dtype: type
) -> None:
    pixels = smooth() if dtype == np.uint8 else (smooth() / 255).astype(dtype)
    picture = resize(Picture(pixels, smooth()[..., 1]), side)
    assert picture.pixels.shape == (*size, 3)
    assert picture.alpha is not None
    assert picture.alpha.shape == size
    white = 255 if picture.pixels.dtype == np.uint8 else 1
    means = picture.pixels.mean((0, 1)) / white
    np.testing.assert_allclose(means, smooth().mean((0, 1)) / 255, atol=0.02)


def test_resize_keeps_the_aspect_of_either_orientation_and_stays_in_range() -> None:
    board = (np.indices((30, 90)).sum(0) % 2)[..., None].repeat(3, 2).astype(np.float32)
    assert resize(Picture(board), 20).pixels.shape == (20, 60, 3)
    tall = resize(Picture(board.transpose(1, 0, 2)), 45).pixels
    assert tall.shape == (135, 45, 3)
    assert tall.min() >= 0
    assert tall.max() <= 1
    picture = Picture(smooth())
    assert resize(picture, 40) is picture


def test_resize_refuses_what_would_be_too_large() -> None:
    with pytest.raises(ImageError, match="700x7000000 pixels"):
        resize(Picture(np.zeros((1, 10000, 3), np.uint8).transpose(1, 0, 2)), 700)


def test_floating_pixels_are_rounded_to_the_nearest_level(tmp_path: Path) -> None:
    values = np.array([0, 0.49, 0.51, 1, 127.49, 127.51, 254.51, 255, 300, -20]) / 255
    expected = [0, 0, 1, 1, 127, 128, 255, 255, 255, 0]
    for dtype in (np.float32, np.float64):
        pixels = np.repeat(values[None, :, None], 3, 2).astype(dtype)
        before = pixels.copy()
        write_image(tmp_path / "picture.png", Picture(pixels))
        assert read_image(tmp_path / "picture.png").pixels[0, :, 0].tolist() == expected
        np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ImageError, match="not finite"):
        write_image(tmp_path / "picture.png", Picture(np.full((2, 2, 3), value, np.float32)))
    with pytest.raises(TypeError, match="int64"):
        write_image(tmp_path / "picture.png", Picture(np.zeros((2, 2, 3), np.int64)))
    assert not list(tmp_path.iterdir())


def test_quality_is_passed_on(tmp_path: Path) -> None:
    pixels = random_image(64, 64)
    for suffix in (".jpg", ".webp"):
        sizes = []
        for quality in (10, 95):
            write_image(tmp_path / f"{quality}{suffix}", Picture(pixels), quality=quality)
            sizes.append((tmp_path / f"{quality}{suffix}").stat().st_size)
        assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, suffix: str, failing_write: AbstractContextManager[None]
) -> None:
    path = written(tmp_path, f"picture{suffix}", b"old")
    with failing_write:
        write_image(path, Picture(random_image(200, 200)))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_files_are_written_with_the_usual_permissions_and_long_names(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = tmp_path / ("n" * 250 + ".png")
        write_image(path, Picture(smooth()))
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImageError, match=r"unknown suffix '\.gif'.*\.jpg.*\.png.*\.webp.*\.tif"):
        write_image(tmp_path / "picture.gif", Picture(smooth()))
    with pytest.raises(ImageError, match="No such file"):
        write_image(tmp_path / "none" / "picture.png", Picture(smooth()))
    written(tmp_path, "file", b"")
    with pytest.raises(ImageError, match="Not a directory"):
        write_image(tmp_path / "file" / "picture.png", Picture(smooth()))
    for suffix, longest in ((".jpg", 65500), (".webp", 16383)):
        path = tmp_path / f"long{suffix}"
        with pytest.raises(
            ImageError, match=rf"1x{longest + 1} pixels, but \w+ is limited to {longest}"
        ):
            write_image(path, Picture(np.zeros((longest + 1, 1, 3), np.uint8)))
        write_image(path, Picture(np.zeros((1, longest, 3), np.uint8)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error", [RuntimeError("codec failed\nsomewhere"), ValueError(), KeyError(1)]
)
def test_any_exception_of_a_codec_is_an_image_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(ImageError, match=r"a\.tif: cannot be written \(.+\)$") as caught:
        write_image(tmp_path / "a.tif", Picture(smooth()))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_file_is_replaced_only_if_it_may_be_and_keeps_its_mode(tmp_path: Path) -> None:
    path = written(tmp_path, "picture.png", b"old")
    path.chmod(0o600)
    with pytest.raises(ImageError, match=r"picture\.png: cannot be written \(already exists\)"):
        write_image(path, Picture(smooth()), overwrite=False)
    assert path.read_bytes() == b"old"
    write_image(path, Picture(smooth()))
    assert path.stat().st_mode & 0o777 == 0o600
    np.testing.assert_array_equal(read_image(path).pixels, smooth())
