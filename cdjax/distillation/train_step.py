"""Teacher + student -> losses -> train step: the phases of a stage (paper, section 3).

1. `teacher_decoder`: the decoder D_k learns to invert the teacher's encoder.
2. `student_encoder`: the small encoder learns, through the frozen D_k, to be decodable (the
   collaboration) and, by linear embedding, to span the teacher's features.
3. `student_decoder`: the small decoder learns to invert the small encoder.

`student_pair` is for budgets in which the teacher's decoder, 16 times the student's, has no place:
the small encoder collaborates with its own small decoder, and both learn at once.

That is WCT. With AdaIN the decoders learn to transfer styles, not to invert the encoders. The
collaborations of both are in `cdjax.distillation.objectives`.

One `train_step` serves all of them: a phase is a loss function in the table `PHASE_LOSSES`.
Frozen networks are passed beside the state and are never part of it. A loss of weight 0 is not
computed, and neither are the networks that only it needs.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from cdjax.distillation.config import Task, Transfer
from cdjax.distillation.objectives import (
    PHASE_LOSSES,
    RECONSTRUCTION,
    TRANSFER,
    Collaboration,
    Metrics,
)
from cdjax.distillation.transfer_objective import transfer_loss
from cdjax.distillation.whitened_adam import whitened_adam
from cdjax.model import Params
from cdjax.ops.jit import FAST, compiled


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


COLLABORATIONS: dict[Transfer, Collaboration] = {"wct": RECONSTRUCTION, "adain": TRANSFER}


def loss(
    params: dict[str, Params],
    frozen: dict[str, Params],
    images: ArrayLike,
    step: ArrayLike = 0,
    *,
    task: Task,
) -> tuple[Array, Metrics]:
    """The loss of a phase (paper, eqs. 2 to 5).

    Args:
        params: the networks that the phase trains: `{"encoder", "embedding"}` (student_encoder),
            both and `"decoder"` (student_pair) or `{"decoder"}`.
        frozen: those it needs and does not train: `"teacher"` (an encoder), `"decoder"`
            (the teacher's) for student_encoder, `"encoder"` (the student's) for student_decoder;
            what only losses of weight 0 need may be missing.
        images: (N, H, W, 3), uint8 or float32 in [0, 1]; for AdaIN pairs, (N, 2, H, W, 3), of a
            content and a style.
        step: number of the batch, which decides the alphas of student_transfer.
        task: which phase, networks and weights.

    Returns:
        The weighted sum, and `{"loss", "embedding", "pixel", "perceptual"}`, for AdaIN `{"loss",
        "embedding", "content", "style"}`, unweighted but for the first, and for the taps of the
        embedding loss (`Weights.shallow`); those of weight 0 are missing.
    """
    images = jnp.asarray(images)
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    if task.phase == "student_transfer":
        return transfer_loss(task, params, frozen, images, jnp.asarray(step))
    collaboration = COLLABORATIONS[task.method]
    return PHASE_LOSSES[task.phase](collaboration, task, params, frozen, images)


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
        adam = whitened_adam(rate)
    else:
        parts = {"trained": optax.adam(rate), "frozen": optax.set_to_zero()}
        adam = optax.multi_transform(parts, labels)
    return optax.chain(optax.clip_by_global_norm(task.clip), adam) if task.clip else adam


def initial_state(params: dict[str, Params], *, task: Task) -> State:
    """The state at step 0 of training `params`."""
    return State(jnp.zeros((), jnp.int32), params, optimizer(task).init(params))


@partial(compiled, settings=FAST, static_argnames="task", donate_argnums=0)
def train_step(
    state: State, frozen: dict[str, Params], images: ArrayLike, *, task: Task
) -> tuple[State, Metrics]:
    """One optimisation step; the state passed in is donated.

    Args:
        state: from `initial_state` or the step before.
        frozen: as for `loss`; and `"factors"` if the task is whitened.
        images: as for `loss`; N a multiple of `task.microbatches`.
        task: static.

    Returns:
        The state after the step, and metrics: the losses of `loss` before it, `"gradient_norm"`
        (before it is clipped) and `"parameter_norm"`.

    Raises:
        ValueError: if the batch cannot be cut into the microbatches.
    """
    images = jnp.asarray(images)
    if images.shape[0] % task.microbatches:
        raise ValueError(f"a batch of {images.shape[0]} cannot be cut into {task.microbatches}")
    parts = images.reshape(task.microbatches, -1, *images.shape[1:])
    gradient = jax.grad(partial(loss, task=task), has_aux=True)

    numbers = state.step * task.microbatches + jnp.arange(task.microbatches)

    def accumulate(total: Any, part: tuple[Array, Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(state.params, frozen, *part)), None

    if task.microbatches == 1:
        summed = gradient(state.params, frozen, images, numbers[0])
    else:
        zeros = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(gradient, state.params, frozen, parts[0], numbers[0]),
        )
        summed, _ = jax.lax.scan(accumulate, zeros, (parts, numbers))
    gradients, metrics = jax.tree.map(lambda leaf: leaf / task.microbatches, summed)
    updates, optimizer_state = optimizer(task).update(
        gradients, state.optimizer, state.params, factors=frozen.get("factors")
    )
    if task.first_rate != 1 and "encoder" in updates:
        slowed = jax.tree.map(lambda u: task.first_rate * u, updates["encoder"]["conv1_1"])
        updates = {**updates, "encoder": {**updates["encoder"], "conv1_1": slowed}}
    params = optax.apply_updates(state.params, updates)
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    metrics["parameter_norm"] = optax.tree.norm(params)
    return State(state.step + 1, params, optimizer_state), metrics
