"""The objective of `student_transfer`: the whole cascade is trained on the pictures it makes.

The paper trains decoders to invert plain features, but the cascade gives them whitened and coloured
ones, and the output of one stage is the input of the next. In this phase the encoders and decoders
of all stages learn together, through the transform. A content and a style are stylised with a
varying alpha. The teacher's features of the result are compared with the style's statistics at
every tap, and with the content's instance-normalised features at the deep taps. At alpha 0 the
result must equal the content.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from cdjax.distillation.config import Task
from cdjax.distillation.losses import pixel_loss
from cdjax.distillation.objectives import Metrics, encoder_of
from cdjax.model import Params
from cdjax.networks.decoder import Decoder
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.ops.matmul import product
from cdjax.transfer.statistics import moments
from cdjax.transfer.transforms import TRANSFORMS

TRAINED = ("encoder", "decoder")
"""The networks of each stage that the phase trains."""

_EPSILON = 1e-6
_CONTENT_TAPS = ("relu3_1", "relu4_1", "relu5_1")
_GOLDEN_RATIO = 0.6180339887498949
_PLAIN, _FULL, _LEAST = 0.2, 0.7, 0.4


def as_trained(params: Mapping[str, Mapping[str, Params]]) -> dict[str, Params]:
    """A model's encoders and decoders as the phase trains them: `{"stage5/encoder": ...}`."""
    return {f"{stage}/{part}": parts[part] for stage, parts in params.items() for part in TRAINED}


def as_model(trained: Mapping[str, Params]) -> dict[str, dict[str, Params]]:
    """The inverse of `as_trained`."""
    params: dict[str, dict[str, Params]] = {}
    for name, network in trained.items():
        stage, _, part = name.partition("/")
        params.setdefault(stage, {})[part] = network
    return params


def alphas(step: Array | int, count: int) -> Array:
    """Alphas of a step's pairs, (count,) float32: 0 for a fifth of them, 1 for three tenths.

    The others are spread evenly over 0.4 to 1. They are a low-discrepancy sequence and a function
    of the step alone, so a resumed run continues with the same ones.
    """
    places = jnp.asarray(step, jnp.uint32) * jnp.uint32(count) + jnp.arange(count, dtype=jnp.uint32)
    # In integers, which wrap around: float32 could not tell step 100,000 from the next.
    turned = places * jnp.uint32(round(_GOLDEN_RATIO * 2**32))
    spread = turned.astype(jnp.float32) / 2.0**32
    share = (spread - _PLAIN) / (_FULL - _PLAIN)
    alpha = jnp.minimum(_LEAST + (1 - _LEAST) * share, 1.0)
    return jnp.where(spread < _PLAIN, 0.0, alpha)


def cascade(
    task: Task, params: Mapping[str, Params], contents: Array, styles: Array, alpha: Array
) -> Array:
    """Stylises contents through all stages; gradients reach encoders and decoders.

    Args:
        task: whose `cascade` names the stages.
        params: as from `as_trained`.
        contents: (N, H, W, 3), float32 in [0, 1].
        styles: the same shape.
        alpha: (N,).

    Returns:
        (N, H, W, 3), float32, not clipped.
    """
    transform = TRANSFORMS[task.method]

    def move(features: Array, style: Array, alpha: Array) -> Array:
        return transform(moments(features), moments(style), alpha)(features)

    made = contents
    for spec in task.cascade:
        encoder, decoder = (params[f"stage{spec.stage}/{part}"] for part in TRAINED)
        encode = Encoder(spec, task.dtype, algorithm="winograd")
        of_styles, _ = apply(encode, encoder, styles)
        features, _ = apply(encode, encoder, made)
        features = jax.vmap(move)(features, of_styles, alpha)
        made = apply(Decoder(spec, task.dtype, algorithm="winograd"), decoder, features)
    return made


def _statistics(features: Array) -> tuple[Array, Array, Array]:
    """Means and standard deviations, (N, C) each, and Gram matrices, (N, C, C)."""
    values = features.astype(jnp.float32).reshape(len(features), -1, features.shape[-1])
    mean = values.mean(1)
    deviation = jnp.sqrt(jnp.var(values, axis=1) + _EPSILON)
    gram = jax.vmap(lambda rows: product(rows.T, rows))(values) / values.shape[1]
    return mean, deviation, gram


def style_disagreement(taps: Mapping[str, Array], targets: Mapping[str, Array]) -> Array:
    """Distance of taps' statistics from a style's, relative to the style's own.

    Args:
        taps: {name: (N, h, w, C)} of pictures.
        targets: the same names of their styles; sizes in pixels may differ.

    Returns:
        (N,): the sum over taps of the Frobenius distance of Gram matrices and the squared errors
        of the channels' means and standard deviations, each relative to the style's.
    """
    total = jnp.zeros(())
    for name, target in targets.items():
        (mean, deviation, gram), (mean_to, deviation_to, gram_to) = (
            _statistics(features) for features in (taps[name], target)
        )
        size = jnp.sum(jnp.square(gram_to), (1, 2)) + _EPSILON
        total += jnp.sqrt(jnp.sum(jnp.square(gram - gram_to), (1, 2)) / size + _EPSILON)
        error = jnp.square(mean - mean_to) + jnp.square(deviation - deviation_to)
        size = jnp.square(mean_to) + jnp.square(deviation_to)
        total += error.sum(1) / (size.sum(1) + _EPSILON)
    return total


def content_disagreement(taps: Mapping[str, Array], targets: Mapping[str, Array]) -> Array:
    """1 - the correlation of instance-normalised features, the mean over the deep taps.

    Args:
        taps: {name: (N, h, w, C)} of pictures.
        targets: the same names and shapes of their contents. relu3_1 and deeper count; where there
            is none of them, the last one.

    Returns:
        (N,), from 0 for equal features to 2.
    """

    def normalised(features: Array) -> Array:
        values = features.astype(jnp.float32)
        apart = values - values.mean((1, 2), keepdims=True)
        return apart / (jnp.sqrt(jnp.square(apart).mean((1, 2), keepdims=True) + _EPSILON) + 1e-3)

    names = [name for name in targets if name in _CONTENT_TAPS] or list(targets)[-1:]
    parts = [
        1 - (normalised(taps[name]) * normalised(targets[name])).mean((1, 2, 3)) for name in names
    ]
    return jnp.stack(parts).mean(0)


def transfer_loss(
    task: Task,
    params: Mapping[str, Params],
    frozen: Mapping[str, Params],
    pairs: Array,
    step: Array | int,
) -> tuple[Array, Metrics]:
    """The loss of `student_transfer`; arguments as for `train_step.loss`.

    The style loss is weighted by alpha, the content loss is not, and the pixel loss is that of the
    pairs with alpha 0.
    """
    contents, styles = pairs[:, 0], pairs[:, 1]
    alpha = alphas(step, len(pairs))
    made = cascade(task, params, contents, styles, alpha)
    encode = encoder_of(task, task.teacher)
    _, seen = apply(encode, frozen["teacher"], jnp.concatenate([contents, styles]))
    _, taps = apply(encode, frozen["teacher"], made)
    plain = alpha == 0
    style = style_disagreement(taps, {name: tap[len(pairs) :] for name, tap in seen.items()})
    content = content_disagreement(taps, {name: tap[: len(pairs)] for name, tap in seen.items()})
    pixel = jax.vmap(pixel_loss)(made, contents)
    weights = task.weights
    total = (
        weights.style * alpha * style
        + weights.content * content
        + weights.pixel * jnp.where(plain, pixel, 0.0)
    ).mean()

    def mean_where(values: Array, where: Array) -> Array:
        return jnp.where(where, values, 0.0).sum() / jnp.maximum(where.sum(), 1)

    return total, {
        "loss": total,
        "style": mean_where(style, ~plain),
        "content": mean_where(content, ~plain),
        "pixel": mean_where(pixel, plain),
    }
