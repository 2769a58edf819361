"""Optimisation-based style transfer: the picture is found by descending the losses of its features.

Gatys et al. 2016, with any encoder in VGG's place, such as a compressed one (paper, section 4.3).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from cdjax.errors import OptimizationError
from cdjax.model import Model, Params
from cdjax.networks.spec import Spec
from cdjax.ops.jit import FAST, compiled
from cdjax.optimization.config import (
    Optimization,
    weights_of,
)
from cdjax.optimization.losses import Targets, Weights, find_targets, image_losses
from cdjax.optimization.minimize import Descent, Losses, Method, begin, descend
from cdjax.transfer.pixels import LEVEL, as_pixels
from cdjax.transfer.stylize import stylize

CHUNK = 10
"""Steps between two moments at which the host sees the losses."""

_FIRST_CHANGE = 0.02
"""Root mean square, in [0, 1], of the first change that L-BFGS tries."""

_NEAR_CHANGE = 0.003
"""Likewise, of a picture that other means have led near already."""


@dataclass(frozen=True)
class Progress:
    """How far an optimisation is.

    Attributes:
        scale: at which it is, 0 the coarsest.
        scales: how many there are.
        size: height and width there.
        step: steps made there.
        losses: weighted: `"content"`, `"style"`, `"total_variation"`, and their sum `"total"`.
        finishing: whether they are of the model to finish with.
        picture: hands out the picture of this moment, (H, W, 3) float32 in [0, 1].
    """

    scale: int
    scales: int
    size: tuple[int, int]
    step: int
    losses: dict[str, float]
    finishing: bool
    picture: Callable[[], Array]


def optimize_image(
    model: Model,
    content: ArrayLike,
    style: ArrayLike,
    *,
    settings: Optimization | None = None,
    finish: Model | None = None,
    note: Callable[[Progress], None] | None = None,
) -> Array:
    """Repaints a content image in a style by optimising its pixels (Gatys et al. 2016).

    The losses (`cdjax.optimization.losses`) are those of the model's deepest encoder, whatever else
    is in the model, and relative to what they compare with, so that weights mean the same for the
    normalised VGG-19, for ImageNet's networks as they are and for a student. The pixels are free
    while they are optimised; a result is clipped to [0, 1].

    What a student's features do not tell apart stays as it is. So a few last steps at every scale
    (`settings.finish_steps`) may be made with its teacher's losses, beginning where the student's
    cheap ones lead. And its decoders may lead most of the way before the first step: a start of
    `"stylized"` is what `cdjax.stylize` makes of the content.

    Steps run in compiled loops of `CHUNK`; the host sees the losses after each. Each size is
    compiled once for each encoder, whatever the weights.

    Args:
        model: any, a lone encoder (method `"encoder"`) too.
        content: (H, W, 3), RGB, uint8 or floating in [0, 1], sides at least twice the encoder's
            stride (32 pixels at stage 5).
        style: likewise, of any size; it is scaled along with the content, and enlarged where the
            encoder could not read it.
        settings: the layers, the weights and the method; None: the defaults.
        finish: the model of the last `settings.finish_steps`, with the same layers.
        note: is told of every start of an encoder at a scale, and of every chunk.

    Returns:
        (H, W, 3), float32 in [0, 1], of the content's size. The same for the same arguments on the
        same machine.

    Raises:
        OptimizationError: if an encoder lacks a layer, the content is too small, the losses cease
            to be finite, of `finish` and `settings.finish_steps` there is one alone, or the model
            of a stylized start has no decoders.
        TypeError: if the pixels are neither uint8 nor floating.
        ValueError: if an image is not (H, W, 3).
    """
    course = optimization(model, content, style, settings=settings or Optimization(), finish=finish)
    for progress in course:
        if note:
            note(progress)
    return progress.picture()


def optimization(
    model: Model,
    content: ArrayLike,
    style: ArrayLike,
    *,
    settings: Optimization,
    finish: Model | None = None,
) -> Iterator[Progress]:
    """The course of `optimize_image`: its progress at every start and after every chunk.

    The last picture is the result. See there for arguments and errors.
    """
    parts = _parts(model, finish, settings)
    deepest = max((part.spec for part in parts), key=lambda spec: spec.stride)
    whole, painting = _pixels(content, "content"), _pixels(style, "style")
    sizes = scale_sizes(whole.shape[:2], deepest, scales=settings.scale_count)
    start = None
    for scale, size in enumerate(sizes):
        target = _resized(whole, size)
        shrunk = _size_of_style(painting.shape[:2], size[0] / whole.shape[0], deepest)
        painted = _resized(painting, shrunk)
        if start is not None:
            start = _resized(start, size)
        elif settings.start == "noise":
            start = jax.random.uniform(jax.random.key(settings.seed), (*size, 3))
        elif settings.start == "stylized":
            # Small pictures come out worse.
            start = _resized(stylize(model, whole, painting), size)
        else:
            start = target
        made = 0
        for part in parts:
            near = made > 0 or (scale == 0 and settings.start == "stylized")
            # L-BFGS begins with a change of norm 1, of whatever it is that varies.
            change = (_NEAR_CHANGE if near else _FIRST_CHANGE) * math.sqrt(start.size)
            unit = change if settings.optimizer == "lbfgs" else 1.0
            targets = find_targets(
                part.spec,
                part.params,
                target,
                painted,
                content_layers=settings.content_layers,
                style_layers=settings.style_layers,
            )
            for step, descent in _descents(part, targets, start, settings, unit):
                start = unit * descent.point.variable
                yield Progress(
                    scale=scale,
                    scales=len(sizes),
                    size=size,
                    step=made + step,
                    losses=_finite_losses(descent),
                    finishing=part.finishing,
                    picture=partial(jnp.clip, start, 0, 1),
                )
            made += part.steps


@dataclass(frozen=True)
class _Part:
    """The steps at every scale that one encoder's losses lead."""

    spec: Spec
    params: Params
    steps: int
    finishing: bool


def _parts(model: Model, finish: Model | None, settings: Optimization) -> list[_Part]:
    last = settings.finish_steps
    if (finish is not None) != (last > 0):
        raise OptimizationError(
            "steps to finish with need a model to finish with"
            if last
            else "a model to finish with needs finish_steps, of the steps at every scale"
        )
    check_start(model, settings)
    parts = [_part(model, settings, steps=settings.steps - last, finishing=False)]
    if finish is not None:
        parts.append(_part(finish, settings, steps=last, finishing=True))
    return [part for part in parts if part.steps]


def _part(model: Model, settings: Optimization, *, steps: int, finishing: bool) -> _Part:
    spec = model.config.specs[0]
    check_layers(spec, settings)
    return _Part(spec, model.params[f"stage{spec.stage}"]["encoder"], steps, finishing)


def _finite_losses(descent: Descent) -> dict[str, float]:
    losses = {name: float(loss) for name, loss in descent.point.losses.items()}
    losses["total"] = sum(losses.values())
    if not math.isfinite(losses["total"]):
        raise OptimizationError(
            "the losses are not finite any more; try a smaller learning rate, or L-BFGS"
        )
    return losses


def check_start(model: Model, settings: Optimization) -> None:
    """Refuses, as `OptimizationError`, a start that a model cannot make."""
    if settings.start == "stylized" and model.config.method == "encoder":
        raise OptimizationError(
            "a stylized start needs a model with decoders, such as wct-16x; this is an encoder"
        )


def check_layers(spec: Spec, settings: Optimization) -> None:
    """Refuses, as `OptimizationError`, settings that name layers which an encoder lacks."""
    for layer in (*settings.content_layers, *settings.style_layers):
        if layer not in spec.layers:
            raise OptimizationError(
                f"this encoder has no layer {layer}; choose the content's and the style's among "
                f"{', '.join(spec.layers)}"
            )


def scale_sizes(size: Sequence[int], spec: Spec, *, scales: int) -> list[tuple[int, int]]:
    """Height and width at every scale, coarsest first, the last being `size`.

    Raises:
        OptimizationError: if the size itself is too small for the encoder.
    """
    height, width = size
    shortest = 2 * spec.stride
    if min(height, width) < shortest:
        raise OptimizationError(
            f"the content has {width}x{height} pixels; this encoder needs {shortest} a side"
        )
    sizes = [(-(-height // 2**k), -(-width // 2**k)) for k in reversed(range(scales))]
    return [size for size in sizes if min(size) >= shortest]


def _size_of_style(size: Sequence[int], factor: float, spec: Spec) -> tuple[int, int]:
    height, width = size
    factor = max(factor, 2 * spec.stride / min(height, width))
    return round(height * factor), round(width * factor)


def _pixels(image: ArrayLike, name: str) -> Array:
    pixels = as_pixels(image, name)
    if pixels.ndim != 3:
        raise ValueError(f"{name} must be one image (H, W, 3), not {pixels.shape}")
    floating = jnp.asarray(pixels, jnp.float32)
    return floating * LEVEL if pixels.dtype == jnp.uint8 else floating


@partial(jax.jit, static_argnames="size")
def _resized(image: Array, size: tuple[int, int]) -> Array:
    if image.shape[:2] == size:
        return image
    return jax.image.resize(image, (*size, 3), "cubic")


def _descents(
    part: _Part, targets: Targets, start: Array, settings: Optimization, unit: float
) -> Iterator[tuple[int, Descent]]:
    """Steps that a part has made at one scale, and the descent, which the next run takes over."""
    static: dict[str, Any] = {"spec": part.spec, "method": settings.optimizer}
    given = (part.params, targets, weights_of(settings), jnp.float32(unit))
    descent = _begin(start, *given, **static)
    yield 0, descent
    for done in range(0, part.steps, CHUNK):
        steps = min(CHUNK, part.steps - done)
        descent = _advance(descent, *given, steps, settings.learning_rate, **static)
        yield done + steps, descent


def _objective(
    spec: Spec, params: Params, targets: Targets, weights: Weights, unit: Array
) -> Callable[[Array], Losses]:
    return lambda variable: image_losses(spec, params, targets, weights, unit * variable)


@partial(compiled, settings=FAST, static_argnames=("spec", "method"))
def _begin(
    start: Array,
    params: Params,
    targets: Targets,
    weights: Weights,
    unit: Array,
    *,
    spec: Spec,
    method: Method,
) -> Descent:
    objective = _objective(spec, params, targets, weights, unit)
    return begin(objective, start / unit, method=method)


@partial(compiled, settings=FAST, static_argnames=("spec", "method"), donate_argnames="descent")
def _advance(
    descent: Descent,
    params: Params,
    targets: Targets,
    weights: Weights,
    unit: Array,
    steps: ArrayLike,
    learning_rate: ArrayLike,
    *,
    spec: Spec,
    method: Method,
) -> Descent:
    objective = _objective(spec, params, targets, weights, unit)
    return descend(descent, objective, steps, method=method, learning_rate=learning_rate)
