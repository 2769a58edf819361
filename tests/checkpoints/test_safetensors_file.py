"""Models as one safetensors file: bit for bit, whole or not at all, and strict when read."""

import json
import os
import random
import shutil
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cdjax import ModelConfig, Spec, load_model, save_model
from cdjax.checkpoints.safetensors_file import read_safetensors
from cdjax.cli.main import main
from cdjax.errors import CdjaxError, CheckpointError, ConversionError
from tests.models import random_model, same

SPECS = (Spec(2, (4, 6), (1, 1, 1, 1, 1), padding="zero"), Spec(1, (5,)))


def model(**changes: Any) -> Any:
    found = random_model(SPECS)
    sources = (("a.pth", "0" * 64), ("ä b.pth", "f" * 64))
    config = ModelConfig("wct", SPECS, "one, two", sources, ((2, "one"), (1, "two")), ((2, 0.3),))
    return type(found)(found.params, config)


def test_a_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "deep/model.safetensors"
    odd = model()
    bias = np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)
    odd.params["stage2"]["encoder"]["conv1_1"]["bias"] = bias
    save_model(path, odd)
    loaded = load_model(path)
    assert loaded.config == odd.config
    assert loaded.config.sources == odd.config.sources
    found = np.asarray(loaded.params["stage2"]["encoder"]["conv1_1"]["bias"])
    np.testing.assert_array_equal(found.view(np.uint32), bias.view(np.uint32))
    assert os.listdir(path.parent) == ["model.safetensors"]
    save_model(path, model(), overwrite=True)
    assert same(load_model(path), model())


def test_other_programs_can_read_it(tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", model())
    arrays = load_file(tmp_path / "model.safetensors")
    expected = model().params["stage1"]["encoder"]["conv0"]["kernel"]
    np.testing.assert_array_equal(arrays["stage1/encoder/conv0/kernel"], expected)
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        about = json.loads(file.metadata()["cdjax"])
    assert about["stages"][0]["widths"] == [4, 6]


def test_from_a_checkpoint_to_a_file_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, file, second = (str(tmp_path / name) for name in ("a", "b.safetensors", "c"))
    save_model(first, model())
    assert main(["convert", first, "-o", file]) == 0
    assert main(["convert", file, "-o", second]) == 0
    assert capsys.readouterr().err == ""
    for path in (file, second):
        loaded = load_model(path)
        assert same(loaded, model())
        assert loaded.config.sources == model().config.sources
    again = str(tmp_path / "again.safetensors")
    assert main(["convert", second, "-o", again]) == 0
    assert Path(again).read_bytes() == Path(file).read_bytes()


def test_bundled_models_and_copies_of_their_files(tmp_path: Path) -> None:
    import cdjax

    bundled = Path(cdjax.__file__).parent / "weights/adain-16x.npz"
    copy = shutil.copy(bundled, tmp_path / "copy.npz")
    assert same(load_model(copy), load_model("adain-16x"))
    save_model(tmp_path / "copy.safetensors", load_model("adain-16x"))
    assert same(load_model(tmp_path / "copy.safetensors"), load_model("adain-16x"))


def test_what_is_no_model_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for content in (b"dear", b""):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="already exists"):
            save_model(path, model())
        with pytest.raises(CheckpointError, match="not a checkpoint of cdjax"):
            save_model(path, model(), overwrite=True)
        assert path.read_bytes() == content
    save_file({"x": np.ones(3)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of cdjax"):
        save_model(path, model(), overwrite=True)
    assert list(load_file(path)) == ["x"]


# ---- hostile headers


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[Any], start: Any, end: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        bytes(8),
        file_of({}, length=2**62),
        file_of({}, length=2**24),
        file_of({}, length=100),
        file_of([]),
        file_of(b"{" * 100_000),
        file_of(b'{"a":' * 100_000),
        file_of(b"[" * 1_000_000),
        file_of({"x": tensor([2**40], 0, 2**42)}),
        file_of({"x": tensor([2**40], 0, 4)}, bytes(4)),
        file_of({"x": tensor([2**32, 2**32], 0, 0)}),
        file_of({"x": tensor([-1], 0, 4)}, bytes(4)),
        file_of({"x": tensor([1], 4, 0)}, bytes(4)),
        file_of({"x": tensor([1], 4, 8)}, bytes(8)),
        file_of({"x": tensor([1], 0, 4), "y": tensor([1], 0, 4)}, bytes(4)),
        file_of({"x": tensor([1], 0, 4)}, bytes(400)),
        file_of({"x": tensor([1.5], 0, 4)}, bytes(4)),
        file_of({"x": tensor([1], 0, 4, "O8")}, bytes(4)),
        file_of({"x": {"dtype": "F32"}}),
        file_of({"__metadata__": {"cdjax": 3}}),
        file_of({"__metadata__": ["cdjax"]}),
        file_of({"__metadata__": {"cdjax": "{"}}),
        file_of({"__metadata__": {"cdjax": "[1]"}}),
        file_of({"__metadata__": {"cdjax": "[" * 100_000}}),
        file_of({"__metadata__": {"cdjax": "9" * 100_000}}),
        file_of({"__metadata__": {"cdjax": '{"format": "cdjax model"}'}}),
        file_of(b'{"__metadata__": {"cdjax": "\\ud800"}}'),
        b"\x80\x02cos\nsystem\nU\x04trueR.",
    ],
)
def test_hostile_files_are_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert peak < 2**26


def test_files_that_are_cut_or_changed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, model())
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    generator = random.Random(0)
    for cut in [*range(0, header, 37), header, header + 4, len(content) - 1]:
        path.write_bytes(content[:cut])
        with pytest.raises(CheckpointError):
            load_model(path)
    messages = []
    for _ in range(300):
        changed = bytearray(content)
        changed[generator.randrange(header)] = generator.randrange(256)
        path.write_bytes(changed)
        try:
            load_model(path)
        except CdjaxError as error:
            messages.append(str(error))
    assert len(messages) > 150
    assert all(map(str.isprintable, messages))


def test_every_dtype(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    half = struct.pack("<HH", 0x3F80, 0xC000)
    header = {
        "brain": tensor([2], 0, 4, "BF16"),
        "flag": tensor([2], 4, 6, "BOOL"),
        "tiny": tensor([2], 6, 8, "F8_E4M3"),
    }
    path.write_bytes(file_of(header, half + b"\x01\x00" + b"\x01\x02"))
    arrays, metadata = read_safetensors(path)
    assert arrays["brain"].astype(np.float32).tolist() == [1.0, -2.0]
    assert arrays["flag"].tolist() == [True, False]
    assert not isinstance(arrays["tiny"], np.ndarray)
    assert metadata == {}
    network = {
        "features.0.weight": tensor([2], 0, 2, "F8_E4M3"),
        "features.0.bias": tensor([1], 2, 6),
    }
    path.write_bytes(file_of(network, bytes(6)))
    with pytest.raises(ConversionError, match=r"features\.0\.weight \(type F8_E4M3\)"):
        load_model(path)
