"""A stage of the cascade by windows: one pass sums up statistics, a second one decodes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from numpy.typing import NDArray

from cdjax.model import Params
from cdjax.networks.spec import Spec
from cdjax.ops.jit import EXACT, compiled
from cdjax.tiling.buffers import Raster, Scratch, cut, in_memory
from cdjax.tiling.config import TileConfig
from cdjax.tiling.executor import execute
from cdjax.tiling.plan import Span, Window, choose_sides, plan_windows
from cdjax.transfer.pixels import to_float
from cdjax.transfer.stages import decode_stage, encode_stage
from cdjax.transfer.statistics import Moments, mean_and_scatter, sums64
from cdjax.transfer.transforms import Affine

_KEPT_PER_PIXEL = 4
"""Features of at most this many numbers per image pixel are kept between the passes. Those of
shallower stages are larger, and cheaper to compute again."""

_Core = Array | NDArray[np.int32]


@dataclass(frozen=True)
class StageTiles:
    """What both passes of a stage share.

    Attributes:
        spec: of the stage.
        size: height and width, in whole positions of the deepest stage's features, to which the
            image is continued by reflection.
        config: memory and dtype.
        scratch: allocates the features that are kept; None if only statistics are needed.
        on_pixels: called with the number of the image's pixels that a pass has just finished, in
            another thread.
    """

    spec: Spec
    size: tuple[int, int]
    config: TileConfig
    scratch: Scratch | None
    on_pixels: Callable[[int], None]

    @property
    def keeps_features(self) -> bool:
        """Whether the features are kept between the passes."""
        small = self.spec.widths[-1] <= _KEPT_PER_PIXEL * self.spec.stride**2
        return small and self.scratch is not None

    def windows(self, halo: int) -> list[Window]:
        """The windows of a pass; ValueError if the memory is too small for any."""
        sides = choose_sides(self.size, self.spec, halo, self.config.memory)
        return plan_windows(self.size, sides, halo)

    def finish(self, window: Window) -> None:
        """Reports a window, and releases memory at the end of a row of windows."""
        if self.scratch is not None and window.columns.end == self.size[1]:
            self.scratch.release()
        self.on_pixels(window.core_area)


@partial(compiled, settings=EXACT, static_argnames=("spec", "dtype", "keep"))
def _encode(
    params: Params, image: Array, core: _Core, *, spec: Spec, dtype: DTypeLike, keep: bool
) -> tuple[Array | None, tuple[Array, ...]]:
    """The features of a window, if they are kept, and the sums over its core."""
    features = encode_stage(params, spec, to_float(image)[None], dtype=dtype)[0]
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
    """A window of the stage's image, from its features."""
    image = decode_stage(params, spec, transform(features)[None], dtype=dtype)[0]
    return jnp.rint(jnp.clip(image, 0, 1) * 255).astype(jnp.uint8) if levels else image


@partial(compiled, settings=EXACT, static_argnames=("spec", "dtype", "levels"))
def _recode(
    networks: dict[str, Params],
    image: Array,
    transform: Affine,
    *,
    spec: Spec,
    dtype: DTypeLike,
    levels: bool,
) -> Array:
    """A window of the stage's image, from the image before."""
    features = encode_stage(networks["encoder"], spec, to_float(image)[None], dtype=dtype)[0]
    decoder = networks["decoder"]
    return _decode(decoder, features, transform, spec=spec, dtype=dtype, levels=levels)


def _on_devices(tree: Any) -> dict[jax.Device, Any]:
    return {device: jax.device_put(tree, device) for device in jax.local_devices()}


def _region(window: Window, scale: int) -> tuple[tuple[int, int], tuple[int, int]]:
    def along(span: Span) -> tuple[int, int]:
        return span.start // scale, span.end // scale

    return along(window.rows), along(window.columns)


def _paste(target: NDArray[Any], window: Window, part: NDArray[Any], scale: int) -> None:
    """Copies the core of a window's result into the whole, which may end before the window."""
    region = []
    for span, length in zip((window.rows, window.columns), target.shape, strict=False):
        begin, end = (min(edge // scale, length) for edge in span.core)
        region.append((begin, end, span.start // scale))
    (top, bottom, row), (left, right, column) = region
    target[top:bottom, left:right] = part[top - row : bottom - row, left - column : right - column]


def encode_pass(
    params: Params, image: Raster, tiles: StageTiles
) -> tuple[Moments, NDArray[Any] | None]:
    """The moments of all features of an image, and the features themselves if they are kept.

    Args:
        params: of the encoder.
        image: (h, w, 3), float32 in [0, 1], or uint8; at most of `tiles.size`.
        tiles: of the stage.

    Returns:
        The moments, and the features, (H / stride, W / stride, C), or None.

    Raises:
        OSError: if a file for the features cannot be written.
        ValueError: if the memory is too small for any window.
    """
    spec, stride, dtype = tiles.spec, tiles.spec.stride, tiles.config.dtype
    height, width = (length // stride for length in tiles.size)
    keep = tiles.keeps_features
    kept: NDArray[Any] | None = None
    if keep and tiles.scratch is not None:
        kept = tiles.scratch.empty((height, width, spec.widths[-1]), dtype, in_memory(image))
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
        tiles.finish(window)

    sums = execute(tiles.windows(spec.halo), read, run, write)
    count = height * width
    parts = (np.float32(count), *map(np.float32, mean_and_scatter(count, *sums)))
    return Moments(*(jnp.asarray(part) for part in parts)), kept


def decode_pass(
    networks: dict[str, Params],
    image: Raster,
    features: NDArray[Any] | None,
    transform: Affine,
    target: NDArray[Any],
    tiles: StageTiles,
) -> None:
    """Transforms and decodes an image's features into `target`.

    Args:
        networks: `"encoder"` and `"decoder"` of the stage.
        image: as for `encode_pass`; read only if there are no features.
        features: as returned by `encode_pass`.
        transform: of the features.
        target: (h, w, 3), float32, or uint8 for grey levels; at most of `tiles.size`.
        tiles: of the stage.

    Raises:
        ValueError: if the memory is too small for any window.
    """
    spec = tiles.spec
    used = {part: networks[part] for part in ("encoder", "decoder")}
    copies = _on_devices((used, transform))
    levels = target.dtype == np.uint8
    static: Any = {"spec": spec, "dtype": tiles.config.dtype, "levels": levels}

    def read(window: Window) -> NDArray[Any]:
        if features is None:
            return cut(image, *_region(window, 1))
        return cut(features, *_region(window, spec.stride))

    def run(window: Window, piece: Array) -> tuple[Array, tuple[Array, ...]]:
        here, affine = copies[piece.device]
        if features is None:
            return _recode(here, piece, affine, **static), ()
        return _decode(here["decoder"], piece, affine, **static), ()

    def write(window: Window, part: NDArray[Any] | None) -> None:
        assert part is not None
        _paste(target, window, part, 1)
        tiles.finish(window)

    # A window that is encoded again needs two halos: one for the encoder, one for the decoder.
    halo = spec.halo if features is not None else 2 * spec.halo
    execute(tiles.windows(halo), read, run, write)
