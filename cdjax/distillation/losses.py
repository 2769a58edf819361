"""Losses of collaborative distillation (paper, sections 3.2 and 3.3), as pure functions of arrays.

Everything is computed in float32. Losses of taps are summed over the taps: a normalised VGG has a
mean activation of 1 in every layer, which makes them commensurate.
"""

import jax.numpy as jnp
from jax import Array

from cdjax.ops.matmul import mean_squared_error
from cdjax.transfer.distances import (
    EPSILON,
    Taps,
    content_correlations,
    gram_distances,
    sliced_wasserstein_distances,
)

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
    parts = [loss / (size + EPSILON) for loss, size in zip(losses.values(), sizes, strict=True)]
    return jnp.stack(parts).sum()


def relative_style_loss(taps: Taps, targets: Taps) -> Array:
    """Distance of taps' statistics from a style's, relative to the style's own.

    Args:
        taps: {name: (N, h, w, C)} of pictures.
        targets: the same names of their styles; sizes in pixels may differ.

    Returns:
        (N,): the sum over taps of `gram_distances` and of the squared errors of the channels'
        means and standard deviations, relative to the style's.
    """

    def channels(features: Array) -> tuple[Array, Array]:
        values = features.astype(jnp.float32).reshape(len(features), -1, features.shape[-1])
        return values.mean(1), jnp.sqrt(jnp.var(values, axis=1) + EPSILON)

    total = sum(gram_distances(taps, targets).values(), jnp.zeros(()))
    for name, target in targets.items():
        (mean, deviation), (mean_to, deviation_to) = map(channels, (taps[name], target))
        error = jnp.square(mean - mean_to) + jnp.square(deviation - deviation_to)
        size = jnp.square(mean_to) + jnp.square(deviation_to)
        total += error.sum(1) / (size.sum(1) + EPSILON)
    return total


def sliced_wasserstein_loss(taps: Taps, targets: Taps, *, seed: Array | int = 0) -> Array:
    """The sum over taps of `sliced_wasserstein_distances`, (N,)."""
    return sum(sliced_wasserstein_distances(taps, targets, seed=seed).values(), jnp.zeros(()))


def correlation_loss(taps: Taps, targets: Taps) -> Array:
    """1 - `content_correlations`, the mean over the deep taps.

    Args:
        taps: {name: (N, h, w, C)} of pictures.
        targets: the same names and shapes of their contents. Taps from relu3_1 on are compared, or
            the last one where there are none.

    Returns:
        (N,), from 0 for equal features to 2.
    """
    names = [name for name in targets if name in _DEEP_TAPS] or list(targets)[-1:]
    compared = content_correlations({name: taps[name] for name in names}, targets)
    return 1 - jnp.stack(list(compared.values())).mean(0)
