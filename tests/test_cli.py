"""`cdjax stylize` as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdjax import Model, Spec, save_model, stylize
from cdjax.cli import main
from tests import models


@pytest.fixture(scope="module")
def model() -> Model:
    return models.random_model([Spec(2, (4, 6)), Spec(1, (4,))])


@pytest.fixture(scope="module")
def weights(model: Model, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_model(path, model)
    return str(path)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    for folder, names in {"content": ("a.png", "b.jpg"), "style": ("s.png", "t.png")}.items():
        (tmp_path / folder).mkdir()
        for seed, name in enumerate(names):
            image = Image.fromarray(models.random_image(20, 24, seed=seed))
            image.save(tmp_path / folder / name)
    return tmp_path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Compiled programs are kept for the whole module, out of the user's own cache."""
    folder = tmp_path_factory.getbasetemp() / "cli-cache"
    monkeypatch.setenv("CDJAX_CACHE", str(folder))
    return folder


def run(*arguments: object) -> int:
    return main(["stylize", *map(str, arguments)])


def test_a_pair_of_files(inputs: Path, weights: str, model: Model) -> None:
    content, style = inputs / "content" / "a.png", inputs / "style" / "s.png"
    out = inputs / "out.png"
    assert run(content, style, "-o", out, "--weights", weights, "--alpha", 0.7) == 0
    pixels = [np.asarray(Image.open(path)) for path in (content, style)]
    expected = np.round(255 * np.asarray(stylize(model, *pixels, alpha=0.7)))
    assert np.abs(np.asarray(Image.open(out)).astype(int) - expected).max() <= 1


def test_folders_make_every_pair_and_resume(
    inputs: Path, weights: str, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = (inputs / "content", inputs / "style", "-o", inputs / "out", "--weights", weights)
    assert run(*arguments) == 0
    names = ["a__s.png", "a__t.png", "b__s.jpg", "b__t.jpg"]
    assert sorted(path.name for path in (inputs / "out").iterdir()) == names
    assert "4 written" in capfd.readouterr().err
    (inputs / "out" / "a__t.png").unlink()
    before = (inputs / "out" / "a__s.png").stat().st_mtime_ns
    assert run(*arguments) == 0
    assert "1 written, 3 skipped" in capfd.readouterr().err
    assert (inputs / "out" / "a__s.png").stat().st_mtime_ns == before
    assert run(*arguments, "--overwrite") == 0
    assert (inputs / "out" / "a__s.png").stat().st_mtime_ns > before


def test_a_broken_file_in_a_folder_is_reported_and_the_rest_goes_on(
    inputs: Path, weights: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (inputs / "content" / "broken.png").write_bytes(b"no image")
    style = inputs / "style" / "s.png"
    assert run(inputs / "content", style, "-o", inputs / "out", "--weights", weights) == 2
    errors = capfd.readouterr().err
    assert "broken.png" in errors
    assert "2 written, 1 failed" in errors
    assert len(list((inputs / "out").iterdir())) == 2


def test_sizes_and_alpha_channel(inputs: Path, weights: str) -> None:
    rgba = Image.fromarray(models.random_image(40, 60)).convert("RGBA")
    rgba.putalpha(128)
    rgba.save(inputs / "rgba.png")
    out = inputs / "out.png"
    style = inputs / "style" / "s.png"
    options = ("--content-size", 20, "--style-size", 16, "--dtype", "bfloat16")
    assert run(inputs / "rgba.png", style, "-o", out, "--weights", weights, *options) == 0
    result = Image.open(out)
    assert result.size == (30, 20)
    assert result.mode == "RGBA"
    assert set(result.getchannel("A").tobytes()) == {128}


def test_equal_stems_do_not_overwrite_each_other(inputs: Path, weights: str) -> None:
    Image.open(inputs / "content" / "a.png").save(inputs / "content" / "a.webp")
    style = inputs / "style" / "s.png"
    assert run(inputs / "content", style, "-o", inputs / "out", "--weights", weights) == 0
    names = {path.name for path in (inputs / "out").iterdir()}
    assert names == {"a_png__s.png", "a_webp__s.webp", "b__s.jpg"}


WRONG = {
    "absent content": ("absent.png", "style/s.png", "-o", "out.png"),
    "absent style": ("content/a.png", "absent.png", "-o", "out.png"),
    "unknown suffix": ("content/a.png", "style/s.png", "-o", "out.gif"),
    "no such folder": ("content/a.png", "style/s.png", "-o", "nowhere/out.png"),
    "existing output": ("content/a.png", "style/s.png", "-o", "there.png"),
    "output is an input": ("content/a.png", "style/s.png", "-o", "content/a.png", "--overwrite"),
    "folder onto file": ("content", "style/s.png", "-o", "there.png"),
    "empty folder": ("empty", "style/s.png", "-o", "out"),
    "broken content": ("broken.png", "style/s.png", "-o", "out.png"),
    "no weights": ("content/a.png", "style/s.png", "-o", "out.png", "--weights", "nowhere"),
    "not weights": ("content/a.png", "style/s.png", "-o", "out.png", "--weights", "content"),
    "alpha": ("content/a.png", "style/s.png", "-o", "out.png", "--alpha", "2"),
    "size": ("content/a.png", "style/s.png", "-o", "out.png", "--content-size", "0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_line_and_changes_nothing(
    case: str,
    inputs: Path,
    weights: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(inputs)
    Path("empty").mkdir()
    Path("there.png").write_bytes(b"old")
    Path("broken.png").write_bytes(b"no image")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    try:
        status = run("--weights", weights, *WRONG[case])
    except SystemExit as exit:
        status = int(exit.code or 0)
    assert status == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("cdjax: error: ")
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_as_a_process_twice_the_second_compiles_nothing(inputs: Path, weights: str) -> None:
    environment = os.environ | {"CDJAX_CACHE": str(inputs / "cache")}
    content, style = inputs / "content" / "a.png", inputs / "style" / "s.png"

    def process(output: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cdjax.cli", "stylize", str(content), str(style)]
        command += ["-o", str(inputs / output), "--weights", weights]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    first = process("1.png")
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    compiled = {path: path.stat().st_mtime_ns for path in (inputs / "cache/xla").glob("*-cache")}
    assert compiled
    second = process("2.png")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert {p: p.stat().st_mtime_ns for p in (inputs / "cache/xla").glob("*-cache")} == compiled
    assert (inputs / "1.png").read_bytes() == (inputs / "2.png").read_bytes()
    again = process("2.png")
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "--overwrite" in again.stderr
