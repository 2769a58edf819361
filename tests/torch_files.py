"""Writes PyTorch files without PyTorch, opcode by opcode, for tests: honest and hostile ones."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.int32): "IntStorage",
    np.dtype(np.int16): "ShortStorage",
    np.dtype(np.int8): "CharStorage",
    np.dtype(np.uint8): "ByteStorage",
    np.dtype(np.bool_): "BoolStorage",
}


@dataclass(frozen=True)
class Raw:
    """Opcodes to be put into the pickle as they are."""

    opcodes: bytes


@dataclass(frozen=True)
class Ordered:
    """A dictionary to be written as a `collections.OrderedDict` with attributes, as modules do."""

    items: dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """An array to be written as a `torch.nn.Parameter`."""

    array: np.ndarray


@dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a flat storage; whatever is not given is what the storage says.

    `numel` is the storage's declared size, `view` a legacy (start, size) window of it, `kind`
    the name of its class.
    """

    storage: np.ndarray
    shape: tuple[Any, ...]
    strides: tuple[Any, ...]
    offset: Any = 0
    numel: int | None = None
    view: tuple[int, int] | None = None
    kind: str | None = None


def name_of(module: str, name: str) -> bytes:
    """The opcode GLOBAL."""
    return f"c{module}\n{name}\n".encode()


class _Writer:
    def __init__(self, *, legacy: bool) -> None:
        self.storages: list[np.ndarray] = []
        self._legacy = legacy

    def pickle(self, value: Any) -> bytes:
        return b"\x80\x02" + self.encode(value) + b"."

    def encode(self, value: Any) -> bytes:
        match value:
            case Raw(opcodes):
                return opcodes
            case Ordered(items):
                attributes = {"_metadata": {"version": 1}}
                made = name_of("collections", "OrderedDict") + b")R"
                return made + self._items(items) + self.encode(attributes) + b"b"
            case Parameter(array):
                rebuild = name_of("torch._utils", "_rebuild_parameter")
                return rebuild + self.encode((array, True, Ordered({}))) + b"R"
            case np.ndarray():
                array = value.copy(order="C")
                strides = tuple(n // array.itemsize for n in array.strides)
                return self._tensor(Tensor(array.reshape(-1), value.shape, strides))
            case Tensor():
                return self._tensor(value)
            case dict():
                return b"}" + self._items(value)
            case list():
                return b"](" + b"".join(map(self.encode, value)) + b"e"
            case tuple():
                return b"(" + b"".join(map(self.encode, value)) + b"t"
            case _:  # Numbers, strings, None: without their header and STOP.
                return pickle.dumps(value, 2)[2:-1]

    def _items(self, items: dict[str, Any]) -> bytes:
        pairs = (self.encode(key) + self.encode(value) for key, value in items.items())
        return b"(" + b"".join(pairs) + b"u"

    def _tensor(self, tensor: Tensor) -> bytes:
        known = [n for n, storage in enumerate(self.storages) if storage is tensor.storage]
        if not known:
            self.storages.append(tensor.storage)
        key = str(known[0] if known else len(self.storages) - 1)
        numel = tensor.storage.size if tensor.numel is None else tensor.numel
        kind = Raw(name_of("torch", tensor.kind or STORAGES[tensor.storage.dtype]))
        identifier: tuple[Any, ...] = ("storage", kind, key, "cuda:0", numel)
        if self._legacy:
            identifier += (None if tensor.view is None else ("view", *tensor.view),)
        storage = Raw(self.encode(identifier) + b"Q")
        arguments = (storage, tensor.offset, tensor.shape, tensor.strides, False, Ordered({}))
        return name_of("torch._utils", "_rebuild_tensor_v2") + self.encode(arguments) + b"R"


def zip_bytes(value: Any, *, byteorder: str | None = "little") -> bytes:
    """A file of PyTorch 1.6 and later that holds `value`; without byte order if that is None."""
    writer = _Writer(legacy=False)
    entries = {"data.pkl": writer.pickle(value)}
    if byteorder:
        entries["byteorder"] = byteorder.encode()
    for key, storage in enumerate(writer.storages):
        swapped = storage.byteswap() if byteorder == "big" else storage
        entries[f"data/{key}"] = swapped.tobytes()
    return zip_entries(entries)


def zip_entries(entries: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of files in the folder `archive`."""
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    return result.getvalue()


def legacy_bytes(value: Any, *, magic: int = 0x1950A86A20F9469CFC6C, protocol: int = 1001) -> bytes:
    """A file of PyTorch before 1.6 that holds `value`."""
    writer = _Writer(legacy=True)
    body = writer.pickle(value)
    keys = [str(key) for key in range(len(writer.storages))]
    header = [magic, protocol, {"little_endian": True, "type_sizes": {"int": 4}}]
    parts = [*(pickle.dumps(part, 2) for part in header), body, pickle.dumps(keys, 2)]
    for storage in writer.storages:
        parts += [struct.pack("<q", storage.size), storage.tobytes()]
    return b"".join(parts)


def write_zip(path: Path, value: Any) -> Path:
    """Writes `zip_bytes` to a file."""
    path.write_bytes(zip_bytes(value))
    return path


def write_legacy(path: Path, value: Any) -> Path:
    """Writes `legacy_bytes` to a file."""
    path.write_bytes(legacy_bytes(value))
    return path


def checkpoint() -> dict[str, Any]:
    """Some of everything that an honest checkpoint holds."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 4, 2, 2)).astype(np.float32)
    return {
        "epoch": 20,
        "rate": 1e-4,
        "note": "ä",
        "nothing": None,
        "flags": [True, False],
        "model": Ordered({"weight": weight, "bias": Parameter(weight[:, 0, 0, 0])}),
        "state": {"steps": [(1, 2**40), ()], "scalar": np.array(7, np.int64)},
    }


def hostile(sentinel: Path) -> dict[str, tuple[bytes, str]]:
    """Opcodes that create `sentinel` when executed by `pickle`, and what the message names."""
    command = f"touch {sentinel}"
    text = pickle.dumps(command, 2)[2:-1]
    code = pickle.dumps(f"open({str(sentinel)!r}, 'w').close()", 2)[2:-1]
    short = b"\x8c" + bytes([len(command)]) + command.encode()
    stack_global = b"\x8c\x02os\x8c\x06system\x93"
    system = name_of("os", "system")
    ordered = name_of("collections", "OrderedDict")
    return {
        "reduce": (system + text + b"\x85R", "os.system"),
        "eval": (name_of("builtins", "eval") + code + b"\x85R", "builtins.eval"),
        "python2": (name_of("__builtin__", "eval") + code + b"\x85R", "__builtin__.eval"),
        "inst": (b"(" + text + b"ios\nsystem\n", "os system"),
        "obj": (b"(" + system + text + b"o", "os.system"),
        "newobj": (name_of("subprocess", "Popen") + text + b"\x85\x81", "subprocess.Popen"),
        "stack global": (stack_global + short + b"\x85R", "os.system"),
        "nested": (b"](" + b"K\x01" + b"(" + system + text + b"\x85R" + b"l" + b"e", "os.system"),
        "persistent id": (system + text + b"\x85RQ", "os.system"),
        "storage class": (
            b"(" + pickle.dumps("storage", 2)[2:-1] + system + b"K\x00K\x00K\x00tQ",
            "os.system",
        ),
        "torch.load": (name_of("torch", "load") + text + b"\x85R", "torch.load"),
        "torch.storage._load_from_bytes": (
            name_of("torch.storage", "_load_from_bytes") + b"U\x03abc\x85R",
            "torch.storage._load_from_bytes",
        ),
        "getattr": (name_of("builtins", "getattr") + ordered + text + b"\x86R", "builtins.getattr"),
        "dotted": (b"\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93", "OrderedDict.__init__"),
        "extension": (b"\x82\x01" + text + b"\x85R", "EXT1"),
        "state": (ordered + b"}" + text + b"K\x01sb", "state"),
        "storage called": (name_of("torch", "FloatStorage") + b"K\x05\x85R", "torch.FloatStorage"),
        "size called": (name_of("torch", "Size") + text + b"\x85R", "torch.Size"),
        "text persistent id": (b"Pos.system\n", "PERSID os.system"),
        "control characters": (name_of("os\x1b[2J", "system"), r"os\x1b[2J.system"),
    }


def random_tensors(layers: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights of the given shapes and their biases."""
    generator = np.random.default_rng(len(layers))
    tensors: dict[str, np.ndarray] = {}
    for name, shape in layers.items():
        tensors[f"{name}.weight"] = generator.standard_normal(shape, np.float32)
        tensors[f"{name}.bias"] = generator.standard_normal(shape[0], np.float32)
    return tensors


_Files = tuple[dict[str, Any], dict[str, Any]]


def paper_files(folder: Path, stage: int, *, embeddings: bool = True) -> _Files:
    """Writes random 16x students of stage 1 or 2 as they were published; (encoder, decoder)."""
    if stage == 1:
        encoder = {"conv0": (3, 3, 1, 1), "conv11": (24, 3, 3, 3)}
        aux = {"conv11_aux": (64, 24, 1, 1)}
        decoder = {"conv11": (3, 24, 3, 3)}
    else:
        encoder = {"conv0": (3, 3, 1, 1), "conv11": (16, 3, 3, 3)}
        encoder |= {"conv12": (16, 16, 3, 3), "conv21": (32, 16, 3, 3)}
        aux = {"conv11_aux": (64, 16, 1, 1), "conv21_aux": (128, 32, 1, 1)}
        decoder = {"conv21": (16, 32, 3, 3), "conv12": (16, 16, 3, 3), "conv11": (3, 16, 3, 3)}
    files = random_tensors(encoder | aux if embeddings else encoder), random_tensors(decoder)
    for kind, tensors in zip("ED", files, strict=True):
        write_legacy(folder / f"{stage}S{kind}.pth", {"epoch": 20, "model": Ordered(tensors)})
    return files


def wct_files(folder: Path, stage: int) -> _Files:
    """Writes random teachers of stage 1 or 2 under the names of WCT; (encoder, decoder)."""
    encoder = {"0": (3, 3, 1, 1), "2": (64, 3, 3, 3)}
    decoder = {"1": (3, 64, 3, 3)}
    if stage == 2:
        encoder |= {"5": (64, 64, 3, 3), "9": (128, 64, 3, 3)}
        decoder = {"1": (64, 128, 3, 3), "5": (64, 64, 3, 3), "8": (3, 64, 3, 3)}
    files = random_tensors(encoder), random_tensors(decoder)
    for name, tensors in zip(("vgg_normalised", "feature_invertor"), files, strict=True):
        write_zip(folder / f"{name}_conv{stage}_1.pth", Ordered(tensors))
    return files


def doubled(leaf: bytes = b"K\x01", slot: int = 0) -> bytes:
    """Opcodes of a tuple of 2**40 elements in all, made of forty tuples of two references."""
    put, get = b"q" + bytes([slot]), b"h" + bytes([slot])
    return leaf + (put + get + b"\x86") * 40


def doubled_everywhere() -> dict[str, bytes]:
    """Opcodes that put such a tuple wherever a reader could format, compare or hash it."""
    big, ordered = doubled(), name_of("collections", "OrderedDict")
    tensor = name_of("torch._utils", "_rebuild_tensor_v2")
    array = name_of("numpy.core.multiarray", "_reconstruct")
    return {
        "a key": b"}" + big + b"K\x01s",
        "the name of a function": big + big + b"\x93",
        "a called function": big + b")R",
        "arguments": ordered + big + b"R",
        "arguments of a tensor": tensor + big + b"R",
        "arguments of an array": array + big + b"R",
        "a persistent id": big + b"Q",
        "the parts of one": b"(U\x07storage" + big * 4 + b"tQ",
        "items of a list of pairs": ordered + b"](" + big + b"e\x85R",
        "a state": ordered + big + b"b" + big,
        "two equal ones": b"](" + doubled(slot=1) + doubled(slot=2) + b"e",
    }
