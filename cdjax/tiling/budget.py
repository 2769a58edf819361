"""How much memory there is, and whether an image fits in it whole."""

from typing import TYPE_CHECKING

import psutil

from cdjax.tiling.plan import bytes_per_pixel

if TYPE_CHECKING:
    from cdjax.model import ModelConfig

_SHARE_OF_GPU = 0.7
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def parse_size(text: str) -> int:
    """Bytes from `2GB`, `500 MB`, `1.5GiB` or a number of bytes; ValueError if it is none."""
    number = text.strip().upper().removesuffix("B")
    unit = number.lstrip("0123456789. ")
    try:
        size = int(float(number.removesuffix(unit)) * _UNITS[unit])
    except (KeyError, ValueError):
        raise ValueError(f"{text!r} is no size such as 2GB or 500MB") from None
    if size <= 0:
        raise ValueError(f"{text!r} is no memory at all")
    return size


def default_memory() -> int:
    """Bytes of a device that images may take: most of a GPU's, half of what is free of a CPU's."""
    import jax

    limits = [
        int(statistics["bytes_limit"])
        for device in jax.local_devices()
        if (statistics := device.memory_stats()) and "bytes_limit" in statistics
    ]
    return int(_SHARE_OF_GPU * min(limits)) if limits else default_host_memory()


def default_host_memory() -> int:
    """Bytes of host memory that images may take: half of what is free."""
    return int(psutil.virtual_memory().available) // 2


def fits(size: tuple[int, int], config: "ModelConfig", memory: int) -> bool:
    """Whether a device's memory is enough to encode or stylise an image of a size as a whole."""
    return size[0] * size[1] * max(map(bytes_per_pixel, config.specs)) <= memory
