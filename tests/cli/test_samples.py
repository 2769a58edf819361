"""`cdjax samples`, and the first picture that a newcomer makes of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdjax.cli.main import main
from cdjax.io.images import read_image


def test_a_newcomers_first_commands(uncached: None, tmp_path: Path) -> None:
    assert main(["samples", str(tmp_path)]) == 0
    content, style = (str(tmp_path / f"{name}.png") for name in ("content", "style"))
    options = ["--content-size", "128", "--style-size", "128"]
    output = tmp_path / "result.png"
    assert main(["stylize", content, style, "-o", str(output), *options]) == 0
    assert read_image(output).pixels.shape == (128, 192, 3)
    pictures = {
        name: np.asarray(Image.fromarray(read_image(path).pixels).resize((192, 128)), float)
        for name, path in (("result", output), ("content", content), ("style", style))
    }
    mean = {name: pixels.mean((0, 1)) for name, pixels in pictures.items()}
    # The style's colours and the content's layout.
    np.testing.assert_allclose(mean["result"], mean["style"], atol=20)
    grey = {name: pixels.mean(-1).ravel() for name, pixels in pictures.items()}
    assert np.corrcoef(grey["result"], grey["content"])[0, 1] > 0.3


def test_samples_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "style.png").write_text("mine")
    assert main(["samples", str(tmp_path)]) == 2
    assert "style.png: already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["style.png"]
