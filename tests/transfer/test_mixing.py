"""AdaIN's features, and several styles in one: through the library and by windows."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from cdjax import (
    Model,
    ModelConfig,
    Spec,
    Style,
    encode_style,
    mix_styles,
    stylize,
    stylize_by_windows,
)
from tests.models import random_image, random_model

SPEC = Spec(2, (4, 8))
LITTLE = 330_000
"""Bytes for windows of 64 pixels."""
CONTENT = random_image(72, 100)
STYLES = [random_image(40, 52, seed=seed) for seed in (7, 8, 9)]


def pixels_as_features() -> Model:
    """An AdaIN model whose features are the pixels: what it makes is the transform alone."""
    delta = np.zeros((3, 3, 3, 3), np.float32)
    delta[1, 1] = np.eye(3)
    layer = {"kernel": jnp.asarray(delta), "bias": jnp.zeros(3)}
    colour = {"kernel": jnp.eye(3)[None, None], "bias": jnp.zeros(3)}
    networks = {"encoder": {"conv0": colour, "conv1_1": layer}, "decoder": {"conv1_1": layer}}
    return Model({"stage1": networks}, ModelConfig("adain", (Spec(1, (3,)),), "pixels"))


def gentle(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of little contrast, so that no transform of one to another is clipped."""
    return (0.5 + 0.2 * (image / 255 - 0.5)).astype(np.float32)


@pytest.fixture(scope="module", params=["wct", "adain"])
def model(request: pytest.FixtureRequest) -> Model:
    return random_model((SPEC,), method=request.param)


@pytest.fixture(scope="module")
def encoded(model: Model) -> list[Style]:
    return [encode_style(model, style) for style in STYLES]


def test_stylised_features_have_the_styles_means_and_deviations() -> None:
    model, content, style = pixels_as_features(), gentle(CONTENT), gentle(STYLES[0]) + 0.1
    whole = np.asarray(stylize(model, content, style))
    np.testing.assert_allclose(whole.mean((0, 1)), style.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(whole.std((0, 1)), style.std((0, 1)), rtol=1e-2)
    np.testing.assert_array_equal(stylize_by_windows(model, content, style, memory=LITTLE), whole)
    half = np.asarray(stylize(model, content, style, alpha=0.5))
    np.testing.assert_allclose(half, (whole + content) / 2, atol=1e-5)


def test_a_mixtures_features_are_the_weighted_mean_of_the_styles() -> None:
    model, content = pixels_as_features(), gentle(CONTENT)
    encoded = [encode_style(model, gentle(style)) for style in STYLES]
    singles = np.stack([stylize(model, content, style) for style in encoded])
    weights = np.array([0.6, 0.3, 0.1])
    mixed = stylize(model, content, mix_styles(model, encoded, weights=weights))
    np.testing.assert_allclose(mixed, np.tensordot(weights, singles, 1), atol=1e-5)
    alike = stylize(model, content, mix_styles(model, encoded))
    np.testing.assert_allclose(alike, singles.mean(0), atol=1e-5)
    assert np.abs(np.asarray(mixed) - alike).max() > 1e-3


def test_end_points_are_the_single_styles(model: Model, encoded: list[Style]) -> None:
    for style, weights in zip(STYLES, 5 * np.eye(3), strict=True):
        mixture = mix_styles(model, encoded, weights=weights)
        single = np.asarray(stylize(model, CONTENT, style))
        np.testing.assert_array_equal(stylize(model, CONTENT, mixture), single)
    by_windows = stylize_by_windows(model, CONTENT, mixture, memory=LITTLE)
    np.testing.assert_array_equal(by_windows, single)


def test_a_mixture_nears_its_end_points_without_a_jump(model: Model, encoded: list[Style]) -> None:
    single = np.asarray(stylize(model, CONTENT, encoded[0]))
    near = stylize(model, CONTENT, mix_styles(model, encoded[:2], weights=(1 - 1e-6, 1e-6)))
    np.testing.assert_allclose(near, single, atol=1e-3)


def test_windows_of_a_mixture_equal_the_whole(model: Model, encoded: list[Style]) -> None:
    mixture = mix_styles(model, encoded, weights=(3, 2, 1))
    whole = np.asarray(stylize(model, CONTENT, mixture, alpha=0.8))
    result = stylize_by_windows(model, CONTENT, mixture, alpha=0.8, memory=LITTLE)
    np.testing.assert_array_equal(result, whole)


def test_only_proportions_of_weights_count(model: Model, encoded: list[Style]) -> None:
    first, second = (
        stylize(model, CONTENT, mix_styles(model, encoded, weights=weights))
        for weights in ((2, 1, 1), (0.5, 0.25, 0.25))
    )
    np.testing.assert_array_equal(first, second)
    # A style without a share is as good as not there.
    first, second = (
        stylize(model, CONTENT, mix_styles(model, encoded, weights=(1, 0, 3))),
        stylize(model, CONTENT, mix_styles(model, encoded[::2], weights=(1, 3))),
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("styles", "weights", "message"),
    [
        (0, None, "at least one style"),
        (2, (1, 1, 1), "2 styles need 2 weights"),
        (2, (0, 0), "not all 0"),
        (2, (1, -1), "finite, not negative and not all 0"),
        (2, (1, float("nan")), "finite, not negative and not all 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    model: Model,
    encoded: list[Style],
    styles: int,
    weights: tuple[float, ...] | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        mix_styles(model, encoded[:styles], weights=weights)


def test_styles_that_cannot_be_mixed_are_refused(model: Model, encoded: list[Style]) -> None:
    batch = encode_style(model, np.stack(STYLES[:2]))
    with pytest.raises(ValueError, match=r"cannot be paired|not batches"):
        mix_styles(model, [encoded[0], batch])
    other = encode_style(random_model((Spec(1, (5,)),)), STYLES[0])
    with pytest.raises(ValueError, match="other stages or widths"):
        mix_styles(model, [encoded[0], other])
