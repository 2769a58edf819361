"""`--preserve-color` of `cdjax stylize` and `optimize`: whole, in windows, streamed, mixed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cdjax.io.streaming
from cdjax import (
    Optimization,
    encode_style,
    load_model,
    mix_styles,
    optimize_image,
    read_image,
    stylize,
    write_image,
)
from cdjax.cli.main import main
from cdjax.io.images import levels
from tests.models import random_image

LITTLE = "350kB"
"""Enough for windows of 64 pixels."""
CONTENT = random_image(72, 100)
STYLES = [random_image(40, 52, seed=seed) for seed in (7, 8)]


@pytest.fixture
def files(uncached: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with c.png, a.png and b.png in it."""
    monkeypatch.chdir(tmp_path)
    for name, image in zip("cab", [CONTENT, *STYLES], strict=True):
        write_image(f"{name}.png", image)
    return tmp_path


def made(weights: Path, output: str, *arguments: str) -> NDArray[np.uint8]:
    assert main(["stylize", "c.png", *arguments, "-o", output, "--weights", str(weights)]) == 0
    return read_image(output).pixels


@pytest.mark.parametrize("kind", ["luminance", "match"])
def test_files_windows_and_streams_give_what_the_library_gives(
    files: Path, weights: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = stylize(load_model(weights), CONTENT, STYLES[0], preserve_color=kind)
    pair = ("a.png", "--preserve-color", kind)
    whole = made(weights, "whole.png", *pair)
    np.testing.assert_array_equal(whole, levels(np.asarray(expected)))
    np.testing.assert_array_equal(made(weights, "w.png", *pair, "--memory", LITTLE), whole)
    monkeypatch.setattr(cdjax.io.streaming, "STREAMED_PIXELS", 1000)
    np.testing.assert_array_equal(made(weights, "s.tif", *pair, "--memory", LITTLE), whole)
    assert not list(files.glob(".cdjax-*"))


def test_a_mixture_is_of_styles_in_the_contents_colours(files: Path, weights: Path) -> None:
    model = load_model(weights)
    styles = [encode_style(model, style, colors_of=CONTENT) for style in STYLES]
    expected = stylize(model, CONTENT, mix_styles(model, styles, weights=[2, 1]))
    mixed = ("-s", "a.png", "b.png", "--mix", "2", "1", "--preserve-color", "match")
    np.testing.assert_array_equal(made(weights, "m.png", *mixed), levels(np.asarray(expected)))


def test_in_a_batch_every_content_has_its_own_colours(
    files: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = random_image(72, 100, seed=3) // 2
    write_image("d.png", other)
    Path("x.png").write_bytes(b"no picture")
    command = ["stylize", "c.png", "d.png", "-s", "x.png", "a.png", "-o", "out", "--quiet"]
    assert main([*command, "--preserve-color", "match", "--weights", str(weights)]) == 2
    assert capsys.readouterr().err.count("x.png: not an image") == 1
    for name, content in (("c", CONTENT), ("d", other)):
        expected = stylize(load_model(weights), content, STYLES[0], preserve_color="match")
        found = read_image(f"out/{name}__a.png").pixels
        np.testing.assert_array_equal(found, levels(np.asarray(expected)))


@pytest.mark.parametrize("kind", ["luminance", "match"])
def test_optimisation_preserves_colours_too(files: Path, weights: Path, kind: Any) -> None:
    given: Any = {"content_layers": ("relu1_1",), "style_layers": ("relu1_1", "relu2_1")}
    settings = Optimization(**given, steps=3, start="stylized", preserve_color=kind)
    model = load_model(weights)
    expected = optimize_image(model, CONTENT, STYLES[0], settings=settings)
    layers = ["--content-layers", "relu1_1", "--style-layers", "relu1_1", "relu2_1"]
    how = ["--start", "stylized", "--steps", "3", "--preview-every", "0", "--preserve-color", kind]
    command = ["optimize", "c.png", "a.png", "-o", "o.png", "--model", str(weights), "--quiet"]
    assert main([*command, *layers, *how]) == 0
    found = read_image("o.png").pixels
    np.testing.assert_array_equal(found, levels(np.asarray(expected)))
    # In colours it is nearer to the content than to the style.
    contents, styles, results = (
        image.reshape(-1, 3).mean(0) for image in (CONTENT, STYLES[0], found)
    )
    chroma = [mean - mean.mean() for mean in (contents, styles, results)]
    apart = [np.abs(chroma[2] - mean).max() for mean in chroma[:2]]
    assert apart[0] < apart[1] + 1
