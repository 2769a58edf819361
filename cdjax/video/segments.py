"""What a run over a film has finished, in a hidden folder, so that an interrupted one can resume.

The name of the folder identifies the run, so runs of other inputs never find each other's work. The
result is made in segments, each of them whole or not there, and the state behind the last one is
kept beside them.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import jax
import numpy as np

from cdjax.io.atomic import atomic_file
from cdjax.video.smoothing import FrameState

SEGMENT = 24
"""Frames of the source in a segment; an interruption loses at most the work on them."""

_STATE = re.compile(r"state-(\d+)\.npz")


@dataclass(frozen=True)
class SegmentFolder:
    """The segments of a run.

    Attributes:
        parent: the folder in which the folder of the run is made.
        key: identifies the run, as `cdjax.tiling.resume.run_key`; it is part of the folder's name.
    """

    parent: Path
    key: str

    @property
    def folder(self) -> Path:
        """Where the segments of this run are kept."""
        return self.parent / f".cdjax-{self.key[:32]}.film"

    @property
    def frames(self) -> Path:
        """The folder of all frames of a result that is not a film."""
        return self.folder / "frames"

    def segment(self, number: int) -> Path:
        """The file of a segment of a film, counted from 0."""
        return self.folder / f"segment-{number:06}"

    @contextmanager
    def made(self) -> Iterator[None]:
        """Makes the folder, and removes it after an exception unless a segment was finished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except BaseException:
            if not self._states():
                self.clear()
            raise

    def load(self, like: FrameState, part: Callable[[int], Path]) -> tuple[int, FrameState]:
        """The number of segments that are finished, and the state behind the last of them.

        Args:
            like: a state of the same shapes.
            part: where each segment is.

        Returns:
            0 and `like` if there is no state that is undamaged and whose segments exist.
        """
        for number, path in sorted(self._states(), reverse=True):
            leaves, structure = jax.tree.flatten(like)
            with suppress(OSError, ValueError, KeyError), np.load(path) as arrays:
                found = [arrays[f"arr_{i}"] for i in range(len(leaves))]
                fits = [a.shape == b.shape for a, b in zip(found, leaves, strict=True)]
                if all(fits) and all(part(i).exists() for i in range(number)):
                    return number, jax.tree.unflatten(structure, found)
        return 0, like

    def save(self, number: int, state: FrameState) -> None:
        """Saves the state behind the first `number` segments; OSError if it cannot be written."""
        path = self.folder / f"state-{number:06}.npz"
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, *map(np.asarray, jax.tree.leaves(state)))
        for _, other in self._states():
            if other != path:
                other.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes the folder."""
        rmtree(self.folder, ignore_errors=True)

    def _states(self) -> list[tuple[int, Path]]:
        found = []
        with suppress(OSError):
            for path in self.folder.iterdir():
                if match := _STATE.fullmatch(path.name):
                    found.append((int(match[1]), path))
        return found
