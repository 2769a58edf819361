"""Losses of optimisation-based style transfer (Gatys et al. 2016).

Every layer's loss is relative to its target: the content's features, or the style's Gram matrix. So
the same weights have the same effect in every network, normalised or not, wide or narrow, and at
every image size.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from cdjax.model import Params
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.ops.jit import FAST, compiled
from cdjax.ops.matmul import mean_squared_error
from cdjax.transfer.statistics import gram

_NOTHING = 1e-12
"""Added to the mean square of a target, which may be 0, such as that of a black image."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Weights:
    """Weights of the losses of layers, by name, and of the total variation; a pytree of scalars."""

    content: dict[str, Array]
    style: dict[str, Array]
    total_variation: Array


Layers = tuple[str, ...]
Targets = tuple[dict[str, Array], dict[str, Array]]
"""The content's features, {layer: (1, h, w, C)}, and the style's Gram matrices, {layer: (1, C, C)}.
"""


def relative_loss(values: Array, target: Array) -> Array:
    """Mean squared difference of two arrays of one shape, relative to the target's mean square.

    The arrays are features, or Gram matrices of `cdjax.transfer.statistics.gram`.
    """
    size = mean_squared_error(target, jnp.zeros(()))
    return mean_squared_error(values, target) / (size + _NOTHING)


def total_variation(images: Array) -> Array:
    """Mean squared differences of vertical plus horizontal neighbours: (N, H, W, C) to a scalar."""
    down, across = jnp.diff(images, axis=-3), jnp.diff(images, axis=-2)
    return jnp.mean(jnp.square(down)) + jnp.mean(jnp.square(across))


def features_of(spec: Spec, params: Params, layers: Layers, image: Array) -> dict[str, Array]:
    """{layer: (1, h, w, C)} of an image (H, W, 3) in [0, 1]."""
    _, taps = apply(Encoder(spec, layers=layers), params, image[None])
    return {name: taps[name] for name in layers}


@partial(compiled, settings=FAST, static_argnames=("spec", "layers"))
def find_targets(
    spec: Spec, params: Params, content: Array, style: Array, layers: tuple[Layers, Layers]
) -> Targets:
    """The targets of a content and a style, (H, W, 3) float in [0, 1] each, of any sizes.

    `layers` are those of the content and of the style.
    """
    of_style = features_of(spec, params, layers[1], style)
    return features_of(spec, params, layers[0], content), jax.tree.map(gram, of_style)


def image_losses(
    spec: Spec, params: Params, targets: Targets, weights: Weights, image: Array
) -> dict[str, Array]:
    """The weighted losses of an image, (H, W, 3) float, whose sum is minimised.

    `weights` are those of the layers of `targets`. Returns scalars by the names `"content"`,
    `"style"` and `"total_variation"`.
    """
    of_content, of_style = targets
    layers = tuple(name for name in spec.layers if name in of_content | of_style)
    features = features_of(spec, params, layers, image)
    losses = {"content": jnp.zeros(()), "style": jnp.zeros(())}
    for name, target in of_content.items():
        losses["content"] += weights.content[name] * relative_loss(features[name], target)
    for name, target in of_style.items():
        losses["style"] += weights.style[name] * relative_loss(gram(features[name]), target)
    return losses | {"total_variation": weights.total_variation * total_variation(image[None])}
