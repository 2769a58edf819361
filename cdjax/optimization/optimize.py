"""Style transfer by optimising the pixels of the result (Gatys et al. 2016).

Any encoder can take the place of VGG, such as a compressed one (paper, section 4.3).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from cdjax.errors import OptimizationError
from cdjax.model import Model, Params
from cdjax.networks.spec import Spec
from cdjax.ops.jit import FAST, compiled
from cdjax.optimization.config import Optimization, weights_of
from cdjax.optimization.losses import Targets, Weights, find_targets, image_losses
from cdjax.optimization.minimize import Descent, Losses, Method, begin, descend
from cdjax.progress import OnProgress, Progress, ignore_progress
from cdjax.transfer.color import color_map, color_moments, with_chroma_of
from cdjax.transfer.pixels import as_pixels, to_float
from cdjax.transfer.regions import Regions, in_memory, visible_part
from cdjax.transfer.stylize import encode_style, style_regions, stylize

CHUNK = 10
"""Steps in one run of the compiled loop, after which the host reads the losses."""

_FIRST_CHANGE, _NEAR_CHANGE = 0.02, 0.003
"""Root mean square, in [0, 1], of the first change that L-BFGS tries; near the result it is less.
"""


def optimize_image(
    model: Model,
    content: ArrayLike,
    style: ArrayLike,
    *,
    settings: Optimization | None = None,
    finish: Model | None = None,
    opacity: ArrayLike | None = None,
    style_mask: ArrayLike | None = None,
    on_progress: OnProgress = ignore_progress,
    on_preview: Callable[[Array], None] | None = None,
    preview_every: int = 50,
) -> Array:
    """Stylises a content image by optimising its pixels (Gatys et al. 2016).

    The losses (`cdjax.optimization.losses`) are those of the model's deepest encoder, relative to
    the targets, so the same weights suit the normalised VGG-19, networks as trained on ImageNet,
    and students. Pixels are not bounded while they are optimised; the result is clipped to [0, 1].

    A student does not distinguish everything that its teacher does. So the last steps at every
    scale can be made with another model, such as the teacher. With the start `"stylized"` the
    optimisation begins at the result of `cdjax.stylize`, which is near already.

    Each size is compiled once for each encoder; weights are not compiled in.

    Args:
        model: any model, also a lone encoder (method `"encoder"`).
        content: (H, W, 3), RGB, uint8 or floating in [0, 1]; sides at least twice the encoder's
            stride (32 pixels at stage 5).
        style: the same, of any size; scaled as the content, but not to sides that are too small.
        settings: layers, weights and method; None for the defaults.
        finish: the model of the last `settings.finish_steps`, with the same layers.
        opacity: how much pixels of the content and of the result count, as for `cdjax.stylize`.
        style_mask: how much pixels of the style count, as `mask` of `cdjax.encode_style`.
        on_progress: called when an encoder starts at a scale, and after every `CHUNK` steps. The
            task is the size, such as `"512x384"` or, with `finish`, `"512x384, finishing"`; done
            and total are steps of all scales; the metrics are the weighted losses `"content"`,
            `"style"` and `"total_variation"`, and their sum, `"total"`.
        on_preview: called with the picture, (H, W, 3) float32 in [0, 1], of the scale's size.
        preview_every: steps between two previews; rounded up to chunks.

    Returns:
        (H, W, 3), float32 in [0, 1], of the content's size; reproducible on the same machine.

    Raises:
        OptimizationError: if an encoder lacks a layer, the content is too small, the losses become
            infinite or NaN, or the settings do not fit the models.
        TypeError: if the pixels are neither uint8 nor floating.
        ValueError: if an image is not (H, W, 3), or its mask does not fit.
    """
    settings = settings or Optimization()
    previewed = 0
    images = (content, style), (opacity, style_mask)
    for progress, picture in _course(model, *images, settings, finish):
        on_progress(progress)
        due = progress.done - previewed >= preview_every and progress.done != progress.total
        if on_preview is not None and due:
            previewed = progress.done
            on_preview(_shown(picture, content, settings))
    return _shown(picture, content, settings)


def _shown(picture: Array, content: ArrayLike, settings: Optimization) -> Array:
    """A picture that is being optimised, in [0, 1], in the content's chroma if that is kept."""
    if settings.preserve_color != "luminance":
        return jnp.clip(picture, 0, 1)
    return with_chroma_of(_resized(_pixels(content, "content"), picture.shape[:2]), picture)


def _course(
    model: Model,
    images: tuple[ArrayLike, ArrayLike],
    masks: tuple[ArrayLike | None, ArrayLike | None],
    settings: Optimization,
    finish: Model | None,
) -> Iterator[tuple[Progress, Array]]:
    """Progress and picture at every start of an encoder and after every chunk."""
    parts = _parts(model, finish, settings)
    deepest = max((spec for spec, *_ in parts), key=lambda spec: spec.stride)
    whole, style = (_pixels(*each) for each in zip(images, ("content", "style"), strict=True))
    painting = style
    visible = (
        _values(visible_part(masks[0], whole.shape, "opacity")),
        _values(style_regions(masks[1], style.shape)),
    )
    if settings.preserve_color == "match":
        seen, counted = visible
        painting = color_map(color_moments(painting, counted), color_moments(whole, seen))(painting)
    sizes = scale_sizes(whole.shape[:2], deepest, scales=settings.scale_count)
    start = None
    for scale, size in enumerate(sizes):
        target = _resized(whole, size)
        height, width, _ = painting.shape
        factor = max(size[0] / whole.shape[0], 2 * deepest.stride / min(height, width))
        painted = _resized(painting, (round(height * factor), round(width * factor)))
        if start is not None:
            start = _resized(start, size)
        elif settings.start == "noise":
            start = jax.random.uniform(jax.random.key(settings.seed), (*size, 3))
        elif settings.start == "stylized":
            # At full size, because small pictures are stylised less well.
            colors_of = whole if settings.preserve_color == "match" else None
            encoded = encode_style(
                model, style, mask=masks[1], colors_of=colors_of, colors_mask=masks[0]
            )
            start = _resized(stylize(model, whole, encoded, opacity=masks[0]), size)
        else:
            start = target
        made = 0
        for spec, params, steps, suffix in parts:
            near = made > 0 or (scale == 0 and settings.start == "stylized")
            # The first change that L-BFGS tries has norm 1, in the units of the variable.
            change = (_NEAR_CHANGE if near else _FIRST_CHANGE) * math.sqrt(start.size)
            unit = change if settings.optimizer == "lbfgs" else 1.0
            layers = settings.content_layers, settings.style_layers
            targets = find_targets(spec, params, target, painted, layers, visible)
            problem = _Problem(spec, params, targets, weights_of(settings), jnp.float32(unit))
            for step, descent in _descents(problem, start, settings, steps):
                start = unit * descent.point.variable
                done, total = settings.steps * scale + made + step, settings.steps * len(sizes)
                task = f"{size[1]}x{size[0]}{suffix}"
                yield Progress(task, done, total, _finite_losses(descent)), start
            made += steps


def _parts(
    model: Model, finish: Model | None, settings: Optimization
) -> list[tuple[Spec, Params, int, str]]:
    """Each encoder, the steps made with it at every scale, and the end of its task's name."""
    last = settings.finish_steps
    if (finish is not None) != (last > 0):
        raise OptimizationError(
            "finish_steps need a model to finish with"
            if last
            else "a model to finish with needs finish_steps, a part of the steps at every scale"
        )
    if settings.start == "stylized" and model.config.method == "encoder":
        raise OptimizationError(
            "a stylized start needs a model with decoders, such as wct-16x; this one has none"
        )
    parts = []
    for each, steps, suffix in ((model, settings.steps - last, ""), (finish, last, ", finishing")):
        if each is None:
            continue
        spec = each.config.specs[0]
        for layer in (*settings.content_layers, *settings.style_layers):
            if layer not in spec.layers:
                raise OptimizationError(
                    f"this encoder has no layer {layer}; choose content and style layers from "
                    f"{', '.join(spec.layers)}"
                )
        parts.append((spec, each.params[f"stage{spec.stage}"]["encoder"], steps, suffix))
    return [part for part in parts if part[2]]


def _finite_losses(descent: Descent) -> dict[str, float]:
    losses = {name: float(loss) for name, loss in descent.point.losses.items()}
    losses["total"] = sum(losses.values())
    if not math.isfinite(losses["total"]):
        raise OptimizationError(
            "the losses are no longer finite; use a smaller learning rate, or L-BFGS"
        )
    return losses


def scale_sizes(size: Sequence[int], spec: Spec, *, scales: int) -> list[tuple[int, int]]:
    """Height and width at every scale, coarsest first, ending with `size`.

    Scales that are too small for the encoder are left out.

    Raises:
        OptimizationError: if `size` itself is too small for the encoder.
    """
    height, width = size
    shortest = 2 * spec.stride
    if min(height, width) < shortest:
        raise OptimizationError(
            f"the content has {width}x{height} pixels; this encoder needs at least {shortest} on "
            "each side"
        )
    sizes = [(-(-height // 2**k), -(-width // 2**k)) for k in reversed(range(scales))]
    return [size for size in sizes if min(size) >= shortest]


def _pixels(image: ArrayLike, name: str) -> Array:
    pixels = as_pixels(image, name)
    if pixels.ndim != 3:
        raise ValueError(f"{name} must be one image (H, W, 3), not {pixels.shape}")
    return to_float(pixels)


def _values(regions: Regions | None) -> Array | None:
    """How much pixels count, (H, W), float32; None if all count 1."""
    found = in_memory(regions)
    return None if found is None or found.opacity is None else to_float(found.opacity)


@partial(jax.jit, static_argnames="size")
def _resized(image: Array, size: tuple[int, int]) -> Array:
    if image.shape[:2] == size:
        return image
    return jax.image.resize(image, (*size, 3), "cubic")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Problem:
    """The losses as a function of the variable, which is the picture over `unit`; a pytree."""

    spec: Spec = field(metadata={"static": True})
    params: Params
    targets: Targets
    weights: Weights
    unit: Array

    def __call__(self, variable: Array) -> Losses:
        picture = self.unit * variable
        return image_losses(self.spec, self.params, self.targets, self.weights, picture)


@partial(compiled, settings=FAST, static_argnames="method")
def _begin(problem: _Problem, start: Array, *, method: Method) -> Descent:
    return begin(problem, start / problem.unit, method=method)


_advance = compiled(descend, settings=FAST, static_argnames="method", donate_argnames="descent")


def _descents(
    problem: _Problem, start: Array, settings: Optimization, count: int
) -> Iterator[tuple[int, Descent]]:
    """Steps made at one scale, and the descent after them, which the next iteration donates."""
    method, learning_rate = settings.optimizer, settings.learning_rate
    descent = _begin(problem, start, method=method)
    yield 0, descent
    for done in range(0, count, CHUNK):
        steps = min(CHUNK, count - done)
        descent = _advance(descent, problem, steps, method=method, learning_rate=learning_rate)
        yield done + steps, descent
