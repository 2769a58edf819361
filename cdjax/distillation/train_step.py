"""The train step: losses -> gradients -> optimiser, for every phase (paper, section 3).

The phases of a stage, in the order in which they run:

1. `teacher_decoder`: the decoder D_k learns to invert the teacher's encoder.
2. `student_encoder`: the small encoder learns to be decodable by the frozen D_k (the
   collaboration) and, by linear embedding, to span the teacher's features.
3. `student_autoencoder`: the small encoder collaborates with its own small decoder instead, and
   both learn. For budgets that do not allow the teacher's decoder, which is 16 times as large.
4. `student_decoder`: the small decoder learns to invert the frozen small encoder.

For AdaIN the decoders learn to transfer styles instead of inverting the encoders; the losses of
both are in `cdjax.distillation.objectives`. After the stages, `student_transfer` trains all of them
together (`cdjax.distillation.transfer_objective`).

Frozen networks are passed beside the state and are not part of it. A loss of weight 0 is not
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

from cdjax.distillation.config import TrainTask
from cdjax.distillation.objectives import Metrics, Networks, stage_loss
from cdjax.distillation.transfer_objective import transfer_loss
from cdjax.distillation.whitened_adam import whitened_adam
from cdjax.ops.jit import FAST, compiled


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """What training changes.

    Attributes:
        step: int32, the number of steps taken.
        params: the trained networks, float32; see `loss`.
        optimizer: the optimiser's state.
    """

    step: Array
    params: Networks
    optimizer: Any


def loss(
    params: Networks, frozen: Networks, images: ArrayLike, step: ArrayLike = 0, *, task: TrainTask
) -> tuple[Array, Metrics]:
    """The loss of a phase (paper, eqs. 2 to 5).

    Args:
        params: the networks that the phase trains, as `objectives.NETWORKS` names them; for
            `student_transfer` as `transfer_objective.as_trained` does.
        frozen: the other networks of the phase: `"teacher"` (an encoder), `"decoder"` (the
            teacher's) for student_encoder, `"encoder"` (the student's) for student_decoder. Those
            that only losses of weight 0 need may be missing; others are ignored.
        images: (N, H, W, 3), uint8 or float32 in [0, 1]; for AdaIN and `student_transfer` pairs of
            a content and a style, (N, 2, H, W, 3).
        step: number of the batch, which determines the alphas of `student_transfer`.
        task: static.

    Returns:
        The weighted sum of the losses, and a dictionary of this sum, `"loss"`, and the unweighted
        losses by the names of their weights. Losses of weight 0 are missing.
    """
    images = jnp.asarray(images)
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    if task.phase == "student_transfer":
        return transfer_loss(task, params, frozen, images, jnp.asarray(step))
    return stage_loss(task, params, frozen, images)


def optimizer(task: TrainTask) -> optax.GradientTransformationExtraArgs:
    """Adam for everything but the colour convolution conv0, which stays the teacher's."""
    config = task.config

    def labels(params: Networks) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "frozen" if any(key.key == "conv0" for key in path) else "trained",
            params,
        )

    rate: Any = config.learning_rate
    if config.decay:
        rising = config.steps // 20
        rate = optax.warmup_cosine_decay_schedule(rate / 10, rate, rising, config.steps)
    if config.whitened:
        adam = whitened_adam(rate)
    else:
        parts = {"trained": optax.adam(rate), "frozen": optax.set_to_zero()}
        adam = optax.multi_transform(parts, labels)
    return optax.chain(optax.clip_by_global_norm(config.clip), adam) if config.clip else adam


def initial_state(params: Networks, *, task: TrainTask) -> State:
    """The state at step 0 of training `params`."""
    return State(jnp.zeros((), jnp.int32), params, optimizer(task).init(params))


@partial(compiled, settings=FAST, static_argnames="task", donate_argnums=0)
def train_step(
    state: State, frozen: Networks, images: ArrayLike, *, task: TrainTask
) -> tuple[State, Metrics]:
    """One optimisation step; the state passed in is donated.

    Args:
        state: from `initial_state` or the previous step.
        frozen: as for `loss`; also `"factors"` of `whitened_adam.input_factors` if the task is
            whitened.
        images: as for `loss`; N a multiple of `task.microbatches`.
        task: static.

    Returns:
        The state after the step, and metrics: the losses of `loss` before it, `"gradient_norm"`
        (before clipping) and `"parameter_norm"`.

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
    scale = task.config.first_layer_lr_scale
    if scale != 1 and "encoder" in updates:
        scaled = jax.tree.map(lambda update: scale * update, updates["encoder"]["conv1_1"])
        updates = {**updates, "encoder": {**updates["encoder"], "conv1_1": scaled}}
    params = optax.apply_updates(state.params, updates)
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    metrics["parameter_norm"] = optax.tree.norm(params)
    return State(state.step + 1, params, optimizer_state), metrics
