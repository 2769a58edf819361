"""The losses of the four phases, whatever the networks collaborate on (paper, section 3)."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from cdjax.decoder import Decoder
from cdjax.encoder import Embedding, Encoder
from cdjax.layers import apply
from cdjax.losses import tap_loss
from cdjax.model import Params
from cdjax.spec import Spec
from cdjax.task import Phase, Task

Metrics = dict[str, Array]
Judge = tuple[Spec, Params]
"""An encoder whose features are compared."""


@dataclass(frozen=True)
class Collaboration:
    """What encoders and decoders are trained for together: all in which WCT and AdaIN differ.

    Attributes:
        seen: the images (N, H, W, 3) that encoders see of a batch.
        transform: of their features, before they are decoded.
        losses: of a task, by a judge: a batch and the pictures that were decoded of it.
        weights: names of those losses.
    """

    seen: Callable[[Array], Array]
    transform: Callable[[Array], Array]
    losses: Callable[[Task, Judge, Array, Array], Metrics]
    weights: tuple[str, ...]


PhaseLoss = Callable[
    [Collaboration, Task, dict[str, Params], dict[str, Params], Array], tuple[Array, Metrics]
]
"""Of the task, the networks in training, the frozen ones and a batch; see `distillation.loss`."""


def encoder_of(task: Task, spec: Spec) -> Encoder:
    """An encoder as losses run it: by the fastest algorithm, whose rounding gradients bear."""
    return Encoder(spec, task.dtype, algorithm="winograd")


def _decoder_of(task: Task, spec: Spec) -> Decoder:
    return Decoder(spec, task.dtype, algorithm="winograd")


def _weighted(task: Task, losses: Metrics) -> tuple[Array, Metrics]:
    """The weighted sum of losses, and all of them under their names with it."""
    total = jnp.stack([getattr(task.weights, name) * loss for name, loss in losses.items()]).sum()
    return total, {"loss": total, **losses}


def _embedded_taps(
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
        losses["embedding"] = tap_loss(embedded, targets, shallow=task.weights.shallow)
    return embedded, features, losses


def _teacher_decoder(
    of: Collaboration,
    task: Task,
    params: dict[str, Params],
    frozen: dict[str, Params],
    batch: Array,
) -> tuple[Array, Metrics]:
    features, _ = apply(encoder_of(task, task.teacher), frozen["teacher"], of.seen(batch))
    made = apply(_decoder_of(task, task.teacher), params["decoder"], of.transform(features))
    return _weighted(task, of.losses(task, (task.teacher, frozen["teacher"]), batch, made))


def _student_encoder(
    of: Collaboration,
    task: Task,
    params: dict[str, Params],
    frozen: dict[str, Params],
    batch: Array,
) -> tuple[Array, Metrics]:
    embedded, _, losses = _embedded_taps(task, params, frozen, of.seen(batch))
    if any(getattr(task.weights, name) for name in of.weights):
        features = of.transform(embedded[task.student.taps[-1][0]])
        made = apply(_decoder_of(task, task.teacher), frozen["decoder"], features)
        losses |= of.losses(task, (task.teacher, frozen["teacher"]), batch, made)
    return _weighted(task, losses)


def _student_decoder(
    of: Collaboration,
    task: Task,
    params: dict[str, Params],
    frozen: dict[str, Params],
    batch: Array,
) -> tuple[Array, Metrics]:
    features, _ = apply(encoder_of(task, task.student), frozen["encoder"], of.seen(batch))
    made = apply(_decoder_of(task, task.student), params["decoder"], of.transform(features))
    teachers = task.judge == "teacher"
    judge = (task.teacher, frozen["teacher"]) if teachers else (task.student, frozen["encoder"])
    return _weighted(task, of.losses(task, judge, batch, made))


def _student_pair(
    of: Collaboration,
    task: Task,
    params: dict[str, Params],
    frozen: dict[str, Params],
    batch: Array,
) -> tuple[Array, Metrics]:
    _, features, losses = _embedded_taps(task, params, frozen, of.seen(batch))
    made = apply(_decoder_of(task, task.student), params["decoder"], of.transform(features))
    losses |= of.losses(task, (task.teacher, frozen["teacher"]), batch, made)
    return _weighted(task, losses)


PHASE_LOSSES: dict[Phase, PhaseLoss] = {
    "teacher_decoder": _teacher_decoder,
    "student_encoder": _student_encoder,
    "student_decoder": _student_decoder,
    "student_pair": _student_pair,
}
