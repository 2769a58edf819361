"""Style transfer of films: frames in, stylised frames out, by one program for all of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

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
from cdjax.transfer.stages import run_cascade
from cdjax.transfer.statistics import Moments, moments
from cdjax.transfer.stylize import Style, check_style, check_transform, encode_style
from cdjax.transfer.transforms import TRANSFORMS, stage_alpha
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
        dtype: float32 or bfloat16, the networks' compute dtype.

    Yields:
        (H, W, 3), uint8, for every frame.

    Raises:
        TypeError: if the pixels are neither uint8 nor floating.
        ValueError: if the frames differ in size, smoothing is below 1, and as for
            `cdjax.stylize`.
    """
    settings = FrameSettings(alpha, transform, regularization, preserve_color, smoothing, dtype)
    for result, _ in frames_and_states(model, frames, style, settings):
        yield result


def frames_and_states(
    model: Model,
    frames: Iterable[ArrayLike],
    style: ArrayLike | Style,
    settings: FrameSettings,
    state: FrameState | None = None,
) -> Iterator[tuple[NDArray[np.uint8], FrameState]]:
    """Does what `stylize_frames` does, and yields the state behind every frame with the result.

    With the state behind a frame as `state`, the frames that follow have the same results, bit for
    bit, as in one go.
    """
    name = check_transform(model, settings.transform, settings.regularization)
    if settings.smoothing < 1:
        raise ValueError(f"smoothing is over at least 1 frame, not {settings.smoothing}")
    dtype = compute_dtype(settings.dtype)
    check_preserve_color(settings.preserve_color, encoded=isinstance(style, Style))
    luminance = settings.preserve_color == "luminance"
    given = (settings.alpha, settings.regularization, settings.smoothing)
    numbers = tuple(jnp.asarray(number, jnp.float32) for number in given)
    waiting: tuple[Array, FrameState] | None = None
    for frame in frames:
        pixels = as_pixels(frame, "frame")
        if not isinstance(style, Style):
            colors_of = pixels if settings.preserve_color == "match" else None
            style = encode_style(model, style, dtype=dtype, colors_of=colors_of)
        check_style(model.config, style, (1, 1, 3))
        if state is None:
            state = initial_state(model.config, (pixels.shape[-3], pixels.shape[-2]))
        if pixels.shape != state.content.shape:
            expected = state.content.shape
            raise ValueError(f"all frames must be {expected} like the first, not {pixels.shape}")
        result, state = _stylize_frame(
            model, pixels, state, style, numbers, name=name, dtype=dtype, luminance=luminance
        )
        # The next frame is computed while this one is in use.
        if waiting is not None:
            yield np.asarray(waiting[0]), waiting[1]
        waiting = result, state
    if waiting is not None:
        yield np.asarray(waiting[0]), waiting[1]


@partial(compiled, settings=EXACT, static_argnames=("name", "dtype", "luminance"))
def _stylize_frame(
    model: Model,
    frame: Pixels,
    state: FrameState,
    style: Style,
    numbers: tuple[Array, ...],
    *,
    name: str,
    dtype: jnp.dtype,
    luminance: bool,
) -> tuple[Array, FrameState]:
    """The stylised frame, uint8, and the state behind it."""
    specs, (alpha, regularization, smoothing) = model.config.specs, numbers
    state, weight = smoothed_frame(to_float(frame), state, smoothing)
    before = dict(zip(specs, state.moments, strict=True))
    of_style = dict(zip(specs, style.moments, strict=True))
    found: dict[Spec, Moments] = {}

    def transform(spec: Spec, features: Array) -> Array:
        share = stage_alpha(alpha, model.config.strength_of(spec.stage))
        new = jax.tree.map(lambda leaf: leaf[0], moments(features))
        found[spec] = smoothed_moments(new, before[spec], weight)
        return TRANSFORMS[name](found[spec], of_style[spec], share, regularization)(features)

    images = pad(state.content[None], specs)
    images = run_cascade(model.params, specs, images, transform, dtype=dtype)
    height, width = frame.shape[:2]
    image = jnp.clip(images[0, :height, :width], 0, 1)
    if luminance:
        image = with_chroma_of(state.content, image)
    levels = jnp.rint(image * 255).astype(jnp.uint8)
    return levels, replace(state, moments=tuple(found[spec] for spec in specs))
