"""`stylize` and `encode_style` as their callers see them."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax import Model, ModelConfig, Spec, encode_style, stylize
from tests import models

CONTENT, STYLE = models.random_image(32, 32), models.random_image(16, 16, seed=5)


@pytest.fixture(scope="module")
def model() -> Model:
    return models.random_model()


@pytest.fixture(scope="module")
def deep() -> Model:
    """One stage only, of the largest stride."""
    return models.random_model([Spec(3, (6, 8, 10))])


@pytest.fixture(scope="module")
def shallow() -> Model:
    return models.random_model([Spec(2, (6, 8)), Spec(1, (5,))])


@pytest.fixture(scope="module")
def plain(shallow: Model) -> jax.Array:
    return stylize(shallow, CONTENT, STYLE)


def test_cascade_equals_numpy_step_by_step(model: Model) -> None:
    content, style = models.random_image(24, 32), models.random_image(20, 28, seed=2)

    def covariance_root(features: models.Floats, exponent: float) -> models.Floats:
        vectors, values, _ = np.linalg.svd(np.cov(features.T))
        kept = values > 5e-7 * values[0]
        return (vectors[:, kept] * values[kept] ** exponent) @ vectors[:, kept].T

    image = content / 255
    for spec in model.config.specs:
        params = model.params[f"stage{spec.stage}"]
        tap = f"relu{spec.stage}_1"
        features = models.encode(spec, params["encoder"], image)[tap]
        channels = features.shape[-1]
        target = models.encode(spec, params["encoder"], style / 255)[tap].reshape(-1, channels)
        centred = features.reshape(-1, channels) - features.mean((0, 1))
        whitened = centred @ covariance_root(features.reshape(-1, channels), -0.5)
        mapped = whitened @ covariance_root(target, 0.5) + target.mean(0)
        mixed = 0.8 * mapped.reshape(features.shape) + 0.2 * features
        image = models.decode(spec, params["decoder"], mixed)
    result = stylize(model, content, style, alpha=0.8)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, np.clip(image, 0, 1), atol=2e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 1), (16, 32), (19, 46)])
def test_result_has_exactly_the_contents_size(deep: Model, size: tuple[int, int]) -> None:
    result = np.asarray(stylize(deep, models.random_image(*size), STYLE))
    assert result.shape == (*size, 3)
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1


def test_style_of_one_pixel_and_constant_content_stay_finite(deep: Model) -> None:
    grey = np.full((16, 32, 3), 128, np.uint8)
    for style in (STYLE, grey[:1, :1]):
        assert np.isfinite(stylize(deep, grey, style)).all()


def test_alpha_zero_is_the_reconstruction_whatever_the_style(shallow: Model) -> None:
    result = stylize(shallow, CONTENT, STYLE, alpha=0.0)
    image = CONTENT / 255
    for spec in shallow.config.specs:
        params = shallow.params[f"stage{spec.stage}"]
        features = models.encode(spec, params["encoder"], image)[f"relu{spec.stage}_1"]
        image = models.decode(spec, params["decoder"], features)
    np.testing.assert_allclose(result, np.clip(image, 0, 1), atol=1e-4)


def test_uint8_and_float_inputs_mean_the_same(shallow: Model, plain: jax.Array) -> None:
    as_float = stylize(shallow, CONTENT / np.float32(255), STYLE / np.float32(255))
    np.testing.assert_allclose(as_float, plain, atol=1e-4)
    with pytest.raises(TypeError, match=r"int64|int32"):
        stylize(shallow, CONTENT.astype(np.int64), STYLE)
    for wrong in ("photo.jpg", Path("photo.jpg")):
        with pytest.raises(TypeError, match="content must be pixels, not a path or an object; cd"):
            stylize(shallow, wrong, STYLE)  # type: ignore[arg-type]


def test_encoded_style_equals_the_image(shallow: Model, plain: jax.Array) -> None:
    encoded = encode_style(shallow, STYLE)
    np.testing.assert_allclose(stylize(shallow, CONTENT, encoded), plain, atol=1e-6)


def test_batches_and_transformations_equal_single_images(shallow: Model) -> None:
    contents = models.random_image(2, 32, 32)
    styles = np.stack([models.random_image(16, 16, seed=seed) for seed in range(2)])
    encoded = encode_style(shallow, styles)

    def close(found: jax.Array, pairs: tuple[tuple[int, int], ...]) -> None:
        singles = [stylize(shallow, contents[c], styles[s]) for c, s in pairs]
        np.testing.assert_allclose(found, np.stack(singles), atol=1e-4)

    close(stylize(shallow, contents, styles), ((0, 0), (1, 1)))
    close(stylize(shallow, contents, styles[1]), ((0, 1), (1, 1)))
    each = jax.jit(jax.vmap(lambda style: stylize(shallow, contents[0], style)))(encoded)
    close(each, ((0, 0), (0, 1)))


def test_gradient_points_uphill(shallow: Model) -> None:
    content = jnp.asarray(models.random_image(16, 16) / 255, jnp.float32)
    style = jnp.asarray(models.random_image(16, 16, seed=4) / 255, jnp.float32)

    @jax.jit
    def brightness(content: jax.Array, style: jax.Array, model: Model) -> jax.Array:
        return jnp.mean(stylize(model, content, style, alpha=0.5) ** 2)

    gradients = jax.jit(jax.grad(brightness, (0, 1, 2)))(content, style, shallow)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    for index, image in enumerate((content, style)):
        slope = jnp.linalg.norm(gradients[index])
        step = 0.02 * gradients[index] / slope
        moved = [
            (*(content, style)[:index], image + s, *(content, style)[index + 1 :])
            for s in (step, -step)
        ]
        rise = (brightness(*moved[0], shallow) - brightness(*moved[1], shallow)) / 0.04
        assert slope > 0
        np.testing.assert_allclose(rise, slope, rtol=0.2)


def test_flipped_images_give_the_flipped_result(model: Model) -> None:
    def flip(spec_params: object) -> object:
        return jax.tree.map(lambda leaf: leaf[:, ::-1] if leaf.ndim == 4 else leaf, spec_params)

    content, style = models.random_image(32, 48), models.random_image(16, 32, seed=3)
    mirrored = dataclasses.replace(model, params=flip(model.params))
    plain = stylize(model, content, style)
    flipped = stylize(mirrored, content[:, ::-1], style[:, ::-1])
    np.testing.assert_allclose(flipped[:, ::-1], plain, atol=2e-3)


def test_bfloat16_runs_and_differs_little(shallow: Model, plain: jax.Array) -> None:
    rounded = stylize(shallow, CONTENT, STYLE, dtype=jnp.bfloat16)
    assert rounded.dtype == jnp.float32
    assert 0 < np.abs(rounded - plain).mean() < 0.04


def test_adain_model_uses_adain(shallow: Model, plain: jax.Array) -> None:
    adain = models.random_model(shallow.config.specs, method="adain")
    assert np.abs(stylize(adain, CONTENT, STYLE) - plain).max() > 0.01


def test_strengths_are_shares_of_alpha_by_stage(shallow: Model, plain: jax.Array) -> None:
    def of(*strengths: float, alpha: float) -> jax.Array:
        pairs = tuple((s.stage, x) for s, x in zip(shallow.config.specs, strengths, strict=True))
        config = dataclasses.replace(shallow.config, strengths=pairs)
        return stylize(dataclasses.replace(shallow, config=config), CONTENT, STYLE, alpha=alpha)

    stages = len(shallow.config.specs)
    np.testing.assert_array_equal(of(*[1.0] * stages, alpha=1), plain)
    half = stylize(shallow, CONTENT, STYLE, alpha=0.5)
    np.testing.assert_allclose(of(*[0.5] * stages, alpha=1), half, atol=1e-6)
    np.testing.assert_array_equal(of(*[0.5] * stages, alpha=2), plain)
    np.testing.assert_array_equal(of(0.5, *[1.0] * (stages - 1), alpha=3), plain)
    last_alone = of(*[0.0] * (stages - 1), 1, alpha=1)
    first_alone = of(1, *[0.0] * (stages - 1), alpha=1)
    assert np.abs(last_alone - first_alone).max() > 0.01
    with pytest.raises(ValueError, match="from 0 to 1"):
        of(*[1.5] * stages, alpha=1)


def test_transforms_by_stage(shallow: Model, plain: jax.Array) -> None:
    stages = [spec.stage for spec in shallow.config.specs]

    def of(*names: str, **options: Any) -> jax.Array:
        pairs = tuple(zip(stages, names, strict=True))
        config = dataclasses.replace(shallow.config, method="adain", transforms=pairs)
        return stylize(dataclasses.replace(shallow, config=config), CONTENT, STYLE, **options)

    np.testing.assert_array_equal(of(*["wct"] * len(stages)), plain)
    mixed = ["adain"] * (len(stages) - 1) + ["ot"]
    of_each = [of(*mixed), of(*mixed, transform="ot"), of(*mixed, transform="adain")]
    for one, other in itertools.combinations([*of_each, plain], 2):
        assert np.abs(one - other).max() > 0.005
    np.testing.assert_array_equal(of_each[1], stylize(shallow, CONTENT, STYLE, transform="ot"))
    assert np.abs(of(*mixed, regularization=0.5) - of_each[0]).max() > 0.005, "OT has one"
    with pytest.raises(ValueError, match="no transform 'gram'; there are wct, ot, adain"):
        of(*["gram"] * len(stages))


def test_another_transform_than_the_models_method(shallow: Model, plain: jax.Array) -> None:
    adain = models.random_model(shallow.config.specs, method="adain")
    of_method = stylize(adain, CONTENT, STYLE)
    np.testing.assert_array_equal(stylize(shallow, CONTENT, STYLE, transform="adain"), of_method)
    np.testing.assert_array_equal(stylize(adain, CONTENT, STYLE, transform="wct"), plain)
    with pytest.raises(ValueError, match="no transform 'gram'; there are wct, ot, adain"):
        stylize(shallow, CONTENT, STYLE, transform="gram")
    for regularization in (0.1, np.float32(0.1)):
        with pytest.raises(ValueError, match="adain has no regularization"):
            stylize(adain, CONTENT, STYLE, regularization=regularization)


def test_other_sizes_compile_nothing(shallow: Model, plain: jax.Array) -> None:
    compiled: list[str] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for size in ((32, 32), (150, 46)):
            content, style = models.random_image(*size, seed=2), models.random_image(21, 190)
            stylize(shallow, content, style, alpha=0.3).block_until_ready()
        assert not compiled
        jax.jit(lambda x: x + 1)(np.zeros(3))
        assert compiled, "what is listened to"
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(
    ("content", "style", "message"),
    [
        ((8, 8), (8, 8, 3), "content must be"),
        ((8, 8, 4), (8, 8, 3), "content must be"),
        ((8, 0, 3), (8, 8, 3), "at least 1 pixel"),
        ((8, 8, 3), (8, 8), "style must be"),
        ((2, 16, 16, 3), (3, 16, 16, 3), "3 styles cannot be paired with 2"),
        ((16, 16, 3), (3, 16, 16, 3), "3 styles cannot be paired with 1"),
    ],
)
def test_wrong_shapes_are_named(
    shallow: Model, content: tuple[int, ...], style: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        stylize(shallow, np.zeros(content, np.uint8), np.zeros(style, np.uint8))


def test_wrong_models_styles_and_dtypes_are_refused(model: Model, shallow: Model) -> None:
    image = models.random_image(16, 16)
    encoder = Model({}, ModelConfig("encoder", (Spec(1, (4,)),), "vgg19"))
    with pytest.raises(ValueError, match="cannot stylise"):
        stylize(encoder, image, image)
    with pytest.raises(ValueError, match="other stages or widths"):
        stylize(model, image, encode_style(shallow, image))
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        stylize(shallow, image, image, dtype=jnp.float16)
    with pytest.raises(ValueError, match="deepest first"):
        ModelConfig("wct", (Spec(1, (4,)), Spec(2, (4, 4))), "x")
