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
from cdjax.transfer.color import PreserveColor, check_preserve_color, in_colors_of, with_chroma_of
from cdjax.transfer.patches import encode_in_patches, in_patches, stylize_in_patches
from cdjax.transfer.pixels import Pixels, as_pixels, compute_dtype, pad, to_float
from cdjax.transfer.regions import (
    Regions,
    counts_of,
    in_memory,
    map_regions,
    nth_mask,
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
from cdjax.transfer.transforms import TRANSFORMS, check_model, stage_alpha, with_transform

_Colors = tuple[Pixels, Any | None]
"""An image whose colours a style gets, or a batch, and how much each pixel counts."""


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
    colors_of: ArrayLike | None = None,
    colors_mask: ArrayLike | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Style:
    """Encodes a style image once, for any number of contents.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        style: (H, W, 3) or (N, H, W, 3), RGB, uint8 or floating in [0, 1]; any size from 1 pixel.
        mask: (H, W) or (N, H, W), how much each pixel counts in the statistics: bool, uint8, where
            255 is all, or floating in [0, 1], such as the alpha channel of the image. It may have
            another size with the same aspect ratio, and is resampled. By default all count alike.
        colors_of: an image or a batch like it, whose mean colour and covariance of colours the
            style gets before it is encoded: the content, for `preserve_color="match"` of
            `stylize`. One image serves a whole batch, of styles or of contents.
        colors_mask: how much each pixel of `colors_of` counts, as `mask`. If it is 0 everywhere,
            all count equally.
        dtype: float32 or bfloat16, the networks' compute dtype.

    Returns:
        The `Style`; its statistics are float32 for either dtype.

    Raises:
        TypeError: if the pixels or the mask are of another dtype.
        ValueError: if the shape, the range, the mask, the dtype or the model's method does not fit,
            or there are N styles and another number of images in `colors_of`.
    """
    check_model(model)
    pixels = as_pixels(style, "style")
    visible = in_memory(style_regions(mask, pixels.shape))
    colors = None
    if colors_of is not None:
        contents = as_pixels(colors_of, "colors_of")
        seen = in_memory(visible_part(colors_mask, contents.shape, "colors_mask"))
        colors = contents, counts_of(seen, 0)
    return _encoded(model, pixels, visible, colors, compute_dtype(dtype))


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
    preserve_color: PreserveColor | None = None,
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
            structure) at all stages; by default the model's own, mostly its method.
        regularization: share, from 0, of the mean variance of content and style features that is
            added to the variances of both. It tempers directions in which both vary little.
        mask: where the style is used and statistics count; where it is 0, the content remains.
        masks: the same for each of several styles, which share a pixel where the sum exceeds 1.
        opacity: how much a pixel counts in the content's statistics, as a mask; it hides nothing.
        preserve_color: `"luminance"` keeps only the luminance of the result and takes its chroma
            from the content; `"match"` gives the style the content's mean colour and covariance of
            colours, within the style's mask, before it is encoded; it takes no encoded style.
        dtype: float32 or bfloat16, the networks' compute dtype.

    Returns:
        float32 in [0, 1], of exactly the content's shape.

    Raises:
        TypeError, ValueError: for a wrong dtype, shape or range, or a style of another model.
    """
    model = with_transform(model, transform, regularization)
    pixels, dtype = as_pixels(content, "content"), compute_dtype(dtype)
    masks, style = one_of(mask, masks, style)
    given = styles_of(style, masks)
    check_preserve_color(preserve_color, encoded=any(isinstance(each, Style) for each in given))
    regions = in_memory(regions_of(masks, opacity, pixels.shape))
    match = preserve_color == "match"
    colors = [(pixels, counts_of(regions, i)) if match else None for i in range(len(given))]
    styles = tuple(map(partial(_fitting, model, pixels.shape, dtype), given, colors))
    strength = jnp.asarray(alpha, jnp.float32), jnp.asarray(regularization, jnp.float32)
    run = _stylize_in_patches if in_patches(model, pixels, styles, strength, regions) else _stylize
    images = run(model, pixels, styles, regions, strength, dtype=dtype)
    return with_chroma_of(pixels, images) if preserve_color == "luminance" else images


def _fitting(
    model: Model, shape: tuple[int, ...], dtype: jnp.dtype, style: Any, colors: _Colors | None
) -> Style:
    """A style, or what an image is encoded to, if it fits a content of this shape."""
    if not isinstance(style, Style):
        style = _encoded(model, as_pixels(style, "style"), None, colors, dtype)
    check_style(model.config, style, shape)
    return style


def _stylize_in_patches(
    model: Model,
    content: Pixels,
    styles: tuple[Style, ...],
    regions: Regions | None,
    strength: tuple[Array, Array],
    *,
    dtype: jnp.dtype,
) -> Array:
    """Does what `_stylize` does, image by image."""

    def single(image: np.ndarray[Any, Any], index: int) -> np.ndarray[Any, Any]:
        used = tuple(nth_style(style, index).moments for style in styles)
        region = region_of(regions, index)
        return stylize_in_patches(model, image, used, region, strength, dtype=dtype)

    images = np.asarray(content)
    if images.ndim == 3:
        return jax.device_put(single(images, 0))  # jnp.asarray would compile for every shape.
    return jax.device_put(np.stack([single(image, index) for index, image in enumerate(images)]))


def _encoded(
    model: Model,
    style: Pixels,
    visible: Regions | None,
    colors: _Colors | None,
    dtype: jnp.dtype,
) -> Style:
    """The style of an image or a batch, in its own colours or in those of contents."""
    if colors is None:
        return _encode(model, style, visible, dtype)
    colors_of, seen = colors
    styles, contents = (x if x.ndim == 4 else x[None] for x in (style, colors_of))
    count = max(len(styles), len(contents))
    if not {len(styles), len(contents)} <= {1, count}:
        raise ValueError(f"{len(styles)} styles cannot get the colours of {len(contents)} images")
    encoded = []
    for index in range(count):
        one, content = styles[index % len(styles)], contents[index % len(contents)]
        part, mask = region_of(visible, index), nth_mask(seen, index)
        moved = in_colors_of(content, mask, model, one, counts_of(part, 0))
        encoded.append(_encode(moved, one, part, dtype))
    return encoded[0] if style.ndim == colors_of.ndim == 3 else _stacked(encoded)


def _encode(model: Model, style: Pixels, visible: Regions | None, dtype: jnp.dtype) -> Style:
    if not in_patches(model, style, visible):
        return _encode_style(model, style, visible, dtype=dtype)
    images = np.asarray(style)
    encoded = [
        Style(encode_in_patches(model, image, region_of(visible, index), dtype=dtype))
        for index, image in enumerate(images if images.ndim == 4 else images[None])
    ]
    return _stacked(encoded) if images.ndim == 4 else encoded[0]


def _stacked(styles: Sequence[Style]) -> Style:
    stacked: Style = jax.tree.map(lambda *leaves: jnp.stack(leaves), *styles)
    return stacked


def nth_style(style: Style, index: int) -> Style:
    """The style of the image with that index in a batch; one style serves all of them."""
    if style.moments[0].mean.ndim == 1:
        return style
    place = min(index, len(style.moments[0].mean) - 1)
    nth: Style = jax.tree.map(lambda leaf: leaf[place], style)
    return nth


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


@partial(compiled, settings=EXACT, static_argnames="dtype")
def _stylize(
    model: Model,
    content: Pixels,
    styles: tuple[Style, ...],
    regions: Regions | None,
    strength: tuple[Array, Array],
    *,
    dtype: jnp.dtype,
) -> Array:
    config, specs = model.config, model.config.specs
    height, width = content.shape[-3:-1]
    of_styles = zip(*(style.moments for style in styles), strict=True)
    style_moments = dict(zip(specs, of_styles, strict=True))
    alpha, regularization = strength
    start, regions = pad(_batch(content), specs), padded(regions, specs)

    def transform(spec: Spec, features: Array) -> Array:
        share = stage_alpha(alpha, config.strength_of(spec.stage))
        move = TRANSFORMS[config.transform_of(spec.stage)]
        weights = weights_at(regions, spec.stride)
        maps = [
            move(of_content, of_style, share, regularization)
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
