"""Regions painted on the page of `cdjax serve`; without Gradio, which test_serve.py needs."""

from pathlib import Path

import numpy as np
import pytest

from cdjax import CdjaxError
from cdjax.cli.page_regions import COLORS, masks_of, write_masks
from cdjax.io.images import Picture, read_image
from tests.cli.strokes import write_strokes


def layer_of(*columns: tuple[str, int]) -> Picture:
    """A row of pixels, each of a colour and an opacity."""
    pixels = np.array([[COLORS[name] for name, _ in columns]], np.uint8)
    return Picture(pixels, np.array([[opacity for _, opacity in columns]], np.uint8))


def test_each_colour_is_the_mask_of_a_painting(tmp_path: Path) -> None:
    expected = write_strokes(tmp_path / "layer.png")
    written = write_masks(tmp_path / "layer.png", 2, tmp_path / "masks")
    assert len(written) == 2
    for path, other in zip(written, expected, strict=True):
        assert (read_image(path).pixels == read_image(other).pixels).all()


def test_any_colour_counts_for_the_only_painting() -> None:
    (mask,) = masks_of(layer_of(("red", 255), ("green", 255), ("white", 70), ("red", 0)), 1)
    assert mask.tolist() == [[255, 255, 70, 0]]


def test_a_painting_whose_colour_is_not_used_goes_nowhere() -> None:
    masks = masks_of(layer_of(("blue", 255), ("blue", 0)), 3)
    assert [mask.tolist() for mask in masks] == [[[0, 0]], [[255, 0]], [[0, 0]]]


def test_the_edge_of_two_strokes_belongs_to_one_of_them() -> None:
    layer = layer_of(("red", 255), ("red", 255), ("yellow", 255), ("yellow", 255))
    # Between red and yellow lies orange, of which there might be a painting as well.
    layer.pixels[0, 1] = (np.array(COLORS["red"]) * 0.4 + np.array(COLORS["yellow"]) * 0.6) * 0.9
    layer.pixels[0, 1, 2] = 120
    masks = masks_of(layer, 6)
    assert sum(mask[0, 1] for mask in (masks[0], masks[2])) == 255
    assert not any(masks[i].any() for i in (1, 3, 4, 5))


@pytest.mark.parametrize("layer", [None, layer_of(("red", 0))])
def test_nothing_painted_is_no_mask(layer: Picture | None, tmp_path: Path) -> None:
    assert (masks_of(layer, 2) if layer else [*write_masks(None, 2, tmp_path / "masks")]) == []


def test_a_colour_without_a_painting_is_refused() -> None:
    with pytest.raises(CdjaxError, match="yellow is for painting 3, but there are 2"):
        masks_of(layer_of(("red", 255), ("yellow", 255)), 2)
