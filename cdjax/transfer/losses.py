"""Losses between features that training and evaluation share."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from cdjax.ops.matmul import mean_squared_error
from cdjax.transfer.statistics import channel_statistics


def style_loss(taps: Mapping[str, Array], targets: Mapping[str, Array]) -> Array:
    """AdaIN's style loss: channel means and standard deviations (Huang and Belongie 2017, eq. 13).

    Args:
        taps: {name: (..., h, w, C)} of results.
        targets: the same names of their styles; heights and widths may differ.

    Returns:
        Scalar, float32: the sum over taps of the mean squared differences of means and of standard
        deviations.

    Raises:
        KeyError: if a tap has no target.
    """
    parts = [
        mean_squared_error(value, target)
        for name, features in taps.items()
        for value, target in zip(
            channel_statistics(features), channel_statistics(targets[name]), strict=True
        )
    ]
    return jnp.stack(parts).sum()
