"""The images of a distillation: batches of a phase, samples for the start, and previews."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cdjax.data.loader import Batches
from cdjax.data.pairs import Pairs
from cdjax.distillation.config import DistillationConfig, Phase, TrainTask
from cdjax.distillation.objectives import OBJECTIVES, Networks, decode, encode
from cdjax.distillation.transfer_objective import cascade
from cdjax.model import Images

_PREVIEWED = 4
_ALPHAS = (0.0, 0.6, 1.0)


def open_batches(config: DistillationConfig, phase: Phase, **hosts: int) -> Batches | Pairs:
    """The batches that a phase is trained on: images, or pairs of contents and styles.

    `hosts` are the arguments `process_index` and `process_count` of `Batches`.
    """
    if config.method == "adain" or phase == "student_transfer":
        share = config.styles.contents
        return Pairs(config.data, config.style_data, contents_as_styles=share, **hosts)
    return Batches(config.data, **hosts)


def sample_images(config: DistillationConfig, count: int | None = None) -> Images:
    """The first crops of the data, (count, crop, crop, 3) uint8, as `config.start` describes them.

    `count` is `config.start.images` by default; fewer are returned if there are fewer photographs.
    """
    start, data = config.start, config.data
    side = data.shorter_side if data.source == "dead-leaves" else max(data.shorter_side, start.crop)
    with Batches(replace(data, crop=start.crop, shorter_side=side, batch=1, workers=0)) as crops:
        wanted = start.images if count is None else count
        if data.source != "dead-leaves":
            # A second crop of a photograph could be on both sides of lsq's split.
            wanted = min(wanted, crops.examples_per_epoch)
        return np.concatenate([next(crops) for _ in range(wanted)])


def preview_images(config: DistillationConfig, phase: Phase) -> Images:
    """The few images, or pairs, whose results are shown during a phase."""
    data = replace(config.data, batch=_PREVIEWED, seed=config.data.seed + 2, workers=0)
    with open_batches(replace(config, data=data), phase) as crops:
        return next(crops)


_cascade = jax.jit(cascade, static_argnums=0)


@partial(jax.jit, static_argnames="task")
def _decoded(task: TrainTask, networks: Networks, images: Array) -> Array:
    features, _ = encode(task, networks, OBJECTIVES[task.method].encoder_inputs(images))
    return decode(task, networks, features)


def make_previews(
    task: TrainTask, images: Images, frozen: Networks, params: Networks
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
    results = {}
    if task.phase == "student_transfer":
        run = partial(_cascade, task, params, unit[:, 0], unit[:, 1])
        results = {f"alpha {alpha:g}": run(jnp.full(len(unit), alpha)) for alpha in _ALPHAS}
    networks = {**frozen, **params}
    of_teacher = params if task.phase == "teacher_decoder" else frozen
    if "decoder" in of_teacher:
        both = {"teacher": frozen["teacher"], "decoder": of_teacher["decoder"]}
        results["teacher"] = _decoded(replace(task, phase="teacher_decoder"), both, unit)
    if task.phase != "teacher_decoder" and "decoder" in networks:
        results["student"] = _decoded(task, networks, unit)
    pairs = images.ndim == 5
    columns = {"content": images[:, 0], "style": images[:, 1]} if pairs else {"input": images}
    for name, result in results.items():
        columns[name] = (np.clip(np.asarray(result), 0, 1) * 255 + 0.5).astype(np.uint8)
    return columns
