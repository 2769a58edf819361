"""The cascade in patches: style transfer of whole images on a CPU, compiled once for every size."""

import os
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
    compile_layer,
    decode_patches,
    decoder_layers,
    encode_patches,
    encoder_layers,
)
from cdjax.networks.spec import Spec
from cdjax.ops.jit import EXACT_SOON, EXACT_SOONEST, is_traced, runs_on_cpu
from cdjax.transfer.pixels import as_floats, padded_size
from cdjax.transfer.statistics import Moments, mean_and_scatter, sums64
from cdjax.transfer.transforms import TRANSFORMS, Affine, stage_alpha

CORES = os.cpu_count() or 1

Strength = tuple[Array, Array]
"""Alpha and the regularization, float32."""


def in_patches(model: Model, *arguments: Any) -> bool:
    """Whether images are computed in patches: on a CPU, outside of transformations such as jit."""
    reflected = all(spec.padding == "reflect" for spec in model.config.specs)
    return reflected and not is_traced(model, arguments) and runs_on_cpu(model, arguments)


def compile_programs(config: ModelConfig, *, dtype: DTypeLike, name: str) -> None:
    """Compiles, in parallel, what stylisation by a model with a transform `name` needs.

    Without it, the same happens in the first call of `encode_style` and `stylize`.
    """
    with ThreadPoolExecutor(CORES, "cdjax-compile") as pool:
        _compile([*_encoding(config, dtype), *_decoding(config, dtype, name)], pool)


def encode_in_patches(
    model: Model, image: NDArray[Any], *, dtype: DTypeLike
) -> tuple[Moments, ...]:
    """The moments of a style image (H, W, 3) at every stage; arguments as for `encode_style`."""
    grid, patches = _patches(image, model.config.specs)
    with ThreadPoolExecutor(CORES, "cdjax-patch") as pool:
        _compile(_encoding(model.config, dtype), pool)
        found = []
        for spec in model.config.specs:
            params = model.params[f"stage{spec.stage}"]["encoder"]
            features = encode_patches(params, spec, patches, grid, pool, dtype=dtype)
            found.append(_moments(features, spec, grid, pool))
    return tuple(found)


def stylize_in_patches(
    model: Model,
    image: NDArray[Any],
    style: Sequence[Moments],
    strength: Strength,
    *,
    name: str,
    dtype: DTypeLike,
) -> NDArray[np.float32]:
    """Stylises an image (H, W, 3) with the transform `name`; arguments as for `stylize`.

    Returns:
        (H, W, 3), float32 in [0, 1].
    """
    config = model.config
    grid, patches = _patches(image, config.specs)
    alpha, regularization = strength
    with ThreadPoolExecutor(CORES, "cdjax-patch") as pool:
        _compile([*_encoding(config, dtype), *_decoding(config, dtype, name)], pool)
        for spec, of_style in zip(config.specs, style, strict=True):
            params = model.params[f"stage{spec.stage}"]
            features = encode_patches(params["encoder"], spec, patches, grid, pool, dtype=dtype)
            of_content = _moments(features, spec, grid, pool)
            share = stage_alpha(alpha, config.strength_of(spec.stage))
            affine = stage_map(of_content, of_style, (share, regularization), name=name)
            features = transform_patches(affine, features, pool)
            patches = decode_patches(params["decoder"], spec, features, grid, pool, dtype=dtype)
        return np.clip(grid.joined(patches)[: image.shape[0], : image.shape[1]], 0, 1)


@partial(jax.jit, static_argnames="name", compiler_options=dict(EXACT_SOONEST))
def stage_map(content: Moments, style: Moments, strength: Strength, *, name: str) -> Affine:
    """The map of a stage; `strength` is the share of the transform and the regularization."""
    return TRANSFORMS[name](content, style, *strength)


def _patches(image: NDArray[Any], specs: Sequence[Spec]) -> tuple[Grid, Patches]:
    """The grid and the patches of an image, continued by reflection to whole positions."""
    size = padded_size(image.shape[:2], specs)
    more = [(0, new - old) for new, old in zip(size, image.shape[:2], strict=True)]
    grid = Grid(size)
    return grid, grid.cut(np.pad(as_floats(image), [*more, (0, 0)], "symmetric"))


def _moments(features: Patches, spec: Spec, grid: Grid, pool: ThreadPoolExecutor) -> Moments:
    size = grid.size[0] // spec.stride, grid.size[1] // spec.stride
    sums = sum_patches(features, spec, grid, pool, (0, size[0], 0, size[1]))
    count = size[0] * size[1]
    found = (count, *mean_and_scatter(count, *sums))
    return Moments(*(jnp.asarray(np.float32(part)) for part in found))


def sum_patches(
    features: Patches,
    spec: Spec,
    grid: Grid,
    pool: ThreadPoolExecutor,
    inside: tuple[int, int, int, int],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The `sums64` of a stage's features over a region.

    The region is the first and one past the last of the rows, then of the columns.
    """
    side = SIDE // spec.stride

    def of_patch(index: int) -> list[NDArray[np.float64]]:
        row, column = (place * side for place in divmod(index, grid.shape[1]))
        region = np.array(inside, np.int32) - np.array([row, row, column, column], np.int32)
        return list(map(np.asarray, _sums(features[index], region)))

    total, products = zip(*pool.map(of_patch, range(len(grid))), strict=True)
    return sum(total[1:], total[0]), sum(products[1:], products[0])


@partial(jax.jit, compiler_options=dict(EXACT_SOON))
def _sums(features: Array, region: Array) -> tuple[Array, Array]:
    rows, columns = (jnp.arange(side) for side in features.shape[:2])
    inside = ((rows >= region[0]) & (rows < region[1]))[:, None] & (
        (columns >= region[2]) & (columns < region[3])
    )
    return sums64(features, inside)


def transform_patches(affine: Affine, features: Patches, pool: ThreadPoolExecutor) -> Patches:
    """Maps the patches of features."""
    return list(pool.map(partial(_apply, affine), features))


@partial(jax.jit, compiler_options=dict(EXACT_SOON))
def _apply(affine: Affine, features: Array) -> Array:
    return affine(features)


def _encoding(config: ModelConfig, dtype: DTypeLike) -> list[Callable[[], None]]:
    """What must be compiled to encode, each thing once, what is needed first at the front."""
    found: dict[Any, Callable[[], None]] = {}
    for spec in config.specs:
        for layer in encoder_layers(spec, dtype):
            found.setdefault(layer, partial(compile_layer, layer))
        found.setdefault(_shape(spec), partial(_compile_sums, _shape(spec), jnp.dtype(dtype)))
    return list(found.values())


def _decoding(config: ModelConfig, dtype: DTypeLike, name: str) -> list[Callable[[], None]]:
    """What must be compiled to transform and decode."""
    found: dict[Any, Callable[[], None]] = {}
    for spec in config.specs:
        maps = partial(_compile_maps, _shape(spec), jnp.dtype(dtype), name)
        found.setdefault(_shape(spec), maps)
        for layer in decoder_layers(spec, dtype):
            found.setdefault(layer, partial(compile_layer, layer))
    return list(found.values())


def _shape(spec: Spec) -> tuple[int, int, int]:
    """The shape of the patches of a stage's features."""
    return SIDE // spec.stride, SIDE // spec.stride, spec.widths[-1]


def _compile(tasks: Iterable[Callable[[], None]], pool: ThreadPoolExecutor) -> None:
    """Compiles in parallel what is not compiled yet."""
    list(pool.map(lambda task: task(), tasks))


@cache
def _compile_sums(shape: tuple[int, int, int], dtype: jnp.dtype) -> None:
    _sums(jnp.zeros(shape, dtype), np.zeros(4, np.int32))


@cache
def _compile_maps(shape: tuple[int, int, int], dtype: jnp.dtype, name: str) -> None:
    channels = shape[-1]
    mean, scatter = np.zeros(channels, np.float32), np.eye(channels, dtype=np.float32)
    moments = Moments(*map(jnp.asarray, (np.float32(2), mean, scatter)))
    strength = jnp.asarray(1.0, jnp.float32), jnp.asarray(0.0, jnp.float32)
    _apply(stage_map(moments, moments, strength, name=name), jnp.zeros(shape, dtype))
