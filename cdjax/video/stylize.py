"""Style transfer of films: frames in, stylised frames out, by one program for all of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike
from numpy.typing import NDArray

from cdjax.model import Model
from cdjax.networks.spec import Spec
from cdjax.ops.jit import EXACT, compiled
from cdjax.transfer.color import PreserveColor, check_preserve_color, with_chroma_of
from cdjax.transfer.pixels import Pixels, as_pixels, compute_dtype, pad, to_float
from cdjax.transfer.regions import (
    Regions,
    in_memory,
    map_regions,
    over_content,
    padded,
    region_moments,
    regions_of,
    weights_at,
)
from cdjax.transfer.stages import run_cascade
from cdjax.transfer.statistics import Moments
from cdjax.transfer.stylize import Style, check_style, encode_style
from cdjax.transfer.transforms import TRANSFORMS, stage_alpha, with_transform
from cdjax.video.smoothing import FrameState, initial_state, smoothed_frame, smoothed_moments


@dataclass(frozen=True)
class FrameSettings:
    """How every frame is stylised; the attributes are arguments of `stylize_frames`."""

    alpha: float = 1.0
    transform: str | None = None
    regularization: float = 0.0
    preserve_color: PreserveColor | None = None
    smoothing: int = 8
    dtype: DTypeLike = jnp.float32


def stylize_frames(
    model: Model,
    frames: Iterable[ArrayLike],
    style: ArrayLike | Style,
    *,
    alpha: float = 1.0,
    transform: str | None = None,
    regularization: float = 0.0,
    preserve_color: PreserveColor | None = None,
    smoothing: int = 8,
    mask: ArrayLike | Iterable[ArrayLike] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Iterator[NDArray[np.uint8]]:
    """Repaints the frames of a film one after the other, without flicker where nothing moves.

    Frames are averaged over time where nothing moves, and so are the statistics of their features,
    exponentially; a cut starts anew. All frames run through one compiled program.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        frames: (H, W, 3) each, RGB, uint8 or floating in [0, 1], all of one size and dtype, in
            order. They are taken when they are needed, one ahead of the result.
        style: an image like a frame, of any size, or the result of `cdjax.encode_style`.
        alpha: as for `cdjax.stylize`.
        transform: as for `cdjax.stylize`.
        regularization: as for `cdjax.stylize`.
        preserve_color: as for `cdjax.stylize`; `"match"` takes the colours of the first frame.
        smoothing: number of frames over which is averaged, from 1: every frame by itself.
        mask: (H, W), where the style is used, as for `cdjax.stylize`, or an iterable of one a
            frame. Where it is 0, the frames remain.
        dtype: float32 or bfloat16, the networks' compute dtype.

    Yields:
        (H, W, 3), uint8, for every frame.

    Raises:
        TypeError: if the pixels are neither uint8 nor floating.
        ValueError: if the frames differ in size, there are fewer masks, smoothing is below 1, and
            as for `cdjax.stylize`.
    """
    settings = FrameSettings(alpha, transform, regularization, preserve_color, smoothing, dtype)
    for result, _ in frames_and_states(model, _with_masks(frames, mask), style, settings):
        yield result


def _with_masks(frames: Iterable[ArrayLike], mask: Any) -> Iterator[tuple[ArrayLike, Any]]:
    """The frames, each with its mask or with the only one."""
    if mask is None or getattr(mask, "ndim", 0) == 2:
        mask = repeat(mask)
    masks = iter(mask)
    for number, frame in enumerate(frames):
        try:
            yield frame, next(masks)
        except StopIteration:
            raise ValueError(f"mask: {number} masks for more frames; give one a frame") from None


def frames_and_states(
    model: Model,
    frames: Iterable[tuple[ArrayLike, ArrayLike | None]],
    style: ArrayLike | Style,
    settings: FrameSettings,
    state: FrameState | None = None,
) -> Iterator[tuple[NDArray[np.uint8], FrameState]]:
    """Does what `stylize_frames` does, and yields the state behind every frame with the result.

    Every frame comes with its mask, or None. With the state behind a frame as `state`, the frames
    that follow have the same results, bit for bit, as in one go.
    """
    model = with_transform(model, settings.transform, settings.regularization)
    if settings.smoothing < 1:
        raise ValueError(f"smoothing is over at least 1 frame, not {settings.smoothing}")
    dtype = compute_dtype(settings.dtype)
    check_preserve_color(settings.preserve_color, encoded=isinstance(style, Style))
    luminance = settings.preserve_color == "luminance"
    given = (settings.alpha, settings.regularization, settings.smoothing)
    numbers = tuple(jnp.asarray(number, jnp.float32) for number in given)
    waiting: tuple[Array, FrameState] | None = None
    mask: Any = None
    regions: Regions | None = None
    for frame, of_frame in frames:
        pixels = as_pixels(frame, "frame")
        if of_frame is not mask:
            mask, regions = of_frame, in_memory(regions_of([of_frame], None, pixels.shape))
        if not isinstance(style, Style):
            match = settings.preserve_color == "match"
            colors: Any = {"colors_of": pixels, "colors_mask": mask} if match else {}
            style = encode_style(model, style, dtype=dtype, **colors)
        check_style(model.config, style, (1, 1, 3))
        if state is None:
            state = initial_state(model.config, (pixels.shape[-3], pixels.shape[-2]))
        if pixels.shape != state.content.shape:
            expected = state.content.shape
            raise ValueError(f"all frames must be {expected} like the first, not {pixels.shape}")
        shown = pixels, regions
        result, state = _stylize_frame(
            model, shown, state, style, numbers, dtype=dtype, luminance=luminance
        )
        # The next frame is computed while this one is in use.
        if waiting is not None:
            yield np.asarray(waiting[0]), waiting[1]
        waiting = result, state
    if waiting is not None:
        yield np.asarray(waiting[0]), waiting[1]


@partial(compiled, settings=EXACT, static_argnames=("dtype", "luminance"))
def _stylize_frame(
    model: Model,
    shown: tuple[Pixels, Regions | None],
    state: FrameState,
    style: Style,
    numbers: tuple[Array, ...],
    *,
    dtype: jnp.dtype,
    luminance: bool,
) -> tuple[Array, FrameState]:
    """The frame with its mask, stylised, uint8, and the state behind it."""
    config, specs = model.config, model.config.specs
    alpha, regularization, smoothing = numbers
    frame, regions = shown
    inside = padded(regions, specs)
    state, weight = smoothed_frame(to_float(frame), state, smoothing)
    before = dict(zip(specs, state.moments, strict=True))
    of_style = dict(zip(specs, style.moments, strict=True))
    found: dict[Spec, Moments] = {}

    def transform(spec: Spec, features: Array) -> Array:
        share = stage_alpha(alpha, config.strength_of(spec.stage))
        weights = weights_at(inside, spec.stride)
        new = jax.tree.map(lambda leaf: leaf[0], region_moments(features, weights)[0])
        found[spec] = smoothed_moments(new, before[spec], weight)
        move = TRANSFORMS[config.transform_of(spec.stage)]
        moved = move(found[spec], of_style[spec], share, regularization)
        return map_regions(features, [moved], weights)

    images = pad(state.content[None], specs)
    images = run_cascade(model.params, specs, images, transform, dtype=dtype)
    height, width = frame.shape[:2]
    image = jnp.clip(images[0, :height, :width], 0, 1)
    if luminance:
        image = with_chroma_of(state.content, image)
    image = over_content(image, to_float(frame), regions)
    levels = jnp.rint(image * 255).astype(jnp.uint8)
    return levels, replace(state, moments=tuple(found[spec] for spec in specs))
