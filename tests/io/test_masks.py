"""Pictures as masks: the same values whichever way they are read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cdjax.io.streaming
from cdjax.io.images import Picture
from cdjax.io.masks import brightness, opacity, read_mask
from cdjax.io.streaming import open_picture
from tests.image_files import deep_png, smooth

LEVELS = np.arange(240, dtype=np.uint8).reshape(12, 20)


@pytest.fixture(params=["whole", "by regions"])
def streamed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether pictures are read by regions."""
    if request.param == "by regions":
        pytest.importorskip("pyvips")
        monkeypatch.setattr(cdjax.io.streaming, "STREAMED_PIXELS", 10)
    return bool(request.param == "by regions")


def test_grey_is_taken_as_it_is(tmp_path: Path, streamed: bool) -> None:
    for mode in ("L", "RGB"):
        Image.fromarray(LEVELS).convert(mode).save(tmp_path / "m.png")
        mask = read_mask(tmp_path / "m.png")
        assert isinstance(mask, np.ndarray) != streamed
        assert (mask.shape, mask.dtype) == (LEVELS.shape, np.uint8)
        np.testing.assert_array_equal(mask[3:9, 0:20], LEVELS[3:9], strict=True)


def test_what_is_transparent_is_black(tmp_path: Path, streamed: bool) -> None:
    white = Image.new("RGBA", LEVELS.shape[::-1], "white")
    white.putalpha(Image.fromarray(LEVELS))
    white.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png")[:, :], LEVELS, strict=True)
    seen = opacity(open_picture(tmp_path / "m.png"))
    assert seen is not None
    np.testing.assert_array_equal(seen[2:5, 1:7], LEVELS[2:5, 1:7], strict=True)


def test_colours_have_the_brightness_that_pillow_finds() -> None:
    wanted = np.asarray(Image.fromarray(smooth()).convert("L"), np.float64)
    assert np.abs(brightness(smooth()) - wanted).max() <= 1
    floating = brightness(smooth() / np.float32(255))
    assert np.abs(floating * 255 - wanted).max() <= 1


def test_deep_grey_keeps_its_depth(tmp_path: Path) -> None:
    levels = (np.arange(240).reshape(12, 20) * 270).astype(np.uint16)
    (tmp_path / "m.png").write_bytes(deep_png(levels, 0))
    mask = read_mask(tmp_path / "m.png")
    assert mask.dtype == np.float32
    np.testing.assert_allclose(mask, levels / 65535, atol=1e-6)


def test_of_an_invisible_picture_all_pixels_count() -> None:
    for alpha in (None, np.zeros((12, 20), np.uint8)):
        assert opacity(Picture(np.zeros((12, 20, 3), np.uint8), alpha)) is None


@pytest.mark.parametrize("by_regions", [False, True])
def test_a_large_mask_may_be_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_regions: bool
) -> None:
    if by_regions:
        pytest.importorskip("pyvips")
    monkeypatch.setattr("cdjax.io.vips.available", lambda: by_regions)
    flat = Image.new("1", (5000, 4000))
    flat.paste(1, (0, 0, 5000, 10))
    flat.save(tmp_path / "m.png")
    assert (tmp_path / "m.png").stat().st_size < 4000
    mask = read_mask(tmp_path / "m.png")
    assert isinstance(mask, np.ndarray) != by_regions
    assert mask[8:12, 4990:5000].tolist() == [[255] * 10] * 2 + [[0] * 10] * 2
