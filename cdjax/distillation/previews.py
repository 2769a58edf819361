"""Preview pictures: what the networks of a phase make of a few images."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cdjax.distillation.config import TrainTask
from cdjax.distillation.objectives import OBJECTIVES, decode, encode
from cdjax.distillation.transfer_objective import cascade
from cdjax.model import Images, Params

_ALPHAS = (0.0, 0.6, 1.0)

_cascade = jax.jit(cascade, static_argnums=0)


@partial(jax.jit, static_argnames="task")
def _decoded(task: TrainTask, networks: Mapping[str, Params], images: Array) -> Array:
    features, _ = encode(task, networks, OBJECTIVES[task.method].encoder_inputs(images))
    return decode(task, networks, features)


def _results(
    task: TrainTask, images: Array, frozen: Mapping[str, Params], params: Mapping[str, Params]
) -> dict[str, Array]:
    if task.phase == "student_transfer":
        alphas = {f"alpha {alpha:g}": jnp.full(len(images), alpha) for alpha in _ALPHAS}
        run = partial(_cascade, task, params, images[:, 0], images[:, 1])
        return {name: run(alpha) for name, alpha in alphas.items()}
    results = {}
    networks = {**frozen, **params}
    of_teacher = params if task.phase == "teacher_decoder" else frozen
    if "decoder" in of_teacher:
        both = {"teacher": frozen["teacher"], "decoder": of_teacher["decoder"]}
        results["teacher"] = _decoded(replace(task, phase="teacher_decoder"), both, images)
    if task.phase != "teacher_decoder" and "decoder" in networks:
        results["student"] = _decoded(task, networks, images)
    return results


def make_previews(
    task: TrainTask,
    images: Images,
    frozen: Mapping[str, Params],
    params: Mapping[str, Params],
) -> dict[str, Images]:
    """The images, and their reconstructions or transfers by teacher and student.

    Args:
        task: of the phase.
        images: (N, H, W, 3) uint8 RGB, or pairs of a content and a style, (N, 2, H, W, 3).
        frozen: the networks that the phase does not train; may contain the teacher's `"decoder"`
            in every phase.
        params: those that it trains.

    Returns:
        uint8 images by the names of columns: `"input"`, or `"content"` and `"style"`; then
        `"teacher"` and `"student"` where there is a decoder for them, or in `student_transfer`
        the student's transfers at several alphas.
    """
    unit = jnp.asarray(images.astype(np.float32) / 255)
    results = _results(task, unit, frozen, params)
    pairs = images.ndim == 5
    columns = {"content": images[:, 0], "style": images[:, 1]} if pairs else {"input": images}
    for name, result in results.items():
        columns[name] = (np.clip(np.asarray(result), 0, 1) * 255 + 0.5).astype(np.uint8)
    return columns
