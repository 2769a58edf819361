"""Textures: of any size, the same for a seed and by windows, without seams where asked for."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cdjax import Model, Spec, synthesize_texture
from tests.models import random_image, random_model

STYLE = random_image(40, 32, seed=2)


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model((Spec(3, (4, 6, 8)), Spec(1, (4,))))


def seam(texture: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    """Mean differences across the left and right border, and between neighbouring columns."""
    across = float(np.abs(texture[:, 0] - texture[:, -1]).mean())
    return across, np.abs(np.diff(texture, axis=1)).mean((0, 2))


def test_any_size_and_the_same_for_a_seed(model: Model) -> None:
    found = synthesize_texture(model, STYLE, size=(21, 35), passes=2)
    assert found.shape == (21, 35, 3)
    assert found.dtype == np.float32
    assert 0 <= found.min() < found.max() <= 1
    assert np.array_equal(found, synthesize_texture(model, STYLE, size=(21, 35), passes=2))
    assert not np.array_equal(
        found, synthesize_texture(model, STYLE, size=(21, 35), passes=2, seed=1)
    )


def test_copies_of_a_tileable_texture_fit_side_by_side(model: Model) -> None:
    texture = synthesize_texture(model, STYLE, size=(64, 48), tileable=True)
    for turned in (texture, texture.transpose(1, 0, 2)):
        across, inside = seam(turned)
        assert inside.min() <= across <= inside.max()
    across, inside = seam(synthesize_texture(model, STYLE, size=(64, 48)))
    assert across > 1.2 * inside.max()


def test_windows_make_the_same_texture(model: Model) -> None:
    options: dict[str, Any] = {"size": (160, 192), "passes": 1, "tileable": True}
    whole = synthesize_texture(model, STYLE, **options)
    by_windows = synthesize_texture(model, STYLE, **options, memory=2_000_000)
    np.testing.assert_array_equal(whole, by_windows)


def test_wrong_sizes_are_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="multiples of 4 pixels, such as 48x32, not 47x33"):
        synthesize_texture(model, STYLE, size=(33, 47), tileable=True)
    with pytest.raises(ValueError, match="at least 1 pass"):
        synthesize_texture(model, STYLE, size=(8, 8), passes=0)
