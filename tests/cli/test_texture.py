"""`cdjax texture`, as a person runs it."""

import json
from pathlib import Path

import numpy as np
import pytest

from cdjax import load_model, synthesize_texture
from cdjax.cli.main import main
from cdjax.io.images import levels, read_image


@pytest.mark.usefixtures("uncached")
def test_from_a_painting_to_a_tile(
    pair: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["texture", "s.png", "--size", "32x16", "--weights", str(weights), "-o", "out.png"]
    options = ["--tileable", "--seed", "3", "--passes", "2", "--json"]
    assert main([*command, *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["size"] == [32, 16]
    wanted = synthesize_texture(
        load_model(str(weights)),
        read_image("s.png").pixels,
        size=(16, 32),
        passes=2,
        seed=3,
        tileable=True,
    )
    np.testing.assert_array_equal(read_image("out.png").pixels, levels(wanted))
    before = (pair / "out.png").read_bytes()
    assert main(command) == 2
    assert "already exists" in capsys.readouterr().err
    assert (pair / "out.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s.png", "--size", "32", "-o", "out.png"], "'32' is not a width and a height"),
        (["s.png", "--size", "0x5", "-o", "out.png"], "'0x5' is not a width and a height"),
        (["s.png", "--size", "99999x99999", "-o", "out.png"], "limit of 536 megapixels"),
        (["s.png", "--size", "8x8", "-o", "."], "output .: is a folder; give a file"),
        (["s.png", "--size", "8x8", "-o", "s.png"], "is one of the inputs"),
        (["s.png", "--size", "8x8", "-o", "out.xyz"], "unknown suffix '.xyz'"),
        (["s.png", "--size", "70000x8", "-o", "out.jpg"], "limited to 65500 per side"),
        (["none.png", "--size", "8x8", "-o", "out.png"], "style none.png: no such file"),
        ([".", "--size", "8x8", "-o", "out.png"], "style .: is a folder; give one image"),
        (["s.png", "-o", "out.png"], "--size"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    pair: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["texture", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cdjax: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(path.name for path in pair.iterdir()) == ["c.png", "s.png"]
