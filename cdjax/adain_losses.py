"""The losses of AdaIN's phases, whose collaboration is style transfer itself.

With t = AdaIN(F(c), F(s)) of a content c and a style s and g the picture decoded of it, the content
loss compares F(g) with t and the style loss the channels' means and deviations of F_j(g) and F_j(s)
at every tap, F being the judge's features: the teacher's, or those of the student's own encoder.
"""

from functools import partial

import jax.numpy as jnp
from jax import Array

from cdjax.layers import apply
from cdjax.losses import mean_squared_error, style_loss
from cdjax.model import Params
from cdjax.spec import Spec
from cdjax.task import Phase, Task
from cdjax.transform import channel_statistics
from cdjax.wct_losses import (
    Metrics,
    PhaseLoss,
    decoder_of,
    embedded_taps,
    encoder_of,
    weighted,
)

_Taps = dict[str, Array]


def restyled(features: Array) -> Array:
    """AdaIN of features (2N, h, w, C), contents before their styles: (N, h, w, C)."""
    content, style = jnp.split(features.astype(jnp.float32), 2)
    (mean, deviation), (new_mean, new_deviation) = map(channel_statistics, (content, style))
    scale = (new_deviation / deviation)[:, None, None]
    moved = (content - mean[:, None, None]) * scale + new_mean[:, None, None]
    return moved.astype(features.dtype)


def _both(pairs: Array) -> Array:
    """Pairs (N, 2, H, W, 3) as contents, then styles: (2N, H, W, 3)."""
    return jnp.concatenate([pairs[:, 0], pairs[:, 1]])


def _transfer_losses(task: Task, judge: tuple[Spec, Params], pairs: Array, made: Array) -> Metrics:
    encode = partial(apply, encoder_of(task, judge[0]), judge[1])
    features, taps = encode(_both(pairs))
    found, found_taps = encode(made)
    styles = {name: values[len(pairs) :] for name, values in taps.items()}
    losses = {
        "content": mean_squared_error(found, restyled(features)),
        "style": style_loss(found_taps, styles),
    }
    return {name: loss for name, loss in losses.items() if getattr(task.weights, name)}


def _teacher_decoder(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], pairs: Array
) -> tuple[Array, Metrics]:
    features, _ = apply(encoder_of(task, task.teacher), frozen["teacher"], _both(pairs))
    made = apply(decoder_of(task, task.teacher), params["decoder"], restyled(features))
    judge = task.teacher, frozen["teacher"]
    return weighted(task.weights, _transfer_losses(task, judge, pairs, made))


def _student_encoder(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], pairs: Array
) -> tuple[Array, Metrics]:
    embedded, _, losses = embedded_taps(task, params, frozen, _both(pairs))
    if task.weights.content or task.weights.style:
        target = restyled(embedded[task.student.taps[-1][0]])
        made = apply(decoder_of(task, task.teacher), frozen["decoder"], target)
        losses |= _transfer_losses(task, (task.teacher, frozen["teacher"]), pairs, made)
    return weighted(task.weights, losses)


def _student_decoder(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], pairs: Array
) -> tuple[Array, Metrics]:
    features, _ = apply(encoder_of(task, task.student), frozen["encoder"], _both(pairs))
    made = apply(decoder_of(task, task.student), params["decoder"], restyled(features))
    teachers = task.judge == "teacher"
    judge = (task.teacher, frozen["teacher"]) if teachers else (task.student, frozen["encoder"])
    return weighted(task.weights, _transfer_losses(task, judge, pairs, made))


def _student_pair(
    task: Task, params: dict[str, Params], frozen: dict[str, Params], pairs: Array
) -> tuple[Array, Metrics]:
    _, features, losses = embedded_taps(task, params, frozen, _both(pairs))
    made = apply(decoder_of(task, task.student), params["decoder"], restyled(features))
    losses |= _transfer_losses(task, (task.teacher, frozen["teacher"]), pairs, made)
    return weighted(task.weights, losses)


LOSSES: dict[Phase, PhaseLoss] = {
    "teacher_decoder": _teacher_decoder,
    "student_encoder": _student_encoder,
    "student_decoder": _student_decoder,
    "student_pair": _student_pair,
}
