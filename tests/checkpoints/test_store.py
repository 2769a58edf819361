"""Checkpoints come back bit for bit, whole or not at all; and the command that makes them."""

import dataclasses
import hashlib
import itertools
import json
import os
import pickle
import random
import resource
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cdjax.checkpoints.load import load_model
from cdjax.checkpoints.pytorch import convert_paper_16x
from cdjax.checkpoints.store import FORMAT_VERSION, abstract_params, save_model
from cdjax.errors import CheckpointError
from cdjax.model import Model, ModelConfig
from cdjax.networks.spec import Spec, student
from tests.models import same

SPECS = (Spec(2, (4, 6), (1, 1, 1, 1, 1), padding="zero"), Spec(1, (5,)))


def random_model(*, seed: int = 0, embeddings: Any = (2,), **changes: Any) -> Model:
    config = ModelConfig(
        "wct", SPECS, "vgg19-normalised", (("a.pth", "0" * 64), ("ä b.pth", "f" * 64))
    )
    config = dataclasses.replace(config, **changes)
    generator = np.random.default_rng(seed)
    abstract = abstract_params(config, embeddings=embeddings)
    return Model(
        jax.tree.map(lambda s: generator.standard_normal(s.shape, np.float32), abstract), config
    )


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a checkpoint's metadata as another version of cdjax might write them."""
    file = path / "_CHECKPOINT_METADATA"
    content = json.loads(file.read_text())
    change(content["custom_metadata"])
    file.write_text(json.dumps(content))
    sums = path / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if not line.endswith(file.name)]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    sums.write_text("\n".join([*lines, f"{digest}  {file.name}"]) + "\n")


@pytest.mark.parametrize(
    "model",
    [
        random_model(),
        random_model(embeddings=(1, 2)),
        random_model(embeddings=(), sources=()),
        random_model(method="encoder", specs=(student(3),)),
        random_model(method="adain", specs=(Spec(4, (3, 4, 5, 6), (2, 2, 3, 3, 3)),)),
        random_model(strengths=((2, 0.3),)),
    ],
    ids=["some embeddings", "all embeddings", "no embeddings", "encoder", "adain", "strengths"],
)
def test_a_model_comes_back_bit_for_bit(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model"
    save_model(path, model)
    loaded = load_model(str(path))
    assert same(loaded, model)
    assert loaded.config.sources == model.config.sources
    for leaf in jax.tree.leaves(loaded.params):
        assert isinstance(leaf, jax.Array)
        assert leaf.dtype == jnp.float32
        assert leaf.devices() == jnp.zeros(()).devices()
    assert os.listdir(path.parent) == ["model"]


def test_metadata_can_be_read_by_people_and_sums_by_sha256sum(tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model())
    content = json.loads((tmp_path / "model/_CHECKPOINT_METADATA").read_text())
    about = content["custom_metadata"]
    assert about["format_version"] == FORMAT_VERSION
    assert about["method"] == "wct"
    assert about["teacher"] == "vgg19-normalised"
    assert about["stages"][0] == {
        "stage": 2,
        "widths": [4, 6],
        "depths": [1, 1, 1, 1, 1],
        "padding": "zero",
        "embedding": True,
    }
    assert about["sources"][1] == {"file": "ä b.pth", "sha256": "f" * 64}
    lines = (tmp_path / "model/SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    for name, digest in sums.items():
        assert digest == hashlib.sha256((tmp_path / "model" / name).read_bytes()).hexdigest()
    assert "params/_METADATA" in sums


def test_abstract_parameters_allocate_nothing() -> None:
    config = ModelConfig("wct", (Spec(5, (10**6,) * 5),), "huge")
    leaves = jax.tree.leaves(abstract_params(config, embeddings=(5,)))
    assert all(type(leaf) is jax.ShapeDtypeStruct for leaf in leaves)
    assert sum(leaf.size for leaf in leaves) > 10**13


def test_loading_needs_no_gpu_and_puts_parameters_on_the_default_device(tmp_path: Path) -> None:
    """Nothing of the device that wrote a checkpoint is in it."""
    model = random_model()
    on_device = dataclasses.replace(model, params=jax.device_put(model.params, jax.devices()[0]))
    save_model(tmp_path / "model", on_device)
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert not [path for path in files if "sharding" in path.name]
    assert b"cpu:0" not in b"".join(path.read_bytes() for path in files)
    assert same(load_model(tmp_path / "model"), model)


# ---- writing: whole or not at all


def test_overwriting_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "model"
    first, second = random_model(seed=1), random_model(seed=2, teacher="other")
    save_model(path, first)
    with pytest.raises(CheckpointError, match="already exists"):
        save_model(path, second)
    assert same(load_model(path), first)
    save_model(path, second, overwrite=True)
    assert same(load_model(path), second)
    assert os.listdir(tmp_path) == ["model"]


def test_overwriting_keeps_the_link_the_mode_and_the_files_of_others(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    save_model(real, random_model(seed=1))
    (real / "notes").mkdir()
    for name in ("README.md", "notes/a.txt", "params/mine"):
        (real / name).write_text(name)
    real.chmod(0o750)
    link.symlink_to("real")
    second = random_model(seed=2)
    save_model(link, second, overwrite=True)
    assert same(load_model(link), second)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o750
    for name in ("README.md", "notes/a.txt", "params/mine"):
        assert (real / name).read_text() == name
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


def test_a_disk_that_is_too_small_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"model: cannot be written \(File too large\)"):
            save_model(tmp_path / "model", random_model())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capfd.readouterr() == ("", "")
    assert os.listdir(tmp_path) == []


def test_what_is_no_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    folder, file = tmp_path / "photographs", tmp_path / "file"
    folder.mkdir()
    (folder / "one.jpg").write_bytes(b"dear")
    file.write_bytes(b"dear")
    for path in (folder, file):
        with pytest.raises(CheckpointError, match="not a checkpoint of cdjax"):
            save_model(path, random_model(), overwrite=True)
    assert (folder / "one.jpg").read_bytes() == file.read_bytes() == b"dear"


@pytest.mark.parametrize("step", ["save", "rename"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_one(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orbax.checkpoint import v1 as ocp

    path, model = tmp_path / "model", random_model()
    rename = os.rename
    target, name = (ocp, "save_checkpointables") if step == "save" else (os, "rename")

    def fail(*arguments: Any, **_: Any) -> None:
        if step == "rename" and Path(arguments[0]).name != "new":
            rename(*arguments)
            return
        raise error

    for overwrite in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, fail)
            with pytest.raises(CheckpointError if isinstance(error, OSError) else type(error)):
                save_model(path, random_model(seed=3), overwrite=overwrite)
        assert os.listdir(tmp_path) == (["model"] if overwrite else [])
        if overwrite:
            assert same(load_model(path), model)
        else:
            save_model(path, model)


def test_parameters_that_are_not_those_of_the_specs_are_not_written(tmp_path: Path) -> None:
    model = random_model()
    encoder = model.params["stage1"]["encoder"]
    del encoder["conv0"]["bias"]
    encoder["extra"] = {"kernel": np.zeros(3, np.float32)}
    encoder["conv1_1"]["bias"] = np.zeros(5)
    with pytest.raises(CheckpointError) as caught:
        save_model(tmp_path / "model", model)
    assert str(caught.value) == (
        "the model's parameters do not match its specs: "
        "missing: stage1/encoder/conv0/bias; unknown: stage1/encoder/extra/kernel; "
        "misshapen: stage1/encoder/conv1_1/bias (5,) float64, expected (5,) float32"
    )
    assert os.listdir(tmp_path) == []


# ---- reading: strict


def test_arrays_are_compared_with_the_specs(tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model())

    def change(about: dict[str, Any]) -> None:
        about["stages"][0]["widths"] = [4, 7]
        about["stages"][0]["embedding"] = False
        about["stages"][1]["embedding"] = True

    edit(tmp_path / "model", change)
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "model")
    message = str(caught.value)
    assert "missing: stage1/embedding/relu1_1/bias, stage1/embedding/relu1_1/kernel;" in message
    assert "unknown: stage2/embedding/relu1_1/bias, " in message
    expected = "stage2/encoder/conv2_1/kernel (3, 3, 4, 6) float32, expected (3, 3, 4, 7) float32"
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.update(format_version=2), "format version 2 is not 1.*update cdjax"),
        (lambda about: about.update(format="other"), "not of a cdjax model"),
        (lambda about: about.update(method="magic"), "metadata is damaged"),
        (lambda about: about.pop("teacher"), "metadata is damaged"),
        (lambda about: about["stages"][0].update(stage=9), "metadata is damaged"),
        (lambda about: about["stages"][0].update(widths="ab"), "metadata is damaged"),
        (lambda about: about["stages"][0].update(depths=[]), "metadata is damaged"),
        (lambda about: about["stages"].reverse(), "metadata is damaged"),
        (lambda about: about.update(stages=None), "metadata is damaged"),
    ],
)
def test_metadata_of_another_kind(change: Any, message: str, tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model())
    edit(tmp_path / "model", change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    for name in ("wct-64x", tmp_path / "none"):
        with pytest.raises(CheckpointError, match="no such file or folder; models known by name"):
            load_model(name)
    with pytest.raises(CheckpointError, match="not a checkpoint of cdjax"):
        load_model(tmp_path)


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    save_model(whole, random_model())
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    assert len(files) > 5
    for file in files:
        if file.name == "SHA256SUMS" or not (whole / file).stat().st_size:
            continue
        for damage in ("flip", "cut", "delete"):
            shutil.copytree(whole, copy)
            content = bytearray((copy / file).read_bytes())
            content[len(content) // 2] ^= 1
            (copy / file).write_bytes(content if damage == "flip" else content[:-1])
            if damage == "delete":
                (copy / file).unlink()
            with pytest.raises(CheckpointError, match=f"damaged, missing or changed: {file};"):
                load_model(copy)
            shutil.rmtree(copy)


def resum(folder: Path) -> None:
    """Makes the sums consistent with whatever damage there is."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in paths
        if path.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def damaged_copies(file: Path) -> Iterator[str]:
    """Damages a file in every way, one after the other, and yields a name of each."""
    content = file.read_bytes()
    generator = random.Random(len(content))
    for cut in {0, len(content) // 2, max(len(content) - 1, 0)}:
        file.write_bytes(content[:cut])
        yield f"cut to {cut}"
    file.write_bytes(bytes(len(content)))
    yield "zeros"
    for _ in range(4 if content else 0):
        changed = bytearray(content)
        changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        file.write_bytes(changed)
        yield "flipped"
    file.write_bytes(pickle.dumps(Armed(), 2))
    yield "pickle"
    file.unlink()
    yield "removed"
    file.mkdir()
    yield "folder"
    file.rmdir()
    file.write_bytes(content)


class Armed:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_damage_with_consistent_sums_is_one_error_or_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Flipped weights are other weights; everything else is refused, or does not matter."""
    path, model = tmp_path / "model", random_model()
    save_model(path, model)
    files = [file for file in path.rglob("*") if file.is_file()]
    messages: dict[str, list[str]] = defaultdict(list)
    for file in files:
        for _ in damaged_copies(file):
            if file.name != "SHA256SUMS":
                resum(path)
            try:
                loaded = load_model(path)
            except CheckpointError as error:
                messages[file.name].append(str(error))
            else:
                assert jax.tree.map(np.shape, loaded.params) == jax.tree.map(np.shape, model.params)
        resum(path)
    assert same(load_model(path), model)
    everything = list(itertools.chain(*messages.values()))
    assert all(text.isprintable() and len(text) < 12_000 for text in everything)
    assert len(everything) > 40
    assert len(messages["SHA256SUMS"]) >= 9
    assert len(messages["_CHECKPOINT_METADATA"]) >= 6
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "line",
    ["../outside", "/etc/hostname", "/dev/zero", "a" * 5000, "\0", "params", "none\x1b[2J", ""],
)
def test_sums_of_other_files_are_refused(line: str, tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model())
    (tmp_path / "outside").write_text("")
    with open(tmp_path / "model/SHA256SUMS", "a") as file:
        file.write(f"{hashlib.sha256(b'').hexdigest()}  {line}\n")
    with pytest.raises(CheckpointError, match="damaged, missing or changed") as caught:
        load_model(tmp_path / "model")
    assert str(caught.value).isprintable()


def test_a_pipe_among_the_files_does_not_hang(tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model())
    for name in ("_CHECKPOINT_METADATA", "params/manifest.ocdbt", "SHA256SUMS"):
        file = tmp_path / "model" / name
        content = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(CheckpointError):
            load_model(tmp_path / "model")
        file.unlink()
        file.write_bytes(content)


def test_junk_beside_the_files_does_no_harm(tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model())
    for name in (".DS_Store", "params/._manifest", "notes.txt"):
        (tmp_path / "model" / name).write_bytes(b"junk")
    assert same(load_model(tmp_path / "model"), random_model())
    (tmp_path / "model/params/d/more").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="changed: params/d/more;"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about["stages"][0].update(depths=[10**9] * 5),
        lambda about: about["stages"][0].update(widths=[10**30, 6]),
        lambda about: about["stages"][0].update(widths=[2**16, 2**16]),
        lambda about: about["stages"][0].update(widths=[-4, 6]),
        lambda about: about["stages"][0].update(widths=[float("inf"), 6]),
        lambda about: about["stages"][0].update(padding=[["reflect"]]),
        lambda about: about["stages"][0].update(stage=[1]),
        lambda about: about.update(stages={"a": 1}),
        lambda about: about.update(sources=[3]),
        lambda about: about.update(method=["wct"]),
        lambda about: about.update(format_version={"a" * 10**5: "\n"}),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".safetensors"])
def test_hostile_configurations(change: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    save_model(path, random_model())
    if suffix:
        arrays = load_file(path)
        with safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["cdjax"])
        change(about)
        save_file(arrays, path, {"cdjax": json.dumps(about)})
    else:
        edit(path, change)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 12_000


def test_the_published_model_comes_back(shared: Path, tmp_path: Path) -> None:
    model = convert_paper_16x(shared / "reference/wct16x")
    save_model(tmp_path / "model", model)
    assert same(load_model(tmp_path / "model"), model)
