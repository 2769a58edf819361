"""Images and features in host memory, or in memory-mapped files where they are too large for it."""

import json
import mmap
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

_STATE = "progress.json"


class Raster(Protocol):
    """What can be cut into windows: an array, or a file that is read where it is cut."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3)."""

    @property
    def dtype(self) -> Any:
        """uint8, or floating in [0, 1]."""

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[Any]:
        """The pixels of rows and columns."""


@dataclass
class Scratch:
    """Hands out arrays: in memory up to a limit, beyond it mapped onto files.

    Attributes:
        limit: bytes of host memory.
        folder: for the files; the system's folder for temporary ones by default. What lies in it
            belongs to nobody: it is gone when the process is, however it ends.
    """

    limit: int
    folder: Path | None = None
    _mapped: list[np.memmap[Any, Any]] = field(default_factory=list)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike, held: int) -> NDArray[Any]:
        """An array of unspecified contents.

        Args:
            shape: its shape.
            dtype: its type.
            held: bytes of host memory that are taken already.

        Raises:
            OSError: if the disk has no room for it.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if held + size <= self.limit:
            return _mapped_memory(shape, dtype, size)
        with tempfile.TemporaryFile(prefix="cdjax-", dir=self.folder) as file:
            # Room is taken now: a disk that is full later would end the process with a signal.
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
            array = np.memmap(file, dtype, "r+", shape=shape)
        self.adopt(array)
        return array

    def adopt(self, array: np.memmap[Any, Any]) -> None:
        """Takes an array that is mapped onto a file among those which `release` works on."""
        self._mapped.append(array)

    def release(self) -> None:
        """Takes what is in files out of the process's resident memory; the system may keep it."""
        for array in self._mapped:
            pages: mmap.mmap = array._mmap  # type: ignore[attr-defined]
            pages.madvise(mmap.MADV_DONTNEED)


def _mapped_memory(shape: tuple[int, ...], dtype: DTypeLike, size: int) -> NDArray[Any]:
    """Memory that goes back to the system with the array, however the allocator is set up."""
    # Private: shared memory, which is the default, hardly ever comes in huge pages.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if sys.platform != "win32" else {}
    pages = mmap.mmap(-1, max(size, 1), **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # A kernel without them.
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype, size // np.dtype(dtype).itemsize).reshape(shape)


def in_memory(array: Any) -> int:
    """Bytes of host memory that an array takes: none, if it is a file or mapped onto one."""
    held = isinstance(array, np.ndarray) and not isinstance(array, np.memmap)
    return int(array.nbytes) if held else 0


def cut(image: Raster, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[Any]:
    """A region of an image that goes on by reflection beyond its bottom and its right border.

    Args:
        image: any size from 1 pixel.
        rows: first and one past the last; from 0.
        columns: likewise.

    Returns:
        A contiguous array of the image's dtype.
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


@dataclass(frozen=True)
class Progress:
    """The stage that an interrupted run has finished last, kept in a folder.

    Attributes:
        folder: made when the first stage is saved.
        key: tells runs apart whose results would differ.
    """

    folder: Path
    key: str

    def load(self) -> tuple[int, np.memmap[Any, Any]] | None:
        """The number of the stage and its image, read-only; None if there is none of this key."""
        try:
            state = json.loads((self.folder / _STATE).read_text())
            if state["key"] != self.key:
                return None
            file = self.folder / state["file"]
            shape = tuple(state["shape"])
            if file.stat().st_size != int(np.prod(shape, dtype=np.int64)) * 4:
                return None
            return state["stage"], np.memmap(file, np.float32, "r", shape=shape)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, stage: int, image: NDArray[np.float32]) -> None:
        """Keeps a stage's image instead of the one before it.

        Raises:
            OSError: if it cannot be written; the one before it is still there then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"stage{stage}.raw"
        with open(file, "wb") as target:
            for row in range(0, len(image), 256):
                target.write(np.ascontiguousarray(image[row : row + 256]).data)
            target.flush()
            os.fsync(target.fileno())
        state = {"key": self.key, "stage": stage, "file": file.name, "shape": image.shape}
        temporary = self.folder / f"{_STATE}.part"
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self.folder / _STATE)
        for other in self.folder.glob("stage*.raw"):
            if other != file:
                other.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forgets it all: the run is done."""
        for file in (self.folder / _STATE, *self.folder.glob("stage*.raw")):
            file.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
