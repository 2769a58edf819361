"""Models as Orbax checkpoint folders, or single safetensors files.

Both contain the arrays, and their configuration as JSON. Arrays are written from host memory and
read into it, so a model in a file is independent of devices. The names and shapes of the stored
arrays are compared with those that the configuration implies before any is used. In a folder, the
file SHA256SUMS (for `sha256sum --check`) detects damage.
"""

import dataclasses
import itertools
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from cdjax.checkpoints.orbax_file import (
    METADATA,
    array_names,
    open_array,
    read_array,
    read_metadata,
)
from cdjax.checkpoints.pickle_interpreter import printable
from cdjax.checkpoints.safetensors_file import has_suffix, read_safetensors, write_safetensors
from cdjax.errors import CheckpointError, first_line
from cdjax.io.atomic import Ours, StrPath, check_space, finish_replacing, flush, replace_folder
from cdjax.io.digest import sha256
from cdjax.io.processes import barrier, is_first, shared_folder
from cdjax.model import Model, ModelConfig, Params
from cdjax.networks.spec import TEACHER_WIDTHS, Spec

FORMAT_VERSION = 1
_FORMAT = "cdjax model"
_ARRAYS = "params"
_SUMS = "SHA256SUMS"
_OF_ORBAX = re.compile(rf"{_ARRAYS}/(_METADATA|([^/]+/)*manifest\.ocdbt|([^/]+/)*d/[^/.][^/]*)$")
"""The files of arrays that Orbax writes and reads; others in their folder are not read."""
_KEY = "cdjax"  # Of the configuration in the metadata of a safetensors file.
_MAX_LISTED = 100
_MAX_SUMS = 2**20  # Bytes of the file of sums.
_MAX_LAYERS = 64  # Of one block of a network.
_MAX_WIDTH = 2**16
_MAX_BYTES = 2**30  # Of all files of a checkpoint.
_MAX_PARAMETERS = 2**27  # VGG-19 with decoders for all five stages has 4 * 10**7.


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
    """One line of every kind of fault that has names, and the names (the first hundred)."""
    parts = []
    for fault, names in faults.items():
        shown = [printable(name) for name in itertools.islice(names, _MAX_LISTED)]
        if len(names) > _MAX_LISTED:
            shown.append(f"and {len(names) - _MAX_LISTED} more")
        parts += [f"{fault}: {', '.join(shown)}"] if names else []
    return "; ".join(parts)


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
    differing: dict[str, Any] = {"teacher": config.teachers, "strength": config.strengths}
    differing |= {"transform": config.transforms}
    return {
        "format": _FORMAT,
        "format_version": FORMAT_VERSION,
        "method": config.method,
        "teacher": config.teacher,
        "stages": [
            dataclasses.asdict(spec)
            | {"embedding": spec.stage in embeddings}
            | {key: dict(of)[spec.stage] for key, of in differing.items() if spec.stage in dict(of)}
            for spec in config.specs
        ],
        "sources": [{"file": name, "sha256": digest} for name, digest in config.sources],
    }


def config_from_json(metadata: Any) -> tuple[ModelConfig, list[int]]:
    """The reverse of `config_to_json`.

    Raises:
        LookupError, TypeError, ValueError, OverflowError: if it is no result of `config_to_json`.
    """
    specs = []
    for s in metadata["stages"]:
        widths, depths = (tuple(map(int, s[name])) for name in ("widths", "depths"))
        sound = [0 < n <= _MAX_WIDTH for n in widths] + [0 < n <= _MAX_LAYERS for n in depths]
        if not all(sound) or len(depths) < s["stage"]:
            raise ValueError(f"widths {widths} and depths {depths} are not those of a network")
        specs.append(Spec(s["stage"], widths, depths, s["padding"]))
    if metadata["method"] not in ("wct", "adain", "encoder"):
        raise ValueError(f"unknown method {metadata['method']!r}")
    sources = tuple((str(s["file"]), str(s["sha256"])) for s in metadata["sources"])
    stages = metadata["stages"]
    teachers = tuple((s["stage"], str(s["teacher"])) for s in stages if "teacher" in s)
    strengths = tuple((s["stage"], float(s["strength"])) for s in stages if "strength" in s)
    transforms = tuple((s["stage"], s["transform"]) for s in stages if "transform" in s)
    more = sources, teachers, strengths, transforms
    config = ModelConfig(metadata["method"], tuple(specs), str(metadata["teacher"]), *more)
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
    except CheckpointError:
        raise
    except Exception as error:  # Orbax and TensorStore promise no particular exceptions.
        raise CheckpointError(f"{what} ({printable(reason_of(error))})") from error


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
    sums = folder / _SUMS
    if not sums.is_file():
        raise CheckpointError(f"{folder}: not a checkpoint of cdjax; `cdjax convert` makes one")
    if sums.stat().st_size > _MAX_SUMS:
        raise CheckpointError(f"{folder}: damaged; {_SUMS} has more than {_MAX_SUMS} bytes")
    listed_sums = {name: digest for digest, name in _listed(folder)}
    within = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    needed = [METADATA] + [
        name for name, path in within.items() if _OF_ORBAX.match(name) and not path.is_dir()
    ]
    read = sorted({*listed_sums, *needed})
    files = {name: within[name] for name in read if name in within and within[name].is_file()}
    size = sum(path.stat().st_size for path in files.values())
    if size > _MAX_BYTES:
        raise CheckpointError(f"{folder}: its files have {size:,} bytes, more than a model has")
    damaged = [n for n in read if n not in files or sha256(files[n]) != listed_sums.get(n)]
    if damaged:
        names = listed({"damaged, missing or changed": damaged})
        raise CheckpointError(f"{folder}: {names}; copy the folder again, or make it again")


def _is_model(path: Path) -> bool:
    """Whether a path, which is to be overwritten, is of the kind that `save_model` writes there."""
    if has_suffix(path):
        return path.is_file() and is_model_file(path)
    return (path / _SUMS).is_file() and (path / _ARRAYS).is_dir()


def save_model(path: StrPath, model: Model, *, overwrite: bool = False) -> None:
    """Writes a model as one Orbax checkpoint folder or safetensors file, whole or not at all.

    In a run on several machines all processes call this with the same path on a shared disk.

    Args:
        path: the folder to make, or the file if its name ends in `.safetensors`; its parents are
            made too.
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
    if is_first() and not has_suffix(path):
        finish_replacing(path, _ours)
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} already exists; overwriting was not requested")
    if path.exists() and not _is_model(path):
        raise CheckpointError(f"{path} is not a checkpoint of cdjax and is not overwritten")
    stages = [spec.stage for spec in model.config.specs]
    embeddings = [k for k in stages if "embedding" in model.params.get(f"stage{k}", {})]
    abstract = abstract_params(model.config, embeddings=embeddings)
    check_params(model.params, abstract, what="the model's parameters do not match its specs")
    arrays = jax.tree.map(np.asarray, model.params)
    about = config_to_json(model.config, embeddings=embeddings)
    if has_suffix(path):
        with _reported(f"{path}: cannot be written"):
            if is_first():
                path.parent.mkdir(parents=True, exist_ok=True)
                flat = flatten_dict(arrays, sep="/")
                write_safetensors(path, flat, {_KEY: json.dumps(about)})
            barrier(f"{path} written")
        return
    with _reported(f"{path}: cannot be written"), shared_folder(path) as beside:
        new = beside / "new"
        if is_first():  # Otherwise Orbax's threads print tracebacks.
            check_space(beside, checkpoint_size(arrays))
        ocp.save_checkpointables(new, {_ARRAYS: arrays}, custom_metadata=about)
        if is_first():
            (new / _SUMS).write_text(_sums(new))
            flush(new)
            # Without leave to overwrite, one that another process has made by now stays.
            replace_folder(new, path, ours=_ours(path)) if overwrite else os.rename(new, path)


def _checked_config(about: Mapping[str, Any], what: str) -> tuple[ModelConfig, dict[str, Params]]:
    """A configuration and the shapes that it implies, from `config_to_json`."""
    if about.get("format") != _FORMAT:
        raise CheckpointError(f"{what}, but not of a cdjax model")
    if about.get("format_version") != FORMAT_VERSION:
        version = printable(str(about.get("format_version")))
        raise CheckpointError(
            f"{what}, but its format version {version} is not {FORMAT_VERSION}, which this cdjax "
            "reads; update cdjax"
        )
    with _reported(f"{what}, but its metadata is damaged"):
        config, embeddings = config_from_json(about)
        abstract = abstract_params(config, embeddings=embeddings)
    if (size := sum(leaf.size for leaf in jax.tree.leaves(abstract))) > _MAX_PARAMETERS:
        raise CheckpointError(f"{what}, but it claims {size} parameters; at most {_MAX_PARAMETERS}")
    return config, abstract


def read_checkpoint(path: Path) -> Model:
    """Reads a model that `save_model` wrote; see `cdjax.checkpoints.load.load_model`."""
    path = path.resolve()
    with _reported(f"{path}: cannot be read"):
        _verify(path)
    folder = path / _ARRAYS
    with _reported(f"{path}: not a readable checkpoint"):
        about = read_metadata(path)
    config, abstract = _checked_config(about, f"{path}: a checkpoint")
    expected = _leaves(abstract)
    with _reported(f"{path}: its arrays cannot be read"):
        names = array_names(folder)
        stores = {n: open_array(folder, n) for n in names if n in expected}
    found = dict.fromkeys(names, 0) | {
        name: jax.ShapeDtypeStruct(store.shape, store.dtype.numpy_dtype)
        for name, store in stores.items()
    }
    check_params(found, abstract, what=f"{path}: the arrays do not match its specs")
    with _reported(f"{path}: its arrays cannot be read"):
        arrays = {name: read_array(store) for name, store in stores.items()}
    return Model(jax.device_put(unflatten_dict(arrays, sep="/")), config)


def is_model_file(path: Path) -> bool:
    """Whether a safetensors file is a model that `save_model` wrote; False if it is damaged."""
    try:
        return _KEY in read_safetensors(path, arrays=False)[1]
    except CheckpointError:
        return False


def read_model_file(path: Path) -> Model:
    """Reads a safetensors file that `save_model` wrote."""
    arrays, metadata = read_safetensors(path)
    with _reported(f"{path}: its metadata is damaged"):
        about = json.loads(metadata[_KEY])
        about = about if isinstance(about, dict) else {}
    config, abstract = _checked_config(about, f"{path}: a safetensors file")
    check_params(arrays, abstract, what=f"{path}: the arrays do not match its specs")
    return Model(jax.device_put(unflatten_dict(arrays, sep="/")), config)
