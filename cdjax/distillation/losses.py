"""The losses of collaborative distillation (paper, sections 3.2 and 3.3), as plain functions.

Every one is a mean over all elements, in float32; sums over taps are unweighted, which
the normalised VGG makes sensible: its layers' mean activations are all 1.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from cdjax.ops.matmul import mean_squared_error


def pixel_loss(reconstruction: Array, images: Array) -> Array:
    """Mean squared error of images, (N, H, W, 3) in [0, 1]."""
    return mean_squared_error(reconstruction, images)


def tap_losses(taps: Mapping[str, Array], targets: Mapping[str, Array]) -> dict[str, Array]:
    """Mean squared error at each tap relu{j}_1.

    With the embedded taps Q_j F'_j(x) of a student against the teacher's F_j(x), their sum is the
    linear embedding loss (paper, eq. 4); with the teacher's taps of a reconstruction against those
    of the image, it is the perceptual loss (paper, eq. 2).

    Args:
        taps: {name: (N, h, w, C)}.
        targets: arrays of the same shapes; names that `taps` lacks are passed over.

    Returns:
        {name: scalar}, in the order of `taps`.

    Raises:
        KeyError: if a tap has no target.
    """
    return {name: mean_squared_error(values, targets[name]) for name, values in taps.items()}


def tap_loss(
    taps: Mapping[str, Array], targets: Mapping[str, Array], *, shallow: float = 1.0
) -> Array:
    """The sum of `tap_losses`, of which all but the last's count `shallow` times."""
    *others, deepest = tap_losses(taps, targets).values()
    return jnp.stack([*(shallow * loss for loss in others), deepest]).sum()


def relative_tap_loss(taps: Mapping[str, Array], targets: Mapping[str, Array]) -> Array:
    """The sum of `tap_losses`, each divided by the mean square of its target."""
    losses = tap_losses(taps, targets)
    sizes = [mean_squared_error(targets[name], jnp.zeros(())) for name in losses]
    parts = [loss / (size + 1e-6) for loss, size in zip(losses.values(), sizes, strict=True)]
    return jnp.stack(parts).sum()
