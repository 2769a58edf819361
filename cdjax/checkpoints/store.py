"""Models as Orbax checkpoint folders: arrays, and their configuration as JSON.

Arrays are written from host memory and read into it, so a checkpoint is independent of devices. The
names and shapes of the stored arrays are compared with those that the configuration implies before
any is read. The file SHA256SUMS (for `sha256sum --check`) detects damage.
"""

import dataclasses
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cdjax.errors import CheckpointError, first_line
from cdjax.io.atomic import Ours, StrPath, check_space, flush, replace_folder
from cdjax.io.digest import sha256
from cdjax.io.processes import is_first, shared_folder
from cdjax.model import Model, ModelConfig, Params
from cdjax.networks.spec import TEACHER_WIDTHS, Spec

FORMAT_VERSION = 1
_FORMAT = "cdjax model"
_ARRAYS = "params"
_SUMS = "SHA256SUMS"


def abstract_networks(spec: Spec) -> dict[str, Params]:
    """The shapes of a spec's `"encoder"`, `"decoder"` and `"embedding"`; see `abstract_params`."""

    def layer(*kernel: int) -> dict[str, jax.ShapeDtypeStruct]:
        shapes = {"kernel": kernel, "bias": kernel[-1:]}
        return {part: jax.ShapeDtypeStruct(shape, np.float32) for part, shape in shapes.items()}

    networks: dict[str, Params] = {
        network: {conv.name: layer(3, 3, conv.features_in, conv.features_out) for conv in convs}
        for network, convs in (("encoder", spec.encoder), ("decoder", spec.decoder))
    }
    networks["encoder"]["conv0"] = layer(1, 1, 3, 3)
    pairs = zip(spec.taps, TEACHER_WIDTHS, strict=False)
    networks["embedding"] = {tap: layer(width, teacher) for (tap, width), teacher in pairs}
    return networks


def abstract_params(config: ModelConfig, *, embeddings: Collection[int] = ()) -> dict[str, Params]:
    """The shapes of a model's parameters, as a tree like `Model.params`; allocates nothing.

    The leaves are `jax.ShapeDtypeStruct`, float32. `embeddings` are the stages that have them.
    """
    tree: dict[str, Params] = {}
    for spec in config.specs:
        networks = tree[f"stage{spec.stage}"] = abstract_networks(spec)
        if config.method == "encoder":
            del networks["decoder"]
        if spec.stage not in embeddings:
            del networks["embedding"]
    return tree


def _leaves(tree: Any) -> dict[str, str]:
    """Shape and dtype of every leaf of a tree by its path."""

    def described(leaf: Any) -> str:
        dtype = getattr(leaf, "dtype", type(leaf).__name__)
        return f"{tuple(getattr(leaf, 'shape', ()))} {dtype}"

    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): described(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def listed(faults: Mapping[str, Collection[str]]) -> str:
    """One line of every kind of fault that has names, and the names."""
    return "; ".join(f"{fault}: {', '.join(names)}" for fault, names in faults.items() if names)


def check_params(params: Any, abstract: Any, *, what: str) -> None:
    """Raises `CheckpointError` if arrays, or their metadata, are not those of `abstract_params`."""
    found, expected = _leaves(params), _leaves(abstract)
    faults = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
        "misshapen": [
            f"{name} {found[name]}, expected {expected[name]}"
            for name in expected
            if name in found and found[name] != expected[name]
        ],
    }
    if any(faults.values()):
        raise CheckpointError(f"{what}: {listed(faults)}")


def config_to_json(config: ModelConfig, *, embeddings: Collection[int]) -> dict[str, Any]:
    """A configuration as JSON; `embeddings` are the stages that have them."""
    teachers = dict(config.teachers)
    return {
        "format": _FORMAT,
        "format_version": FORMAT_VERSION,
        "method": config.method,
        "teacher": config.teacher,
        "stages": [
            dataclasses.asdict(spec)
            | {"embedding": spec.stage in embeddings}
            | ({"teacher": teachers[spec.stage]} if spec.stage in teachers else {})
            | ({"strength": config.strength_of(spec.stage)} if config.strengths else {})
            for spec in config.specs
        ],
        "sources": [{"file": name, "sha256": digest} for name, digest in config.sources],
    }


def config_from_json(metadata: Any) -> tuple[ModelConfig, list[int]]:
    """The reverse of `config_to_json`.

    Raises:
        KeyError, TypeError, ValueError: if it is not a result of `config_to_json`.
    """
    specs = [
        Spec(s["stage"], tuple(map(int, s["widths"])), tuple(map(int, s["depths"])), s["padding"])
        for s in metadata["stages"]
    ]
    if metadata["method"] not in ("wct", "adain", "encoder"):
        raise ValueError(f"unknown method {metadata['method']!r}")
    sources = tuple((source["file"], source["sha256"]) for source in metadata["sources"])
    teachers = tuple((s["stage"], str(s["teacher"])) for s in metadata["stages"] if "teacher" in s)
    teacher = str(metadata["teacher"])
    strengths = tuple(float(s["strength"]) for s in metadata["stages"] if "strength" in s)
    method = metadata["method"]
    config = ModelConfig(method, tuple(specs), teacher, sources, teachers, strengths)
    return config, [s["stage"] for s in metadata["stages"] if s["embedding"]]


def checkpoint_size(arrays: Any) -> int:
    """Bytes that Orbax takes at most to write a tree of arrays: their samples and metadata."""
    leaves = jax.tree.leaves(arrays)
    return sum(leaf.nbytes for leaf in leaves) + 1000 * len(leaves) + 50_000


def reason_of(error: Exception) -> str:
    """Why a checkpoint cannot be read or written, in a few words if the system says so."""
    if code := re.search(r"os_error_code='(\d+)'", str(error)):  # TensorStore's way to say it.
        return os.strerror(int(code[1]))
    return getattr(error, "strerror", None) or first_line(error)[:200]


@contextmanager
def _reported(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Orbax and TensorStore promise no particular exceptions.
        raise CheckpointError(f"{what} ({reason_of(error)})") from error


def _sums(folder: Path) -> str:
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return "".join(f"{sha256(folder / name)}  {name}\n" for name in names)


def _listed(folder: Path) -> list[tuple[str, str]]:
    """SHA-256 and name of every file of a checkpoint, by its own list."""
    lines = (folder / _SUMS).read_text(errors="replace").splitlines()
    return [(digest, name) for digest, _, name in (line.partition("  ") for line in lines)]


def _ours(folder: Path) -> Ours:
    """Recognises the files of a checkpoint in a folder, if there is one."""
    names = {_SUMS}
    if (folder / _SUMS).is_file():
        names |= {name for _, name in _listed(folder)}
    return lambda path: path.as_posix() in names


def _verify(folder: Path) -> None:
    # Orbax detects damage too, but reports it with long tracebacks from its threads.
    sums = folder / _SUMS
    if not sums.is_file():
        raise CheckpointError(f"{folder}: not a checkpoint of cdjax; `cdjax convert` makes one")
    damaged = [
        ascii(name)
        for digest, name in _listed(folder)
        if not (folder / name).is_file() or sha256(folder / name) != digest
    ]
    if damaged:
        raise CheckpointError(f"{folder}: damaged, missing or changed: {', '.join(damaged)}")


def save_model(path: StrPath, model: Model, *, overwrite: bool = False) -> None:
    """Writes a model as one Orbax checkpoint folder, whole or not at all.

    In a run on several machines all processes call this with the same path on a shared disk.

    Args:
        path: the folder to make; its parents are made too.
        model: parameters must be float32 and of exactly the shapes that the specs imply.
        overwrite: whether an existing checkpoint may be replaced; it stays until the new one is
            complete. Other files in its folder are kept. A folder without a checkpoint of cdjax is
            never replaced.

    Raises:
        CheckpointError: if the path exists, the folder cannot be written, or the parameters do not
            match the configuration (the message names all that are missing, unknown or misshapen).
    """
    from orbax.checkpoint import v1 as ocp

    path = Path(path).resolve()
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} already exists; overwriting was not requested")
    if path.exists() and not ((path / _SUMS).is_file() and (path / _ARRAYS).is_dir()):
        raise CheckpointError(f"{path} is not a checkpoint of cdjax and is not overwritten")
    embeddings = [
        spec.stage
        for spec in model.config.specs
        if "embedding" in model.params.get(f"stage{spec.stage}", {})
    ]
    abstract = abstract_params(model.config, embeddings=embeddings)
    check_params(model.params, abstract, what="the model's parameters do not match its specs")
    arrays = jax.tree.map(np.asarray, model.params)
    about = config_to_json(model.config, embeddings=embeddings)
    with _reported(f"{path}: cannot be written"), shared_folder(path) as beside:
        new = beside / "new"
        if is_first():  # Otherwise Orbax's threads print tracebacks.
            check_space(beside, checkpoint_size(arrays))
        ocp.save_checkpointables(new, {_ARRAYS: arrays}, custom_metadata=about)
        if is_first():
            (new / _SUMS).write_text(_sums(new))
            flush(new)
            replace_folder(new, path, ours=_ours(path))


def read_checkpoint(path: Path) -> Model:
    """Reads a model that `save_model` wrote; see `cdjax.checkpoints.load.load_model`."""
    from orbax.checkpoint import v1 as ocp

    path = path.resolve()
    _verify(path)
    with _reported(f"{path}: not a readable checkpoint"):
        metadata = ocp.checkpointables_metadata(path)
        about: dict[str, Any] = metadata.custom_metadata or {}
        stored = metadata.metadata.get(_ARRAYS)
    if about.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: a checkpoint, but not of a cdjax model")
    if about.get("format_version") != FORMAT_VERSION:
        versions = f"format version {about.get('format_version')!r} is not {FORMAT_VERSION}"
        raise CheckpointError(f"{path}: {versions}, which this cdjax reads; update cdjax")
    with _reported(f"{path}: its metadata is damaged"):
        config, embeddings = config_from_json(about)
        abstract = abstract_params(config, embeddings=embeddings)
    check_params(stored, abstract, what=f"{path}: the arrays do not match its specs")
    # NumPy targets make Orbax load into host memory; broadcast arrays use no memory themselves.
    targets = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), abstract)
    with _reported(f"{path}: its arrays cannot be read"):
        arrays = ocp.load_checkpointables(path, {_ARRAYS: targets})[_ARRAYS]
    return Model(jax.device_put(arrays), config)
