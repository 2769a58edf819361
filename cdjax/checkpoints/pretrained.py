"""Models that come with the package: one file each, in half precision.

`python -m experiments.bundle` writes such a file from a checkpoint. JAX is imported only once it is
needed: the command line asks here whether there is a model before it does anything heavy.
"""

import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdjax.model import Model

_FOLDER = Path(__file__).parents[1] / "weights"
_ABOUT = "about.json"


def bundled_file(name: str | os.PathLike[str]) -> Path | None:
    """The file of the bundled model of this name; None if there is none."""
    text = os.fspath(name)
    path = _FOLDER / f"{text}.npz"
    return path if Path(text).name == text and path.is_file() else None


def bundled_names() -> list[str]:
    """The names of all models that come with the package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.npz"))


def read_bundled(path: Path) -> "Model":
    """A model out of a bundled file, float32 arrays on JAX's default device.

    Raises:
        CheckpointError: if the file is none, or its arrays are not those of its specs.
    """
    import jax
    import numpy as np

    from cdjax.checkpoints.store import (
        check_params,
        config_from_json,
    )
    from cdjax.errors import CheckpointError
    from cdjax.model import Model

    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            about = json.loads(file[_ABOUT].tobytes())
            arrays = {name: file[name] for name in file.files if name != _ABOUT}
        config, embeddings = config_from_json(about)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: no readable bundled model; install cdjax anew") from error
    params: dict[str, Any] = {}
    for name, array in arrays.items():
        *folders, leaf = name.split("/")
        tree = params
        for folder in folders:
            tree = tree.setdefault(folder, {})
        tree[leaf] = array.astype(np.float32)
    what = f"{path}: the arrays are not those of its specs"
    check_params(params, config, embeddings=embeddings, what=what)
    return Model(jax.device_put(params), config)


def write_bundled(path: Path, model: "Model") -> None:
    """Writes a model in half precision, embeddings left out, whole or not at all.

    Args:
        path: the file; one that is there is replaced.
        model: anything but a lone encoder without use for others.

    Raises:
        CheckpointError: if a parameter is beyond half precision's range.
    """
    import jax
    import numpy as np

    from cdjax.checkpoints.store import config_to_json
    from cdjax.errors import CheckpointError

    params = {
        stage: {name: part for name, part in networks.items() if name != "embedding"}
        for stage, networks in model.params.items()
    }
    arrays: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(keys, simple=True, separator="/")
        if np.abs(leaf).max() > np.finfo(np.float16).max:
            raise CheckpointError(f"{name} has values that half precision cannot hold")
        arrays[name] = np.asarray(leaf, np.float16)
    text = json.dumps(config_to_json(model.config, embeddings=()))
    arrays[_ABOUT] = np.frombuffer(text.encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as beside:
        part_file = Path(beside) / path.name
        part_file.write_bytes(buffer.getvalue())
        part_file.replace(path)
