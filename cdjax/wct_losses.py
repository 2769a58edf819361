"""The collaboration of WCT's networks: the reconstruction of images (paper, eqs. 2 to 5)."""

from functools import partial

from jax import Array

from cdjax.layers import apply
from cdjax.losses import pixel_loss, relative_tap_loss, tap_loss
from cdjax.phase_losses import Collaboration, Judge, Metrics, encoder_of
from cdjax.task import Task


def _as_it_is(array: Array) -> Array:
    return array


def _reconstruction_losses(
    task: Task, judge: Judge, images: Array, reconstruction: Array
) -> Metrics:
    losses = {}
    if task.weights.pixel:
        losses["pixel"] = pixel_loss(reconstruction, images)
    if task.weights.perceptual:
        encode = partial(apply, encoder_of(task, judge[0]), judge[1])
        compare = tap_loss if judge[0] == task.teacher else relative_tap_loss
        losses["perceptual"] = compare(encode(reconstruction)[1], encode(images)[1])
    return losses


RECONSTRUCTION = Collaboration(
    _as_it_is, _as_it_is, _reconstruction_losses, ("pixel", "perceptual")
)
