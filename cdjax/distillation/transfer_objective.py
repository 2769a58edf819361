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

from cdjax.distillation import losses
from cdjax.distillation.config import TrainTask
from cdjax.distillation.objectives import Metrics, Networks, encoder_of
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.ops.matmul import mean_squared_error
from cdjax.transfer.stages import encode_stage, run_cascade
from cdjax.transfer.statistics import moments
from cdjax.transfer.transforms import TRANSFORMS, stage_alpha

TRAINED = ("encoder", "decoder")
"""The networks of each stage that the phase trains."""

_GOLDEN_RATIO = 0.6180339887498949
_PLAIN, _FULL, _LEAST = 0.2, 0.7, 0.4


def as_trained(params: Mapping[str, Networks]) -> Networks:
    """A model's encoders and decoders as the phase trains them: `{"stage5/encoder": ...}`."""
    return {f"{stage}/{part}": parts[part] for stage, parts in params.items() for part in TRAINED}


def as_model(trained: Networks) -> dict[str, Networks]:
    """The inverse of `as_trained`."""
    params: dict[str, Networks] = {}
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
    task: TrainTask, params: Networks, contents: Array, styles: Array, alpha: Array
) -> Array:
    """Stylises contents through all stages; gradients reach encoders and decoders.

    `params` are as from `as_trained`; contents and styles are (N, H, W, 3), float32 in [0, 1], and
    alpha is (N,). The result is not clipped. The strengths of the task multiply alpha.
    """
    networks = as_model(params)
    strengths = dict(zip(task.students, task.strengths, strict=False))
    transforms = dict(zip(task.students, task.transforms, strict=False))

    def transform(spec: Spec, features: Array) -> Array:
        encoder = networks[f"stage{spec.stage}"]["encoder"]
        find_map = TRANSFORMS[transforms.get(spec, task.method)]

        def move(features: Array, style: Array, alpha: Array) -> Array:
            return find_map(moments(features), moments(style), alpha, 0.0)(features)

        of_styles = encode_stage(encoder, spec, styles, dtype=task.dtype, training=True)
        return jax.vmap(move)(features, of_styles, stage_alpha(alpha, strengths.get(spec, 1.0)))

    return run_cascade(
        networks, task.students, contents, transform, dtype=task.dtype, training=True
    )


def transfer_loss(
    task: TrainTask, params: Networks, frozen: Networks, pairs: Array, step: Array | int
) -> tuple[Array, Metrics]:
    """The loss of `student_transfer`; arguments as for `train_step.loss`.

    The style losses are weighted by alpha, the content loss is not, and the pixel loss is that of
    the pairs with alpha 0.
    """
    contents, styles = pairs[:, 0], pairs[:, 1]
    alpha = alphas(step, len(pairs))
    made = cascade(task, params, contents, styles, alpha)
    encode = encoder_of(task, task.teacher)
    _, seen = apply(encode, frozen["teacher"], jnp.concatenate([contents, styles]))
    _, taps = apply(encode, frozen["teacher"], made)
    plain = alpha == 0
    of_styles = {name: tap[len(pairs) :] for name, tap in seen.items()}
    style = losses.relative_style_loss(taps, of_styles)
    # The parts of a batch are compared along the same directions.
    seed = step // task.microbatches
    sliced = losses.sliced_wasserstein_loss(taps, of_styles, seed=seed)
    content = losses.correlation_loss(taps, {name: tap[: len(pairs)] for name, tap in seen.items()})
    pixel = jax.vmap(mean_squared_error)(made, contents)
    weights = task.config.weights
    total = (
        alpha * (weights.style * style + weights.sliced * sliced)
        + weights.content * content
        + weights.pixel * jnp.where(plain, pixel, 0.0)
    ).mean()

    def mean_where(values: Array, where: Array) -> Array:
        return jnp.where(where, values, 0.0).sum() / jnp.maximum(where.sum(), 1)

    parts = {"style": style, "sliced": sliced, "content": content}
    metrics = {name: mean_where(values, ~plain) for name, values in parts.items()}
    return total, {"loss": total, **metrics, "pixel": mean_where(pixel, plain)}
