"""Reading and writing pictures of every kind."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from cdjax.image import ImageError, Picture, read_image, resize, write_image
from tests import models


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture
def rgb() -> Image.Image:
    return Image.fromarray(models.random_image(12, 17))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".webp", ".jpg", ".JPG"])
def test_written_pictures_read_back(tmp_path: Path, suffix: str) -> None:
    smooth = np.asarray(
        Image.fromarray(models.random_image(6, 8)).resize((64, 48), Image.Resampling.BICUBIC)
    )
    write_image(tmp_path / f"picture{suffix}", Picture(smooth / np.float32(255)))
    again = read_image(tmp_path / f"picture{suffix}")
    assert again.pixels.dtype == np.uint8
    assert again.alpha is None
    loss = 0 if suffix in (".png", ".tif", ".tiff") else 6
    assert np.abs(again.pixels.astype(int) - smooth).mean() <= loss
    assert [p.name for p in tmp_path.iterdir()] == [f"picture{suffix}"]


def test_floats_are_rounded_to_the_nearest_level_and_clipped(tmp_path: Path) -> None:
    row = np.array([-0.5, 0.49 / 255, 0.51 / 255, 254.6 / 255, 7.0], np.float32)
    write_image(tmp_path / "a.png", Picture(np.repeat(row[None, :, None], 3, axis=2)))
    assert read_image(tmp_path / "a.png").pixels[0, :, 0].tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_read_upright(tmp_path: Path, rgb: Image.Image, orientation: int) -> None:
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = rgb.transpose(turn[orientation]) if orientation > 1 else rgb
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(stored, tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(path).pixels, np.asarray(rgb))


def test_greyscale_one_bit_cmyk_and_palette_become_rgb(tmp_path: Path, rgb: Image.Image) -> None:
    grey = read_image(saved(rgb.convert("L"), tmp_path / "l.png")).pixels
    np.testing.assert_array_equal(grey, np.asarray(rgb.convert("L").convert("RGB")))
    bits = read_image(saved(rgb.convert("1"), tmp_path / "1.png")).pixels
    assert set(np.unique(bits)) == {0, 255}
    palette = rgb.quantize(16)
    np.testing.assert_array_equal(
        read_image(saved(palette, tmp_path / "p.png")).pixels, np.asarray(palette.convert("RGB"))
    )
    cmyk = read_image(saved(rgb.convert("CMYK"), tmp_path / "c.tif")).pixels
    assert np.abs(cmyk.astype(int) - np.asarray(rgb)).mean() < 3


def test_alpha_is_kept_and_laid_on_white_in_jpeg(tmp_path: Path, rgb: Image.Image) -> None:
    alpha = np.zeros((12, 17), np.uint8)
    alpha[:6] = 200
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(alpha))
    picture = read_image(saved(rgba, tmp_path / "a.png"))
    np.testing.assert_array_equal(picture.alpha, alpha)
    np.testing.assert_array_equal(picture.pixels, np.asarray(rgb))
    write_image(tmp_path / "b.webp", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "b.webp").alpha, alpha)
    write_image(tmp_path / "b.jpg", picture)
    assert (read_image(tmp_path / "b.jpg").pixels[9:] > 245).all()


def test_opaque_alpha_is_no_alpha_and_transparent_palettes_have_one(
    tmp_path: Path, rgb: Image.Image
) -> None:
    assert read_image(saved(rgb.convert("RGBA"), tmp_path / "a.png")).alpha is None
    path = saved(rgb.quantize(8), tmp_path / "p.png", transparency=0)
    alpha = read_image(path).alpha
    assert alpha is not None
    assert set(np.unique(alpha)) == {0, 255}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_greyscale_keeps_its_depth(tmp_path: Path, suffix: str) -> None:
    levels = np.linspace(0, 65535, 12 * 17).reshape(12, 17).astype(np.uint16)
    pixels = read_image(saved(Image.fromarray(levels), tmp_path / f"a{suffix}")).pixels
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, np.repeat(levels[..., None], 3, 2) / 65535, atol=1e-6)


def test_an_embedded_profile_is_converted_to_srgb(tmp_path: Path, rgb: Image.Image) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    same = read_image(saved(rgb, tmp_path / "a.png", icc_profile=srgb.tobytes())).pixels
    assert np.abs(same.astype(int) - np.asarray(rgb)).max() <= 1
    # The same primaries under another temperature: as good as any profile that is not sRGB.
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    path = saved(rgb, tmp_path / "b.png", icc_profile=lab.tobytes())
    np.testing.assert_array_equal(read_image(path).pixels, np.asarray(rgb))
    broken = saved(rgb, tmp_path / "c.png", icc_profile=b"no profile")
    np.testing.assert_array_equal(read_image(broken).pixels, np.asarray(rgb))


def test_resize_sets_the_shorter_side(tmp_path: Path) -> None:
    picture = Picture(models.random_image(20, 30), np.full((20, 30), 9, np.uint8))
    small = resize(picture, 10)
    assert small.pixels.shape == (10, 15, 3)
    assert small.alpha is not None
    assert small.alpha.shape == (10, 15)
    assert resize(picture, 20) is picture
    deep = Picture(picture.pixels / np.float32(255))
    np.testing.assert_allclose(resize(deep, 10).pixels * 255, small.pixels, atol=1.01)
    assert resize(Picture(np.zeros((1, 900, 3), np.uint8)), 1).pixels.shape == (1, 900, 3)


def test_broken_files_are_named_in_one_line(tmp_path: Path, rgb: Image.Image) -> None:
    whole = saved(rgb, tmp_path / "whole.png").read_bytes()
    cases = {"cut.png": whole[:-40], "text.png": b"hello", "empty.jpg": b""}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=name) as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "absent.png")


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.webp"
    target.write_bytes(b"old")
    too_wide = Picture(np.zeros((1, 20000, 3), np.uint8))
    with pytest.raises(ImageError, match=r"a\.webp"):
        write_image(target, too_wide)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(ImageError, match=r"\.gif.*\.png"):
        write_image(tmp_path / "a.gif", too_wide)
