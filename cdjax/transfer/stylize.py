"""The jitted cascade: encode -> transform -> decode, for the stages from deep to shallow."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from cdjax.model import Model, ModelConfig, Params
from cdjax.networks.decoder import Decoder
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.ops.jit import EXACT, compiled
from cdjax.transfer.statistics import Moments, moments
from cdjax.transfer.transforms import Transform, adain, wct

_Pixels = Array | np.ndarray[Any, Any]

LEVEL = np.float32(1 / 255)
"""One of the grey levels of 8 bits. A factor, because XLA may take one for a division, and images
converted by NumPy must be the same to the last bit."""

TRANSFORMS: dict[str, Transform] = {"wct": wct, "adain": adain}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Style:
    """What a model remembers of a style image: its features' statistics at every stage.

    Attributes:
        moments: one `Moments` a stage, in the order of `config.specs`. One leading axis where the
            style was a batch of images; `jax.vmap` and `jax.tree.map` may take it apart.
    """

    moments: tuple[Moments, ...]


def encode_style(model: Model, style: ArrayLike, *, dtype: DTypeLike = jnp.float32) -> Style:
    """Statistics of a style image, to be used with any number of contents.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        style: (H, W, 3) or (N, H, W, 3), RGB, uint8 or floating in [0, 1]; any size from 1 pixel.
        dtype: float32 or bfloat16, the networks' compute dtype.

    Returns:
        The `Style`; its statistics are float32 whatever the dtype.

    Raises:
        TypeError: if the pixels are neither uint8 nor floating.
        ValueError: if the shape, the dtype or the model's method does not fit.
    """
    check_model(model)
    return _encode_style(model.params, model.config, checked(style, "style"), compute_dtype(dtype))


def stylize(
    model: Model,
    content: ArrayLike,
    style: ArrayLike | Style,
    *,
    alpha: ArrayLike = 1.0,
    dtype: DTypeLike = jnp.float32,
) -> Array:
    """Repaints a content image in a style (paper, section 3.1).

    For every stage, deepest first, the image is encoded, its features' statistics are moved to the
    style's, and the features are decoded. Compiled once per image size, model configuration
    and dtype. It composes with `jax.jit`, `jax.vmap` and `jax.grad`; compiled as a part of
    something else, its last bits may be others than those of `stylize_by_windows`.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        content: (H, W, 3) or (N, H, W, 3), RGB, uint8 or floating in [0, 1]; any size from 1 pixel.
            Sizes that are no multiple of the deepest stage's stride are padded inside by
            reflection and cropped again.
        style: an image like `content`, of any size, or what `encode_style` returned. A batch of N
            styles goes with a batch of N contents, pair by pair; one style serves a whole batch.
        alpha: share of the transform at every stage, from 0 (reconstruction) to 1 (full style).
        dtype: float32 or bfloat16, the networks' compute dtype.

    Returns:
        float32 in [0, 1], of exactly the content's shape.

    Raises:
        TypeError: if the pixels are neither uint8 nor floating.
        ValueError: if a shape, the dtype, the model's method or the style's origin does not fit.
    """
    check_model(model)
    images = checked(content, "content")
    dtype = compute_dtype(dtype)
    encoded = style if isinstance(style, Style) else encode_style(model, style, dtype=dtype)
    check_style(model.config, encoded, images.shape)
    return _stylize(model.params, model.config, images, encoded, alpha, dtype)


@partial(compiled, settings=EXACT, static_argnames=("config", "dtype"))
def _encode_style(
    params: dict[str, dict[str, Params]], config: ModelConfig, style: _Pixels, dtype: jnp.dtype
) -> Style:
    images = _padded(_as_float(style), config)
    encoded = [moments(_encode(params, spec, images, dtype)) for spec in config.specs]
    statistics = Style(tuple(encoded))
    return statistics if style.ndim == 4 else jax.tree.map(lambda leaf: leaf[0], statistics)


@partial(compiled, settings=EXACT, static_argnames=("config", "dtype"))
def _stylize(
    params: dict[str, dict[str, Params]],
    config: ModelConfig,
    content: _Pixels,
    style: Style,
    alpha: ArrayLike,
    dtype: jnp.dtype,
) -> Array:
    height, width = content.shape[-3:-1]
    alpha = jnp.asarray(alpha, jnp.float32)
    images = _padded(_as_float(content), config)
    for spec, style_moments in zip(config.specs, style.moments, strict=True):
        features = _encode(params, spec, images, dtype)
        transform = TRANSFORMS[config.method]
        features = transform(moments(features), style_moments, alpha)(features)
        images = apply(
            Decoder(spec, dtype, in_bands=True), params[f"stage{spec.stage}"]["decoder"], features
        )
    images = jnp.clip(images[:, :height, :width], 0, 1)
    return images if content.ndim == 4 else images[0]


def _encode(
    params: dict[str, dict[str, Params]], spec: Spec, images: Array, dtype: jnp.dtype
) -> Array:
    features, _ = apply(
        Encoder(spec, dtype, in_bands=True), params[f"stage{spec.stage}"]["encoder"], images
    )
    return features


def _as_float(pixels: _Pixels) -> Array:
    images = jnp.asarray(pixels)
    images = images if images.ndim == 4 else images[None]
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) * LEVEL
    return images.astype(jnp.float32)


def _padded(images: Array, config: ModelConfig) -> Array:
    """Images grown at the bottom and right until every layer has whole pixels to work on."""
    grown = grown_size(images.shape[1:3], config)
    pad = [(0, new - old) for new, old in zip(grown, images.shape[1:3], strict=True)]
    return jnp.pad(images, [(0, 0), *pad, (0, 0)], "symmetric")


def grown_size(size: Sequence[int], config: ModelConfig) -> list[int]:
    """Height and width in whole positions of the deepest features."""
    stride = config.specs[0].stride
    # Twice the stride: the deepest convolution needs 2 positions to pad by reflection.
    return [max(-(-length // stride), 2) * stride for length in size]


def check_model(model: Model) -> None:
    """Refuses, as ValueError, a model that has no decoders."""
    if model.config.method not in TRANSFORMS:
        raise ValueError(
            f"this model is a lone {model.config.teacher} encoder and cannot stylise; "
            "distil or convert one with decoders (method wct or adain)"
        )


def checked(images: ArrayLike, name: str) -> _Pixels:
    """The pixels of an image or a batch of them; TypeError or ValueError if they are none."""
    if not isinstance(images, jax.Array):
        # Not jnp.asarray: it compiles a program for every shape it meets.
        images = np.asarray(images)
    check_pixels(images, name)
    return images


def check_pixels(images: Any, name: str) -> None:
    """Refuses, by `images.shape` and `images.dtype`, what are no pixels (TypeError, ValueError)."""
    shape, dtype = images.shape, images.dtype
    if len(shape) not in (3, 4) or shape[-1] != 3 or 0 in shape:
        raise ValueError(
            f"{name} must be (H, W, 3) or (N, H, W, 3) with at least 1 pixel, not {shape}"
        )
    if dtype != jnp.uint8 and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name} must be uint8 or floating in [0, 1], not {dtype}")


def compute_dtype(dtype: DTypeLike) -> jnp.dtype:
    """float32 or bfloat16; ValueError if it is neither."""
    dtype = jnp.dtype(dtype)
    if dtype not in (jnp.float32, jnp.bfloat16):
        raise ValueError(f"dtype must be float32 or bfloat16, not {dtype}")
    return dtype


def check_style(config: ModelConfig, style: Style, shape: tuple[int, ...]) -> None:
    """Refuses, as ValueError, a style of another model or of another number of images."""
    channels = [statistics.mean.shape[-1] for statistics in style.moments]
    if channels != [spec.widths[-1] for spec in config.specs]:
        raise ValueError(
            "this style was encoded by a model of other stages or widths; encode it again"
        )
    batch = style.moments[0].mean.shape[:-1]
    images = shape[:-3]
    if batch not in ((), (1,), images):
        raise ValueError(
            f"{batch[0]} styles do not pair with {images[0] if images else 1} content image(s); "
            "use jax.vmap to combine each with each"
        )
