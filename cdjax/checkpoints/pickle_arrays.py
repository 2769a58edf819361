"""NumPy arrays in pickles, for the restricted interpreter."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdjax.checkpoints.pickle_interpreter import (
    MAX_DIMENSIONS,
    Foreign,
    Name,
    PickleInterpreter,
)
from cdjax.errors import PickleFileError

_RECONSTRUCT = (
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
)
_FROM_BUFFER = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
_ENCODE = "_codecs.encode"
_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")

ARRAY_NAMES = frozenset({"numpy.ndarray", "numpy.dtype", _ENCODE, *_RECONSTRUCT, *_FROM_BUFFER})
"""The functions and classes that arrays consist of."""


@dataclass
class _Array:
    """An array whose content comes with a later opcode."""

    value: np.ndarray | None = None


@dataclass
class _Dtype:
    """A dtype whose byte order comes with a later opcode."""

    code: str
    order: str = "="


class ArrayInterpreter(PickleInterpreter):
    """An interpreter that knows NumPy's numeric arrays; they own their memory."""

    names = ARRAY_NAMES

    def call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        """An array, empty or of protocol 5, a dtype, or bytes, which protocol 2 writes as text."""
        match arguments:
            case (Name("numpy.ndarray"), (0,), b"b") if function in _RECONSTRUCT:
                return _Array()
            case (bytes(raw), _Dtype(code, order), tuple(shape), "C" | "F" as layout):
                if function in _FROM_BUFFER:
                    return self._array(shape, np.dtype(order + code), layout == "F", raw)
            case (str(code), _, _) if function == "numpy.dtype" and code in _DTYPES:
                return _Dtype(code)
            case (str(text), "latin1") if function == _ENCODE:
                self.allocate(len(text), "arrays")
                return text.encode("latin1")
        return Foreign(function) if self.allows_foreign else super().call(function, arguments)

    def set_state(self, target: Any, state: Any) -> None:
        """The content of an array, or the byte order of a dtype."""
        match target, state:
            case _Dtype(), (3, "<" | ">" | "|" as order, None, None, None, -1, -1, 0):
                target.order = order
            case _Array(), (1, tuple(shape), _Dtype(code, order), fortran, bytes(raw)):
                target.value = self._array(shape, np.dtype(order + code), fortran is True, raw)
            case ((_Array() | _Dtype()), _) if self.allows_foreign:
                pass  # An array of strings or objects, which stays without content.
            case _:
                super().set_state(target, state)

    def finished(self, value: Any) -> Any:
        """The array itself, once it has its content."""
        if isinstance(value, _Array):
            return Foreign("numpy.ndarray") if value.value is None else value.value
        return value

    def _array(self, shape: Any, dtype: np.dtype, fortran: bool, raw: bytes) -> np.ndarray:
        if len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
            raise PickleFileError("damaged: an array's shape is not a tuple of sizes")
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise PickleFileError(f"damaged: {len(raw)} bytes are not an array of shape {shape}")
        self.allocate(len(raw), "arrays")
        if dtype == np.bool_:  # In a file any byte may be a bool; in NumPy only 0 and 1.
            raw = (np.frombuffer(raw, np.uint8) != 0).tobytes()
        array = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
        return array.astype(dtype.newbyteorder("="), order="C")
