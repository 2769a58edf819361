"""Floating pixels outside [0, 1] are refused before anything is computed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax import Model, Spec, encode_style, stylize, stylize_by_windows
from tests.models import random_image, random_model

IMAGE = random_image(16, 16)


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model([Spec(1, (5,))])


@pytest.mark.parametrize("of", [np.asarray, jnp.asarray])
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda x: x * 255, "values from 0 to 255"),
        (lambda x: 2 * x - 1, "values from -1 to 1"),
        (lambda x: np.where(x > 0.9, np.nan, x), "NaN or infinite values"),
        (lambda x: np.where(x > 0.9, np.inf, x), "NaN or infinite values"),
    ],
)
def test_what_is_not_in_the_range_is_named_with_what_to_do(
    model: Model, of: Any, change: Any, found: str
) -> None:
    image = np.float32(IMAGE / 255)
    image[0, :2] = [[0, 0, 0], [1, 1, 1]]
    wrong = of(np.float32(change(image)))
    said = f"content has {found}, but floating pixels must be in .0, 1.: divide 0 to 255 by 255"
    with pytest.raises(ValueError, match=said):
        stylize(model, wrong, IMAGE)
    with pytest.raises(ValueError, match=said):
        stylize_by_windows(model, wrong, IMAGE)
    with pytest.raises(ValueError, match=said.replace("content", "style")):
        encode_style(model, wrong)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_other_floating_types_are_checked_too(model: Model, dtype: Any) -> None:
    with pytest.raises(ValueError, match="values from 0 to 25"):
        stylize(model, np.clip(IMAGE, 0, 255).astype(dtype) * (IMAGE > 60), IMAGE)


def test_rounding_errors_and_traced_arrays_pass(model: Model) -> None:
    image = jnp.asarray(IMAGE / np.float32(255))
    expected = stylize(model, image, IMAGE)
    np.testing.assert_allclose(stylize(model, image + 1e-7, IMAGE), expected, atol=1e-4)
    traced = jax.jit(lambda x: stylize(model, 255 * x, IMAGE))(image)
    assert traced.shape == IMAGE.shape
