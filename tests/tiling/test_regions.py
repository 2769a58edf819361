"""Masks by windows give what they give for the whole image, to the last bit."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdjax import Model, Spec, encode_style, stylize, stylize_by_windows
from cdjax.tiling.stylize import encode_style_by_windows
from tests.compiling import AS_USERS
from tests.models import random_image, random_model

SIZE = (150, 140)
CONTENT = random_image(*SIZE, seed=7)
SMALL = 500_000
"""Bytes for windows of 64 pixels."""
ROWS, COLUMNS = np.mgrid[:150, :140]
SOFT = np.clip((COLUMNS - 40 + 20 * np.sin(ROWS / 9)) / 50, 0, 1).astype(np.float32)
OTHER = np.clip((ROWS - 40) / 70, 0, 1).astype(np.float32)
OPACITY = np.clip(3 * ROWS, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model((Spec(3, (4, 6, 8)), Spec(1, (5,))))


class Lines:
    """A mask that is made where it is read."""

    def __init__(self, values: Any) -> None:
        self._values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.most = 0

    def __getitem__(self, region: tuple[slice, slice]) -> Any:
        block = self._values[region].copy()
        self.most = max(self.most, block.size)
        return block


@pytest.mark.parametrize("spilled", [False, True])
def test_regions_by_windows_equal_those_of_the_whole_image(model: Model, spilled: bool) -> None:
    styles = [encode_style(model, random_image(40, 52, seed=seed)) for seed in (1, 2)]
    whole = np.asarray(stylize(model, CONTENT, styles, masks=[SOFT, OTHER], opacity=OPACITY))
    masks, opacity = [Lines(SOFT), Lines(OTHER)], Lines(OPACITY)
    result = stylize_by_windows(
        model, CONTENT, styles, masks=masks, opacity=opacity, memory=SMALL,
        host_memory=0 if spilled else 10**9,
    )  # fmt: skip
    np.testing.assert_array_equal(result, whole)
    assert max(mask.most for mask in (*masks, opacity)) <= 72 * 72
    outside = (SOFT == 0) & (OTHER == 0)
    assert 100 < outside.sum() < outside.size / 2
    np.testing.assert_array_equal(np.rint(result * 255)[outside], CONTENT[outside])


def test_a_smaller_mask_is_scaled_in_the_same_way(model: Model) -> None:
    style = encode_style(model, random_image(40, 52, seed=1))
    whole = np.asarray(stylize(model, CONTENT, style, mask=SOFT[::2, ::2]))
    windows = stylize_by_windows(
        model, CONTENT, style, mask=SOFT[::2, ::2], memory=SMALL, levels=True
    )
    np.testing.assert_array_equal(windows, np.rint(whole * 255))
    with pytest.raises(ValueError, match="mask: 140x100 pixels are another aspect ratio"):
        stylize_by_windows(model, CONTENT, style, mask=SOFT[:100], memory=SMALL)


def test_a_styles_mask_by_windows(model: Model) -> None:
    whole = encode_style(model, CONTENT, mask=OPACITY)
    windows = encode_style_by_windows(model, CONTENT, mask=Lines(OPACITY), memory=SMALL)
    for found, wanted in zip(windows.moments, whole.moments, strict=True):
        for name in ("count", "mean", "scatter"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert windows.moments[0].count < 150 * 140 / 16


def test_regions_are_exact_in_programs_that_are_compiled_as_users_compile() -> None:
    """There, XLA would fuse and reorder products; see `cdjax.transfer.regions`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.regions_and_whole"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=AS_USERS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
