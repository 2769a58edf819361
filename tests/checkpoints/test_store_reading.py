"""Checkpoints that are damaged, hostile or of another kind are refused in one line."""

import hashlib
import itertools
import json
import os
import pickle
import random
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cdjax.checkpoints.load import load_model
from cdjax.checkpoints.store import save_model
from cdjax.errors import CheckpointError
from tests.checkpoints.stored import edit, random_model
from tests.models import same


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
