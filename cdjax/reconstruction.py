"""Images -> what the networks of a phase make of them: the pictures to watch a training by."""

from functools import partial

import jax
import numpy as np
from jax import Array

from cdjax.decoder import Decoder
from cdjax.distillation import Task
from cdjax.encoder import Embedding, Encoder
from cdjax.layer_rows import Images
from cdjax.layers import apply
from cdjax.model import Params


@partial(jax.jit, static_argnames="task")
def _reconstruct(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Images
) -> dict[str, Array]:
    """Of images in [0, 1], by everything that a phase has at hand."""
    found = {}
    big = params if task.phase == "teacher_decoder" else frozen
    if "decoder" in big:
        features, _ = apply(Encoder(task.teacher), frozen["teacher"], images)
        found["teacher"] = apply(Decoder(task.teacher), big["decoder"], features)
    if task.phase == "student_encoder" and "decoder" in frozen:
        _, taps = apply(Encoder(task.student), params["encoder"], images)
        embedding = Embedding(task.student, task.teacher.widths)
        embedded = apply(embedding, params["embedding"], taps)[task.student.taps[-1][0]]
        found["student"] = apply(Decoder(task.teacher), frozen["decoder"], embedded)
    if task.phase in ("student_decoder", "student_pair"):
        encoder = {**frozen, **params}["encoder"]
        features, _ = apply(Encoder(task.student), encoder, images)
        found["student"] = apply(Decoder(task.student), params["decoder"], features)
    return found


def reconstructions(
    task: Task, images: Images, frozen: dict[str, Params], params: dict[str, Params]
) -> dict[str, Images]:
    """The images, and their reconstructions by the teacher and by the student.

    Args:
        task: of the phase.
        images: (N, H, W, 3) uint8 RGB.
        frozen: what the phase does not train.
        params: what it trains.

    Returns:
        `{"input", "teacher", "student"}`, uint8; teacher or student are missing where the phase
        has no decoder for them.
    """
    unit = images.astype(np.float32) / 255
    made = jax.device_get(_reconstruct(task, params, frozen, unit))
    grey = {name: (np.clip(a, 0, 1) * 255 + 0.5).astype(np.uint8) for name, a in made.items()}
    # `jax.jit` has sorted them.
    return {
        "input": images,
        **{name: grey[name] for name in ("teacher", "student") if name in grey},
    }
