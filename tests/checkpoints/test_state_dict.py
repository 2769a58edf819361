"""Weights are found among what training programs save beside them."""

import argparse
import collections
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from cdjax import load_model
from cdjax.checkpoints.pytorch import convert_paper_16x
from cdjax.errors import ConversionError, TorchFileError
from cdjax.model import Model
from tests.models import same
from tests.torch_files import (
    Ordered,
    Parameter,
    Raw,
    legacy_bytes,
    name_of,
    paper_files,
    random_tensors,
    write_legacy,
    write_zip,
    zip_bytes,
    zip_entries,
)

Tensors = dict[str, Any]
VGG = random_tensors({"features.0": (64, 3, 3, 3)})


def pickled(value: object) -> Raw:
    """Opcodes of a value as `torch.save` pickles it."""
    return Raw(pickle.dumps(value, 2)[2:-1])


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def optimizer(tensors: Tensors) -> Tensors:
    """The state of Adam after a step."""
    moments = {n: {"step": 3, "exp_avg": value} for n, value in enumerate(tensors.values())}
    groups = [{"lr": 1e-4, "betas": (0.9, 0.999), "params": list(moments)}]
    return {"state": moments, "param_groups": groups}


LAYOUTS: dict[str, Callable[[Tensors], Any]] = {
    "plain": dict,
    "ordered": Ordered,
    "parameters": lambda t: {name: Parameter(value) for name, value in t.items()},
    **{
        key: lambda t, key=key: {key: Ordered(t), "epoch": 3, "optimizer": optimizer(t)}
        for key in ("state_dict", "model_state_dict", "model", "params", "net", "generator")
    },
    "module": lambda t: prefixed(t, "module."),
    "two prefixes": lambda t: {"state_dict": Ordered(prefixed(t, "module.encoder."))},
    "flat beside other values": lambda t: {**t, "epoch": 7, "loss": 0.5, "best": None},
    "arrays": lambda t: {name: pickled(value) for name, value in t.items()},
    "nested arrays": lambda t: {"model": pickled(t)},
    "arrays in Fortran's order": lambda t: {n: pickled(np.asfortranarray(v)) for n, v in t.items()},
    "half": lambda t: {name: value.astype(np.float16) for name, value in t.items()},
    "bfloat16": lambda t: {name: value.astype(ml_dtypes.bfloat16) for name, value in t.items()},
    "double": lambda t: {name: value.astype(np.float64) for name, value in t.items()},
}


def expected(tensors: Tensors, layout: str) -> Tensors:
    dtypes = {"half": np.float16, "bfloat16": ml_dtypes.bfloat16}
    dtype: Any = dtypes.get(layout, np.float32)
    return {name: value.astype(dtype).astype(np.float32) for name, value in tensors.items()}


def convert(folder: Path, content: bytes) -> Model:
    """The model of a stage whose encoder is the given file."""
    (folder / "1SE.pth").write_bytes(content)
    return convert_paper_16x(folder)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("write", [zip_bytes, legacy_bytes], ids=["zip", "legacy"])
def test_layouts_of_training_programs(layout: str, write: Any, tmp_path: Path) -> None:
    encoder, _ = paper_files(tmp_path, 1)
    plain = convert(tmp_path, write(expected(encoder, layout)))
    assert same(convert(tmp_path, write(LAYOUTS[layout](encoder))), plain)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_pickled_without_pytorch(protocol: int, tmp_path: Path) -> None:
    encoder, _ = paper_files(tmp_path, 1)
    plain = convert(tmp_path, zip_bytes(encoder))
    for content in (encoder, {"params": encoder, "epoch": 3}):
        assert same(convert(tmp_path, pickle.dumps(content, protocol)), plain)


def foreign_objects() -> dict[str, Any]:
    """What programs save beside their tensors."""
    options = argparse.Namespace(lr=1e-4, layers=["conv1"], weights=np.arange(3.0))
    return {
        "namespace": pickled(options),
        "path": pickled(Path("/data/coco")),
        "sets": pickled({"a", "b"}),
        "frozen": Raw(pickle.dumps(frozenset("ab"), 4)[2:-1]),
        "set of protocol 4": Raw(b"\x8f(K\x01K\x02\x90"),
        "default": pickled(collections.defaultdict(list, {"loss": [1.0, 2.0]})),
        "counter": pickled(collections.Counter({30: 1, 60: 1})),
        "keys": pickled({(1, 2): "tuple", 2.5: "float", b"b": "bytes"}),
        "scalar": pickled(np.float64(31.5)),
        "strings": pickled(np.array(["a", "bc"])),
        "objects": pickled(np.array([None, "x"], object)),
        "function": pickled(print),
        "device": Raw(name_of("torch", "device") + b"U\x04cuda\x85R"),
        "dtype": Raw(name_of("torch", "float16")),
        "keywords": Raw(name_of("my.project", "Config") + b")}U\x02lrK\x01s\x92"),
        "unknown tensor": Raw(
            name_of("torch._utils", "_rebuild_tensor_v2")
            + b"((U\x07storage"
            + name_of("torch", "Bits8Storage")
            + b"U\x019U\x03cpuK\x04tQK\x00(K\x04t(K\x01ttR"
        ),
    }


@pytest.mark.parametrize("kind", foreign_objects())
def test_foreign_objects_are_skipped(kind: str, tmp_path: Path) -> None:
    encoder, _ = paper_files(tmp_path, 1)
    plain = convert(tmp_path, zip_bytes(encoder))
    beside = {"opt": foreign_objects()[kind], "model": Ordered(encoder)}
    assert same(convert(tmp_path, zip_bytes(beside)), plain)
    inside = encoder | {"opt": foreign_objects()[kind]}
    assert same(convert(tmp_path, zip_bytes(inside)), plain)


def test_a_model_saved_whole_says_what_to_do(tmp_path: Path) -> None:
    encoder, _ = paper_files(tmp_path, 1)
    whole = Raw(name_of("my.models", "SmallEncoder") + b")\x81" + pickled({"a": 1}).opcodes + b"b")
    with pytest.raises(TorchFileError, match=r"object of my\.models\.SmallEncoder.*state_dict\(\)"):
        convert(tmp_path, zip_bytes(whole))
    old = b"(U\x06module" + name_of("my.models", "SmallEncoder") + b"U\x01aU\x01btQ)\x81}b"
    with pytest.raises(TorchFileError, match=r"object of my\.models\.SmallEncoder.*state_dict\(\)"):
        convert(tmp_path, legacy_bytes(Raw(old)))
    script = zip_entries({"data.pkl": b"\x80\x02}.", "constants.pkl": b"\x80\x02)."})
    with pytest.raises(TorchFileError, match=r"a TorchScript program .*state_dict\(\)"):
        convert(tmp_path, script)
    tensors = {"model": Ordered(encoder), "x": foreign_objects()["unknown tensor"]}
    keys = [str(key) for key in range(len(encoder))]
    listed, more = (pickle.dumps(found, 2) for found in (keys, [*keys, "9"]))
    unknown = legacy_bytes(tensors).replace(listed, more)
    with pytest.raises(TorchFileError, match="tensors of an unknown type; save only the state"):
        convert(tmp_path, unknown)
    with pytest.raises(TorchFileError, match="no dictionary of tensors; save a state_dict"):
        convert(tmp_path, zip_bytes([encoder]))


def test_several_networks_that_fit_are_listed(tmp_path: Path) -> None:
    encoder, _ = paper_files(tmp_path, 1)
    average = {name: value / 2 for name, value in encoder.items()}
    both = {"model": Ordered(encoder), "ema\n": Ordered(average), "step": 5}
    with pytest.raises(ConversionError, match=r"several of its entries fit: model, ema\\n; save"):
        convert(tmp_path, zip_bytes(both))
    other = random_tensors({"conv11": (3, 24, 3, 3)})
    plain = convert(tmp_path, zip_bytes(encoder))
    two = {"encoder": Ordered(encoder), "decoder": Ordered(other)}
    assert same(convert(tmp_path, zip_bytes(two)), plain)


def test_what_does_not_fit_is_named_by_the_nearest(tmp_path: Path) -> None:
    encoder, _ = paper_files(tmp_path, 1)
    del encoder["conv11.bias"]
    content = {"a": {"x": np.ones(2)}, "state_dict": prefixed(encoder, "module.")}
    with pytest.raises(ConversionError, match=r"1SE\.pth: missing: conv11\.bias$"):
        convert(tmp_path, zip_bytes(content))
    mixed = prefixed(encoder, "module.") | {"other.weight": np.ones(1)}
    with pytest.raises(ConversionError, match="unknown: module"):
        convert(tmp_path, zip_bytes(mixed))
    with pytest.raises(ConversionError, match=r"no tensors by name, only epoch, note; save"):
        convert(tmp_path, zip_bytes({"epoch": 3, "note": "none"}))
    many = {str(n): {"a.weight": np.ones(1)} for n in range(100)}
    with pytest.raises(ConversionError, match="contains 100 dictionaries of tensors"):
        convert(tmp_path, zip_bytes(many))
    unknown = {f"layer{n}": np.ones(1, np.float32) for n in range(500)}
    with pytest.raises(ConversionError, match="and 400 more") as caught:
        convert(tmp_path, zip_bytes(unknown))
    assert len(str(caught.value)) < 10_000


def test_torchvision_in_other_layouts(tmp_path: Path) -> None:
    plain = load_model(write_zip(tmp_path / "plain.pth", VGG))
    lightning = {"state_dict": prefixed(VGG, "module."), "pytorch-lightning_version": "2.0"}
    for name, write in (("a.ckpt", write_zip), ("b.ckpt", write_legacy), ("c.tar", write_zip)):
        assert same(load_model(write(tmp_path / name, lightning)), plain)
    (tmp_path / "d.ckpt").write_bytes(pickle.dumps(lightning, 5))
    assert same(load_model(tmp_path / "d.ckpt"), plain)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
def test_safetensors_in_place_of_pytorch_files(dtype: Any, tmp_path: Path) -> None:
    files = paper_files(tmp_path, 1)
    for kind, tensors in zip("ED", files, strict=True):
        values = {name: value.astype(dtype) for name, value in tensors.items()}
        write_zip(tmp_path / f"1S{kind}.pth", values)
    plain = load_model(tmp_path)
    for kind, tensors in zip("ED", files, strict=True):
        values = {f"module.{name}": value.astype(dtype) for name, value in tensors.items()}
        save_file(values, tmp_path / f"1S{kind}.safetensors", {"format": "pt"})
    with pytest.raises(ConversionError, match=r"1SE\.safetensors exists too"):
        load_model(tmp_path)
    for kind in "ED":
        (tmp_path / f"1S{kind}.pth").unlink()
    assert same(load_model(tmp_path), plain)
    save_file(VGG, tmp_path / "vgg.safetensors")
    assert same(
        load_model(tmp_path / "vgg.safetensors"), load_model(write_zip(tmp_path / "v", VGG))
    )


@pytest.mark.parametrize("write", [zip_bytes, lambda value: b"\x80\x02" + value.opcodes + b"."])
def test_many_references_to_one_dictionary_take_no_time(write: Any, tmp_path: Path) -> None:
    large = b"}q\x00(" + b"".join(b"J%bN" % n.to_bytes(4, "little") for n in range(100_000)) + b"u"
    references = b"".join(b"X\x06\x00\x00\x00%06dh\x00" % n for n in range(20_000))
    started = time.perf_counter()
    with pytest.raises((ConversionError, TorchFileError)):
        convert(tmp_path, write(Raw(b"}(U\x01a" + large + references + b"u")))
    assert time.perf_counter() - started < 20  # 0.5 s as measured; 100 s if each is looked at.
