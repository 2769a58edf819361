"""The loss of each phase of a stage, for WCT and for AdaIN (paper, section 3).

A phase is a choice of networks (`NETWORKS`), a method is an `Objective`. For WCT, encoder and
decoder collaborate on the reconstruction of images (paper, eqs. 2 to 5).

For AdaIN they collaborate on style transfer. With t = AdaIN(F(c), F(s)) of a content c and a style
s, and g the image decoded from t, the content loss compares F(g) with t, and the style loss
compares the channels' means and deviations of F_j(g) and F_j(s) at every tap. F are the features of
the perceptual encoder: the teacher's, or those of the student's own encoder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from cdjax.distillation.config import Phase, TrainTask, TransferMethod
from cdjax.distillation.losses import relative_tap_loss, tap_loss
from cdjax.model import Params
from cdjax.networks.embedding import Embedding
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.ops.matmul import mean_squared_error
from cdjax.transfer.stages import decode_stage, encode_stage
from cdjax.transfer.statistics import style_loss
from cdjax.transfer.transforms import adain_features

Metrics = dict[str, Array]
Networks = dict[str, Params]
"""Parameters by the name of the network in a phase, such as `"encoder"` or `"teacher"`."""
PerceptualEncoder = tuple[Spec, Params]
"""An encoder whose features are compared."""


@dataclass(frozen=True)
class PhaseNetworks:
    """The networks of a phase.

    Attributes:
        encoder: whose encoder makes the features.
        decoder: whose decoder decodes them. The teacher's decodes the embedded features of a
            student.
        trained: names of the networks that are trained.
    """

    encoder: Literal["teacher", "student"]
    decoder: Literal["teacher", "student"]
    trained: tuple[str, ...]


NETWORKS: dict[Phase, PhaseNetworks] = {
    "teacher_decoder": PhaseNetworks("teacher", "teacher", ("decoder",)),
    "student_encoder": PhaseNetworks("student", "teacher", ("encoder", "embedding")),
    "student_autoencoder": PhaseNetworks("student", "student", ("encoder", "embedding", "decoder")),
    "student_decoder": PhaseNetworks("student", "student", ("decoder",)),
}


@dataclass(frozen=True)
class Objective:
    """What encoder and decoder are trained for together.

    Attributes:
        encoder_inputs: from a batch to the images (N, H, W, 3) that are encoded.
        transform: of their features, before these are decoded.
        losses: of a task, by a perceptual encoder: from a batch and the decoded images to the
            losses `COLLABORATION_LOSSES`, without those of weight 0.
    """

    encoder_inputs: Callable[[Array], Array]
    transform: Callable[[Array], Array]
    losses: Callable[[TrainTask, PerceptualEncoder, Array, Array], Metrics]


def encoder_of(task: TrainTask, spec: Spec) -> Encoder:
    """An encoder for training: with the fastest algorithm, whose rounding gradients tolerate."""
    return Encoder(spec, task.dtype, algorithm="winograd")


def encode(task: TrainTask, networks: Networks, images: Array) -> tuple[Array, dict[str, Array]]:
    """Features of images (N, H, W, 3), float32 in [0, 1], by the encoder of a phase.

    Returns:
        The features to decode, and the embedded taps, empty in phases without an embedding.
    """
    chosen = NETWORKS[task.phase]
    if chosen.encoder == "teacher":
        teacher, spec = networks["teacher"], task.teacher
        return encode_stage(teacher, spec, images, dtype=task.dtype, training=True), {}
    features, taps = apply(encoder_of(task, task.student), networks["encoder"], images)
    if "embedding" not in chosen.trained:
        return features, {}
    embedded = apply(Embedding(task.student, task.teacher.widths), networks["embedding"], taps)
    if task.config.relu_embedding:
        embedded = jax.tree.map(jax.nn.relu, embedded)
    if chosen.decoder == "teacher":
        features = embedded[task.student.taps[-1][0]]
    return features, embedded


def decode(task: TrainTask, networks: Networks, features: Array) -> Array:
    """The images that a phase decodes from the features of `encode`, transformed first."""
    spec = task.teacher if NETWORKS[task.phase].decoder == "teacher" else task.student
    transformed = OBJECTIVES[task.method].transform(features)
    return decode_stage(networks["decoder"], spec, transformed, dtype=task.dtype, training=True)


def stage_loss(
    task: TrainTask, params: Networks, frozen: Networks, batch: Array
) -> tuple[Array, Metrics]:
    """The loss of a phase of a stage; see `train_step.loss`."""
    objective, weights = OBJECTIVES[task.method], task.config.weights
    networks = {**frozen, **params}
    images = objective.encoder_inputs(batch)
    features, embedded = encode(task, networks, images)
    losses = {}
    if embedded and weights.embedding:
        _, targets = apply(encoder_of(task, task.teacher), frozen["teacher"], images)
        losses["embedding"] = tap_loss(
            embedded, targets, shallow_tap_weight=weights.shallow_tap_weight
        )
    if task.config.collaborates(task.method):
        own = task.phase == "student_decoder" and task.config.perceptual_encoder == "student"
        spec, name = (task.student, "encoder") if own else (task.teacher, "teacher")
        decoded = decode(task, networks, features)
        losses |= objective.losses(task, (spec, networks[name]), batch, decoded)
    total = jnp.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()
    return total, {"loss": total, **losses}


def _reconstruction_losses(
    task: TrainTask, encoder: PerceptualEncoder, images: Array, reconstruction: Array
) -> Metrics:
    losses = {}
    if task.config.weights.pixel:
        losses["pixel"] = mean_squared_error(reconstruction, images)
    if task.config.weights.perceptual:
        spec, params = encoder
        run = partial(apply, encoder_of(task, spec), params)
        compare = tap_loss if spec == task.teacher else relative_tap_loss
        losses["perceptual"] = compare(run(reconstruction)[1], run(images)[1])
    return losses


def _contents_and_styles(pairs: Array) -> Array:
    """Pairs (N, 2, H, W, 3) as contents, then styles: (2N, H, W, 3)."""
    return jnp.concatenate([pairs[:, 0], pairs[:, 1]])


def _transfer_losses(
    task: TrainTask, encoder: PerceptualEncoder, pairs: Array, stylized: Array
) -> Metrics:
    spec, params = encoder
    run = partial(apply, encoder_of(task, spec), params)
    features, taps = run(_contents_and_styles(pairs))
    found, found_taps = run(stylized)
    styles = {name: values[len(pairs) :] for name, values in taps.items()}
    losses = {
        "content": mean_squared_error(found, adain_features(features)),
        "style": style_loss(found_taps, styles),
    }
    return {name: loss for name, loss in losses.items() if getattr(task.config.weights, name)}


OBJECTIVES: dict[TransferMethod, Objective] = {
    "wct": Objective(lambda images: images, lambda features: features, _reconstruction_losses),
    "adain": Objective(_contents_and_styles, adain_features, _transfer_losses),
}
