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
Targets = tuple[dict[str, Array], dict[str, Array], dict[str, Array]]
"""The content's features, {layer: (1, h, w, C)}, and the style's Gram matrices, {layer: (1, C, C)};
and by what to multiply features of an image, {layer: (h, w, 1)}, which were multiplied in the
content's: empty if all of the content is visible.
"""
Visible = tuple[Array | None, Array | None]
"""How much each pixel of the content and of the style counts, (H, W) in [0, 1]; None if all do."""


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
    spec: Spec,
    params: Params,
    content: Array,
    style: Array,
    layers: tuple[Layers, Layers],
    visible: Visible = (None, None),
) -> Targets:
    """The targets of a content and a style, (H, W, 3) float in [0, 1] each, of any sizes.

    `layers` are those of the content and of the style.
    """
    of_style = features_of(spec, params, layers[1], style)
    of_style = _weighed(of_style, _roots(of_style, visible[1]))
    used = tuple(name for name in spec.layers if name in layers[0] + layers[1])
    if visible[0] is None:
        of_content, roots = features_of(spec, params, layers[0], content), {}
    else:
        features = features_of(spec, params, used, content)
        roots = _roots(features, visible[0])
        of_content = _weighed({name: features[name] for name in layers[0]}, roots)
    return of_content, jax.tree.map(gram, of_style), roots


def _roots(features: dict[str, Array], visible: Array | None) -> dict[str, Array]:
    """Roots of the weights of features' positions, whose mean is 1; empty if all count alike.

    Squares and Gram matrices of features that are multiplied by them are weighted means.
    """
    if visible is None:
        return {}
    found = {}
    for name, values in features.items():
        shares = jax.image.resize(visible, values.shape[1:3], "linear")
        found[name] = jnp.sqrt(shares / jnp.maximum(shares.mean(), _NOTHING))[..., None]
    return found


def _weighed(features: dict[str, Array], roots: dict[str, Array]) -> dict[str, Array]:
    return {name: of * roots[name] if name in roots else of for name, of in features.items()}


def image_losses(
    spec: Spec, params: Params, targets: Targets, weights: Weights, image: Array
) -> dict[str, Array]:
    """The weighted losses of an image, (H, W, 3) float, whose sum is minimised.

    `weights` are those of the layers of `targets`. Returns scalars by the names `"content"`,
    `"style"` and `"total_variation"`.
    """
    of_content, of_style, roots = targets
    layers = tuple(name for name in spec.layers if name in of_content | of_style)
    features = _weighed(features_of(spec, params, layers, image), roots)
    losses = {"content": jnp.zeros(()), "style": jnp.zeros(())}
    for name, target in of_content.items():
        losses["content"] += weights.content[name] * relative_loss(features[name], target)
    for name, target in of_style.items():
        losses["style"] += weights.style[name] * relative_loss(gram(features[name]), target)
    return losses | {"total_variation": weights.total_variation * total_variation(image[None])}
