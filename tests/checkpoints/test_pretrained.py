"""Models that come with the package, and the pictures to try them on."""

import io
import json
import pickle
import random
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cdjax import Spec, load_model, save_model, stylize
from cdjax.checkpoints import pretrained
from cdjax.cli.main import main
from cdjax.errors import CheckpointError
from cdjax.io.images import read_image
from tests.compiling import AS_USERS
from tests.models import random_image, random_model, same


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pretrained, "_FOLDER", tmp_path / "models")
    return tmp_path / "models"


def test_a_model_comes_back_in_half_precision(shelf: Path, tmp_path: Path) -> None:
    model = random_model()
    save_model(tmp_path / "checkpoint", model)
    pretrained.write_bundled(shelf / "small.npz", load_model(tmp_path / "checkpoint"))
    loaded = load_model("small")
    assert loaded.config == model.config
    for left, right in zip(jax.tree.leaves(loaded), jax.tree.leaves(model), strict=True):
        assert left.dtype == jnp.float32
        np.testing.assert_array_equal(left, np.asarray(right, np.float16))
    assert [path.name for path in shelf.iterdir()] == ["small.npz"]


def test_embeddings_stay_at_home(shelf: Path) -> None:
    model = random_model()
    layer = {"kernel": jnp.ones((6, 64)), "bias": jnp.ones(64)}
    model.params["stage3"]["embedding"] = {"relu1_1": layer}
    pretrained.write_bundled(shelf / "small.npz", model)
    assert "embedding" not in load_model("small").params["stage3"]


def test_a_bundled_model_of_adain_is_what_the_method_takes(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdjax.cli.compilation_cache.use_compilation_cache", lambda: None)
    pretrained.write_bundled(
        shelf / "adain-16x.npz", random_model((Spec(2, (4, 6)),), method="adain")
    )
    model = load_model("adain-16x")
    assert model.config.method == "adain"
    content, style = random_image(16, 20), random_image(16, 16, seed=2)
    for name, image in (("c.png", content), ("s.png", style)):
        Image.fromarray(image).save(tmp_path / name)
    paths = [str(tmp_path / name) for name in ("c.png", "s.png", "o.png")]
    assert main(["stylize", *paths[:2], "--method", "adain", "-o", paths[2]]) == 0
    expected = np.rint(np.asarray(stylize(model, content, style)) * 255)
    np.testing.assert_array_equal(read_image(paths[2]).pixels, expected)


def test_what_half_precision_cannot_hold_is_refused(shelf: Path) -> None:
    model = random_model()
    model.params["stage1"]["decoder"]["conv1_1"]["bias"] = jnp.full(3, 7e4)
    with pytest.raises(CheckpointError, match="stage1/decoder/conv1_1/bias"):
        pretrained.write_bundled(shelf / "small.npz", model)
    assert not shelf.exists()


def test_damaged_files_are_named(shelf: Path) -> None:
    pretrained.write_bundled(shelf / "small.npz", random_model())
    whole = (shelf / "small.npz").read_bytes()
    (shelf / "small.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"small\.npz: damaged, or not a model of cdjax"):
        load_model("small")


def archive(about: object, arrays: dict[str, np.ndarray]) -> bytes:
    """A file such as `write_bundled` writes, with any content."""
    buffer = io.BytesIO()
    text = about if isinstance(about, bytes) else json.dumps(about).encode()
    np.savez_compressed(buffer, **arrays, **{"about.json": np.frombuffer(text, np.uint8)})
    return buffer.getvalue()


class Armed:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("executed",)


def test_hostile_copies_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = random_model((Spec(1, (5,)),))
    path = tmp_path / "copy.npz"
    pretrained.write_bundled(path, small)
    whole = path.read_bytes()
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "about.json"}
        about = json.loads(file["about.json"].tobytes())
    hostile = [
        archive(b"[" * 10**5, arrays),
        archive([about], arrays),
        archive(about | {"stages": None}, arrays),
        archive(about | {"stages": [about["stages"][0] | {"depths": [10**9] * 5}]}, arrays),
        archive(about | {"stages": [about["stages"][0] | {"widths": [10**9]}]}, arrays),
        archive(about, arrays | {"stage1/extra\n": np.zeros(1)}),
        archive(about, arrays | {"stage1/decoder/conv1_1/bias": np.array(["a", "b", "c"])}),
        archive(about, arrays | {"stage1/decoder/conv1_1/bias": np.zeros(2)}),
        archive(about, arrays | {"zeros": np.zeros(10**7)}),
        archive(about, arrays | {"stage1/decoder/conv1_1/bias": np.array(Armed(), object)}),
        b"PK\x03\x04",
        pickle.dumps(Armed()),
    ]
    generator = random.Random(0)
    for _ in range(100):
        changed = bytearray(whole)
        changed[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        hostile += [bytes(changed), whole[: generator.randrange(len(whole))]]
    messages = []
    for content in hostile:
        path.write_bytes(content)
        try:
            assert same(load_model(path), load_model(path))
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > 190
    assert all(text.isprintable() and len(text) < 500 for text in messages)
    assert capsys.readouterr().out == ""


def test_a_directory_of_the_name_needs_its_path(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained.write_bundled(shelf / "small.npz", random_model(seed=1))
    monkeypatch.chdir(tmp_path)
    save_model("small", random_model(seed=2))
    kernels = [
        np.asarray(load_model(name).params["stage1"]["encoder"]["conv1_1"]["kernel"])
        for name in ("small", "./small")
    ]
    assert not np.allclose(kernels[0], kernels[1], atol=1e-2)


def test_the_default_model_is_there_and_small() -> None:
    path = pretrained.bundled_file("wct-16x")
    assert path is not None
    assert path.stat().st_size < 6e6
    model = load_model("wct-16x")
    assert [spec.stage for spec in model.config.specs] == [5, 4, 3, 2, 1]
    assert model.config.teacher == "vgg16-normalised"


def test_windows_of_a_photograph_equal_the_whole(shared: Path) -> None:
    images = shared / "images"
    command = [sys.executable, "-m", "tests.windows_and_whole"]
    files = [images / "content/0209.jpg", images / "style/la_muse.jpg"]
    done = subprocess.run(
        [*command, *map(str, files)], env=AS_USERS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "equal\n"
