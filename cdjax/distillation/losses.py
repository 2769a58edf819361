"""Losses of collaborative distillation (paper, sections 3.2 and 3.3), as pure functions of arrays.

Everything is computed in float32. Losses of taps are summed over the taps: a normalised VGG has a
mean activation of 1 in every layer, which makes them commensurate.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from cdjax.ops.matmul import mean_squared_error, product

Taps = Mapping[str, Array]
"""{name of the tap: features (N, h, w, C)}."""

_EPSILON = 1e-6
_DIRECTIONS = 32
_SORTED_POSITIONS = 4096
_DEEP_TAPS = ("relu3_1", "relu4_1", "relu5_1")


def tap_losses(taps: Taps, targets: Taps) -> dict[str, Array]:
    """Mean squared error at each tap relu{j}_1.

    With the embedded taps Q_j F'_j(x) of a student and the teacher's F_j(x), the sum is the linear
    embedding loss (paper, eq. 4). With the teacher's taps of a reconstruction and those of the
    image, it is the perceptual loss (paper, eq. 2).

    Args:
        taps: {name: (N, h, w, C)}.
        targets: arrays of the same shapes; further names are ignored.

    Raises:
        KeyError: if a tap has no target.
    """
    return {name: mean_squared_error(values, targets[name]) for name, values in taps.items()}


def tap_loss(taps: Taps, targets: Taps, *, shallow_tap_weight: float = 1.0) -> Array:
    """The sum of `tap_losses`, all but the last one's multiplied by `shallow_tap_weight`."""
    *others, deepest = tap_losses(taps, targets).values()
    return jnp.stack([*(shallow_tap_weight * loss for loss in others), deepest]).sum()


def relative_tap_loss(taps: Taps, targets: Taps) -> Array:
    """The sum of `tap_losses`, each divided by the mean square of its target."""
    losses = tap_losses(taps, targets)
    sizes = [mean_squared_error(targets[name], jnp.zeros(())) for name in losses]
    parts = [loss / (size + _EPSILON) for loss, size in zip(losses.values(), sizes, strict=True)]
    return jnp.stack(parts).sum()


def _statistics(features: Array) -> tuple[Array, Array, Array]:
    """Means and standard deviations, (N, C) each, and Gram matrices, (N, C, C)."""
    values = features.astype(jnp.float32).reshape(len(features), -1, features.shape[-1])
    mean = values.mean(1)
    deviation = jnp.sqrt(jnp.var(values, axis=1) + _EPSILON)
    gram = jax.vmap(lambda vectors: product(vectors.T, vectors))(values) / values.shape[1]
    return mean, deviation, gram


def relative_style_loss(taps: Taps, targets: Taps) -> Array:
    """Distance of taps' statistics from a style's, relative to the style's own.

    Args:
        taps: {name: (N, h, w, C)} of pictures.
        targets: the same names of their styles; sizes in pixels may differ.

    Returns:
        (N,): the sum over taps of the Frobenius distance of Gram matrices and the squared errors
        of the channels' means and standard deviations, each relative to the style's.
    """
    total = jnp.zeros(())
    for name, target in targets.items():
        mean, deviation, gram = _statistics(taps[name])
        mean_to, deviation_to, gram_to = _statistics(target)
        size = jnp.sum(jnp.square(gram_to), (1, 2)) + _EPSILON
        total += jnp.sqrt(jnp.sum(jnp.square(gram - gram_to), (1, 2)) / size + _EPSILON)
        error = jnp.square(mean - mean_to) + jnp.square(deviation - deviation_to)
        size = jnp.square(mean_to) + jnp.square(deviation_to)
        total += error.sum(1) / (size.sum(1) + _EPSILON)
    return total


def sliced_wasserstein_loss(taps: Taps, targets: Taps, *, seed: Array | int = 0) -> Array:
    """Sliced Wasserstein distance of taps from a style's, relative to the style's variance.

    Statistics of second order do not tell two distributions of features apart; sorted projections
    on random directions do (Heitz et al., CVPR 2021).

    Args:
        taps: {name: (N, h, w, C)} of pictures.
        targets: the same names and shapes of their styles.
        seed: of the directions, 32 a tap.

    Returns:
        (N,), the sum over taps of the squared differences of the sorted projections of up to 4096
        positions, over the variance of the style's.
    """
    total = jnp.zeros(())
    for i, (name, target) in enumerate(targets.items()):
        shape = (target.shape[-1], _DIRECTIONS)
        directions = jax.random.normal(jax.random.fold_in(jax.random.key(i), seed), shape)
        directions /= jnp.linalg.norm(directions, axis=0)

        def projected(features: Array, directions: Array = directions) -> Array:
            values = features.astype(jnp.float32).reshape(len(features), -1, features.shape[-1])
            some = values[:, :: max(1, values.shape[1] // _SORTED_POSITIONS)]
            return jnp.sort(jnp.einsum("npc,cd->npd", some, directions), axis=1)

        found, wanted = projected(taps[name]), projected(target)
        variance = jnp.square(wanted - wanted.mean(1, keepdims=True)).mean((1, 2))
        total += jnp.square(found - wanted).mean((1, 2)) / (variance + _EPSILON)
    return total


def correlation_loss(taps: Taps, targets: Taps) -> Array:
    """1 - the correlation of instance-normalised features, the mean over the deep taps.

    Args:
        taps: {name: (N, h, w, C)} of pictures.
        targets: the same names and shapes of their contents. Taps from relu3_1 on are compared, or
            the last one where there are none.

    Returns:
        (N,), from 0 for equal features to 2.
    """

    def normalised(features: Array) -> Array:
        values = features.astype(jnp.float32)
        centred = values - values.mean((1, 2), keepdims=True)
        variance = jnp.square(centred).mean((1, 2), keepdims=True)
        return centred / (jnp.sqrt(variance + _EPSILON) + 1e-3)

    names = [name for name in targets if name in _DEEP_TAPS] or list(targets)[-1:]
    both = ((normalised(taps[name]), normalised(targets[name])) for name in names)
    parts = [1 - (own * other).mean((1, 2, 3)) for own, other in both]
    return jnp.stack(parts).mean(0)
