"""Files of weights of gigabytes, most of which are a hole: they cost little memory and time."""

import io
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from cdjax import save_model, student
from tests.models import random_model
from tests.torch_files import Tensor, legacy_bytes, zip_bytes

LENGTH = 3_000_000_000
MEMORY = 3 * 2**29
LARGE = 600_000_000  # Bytes of a tensor that is refused by itself.
NUMBERS = 10**8  # Of a tensor that is not.

LOAD = """
import resource, sys
from pathlib import Path
from cdjax import load_model
from cdjax.checkpoints import lpips_file, pretrained, pytorch, store
from cdjax.errors import CdjaxError
for path in map(Path, sys.argv[2:]):
    space = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmSize" in line)
    resource.setrlimit(resource.RLIMIT_AS, (1024 * space + int(sys.argv[1]), -1))
    try:
        load_model(path)
        print(path.name, "loaded")
    except CdjaxError as error:
        print(path.name, error)
"""


class _WithHoles:
    """A file in which zeros are holes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.flush, self.read = file.seek, file.tell, file.flush, file.read

    def write(self, data: Any) -> int:
        if len(data) > 1000 and not np.any(np.frombuffer(data, np.uint8)):
            self._file.seek(len(data), 1)
            return len(data)
        return self._file.write(data)


def zip_of_zeros(path: Path, name: str, start: bytes, others: Mapping[str, bytes]) -> None:
    """A zip of files, of which one has `start` and then many zeros."""
    with (
        open(path, "wb") as file,
        zipfile.ZipFile(_WithHoles(file), "w") as archive,  # type: ignore[call-overload]
    ):
        for other, content in others.items():
            archive.writestr(other, content)
        with archive.open(name, "w") as entry:
            entry.write(start)
            for _ in range(LARGE // 10**7):
                entry.write(bytes(10**7))


def tensors(count: int, numbers: int) -> dict[str, Tensor]:
    """Tensors that claim to have so many numbers."""
    zero = np.zeros(1, np.float32)
    return {str(n): Tensor(zero.copy(), (numbers,), (1,), numel=numbers) for n in range(count)}


def safetensors(count: int, metadata: Mapping[str, str]) -> bytes:
    """The beginning of a file of tensors."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    for n in range(count):
        at = 4 * NUMBERS * n
        header[str(n)] = {
            "dtype": "F32",
            "shape": [NUMBERS],
            "data_offsets": [at, at + 4 * NUMBERS],
        }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def write_files(folder: Path) -> None:
    long = struct.pack("<Q", LENGTH - 99)
    starts = {
        "storage.pth": legacy_bytes(tensors(1, LENGTH // 8)),
        "storages.pth": legacy_bytes(tensors(7, NUMBERS)),
        "bytes.pth": b"\x80\x04\x8e" + long,
        "text.pth": b"\x80\x04\x8d" + long,
        "integer.pth": b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 9),
        "name.pth": b"\x80\x04c",
        "number.pth": b"\x80\x04I",
        "nothing.pth": b"",
        "zip.pth": b"PK\x03\x04",
        "array.ckpt": b"\x80\x04}\x8c\x07VGG16_0\x8e" + long,
        "name.ckpt": b"\x80\x04}\x8c\x07VGG16_0c",
        "nothing.npz": b"",
        "nothing.safetensors": b"",
    }
    for name, start in starts.items():
        with open(folder / name, "wb") as file:
            file.write(start)
            file.truncate(LENGTH)
    for name, metadata in (("tensors", {}), ("model", {"cdjax": "{}"})):
        with open(folder / f"{name}.safetensors", "wb") as file:
            start = safetensors(7, metadata)
            file.write(start)
            file.truncate(len(start) + 7 * 4 * NUMBERS)
    with zipfile.ZipFile(io.BytesIO(zip_bytes(tensors(1, LARGE // 4)))) as archive:
        state = archive.read("archive/data.pkl")
    zip_of_zeros(folder / "zeros.pth", "archive/data/0", b"", {"archive/data.pkl": state})
    zip_of_zeros(folder / "pickle.pth", "archive/data.pkl", b"\x80\x04\x8e" + long, {})
    array, about = io.BytesIO(), io.BytesIO()
    head = {"descr": "<f4", "fortran_order": False, "shape": (LARGE // 4,)}
    np.lib.format.write_array_header_1_0(array, head)
    np.save(about, np.frombuffer(b"{}", np.uint8))
    others = {"about.json.npy": about.getvalue()}
    zip_of_zeros(folder / "zeros.npz", "a.npy", array.getvalue(), others)
    save_model(folder / "checkpoint", random_model((student(1),)))
    with open(next((folder / "checkpoint" / "params" / "d").iterdir()), "r+b") as file:
        file.truncate(LENGTH)


SAID = {
    "storage.pth": "storage 0 is larger than it should",
    "storages.pth": "the tensors need more memory than they should; save only the state_dict()",
    "zeros.pth": "storage 0 is larger than it should",
    "tensors.safetensors": "more tensors than there should be; save only the state_dict()",
    "model.safetensors": "more tensors than there should be",
    "zeros.npz": "damaged, or not a model of cdjax",
    "checkpoint": "more than a model has",
}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
def test_files_of_gigabytes_cost_little(tmp_path: Path) -> None:
    write_files(tmp_path)
    paths = sorted(tmp_path.iterdir())
    command = [sys.executable, "-c", LOAD, str(MEMORY), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines.keys() == {path.name for path in paths}
    for name, line in lines.items():
        assert line.startswith(str(tmp_path / name)), line
        assert SAID.get(name, "") in line, line
