"""Hostile pickles in PyTorch's files are refused: nothing is executed, and nothing takes long."""

import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdjax.errors import TorchFileError
from tests.torch_files import Raw, doubled, doubled_everywhere, hostile, legacy_bytes, zip_bytes

Writer = Callable[[Any], bytes]


@pytest.mark.parametrize("kind", list(hostile(Path("x"))))
def test_hostile_pickles_are_refused_by_name(
    write: Writer, kind: str, read: Any, tmp_path: Path
) -> None:
    sentinel = tmp_path / "executed"
    opcodes, named = hostile(sentinel)[kind]
    with pytest.raises(TorchFileError) as caught:
        read(write({"x": np.array([1]), "y": Raw(opcodes)}))
    assert named in str(caught.value)
    assert str(caught.value).isprintable()
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
    with pytest.raises(TorchFileError, match=r"refused: the file wants to run os\.system"):
        read(b"".join(parts))
    assert not sentinel.exists()


@pytest.mark.parametrize("opcodes", doubled_everywhere().values(), ids=list(doubled_everywhere()))
def test_a_tuple_doubled_forty_times_takes_no_time(
    write: Writer, opcodes: bytes, read: Any
) -> None:
    content = write({"x": Raw(opcodes)})
    with suppress(TorchFileError):
        assert set(read(content)) == {"x"}


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
    with pytest.raises(TorchFileError, match="neither a string nor a number"):
        read(zip_bytes({"x": Raw(b"}" + key + b"K\x01s")}))
    cycle = read(zip_bytes({"x": Raw(b"]q\x01h\x01a")}))["x"]
    assert cycle[0] is cycle
