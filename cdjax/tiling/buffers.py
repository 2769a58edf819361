"""Images and features in host memory, or in memory-mapped files if they are too large for it."""

import mmap
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Raster(Protocol):
    """An image from which windows can be cut: an array, or a file that reads regions on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3)."""

    @property
    def dtype(self) -> Any:
        """uint8, or floating in [0, 1]."""

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[Any]:
        """The pixels of a range of rows and of columns."""


@dataclass
class Scratch:
    """Allocates arrays: in memory up to a limit, beyond it mapped onto temporary files.

    The files are unlinked at once, so they disappear with the process, however it ends.

    Attributes:
        limit: bytes of host memory.
    """

    limit: int
    _mapped: list[np.memmap[Any, Any]] = field(default_factory=list)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike, held: int) -> NDArray[Any]:
        """An array of unspecified contents; `held` bytes of host memory are already in use.

        Raises:
            OSError: if the disk does not have enough space.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if held + size <= self.limit:
            return _mapped_memory(shape, dtype, size)
        with tempfile.TemporaryFile(prefix="cdjax-") as file:
            # Reserves the space now: a disk that is full later would end the process by a signal.
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
            array = np.memmap(file, dtype, "r+", shape=shape)
        self.adopt(array)
        return array

    def adopt(self, array: np.memmap[Any, Any]) -> None:
        """Adds an array that is mapped onto a file to those that `release` handles."""
        self._mapped.append(array)

    def release(self) -> None:
        """Removes mapped files from the process's resident memory; the system may cache them."""
        for array in self._mapped:
            pages: mmap.mmap = array._mmap  # type: ignore[attr-defined]
            pages.madvise(mmap.MADV_DONTNEED)


def _mapped_memory(shape: tuple[int, ...], dtype: DTypeLike, size: int) -> NDArray[Any]:
    """Memory that returns to the system with the array, whatever allocator is in use."""
    # Private, because shared memory, the default, rarely gets huge pages.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if sys.platform != "win32" else {}
    pages = mmap.mmap(-1, max(size, 1), **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # The kernel does not have them.
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype, size // np.dtype(dtype).itemsize).reshape(shape)


def in_memory(array: Any) -> int:
    """Bytes of host memory that an array takes: 0 if it is a file or mapped onto one."""
    held = isinstance(array, np.ndarray) and not isinstance(array, np.memmap)
    return int(array.nbytes) if held else 0


def cut(image: Raster, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[Any]:
    """Cuts a region from an image that continues by reflection beyond its bottom and right border.

    Args:
        image: (H, W, C), of any size from 1 pixel.
        rows: first row and one past the last, from 0.
        columns: first column and one past the last, from 0.

    Returns:
        (rows, columns, C), a contiguous array of the image's dtype.
    """
    indices, region = [], []
    for (begin, end), length in zip((rows, columns), image.shape, strict=False):
        positions = np.arange(begin, end) % (2 * length)
        positions = np.where(positions < length, positions, 2 * length - 1 - positions)
        low, high = int(positions.min()), int(positions.max()) + 1
        region.append(slice(low, high))
        indices.append(positions - low if end > length else slice(None))
    block = image[region[0], region[1]]
    return np.ascontiguousarray(block[indices[0]][:, indices[1]])
