"""`cdjax stylize --mix`: several styles in one picture."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cdjax import Model, Spec, encode_style, mix_styles, save_model, stylize
from cdjax.cli.main import main
from cdjax.io.images import Picture, read_image, write_image
from tests.models import random_image, random_model

LITTLE = 330_000
"""Bytes for windows of 64 pixels."""
CONTENT = random_image(72, 100)
STYLES = [random_image(40, 52, seed=seed) for seed in (7, 8, 9)]


def model_of(method: str) -> Model:
    made = random_model((Spec(2, (4, 8)),))
    return dataclasses.replace(made, config=dataclasses.replace(made.config, method=method))


@pytest.fixture
def files(uncached: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: c.png, the styles a.png, b.png and d.png, the models wct and adain."""
    monkeypatch.chdir(tmp_path)
    for name, image in zip("cabd", [CONTENT, *STYLES], strict=True):
        write_image(tmp_path / f"{name}.png", Picture(image))
    for method in ("wct", "adain"):
        save_model(tmp_path / method, model_of(method))
    return tmp_path


def command(output: str, *arguments: str, method: str = "adain") -> NDArray[np.uint8]:
    options = ["--method", method, "--weights", f"./{method}", "-o", output]
    assert main(["stylize", "c.png", *arguments, *options]) == 0
    return read_image(output).pixels


@pytest.mark.parametrize("method", ["wct", "adain"])
def test_command_line_end_points_are_the_single_styles(files: Path, method: str) -> None:
    options = ["-s", "a.png", "b.png", "--mix"]
    singles = [command(f"{s}1.png", f"{s}.png", method=method) for s in "ab"]
    first = command("1.png", *options, "1", "0", method=method)
    second = command("2.png", *options, "0", "2.5", method=method)
    windows = command("3.png", *options, "1", "0", "--memory", str(LITTLE), method=method)
    np.testing.assert_array_equal(first, singles[0])
    np.testing.assert_array_equal(second, singles[1])
    np.testing.assert_array_equal(windows, singles[0])
    assert not np.array_equal(*singles)


def test_command_line_mixes_as_the_library_does(files: Path) -> None:
    made = command("o.png", "-s", "a.png", "b.png", "d.png", "--mix", "3", "1", "0.5")
    model = model_of("adain")
    style = mix_styles(model, [encode_style(model, s) for s in STYLES], weights=(3, 1, 0.5))
    expected = np.rint(np.asarray(stylize(model, CONTENT, style)) * 255)
    np.testing.assert_array_equal(made, expected)
    alike = command("p.png", "-s", "a.png", "b.png", "--mix")
    style = mix_styles(model, [encode_style(model, s) for s in STYLES[:2]])
    expected = np.rint(np.asarray(stylize(model, CONTENT, style)) * 255)
    np.testing.assert_array_equal(alike, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-s", "a.png", "b.png", "--mix", "1"], "--mix: 1 weights for 2 styles"),
        (["-s", "a.png", "b.png", "--mix", "0", "0"], "at least one weight must be above 0"),
        (["-s", "a.png", "b.png", "--mix", "1", "-2"], "0 to 1000000"),
        (["-s", "a.png", "a.png", "--mix"], "style a.png: given twice"),
        (["-s", "a.png", "none.png", "--mix"], "style none.png: no such file"),
        (["a.png", "--mix"], "--mix needs at least two styles"),
        (["a.png", "b.png", "--mix"], "cdjax stylize c.png -s a.png b.png --mix -o o.png"),
        (["a.png", "--weights", "./wct"], "--weights ./wct: its method is wct, not adain"),
    ],
)
def test_wrong_mixtures_are_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    options = ["--method", "adain", "--weights", "./adain", "-o", "o.png"]
    assert main(["stylize", "c.png", *options, *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("o.png").exists()
