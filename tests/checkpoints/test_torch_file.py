"""PyTorch files are read as PyTorch reads them, and nothing in them is ever executed."""

import io
import pickle
import random
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cdjax.checkpoints.torch_file import read_torch_file
from cdjax.errors import TorchFileError
from tests.torch_files import (
    STORAGES,
    Raw,
    Tensor,
    checkpoint,
    legacy_bytes,
    name_of,
    zip_bytes,
    zip_entries,
)

Writer = Callable[[Any], bytes]


def test_a_checkpoint_is_read_whole(write: Writer, read: Any) -> None:
    expected = checkpoint()
    found = read(write(expected))
    assert list(found) == list(expected)
    for key in ("epoch", "rate", "note", "nothing", "flags"):
        assert found[key] == expected[key]
    assert type(found["model"]) is dict
    np.testing.assert_array_equal(found["model"]["weight"], expected["model"].items["weight"])
    np.testing.assert_array_equal(found["model"]["bias"], expected["model"].items["bias"].array)
    assert found["state"] == {"steps": [(1, 2**40), ()], "scalar": 7}
    assert found["state"]["scalar"].shape == ()


@pytest.mark.parametrize("dtype", STORAGES, ids=str)
def test_every_dtype(write: Writer, dtype: Any, read: Any) -> None:
    expected = np.array([[0, 1, 2], [1, 0, 5]]).astype(dtype)
    found = read(write({"x": expected}))["x"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


def test_arrays_are_contiguous_and_own_their_memory(write: Writer, read: Any) -> None:
    storage = np.arange(24, dtype=np.float32)
    views = {
        "turned": Tensor(storage, (4, 3), (1, 4), 2),
        "again": Tensor(storage, (2, 3), (12, 1), 1),
        "all": Tensor(storage, (12, 2), (2, 1)),
        "empty": Tensor(storage, (0, 3), (3, 1), 24),
    }
    found = read(write(views))
    np.testing.assert_array_equal(found["all"], storage.reshape(12, 2))
    np.testing.assert_array_equal(found["turned"], 2 + np.arange(12).reshape(3, 4).T)
    np.testing.assert_array_equal(found["again"], [[1, 2, 3], [13, 14, 15]])
    assert found["empty"].shape == (0, 3)
    for array in found.values():
        assert all(array.flags[flag] for flag in ("C_CONTIGUOUS", "OWNDATA", "WRITEABLE"))
    found["turned"][...] = 0
    assert found["again"][0, 0] == 1


def test_storage_views_of_legacy_files(read: Any) -> None:
    storage = np.arange(10, dtype=np.float32)
    found = read(legacy_bytes({"x": Tensor(storage, (2,), (2,), 1, view=(4, 5))}))
    np.testing.assert_array_equal(found["x"], [5, 7])
    with pytest.raises(TorchFileError, match="beyond its storage of 5 elements"):
        read(legacy_bytes({"x": Tensor(storage, (2,), (4,), 1, view=(4, 5))}))
    with pytest.raises(TorchFileError, match="view reaches beyond"):
        read(legacy_bytes({"x": Tensor(storage, (2,), (1,), view=(6, 5))}))


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int64, np.uint8])
def test_big_endian_files(dtype: Any, read: Any) -> None:
    expected = np.array([1, 2, 100]).astype(dtype)
    found = read(zip_bytes({"x": expected}, byteorder="big"))["x"]
    np.testing.assert_array_equal(found, expected)


def test_byte_order_is_little_where_old_files_do_not_say(read: Any) -> None:
    assert read(zip_bytes({"x": np.array([3])}, byteorder=None))["x"] == 3
    with pytest.raises(TorchFileError, match="the byte order is middle"):
        read(zip_bytes({"x": np.array([3])}, byteorder="middle"))


def test_any_byte_is_a_bool(write: Writer, read: Any) -> None:
    storage = np.array([0, 2, 255], np.uint8)
    found = read(write({"x": Tensor(storage, (3,), (1,), kind="BoolStorage")}))["x"]
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found.view(np.uint8), [0, 1, 1])


def test_a_dictionary_cannot_name_a_tensor_twice(read: Any) -> None:
    with pytest.raises(TorchFileError, match="a occurs twice"):
        read(zip_bytes({"x": Raw(b"}(" + b"U\x01aK\x01" * 2 + b"u")}))


# ---- tensors that do not lie within their storage, and sizes that are not there


@pytest.mark.parametrize(
    ("message", "tensors"),
    [
        ("beyond", [((3, 2), (2, 1), 1), ((7,), (1,), 0), ((2,), (6,), 0), ((), (), 6)]),
        ("beyond", [((2**40, 2**40), (1, 1), 0)]),
        ("sensible", [((2,), (-1,), 1), ((-2,), (1,), 0), ((2,), (1,), -1), ((True,), (1,), 0)]),
        ("sensible", [((2.0,), (1,), 0), ((2**63,), (0,), 0)]),
        ("overlaps", [((2**40,), (0,), 0), ((2, 2), (1, 1), 0), ((2, 3), (2, 1), 0)]),
        ("fit together", [((2, 3), (1,), 0), ((1,) * 33, (1,) * 33, 0)]),
    ],
)
def test_tensors_stay_within_their_storage(
    write: Writer, message: str, tensors: list[tuple[Any, Any, Any]], read: Any
) -> None:
    storage = np.arange(6, dtype=np.float32)
    for tensor in tensors:
        with pytest.raises(TorchFileError, match=message):
            read(write({"x": Tensor(storage, *tensor)}))


def test_huge_claims_take_no_memory(write: Writer, read: Any) -> None:
    storage = np.zeros(1 << 16, np.float32)
    claims = [write({"x": Tensor(storage, (n,), (1,), numel=n)}) for n in (2**40, 2**62, 2**70)]
    copies = write({str(n): Tensor(storage, storage.shape, (1,)) for n in range(100)})
    tracemalloc.start()
    for content in claims:
        with pytest.raises(TorchFileError, match=r"more than the whole file|sensible"):
            read(content)
    with pytest.raises(TorchFileError, match="4 times the file's size"):
        read(copies)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * len(copies)
    assert len(read(write({str(n): Tensor(storage, (5,), (1,)) for n in range(100)}))) == 100


def test_repeated_copies_of_a_list_are_bounded(read: Any) -> None:
    pairs = b"](" + b"".join(b"(J%bK\x01t" % n.to_bytes(4, "little") for n in range(2000)) + b"e"
    copy = name_of("collections", "OrderedDict") + b"h\x07\x85R"
    once, often = (Raw(b"](" + pairs + b"q\x07" + copy * n + b"e") for n in (1, 500))
    assert len(read(zip_bytes({"x": once}))["x"][1]) == 2000
    with pytest.raises(TorchFileError, match="too many dictionary items"):
        read(zip_bytes({"x": often}))


# ---- damaged files


def test_files_cut_short_are_refused(write: Writer, read: Any) -> None:
    content = write(checkpoint())
    read(content)
    for cut in {*range(0, len(content), 7), *range(len(content) - 60, len(content))}:
        with pytest.raises(TorchFileError):
            read(content[:cut])


def test_files_with_changed_bytes_raise_nothing_else(write: Writer, read: Any) -> None:
    rng = random.Random(0)
    content = write(checkpoint())
    messages = []
    for _ in range(1000):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 3))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            read(bytes(damaged))
        except TorchFileError as error:
            messages.append(str(error))
    assert len(messages) > 300
    assert all(map(str.isprintable, messages))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PyTorch file"),
        (b"\x80", "truncated or damaged"),
        (b"\xff\xd8\xff\xe0 a photograph", "not a PyTorch file"),
        (b"cos\nsystem\n(S'true'\ntR.", "not a PyTorch file"),
        (pickle.dumps({"a": 1}, 2), "magic number"),
        (legacy_bytes({}, magic=1), "magic number"),
        (legacy_bytes({}, protocol=1002), "unknown version"),
        (zip_bytes([1, 2]), "no dictionary"),
        (zip_bytes({1: 2}), "no dictionary"),
        (zip_entries({"code": b""}), "without one data.pkl"),
        (zip_entries({"data.pkl": b"\x80\x02}.", "x/data.pkl": b""}), "without one data.pkl"),
        (zip_entries({"data.pkl": b"\x80\x02}."}, compression=zipfile.ZIP_DEFLATED), "compressed"),
        (zip_entries({"data.pkl": b"\x80\x02}"}), "damaged"),
        (zip_entries({"data.pkl": b"\x80\x02K\x01ja\x00\x00\x00."}), "damaged"),
        (zip_entries({"data.pkl": b"\x80\x02NK\x01a."}), "damaged"),
        (zip_entries({"data.pkl": b"\x80\x02."}), "damaged"),
    ],
)
def test_what_is_no_pytorch_file(content: bytes, message: str, read: Any) -> None:
    with pytest.raises(TorchFileError, match=message):
        read(content)


def test_a_storage_that_is_missing_or_of_another_size(read: Any) -> None:
    with zipfile.ZipFile(io.BytesIO(zip_bytes({"x": np.zeros(4)}))) as archive:
        body = archive.read("archive/data.pkl")
    with pytest.raises(TorchFileError, match="storage 0 is missing"):
        read(zip_entries({"data.pkl": body, "filler": bytes(64)}))
    for size in (31, 33, 0):
        with pytest.raises(TorchFileError, match=f"storage 0 has {size} bytes instead of 32"):
            read(zip_entries({"data.pkl": body, "data/0": bytes(size)}))


def test_a_zip_that_claims_giant_entries(read: Any) -> None:
    content = bytearray(zip_bytes({"x": np.zeros(4, np.float32)}))
    entry = content.rindex(b"archive/data/0") - 46
    content[entry + 20 : entry + 28] = b"\xf0\xff\xff\x7f" * 2
    with pytest.raises(TorchFileError, match="more than its own length"):
        read(bytes(content))


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(TorchFileError, match=r"no such file"):
            read_torch_file(path)


# ---- against PyTorch itself and the published files


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_against_pytorch(legacy: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is only there to be compared with")
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    saved = {
        "model": model.state_dict(),
        "parameter": model[0].weight,
        "turned": base.permute(2, 0, 1),
        "slice": base[1:, ::2, 3],
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "bool": base > 7,
        "scalar": torch.tensor(3),
        "size": base.shape,
        "empty": torch.zeros(0, 3),
        "epoch": 4,
    }
    path = tmp_path / "file.pth"
    torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
    found = read_torch_file(path)
    assert list(found) == list(saved)
    assert found["epoch"] == 4
    assert found["size"] == (3, 4, 5)
    assert list(found["model"]) == list(saved["model"])
    pairs = [(found["model"][name], value) for name, value in saved["model"].items()]
    pairs += [(found[k], v) for k, v in saved.items() if isinstance(v, torch.Tensor)]
    for array, tensor in pairs:
        assert array.shape == tuple(tensor.shape)
        assert str(array.dtype) == str(tensor.dtype).removeprefix("torch.")
        expected = tensor.detach().double().numpy()
        np.testing.assert_array_equal(array.astype(np.float64), expected)


def test_published_files_against_pytorch(shared: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is only there to be compared with")
    paths = sorted((shared / "reference").glob("*/*.pth"))
    assert len(paths) == 27
    for path in paths:
        found, expected = read_torch_file(path), torch.load(path, map_location="cpu")
        found, expected = found.get("model", found), expected.get("model", expected)
        assert list(found) == list(expected)
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name].detach().numpy())
