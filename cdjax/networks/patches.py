"""Encoders and decoders on a CPU, patch by patch and block by block: one program for every size.

An image is a grid of patches of `SIDE` pixels, at every layer. All patches pass through a block of
one or two layers before the next one runs, so hardly anything is computed twice. A block is
compiled once, for images of all sizes and for all networks that have layers of its widths.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from numpy.typing import NDArray

from cdjax.model import Params
from cdjax.networks.encoder import fold_colour
from cdjax.networks.spec import Conv, Spec
from cdjax.ops.jit import EXACT_SOON, EXACT_SOONEST
from cdjax.ops.patch import Extent, convolve_patch

SIDE = 128
"""Height and width of a patch, in pixels of the image: a multiple of every stride."""

_DEEP = 2
"""Level from which features of a patch are small, and what is left to XLA's code generator takes
little of the time."""

Patches = Sequence[Array | NDArray[Any]]
"""Of an image or of a layer's features: (h, w, C) each, row by row."""


@dataclass(frozen=True)
class Grid:
    """The patches of an image.

    Attributes:
        size: height and width of the image, multiples of the strides of its networks.
    """

    size: tuple[int, int]

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = (-(-length // SIDE) for length in self.size)
        return rows, columns

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def cut(self, whole: NDArray[Any], level: int = 0) -> Patches:
        """The patches of an image, (H, W, C), or of features of a level, with zeros beyond it."""
        (rows, columns), side = self.shape, SIDE >> level
        more = [(0, n * side - m) for n, m in zip(self.shape, whole.shape, strict=False)]
        blocks = np.pad(whole, [*more, (0, 0)]).reshape(rows, side, columns, side, -1)
        return list(blocks.swapaxes(1, 2).reshape(rows * columns, side, side, -1))

    def joined(self, patches: Patches, level: int = 0) -> NDArray[Any]:
        """The image, or the features of a level, that the patches make up."""
        (rows, columns), side = self.shape, SIDE >> level
        blocks = np.stack(list(map(np.asarray, patches))).reshape(rows, columns, side, side, -1)
        whole = blocks.swapaxes(1, 2).reshape(rows * side, columns * side, -1)
        return whole[: self.size[0] >> level, : self.size[1] >> level]

    def extents(self, index: int, level: int) -> tuple[Extent, Extent]:
        """Where a patch lies along both axes, in positions of a level."""
        rows, columns = (
            Extent(min(SIDE, length - place * SIDE) >> level, place == 0, place == count - 1)
            for length, count, place in zip(
                self.size, self.shape, divmod(index, self.shape[1]), strict=True
            )
        )
        return rows, columns

    @cached_property
    def neighbours(self) -> list[list[int]]:
        """The nine patches around and with every patch; it stands for those that do not exist."""
        indices = np.arange(len(self)).reshape(self.shape)
        padded = np.pad(indices, 1, constant_values=-1)
        found = []
        for row, column in np.ndindex(*self.shape):
            nine = padded[row : row + 3, column : column + 3].ravel()
            found.append(np.where(nine < 0, indices[row, column], nine).tolist())
        return found


class Block(NamedTuple):
    """What the program of one or two layers depends on.

    Attributes:
        widths: channels of the input and behind every layer.
        level: log2 of the image pixels per position where it runs.
        pooled: whether 2x2 max-pooling follows.
        upsampled: whether nearest upsampling by 2 precedes.
        dtypes: of every layer, float32 or bfloat16, in which it computes.
    """

    widths: tuple[int, ...]
    level: int
    pooled: bool
    upsampled: bool
    dtypes: tuple[DTypeLike, ...]

    @property
    def level_before(self) -> int:
        """The level of what it reads."""
        return self.level + self.upsampled


def blocks(convs: Sequence[Conv], dtype: DTypeLike) -> dict[tuple[str, ...], Block]:
    """The layers of an encoder or a decoder in blocks: names, in order, and what runs them."""
    groups: list[list[Conv]] = []
    for conv in convs:
        last = groups[-1][-1] if groups else conv
        # A level with two layers is followed or preceded by one of half the size, so the last
        # patches have at least two rows and columns of it.
        together = groups and len(groups[-1]) == 1 and conv.level == last.level < _DEEP
        if together and not last.pooled:
            groups[-1].append(conv)
        else:
            groups.append([conv])
    return {tuple(conv.name for conv in group): _block(group, dtype) for group in groups}


def _block(convs: Sequence[Conv], dtype: DTypeLike) -> Block:
    first, last = convs[0], convs[-1]
    widths = first.features_in, *(conv.features_out for conv in convs)
    # As in `run_layers`: conv1_1 reads or makes the image, whose grey levels bfloat16 would round.
    dtypes = (jnp.dtype(jnp.float32 if conv.name == "conv1_1" else dtype) for conv in convs)
    return Block(widths, first.level, last.pooled, first.upsampled, tuple(dtypes))


def encode_patches(
    params: Params,
    spec: Spec,
    patches: Patches,
    grid: Grid,
    pool: ThreadPoolExecutor,
    *,
    dtype: DTypeLike = jnp.float32,
) -> Patches:
    """Does what `cdjax.transfer.stages.encode_stage` does, with the same result, bit for bit.

    Args:
        params: of the encoder, whose padding is by reflection.
        spec: of the stage.
        patches: of the image, (SIDE, SIDE, 3), float32, RGB in [0, 1].
        grid: where they are.
        pool: runs the patches.
        dtype: float32 or bfloat16, the compute dtype.

    Returns:
        The patches of the features relu{stage}_1, of that dtype.
    """
    params = params | {"conv1_1": _folded(params["conv0"], params["conv1_1"])}
    for names, block in blocks(spec.encoder, dtype).items():
        patches = _run_block(block, [params[name] for name in names], patches, grid, pool)
    return patches if spec.stage > 1 else [patch.astype(dtype) for patch in patches]


def decode_patches(
    params: Params,
    spec: Spec,
    patches: Patches,
    grid: Grid,
    pool: ThreadPoolExecutor,
    *,
    dtype: DTypeLike = jnp.float32,
) -> Patches:
    """Does what `cdjax.transfer.stages.decode_stage` does, with the same result, bit for bit.

    Takes the decoder's parameters and the patches of features; otherwise as `encode_patches`.

    Returns:
        The patches of the image, (SIDE, SIDE, 3), float32, at least 0 and not clipped above.
    """
    for names, block in blocks(spec.decoder, dtype).items():
        patches = _run_block(block, [params[name] for name in names], patches, grid, pool)
    return patches


@cache
def compile_block(block: Block) -> None:
    """Compiles the program of a block, once in a process. Programs can be compiled in parallel."""
    side = SIDE >> block.level_before
    # Made by NumPy: JAX would compile a program for every shape of zeros.
    patch = jax.device_put(np.zeros((side, side, block.widths[0]), block.dtypes[0]))
    layers = [
        {"kernel": np.zeros((3, 3, *widths), np.float32), "bias": np.zeros(widths[1], np.float32)}
        for widths in pairwise(block.widths)
    ]
    _run_block(block, layers, [patch], Grid((SIDE, SIDE)), None)


def _run_block(
    block: Block,
    layers: Sequence[Params],
    patches: Patches,
    grid: Grid,
    pool: ThreadPoolExecutor | None,
) -> Patches:
    run = _run_deep if block.level >= _DEEP else _run_shallow
    borders = _borders(grid, block)

    def one(index: int) -> Array:
        around = [patches[place] for place in grid.neighbours[index]]
        return run(around, layers, borders[index], block=block).block_until_ready()

    return list((map if pool is None else pool.map)(one, range(len(grid))))


@lru_cache(maxsize=64)
def _borders(grid: Grid, block: Block) -> list[NDArray[np.int32]]:
    """Of every patch and layer, `Extent.borders` of its rows and its columns."""
    places = [(block.level_before, block.upsampled), (block.level, False)][: len(block.dtypes)]

    def at(index: int, level: int, upsampled: bool) -> list[tuple[int, int, int]]:
        extents = grid.extents(index, level)
        return [extent.borders(SIDE >> level, upsampled=upsampled) for extent in extents]

    found = ([at(index, *place) for place in places] for index in range(len(grid)))
    return [np.array(borders, np.int32) for borders in found]


def _run(patches: Patches, layers: Sequence[Params], borders: Array, *, block: Block) -> Array:
    given = [
        (jnp.asarray(layer["kernel"], dtype), jnp.asarray(layer["bias"], dtype))
        for layer, dtype in zip(layers, block.dtypes, strict=True)
    ]
    cast = [jnp.asarray(patch, block.dtypes[0]) for patch in patches]
    return convolve_patch(cast, given, borders, pooled=block.pooled, upsampled=block.upsampled)


_run_shallow, _run_deep = (
    jax.jit(_run, static_argnames="block", compiler_options=dict(settings))
    for settings in (EXACT_SOON, EXACT_SOONEST)
)
_folded = jax.jit(fold_colour, compiler_options=dict(EXACT_SOONEST))
