"""Reads pickles of nested dictionaries of NumPy arrays without executing them.

The pickle is not given to `pickle`: its opcodes are parsed by the standard library's `pickletools`
and only those that dictionaries of arrays are made of are understood, the three names that NumPy
writes among them. Nothing is imported, nothing of the file's choosing is called.
"""

import math
import os
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdjax.errors import PickleFileError

_NAMES = {
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
}
_DTYPES = ("f2", "f4", "f8", "i4", "i8")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_DATA = {
    "BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8",
}  # fmt: skip


@dataclass(frozen=True)
class _Name:
    kind: str


@dataclass
class _Array:
    """An array whose contents come with a later opcode."""

    value: np.ndarray | None = None


@dataclass
class _Dtype:
    code: str
    order: str = "="


def _call(function: Any, arguments: Any) -> Any:
    match function, arguments:
        case _Name("array"), (_Name("ndarray"), (0,), b"b"):
            return _Array()
        case _Name("dtype"), (str(code), False, True) if code in _DTYPES:
            return _Dtype(code)
    raise PickleFileError("refused: the file wants to call something other than NumPy's arrays")


def _build(target: Any, state: Any) -> None:
    match target, state:
        case _Dtype(), (3, "<" | ">" as order, None, None, None, -1, -1, 0):
            target.order = order
        case _Array(), (1, tuple(shape), _Dtype(code, order), bool(fortran), bytes(raw)):
            dtype = np.dtype(order + code)
            if any(type(n) is not int or n < 0 for n in shape) or len(shape) > 32:
                raise PickleFileError("damaged: an array's shape is not a tuple of sizes")
            if math.prod(shape) * dtype.itemsize != len(raw):
                raise PickleFileError(f"damaged: {len(raw)} bytes are no array of shape {shape}")
            array = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
            target.value = array.astype(dtype.newbyteorder("="))
        case _:
            raise PickleFileError("refused: the file wants to set an object's state")


def _update(target: Any, items: list[Any]) -> None:
    if not isinstance(target, dict):
        raise PickleFileError("damaged: an item is set of what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str) or key in target:
            raise PickleFileError("damaged: a key is no string, or is there twice")
        target[key] = value


def _run(stream: Any) -> Any:
    stack: list[Any] = []
    below: list[list[Any]] = []
    memo: dict[Any, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            pass
        elif name == "STOP":
            return stack.pop()
        elif name in _DATA:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in ("TUPLE", "SETITEMS"):
            items, stack = stack, below.pop()
            if name == "TUPLE":
                stack.append(tuple(items))
            else:
                _update(stack[-1], items)
        elif name in ("SETITEM", "BUILD", "REDUCE"):
            items = [stack.pop(-2), stack.pop()]
            if name == "SETITEM":
                _update(stack[-1], items)
            elif name == "REDUCE":
                stack.append(_call(*items))
            else:
                _build(*items)
                stack.append(items[0])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                last = stack.pop()
                argument = f"{stack.pop()} {last}"
            if argument not in _NAMES:
                raise PickleFileError(f"refused: the file wants to run {ascii(argument)[:120]}")
            stack.append(_Name(_NAMES[argument]))
        else:
            raise PickleFileError(f"refused: the file uses the pickle opcode {name}")
    raise PickleFileError("the pickle has no end")


def _plain(value: Any, path: tuple[str, ...], depth: int) -> dict[str, np.ndarray]:
    if isinstance(value, _Array) and value.value is not None:
        return {"/".join(path): value.value}
    if not isinstance(value, dict) or depth > 16:
        where = ascii("/".join(path))[:120]
        raise PickleFileError(f"{where} is neither a dictionary nor an array")
    flat: dict[str, np.ndarray] = {}
    for key, inner in value.items():
        flat |= _plain(inner, (*path, key), depth + 1)
    return flat


def read_array_pickle(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays in a pickle of nested dictionaries.

    Args:
        path: a file that `pickle.dump` wrote, protocol 2 and later.

    Returns:
        {path: array}, keys joined by "/"; arrays own their memory, in this machine's byte order.

    Raises:
        PickleFileError: if the file cannot be read, is damaged or holds anything else.
    """
    try:
        with open(Path(path), "rb") as file:
            return _plain(_run(file), (), 0)
    except OSError as error:
        raise PickleFileError(f"{path}: cannot be read ({error.strerror})") from error
    except PickleFileError as error:
        raise PickleFileError(f"{path}: {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError) as error:
        raise PickleFileError(f"{path}: no pickle of arrays, or a damaged one") from error
