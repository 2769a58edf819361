"""The last finished stage of a run, kept in a folder so that an interrupted run can resume."""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from cdjax.io.atomic import write_text
from cdjax.model import Model

_STATE = "progress.json"


def run_key(model: Model, *settings: object) -> str:
    """A checksum of a model's configuration and parameters and of the `repr` of settings."""
    digest = hashlib.sha256(repr((model.config, settings)).encode())
    for leaf in jax.tree.leaves(model.params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class ResumeState:
    """The image of the last stage that a run finished.

    Attributes:
        folder: where it is kept; made when the first stage is saved.
        key: identifies the inputs of the run, as `run_key`; a state with another key is ignored.
    """

    folder: Path
    key: str

    def load(self) -> tuple[int, np.memmap[Any, Any]] | None:
        """The number of the stage and its image, (H, W, 3), float32, read-only.

        None if there is no state, it has another key or is damaged.
        """
        with suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads((self.folder / _STATE).read_text())
            file, shape = self.folder / state["file"], tuple(state["shape"])
            if state["key"] == self.key and file.stat().st_size == 4 * np.prod(shape):
                return state["stage"], np.memmap(file, np.float32, "r", shape=shape)
        return None

    def save(self, stage: int, image: NDArray[np.float32]) -> None:
        """Saves a stage's image and removes that of the stage before.

        Raises:
            OSError: if it cannot be written; the state is then that of the stage before.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # Not an atomic file: a name per stage and the state below tell whether it is complete, and
        # a run that was killed leaves no large file that the next one does not overwrite.
        file = self.folder / f"stage{stage}.raw"
        with open(file, "wb") as target:
            target.write(np.ascontiguousarray(image).data)
            target.flush()
            os.fsync(target.fileno())
        state = {"key": self.key, "stage": stage, "file": file.name, "shape": image.shape}
        write_text(self.folder / _STATE, json.dumps(state))
        for other in self.folder.glob("stage*.raw"):
            if other != file:
                other.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes the state, and the folder if it is then empty."""
        for pattern in (_STATE, "stage*.raw", ".cdjax-*.part"):
            for file in self.folder.glob(pattern):
                file.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
