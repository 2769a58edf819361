"""A stage of the cascade by windows: one pass sums up statistics, a second one decodes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from cdjax.networks.patches import Grid, decode_patches, encode_patches
from cdjax.networks.spec import Spec
from cdjax.ops.conv_xla import CORES
from cdjax.ops.jit import EXACT, compiled
from cdjax.tiling.budget import TileConfig
from cdjax.tiling.buffers import Raster, Scratch, cut, in_memory
from cdjax.tiling.executor import Made, execute
from cdjax.tiling.plan import Window, choose_sides, plan_windows
from cdjax.transfer.color import with_chroma_of
from cdjax.transfer.patches import (
    put_over_content,
    region_patches,
    sum_patches,
    transform_patches,
)
from cdjax.transfer.pixels import as_floats, to_float
from cdjax.transfer.regions import (
    Regions,
    map_regions,
    moments_of,
    over_content,
    region_sums,
    weights_at,
)
from cdjax.transfer.stages import decode_stage, encode_stage
from cdjax.transfer.statistics import Moments
from cdjax.transfer.transforms import Affine

_KEPT_PER_PIXEL = 4
"""Features of at most this many numbers per image pixel are kept between the passes. Those of
shallower stages are larger, and cheaper to compute again."""


@dataclass(frozen=True)
class StageTiles:
    """What both passes of a stage share.

    Attributes:
        spec: of the stage.
        size: height and width, in whole positions of the deepest stage's features, to which the
            image is continued by reflection.
        config: memory and dtype.
        regions: of the image, as rasters of its height and width; None if all of it counts alike.
        scratch: allocates the features that are kept; None if only statistics are needed.
        on_pixels: called with the number of the image's pixels that a pass has just finished, in
            another thread.
    """

    spec: Spec
    size: tuple[int, int]
    config: TileConfig
    regions: Regions | None
    scratch: Scratch | None
    on_pixels: Callable[[int], None]

    def space_for_features(self, held: int) -> NDArray[Any] | None:
        """Allocates what is kept between the passes, if it is; `held` as for `Scratch.empty`."""
        stride, channels = self.spec.stride, self.spec.widths[-1]
        if self.scratch is None or channels > _KEPT_PER_PIXEL * stride**2:
            return None
        shape = (*(length // stride for length in self.size), channels)
        return self.scratch.empty(shape, self.config.dtype, held)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Piece:
    """What a window reads; a pytree.

    Attributes:
        source: of the image, (h, w, 3), or of its features.
        regions: of the image, or None.
        content: pixels whose colours the result may get, and that it shows where there is no
            region, or None.
    """

    source: Any
    regions: Regions | None
    content: Any | None


@partial(compiled, settings=EXACT, static_argnames=("spec", "dtype", "keep"))
def _encode(
    params: Params, piece: _Piece, core: NDArray[Any], *, spec: Spec, dtype: DTypeLike, keep: bool
) -> tuple[Array | None, tuple[Array, ...]]:
    """The features of a window, if they are kept, and the sums over its core.

    Of regions, the sums of each, after that of its weights.
    """
    features = encode_stage(params, spec, to_float(piece.source)[None], dtype=dtype)[0]
    sums = region_sums(features, weights_at(piece.regions, spec.stride), core)
    return features if keep else None, sums


@partial(compiled, settings=EXACT, static_argnames=("spec", "dtype", "encoded", "levels"))
def _decode(
    networks: dict[str, Params],
    piece: _Piece,
    maps: tuple[Affine, ...],
    *,
    spec: Spec,
    dtype: DTypeLike,
    encoded: bool,
    levels: bool,
) -> Array:
    """A window of the stage's image, from its features or, if not `encoded`, the image before."""
    features = piece.source
    if not encoded:
        images = to_float(features)[None]
        features = encode_stage(networks["encoder"], spec, images, dtype=dtype)[0]
    features = map_regions(features, maps, weights_at(piece.regions, spec.stride))
    image = decode_stage(networks["decoder"], spec, features[None], dtype=dtype)[0]
    if piece.content is not None:
        image = over_content(image, to_float(piece.content), piece.regions)
    return _levels(image) if levels else image


@partial(compiled, settings=EXACT)
def _levels(image: Array) -> Array:
    return jnp.rint(jnp.clip(image, 0, 1) * 255).astype(jnp.uint8)


def _encode_in_patches(
    params: Params, piece: _Piece, core: NDArray[Any], *, spec: Spec, dtype: DTypeLike, keep: bool
) -> tuple[NDArray[Any] | None, tuple[NDArray[Any], ...]]:
    """Does what `_encode` does, on a CPU."""
    image = as_floats(np.asarray(piece.source))
    grid = Grid((image.shape[0], image.shape[1]))
    regions = region_patches(piece.regions, grid)
    with ThreadPoolExecutor(CORES, "cdjax-patch") as pool:
        features = encode_patches(params, spec, grid.cut(image), grid, pool, dtype=dtype)
        sums = sum_patches(features, regions, grid, pool, tuple(core.tolist()))
    return grid.joined(features, spec.stage - 1) if keep else None, sums


def _decode_in_patches(
    networks: dict[str, Params],
    piece: _Piece,
    maps: tuple[Affine, ...],
    *,
    spec: Spec,
    dtype: DTypeLike,
    encoded: bool,
    levels: bool,
) -> NDArray[Any]:
    """Does what `_decode` does, on a CPU."""
    stride, values = spec.stride if encoded else 1, np.asarray(piece.source)
    grid = Grid((values.shape[0] * stride, values.shape[1] * stride))
    regions = region_patches(piece.regions, grid)
    with ThreadPoolExecutor(CORES, "cdjax-patch") as pool:
        if encoded:
            features = grid.cut(values, spec.stage - 1)
        else:
            image = grid.cut(as_floats(values))
            features = encode_patches(networks["encoder"], spec, image, grid, pool, dtype=dtype)
        features = transform_patches(maps, features, regions, pool)
        decoded = decode_patches(networks["decoder"], spec, features, grid, pool, dtype=dtype)
        if piece.content is not None and piece.regions is not None and piece.regions.masks:
            content = grid.cut(as_floats(np.asarray(piece.content)))
            decoded = put_over_content(decoded, content, regions, pool)
    result = grid.joined(decoded)
    return np.rint(np.clip(result, 0, 1) * 255).astype(np.uint8) if levels else result


def _on_cpu(spec: Spec) -> bool:
    return jax.local_devices()[0].platform == "cpu" and spec.padding == "reflect"


def _on_devices(tree: Any) -> dict[jax.Device, Any]:
    return {device: jax.device_put(tree, device) for device in jax.local_devices()}


def _run_windows(
    tiles: StageTiles,
    halo: int,
    run: Callable[[Window, _Piece], Made],
    source: tuple[Raster, int],
    target: tuple[NDArray[Any] | None, int],
    content: Raster | None = None,
) -> list[NDArray[Any]]:
    """Runs the windows of a pass from sources to a target, each with its pixels per position."""

    def read(window: Window) -> _Piece:
        def part(image: Any, scale: int = 1) -> NDArray[Any]:
            return cut(image, *((span.start // scale, span.end // scale) for span in window))

        beneath = None if content is None else part(content)
        return _Piece(part(*source), jax.tree.map(part, tiles.regions), beneath)

    def write(window: Window, part: NDArray[Any] | None) -> None:
        image, scale = target
        if image is not None and part is not None:
            # The core of the part; the whole may end before it.
            here, there = [], []
            for span, length in zip(window, image.shape, strict=False):
                begin, end = (min(edge // scale, length) for edge in span.core)
                there.append(slice(begin, end))
                here.append(slice(begin - span.start // scale, end - span.start // scale))
            image[tuple(there)] = part[tuple(here)]
        # Releases memory at the end of a row of windows.
        if tiles.scratch is not None and window.columns.end == tiles.size[1]:
            tiles.scratch.release()
        tiles.on_pixels(window.core_area)

    sides = choose_sides(tiles.size, tiles.spec, halo, tiles.config.memory)
    return execute(plan_windows(tiles.size, sides, halo), read, run, write)


def encode_pass(
    params: Params, image: Raster, tiles: StageTiles
) -> tuple[tuple[Moments, ...], NDArray[Any] | None]:
    """The moments of all features of an image, and the features themselves if they are kept.

    Takes the encoder's parameters and an image (h, w, 3), float32 in [0, 1] or uint8, at most of
    `tiles.size`. There is one `Moments` for each region, and one for the whole image without
    regions. The features are (H / stride, W / stride, C).

    Raises:
        OSError: if a file for the features cannot be written.
        ValueError: if the memory is too small for any window.
    """
    stride = tiles.spec.stride
    kept = tiles.space_for_features(in_memory(image))
    function = _encode_in_patches if _on_cpu(tiles.spec) else _encode
    encode = partial(function, spec=tiles.spec, dtype=tiles.config.dtype, keep=kept is not None)
    copies = _on_devices(params)

    def run(window: Window, piece: _Piece) -> Made:
        core = [(edge - span.start) // stride for span in window for edge in span.core]
        return encode(copies[piece.source.device], piece, np.array(core, np.int32))

    sums = _run_windows(tiles, tiles.spec.halo, run, (image, 1), (kept, stride))
    positions = tiles.size[0] * tiles.size[1] // stride**2
    return moments_of(sums, tiles.regions, positions), kept


def decode_pass(
    networks: dict[str, Params],
    image: Raster,
    features: NDArray[Any] | None,
    maps: tuple[Affine, ...],
    target: NDArray[Any],
    tiles: StageTiles,
    content: Raster | None = None,
    chroma: bool = False,
) -> None:
    """Transforms and decodes an image's features into `target`.

    The image and the features are those of `encode_pass`; the image is read only if there are no
    features. There is one map for each region. The target is (h, w, 3), float32, or uint8 for grey
    levels, at most of `tiles.size`. Where there is no region it shows the content, if one is given,
    of the target's size. If asked to, it gets the chroma of the content.

    Raises:
        ValueError: if the memory is too small for any window.
    """
    spec, dtype, encoded = tiles.spec, tiles.config.dtype, features is not None
    used = {part: networks[part] for part in ("encoder", "decoder")}
    copies = _on_devices((used, maps))
    source = (image, 1) if features is None else (features, spec.stride)
    levels = target.dtype == np.uint8
    function = _decode_in_patches if _on_cpu(spec) else _decode
    uncoloured = levels and not chroma
    decode = partial(function, spec=spec, dtype=dtype, encoded=encoded, levels=uncoloured)

    def run(window: Window, piece: _Piece) -> Made:
        here, affine = copies[piece.source.device]
        image = decode(here, piece, affine)
        if chroma and piece.content is not None:
            image = with_chroma_of(piece.content, image)
            image = _levels(image) if levels else image
        return image, ()

    # A window that is encoded again needs two halos: one for the encoder, one for the decoder.
    halo = spec.halo if encoded else 2 * spec.halo
    _run_windows(tiles, halo, run, source, (target, 1), content)
