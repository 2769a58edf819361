"""Reads PyTorch checkpoints without PyTorch, and without executing the pickle inside them.

Both formats are read: the zip of PyTorch 1.6 and later, and the older ("legacy") sequence of
pickles followed by raw storages. Pickles are given to the restricted interpreter of
`cdjax.checkpoints.pickle_interpreter`. Every size is compared with the length of the file before
memory is allocated for it.
"""

import math
import os
import struct
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes  # noqa: F401  (registers the dtype "bfloat16" with NumPy)
import numpy as np
from numpy.typing import NDArray

from cdjax.checkpoints.bounded import MAX_TENSOR, MAX_ZIP, TOO_LARGE, bounded, read_exactly
from cdjax.checkpoints.pickle_arrays import ARRAY_NAMES, ArrayInterpreter
from cdjax.checkpoints.pickle_interpreter import (
    DAMAGE,
    MAX_DIMENSIONS,
    MAX_OBJECTS,
    Foreign,
    Name,
    printable,
)
from cdjax.errors import PickleFileError, TorchFileError
from cdjax.io.atomic import StrPath

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ELEMENTS = {
    "Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "bfloat16",
    "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "bool",
    "ComplexFloat": "c8", "ComplexDouble": "c16", "QInt8": "i1", "QUInt8": "u1", "QInt32": "i4",
}  # fmt: skip
_STORAGES = {
    f"{module}.{name}Storage": np.dtype(dtype)
    for name, dtype in _ELEMENTS.items()
    for module in ("torch", "torch.cuda")
} | {"torch.storage.UntypedStorage": np.dtype("u1")}
_REBUILD = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_PARAMETER = (
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
)
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_FUNCTIONS = ("collections.OrderedDict", "torch.Size", _FROM_TYPE, *_PARAMETER, *_REBUILD)
_MAX_INTEGER = 2**48
_MAX_ORDER = 16
_INSTEAD = "instead of tensors by name; load it in PyTorch and save its state_dict()"
_DAMAGE: tuple[type[Exception], ...] = (*DAMAGE, zipfile.BadZipFile)


@dataclass(frozen=True)
class _Storage:
    """A window of `numel` elements from `start` in the storage called `key`."""

    key: str
    dtype: np.dtype
    start: int
    numel: int


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value < _MAX_INTEGER:
        raise TorchFileError("a size, stride or offset is not a sensible whole number")
    return value


def _overlaps(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    reach = 0
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1 and stride <= reach:
            return True
        reach += (size - 1) * stride
    return False


class _TorchInterpreter(ArrayInterpreter):
    """Tensors in pickles are allocated, and filled by `fill` afterwards."""

    names = frozenset(_FUNCTIONS) | _STORAGES.keys() | ARRAY_NAMES
    allows_foreign = True

    def __init__(self, file_length: int) -> None:
        super().__init__(file_length)
        self.storages: dict[str, tuple[np.dtype, int]] = {}  # (dtype, elements) by key
        self._pending: dict[str, list[tuple[np.ndarray, int, tuple[int, ...]]]] = {}
        self.has_foreign_storages = False
        self._items_left = min(file_length, MAX_OBJECTS)

    def set_state(self, target: Any, state: Any) -> None:
        """Ignores attributes of state dicts (their `_metadata`) and tensors; none is a tensor."""
        if not isinstance(target, dict | np.ndarray):
            super().set_state(target, state)

    def persistent(self, identifier: Any) -> _Storage | Foreign:
        """A storage, or a legacy view of one; foreign if its elements are of an unknown type.

        Old files give the classes of modules, with their source, in persistent ids.
        """
        match identifier:
            case ("module", Name(name), _, _):
                return Foreign(name)
            case ("storage", Name(name), *_) if name not in _STORAGES:
                self.has_foreign_storages = True
                return Foreign(name)
            case ("storage", Name(name), str(key), _, numel) if name in _STORAGES:
                view = None
            case ("storage", Name(name), str(key), _, numel, view) if name in _STORAGES:
                pass
            case _:
                raise TorchFileError("refused: a persistent id that is not a tensor's storage")
        dtype = _STORAGES[name]
        if _integer(numel) * dtype.itemsize > self._file_length:
            raise TorchFileError(f"storage {printable(key)} claims more than the whole file")
        if numel * dtype.itemsize > MAX_TENSOR:
            raise TorchFileError(f"storage {printable(key)} is larger than it should; {TOO_LARGE}")
        if self.storages.setdefault(key, (dtype, numel)) != (dtype, numel):
            raise TorchFileError(f"storage {printable(key)} is declared twice, differently")
        if view is None:
            return _Storage(key, dtype, 0, numel)
        _, start, size = view
        if _integer(start) + _integer(size) > numel:
            raise TorchFileError(f"a view reaches beyond the end of storage {printable(key)}")
        return _Storage(key, dtype, start, size)

    def call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        """Dictionaries, shapes and tensors."""
        match function, arguments:
            case "collections.OrderedDict", ():
                return {}
            case "collections.OrderedDict", (list(pairs),):
                # Each call copies its list: without a limit a small file could fill the memory.
                self._items_left -= len(pairs)
                if self._items_left < 0:
                    raise TorchFileError("refused: too many dictionary items for a file this long")
                result: dict[Any, Any] = {}
                self.update(result, [item for key, value in pairs for item in (key, value)])
                return result
            case "torch.Size", (tuple(sizes),):
                return sizes
            case name, ((np.ndarray() | Foreign()) as tensor, *_) if name in _PARAMETER:
                return tensor
            case "torch._tensor._rebuild_from_type_v2", (Name(name), _, tuple(inner), _):
                return self.call(name, inner) if name in _REBUILD else Foreign(name)
            case name, (Foreign() as storage, *_) if name in _REBUILD:
                return storage
            case name, (_Storage() as storage, offset, tuple(shape), tuple(strides), *_):
                if name in _REBUILD:
                    return self._tensor(storage, offset, shape, strides)
        if function in ARRAY_NAMES:
            return super().call(function, arguments)
        raise TorchFileError(f"damaged: {function} is called with the wrong arguments")

    def fill(self, key: str, raw: NDArray[np.uint8], byteorder: str) -> None:
        """Copies the bytes of a storage, which are changed, into the arrays that use it."""
        dtype, numel = self.storages[key]
        size = dtype.itemsize
        if len(raw) != numel * size:
            have = f"has {len(raw)} bytes instead of {numel * size}"
            raise TorchFileError(f"truncated or damaged: storage {printable(key)} {have}")
        if byteorder != sys.byteorder:
            raw.view(f"u{size // 2 if dtype.kind == 'c' else size}").byteswap(inplace=True)
        if dtype == np.bool_:  # In a file any byte may be a bool; in NumPy only 0 and 1.
            np.minimum(raw, 1, out=raw)
        for array, start, strides in self._pending.get(key, ()):
            # NumPy checks the bounds of the view once more.
            steps = [stride * size for stride in strides]
            array[...] = np.ndarray(array.shape, dtype, raw, start * size, steps)

    def _tensor(self, storage: _Storage, offset: int, shape: Any, strides: Any) -> np.ndarray:
        if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
            raise TorchFileError("damaged: a tensor's shape and strides do not fit together")
        for number in (offset, *shape, *strides):
            _integer(number)
        here = f"a tensor of shape {shape}, strides {strides} and offset {offset}"
        numel = math.prod(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if numel and last >= storage.numel:
            raise TorchFileError(f"{here} reaches beyond its storage of {storage.numel} elements")
        if numel and _overlaps(shape, strides):
            raise TorchFileError(f"{here} overlaps itself")
        self.allocate(numel * storage.dtype.itemsize, "tensors")
        array = np.empty(shape, storage.dtype)
        if numel:
            pending = self._pending.setdefault(storage.key, [])
            pending.append((array, storage.start + offset, strides))
        return array


def _read_zip(file: BinaryIO, length: int) -> Any:
    with zipfile.ZipFile(bounded(file, length, at_once=MAX_ZIP)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise TorchFileError("damaged: the zip contains two files of one name")
        if any(name.endswith("/constants.pkl") for name in entries):
            raise TorchFileError(f"contains a TorchScript program {_INSTEAD}")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise TorchFileError("the zip is compressed, unlike those of PyTorch")
        if sum(entry.file_size for entry in entries.values()) > length:
            raise TorchFileError("damaged: the zip claims to contain more than its own length")
        roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise TorchFileError("not a PyTorch file: a zip without one data.pkl")
        [root] = roots
        order = f"{root}byteorder"
        byteorder = "little"
        if order in entries:
            with archive.open(order) as stream:
                byteorder = stream.read(_MAX_ORDER).decode()
        if byteorder not in ("little", "big"):
            raise TorchFileError(f"damaged: the byte order is {printable(byteorder)}")
        interpreter = _TorchInterpreter(length)
        with archive.open(f"{root}data.pkl") as stream:
            result = interpreter.run(stream)
        for key in interpreter.storages:
            if f"{root}data/{key}" not in entries:
                raise TorchFileError(f"damaged: storage {printable(key)} is missing")
            size = entries[f"{root}data/{key}"].file_size
            with archive.open(f"{root}data/{key}") as stream:
                interpreter.fill(key, read_exactly(stream, min(size, MAX_TENSOR)), byteorder)
    return result


def _has_arrays(value: object) -> bool:
    """Whether a value is a dictionary of arrays, or of dictionaries of arrays."""
    if not isinstance(value, dict):
        return False
    # A hostile file may have many references to one large dictionary.
    unique = {id(inner): inner for inner in (value, *value.values()) if isinstance(inner, dict)}
    return any(isinstance(leaf, np.ndarray) for d in unique.values() for leaf in d.values())


def _read_legacy(stream: BinaryIO, length: int) -> Any:
    interpreter = _TorchInterpreter(length)
    first = interpreter.run(stream)
    if _has_arrays(first) and not interpreter.storages:
        return first  # What `pickle.dump` wrote, not `torch.save`.
    if first != _LEGACY_MAGIC:
        raise TorchFileError("not a PyTorch file: a pickle without PyTorch's magic number")
    if interpreter.run(stream) != _LEGACY_PROTOCOL:
        raise TorchFileError("a PyTorch file of an unknown version")
    interpreter.run(stream)  # Sizes of the writer's C types; storages do not depend on them.
    result = interpreter.run(stream)
    keys = interpreter.run(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise TorchFileError("damaged: the list of storages is not one of names")
    if sorted(keys) != sorted(interpreter.storages):
        if interpreter.has_foreign_storages:  # Their size in the file is not known.
            raise TorchFileError("contains tensors of an unknown type; save only the state_dict()")
        raise TorchFileError("damaged: the list of storages differs from that of the tensors")
    for key in keys:
        dtype, numel = interpreter.storages[key]
        if stream.read(8) != struct.pack("<q", numel):
            raise TorchFileError(f"truncated or damaged: storage {printable(key)} has another size")
        interpreter.fill(key, read_exactly(stream, numel * dtype.itemsize), "little")
    return result


def read_torch_file(path: StrPath) -> dict[str, Any]:
    """The dictionary in a PyTorch checkpoint, its tensors as NumPy arrays.

    Args:
        path: a file written by `torch.save`, in the zip or the legacy format, or by `pickle.dump`
            of a dictionary of NumPy arrays.

    Returns:
        The saved dictionary. Tensors, parameters and NumPy arrays are C-contiguous arrays that own
        their memory, bfloat16 as `ml_dtypes.bfloat16`. Numbers, strings, None, lists, tuples and
        dictionaries are kept; an `OrderedDict` becomes a `dict`. Objects of other functions and
        classes, such as `argparse.Namespace`, are an inert `Foreign` that has only a name. Items
        whose keys are not strings (inside it also integers or None) are dropped.

    Raises:
        TorchFileError: if the file cannot be read, is not a PyTorch file, is damaged or truncated,
            or contains something else than a dictionary. Nothing of the file is executed.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise TorchFileError("no such file")
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            start = file.read(4)
            if start == b"PK\x03\x04":
                result = _read_zip(file, length)
            elif start[:1] == b"\x80":
                file.seek(0)
                result = _read_legacy(file, length)
            else:
                raise TorchFileError("not a PyTorch file: neither a zip nor a pickle")
        if isinstance(result, Foreign):
            raise TorchFileError(f"contains an object of {printable(result.text)} {_INSTEAD}")
        if not isinstance(result, dict) or (result and not any(isinstance(k, str) for k in result)):
            raise TorchFileError("contains no dictionary of tensors; save a state_dict()")
    except (TorchFileError, PickleFileError) as error:
        raise TorchFileError(f"{path}: {error}") from None
    except MemoryError as error:
        raise TorchFileError(f"{path}: does not fit in memory") from error
    except _DAMAGE as error:
        raise TorchFileError(f"{path}: truncated or damaged ({printable(str(error))})") from error
    except OSError as error:
        raise TorchFileError(f"{path}: cannot be read ({error.strerror})") from error
    return {name: value for name, value in result.items() if isinstance(name, str)}
