"""Opens models: those in the package by name, and checkpoints by path."""

import os
from pathlib import Path

from cdjax.checkpoints.pretrained import bundled_file, read_bundled
from cdjax.checkpoints.store import read_checkpoint
from cdjax.errors import CheckpointError
from cdjax.model import Model


def load_model(path: str | os.PathLike[str]) -> Model:
    """Reads a model that `save_model` wrote, or one that comes with the package.

    Args:
        path: the checkpoint directory, or the name of a bundled model: `"wct-16x"` (a directory
            of that very name is `"./wct-16x"`).

    Returns:
        The model; float32 arrays on JAX's default device, whatever device wrote them.

    Raises:
        CheckpointError: if there is no such directory, it is no checkpoint of ours or of a newer
            format, or its arrays are not those of its specs (the message names all that are
            missing, unknown or misshapen), or its files are not what they were when written.
    """
    bundled = bundled_file(path)
    if bundled is not None:
        return read_bundled(bundled)
    if not Path(path).is_dir():
        raise CheckpointError(
            f"{os.fspath(path)}: no such directory, and no model of this name comes with cdjax"
        )
    return read_checkpoint(Path(path))
