"""Optimisation-based style transfer: the picture is found by descending the losses of its features.

Gatys et al. 2016, with any encoder in VGG's place, such as a compressed one (paper, section 4.3).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from cdjax.compilation import FAST, compiled
from cdjax.descent import Descent, Losses, Method, begin, descend
from cdjax.gatys_losses import Targets, Weights, find_targets, image_losses
from cdjax.model import Model, Params
from cdjax.spec import Spec
from cdjax.stylization import LEVEL, checked

CHUNK = 10
"""Steps between two moments at which the host sees the losses."""

_FIRST_CHANGE = 0.02
"""Root mean square, in [0, 1], of the first change that L-BFGS tries."""


class OptimizationError(ValueError):
    """Settings, images or a model that do not fit each other; the message is one line."""


@dataclass(frozen=True)
class Optimization:
    """How a picture is optimised.

    Attributes:
        content_layers: relu{b}_{i} whose features are to stay the content's.
        style_layers: those whose Gram matrices are to become the style's.
        content_shares: of the content layers in `content_weight`; None: all alike.
        style_shares: likewise of the style layers.
        content_weight: what the content loss counts.
        style_weight: what the style loss counts.
        tv_weight: what the total variation counts, which smoothes.
        optimizer: `"lbfgs"` or `"adam"`.
        learning_rate: Adam's, of pixels in [0, 1]; L-BFGS needs none.
        steps: at every scale.
        scales: how many sizes, each half of the next, up to the content's. Those too small for
            the encoder are left out.
        start: of the coarsest scale, the content or noise.
        seed: of the noise.

    Raises:
        OptimizationError: if one of them makes no sense.
    """

    content_layers: tuple[str, ...] = ("relu4_2",)
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    content_shares: tuple[float, ...] | None = None
    style_shares: tuple[float, ...] | None = None
    content_weight: float = 1.0
    style_weight: float = 100.0
    tv_weight: float = 0.0
    optimizer: Method = "lbfgs"
    learning_rate: float = 0.02
    steps: int = 100
    scales: int = 3
    start: Literal["content", "noise"] = "content"
    seed: int = 0

    def __post_init__(self) -> None:
        for role in ("content", "style"):
            layers, shares = getattr(self, f"{role}_layers"), getattr(self, f"{role}_shares")
            if len(set(layers)) < len(layers):
                raise OptimizationError(f"a {role} layer is given twice")
            if shares is not None and len(shares) != len(layers):
                raise OptimizationError(f"{len(shares)} shares of {len(layers)} {role} layers")
            if shares and not (_weighs(*shares) and any(shares)):
                raise OptimizationError(f"shares of {role} layers must be 0 or more, and not all 0")
        if not _weighs(self.content_weight, self.style_weight, self.tv_weight):
            raise OptimizationError("weights of losses must be 0 or more")
        if not (self.content_layers and self.content_weight) and not (
            self.style_layers and self.style_weight
        ):
            raise OptimizationError("neither a content nor a style layer counts anything")
        if self.steps < 1 or self.scales < 1:
            raise OptimizationError("there must be a step and a scale at least")
        if self.optimizer not in ("lbfgs", "adam"):
            raise OptimizationError(f"optimizer must be lbfgs or adam, not {self.optimizer}")
        if self.start not in ("content", "noise"):
            raise OptimizationError(f"start must be content or noise, not {self.start}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise OptimizationError("the learning rate must be above 0")


def _weighs(*weights: float) -> bool:
    return all(weight >= 0 and math.isfinite(weight) for weight in weights)


@dataclass(frozen=True)
class Progress:
    """How far an optimisation is.

    Attributes:
        scale: at which it is, 0 the coarsest.
        scales: how many there are.
        size: height and width there.
        step: steps made there.
        losses: weighted: `"content"`, `"style"`, `"total_variation"`, and their sum `"total"`.
        picture: hands out the picture of this moment, (H, W, 3) float32 in [0, 1].
    """

    scale: int
    scales: int
    size: tuple[int, int]
    step: int
    losses: dict[str, float]
    picture: Callable[[], Array]


def optimize_image(
    model: Model,
    content: ArrayLike,
    style: ArrayLike,
    *,
    settings: Optimization | None = None,
    note: Callable[[Progress], None] | None = None,
) -> Array:
    """Repaints a content image in a style by optimising its pixels (Gatys et al. 2016).

    The losses (`cdjax.gatys_losses`) are those of the model's deepest encoder, whatever else is in
    the model, and relative to what they compare with, so that weights mean the same for the
    normalised VGG-19, for ImageNet's networks as they are and for a student. The pixels are free
    while they are optimised; a result is clipped to [0, 1].

    Steps run in compiled loops of `CHUNK`; the host sees the losses after each. Each size is
    compiled once, whatever the weights.

    Args:
        model: any, a lone encoder (method `"encoder"`) too.
        content: (H, W, 3), RGB, uint8 or floating in [0, 1], sides at least twice the encoder's
            stride (32 pixels at stage 5).
        style: likewise, of any size; it is scaled along with the content, and enlarged where the
            encoder could not read it.
        settings: the layers, the weights and the method; None: the defaults.
        note: is told of every scale's start and of every chunk.

    Returns:
        (H, W, 3), float32 in [0, 1], of the content's size. The same for the same arguments on the
        same machine.

    Raises:
        OptimizationError: if the encoder lacks a layer, the content is too small, or the losses
            cease to be finite.
        TypeError: if the pixels are neither uint8 nor floating.
        ValueError: if an image is not (H, W, 3).
    """
    for progress in optimization(model, content, style, settings=settings or Optimization()):
        if note:
            note(progress)
    return progress.picture()


def optimization(
    model: Model, content: ArrayLike, style: ArrayLike, *, settings: Optimization
) -> Iterator[Progress]:
    """The course of `optimize_image`: its progress at every scale's start and after every chunk.

    The last picture is the result. See there for arguments and errors.
    """
    spec = model.config.specs[0]
    params = model.params[f"stage{spec.stage}"]["encoder"]
    check_layers(spec, settings)
    whole, painting = _pixels(content, "content"), _pixels(style, "style")
    sizes = scale_sizes(whole.shape[:2], spec, scales=settings.scales)
    start = None
    for scale, size in enumerate(sizes):
        target = _resized(whole, size)
        shrunk = _size_of_style(painting.shape[:2], size[0] / whole.shape[0], spec)
        targets = find_targets(
            spec,
            params,
            target,
            _resized(painting, shrunk),
            content_layers=settings.content_layers,
            style_layers=settings.style_layers,
        )
        if start is not None:
            start = _resized(start, size)
        elif settings.start == "noise":
            start = jax.random.uniform(jax.random.key(settings.seed), (*size, 3))
        else:
            start = target
        # L-BFGS begins with a change of norm 1, of whatever it is that varies.
        unit = _FIRST_CHANGE * math.sqrt(start.size) if settings.optimizer == "lbfgs" else 1.0
        for step, descent in _descents(spec, params, targets, start, settings, unit):
            losses = {name: float(loss) for name, loss in descent.point.losses.items()}
            losses["total"] = sum(losses.values())
            if not math.isfinite(losses["total"]):
                raise OptimizationError(
                    "the losses are not finite any more; try a smaller learning rate, or L-BFGS"
                )
            start = unit * descent.point.variable
            yield Progress(scale, len(sizes), size, step, losses, partial(jnp.clip, start, 0, 1))


def check_layers(spec: Spec, settings: Optimization) -> None:
    """Refuses, as `OptimizationError`, settings that name layers which an encoder lacks."""
    for layer in (*settings.content_layers, *settings.style_layers):
        if layer not in spec.layers:
            raise OptimizationError(
                f"this encoder has no layer {layer}; it has {', '.join(spec.layers)}"
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
    pixels = checked(image, name)
    if pixels.ndim != 3:
        raise ValueError(f"{name} must be one image (H, W, 3), not {pixels.shape}")
    floating = jnp.asarray(pixels, jnp.float32)
    return floating * LEVEL if pixels.dtype == jnp.uint8 else floating


@partial(jax.jit, static_argnames="size")
def _resized(image: Array, size: tuple[int, int]) -> Array:
    if image.shape[:2] == size:
        return image
    return jax.image.resize(image, (*size, 3), "cubic")


def _weights(settings: Optimization) -> Weights:
    def each(
        weight: float, layers: tuple[str, ...], shares: tuple[float, ...] | None
    ) -> dict[str, Array]:
        shares = shares or (1.0,) * len(layers)
        parts = zip(layers, shares, strict=True)
        return {name: jnp.float32(weight * share / sum(shares)) for name, share in parts}

    return Weights(
        each(settings.content_weight, settings.content_layers, settings.content_shares),
        each(settings.style_weight, settings.style_layers, settings.style_shares),
        jnp.float32(settings.tv_weight),
    )


def _descents(
    spec: Spec,
    params: Params,
    targets: Targets,
    start: Array,
    settings: Optimization,
    unit: float,
) -> Iterator[tuple[int, Descent]]:
    """Steps made at one scale, and the descent, which the next run takes over."""
    method = settings.optimizer
    given = (params, targets, _weights(settings), jnp.float32(unit))
    descent = _begin(start, *given, spec=spec, method=method)
    yield 0, descent
    for done in range(0, settings.steps, CHUNK):
        steps = min(CHUNK, settings.steps - done)
        descent = _advance(descent, *given, steps, settings.learning_rate, spec=spec, method=method)
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
