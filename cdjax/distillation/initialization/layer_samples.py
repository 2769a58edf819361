"""Input and target vectors of each layer, sampled at the same random positions of both networks.

The network to imitate runs once over all images, and its layers' outputs at a few positions each
are kept. The student runs as far as its layers are known, starting at the last change of
resolution: its features there are kept for all images, so that all layers together cost about two
passes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from cdjax.model import Params
from cdjax.networks.encoder import convolve_colour
from cdjax.networks.layers import run_layers
from cdjax.networks.spec import Conv, Spec
from cdjax.ops.padding import Padding
from cdjax.ops.upsample import upsample

Arrays = tuple[Array, ...]
Positions = tuple[NDArray[np.int32], ...]
_LARGEST_BLOCK = 8
_BATCH = 8
"""Images at a time."""


def positions_of(features: Array, positions: Array) -> Array:
    """(N, h, w, C) at flat positions (N, n): (N, n, C)."""
    flat = features.reshape(features.shape[0], -1, features.shape[-1])
    return jnp.take_along_axis(flat, positions[..., None], axis=1)


def patches(features: Array, positions: Array, conv: Conv, padding: Padding) -> Array:
    """The inputs of a convolution's kernel at flat positions, (N, n, 9 C), in its axes' order.

    `features` are the convolution's inputs, before the upsampling that may precede it.
    """
    features = upsample(features) if conv.upsampled else features
    width = features.shape[2]
    mode = "reflect" if padding == "reflect" else "constant"
    padded = jnp.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
    rows, columns = positions // width, positions % width
    corners = [(rows + i) * (width + 2) + columns + j for i in range(3) for j in range(3)]
    return jnp.concatenate([positions_of(padded, corner) for corner in corners], axis=-1)


def coloured(params: Params, images: Array) -> Array:
    """uint8 images after the colour convolution, the inputs of conv1_1; float32."""
    return convolve_colour(params["conv0"], images.astype(jnp.float32) / 255)


def _half(values: Array) -> Array:
    # Activations of a normalised network are far below the largest float16.
    return jnp.clip(values, -6e4, 6e4).astype(jnp.float16)


@partial(jax.jit, static_argnames="spec")
def pre_activations(params: Params, images: Array, positions: Arrays, *, spec: Spec) -> Arrays:
    """The outputs of each layer of an encoder before ReLU: a tuple of (N, n, C), float16."""
    _, layers = run_layers(
        params, spec.encoder, coloured(params, images), padding=spec.padding, pre_activations=True
    )
    return tuple(
        _half(positions_of(layers[conv.name].outputs, where))
        for conv, where in zip(spec.encoder, positions, strict=True)
    )


@partial(jax.jit, static_argnames="spec")
def mirrored_inputs(params: Params, images: Array, positions: Arrays, *, spec: Spec) -> Arrays:
    """The targets of each layer of a decoder, and last the encoder's features.

    A layer's targets, (N, n, C) float16, are the inputs of the encoder's layer of the same name;
    those of the last layer are the image. The features are (N, h, w, C'), float16.
    """
    colours = coloured(params, images)
    features, layers = run_layers(params, spec.encoder, colours, padding=spec.padding)
    reads = [layers[conv.name].inputs for conv in spec.decoder[:-1]]
    reads.append(images.astype(jnp.float32) / 255)
    samples = [_half(positions_of(f, where)) for f, where in zip(reads, positions, strict=True)]
    return (*samples, _half(features))


@partial(jax.jit, static_argnames="convs")
def image_blocks(images: Array, positions: Arrays, *, convs: tuple[Conv, ...]) -> Arrays:
    """The pixels under each position of each convolution: (N, n, 3 * side ** 2), float16.

    `side` is the side of a position in pixels, or 8 where it is more; then pixels are averaged.
    """
    images = images.astype(jnp.float32) / 255
    samples = []
    for conv, where in zip(convs, positions, strict=True):
        n, pixels = images.shape[0], 2**conv.level
        height, width = images.shape[1] // pixels, images.shape[2] // pixels
        side = min(pixels, _LARGEST_BLOCK)
        shape = (n, height, side, pixels // side, width, side, pixels // side, 3)
        blocks = images[:, : height * pixels, : width * pixels].reshape(shape).mean((3, 6))
        blocks = blocks.swapaxes(2, 3).reshape(n, height, width, -1)
        samples.append(_half(positions_of(blocks, where)))
    return tuple(samples)


def _continue(params: Params, features: Array, convs: tuple[Conv, ...], padding: Padding) -> Array:
    colour = features.dtype == jnp.uint8
    features = coloured(params, features) if colour else features.astype(jnp.float32)
    return run_layers(params, convs, features, padding=padding)[0]


@partial(jax.jit, static_argnames=("convs", "padding"))
def _advance(params: Params, features: Array, convs: tuple[Conv, ...], padding: Padding) -> Array:
    return _half(_continue(params, features, convs, padding))


@partial(jax.jit, static_argnames=("convs", "padding"))
def _inputs(
    params: Params, features: Array, positions: Array, *, convs: tuple[Conv, ...], padding: Padding
) -> Array:
    return patches(_continue(params, features, convs[:-1], padding), positions, convs[-1], padding)


def in_batches(function: Callable[..., Any], *arrays: NDArray[Any] | Positions) -> Any:
    """Applies a function to batches of its arguments' leading axis and joins the results."""
    count = len(jax.tree.leaves(arrays)[0])
    parts = [
        jax.device_get(function(*jax.tree.map(lambda a: a[i : i + _BATCH], arrays)))  # noqa: B023
        for i in range(0, count, _BATCH)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


@dataclass
class Sampler:
    """Samples the inputs of a network's layers while the layers become known one by one.

    Attributes:
        convs: of the network, in order.
        padding: of its convolutions.
        features: (N, h, w, C): uint8 images or floating-point features; replaced by those after
            the last change of resolution.
        positions: for every layer (N, n), flat indices.
    """

    convs: tuple[Conv, ...]
    padding: Padding
    features: NDArray[Any]
    positions: Positions
    _done: int = field(default=0, init=False)

    def inputs(self, params: Params, index: int) -> NDArray[np.float32]:
        """The inputs of convolution `index`, (N, n, 9 C); `index` must not decrease.

        `params` are those of every convolution before it, and of conv0 if the features are images.
        """
        levels = [conv.level for conv in self.convs]
        kept = [i + 1 for i in range(self._done, index) if levels[i] != levels[i + 1]]
        if kept:
            convs = self.convs[self._done : kept[-1]]
            advance = partial(_advance, params, convs=convs, padding=self.padding)
            self.features, self._done = in_batches(advance, self.features), kept[-1]
        convs = self.convs[self._done : index + 1]
        read = partial(_inputs, params, convs=convs, padding=self.padding)
        return in_batches(read, self.features, self.positions[index])


def sample_positions(
    generator: np.random.Generator, convs: tuple[Conv, ...], shape: tuple[int, ...], *, most: int
) -> Positions:
    """Random positions of each layer's feature map, for images of `shape` (N, H, W).

    For each convolution, int32 flat indices (N, n) without repetition. n is the same for all
    images, at least 1; all images together have approximately `most` positions at most.
    """
    count, height, width = shape
    found = []
    for conv in convs:
        size = (height >> conv.level) * (width >> conv.level)
        n = min(size, max(1, round(most / count)))
        samples = [np.sort(generator.choice(size, n, replace=False)) for _ in range(count)]
        found.append(np.stack(samples).astype(np.int32))
    return tuple(found)
