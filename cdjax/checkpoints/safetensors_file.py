"""Tensors in safetensors files: arrays by name with text beside them; nothing is executed.

The library safetensors checks the header: that it is JSON of known types, and that the tensors lie
side by side and fill the file. This module limits the header's length, and reads also bfloat16,
which the library's NumPy interface does not know in every version.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import ml_dtypes  # noqa: F401  (registers the dtype "bfloat16" with NumPy)
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cdjax.checkpoints.bounded import MAX_TENSOR, MAX_TENSORS, TOO_LARGE, read_exactly
from cdjax.checkpoints.pickle_interpreter import Foreign, printable
from cdjax.errors import CheckpointError, first_line
from cdjax.io.atomic import StrPath, write_bytes

SUFFIX = ".safetensors"

_MAX_HEADER = 2**23  # Bytes; the header of a large VGG has some thousands.
_DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "bfloat16", "BOOL": "?",
    "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1",
}  # fmt: skip


def has_suffix(path: Path) -> bool:
    """Whether a path ends in `.safetensors`, in letters of any case."""
    return path.suffix.lower() == SUFFIX


def read_safetensors(
    path: StrPath, *, arrays: bool = True
) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays of a file by name, and the texts of its metadata.

    Args:
        path: a safetensors file.
        arrays: whether to read the arrays; without them only the metadata are returned.

    Returns:
        Arrays that own their memory, bfloat16 as `ml_dtypes.bfloat16`; a tensor of a type that
        NumPy does not have is an inert `Foreign`. The metadata are empty if the file has none.

    Raises:
        CheckpointError: if the file cannot be read or is damaged.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            too_large = CheckpointError(f"{path}: more tensors than there should be; {TOO_LARGE}")
            if os.fstat(file.fileno()).st_size > MAX_TENSORS + _MAX_HEADER:
                raise too_large
            length = int.from_bytes(file.read(8), "little")
            if length > _MAX_HEADER:
                raise CheckpointError(
                    f"{path}: not a safetensors file, or a damaged one: its header claims "
                    f"{length} bytes, more than {_MAX_HEADER}"
                )
            with safe_open(path, framework="numpy"):
                pass  # Raises if the header is not valid or does not fit the file.
            header = json.loads(file.read(length))
            metadata: dict[str, str] = header.pop("__metadata__", None) or {}
            found = header if arrays else {}
            for begin, end in (at["data_offsets"] for at in found.values()):
                if end - begin > MAX_TENSOR:
                    raise too_large
            return {name: _tensor(file, 8 + length, **at) for name, at in found.items()}, metadata
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, ValueError, TypeError, LookupError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = printable(first_line(error))
        raise CheckpointError(
            f"{path}: not a safetensors file, or a damaged one ({reason})"
        ) from error


def _tensor(
    file: IO[bytes], start: int, *, dtype: str, shape: list[int], data_offsets: list[int]
) -> Any:
    if dtype not in _DTYPES:
        return Foreign(f"type {dtype}")
    kind = np.dtype(_DTYPES[dtype]).newbyteorder("<")
    begin, end = data_offsets
    file.seek(start + begin)
    raw = read_exactly(file, end - begin)
    if dtype == "BOOL":  # In a file any byte may be a bool; in NumPy only 0 and 1.
        return np.minimum(raw, 1, out=raw).view(kind).reshape(shape)
    return raw.view(kind).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def write_safetensors(
    path: StrPath, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes arrays by name and texts as one file, whole or not at all; replaces a file at `path`.

    Raises:
        OSError: if the file cannot be written.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_bytes(path, save(contiguous, dict(metadata)), overwrite=True)
