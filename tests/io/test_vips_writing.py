"""Images written by libvips: the content of the files, and what remains after a failure."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cdjax.errors import ImageError
from cdjax.io import vips_writer
from cdjax.io.images import FORMATS, Picture, read_image
from cdjax.io.images import write_image as write_picture
from cdjax.io.vips import open_image
from cdjax.io.vips_writer import write_image
from tests.image_files import built_in, linear_profile, saved, smooth, written
from tests.models import random_image

pyvips = pytest.importorskip("pyvips")

LOSSLESS = (".png", ".tif", ".tiff")
ALL = (slice(None), slice(None))


@pytest.mark.parametrize("suffix", [*FORMATS, ".PNG"])
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture[page=2]{suffix}"
    write_image(path, smooth(), like=None)
    again = read_image(path)
    assert again.alpha is None
    assert again.pixels.dtype == np.uint8
    difference = np.abs(again.pixels.astype(int) - smooth())
    assert difference.max() <= (0 if suffix.lower() in LOSSLESS else 8)
    np.testing.assert_array_equal(open_image(path)[ALL], again.pixels)
    with Image.open(path) as file:
        assert file.format == FORMATS[suffix.lower()]
        assert "icc_profile" not in file.info
    assert list(tmp_path.iterdir()) == [path]


def test_tiff_is_tiled_pyramidal_and_big_only_where_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = random_image(600, 700)
    for limit, version in ((vips_writer._CLASSIC_TIFF, 42), (1000, 43)):
        monkeypatch.setattr(vips_writer, "_CLASSIC_TIFF", limit)
        write_image(tmp_path / "large.tif", pixels, like=None)
        assert (tmp_path / "large.tif").read_bytes()[2] == version
        with Image.open(tmp_path / "large.tif") as file:
            tags = file.tag_v2  # type: ignore[attr-defined]
            assert (tags[322], tags[323]) == (256, 256)
            assert tags[259] == 8
            file.seek(1)
            assert file.size == (350, 300)
        np.testing.assert_array_equal(read_image(tmp_path / "large.tif").pixels, pixels)


def test_pixels_in_a_file_and_views_are_written(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "raw", np.uint8, "w+", shape=smooth().shape)
    mapped[:] = smooth()
    write_image(tmp_path / "mapped.png", mapped, like=None)
    np.testing.assert_array_equal(read_image(tmp_path / "mapped.png").pixels, smooth())
    write_image(tmp_path / "view.png", smooth()[::-1, 3:], like=None)
    np.testing.assert_array_equal(read_image(tmp_path / "view.png").pixels, smooth()[::-1, 3:])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_alpha_is_kept_or_laid_on_white(tmp_path: Path, suffix: str) -> None:
    alpha = np.full((40, 56), 255, np.uint8)
    alpha[:16] = 0
    alpha[16:32] = 128
    write_picture(tmp_path / "like.png", Picture(smooth(), alpha))
    black = np.zeros((40, 56, 3), np.uint8)
    path = tmp_path / f"picture{suffix}"
    write_image(path, black, like=open_image(tmp_path / "like.png"))
    again = read_image(path)
    if suffix == ".jpg":
        assert again.pixels[:15].min() > 250
        assert abs(int(again.pixels[24].mean()) - 127) <= 3
        assert again.pixels[33:].max() < 5
    else:
        np.testing.assert_array_equal(again.alpha, alpha)
        assert again.pixels.max() == 0


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("name", ["p3", "srgb"])
def test_a_profile_is_carried_and_shows_the_same_colours(
    tmp_path: Path, name: str, suffix: str
) -> None:
    profile = built_in(name)
    # Colours that the profile has: a saturated one of sRGB lies in P3 too, but not the reverse.
    like = open_image(saved(tmp_path / "like.png", smooth(), icc_profile=profile))
    path = tmp_path / f"picture{suffix}"
    write_image(path, smooth(), like=like, quality=100)
    with Image.open(path) as file:
        assert file.info["icc_profile"] == profile
        stored = np.abs(np.asarray(file).astype(int) - smooth()).max()
    if suffix in LOSSLESS:
        assert (stored == 0) == (name == "srgb")
    tolerance = 2 if suffix in LOSSLESS else 12
    assert np.abs(read_image(path).pixels.astype(int) - smooth()).max() <= tolerance
    assert open_image(path).profile == profile


@pytest.mark.parametrize("kind", ["CMYK", "grey"])
def test_a_profile_of_other_colours_is_not_carried(tmp_path: Path, kind: str) -> None:
    profile = built_in("cmyk") if kind == "CMYK" else linear_profile()
    image = Image.fromarray(smooth()).convert("CMYK" if kind == "CMYK" else "L")
    image.save(tmp_path / "like.tif", icc_profile=profile)
    like = open_image(tmp_path / "like.tif")
    assert like.profile == profile
    write_image(tmp_path / "picture.png", smooth(), like=like)
    with Image.open(tmp_path / "picture.png") as file:
        assert "icc_profile" not in file.info
        np.testing.assert_array_equal(np.asarray(file), smooth())


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("known", [True, False])
def test_resolution_is_carried(tmp_path: Path, suffix: str, known: bool) -> None:
    options: dict[str, Any] = {"dpi": (300, 300)} if known else {}
    like = open_image(saved(tmp_path / "like.png", smooth(), **options))
    write_image(tmp_path / f"picture{suffix}", smooth(), like=like)
    with Image.open(tmp_path / f"picture{suffix}") as file:
        assert file.info["dpi"] == pytest.approx((300, 300) if known else (72, 72), abs=0.1)


def test_quality_is_passed_on(tmp_path: Path) -> None:
    for suffix in (".jpg", ".webp"):
        sizes = []
        for quality in (10, 95):
            path = tmp_path / f"{quality}{suffix}"
            write_image(path, random_image(64, 64), like=None, quality=quality)
            sizes.append(path.stat().st_size)
        assert sizes[0] < sizes[1] / 2


def test_formats_that_end_too_early_are_refused(tmp_path: Path) -> None:
    for suffix, longest in ((".jpg", 65500), (".webp", 16383)):
        path = tmp_path / f"long{suffix}"
        with pytest.raises(
            ImageError, match=rf"is limited to {longest} per side; write \.png or \.tif"
        ):
            write_image(path, np.zeros((longest + 1, 1, 3), np.uint8), like=None)
        assert not path.exists()
        write_image(path, np.zeros((1, longest, 3), np.uint8), like=None)
    for suffix in (".png", ".tif"):
        long = np.zeros((65501, 1, 3), np.uint8)
        long[65500] = 9
        write_image(tmp_path / f"long{suffix}", long, like=None)
        opened = open_image(tmp_path / f"long{suffix}")
        assert opened.shape == long.shape
        assert opened[65500:65501, 0:1].tolist() == [[[9, 9, 9]]]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, suffix: str, failing_write: AbstractContextManager[None]
) -> None:
    path = written(tmp_path, f"picture{suffix}", b"old")
    with failing_write:
        write_image(path, random_image(200, 200), like=None)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_an_alpha_channel_that_turns_out_broken_fails_the_write(tmp_path: Path) -> None:
    like = tmp_path / "like.png"
    write_picture(like, Picture(random_image(64, 64), random_image(64, 64)[..., 0]))
    like.write_bytes(like.read_bytes()[:9000])
    path = written(tmp_path, "picture.tif", b"old")
    with pytest.raises(ImageError, match=r"picture\.tif: cannot be written \(.+\)") as caught:
        write_image(path, random_image(64, 64), like=open_image(like))
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == [like, path]
    assert path.read_bytes() == b"old"


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"unknown suffix '\.gif'"):
        write_image(tmp_path / "picture.gif", smooth(), like=None)
    with pytest.raises(ImageError, match=r"cannot be written \(No such file or directory\)"):
        write_image(tmp_path / "none" / "picture.png", smooth(), like=None)
    floating: Any = smooth() / 255
    with pytest.raises(TypeError, match="float64"):
        write_image(tmp_path / "picture.png", floating, like=None)
    with pytest.raises(ValueError, match=r"not \(40, 56\)"):
        write_image(tmp_path / "picture.png", smooth()[..., 0], like=None)
    write_picture(tmp_path / "like.png", Picture(smooth(), smooth()[..., 0]))
    like = open_image(tmp_path / "like.png")
    with pytest.raises(ValueError, match="alpha"):
        write_image(tmp_path / "picture.png", smooth()[1:], like=like)
    assert list(tmp_path.iterdir()) == [tmp_path / "like.png"]


def test_files_are_written_with_the_usual_permissions_and_long_names(tmp_path: Path) -> None:
    old = os.umask(0o002)
    try:
        path = tmp_path / ("n" * 250 + ".tif")
        write_image(path, smooth(), like=None)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o664


def test_a_file_is_replaced_only_if_it_may_be_and_keeps_its_mode(tmp_path: Path) -> None:
    path = written(tmp_path, "picture.tif", b"old")
    path.chmod(0o600)
    with pytest.raises(ImageError, match=r"picture\.tif: cannot be written \(already exists\)"):
        write_image(path, smooth(), like=None, overwrite=False)
    assert path.read_bytes() == b"old"
    write_image(path, smooth(), like=None)
    assert path.stat().st_mode & 0o777 == 0o600
    np.testing.assert_array_equal(read_image(path).pixels, smooth())
