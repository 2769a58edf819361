"""Reads the folders that Orbax writes, array by array through TensorStore.

Orbax itself reads all arrays at once in threads of its own. Where a folder is damaged these print
long logs and tracebacks. Read one after the other, each array is whole or raises one error. Shapes
are compared before anything is allocated.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

METADATA = "_CHECKPOINT_METADATA"

_MAX_METADATA = 2**20  # Bytes; those of five stages have two thousand.
_ARRAY = "/zarr.json"


def read_metadata(folder: Path) -> dict[str, Any]:
    """The custom metadata that a checkpoint was saved with; empty if it has none.

    Raises:
        OSError, ValueError, RecursionError: if the file cannot be read or is damaged.
    """
    with open(folder / METADATA, "rb") as file:
        text = file.read(_MAX_METADATA + 1)
    if len(text) > _MAX_METADATA:
        raise ValueError(f"{METADATA} has more than {_MAX_METADATA} bytes")
    content = json.loads(text)
    about = content.get("custom_metadata") if isinstance(content, dict) else None
    return about if isinstance(about, dict) else {}


def _store(folder: Path, key: str = "") -> dict[str, Any]:
    return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}, "path": key}


def array_names(folder: Path) -> list[str]:
    """Names such as `"stage1/encoder/conv0/kernel"` of the arrays in a folder.

    Raises:
        ValueError: or whatever else TensorStore raises if the folder cannot be read.
    """
    keys = tensorstore.KvStore.open(_store(folder)).result().list().result()
    arrays = (key.decode() for key in keys if key.endswith(_ARRAY.encode()))
    return [name.removesuffix(_ARRAY).replace(".", "/") for name in arrays]


def open_array(folder: Path, name: str) -> Any:
    """One of `array_names`: a TensorStore that has a `shape` and a `dtype`, for `read_array`.

    Raises:
        ValueError: or whatever else TensorStore raises if the array cannot be read.
    """
    key = name.replace("/", ".") + "/"
    array: Any = tensorstore.open(
        {"driver": "zarr3", "kvstore": _store(folder, key)}, open=True, read=True
    ).result()
    for chunk in (array.chunk_layout.read_chunk.shape, array.chunk_layout.write_chunk.shape):
        if math.prod(chunk) > max(array.size, 1):
            raise ValueError(f"the pieces of {name} are larger than the array")
    return array


def read_array(array: Any) -> np.ndarray:
    """The values of `open_array`, in host memory."""
    values: np.ndarray = array.read().result()
    return values
