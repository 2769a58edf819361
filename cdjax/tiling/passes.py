"""A stage of the cascade by windows: a pass that adds up statistics, and one that decodes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from numpy.typing import NDArray

from cdjax.model import Params
from cdjax.networks.decoder import Decoder
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.ops.jit import EXACT, compiled
from cdjax.tiling.buffers import Raster, Scratch, cut, in_memory
from cdjax.tiling.executor import flow
from cdjax.tiling.plan import Span, Window, choose_sides, plan_windows
from cdjax.transfer.statistics import Moments, sums64
from cdjax.transfer.stylize import LEVEL
from cdjax.transfer.transforms import Affine

_KEPT_PER_PIXEL = 4
"""Features of at most so many numbers an image pixel are kept between the passes. Those of
shallower stages are more, and cheaper to compute again."""

_Core = Array | NDArray[np.int32]

Note = Callable[[int], None]
"""Is told how many of the image's pixels a pass has just finished."""


def keeps_features(spec: Spec) -> bool:
    """Whether a stage's features are kept between its passes."""
    return spec.widths[-1] <= _KEPT_PER_PIXEL * spec.stride**2


@partial(compiled, settings=EXACT, static_argnames=("spec", "dtype", "keep"))
def _encode(
    params: Params, image: Array, core: _Core, *, spec: Spec, dtype: DTypeLike, keep: bool
) -> tuple[Array | None, tuple[Array, ...]]:
    features = apply(Encoder(spec, dtype, in_bands=True), params, _as_float(image)[None])[0][0]
    rows, columns = (jnp.arange(size) for size in features.shape[:2])
    inside = ((rows >= core[0]) & (rows < core[1]))[:, None] & (
        (columns >= core[2]) & (columns < core[3])
    )
    return features if keep else None, sums64(features, inside)


@partial(compiled, settings=EXACT, static_argnames=("spec", "dtype", "levels"))
def _decode(
    params: Params,
    features: Array,
    transform: Affine,
    *,
    spec: Spec,
    dtype: DTypeLike,
    levels: bool,
) -> Array:
    image = apply(Decoder(spec, dtype, in_bands=True), params, transform(features)[None])[0]
    return jnp.rint(jnp.clip(image, 0, 1) * 255).astype(jnp.uint8) if levels else image


@partial(compiled, settings=EXACT, static_argnames=("spec", "dtype", "levels"))
def _recode(
    encoder: Params,
    decoder: Params,
    image: Array,
    transform: Affine,
    *,
    spec: Spec,
    dtype: DTypeLike,
    levels: bool,
) -> Array:
    features = apply(Encoder(spec, dtype, in_bands=True), encoder, _as_float(image)[None])[0][0]
    return _decode(decoder, features, transform, spec=spec, dtype=dtype, levels=levels)


def _as_float(image: Array) -> Array:
    return image.astype(jnp.float32) * (LEVEL if image.dtype == jnp.uint8 else 1)


def _on_devices(tree: Any) -> dict[jax.Device, Any]:
    return {device: jax.device_put(tree, device) for device in jax.local_devices()}


def _region(window: Window, scale: int) -> tuple[tuple[int, int], tuple[int, int]]:
    def along(span: Span) -> tuple[int, int]:
        return span.start // scale, span.end // scale

    return along(window.rows), along(window.columns)


def _paste(target: NDArray[Any], window: Window, part: NDArray[Any], scale: int) -> None:
    """The core of a window's result into the whole, which may end before the window does."""
    region = []
    for span, length in zip((window.rows, window.columns), target.shape, strict=False):
        begin, end = (min(edge // scale, length) for edge in span.core)
        region.append((begin, end, span.start // scale))
    (top, bottom, row), (left, right, column) = region
    target[top:bottom, left:right] = part[top - row : bottom - row, left - column : right - column]


def encode_pass(
    params: Params,
    image: Raster,
    size: tuple[int, int],
    *,
    spec: Spec,
    memory: int,
    dtype: Any,
    scratch: Scratch | None,
    note: Note,
) -> tuple[Moments, NDArray[Any] | None]:
    """The statistics of all features of an image, and the features themselves if they are kept.

    Args:
        params: of the encoder.
        image: float32 in [0, 1], or uint8.
        size: height and width, in whole positions of the deepest features; the image is continued
            by reflection.
        spec: of the stage.
        memory: bytes on the device.
        dtype: the networks' compute dtype.
        scratch: where features are kept; None if they are not to be.
        note: is told of progress.

    Returns:
        Their statistics, and the features, (H / stride, W / stride, C), or None.

    Raises:
        ValueError: if the memory is too small for any window.
    """
    stride = spec.stride
    keep = scratch is not None and keeps_features(spec)
    kept: NDArray[Any] | None = None
    if keep and scratch is not None:
        shape = (size[0] // stride, size[1] // stride, spec.widths[-1])
        kept = scratch.empty(shape, dtype, in_memory(image))
    copies = _on_devices(params)

    def read(window: Window) -> NDArray[Any]:
        return cut(image, *_region(window, 1))

    def run(window: Window, piece: Array) -> tuple[Array | None, tuple[Array, ...]]:
        spans = (window.rows, window.columns)
        core = [(edge - span.start) // stride for span in spans for edge in span.core]
        here = copies[piece.device]
        return _encode(here, piece, np.array(core, np.int32), spec=spec, dtype=dtype, keep=keep)

    def write(window: Window, features: NDArray[Any] | None) -> None:
        if kept is not None and features is not None:
            _paste(kept, window, features, stride)
        _finished(window, size, scratch, note)

    sides = choose_sides(size, spec, spec.halo, memory)
    total, products = flow(plan_windows(size, sides, spec.halo), read, run, write)
    count = size[0] * size[1] // stride**2
    mean = total / count
    scatter = products - total[:, None] * mean
    return Moments(*(jnp.asarray(np.float32(part)) for part in (count, mean, scatter))), kept


def decode_pass(
    networks: dict[str, Params],
    image: Raster,
    features: NDArray[Any] | None,
    transform: Affine,
    target: NDArray[Any],
    size: tuple[int, int],
    *,
    spec: Spec,
    memory: int,
    dtype: Any,
    scratch: Scratch,
    note: Note,
) -> None:
    """Transforms and decodes an image's features into `target`.

    Args:
        networks: the stage's encoder and decoder.
        image: as for `encode_pass`; read only if the features are not there.
        features: what `encode_pass` kept.
        transform: of the features.
        target: (H, W, 3), float32, or uint8 for grey levels; the size, or less of it.
        size: as for `encode_pass`.
        spec: of the stage.
        memory: bytes on the device.
        dtype: the networks' compute dtype.
        scratch: which the image, the features and the target come from.
        note: is told of progress.
    """
    copies = _on_devices((networks["encoder"], networks["decoder"], transform))
    static: Any = {"spec": spec, "dtype": dtype, "levels": target.dtype == np.uint8}

    def read(window: Window) -> NDArray[Any]:
        if features is None:
            return cut(image, *_region(window, 1))
        return cut(features, *_region(window, spec.stride))

    def run(window: Window, piece: Array) -> tuple[Array, tuple[Array, ...]]:
        encoder, decoder, affine = copies[piece.device]
        if features is None:
            return _recode(encoder, decoder, piece, affine, **static), ()
        return _decode(decoder, piece, affine, **static), ()

    def write(window: Window, part: NDArray[Any] | None) -> None:
        assert part is not None
        _paste(target, window, part, 1)
        _finished(window, size, scratch, note)

    # What is encoded again is cut twice: once for the features, once for the decoder.
    halo = spec.halo if features is not None else 2 * spec.halo
    sides = choose_sides(size, spec, halo, memory)
    flow(plan_windows(size, sides, halo), read, run, write)


def _finished(window: Window, size: tuple[int, int], scratch: Scratch | None, note: Note) -> None:
    if scratch is not None and window.columns.end == size[1]:
        scratch.release()
    note(window.core_area)
