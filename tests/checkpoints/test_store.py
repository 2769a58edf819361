"""Checkpoints come back bit for bit, and are written whole or not at all."""

import dataclasses
import hashlib
import json
import os
import resource
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.checkpoints import store
from cdjax.checkpoints.load import load_model
from cdjax.checkpoints.pytorch import convert_paper_16x
from cdjax.checkpoints.store import FORMAT_VERSION, abstract_params, checkpoint_size, save_model
from cdjax.errors import CheckpointError
from cdjax.io import atomic
from cdjax.model import Model, ModelConfig
from cdjax.networks.spec import Spec, student
from tests.checkpoints.stored import random_model
from tests.models import same


@pytest.mark.parametrize(
    "model",
    [
        random_model(),
        random_model(embeddings=(1, 2)),
        random_model(embeddings=(), sources=()),
        random_model(method="encoder", specs=(student(3),)),
        random_model(method="adain", specs=(Spec(4, (3, 4, 5, 6), (2, 2, 3, 3, 3)),)),
        random_model(strengths=((2, 0.3),)),
        random_model(transforms=((1, "ot"),)),
    ],
    ids=[
        "some embeddings",
        "all embeddings",
        "no embeddings",
        "encoder",
        "adain",
        "strengths",
        "transforms",
    ],
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


def test_the_published_model_comes_back(shared: Path, tmp_path: Path) -> None:
    model = convert_paper_16x(shared / "reference/wct16x")
    save_model(tmp_path / "model", model)
    assert same(load_model(tmp_path / "model"), model)


def test_a_checkpoint_that_appears_during_the_work_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, path = random_model(seed=1), random_model(seed=2), tmp_path / "model"

    def slow(arrays: Any) -> int:
        monkeypatch.undo()
        save_model(path, first)  # As another process does.
        return checkpoint_size(arrays)

    monkeypatch.setattr(store, "checkpoint_size", slow)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_model(path, second)
    assert same(load_model(path), first)
    assert os.listdir(tmp_path) == ["model"]


def test_a_replacement_that_was_cut_short_is_put_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, path = [random_model(seed=seed) for seed in range(3)], tmp_path / "model"
    save_model(path, models[0])
    (path / "notes.txt").write_text("mine")

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "_empty", end)
        with pytest.raises(KeyboardInterrupt):
            save_model(path, models[1], overwrite=True)
    assert same(load_model(path), models[1])
    with pytest.raises(CheckpointError, match="already exists"):
        save_model(path, models[2])
    assert same(load_model(path), models[1])
    assert (path / "notes.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["model"]
