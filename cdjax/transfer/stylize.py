"""Style transfer of whole images: the jitted cascade."""

from collections.abc import Sequence
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
from cdjax.transfer.regions import (
    Regions,
    in_memory,
    map_regions,
    one_of,
    over_content,
    padded,
    region_moments,
    region_of,
    regions_of,
    styles_of,
    visible_part,
    weights_at,
)
from cdjax.transfer.stages import encode_stage, run_cascade
from cdjax.transfer.statistics import Moments
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


def encode_style(
    model: Model,
    style: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Style:
    """Encodes a style image once, for any number of contents.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        style: (H, W, 3) or (N, H, W, 3), RGB, uint8 or floating in [0, 1]; any size from 1 pixel.
        mask: (H, W) or (N, H, W), how much each pixel counts in the statistics: bool, uint8, where
            255 is all, or floating in [0, 1], such as the alpha channel of the image. It may have
            another size with the same aspect ratio, and is resampled. By default all count alike.
        dtype: float32 or bfloat16, the networks' compute dtype.

    Returns:
        The `Style`; its statistics are float32 for either dtype.

    Raises:
        TypeError: if the pixels or the mask are of another dtype.
        ValueError: if the shape, the mask, the dtype or the model's method does not fit.
    """
    check_model(model)
    pixels, dtype = as_pixels(style, "style"), compute_dtype(dtype)
    visible = in_memory(style_regions(mask, pixels.shape))
    if not in_patches(model, pixels, visible):
        return _encode_style(model, pixels, visible, dtype=dtype)
    images = np.asarray(pixels)
    if images.ndim == 3:
        return Style(encode_in_patches(model, images, region_of(visible, 0), dtype=dtype))
    encoded = [
        Style(encode_in_patches(model, image, region_of(visible, index), dtype=dtype))
        for index, image in enumerate(images)
    ]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *encoded)


def style_regions(mask: Any | None, shape: tuple[int, ...]) -> Regions | None:
    """The mask of a style image of a shape; ValueError if it does not fit, or is 0 everywhere."""
    regions = visible_part(mask, shape, "the mask of the style")
    found = None if regions is None else regions.opacity
    if isinstance(found, np.ndarray) and not found.any():
        raise ValueError("the mask of the style is 0 everywhere: there is nothing to learn from")
    return regions


def stylize(
    model: Model,
    content: ArrayLike,
    style: ArrayLike | Style | Sequence[ArrayLike | Style],
    *,
    alpha: ArrayLike = 1.0,
    transform: str | None = None,
    regularization: ArrayLike = 0.0,
    mask: ArrayLike | None = None,
    masks: Sequence[ArrayLike] | None = None,
    opacity: ArrayLike | None = None,
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
        style: an image like `content`, of any size, or the result of `encode_style`. A batch of N
            is paired with N contents; one serves all. With `masks`, a list of styles.
        alpha: strength of the style, from 0 (reconstruction) to 1. A stage's share is alpha times
            the model's `config.strengths`, at most 1, so alphas above 1 can make it stronger.
        transform: `"wct"`, `"adain"` or `"ot"` (linear optimal transport, which keeps more of the
            structure). By default the model's method.
        regularization: share, from 0, of the mean variance of content and style features that is
            added to the variances of both. It tempers directions in which both vary little.
        mask: where the style is used, and whose statistics count, as for `encode_style`. Where it
            is 0 the result is the content.
        masks: the same for each of several styles, which share a pixel where the sum exceeds 1.
        opacity: how much a pixel counts in the content's statistics, as a mask; it hides nothing.
        dtype: float32 or bfloat16, the networks' compute dtype.

    Returns:
        float32 in [0, 1], of exactly the content's shape.

    Raises:
        TypeError, ValueError: if an argument is of a wrong dtype, shape or range, or the style was
            encoded by another model.
    """
    name = check_transform(model, transform, regularization)
    pixels, dtype = as_pixels(content, "content"), compute_dtype(dtype)
    masks, style = one_of(mask, masks, style)
    encoded = tuple(
        each if isinstance(each, Style) else encode_style(model, each, dtype=dtype)
        for each in styles_of(style, masks)
    )
    for each in encoded:
        check_style(model.config, each, pixels.shape)
    regions = in_memory(regions_of(masks, opacity, pixels.shape))
    strength = jnp.asarray(alpha, jnp.float32), jnp.asarray(regularization, jnp.float32)
    patches = in_patches(model, pixels, encoded, strength, regions)
    run = _stylize_in_patches if patches else _stylize
    return run(model, pixels, encoded, regions, strength, name=name, dtype=dtype)


def _stylize_in_patches(
    model: Model,
    content: Pixels,
    styles: tuple[Style, ...],
    regions: Regions | None,
    strength: tuple[Array, Array],
    *,
    name: str,
    dtype: jnp.dtype,
) -> Array:
    """Does what `_stylize` does, image by image."""

    def single(image: np.ndarray[Any, Any], index: int) -> np.ndarray[Any, Any]:
        used = tuple(_nth(style, index).moments for style in styles)
        options: Any = {"name": name, "dtype": dtype}
        return stylize_in_patches(
            model, image, used, region_of(regions, index), strength, **options
        )

    images = np.asarray(content)
    if images.ndim == 3:
        return jax.device_put(single(images, 0))  # jnp.asarray would compile for every shape.
    return jax.device_put(np.stack([single(image, index) for index, image in enumerate(images)]))


def _nth(style: Style, index: int) -> Style:
    """The style of the image with that index in a batch; one style serves all of them."""
    if style.moments[0].mean.ndim == 1:
        return style
    place = min(index, len(style.moments[0].mean) - 1)
    return jax.tree.map(lambda leaf: leaf[place], style)


@partial(compiled, settings=EXACT, static_argnames="dtype")
def _encode_style(
    model: Model, style: Pixels, visible: Regions | None, *, dtype: jnp.dtype
) -> Style:
    specs = model.config.specs
    images, visible = pad(_batch(style), specs), padded(visible, specs)

    def statistics(spec: Spec) -> Moments:
        encoder = model.params[f"stage{spec.stage}"]["encoder"]
        features = encode_stage(encoder, spec, images, dtype=dtype)
        return region_moments(features, weights_at(visible, spec.stride))[0]

    encoded = Style(tuple(map(statistics, specs)))
    return encoded if style.ndim == 4 else jax.tree.map(lambda leaf: leaf[0], encoded)


@partial(compiled, settings=EXACT, static_argnames=("name", "dtype"))
def _stylize(
    model: Model,
    content: Pixels,
    styles: tuple[Style, ...],
    regions: Regions | None,
    strength: tuple[Array, Array],
    *,
    name: str,
    dtype: jnp.dtype,
) -> Array:
    specs = model.config.specs
    height, width = content.shape[-3:-1]
    of_styles = zip(*(style.moments for style in styles), strict=True)
    style_moments = dict(zip(specs, of_styles, strict=True))
    alpha, regularization = strength
    start, regions = pad(_batch(content), specs), padded(regions, specs)

    def transform(spec: Spec, features: Array) -> Array:
        share = stage_alpha(alpha, model.config.strength_of(spec.stage))
        weights = weights_at(regions, spec.stride)
        maps = [
            TRANSFORMS[name](of_content, of_style, share, regularization)
            for of_content, of_style in zip(
                region_moments(features, weights), style_moments[spec], strict=True
            )
        ]
        return map_regions(features, maps, weights)

    images = run_cascade(model.params, specs, start, transform, dtype=dtype)
    images = over_content(images, start, regions)
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
