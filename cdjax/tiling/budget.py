"""How much memory windows may take, and whether an image fits in it as a whole."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from cdjax.model import ModelConfig
from cdjax.tiling.free_memory import free_memory
from cdjax.tiling.plan import bytes_per_pixel
from cdjax.transfer.pixels import compute_dtype

_SHARE_OF_GPU = 0.7
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def parse_size(text: str) -> int:
    """Parses a size such as `2GB`, `500 MB`, `1.5GiB` or a number of bytes.

    Raises:
        ValueError: if the text is not a size, or the size is not positive.
    """
    number = text.strip().upper().removesuffix("B")
    unit = number.lstrip("0123456789. ")
    try:
        size = int(float(number.removesuffix(unit)) * _UNITS[unit])
    except (KeyError, ValueError):
        size = 0
    if size <= 0:
        raise ValueError(f"{text!r} is no size such as 2GB or 500MB")
    return size


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


def default_memory() -> int:
    """Bytes of device memory for images: 70% of the smallest GPU's, or half of the CPU's free."""
    limits = [
        int(statistics["bytes_limit"])
        for device in jax.local_devices()
        if (statistics := device.memory_stats()) and "bytes_limit" in statistics
    ]
    return int(_SHARE_OF_GPU * min(limits)) if limits else default_host_memory()


def default_host_memory() -> int:
    """Bytes of host memory for images: half of what this process may still take."""
    return free_memory() // 2


def tile_config(
    memory: int | None = None, host_memory: int | None = None, dtype: DTypeLike = jnp.float32
) -> TileConfig:
    """A `TileConfig` with defaults in place of None.

    Raises:
        ValueError: if the dtype is neither float32 nor bfloat16.
    """
    return TileConfig(
        default_memory() if memory is None else memory,
        default_host_memory() if host_memory is None else host_memory,
        compute_dtype(dtype),
    )


def fits_in_memory(size: tuple[int, int], config: ModelConfig, memory: int | None = None) -> bool:
    """Whether a device can encode or stylise an image of (height, width) as a whole.

    It may take `memory` bytes of device memory, or `default_memory()` if that is None.
    """
    needed = size[0] * size[1] * max(map(bytes_per_pixel, config.specs))
    return needed <= (default_memory() if memory is None else memory)
