"""Teacher + student -> losses -> train step: the phases of a stage (paper, section 3).

1. `teacher_decoder`: the decoder D_k learns to invert the teacher's encoder.
2. `student_encoder`: the small encoder learns, through the frozen D_k, to be decodable (the
   collaboration) and, by linear embedding, to span the teacher's features.
3. `student_decoder`: the small decoder learns to invert the small encoder.

`student_pair` is for budgets in which the teacher's decoder, 16 times the student's, has no place:
the small encoder collaborates with its own small decoder, and both learn at once.

One `train_step` serves all of them: a phase is a loss function in a table. Frozen networks are
passed beside the state and are never part of it. A loss of weight 0 is not computed, and neither
are the networks that only it needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from cdjax.decoder import Decoder
from cdjax.encoder import Embedding, Encoder
from cdjax.layers import apply
from cdjax.losses import pixel_loss, relative_tap_loss, tap_loss
from cdjax.model import Params
from cdjax.preconditioning import whitened_adam
from cdjax.spec import Spec

Phase = Literal["teacher_decoder", "student_encoder", "student_decoder", "student_pair"]
PHASES: tuple[Phase, ...] = (
    "teacher_decoder",
    "student_encoder",
    "student_decoder",
    "student_pair",
)

Metrics = dict[str, Array]


@dataclass(frozen=True)
class Weights:
    """Weights of a phase's losses; one that a phase does not have is ignored.

    Attributes:
        embedding: of the linear embedding loss (student encoder only).
        pixel: of the mean squared error of pixels.
        perceptual: of the mean squared errors of taps, the teacher's unless the task says
            otherwise.
    """

    embedding: float = 10.0
    pixel: float = 1.0
    perceptual: float = 1.0


PAPER_WEIGHTS: dict[Phase, Weights] = {
    "teacher_decoder": Weights(),
    "student_encoder": Weights(),
    "student_decoder": Weights(perceptual=0.01),
    "student_pair": Weights(),
}


@dataclass(frozen=True)
class Task:
    """What a train step does: hashable, static under `jax.jit`.

    Attributes:
        phase: which of the three.
        student: the student's spec.
        teacher: the teacher's spec of the same stage.
        weights: of the losses.
        learning_rate: Adam's.
        decay_steps: over how many steps the learning rate falls to 0, along a cosine, after it
            has risen over the first twentieth of them; 0: it stays what it is.
        whitened: whether Adam works in the coordinates of `cdjax.preconditioning`; the learning
            rate is then relative to each layer's size, 0.003 to 0.03, and `"factors"` must be
            among the frozen.
        rectified: whether a ReLU follows the embeddings. The paper's are linear; the features
            they are compared with have gone through a ReLU, and one more brings them nearer.
        judge: whose taps the perceptual loss of `student_decoder` compares: the teacher's (the
            paper) or those of the student's own encoder, a sixteenth of the work. They are not
            of one size as a normalised teacher's are, so each tap's loss is then relative to the
            tap's mean square.
        microbatches: into how many parts a batch is cut, their gradients averaged (gradient
            accumulation: the same step from less memory).
        dtype: `"float32"` or `"bfloat16"`, in which the networks compute; parameters, gradients
            and losses are float32 always.

    Raises:
        ValueError: if the specs are of different stages.
    """

    phase: Phase
    student: Spec
    teacher: Spec
    weights: Weights
    learning_rate: float = 1e-4
    decay_steps: int = 0
    whitened: bool = False
    rectified: bool = False
    judge: Literal["teacher", "student"] = "teacher"
    microbatches: int = 1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.student.stage != self.teacher.stage:
            raise ValueError(
                f"student and teacher must be of one stage, not {self.student.stage} "
                f"and {self.teacher.stage}"
            )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """What training changes.

    Attributes:
        step: int32, how many steps were taken.
        params: the trained networks, `{"encoder", "embedding"}` or `{"decoder"}`, float32.
        optimizer: the optimiser's state.
    """

    step: Array
    params: dict[str, Params]
    optimizer: Any


def _weighted(weights: Weights, losses: Metrics) -> tuple[Array, Metrics]:
    total = jnp.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()
    return total, {"loss": total, **losses}


def _reconstruction_losses(
    task: Task, judge: tuple[Spec, Params], images: Array, reconstruction: Array
) -> Metrics:
    losses = {}
    if task.weights.pixel:
        losses["pixel"] = pixel_loss(reconstruction, images)
    if task.weights.perceptual:
        encode = partial(apply, Encoder(judge[0], task.dtype), judge[1])
        compare = tap_loss if judge[0] == task.teacher else relative_tap_loss
        losses["perceptual"] = compare(encode(reconstruction)[1], encode(images)[1])
    return losses


def _teacher_decoder_loss(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> tuple[Array, Metrics]:
    features, _ = apply(Encoder(task.teacher, task.dtype), frozen["teacher"], images)
    reconstruction = apply(Decoder(task.teacher, task.dtype), params["decoder"], features)
    judge = task.teacher, frozen["teacher"]
    return _weighted(task.weights, _reconstruction_losses(task, judge, images, reconstruction))


def _embedded(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> tuple[dict[str, Array], Array, Metrics]:
    """The student's taps as the teacher would have them, its features, the embedding loss."""
    features, taps = apply(Encoder(task.student, task.dtype), params["encoder"], images)
    embedded = apply(Embedding(task.student, task.teacher.widths), params["embedding"], taps)
    if task.rectified:
        embedded = jax.tree.map(jax.nn.relu, embedded)
    losses = {}
    if task.weights.embedding:
        _, targets = apply(Encoder(task.teacher, task.dtype), frozen["teacher"], images)
        losses["embedding"] = tap_loss(embedded, targets)
    return embedded, features, losses


def _student_encoder_loss(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> tuple[Array, Metrics]:
    embedded, _, losses = _embedded(task, params, frozen, images)
    if task.weights.pixel or task.weights.perceptual:
        decoder = Decoder(task.teacher, task.dtype)
        reconstruction = apply(decoder, frozen["decoder"], embedded[task.student.taps[-1][0]])
        judge = task.teacher, frozen["teacher"]
        losses |= _reconstruction_losses(task, judge, images, reconstruction)
    return _weighted(task.weights, losses)


def _student_decoder_loss(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> tuple[Array, Metrics]:
    features, _ = apply(Encoder(task.student, task.dtype), frozen["encoder"], images)
    reconstruction = apply(Decoder(task.student, task.dtype), params["decoder"], features)
    teachers = task.judge == "teacher"
    judge = (task.teacher, frozen["teacher"]) if teachers else (task.student, frozen["encoder"])
    return _weighted(task.weights, _reconstruction_losses(task, judge, images, reconstruction))


def _student_pair_loss(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> tuple[Array, Metrics]:
    _, features, losses = _embedded(task, params, frozen, images)
    reconstruction = apply(Decoder(task.student, task.dtype), params["decoder"], features)
    judge = task.teacher, frozen["teacher"]
    losses |= _reconstruction_losses(task, judge, images, reconstruction)
    return _weighted(task.weights, losses)


_Loss = Callable[[Task, dict[str, Params], dict[str, Params], Array], tuple[Array, Metrics]]
_LOSSES: dict[Phase, _Loss] = {
    "teacher_decoder": _teacher_decoder_loss,
    "student_encoder": _student_encoder_loss,
    "student_decoder": _student_decoder_loss,
    "student_pair": _student_pair_loss,
}


def loss(
    params: dict[str, Params], frozen: dict[str, Params], images: ArrayLike, *, task: Task
) -> tuple[Array, Metrics]:
    """The loss of a phase (paper, eqs. 2 to 5).

    Args:
        params: the networks that the phase trains: `{"encoder", "embedding"}` (student_encoder),
            both and `"decoder"` (student_pair) or `{"decoder"}`.
        frozen: those it needs and does not train: `"teacher"` (an encoder), `"decoder"`
            (the teacher's) for student_encoder, `"encoder"` (the student's) for student_decoder;
            what only losses of weight 0 need may be missing.
        images: (N, H, W, 3), uint8 or float32 in [0, 1].
        task: which phase, networks and weights.

    Returns:
        The weighted sum, and `{"loss", "embedding", "pixel", "perceptual"}` unweighted but for
        the first; those of weight 0 are missing.
    """
    images = jnp.asarray(images)
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    return _LOSSES[task.phase](task, params, frozen, images)


def optimizer(task: Task) -> optax.GradientTransformationExtraArgs:
    """Adam for everything but the colour convolution conv0, which stays what the teacher's is."""

    def labels(params: dict[str, Params]) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "frozen" if any(key.key == "conv0" for key in path) else "trained",
            params,
        )

    rate: Any = task.learning_rate
    if task.decay_steps:
        rising = task.decay_steps // 20
        rate = optax.warmup_cosine_decay_schedule(rate / 10, rate, rising, task.decay_steps)
    if task.whitened:
        return whitened_adam(rate)
    return optax.multi_transform(
        {"trained": optax.adam(rate), "frozen": optax.set_to_zero()}, labels
    )


def initial_state(params: dict[str, Params], *, task: Task) -> State:
    """The state at step 0 of training `params`."""
    return State(jnp.zeros((), jnp.int32), params, optimizer(task).init(params))


@partial(jax.jit, static_argnames="task", donate_argnums=0)
def train_step(
    state: State, frozen: dict[str, Params], images: ArrayLike, *, task: Task
) -> tuple[State, Metrics]:
    """One optimisation step; the state passed in is donated.

    Args:
        state: from `initial_state` or the step before.
        frozen: as for `loss`; and `"factors"` if the task is whitened.
        images: (N, H, W, 3), uint8 or float32 in [0, 1]; N a multiple of `task.microbatches`.
        task: static.

    Returns:
        The state after the step, and metrics: the losses of `loss` before it, `"gradient_norm"`
        and `"parameter_norm"`.

    Raises:
        ValueError: if the batch cannot be cut into the microbatches.
    """
    images = jnp.asarray(images)
    if images.shape[0] % task.microbatches:
        raise ValueError(f"a batch of {images.shape[0]} cannot be cut into {task.microbatches}")
    parts = images.reshape(task.microbatches, -1, *images.shape[1:])
    gradient = jax.grad(partial(loss, task=task), has_aux=True)

    def accumulate(total: Any, part: Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(state.params, frozen, part)), None

    if task.microbatches == 1:
        summed = gradient(state.params, frozen, images)
    else:
        zeros = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(gradient, state.params, frozen, parts[0]),
        )
        summed, _ = jax.lax.scan(accumulate, zeros, parts)
    gradients, metrics = jax.tree.map(lambda leaf: leaf / task.microbatches, summed)
    updates, optimizer_state = optimizer(task).update(
        gradients, state.optimizer, state.params, factors=frozen.get("factors")
    )
    params = optax.apply_updates(state.params, updates)
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    metrics["parameter_norm"] = optax.tree.norm(params)
    return State(state.step + 1, params, optimizer_state), metrics
