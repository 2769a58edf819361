"""Colour preservation: results in the content's colours.

Either the result keeps its luminance and gets the chroma of the content, pixel by pixel, in Oklab
(Ottosson 2020), a perceptual colour space; or the style's colours are moved to the content's mean
and covariance before it is encoded (Gatys et al. 2017, section 4).
"""

import math
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from cdjax.model import Model, Params
from cdjax.ops.jit import EXACT, EXACT_SOON, compiled, is_traced, runs_on_cpu
from cdjax.ops.matmul import product
from cdjax.transfer.masks import as_float
from cdjax.transfer.pixels import Pixels, as_floats, to_float
from cdjax.transfer.statistics import Moments, mean_and_scatter, moments
from cdjax.transfer.transforms import Affine, ot

PreserveColor = Literal["luminance", "match"]

_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
"""From linear sRGB to the responses of the cones, whose cube roots are mixed to Oklab."""
_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_DARKEST = 1e-9
"""Least response of a cone, so that roots have finite derivatives."""

_BLOCK = (128, 256)
"""Pixels that a CPU computes at once, by one program for images of all sizes. Other programs would
have other last bits, as would a loop whose length is no multiple of the processor's vectors."""

_T = TypeVar("_T")
_PIXELS_AT_ONCE = 2**20
"""Of an image whose statistics are summed up."""

Planes = list[Array]
"""Three channels, each of the shape of a block."""


def check_preserve_color(value: str | None, *, encoded: bool) -> None:
    """Checks a way to preserve colours, for a style that is `encoded` already or an image.

    Raises:
        ValueError: if there is no such way, or it needs the image.
    """
    if value is not None and value not in get_args(PreserveColor):
        names = ", ".join(get_args(PreserveColor))
        raise ValueError(f"preserve_color must be None or one of {names}, not {value!r}")
    if value == "match" and encoded:
        raise ValueError(
            "preserve_color='match' changes the style before it is encoded, but this style is "
            "encoded already; give the image, or encode it with colors_of=content"
        )


def with_chroma_of(contents: Pixels, images: Pixels) -> Array:
    """Images in the colours of contents: their own luminance L, the contents' a and b in Oklab.

    Where sRGB has no colour of that luminance and chroma, the chroma is reduced in linear light as
    far as needed.

    Args:
        contents: (..., 3), RGB, uint8 or floating in [0, 1].
        images: the same shape, float32; clipped to [0, 1] before.

    Returns:
        The same shape, float32 in [0, 1]. On a CPU, outside of transformations such as jit, the
        bits of a pixel do not depend on the shape.
    """
    if is_traced(contents, images) or not runs_on_cpu(contents, images):
        return _at_once(contents, images)
    return jax.device_put(_in_blocks(np.asarray(contents), np.asarray(images)))


@jax.jit
def _at_once(contents: Pixels, images: Pixels) -> Array:
    content, image = (jnp.moveaxis(pixels, -1, 0) for pixels in (to_float(contents), images))
    return jnp.moveaxis(_combined(content, image), 0, -1)


def _in_blocks(contents: NDArray[Any], images: NDArray[Any]) -> NDArray[np.float32]:
    content, image = contents.reshape(-1, 3), images.reshape(-1, 3)
    result = np.empty(image.shape, np.float32)
    size = math.prod(_BLOCK)
    for start in range(0, len(image), size):
        part = slice(start, start + size)
        block = np.zeros((2, 3, size), np.float32)
        count = len(image[part])
        block[0, :, :count], block[1, :, :count] = as_floats(content[part]).T, image[part].T
        found = np.asarray(_of_block(*block.reshape(2, 3, *_BLOCK)))
        result[part] = found.reshape(3, -1)[:, :count].T
    return result.reshape(images.shape)


def _combined(content: Array, image: Array) -> Array:
    """The colours, (3, ...), in the chroma of a content and the luminance of an image."""
    (_, a, b), (light, _, _) = map(_to_oklab, (content, jnp.clip(image, 0, 1)))
    roots = _mixed(np.linalg.inv(_OKLAB), [light, a, b])
    colours = _mixed(np.linalg.inv(_CONES), [root * root * root for root in roots])
    grey = light * light * light
    # The largest share of the way from grey to the colour on which no channel leaves [0, 1].
    share = jnp.ones_like(grey)
    for colour in colours:
        apart = colour - grey
        room = jnp.where(apart > 0, 1 - grey, grey)
        share = jnp.minimum(share, room / jnp.maximum(jnp.abs(apart), _DARKEST))
    grey, share = _once((grey, share))
    inside = [jnp.clip(grey + share * (colour - grey), 0, 1) for colour in colours]
    return jnp.clip(_gamma(jnp.stack(inside)), 0, 1)


_of_block = jax.jit(_combined, compiler_options=dict(EXACT))


def _to_oklab(colours: Array) -> Planes:
    cones = _mixed(_CONES, list(_once(_linear(colours))))
    roots = [_power(jnp.maximum(cone, _DARKEST), 1 / 3) for cone in cones]
    return _mixed(_OKLAB, _once(roots))


def _once(values: _T) -> _T:
    """The values, computed once; XLA would compute them again for every channel that needs them."""
    found: _T = lax.optimization_barrier(values)
    return found


def _mixed(matrix: NDArray[np.float64], planes: Planes) -> Planes:
    # Spelled out, because a product of matrices adds up in an order of its own.
    return _once(
        [
            (row[0] * planes[0] + row[1] * planes[1]) + row[2] * planes[2]
            for row in matrix.astype(np.float32)
        ]
    )


def _linear(values: Array) -> Array:
    """Linear light, from sRGB."""
    bright = _power((values + np.float32(0.055)) * np.float32(1 / 1.055), 2.4)
    return jnp.where(values <= 0.04045, values * np.float32(1 / 12.92), bright)


def _gamma(values: Array) -> Array:
    """The sRGB values of linear light."""
    bright = np.float32(1.055) * _power(jnp.maximum(values, 0.0031308), 1 / 2.4) - np.float32(0.055)
    return jnp.where(values <= 0.0031308, np.float32(12.92) * values, bright)


def _power(values: Array, exponent: float) -> Array:
    # On a CPU, XLA's powers and cube roots are many times slower.
    return jnp.exp(jnp.log(values) * np.float32(exponent))


def color_moments(image: Any, mask: Any | None = None) -> Moments:
    """Statistics of the colours of an image.

    Args:
        image: (H, W, 3), uint8 or floating in [0, 1]: an array, or an object that is read by
            regions (`image[rows, columns]`). On a CPU it is read in strips of rows.
        mask: (H, W), how much each pixel counts: an array, or an object read by regions. All
            pixels count equally if it is None or 0 everywhere.
    """
    arrays = [each for each in (image, mask) if isinstance(each, jax.Array)]
    if arrays and (is_traced(*arrays) or not runs_on_cpu(*arrays)):
        return _moments_at_once(image, mask)
    image, mask = (np.asarray(x) if isinstance(x, jax.Array) else x for x in (image, mask))
    height, width, channels = image.shape
    total, products = np.zeros(channels), np.zeros((channels, channels))
    count: Any = 0
    rows = max(1, _PIXELS_AT_ONCE // width)
    for top in range(0, height, rows):
        strip = slice(top, min(top + rows, height)), slice(0, width)
        values = as_floats(image[strip]).reshape(-1, channels).astype(np.float64)
        weights = np.ones(len(values)) if mask is None else as_float(mask[strip]).ravel()
        weighted = weights[:, None] * values
        count += weights.sum(dtype=np.float64)
        total += weighted.sum(0)
        products += weighted.T @ values
    if count == 0:
        return color_moments(image)
    parts = (count, *mean_and_scatter(count, total, products))
    return Moments(*(jax.device_put(np.asarray(part, np.float32)) for part in parts))


@jax.jit
def _moments_at_once(image: Array, mask: Array | None) -> Moments:
    if mask is None:
        return moments(to_float(image))
    weights = as_float(mask)
    return moments(to_float(image), jnp.where(weights.sum() > 0, weights, 1))


@partial(compiled, settings=EXACT_SOON)
def color_map(style: Moments, content: Moments) -> Affine:
    """The map of a style's colours that gives them the mean and covariance of a content's.

    Of all linear maps that do so, it is the one that moves them least. A style of fewer dimensions,
    such as a grey one, gets the content's variance along those that it has. The colours are not
    clipped to [0, 1], because that would change their statistics.

    Args:
        style: `color_moments` of the style.
        content: the same of the content.

    Returns:
        The map, for `recolored` or for pixels (..., H, W, 3), float32.
    """
    return ot(style, content)


def in_colors_of(
    content: Any, content_mask: Any | None, model: Model, style: Any, style_mask: Any | None
) -> Model:
    """A model that encodes a style in the colours of a content; `color_moments` takes each pair."""
    moved = color_map(color_moments(style, style_mask), color_moments(content, content_mask))
    return recolored(model, moved)


def recolored(model: Model, colors: Affine) -> Model:
    """A model that encodes an image as the model given would encode it with mapped colours.

    The first convolution of an encoder mixes the colours of single pixels, and takes over the map.
    The image itself is never made.
    """
    first = {stage: networks["encoder"]["conv0"] for stage, networks in model.params.items()}
    folded = _folded(first, colors)
    params = {
        stage: networks | {"encoder": networks["encoder"] | {"conv0": folded[stage]}}
        for stage, networks in model.params.items()
    }
    return Model(params, model.config)


@partial(compiled, settings=EXACT_SOON)
def _folded(layers: dict[str, Params], colors: Affine) -> dict[str, Params]:
    shift = colors.offset - product(colors.centre, colors.matrix)

    def fold(layer: Params) -> Params:
        matrix = layer["kernel"][0, 0]
        kernel, bias = product(colors.matrix, matrix), layer["bias"] + product(shift, matrix)
        return {"kernel": kernel[None, None], "bias": bias}

    return {stage: fold(layer) for stage, layer in layers.items()}
