"""The last finished stage of a run, kept in a folder so that an interrupted run can resume.

The name of the folder identifies the run, so runs of other inputs never find each other's stages.
A stage is one file, written whole or not at all, with the stage and the image's size in its name.
"""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from cdjax.io.atomic import atomic_file
from cdjax.model import Model

_STAGE = re.compile(r"stage([1-5])-(\d+)x(\d+)\.raw")


def run_key(model: Model, *settings: object) -> str:
    """A checksum of a model, of the `repr` of settings, and of all else that decides the pixels.

    That is the versions of cdjax and JAX and the kind of device.
    """
    versions = [version(name) for name in ("cdjax", "jax", "jaxlib")]
    facts = (model.config, settings, versions, jax.devices()[0].device_kind)
    digest = hashlib.sha256(repr(facts).encode())
    for leaf in jax.tree.leaves(model.params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class ResumeState:
    """The image of the last stage that a run finished.

    Attributes:
        parent: the folder in which the folder of the run is made when the first stage is saved.
        key: identifies the run, as `run_key`; it is part of the folder's name.
    """

    parent: Path
    key: str

    @property
    def folder(self) -> Path:
        """Where the stages of this run are kept."""
        return self.parent / f".cdjax-{self.key[:32]}.stages"

    def load(self) -> tuple[int, np.memmap[Any, Any]] | None:
        """The number of the stage and its image, (H, W, 3), float32, read-only.

        None if there is none, or none that is undamaged.
        """
        for stage, file, size in sorted(self._stages()):
            shape = (*size, 3)
            with suppress(OSError, ValueError):
                if file.stat().st_size == 4 * np.prod(shape, dtype=np.int64):
                    return stage, np.memmap(file, np.float32, "r", shape=shape)
        return None

    def save(self, stage: int, image: NDArray[np.float32]) -> None:
        """Saves a stage's image and removes those of stages before.

        Raises:
            OSError: if it cannot be written; the state is then that of the stage before.
        """
        height, width = image.shape[:2]
        file = self.folder / f"stage{stage}-{height}x{width}.raw"
        with suppress(FileNotFoundError):  # The same run in another process was faster: `clear`.
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                # A new file replaces an old one, because another process may be reading that.
                with atomic_file(file) as temporary, open(temporary, "wb") as target:
                    target.write(np.ascontiguousarray(image).data)
            except OSError:
                with suppress(OSError):  # Not empty: it has the stage before.
                    self.folder.rmdir()
                raise
            for _, other, _ in self._stages():
                if other != file:
                    other.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes the stages, with those that this run was killed in writing, and the folder."""
        for pattern in ("stage*.raw", ".cdjax-*.part"):
            for file in self.folder.glob(pattern):
                with suppress(OSError):
                    file.unlink()
        with suppress(OSError):
            self.folder.rmdir()

    def _stages(self) -> list[tuple[int, Path, tuple[int, int]]]:
        """The number, the file and the height and width of every stage in the folder."""
        found = []
        with suppress(OSError):
            for file in self.folder.iterdir():
                if match := _STAGE.fullmatch(file.name):
                    stage, height, width = map(int, match.groups())
                    found.append((stage, file, (height, width)))
        return found
