"""The collaboration of AdaIN's networks: style transfer itself.

With t = AdaIN(F(c), F(s)) of a content c and a style s and g the picture decoded of it, the content
loss compares F(g) with t and the style loss the channels' means and deviations of F_j(g) and F_j(s)
at every tap, F being the judge's features: the teacher's, or those of the student's own encoder.
"""

from functools import partial

import jax.numpy as jnp
from jax import Array

from cdjax.layers import apply
from cdjax.losses import mean_squared_error, style_loss
from cdjax.phase_losses import Collaboration, Judge, Metrics, encoder_of
from cdjax.task import Task
from cdjax.transform import channel_statistics


def restyled(features: Array) -> Array:
    """AdaIN of features (2N, h, w, C), contents before their styles: (N, h, w, C)."""
    content, style = jnp.split(features.astype(jnp.float32), 2)
    (mean, deviation), (new_mean, new_deviation) = map(channel_statistics, (content, style))
    scale = (new_deviation / deviation)[:, None, None]
    moved = (content - mean[:, None, None]) * scale + new_mean[:, None, None]
    return moved.astype(features.dtype)


def _both(pairs: Array) -> Array:
    """Pairs (N, 2, H, W, 3) as contents, then styles: (2N, H, W, 3)."""
    return jnp.concatenate([pairs[:, 0], pairs[:, 1]])


def _transfer_losses(task: Task, judge: Judge, pairs: Array, made: Array) -> Metrics:
    encode = partial(apply, encoder_of(task, judge[0]), judge[1])
    features, taps = encode(_both(pairs))
    found, found_taps = encode(made)
    styles = {name: values[len(pairs) :] for name, values in taps.items()}
    losses = {
        "content": mean_squared_error(found, restyled(features)),
        "style": style_loss(found_taps, styles),
    }
    return {name: loss for name, loss in losses.items() if getattr(task.weights, name)}


TRANSFER = Collaboration(_both, restyled, _transfer_losses, ("content", "style"))
