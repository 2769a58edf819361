"""Style transfer of whole images: the jitted cascade."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from cdjax.model import Model, ModelConfig
from cdjax.networks.spec import Spec
from cdjax.ops.jit import EXACT, compiled
from cdjax.transfer.patches import encode_in_patches, in_patches, stylize_in_patches
from cdjax.transfer.pixels import Pixels, as_pixels, compute_dtype, pad, to_float
from cdjax.transfer.stages import encode_stage, run_cascade
from cdjax.transfer.statistics import Moments, moments
from cdjax.transfer.transforms import TRANSFORMS, stage_alpha


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Style:
    """An encoded style image: the statistics of its features at every stage.

    Attributes:
        moments: one `Moments` per stage, in the order of `config.specs`. With one leading axis if
            the style is a batch of images; `jax.vmap` and `jax.tree.map` can take it apart.
    """

    moments: tuple[Moments, ...]


def encode_style(model: Model, style: ArrayLike, *, dtype: DTypeLike = jnp.float32) -> Style:
    """Encodes a style image once, for any number of contents.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        style: (H, W, 3) or (N, H, W, 3), RGB, uint8 or floating in [0, 1]; any size from 1 pixel.
        dtype: float32 or bfloat16, the networks' compute dtype.

    Returns:
        The `Style`; its statistics are float32 for either dtype.

    Raises:
        TypeError: if the pixels are neither uint8 nor floating.
        ValueError: if the shape, the dtype or the model's method does not fit.
    """
    check_model(model)
    pixels, dtype = as_pixels(style, "style"), compute_dtype(dtype)
    if not in_patches(model, pixels):
        return _encode_style(model, pixels, dtype=dtype)
    images = np.asarray(pixels)
    if images.ndim == 3:
        return Style(encode_in_patches(model, images, dtype=dtype))
    encoded = [Style(encode_in_patches(model, image, dtype=dtype)) for image in images]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *encoded)


def stylize(
    model: Model,
    content: ArrayLike,
    style: ArrayLike | Style,
    *,
    alpha: ArrayLike = 1.0,
    transform: str | None = None,
    regularization: ArrayLike = 0.0,
    dtype: DTypeLike = jnp.float32,
) -> Array:
    """Repaints a content image in a style (paper, section 3.1).

    At every stage, from deep to shallow, the image is encoded, the statistics of its features are
    moved to those of the style, and the features are decoded. On a CPU, compiled once per model
    configuration and dtype, for images of all sizes. Works inside `jax.jit`, `jax.vmap` and
    `jax.grad`, and on GPUs, compiled once per size; as a part of a larger program, its last bits
    may differ from those of `stylize_by_windows`.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        content: (H, W, 3) or (N, H, W, 3), RGB, uint8 or floating in [0, 1]; any size from 1 pixel.
            Sizes that are not multiples of the deepest stage's stride are padded by reflection
            and cropped again.
        style: an image like `content`, of any size, or the result of `encode_style`. A batch of N
            styles is paired with a batch of N contents; one style serves a whole batch.
        alpha: strength of the style, from 0 (reconstruction) to 1 (as the model was trained). The
            share of the transform at a stage is alpha times the model's `config.strengths`, at
            most 1, so alphas above 1 make the style stronger where a strength is below 1.
        transform: `"wct"`, `"adain"`, or `"ot"` for linear optimal transport, which keeps more of
            the content's structure. By default the model's method.
        regularization: share, from 0, of the mean variance of content and style features that is
            added to the variances of both. It tempers directions in which both vary little.
        dtype: float32 or bfloat16, the networks' compute dtype.

    Returns:
        float32 in [0, 1], of exactly the content's shape.

    Raises:
        TypeError: if the pixels are neither uint8 nor floating.
        ValueError: if a shape, the dtype or the model's method does not fit, there is no such
            transform, or the style was encoded by another model.
    """
    name = check_transform(model, transform, regularization)
    pixels = as_pixels(content, "content")
    dtype = compute_dtype(dtype)
    encoded = style if isinstance(style, Style) else encode_style(model, style, dtype=dtype)
    check_style(model.config, encoded, pixels.shape)
    strength = jnp.asarray(alpha, jnp.float32), jnp.asarray(regularization, jnp.float32)
    if not in_patches(model, pixels, encoded, strength):
        return _stylize(model, pixels, encoded, strength, name=name, dtype=dtype)
    images = np.asarray(pixels)
    options: Any = {"name": name, "dtype": dtype}
    if images.ndim == 3:
        of_style = _nth(encoded, 0).moments
        result = stylize_in_patches(model, images, of_style, strength, **options)
        return jax.device_put(result)  # jnp.asarray would compile a program for every shape.
    results = [
        stylize_in_patches(model, image, _nth(encoded, index).moments, strength, **options)
        for index, image in enumerate(images)
    ]
    return jax.device_put(np.stack(results))


def _nth(style: Style, index: int) -> Style:
    """The style of the image with that index in a batch; one style serves all of them."""
    if style.moments[0].mean.ndim == 1:
        return style
    place = min(index, len(style.moments[0].mean) - 1)
    return jax.tree.map(lambda leaf: leaf[place], style)


@partial(compiled, settings=EXACT, static_argnames="dtype")
def _encode_style(model: Model, style: Pixels, *, dtype: jnp.dtype) -> Style:
    specs = model.config.specs
    encoders = [model.params[f"stage{spec.stage}"]["encoder"] for spec in specs]
    images = pad(_batch(style), specs)
    features = map(partial(encode_stage, images=images, dtype=dtype), encoders, specs)
    encoded = Style(tuple(map(moments, features)))
    return encoded if style.ndim == 4 else jax.tree.map(lambda leaf: leaf[0], encoded)


@partial(compiled, settings=EXACT, static_argnames=("name", "dtype"))
def _stylize(
    model: Model,
    content: Pixels,
    style: Style,
    strength: tuple[Array, Array],
    *,
    name: str,
    dtype: jnp.dtype,
) -> Array:
    specs = model.config.specs
    height, width = content.shape[-3:-1]
    style_moments = dict(zip(specs, style.moments, strict=True))
    alpha, regularization = strength

    def transform(spec: Spec, features: Array) -> Array:
        share = stage_alpha(alpha, model.config.strength_of(spec.stage))
        of_style = style_moments[spec]
        return TRANSFORMS[name](moments(features), of_style, share, regularization)(features)

    images = run_cascade(model.params, specs, pad(_batch(content), specs), transform, dtype=dtype)
    images = jnp.clip(images[:, :height, :width], 0, 1)
    return images if content.ndim == 4 else images[0]


def _batch(pixels: Pixels) -> Array:
    """An image or a batch of images as a batch, float32 in [0, 1]."""
    images = jnp.asarray(pixels)
    return to_float(images if images.ndim == 4 else images[None])


def check_model(model: Model) -> None:
    """Checks that a model can stylise; ValueError if it has no decoders."""
    if model.config.method not in TRANSFORMS:
        raise ValueError(
            f"this model is a lone {model.config.teacher} encoder and cannot stylise; "
            "distil or convert one with decoders (method wct or adain)"
        )


def check_transform(model: Model, name: str | None, regularization: ArrayLike) -> str:
    """The name of a transform, by default the model's method; ValueError if it does not fit."""
    check_model(model)
    name = name or model.config.method
    if name not in TRANSFORMS:
        raise ValueError(f"no transform {name!r}; there are {', '.join(TRANSFORMS)}")
    traced = isinstance(regularization, jax.core.Tracer)
    if name == "adain" and not traced and np.any(regularization):
        raise ValueError("adain has no regularization; choose the transform wct or ot")
    return name


def check_style(config: ModelConfig, style: Style, shape: tuple[int, ...]) -> None:
    """Checks that a style fits a model and a content of a shape, (H, W, 3) or (N, H, W, 3).

    Raises:
        ValueError: if the style was encoded by a model of other stages or widths, or is a batch
            of another number of images.
    """
    channels = [statistics.mean.shape[-1] for statistics in style.moments]
    if channels != [spec.widths[-1] for spec in config.specs]:
        raise ValueError("a model of other stages or widths encoded this style; encode it again")
    batch, images = style.moments[0].mean.shape[:-1], shape[:-3]
    if batch not in ((), (1,), images):
        raise ValueError(
            f"{batch[0]} styles cannot be paired with {images[0] if images else 1} content "
            "image(s); use jax.vmap to combine each with each"
        )
