"""The losses of the four phases, for WCT and for AdaIN (paper, section 3).

For WCT, networks collaborate on the reconstruction of images (paper, eqs. 2 to 5).

For AdaIN they collaborate on style transfer itself. With t = AdaIN(F(c), F(s)) of a content c and a
style s, and g the image decoded from t, the content loss compares F(g) with t, and the style loss
compares the channels' means and deviations of F_j(g) and F_j(s) at every tap. F are the judge's
features: the teacher's, or those of the student's own encoder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from cdjax.distillation.config import Phase, Task
from cdjax.distillation.losses import pixel_loss, relative_tap_loss, tap_loss
from cdjax.model import Params
from cdjax.networks.decoder import Decoder
from cdjax.networks.embedding import Embedding
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.ops.matmul import mean_squared_error
from cdjax.transfer.losses import style_loss
from cdjax.transfer.transforms import adain_features

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
"""Of the task, the networks in training, the frozen ones and a batch; see `train_step.loss`."""


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


def _both(pairs: Array) -> Array:
    """Pairs (N, 2, H, W, 3) as contents, then styles: (2N, H, W, 3)."""
    return jnp.concatenate([pairs[:, 0], pairs[:, 1]])


def _transfer_losses(task: Task, judge: Judge, pairs: Array, made: Array) -> Metrics:
    encode = partial(apply, encoder_of(task, judge[0]), judge[1])
    features, taps = encode(_both(pairs))
    found, found_taps = encode(made)
    styles = {name: values[len(pairs) :] for name, values in taps.items()}
    losses = {
        "content": mean_squared_error(found, adain_features(features)),
        "style": style_loss(found_taps, styles),
    }
    return {name: loss for name, loss in losses.items() if getattr(task.weights, name)}


TRANSFER = Collaboration(_both, adain_features, _transfer_losses, ("content", "style"))
