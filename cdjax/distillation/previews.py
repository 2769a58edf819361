"""Images -> what the networks of a phase make of them: the pictures to watch a training by."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cdjax.distillation.config import Task
from cdjax.distillation.initialization.layer_samples import Images
from cdjax.distillation.train_step import COLLABORATIONS
from cdjax.distillation.transfer_objective import cascade
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


_cascade = jax.jit(cascade, static_argnums=0)
_ALPHAS = (0.0, 0.6, 1.0)


def _pictures(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], images: Array
) -> dict[str, Array]:
    if task.phase == "student_transfer":
        contents, styles = images[:, 0], images[:, 1]
        return {
            f"alpha {alpha:g}": _cascade(
                task, params, contents, styles, jnp.full(len(images), alpha)
            )
            for alpha in _ALPHAS
        }
    made = _made(task, params, frozen, images)
    # `jax.jit` has sorted them.
    return {name: made[name] for name in ("teacher", "student") if name in made}


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
    made = jax.device_get(_pictures(task, params, frozen, jnp.asarray(unit)))
    pairs = images.ndim == 5
    inputs = {"content": images[:, 0], "style": images[:, 1]} if pairs else {"input": images}
    return {
        **inputs,
        **{name: (np.clip(a, 0, 1) * 255 + 0.5).astype(np.uint8) for name, a in made.items()},
    }
