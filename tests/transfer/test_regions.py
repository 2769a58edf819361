"""Styles in regions of a content, and statistics of what is visible."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from cdjax import Model, Spec, Style, encode_style, stylize
from cdjax.transfer.regions import Regions, map_regions, region_moments, weights_at
from cdjax.transfer.statistics import moments
from cdjax.transfer.transforms import TRANSFORMS
from tests.models import random_image, random_model

SIZE = (26, 44)
CONTENT, STYLE = (random_image(*SIZE, seed=seed) for seed in (1, 5))
OTHER = random_image(*SIZE, seed=6) // 4
FULL, EMPTY = np.full(SIZE, 255, np.uint8), np.zeros(SIZE, np.uint8)
LEFT = (np.arange(44) < 22) & np.ones(SIZE, bool)


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model([Spec(2, (4, 6))])


@pytest.fixture(scope="module")
def styles(model: Model) -> list[Style]:
    return [encode_style(model, image) for image in (STYLE, OTHER)]


@pytest.fixture(scope="module")
def plain(model: Model, styles: list[Style]) -> NDArray[np.float32]:
    return np.asarray(stylize(model, CONTENT, styles[0]))


def two(model: Model, styles: list[Style], *masks: Any) -> NDArray[np.float32]:
    """With two masks as float32 arrays, so that all calls share a program."""
    fractions = [np.asarray(mask, np.float32) for mask in masks]
    return np.asarray(stylize(model, CONTENT, styles, masks=fractions))


def test_a_full_mask_changes_no_bit(
    model: Model, styles: list[Style], plain: NDArray[np.float32]
) -> None:
    np.testing.assert_array_equal(stylize(model, CONTENT, styles[0], mask=FULL), plain)
    np.testing.assert_array_equal(two(model, styles, FULL / 255, EMPTY), plain)
    np.testing.assert_array_equal(stylize(model, CONTENT, styles[0], opacity=FULL), plain)


def test_outside_of_all_masks_the_result_is_the_content(model: Model, styles: list[Style]) -> None:
    soft = np.clip(np.linspace(-1, 2, 44), 0, 1) * np.ones(SIZE)
    for masks in [(EMPTY, EMPTY), (soft, EMPTY), (soft, 0.5 * soft)]:
        result = two(model, styles, *masks)
        outside = (masks[0] == 0) & (masks[1] == 0)
        np.testing.assert_array_equal(np.rint(result * 255)[outside], CONTENT[outside])
        assert outside.all() or np.abs(result - CONTENT / 255)[~outside].mean() > 0.02


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_each_half_gets_the_statistics_of_its_style(transform: str) -> None:
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(3, 5, 5))
    content, *others = (
        jnp.asarray(generator.normal(size=(1, 16, 24, 5)) @ part + i, jnp.float32)
        for i, part in enumerate(mix)
    )
    left = (np.arange(48) < 20) & np.ones((32, 48), bool)
    weights = weights_at(Regions((left, ~left), None), 2)
    assert weights is not None
    wanted = [moments(other) for other in others]
    maps = [
        TRANSFORMS[transform](own, style, 1.0, 0.0)
        for own, style in zip(region_moments(content, weights), wanted, strict=True)
    ]
    result = map_regions(content, maps, weights)
    for half, style in zip((result[:, :, :10], result[:, :, 10:]), wanted, strict=True):
        found = moments(half)
        size = np.abs(style.mean).max()
        np.testing.assert_allclose(found.mean, style.mean, atol=0.01 * size)
        spread = [np.asarray(part.covariance)[0] for part in (found, style)]
        if transform == "adain":
            spread = [np.diagonal(part) for part in spread]
        np.testing.assert_allclose(*spread, atol=0.01 * np.abs(spread[1]).max())


def test_a_half_does_not_depend_on_the_style_of_the_other_but_at_the_border(
    model: Model, styles: list[Style]
) -> None:
    both = two(model, styles, LEFT, ~LEFT)
    for masks, seen in (((LEFT, EMPTY), slice(0, 16)), ((EMPTY, ~LEFT), slice(28, 44))):
        np.testing.assert_allclose(both[:, seen], two(model, styles, *masks)[:, seen], atol=1e-5)
    assert np.abs(both - two(model, styles, ~LEFT, LEFT)).max() > 0.05


def test_grey_is_the_mean_of_the_content_and_the_result(model: Model, styles: list[Style]) -> None:
    wholly, half = (two(model, styles, EMPTY, FULL / part) for part in (255, 510))
    np.testing.assert_allclose(half, (wholly + CONTENT / 255) / 2, atol=0.005)


def test_overlapping_masks_share(model: Model, styles: list[Style]) -> None:
    halves = two(model, styles, FULL / 510, FULL / 510)
    np.testing.assert_allclose(two(model, styles, FULL / 255, FULL / 255), halves, atol=1e-5)


def test_masks_of_any_kind_mean_the_same(model: Model, styles: list[Style]) -> None:
    wanted = two(model, styles, LEFT, EMPTY)
    for mask in (LEFT, LEFT * np.uint8(255)):
        found = stylize(model, CONTENT, styles, masks=[mask, EMPTY])
        np.testing.assert_allclose(found, wanted, atol=1e-6)


DEGENERATE = {
    "one pixel": (EMPTY + np.eye(*SIZE) * (np.arange(44) == 3), EMPTY),
    "a trace": (FULL * 1e-9, EMPTY),
    "all three": (FULL / 255, FULL / 255),
}


@pytest.mark.parametrize("masks", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("content", [CONTENT, np.full((*SIZE, 3), 90, np.uint8)])
def test_odd_masks_and_constant_contents_are_finite(
    model: Model, styles: list[Style], masks: Any, content: NDArray[np.uint8]
) -> None:
    fractions = [np.asarray(mask, np.float32) for mask in masks]
    for transform in TRANSFORMS:
        result = np.asarray(stylize(model, content, styles, masks=fractions, transform=transform))
        assert np.isfinite(result).all()
        assert result.max() <= 1


def test_gradients_are_finite_where_a_region_is_empty(model: Model, styles: list[Style]) -> None:
    def loss(content: jax.Array, mask: jax.Array) -> jax.Array:
        return jnp.sum(stylize(model, content, styles, masks=[mask, jnp.zeros(SIZE)]) ** 2)

    content = jnp.asarray(CONTENT / 255, jnp.float32)
    for mask in (jnp.zeros(SIZE), jnp.asarray(LEFT, jnp.float32) / 2):
        gradients = jax.jit(jax.grad(loss, (0, 1)))(content, mask)
        assert all(np.isfinite(gradient).all() for gradient in gradients)
        assert np.abs(gradients[0]).max() > 0


def test_batches_equal_single_images(model: Model, styles: list[Style]) -> None:
    contents, masks = np.stack([CONTENT, OTHER]), np.stack([LEFT, ~LEFT])
    found = stylize(model, contents, styles[0], mask=masks, opacity=LEFT)
    for i, (content, mask) in enumerate(zip(contents, masks, strict=True)):
        single = stylize(model, content, styles[0], mask=mask, opacity=LEFT)
        np.testing.assert_allclose(found[i], single, atol=1e-5)


def test_what_is_not_visible_of_a_style_decides_nothing(model: Model) -> None:
    image, mask = np.concatenate([STYLE, OTHER], 1), np.concatenate([FULL, EMPTY], 1)
    whole = encode_style(model, image).moments[0]
    left = encode_style(model, image, mask=mask).moments[0]
    alone = encode_style(model, STYLE).moments[0]
    assert left.count == alone.count
    # Features next to the border see what is beyond it.
    off = [np.abs(part.mean - alone.mean).max() for part in (left, whole)]
    assert off[0] < 0.3 * off[1]


def test_the_contents_opacity_weighs_its_statistics_alone(
    model: Model, styles: list[Style], plain: NDArray[np.float32]
) -> None:
    found = np.asarray(stylize(model, CONTENT, styles[0], opacity=LEFT))
    masked = np.asarray(stylize(model, CONTENT, styles[0], mask=LEFT))
    # Where both use the style, they use the same map; the opacity does not confine it.
    np.testing.assert_allclose(found[:, :16], masked[:, :16], atol=1e-5)
    assert np.abs(found - plain).max() > 0.01
    assert np.abs(found - CONTENT / 255)[:, 28:].mean() > 0.05


@pytest.mark.parametrize(
    ("style", "options", "message"),
    [
        (STYLE, {"mask": FULL, "masks": [FULL]}, "either mask, for one style, or masks"),
        (STYLE, {"masks": [FULL, FULL]}, "2 masks need as many styles in a list, not 1"),
        ([STYLE], {"masks": [FULL, FULL]}, "2 masks need as many styles in a list, not 1"),
        ([STYLE, STYLE], {"masks": [FULL, FULL[:20]]}, "mask 2: 44x20 pixels"),
        (STYLE, {"mask": np.zeros((3, *SIZE))}, r"mask: \(3, 26, 44\) does not fit"),
        (STYLE, {"opacity": FULL[:20]}, "opacity: 44x20 pixels"),
    ],
)
def test_wrong_arguments_are_refused(
    model: Model, style: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        stylize(model, CONTENT, style, **options)


def test_a_style_of_which_nothing_counts_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="the mask of the style is 0 everywhere"):
        encode_style(model, STYLE, mask=EMPTY)
