"""The content's chroma under the result's luminance, or its colours in the style."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from cdjax import Model, Spec, encode_style, stylize
from cdjax.transfer.color import color_map, color_moments, with_chroma_of
from tests.models import Floats, random_image, random_model

CONTENT, STYLE = random_image(24, 32), random_image(18, 21, seed=5)


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model([Spec(1, (5,))])


def oklab(image: NDArray[Any]) -> Floats:
    """Oklab of sRGB in [0, 1], in float64, from the text of Ottosson's page."""
    x = np.asarray(image, np.float64)
    r, g, b = np.moveaxis(np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4), -1, 0)
    long = np.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    medium = np.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = np.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    return np.stack(
        [
            0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
            1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
            0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
        ],
        -1,
    )


def in_gamut(lab: Floats) -> NDArray[np.bool_]:
    """Where sRGB has a colour."""
    light, a, b = np.moveaxis(lab, -1, 0)
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ]
    )
    return np.asarray(((linear >= 0) & (linear <= 1)).all(0))


def test_luminance_is_the_results_and_chroma_the_contents(model: Model) -> None:
    plain = stylize(model, CONTENT, STYLE)
    result = np.asarray(stylize(model, CONTENT, STYLE, preserve_color="luminance"))
    assert result.shape == CONTENT.shape
    assert result.dtype == np.float32
    found, content, wanted = oklab(result), oklab(CONTENT / 255), oklab(np.asarray(plain))
    wanted[..., 1:] = content[..., 1:]
    inside = in_gamut(wanted)
    assert 0.3 < inside.mean() < 1
    np.testing.assert_allclose(found[inside], wanted[inside], atol=2e-4)
    # Elsewhere colours are paler, of nearly the same luminance and the same hue.
    np.testing.assert_allclose(found[..., 0], wanted[..., 0], atol=1 / 255)
    across = found[..., 1] * wanted[..., 2] - found[..., 2] * wanted[..., 1]
    along = (found[..., 1:] * wanted[..., 1:]).sum(-1)
    assert (np.abs(across) <= 0.25 * np.abs(along) + 2e-4).all()
    assert (np.hypot(*found[~inside, 1:].T) < np.hypot(*wanted[~inside, 1:].T)).all()
    # In 8 bits too, the mean difference of chroma is below one level.
    chroma = oklab(np.rint(result * 255) / 255)[inside, 1:] - wanted[inside, 1:]
    assert np.hypot(*chroma.T).mean() <= 1 / 255


def test_a_grey_content_stays_grey_and_an_image_in_its_own_chroma_the_same(model: Model) -> None:
    grey = np.repeat(CONTENT[..., :1], 3, axis=2)
    result = np.asarray(stylize(model, grey, STYLE, preserve_color="luminance"))
    assert np.ptp(result, axis=-1).max() < 2e-4
    assert result.std() > 0.01
    itself = with_chroma_of(CONTENT, jnp.asarray(CONTENT / np.float32(255)))
    np.testing.assert_allclose(itself, CONTENT / 255, atol=1e-4)


def test_match_gives_the_style_the_contents_mean_and_covariance() -> None:
    for style in (STYLE, (STYLE // 4).astype(np.uint8), STYLE / np.float32(255)):
        colours = color_map(color_moments(style), color_moments(CONTENT))
        scale = np.float32(255 if style.dtype == np.uint8 else 1)
        moved = np.asarray(colours(jnp.asarray(style / scale))).reshape(-1, 3).astype(np.float64)
        wanted = CONTENT.reshape(-1, 3) / 255
        np.testing.assert_allclose(moved.mean(0), wanted.mean(0), rtol=1e-3)
        np.testing.assert_allclose(np.cov(moved.T), np.cov(wanted.T), atol=1e-3 * wanted.var())


def test_match_encodes_the_style_in_those_colours(model: Model) -> None:
    pale = (96 + CONTENT // 4).astype(np.uint8)  # In whose colours the style stays within [0, 1].
    colours = color_map(color_moments(STYLE), color_moments(pale))
    moved = np.asarray(colours(jnp.asarray(STYLE / np.float32(255))))
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert np.abs(moved - STYLE / 255).max() > 0.1
    expected = stylize(model, pale, moved)
    result = stylize(model, pale, STYLE, preserve_color="match")
    np.testing.assert_allclose(result, expected, atol=1e-4)
    encoded = encode_style(model, STYLE, colors_of=pale)
    np.testing.assert_array_equal(stylize(model, pale, encoded), result)


def test_match_moves_the_colours_within_masks(model: Model) -> None:
    """What is outside of the masks of the content and of the style decides nothing."""
    content, style = CONTENT.copy(), STYLE.copy()
    content[:, 16:], style[9:] = (255, 0, 0), (0, 255, 0)
    inside, shown = np.zeros((24, 32), bool), np.zeros((18, 21), np.uint8)
    inside[:, :16], shown[:9] = True, 255
    alone = color_map(color_moments(STYLE[:9]), color_moments(CONTENT[:, :16]))
    masked = color_map(color_moments(style, shown), color_moments(content, inside))
    pixels = jnp.asarray(STYLE / np.float32(255))
    np.testing.assert_allclose(masked(pixels), alone(pixels), atol=1e-5)
    masks = [inside, ~inside]
    encoded = [encode_style(model, STYLE, colors_of=content, colors_mask=mask) for mask in masks]
    wanted = stylize(model, content, encoded, masks=masks)
    found = stylize(model, content, [STYLE, STYLE], masks=masks, preserve_color="match")
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", ["luminance", "match"])
def test_batches_equal_single_images(model: Model, kind: Any) -> None:
    contents, styles = np.stack([CONTENT, CONTENT[::-1] // 2]), np.stack([STYLE, 255 - STYLE])
    for painted in (styles, styles[1]):
        found = stylize(model, contents, painted, preserve_color=kind)
        for index, content in enumerate(contents):
            single = painted if painted.ndim == 3 else painted[index]
            alone = stylize(model, content, single, preserve_color=kind)
            np.testing.assert_allclose(found[index], alone, atol=1e-4)


@pytest.mark.parametrize("kind", ["luminance", "match"])
def test_derivatives_are_finite_and_maps_over_contents_equal_single_ones(
    model: Model, kind: Any
) -> None:
    def painted(content: jax.Array, style: jax.Array) -> jax.Array:
        return stylize(model, content, style, preserve_color=kind)

    contents = jnp.asarray([CONTENT, CONTENT[::-1]]) / np.float32(255)
    contents = contents.at[0, :4].set(0.0)  # Where roots have no derivative.
    style = jnp.asarray(STYLE) / np.float32(255)
    each = jax.jit(jax.vmap(painted, (0, None)))(contents, style)
    np.testing.assert_allclose(each[1], painted(contents[1], style), atol=1e-4)
    gradients = jax.jit(jax.grad(lambda *images: painted(*images).sum(), (0, 1)))(
        contents[0], style
    )
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


def test_images_of_one_colour_give_finite_results(model: Model) -> None:
    one, grey = np.full((16, 16, 3), (200, 30, 90), np.uint8), np.repeat(STYLE[..., :1], 3, axis=2)
    for content, style in ((one, STYLE), (CONTENT[:16, :16], one), (CONTENT[:16, :16], grey)):
        for kind in ("luminance", "match"):
            assert np.isfinite(stylize(model, content, style, preserve_color=kind)).all()


def test_wrong_arguments_are_refused(model: Model) -> None:
    wrong: Any = "hue"
    with pytest.raises(ValueError, match="None or one of luminance, match, not 'hue'"):
        stylize(model, CONTENT, STYLE, preserve_color=wrong)
    with pytest.raises(ValueError, match="encode it with colors_of=content"):
        stylize(model, CONTENT, encode_style(model, STYLE), preserve_color="match")
    three, two = np.stack([CONTENT] * 3), np.stack([STYLE] * 2)
    with pytest.raises(ValueError, match="2 styles cannot get the colours of 3 images"):
        stylize(model, three, two, preserve_color="match")
