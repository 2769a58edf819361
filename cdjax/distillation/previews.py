"""Images -> what the networks of a phase make of them: the pictures to watch a training by."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cdjax.distillation.config import Task
from cdjax.distillation.initialization.layer_samples import Images
from cdjax.distillation.train_step import COLLABORATIONS
from cdjax.model import Params
from cdjax.networks.decoder import Decoder
from cdjax.networks.embedding import Embedding
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply


@partial(jax.jit, static_argnames="task")
def _made(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> dict[str, Array]:
    """Of images in [0, 1], or of pairs, by everything that a phase has at hand."""
    found = {}
    collaboration = COLLABORATIONS[task.method]
    images, transform = collaboration.seen(images), collaboration.transform
    big = params if task.phase == "teacher_decoder" else frozen
    if "decoder" in big:
        features, _ = apply(Encoder(task.teacher), frozen["teacher"], images)
        found["teacher"] = apply(Decoder(task.teacher), big["decoder"], transform(features))
    if task.phase == "student_encoder" and "decoder" in frozen:
        _, taps = apply(Encoder(task.student), params["encoder"], images)
        embedding = Embedding(task.student, task.teacher.widths)
        embedded = apply(embedding, params["embedding"], taps)[task.student.taps[-1][0]]
        found["student"] = apply(Decoder(task.teacher), frozen["decoder"], transform(embedded))
    if task.phase in ("student_decoder", "student_pair"):
        encoder = {**frozen, **params}["encoder"]
        features, _ = apply(Encoder(task.student), encoder, images)
        found["student"] = apply(Decoder(task.student), params["decoder"], transform(features))
    return found


def reconstructions(
    task: Task, images: Images, frozen: dict[str, Params], params: dict[str, Params]
) -> dict[str, Images]:
    """The images, and what teacher and student make of them: reconstructions, or transfers.

    Args:
        task: of the phase.
        images: (N, H, W, 3) uint8 RGB; for AdaIN pairs, (N, 2, H, W, 3).
        frozen: what the phase does not train; the teacher's `"decoder"` may be among it in every
            phase.
        params: what it trains.

    Returns:
        `{"input", "teacher", "student"}`, for AdaIN with `"content"` and `"style"` in place of
        `"input"`, uint8; teacher or student are missing where the phase has no decoder for them.
    """
    unit = images.astype(np.float32) / 255
    made = jax.device_get(_made(task, params, frozen, jnp.asarray(unit)))
    grey = {name: (np.clip(a, 0, 1) * 255 + 0.5).astype(np.uint8) for name, a in made.items()}
    adain = task.method == "adain"
    inputs = {"content": images[:, 0], "style": images[:, 1]} if adain else {"input": images}
    # `jax.jit` has sorted them.
    return {
        **inputs,
        **{name: grey[name] for name in ("teacher", "student") if name in grey},
    }
