"""Distances of pictures from a style and a content, in the features of a network.

All take taps, {name: features (N, h, w, C)}, and return {name: (N,)}, float32. They are relative to
the reference, so that layers and networks are commensurate, and their gradients are finite.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from cdjax.transfer.statistics import gram

Taps = Mapping[str, Array]
"""{name of the tap: features (N, h, w, C)}."""

EPSILON = 1e-6
_SORTED_POSITIONS = 4096


def gram_distances(taps: Taps, styles: Taps) -> dict[str, Array]:
    """|G - G'| / |G'| of the Gram matrices of pictures and their styles, Frobenius norms.

    Raises:
        KeyError: if a tap has no style; further names are ignored. The sizes may differ.
    """

    def distance(features: Array, style: Array) -> Array:
        found, wanted = gram(features.astype(jnp.float32)), gram(style.astype(jnp.float32))
        size = jnp.sum(jnp.square(wanted), (1, 2)) + EPSILON
        return jnp.sqrt(jnp.sum(jnp.square(found - wanted), (1, 2)) / size + EPSILON)

    return {name: distance(features, styles[name]) for name, features in taps.items()}


def sliced_wasserstein_distances(
    taps: Taps, styles: Taps, *, directions: int = 32, seed: Array | int = 0
) -> dict[str, Array]:
    """Sliced Wasserstein distance from a style, relative to the style's variance.

    Statistics of second order do not tell two distributions of features apart; sorted projections
    on random directions do (Heitz et al., CVPR 2021). Up to 4096 positions, drawn at random but
    always the same, are sorted along each of the directions.

    Args:
        taps: of pictures.
        styles: of their styles, of the same shapes.
        directions: their number, for each tap.
        seed: of the directions.
    """
    found = {}
    for i, (name, style) in enumerate(styles.items()):
        shape = (style.shape[-1], directions)
        lines = jax.random.normal(jax.random.fold_in(jax.random.key(i), seed), shape)
        lines /= jnp.linalg.norm(lines, axis=0)
        positions = style.shape[1] * style.shape[2]
        some = np.random.default_rng(0).permutation(positions)[:_SORTED_POSITIONS]

        def projected(
            features: Array, lines: Array = lines, some: NDArray[np.int64] = some
        ) -> Array:
            values = features.astype(jnp.float32).reshape(len(features), -1, features.shape[-1])
            return jnp.sort(jnp.einsum("npc,cd->npd", values[:, some], lines), axis=1)

        own, wanted = projected(taps[name]), projected(style)
        variance = jnp.square(wanted - wanted.mean(1, keepdims=True)).mean((1, 2))
        found[name] = jnp.square(own - wanted).mean((1, 2)) / (variance + EPSILON)
    return found


def content_correlations(taps: Taps, contents: Taps) -> dict[str, Array]:
    """Correlation of instance-normalised features with those of the content, of the same shapes.

    1 for the same layout whatever the colours and contrasts, about 0 for an unrelated one.
    """

    def normalised(features: Array) -> Array:
        values = features.astype(jnp.float32)
        centred = values - values.mean((1, 2), keepdims=True)
        variance = jnp.square(centred).mean((1, 2), keepdims=True)
        return centred / (jnp.sqrt(variance + EPSILON) + 1e-3)

    return {
        name: (normalised(features) * normalised(contents[name])).mean((1, 2, 3))
        for name, features in taps.items()
    }
