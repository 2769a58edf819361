"""The cascade in patches: style transfer of whole images on a CPU, compiled once for every size."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from numpy.typing import NDArray

from cdjax.model import Model, ModelConfig
from cdjax.networks.patches import (
    SIDE,
    Grid,
    Patches,
    blocks,
    compile_block,
    decode_patches,
    encode_patches,
)
from cdjax.networks.spec import Spec
from cdjax.ops.conv_xla import CORES
from cdjax.ops.jit import EXACT_SOON, EXACT_SOONEST, is_traced, runs_on_cpu
from cdjax.transfer.pixels import as_floats, padded_size
from cdjax.transfer.regions import (
    Regions,
    map_regions,
    moments_of,
    over_content,
    region_sums,
    weights_at,
)
from cdjax.transfer.statistics import Moments
from cdjax.transfer.transforms import TRANSFORMS, Affine, stage_alpha

Strength = tuple[Array, Array]
"""Alpha and the regularization, float32."""


def in_patches(model: Model, *arguments: Any) -> bool:
    """Whether images are computed in patches: on a CPU, outside of transformations such as jit."""
    reflected = all(spec.padding == "reflect" for spec in model.config.specs)
    return reflected and not is_traced(model, arguments) and runs_on_cpu(model, arguments)


def compile_programs(config: ModelConfig, *, dtype: DTypeLike) -> None:
    """Compiles, in parallel, what stylisation by a model needs.

    Without it, the same happens in the first call of `encode_style` and `stylize`.
    """
    with ThreadPoolExecutor(CORES, "cdjax-compile") as pool:
        _compile([*_encoding(config, dtype), *_decoding(config, dtype)], pool)


def encode_in_patches(
    model: Model, image: NDArray[Any], visible: Regions | None, *, dtype: DTypeLike
) -> tuple[Moments, ...]:
    """The moments of a style image (H, W, 3) at every stage; arguments as for `encode_style`.

    Regions may say how much each pixel counts.
    """
    grid, patches, regions = _patches(image, visible, model.config.specs)
    with ThreadPoolExecutor(CORES, "cdjax-patch") as pool:
        _compile(_encoding(model.config, dtype), pool)
        found = []
        for spec in model.config.specs:
            params = model.params[f"stage{spec.stage}"]["encoder"]
            features = encode_patches(params, spec, patches, grid, pool, dtype=dtype)
            found.append(_moments(features, regions, spec, grid, pool)[0])
    return tuple(found)


def stylize_in_patches(
    model: Model,
    image: NDArray[Any],
    styles: Sequence[Sequence[Moments]],
    regions: Regions | None,
    strength: Strength,
    *,
    dtype: DTypeLike,
) -> NDArray[np.float32]:
    """Stylises an image (H, W, 3); arguments as for `stylize`.

    There is one style, or one for each of the regions' masks.

    Returns:
        (H, W, 3), float32 in [0, 1].
    """
    config = model.config
    grid, patches, in_regions = _patches(image, regions, config.specs)
    content = patches
    with ThreadPoolExecutor(CORES, "cdjax-patch") as pool:
        _compile([*_encoding(config, dtype), *_decoding(config, dtype)], pool)
        for spec, *of_styles in zip(config.specs, *styles, strict=True):
            params = model.params[f"stage{spec.stage}"]
            features = encode_patches(params["encoder"], spec, patches, grid, pool, dtype=dtype)
            of_contents = _moments(features, in_regions, spec, grid, pool)
            maps = [
                stage_map(config, spec, of_content, of_style, strength)
                for of_content, of_style in zip(of_contents, of_styles, strict=True)
            ]
            features = transform_patches(tuple(maps), features, in_regions, pool)
            patches = decode_patches(params["decoder"], spec, features, grid, pool, dtype=dtype)
        if regions is not None and regions.masks:
            patches = put_over_content(patches, content, in_regions, pool)
        return np.clip(grid.joined(patches)[: image.shape[0], : image.shape[1]], 0, 1)


def stage_map(
    config: ModelConfig, spec: Spec, content: Moments, style: Moments, strength: Strength
) -> Affine:
    """The map of a stage of a model."""
    share, name = config.strength_of(spec.stage), config.transform_of(spec.stage)
    return _map(content, style, strength, share, name=name)


@partial(jax.jit, static_argnames="name", compiler_options=dict(EXACT_SOONEST))
def _map(
    content: Moments, style: Moments, strength: Strength, share: float, *, name: str
) -> Affine:
    alpha, regularization = strength
    return TRANSFORMS[name](content, style, stage_alpha(alpha, share), regularization)


RegionPatches = Sequence[Regions | None]
"""The regions of every patch, (SIDE, SIDE), float32; None if there are none."""


def _patches(
    image: NDArray[Any], regions: Regions | None, specs: Sequence[Spec]
) -> tuple[Grid, Patches, RegionPatches]:
    """The grid and the patches of an image, continued by reflection to whole positions."""
    size = padded_size(image.shape[:2], specs)
    more = [(0, new - old) for new, old in zip(size, image.shape[:2], strict=True)]
    grid = Grid(size)
    grown = jax.tree.map(lambda mask: np.pad(np.asarray(mask), more, "symmetric"), regions)
    patches = grid.cut(np.pad(as_floats(image), [*more, (0, 0)], "symmetric"))
    return grid, patches, region_patches(grown, grid)


def region_patches(regions: Regions | None, grid: Grid) -> RegionPatches:
    """The patches of masks of an image's size; none counts beyond the image."""
    masks, structure = jax.tree.flatten(regions)
    cut = [grid.cut(as_floats(np.asarray(mask))[..., None]) for mask in masks]
    return [
        jax.tree.unflatten(structure, [patches[index][..., 0] for patches in cut])
        for index in range(len(grid))
    ]


def _moments(
    features: Patches, regions: RegionPatches, spec: Spec, grid: Grid, pool: ThreadPoolExecutor
) -> tuple[Moments, ...]:
    size = grid.size[0] // spec.stride, grid.size[1] // spec.stride
    sums = sum_patches(features, regions, grid, pool, (0, size[0], 0, size[1]))
    return moments_of(sums, regions[0], size[0] * size[1])


def sum_patches(
    features: Patches,
    regions: RegionPatches,
    grid: Grid,
    pool: ThreadPoolExecutor,
    inside: tuple[int, int, int, int],
) -> tuple[NDArray[np.float64], ...]:
    """The `region_sums` of a stage's features over a rectangle."""
    side = features[0].shape[0]

    def of_patch(index: int) -> list[NDArray[np.float64]]:
        row, column = (place * side for place in divmod(index, grid.shape[1]))
        rectangle = np.array(inside, np.int32) - np.array([row, row, column, column], np.int32)
        return list(map(np.asarray, _sums(features[index], rectangle, regions[index])))

    numbers = zip(*pool.map(of_patch, range(len(grid))), strict=True)
    return tuple(sum(values[1:], values[0]) for values in numbers)


@partial(jax.jit, compiler_options=dict(EXACT_SOON))
def _sums(features: Array, rectangle: Array, regions: Regions | None) -> tuple[Array, ...]:
    return region_sums(features, weights_at(regions, SIDE // len(features)), rectangle)


def transform_patches(
    maps: tuple[Affine, ...], features: Patches, regions: RegionPatches, pool: ThreadPoolExecutor
) -> Patches:
    """Maps the patches of features, with the map of each region."""
    return list(pool.map(partial(_apply, maps), features, regions))


@partial(jax.jit, compiler_options=dict(EXACT_SOON))
def _apply(maps: tuple[Affine, ...], features: Array, regions: Regions | None) -> Array:
    return map_regions(features, maps, weights_at(regions, SIDE // len(features)))


def put_over_content(
    images: Patches, content: Patches, regions: RegionPatches, pool: ThreadPoolExecutor
) -> Patches:
    """Does what `over_content` does, for every patch."""
    return list(pool.map(_over_content, images, content, regions))


_over_content = jax.jit(over_content, compiler_options=dict(EXACT_SOON))


def _encoding(config: ModelConfig, dtype: DTypeLike) -> list[Callable[[], None]]:
    """What must be compiled to encode, each thing once, what is needed first at the front."""
    found: dict[Any, Callable[[], None]] = {}
    for spec in config.specs:
        for block in blocks(spec.encoder, dtype).values():
            found.setdefault(block, partial(compile_block, block))
        found.setdefault(_shape(spec), partial(_compile_sums, _shape(spec), jnp.dtype(dtype)))
    return list(found.values())


def _decoding(config: ModelConfig, dtype: DTypeLike) -> list[Callable[[], None]]:
    """What must be compiled to transform and decode."""
    found: dict[Any, Callable[[], None]] = {}
    for spec in config.specs:
        maps = _shape(spec), jnp.dtype(dtype), config.transform_of(spec.stage)
        found.setdefault(maps, partial(_compile_maps, *maps))
        for block in blocks(spec.decoder, dtype).values():
            found.setdefault(block, partial(compile_block, block))
    return list(found.values())


def _shape(spec: Spec) -> tuple[int, int, int]:
    """The shape of the patches of a stage's features."""
    return SIDE // spec.stride, SIDE // spec.stride, spec.widths[-1]


def _compile(tasks: Iterable[Callable[[], None]], pool: ThreadPoolExecutor) -> None:
    """Compiles in parallel what is not compiled yet."""
    list(pool.map(lambda task: task(), tasks))


@cache
def _compile_sums(shape: tuple[int, int, int], dtype: jnp.dtype) -> None:
    _sums(jax.device_put(np.zeros(shape, dtype)), np.zeros(4, np.int32), None)


@cache
def _compile_maps(shape: tuple[int, int, int], dtype: jnp.dtype, name: str) -> None:
    channels = shape[-1]
    mean, scatter = np.zeros(channels, np.float32), np.eye(channels, dtype=np.float32)
    moments = Moments(*map(jax.device_put, (np.float32(2), mean, scatter)))
    strength = jax.device_put(np.float32(1)), jax.device_put(np.float32(0))
    affine = _map(moments, moments, strength, 1.0, name=name)
    _apply((affine,), jax.device_put(np.zeros(shape, dtype)), None)
