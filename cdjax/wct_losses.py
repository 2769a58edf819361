"""The losses of WCT's phases, whose collaboration is the reconstruction of images (eqs. 2 to 5)."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from cdjax.decoder import Decoder
from cdjax.encoder import Embedding, Encoder
from cdjax.layers import apply
from cdjax.losses import pixel_loss, relative_tap_loss, tap_loss
from cdjax.model import Params
from cdjax.spec import Spec
from cdjax.task import Phase, Task, Weights

Metrics = dict[str, Array]
PhaseLoss = Callable[[Task, dict[str, Params], dict[str, Params], Array], tuple[Array, Metrics]]
"""Of the task, the networks in training, the frozen ones and images; see `distillation.loss`."""


def weighted(weights: Weights, losses: Metrics) -> tuple[Array, Metrics]:
    """The weighted sum of losses, and all of them under their names with it."""
    total = jnp.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()
    return total, {"loss": total, **losses}


def encoder_of(task: Task, spec: Spec) -> Encoder:
    """An encoder as losses run it: by the fastest algorithm, whose rounding gradients bear."""
    return Encoder(spec, task.dtype, algorithm="winograd")


def decoder_of(task: Task, spec: Spec) -> Decoder:
    """A decoder as losses run it; as `encoder_of`."""
    return Decoder(spec, task.dtype, algorithm="winograd")


def _reconstruction_losses(
    task: Task, judge: tuple[Spec, Params], images: Array, reconstruction: Array
) -> Metrics:
    losses = {}
    if task.weights.pixel:
        losses["pixel"] = pixel_loss(reconstruction, images)
    if task.weights.perceptual:
        encode = partial(apply, encoder_of(task, judge[0]), judge[1])
        compare = tap_loss if judge[0] == task.teacher else relative_tap_loss
        losses["perceptual"] = compare(encode(reconstruction)[1], encode(images)[1])
    return losses


def _teacher_decoder(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> tuple[Array, Metrics]:
    features, _ = apply(encoder_of(task, task.teacher), frozen["teacher"], images)
    reconstruction = apply(decoder_of(task, task.teacher), params["decoder"], features)
    judge = task.teacher, frozen["teacher"]
    return weighted(task.weights, _reconstruction_losses(task, judge, images, reconstruction))


def embedded_taps(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> tuple[dict[str, Array], Array, Metrics]:
    """The student's taps as the teacher would have them, its features, the embedding loss."""
    features, taps = apply(encoder_of(task, task.student), params["encoder"], images)
    embedded = apply(Embedding(task.student, task.teacher.widths), params["embedding"], taps)
    if task.rectified:
        embedded = jax.tree.map(jax.nn.relu, embedded)
    losses = {}
    if task.weights.embedding:
        _, targets = apply(encoder_of(task, task.teacher), frozen["teacher"], images)
        losses["embedding"] = tap_loss(embedded, targets)
    return embedded, features, losses


def _student_encoder(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> tuple[Array, Metrics]:
    embedded, _, losses = embedded_taps(task, params, frozen, images)
    if task.weights.pixel or task.weights.perceptual:
        decoder = decoder_of(task, task.teacher)
        reconstruction = apply(decoder, frozen["decoder"], embedded[task.student.taps[-1][0]])
        judge = task.teacher, frozen["teacher"]
        losses |= _reconstruction_losses(task, judge, images, reconstruction)
    return weighted(task.weights, losses)


def _student_decoder(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> tuple[Array, Metrics]:
    features, _ = apply(encoder_of(task, task.student), frozen["encoder"], images)
    reconstruction = apply(decoder_of(task, task.student), params["decoder"], features)
    teachers = task.judge == "teacher"
    judge = (task.teacher, frozen["teacher"]) if teachers else (task.student, frozen["encoder"])
    return weighted(task.weights, _reconstruction_losses(task, judge, images, reconstruction))


def _student_pair(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> tuple[Array, Metrics]:
    _, features, losses = embedded_taps(task, params, frozen, images)
    reconstruction = apply(decoder_of(task, task.student), params["decoder"], features)
    judge = task.teacher, frozen["teacher"]
    losses |= _reconstruction_losses(task, judge, images, reconstruction)
    return weighted(task.weights, losses)


LOSSES: dict[Phase, PhaseLoss] = {
    "teacher_decoder": _teacher_decoder,
    "student_encoder": _student_encoder,
    "student_decoder": _student_decoder,
    "student_pair": _student_pair,
}
