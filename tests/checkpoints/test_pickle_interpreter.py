"""Hostile pickles in PyTorch's files are refused: nothing is executed, and nothing takes long."""

import pickle
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdjax.checkpoints.lpips_file import read_array_pickle
from cdjax.checkpoints.pickle_interpreter import Foreign, Name
from cdjax.checkpoints.pytorch import convert_paper_16x, convert_vgg
from cdjax.errors import ConversionError, PickleFileError, TorchFileError
from tests.torch_files import (
    Raw,
    doubled,
    doubled_everywhere,
    hostile,
    legacy_bytes,
    name_of,
    paper_files,
    write_zip,
    zip_bytes,
)

Writer = Callable[[Any], bytes]


REFUSED = {
    "inst": "os system",
    "extension": "EXT1",
    "state": "state",
    "storage called": "torch.FloatStorage",
    "size called": "torch.Size",
    "text persistent id": "PERSID os.system",
    "persistent id": "persistent id",
    "nested": "LIST",
    "obj": "OBJ",
}
"""What is refused wherever it is; other hostile objects are inert, and refused where needed."""


@pytest.mark.parametrize("kind", list(hostile(Path("x"))))
def test_nothing_of_a_hostile_pickle_is_executed(
    write: Writer, kind: str, read: Any, tmp_path: Path
) -> None:
    sentinel = tmp_path / "executed"
    opcodes, _ = hostile(sentinel)[kind]
    content = write({"x": np.array([1]), "y": Raw(opcodes)})
    if kind in REFUSED:
        with pytest.raises(TorchFileError, match=REFUSED[kind]) as caught:
            read(content)
        assert str(caught.value).isprintable()
    else:
        found = read(content)
        assert found["x"] == [1]
        assert isinstance(found["y"], Foreign | Name)
    assert not sentinel.exists()


@pytest.mark.parametrize("kind", sorted(set(hostile(Path("x"))) - REFUSED.keys()))
def test_hostile_objects_in_place_of_a_tensor_are_refused_by_name(
    kind: str, tmp_path: Path
) -> None:
    sentinel = tmp_path / "executed"
    opcodes, named = hostile(sentinel)[kind]
    encoder, _ = paper_files(tmp_path, 1)
    write_zip(tmp_path / "1SE.pth", encoder | {"conv11.weight": Raw(opcodes)})
    with pytest.raises(ConversionError) as caught:
        convert_paper_16x(tmp_path)
    message = str(caught.value)
    assert "not floating-point: conv11.weight (" in message
    assert f"{named})" in message.replace("\\\\", "\\")
    assert message.isprintable()
    assert not sentinel.exists()


def test_the_hostile_pickles_are_armed(tmp_path: Path) -> None:
    """Proof that the test above can fail: `pickle` itself runs them."""
    sentinel = tmp_path / "executed"
    for kind in ("reduce", "eval", "inst", "obj", "stack global", "nested"):
        opcodes, _ = hostile(sentinel)[kind]
        pickle.loads(b"\x80\x04" + opcodes + b".")
        assert sentinel.exists()
        sentinel.unlink()


@pytest.mark.parametrize("place", range(5))
def test_hostile_pickles_anywhere_in_a_legacy_file(place: int, read: Any, tmp_path: Path) -> None:
    sentinel = tmp_path / "executed"
    parts = [part + b"." for part in legacy_bytes({}).split(b".")[:-1]]
    assert len(parts) == 5
    parts[place] = b"\x80\x02" + hostile(sentinel)["reduce"][0] + b"."
    if place == 2:
        assert read(b"".join(parts)) == {}  # The sizes of C types, which are not looked at.
    else:
        with pytest.raises(TorchFileError):
            read(b"".join(parts))
    assert not sentinel.exists()


@pytest.mark.parametrize("opcodes", doubled_everywhere().values(), ids=list(doubled_everywhere()))
def test_a_tuple_doubled_forty_times_takes_no_time(
    write: Writer, opcodes: bytes, read: Any
) -> None:
    content = write({"x": Raw(opcodes)})
    with suppress(TorchFileError):
        assert set(read(content)) == {"x"}


def bombs() -> dict[str, bytes]:
    """Opcodes of 2**40 elements in all, through tuples, lists and dictionaries."""
    twice = {"lists": b"](h\x00h\x00e", "dictionaries": b"}(K\x01h\x00K\x02h\x00u"}
    nested = {kind: b"]q\x00" + (step + b"q\x00") * 40 for kind, step in twice.items()}
    return {"tuples": doubled(), **nested}


def places(bomb: bytes) -> dict[str, bytes]:
    """Opcodes with a bomb wherever the readers look at a value."""
    tensor = name_of("torch._utils", "_rebuild_tensor_v2")
    storage = b"(U\x07storage" + name_of("torch", "FloatStorage") + b"U\x010U\x03cpuK\x00tQ"
    array = name_of("numpy.core.multiarray", "_reconstruct") + name_of("numpy", "ndarray")
    array += b"K\x00\x85C\x01b\x87R"
    dtype = name_of("numpy", "dtype")
    foreign = name_of("argparse", "Namespace")
    hashed = name_of("torch", "FloatStorage")
    return {
        "a key": b"}" + bomb + b"K\x01s",
        "the key of a storage": b"(U\x07storage" + hashed + bomb + b"U\x03cpuK\x00tQ",
        "the size of a storage": b"(U\x07storage" + hashed + b"U\x01aU\x03cpu" + bomb + b"tQ",
        "the class of a storage": b"(U\x07storage" + bomb + b"U\x01aU\x03cpuK\x00tQ",
        "a view": b"(U\x07storage" + hashed + b"U\x01aU\x03cpuK\x00" + bomb + b"tQ",
        "an offset": tensor + b"(" + storage + bomb + b"))tR",
        "a shape": tensor + b"(" + storage + b"K\x00" + bomb + b"\x85)tR",
        "strides": tensor + b"(" + storage + b"K\x00)" + bomb + b"\x85tR",
        "a size": name_of("torch", "Size") + bomb + b"\x85R",
        "a parameter": name_of("torch._utils", "_rebuild_parameter") + bomb + b"\x85R",
        "the code of a dtype": dtype + bomb + b"\x89\x88\x87R",
        "the state of a dtype": dtype + b"U\x02f4\x89\x88\x87R" + bomb + b"b",
        "the shape of an array": array + b"(K\x01" + bomb + b"\x85NNNtb",
        "the state of an array": array + bomb + b"b",
        "text to encode": name_of("_codecs", "encode") + bomb + b"U\x06latin1\x86R",
        "the arguments of an unknown class": foreign + bomb + b"\x85R",
        "its new object": foreign + bomb + b"\x85\x81",
        "its state": foreign + b")\x81" + bomb + b"b",
        "its items": foreign + b")\x81" + bomb + b"a" + bomb + bomb + b"s",
    }


@pytest.mark.parametrize("place", places(b""))
@pytest.mark.parametrize("kind", bombs())
def test_nested_containers_take_no_time_anywhere(kind: str, place: str, tmp_path: Path) -> None:
    opcodes = places(bombs()[kind])[place]
    torch_file, array_file = tmp_path / "bomb.pth", tmp_path / "bomb.ckpt"
    assert len(opcodes) < 2000
    torch_file.write_bytes(zip_bytes({"x": Raw(opcodes)}))
    array_file.write_bytes(b"\x80\x04}U\x01x" + opcodes + b"s.")
    with pytest.raises((TorchFileError, ConversionError)) as caught:
        convert_vgg(torch_file)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    with pytest.raises(PickleFileError) as refused:
        read_array_pickle(array_file)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "opcodes",
    [
        b"\x8e" + (2**40).to_bytes(8, "little"),
        b"\x8d" + (2**40).to_bytes(8, "little"),
        b"B\xff\xff\xff\xff",
        b"X\xff\xff\xff\xff",
        b"T\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\x7f",
        b"\x95" + (2**60).to_bytes(8, "little") + b"K\x01",
        b"K\x01r\xff\xff\xff\xff",
    ],
    ids=["bytes 8", "text 8", "bytes", "text", "string", "integer", "frame", "memo"],
)
def test_claims_of_gigabytes_take_no_memory(opcodes: bytes, write: Writer, read: Any) -> None:
    content = write({"x": Raw(opcodes)})
    tracemalloc.start()
    with suppress(TorchFileError):
        assert read(content) == {"x": 1}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_long_integers_and_names_are_refused(read: Any) -> None:
    integer = b"\x8b" + (1000).to_bytes(4, "little") + b"\x7f" * 1000
    with pytest.raises(TorchFileError, match="an integer of more than 128 bits"):
        read(zip_bytes({"x": Raw(integer)}))
    # Each name would be a copy of a long text that is there once.
    text = b"X" + (2**16).to_bytes(4, "little") + b"a" * 2**16 + b"q\x05"
    with pytest.raises(TorchFileError, match="a function's name of more than 512 letters"):
        read(zip_bytes({"x": Raw(b"](" + text + b"h\x05h\x05\x93" * 5000 + b"e")}))
    encoded = name_of("_codecs", "encode") + b"h\x05U\x06latin1\x86R"
    with pytest.raises(TorchFileError, match="the arrays need more than 4 times"):
        read(zip_bytes({"x": Raw(b"](" + text + encoded * 5000 + b"e")}))


def test_the_number_of_tensors_is_bounded(read: Any) -> None:
    storage = b"(U\x07storage" + name_of("torch", "FloatStorage") + b"U\x010U\x03cpuK\x00tQ"
    arguments = b"(" + storage + b"K\x00K\x00\x85K\x01\x85tq\x02"
    start = name_of("torch._utils", "_rebuild_tensor_v2") + b"q\x01" + arguments
    with pytest.raises(TorchFileError, match="more than 65536 tensors"):
        read(zip_bytes({"x": Raw(b"(" + start + b"h\x01h\x02R" * 70_000 + b"t")}))


def test_integers_of_one_hash_are_no_keys(read: Any) -> None:
    numbers = ((2**61 - 1) * n for n in range(1, 50_001))
    items = (b"\x8a\x0a" + number.to_bytes(10, "little") + b"N" for number in numbers)
    assert read(zip_bytes({"x": Raw(b"}(" + b"".join(items) + b"u")}))["x"] == {}


@pytest.mark.parametrize("place", range(5))
def test_a_doubled_tuple_in_place_of_each_part_of_a_legacy_file(place: int, read: Any) -> None:
    parts = [part + b"." for part in legacy_bytes({}).split(b".")[:-1]]
    parts[place] = b"\x80\x02](" + doubled(slot=1) + doubled(slot=2) + b"e."
    if place == 2:
        assert read(b"".join(parts)) == {}  # The sizes of C types, which are not looked at.
        return
    with pytest.raises(TorchFileError):
        read(b"".join(parts))


def test_the_number_of_objects_is_bounded(read: Any) -> None:
    with pytest.raises(TorchFileError, match="more than 1048576 pickle opcodes"):
        read(zip_bytes({"x": Raw(b"]" * 2**20)}))


def test_memo_indices_take_no_memory(read: Any) -> None:
    last = b"\xff\xff\xff\xff"
    assert read(zip_bytes({"x": Raw(b"](K\x05r" + last + b"j" + last + b"e")}))["x"] == [5, 5]


def test_deep_nesting_and_cycles_do_no_harm(read: Any) -> None:
    deep = Raw(b"]" * 20_000 + b"a" * 19_999)
    assert isinstance(read(zip_bytes({"x": deep}))["x"], list)
    key = b"K\x01" + b"\x85" * 20_000
    assert read(zip_bytes({"x": Raw(b"}" + key + b"K\x01s")}))["x"] == {}
    cycle = read(zip_bytes({"x": Raw(b"]q\x01h\x01a")}))["x"]
    assert cycle[0] is cycle
