"""Masks as arguments: what is accepted, and how one of another size is read."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cdjax.transfer.masks import fit_mask


def ramp(height: int, width: int) -> NDArray[np.float32]:
    """Grows linearly to the right and downwards, at the centres of pixels."""
    rows, columns = (np.arange(length) + 0.5 for length in (height, width))
    return (0.6 * rows[:, None] / height + 0.4 * columns / width).astype(np.float32)


@pytest.mark.parametrize("size", [(48, 64), (12, 16), (36, 48), (5, 7), (121, 161)])
def test_a_mask_is_scaled_to_the_picture(size: tuple[int, int]) -> None:
    found = fit_mask(ramp(24, 32), size, "mask")
    assert found.shape == size
    values = found[0 : size[0], 0 : size[1]]
    margin = -(-size[0] // 20)
    inner = (slice(margin, -margin), slice(margin, -margin))
    np.testing.assert_allclose(values[inner], ramp(*size)[inner], atol=0.03)


def test_what_is_full_or_empty_stays_so_to_the_last_bit_at_every_size() -> None:
    for size in [(7, 9), (50, 65), (3, 4)]:
        for level in (0, 255):
            mask = fit_mask(np.full((25, 32), level, np.uint8), size, "mask")
            assert set(np.unique(mask[:, :])) == {level / 255}


@pytest.mark.parametrize("source", [(24, 32), (150, 200)])
def test_a_part_of_a_scaled_mask_equals_the_part_of_the_whole(source: tuple[int, int]) -> None:
    mask = np.random.default_rng(1).random(source, np.float32)
    fitted = fit_mask(mask, (60, 80), "mask")
    whole = fitted[:, :]
    assert 0 <= whole.min() < whole.max() <= 1
    for part in [(slice(7, 31), slice(40, 80)), (slice(59, 60), slice(0, 1))]:
        np.testing.assert_array_equal(fitted[part], whole[part])


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((24, 31)), ValueError, "31x24 pixels are another aspect ratio .* 32x24"),
        (np.ones((12, 15)), ValueError, "15x12 pixels are another aspect ratio"),
        (np.ones((24, 32), np.int64), TypeError, "must be bool, uint8 or floating"),
        (np.full((24, 32), 1.5), ValueError, r"must lie in \[0, 1\], not in 1.5 to 1.5"),
        (np.full((24, 32), np.nan), ValueError, r"must lie in \[0, 1\]"),
        (np.ones((24, 32), np.uint8), ValueError, "no value is above 1 of 255"),
        (np.ones(24), ValueError, r"must be \(H, W\)"),
        (np.ones((0, 32)), ValueError, "at least 1 pixel"),
        (np.ones((2, 12, 16)), ValueError, "must be the picture's size"),
    ],
)
def test_wrong_masks_are_refused(mask: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^mask.*{message}") as caught:
        fit_mask(mask, (24, 32), "mask")
    assert "\n" not in str(caught.value)


def test_rounded_sizes_are_of_one_aspect_ratio() -> None:
    for size in [(500, 667), (100, 133), (375, 500), (1, 1)]:
        assert fit_mask(np.ones((3000, 4000), bool), size, "mask").shape == size
