"""Settings of windows, as one frozen value."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.typing import DTypeLike

from cdjax.tiling.budget import default_host_memory, default_memory
from cdjax.transfer.pixels import compute_dtype


@dataclass(frozen=True)
class TileConfig:
    """How an image is computed by windows.

    Attributes:
        memory: bytes of each device's memory that windows may take; their size follows from it.
        host_memory: bytes of host memory that images and features may take; larger ones are mapped
            onto temporary files.
        dtype: float32 or bfloat16, the networks' compute dtype.
    """

    memory: int
    host_memory: int
    dtype: jnp.dtype


def tile_config(
    memory: int | None = None, host_memory: int | None = None, dtype: DTypeLike = jnp.float32
) -> TileConfig:
    """A `TileConfig` with the defaults of `cdjax.tiling.budget` in place of None.

    Raises:
        ValueError: if the dtype is neither float32 nor bfloat16.
    """
    return TileConfig(
        default_memory() if memory is None else memory,
        default_host_memory() if host_memory is None else host_memory,
        compute_dtype(dtype),
    )
