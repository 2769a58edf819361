"""`cdjax sheet`: every photograph in every style on one picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import cdjax.cli.sheet
from cdjax import Picture, encode_style, load_model, read_image, stylize, write_image
from cdjax.cli.main import main
from cdjax.io.images import levels
from tests.models import random_image

SIDE, HEADER, GAP = 32, 14, 6


@pytest.fixture
def files(uncached: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: photos with two pictures and a text, styles with three."""
    monkeypatch.chdir(tmp_path)
    for folder, names in (("photos", "ab"), ("styles", "xyz")):
        Path(folder).mkdir()
        for seed, name in enumerate(names):
            write_image(f"{folder}/{name}.png", random_image(24, 32, seed=seed + len(names)))
    Path("photos/notes.txt").write_text("no image")
    return tmp_path


def sheet(weights: Path, *arguments: str, output: str = "sheet.png") -> int:
    options = ["-o", output, "--weights", str(weights), "--size", str(SIDE), "--style-size", "24"]
    return main(["sheet", *arguments, *options])


def cell(row: int, column: int, name: str = "sheet.png") -> NDArray[np.uint8]:
    """The square of a cell's picture."""
    top, left = GAP + row * (HEADER + SIDE + GAP) + HEADER, GAP + column * (SIDE + GAP)
    return read_image(name).pixels[top : top + SIDE, left : left + SIDE]


def test_every_content_is_shown_in_every_style(
    files: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sheet(weights, "photos", "styles") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "cdjax: photos/notes.txt: not read: not a picture\n" in err
    content, style = (read_image(name).pixels for name in ("photos/b.png", "styles/z.png"))
    model = load_model(weights)
    for row, column, expected in (
        (2, 0, content),
        (0, 3, style),
        (2, 3, levels(np.asarray(stylize(model, content, style)))),
    ):
        found = cell(row, column)
        np.testing.assert_array_equal(found[4:-4], expected)
        assert (found[:4] == 255).all()
    assert (cell(0, 0) == 255).all()
    # Names are above the styles, and above the contents.
    whole = read_image("sheet.png").pixels
    assert whole.shape == (GAP + 3 * (HEADER + SIDE + GAP), GAP + 4 * (SIDE + GAP), 3)
    assert (whole[GAP : GAP + HEADER, GAP + SIDE + GAP :] < 100).any()
    assert (whole[2 * GAP + HEADER + SIDE :][:HEADER, : GAP + SIDE] < 100).any()

    assert sheet(weights, "photos", "styles") == 2
    assert "sheet.png: already exists; --overwrite" in capsys.readouterr().err
    options = ("--preserve-color", "match", "--overwrite", "--quiet")
    assert sheet(weights, "photos/b.png", "-s", "styles/z.png", "styles/x.png", *options) == 0
    assert capsys.readouterr() == ("", "")
    expected = levels(np.asarray(stylize(model, content, style, preserve_color="match")))
    np.testing.assert_array_equal(cell(1, 1)[4:-4], expected)


def test_a_broken_file_leaves_its_cells_white_and_is_named_once(
    files: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("styles/y.png").write_bytes(b"no picture")
    assert sheet(weights, "photos", "styles", "--quiet", "--json") == 2
    out, err = capsys.readouterr()
    assert err.startswith("cdjax: error: styles/y.png: not an image")
    assert err.count("\n") == 1
    assert (cell(1, 2) == 255).all()
    assert (cell(2, 3) < 255).any()
    found = [json.loads(line) for line in out.splitlines()]
    assert [each["status"] for each in found] == 2 * ["made", "failed", "made"]
    assert {each["output"] for each in found} == {"sheet.png"}


def test_masks_of_contents_and_styles_are_those_of_the_library(
    files: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = np.repeat(np.linspace(255, -255, 32).clip(0)[None].astype(np.uint8), 24, 0)
    write_image("left.png", np.repeat(left[..., None], 3, 2))
    write_image("photos/a.png", random_image(20, 32))
    options = ("--mask", "left.png", "--style-masks", "left.png", "--preserve-color", "match")
    assert sheet(weights, "photos", "styles/x.png", *options, "-q") == 2
    assert "photos/a.png: mask left.png: 32x24 pixels are another asp" in capsys.readouterr().err
    content, style = (read_image(name).pixels for name in ("photos/b.png", "styles/x.png"))
    model = load_model(weights)
    moved = encode_style(model, style, mask=left, colors_of=content, colors_mask=left)
    expected = levels(np.asarray(stylize(model, content, moved, mask=left)))
    np.testing.assert_array_equal(cell(2, 1)[4:-4], expected)
    assert (cell(1, 1) == 255).all()
    assert sheet(weights, "photos", "styles", "--style-masks", "left.png", output="o.png") == 2
    assert "style styles is a folder; name its files" in capsys.readouterr().err


def test_a_transparent_picture_is_shown_over_white(files: Path, weights: Path) -> None:
    hidden = np.zeros((24, 32), np.uint8)
    write_image("photos/a.png", Picture(random_image(24, 32), hidden))
    assert sheet(weights, "photos/a.png", "styles/x.png") == 0
    assert (cell(1, 0) == 255).all()
    assert (cell(1, 1) == 255).all()


@pytest.mark.parametrize(
    ("arguments", "output", "message"),
    [
        (["photos"], "sheet.png", "a style is missing: cdjax sheet CONTENT STYLE -o OUT"),
        (
            ["photos", "photos/a.png", "styles"],
            "sheet.png",
            "cdjax sheet photos photos/a.png -s styles -o sheet.png",
        ),
        (["photos", "nothing"], "sheet.png", "style nothing: no such file or folder"),
        (["photos", "styles"], "photos/a.png", "is one of the inputs, which are never replaced"),
        (["photos", "styles"], "sheet.txt", "unknown suffix '.txt'"),
        (["photos", "styles"], "no/sheet.png", "the folder no does not exist"),
        (["photos", "styles", "--overwrite"], "styles", "output styles: without suffix"),
    ],
)
def test_wrong_use_is_one_line(
    files: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    output: str,
    message: str,
) -> None:
    before = sorted(files.rglob("*"))
    assert sheet(weights, *arguments, output=output) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert sorted(files.rglob("*")) == before


def test_too_large_a_sheet_is_refused_before_anything_is_read(
    files: Path, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdjax.cli.sheet, "_MOST_PIXELS", 20_000)
    assert sheet(weights, "photos", "styles") == 2
    err = capsys.readouterr().err
    assert "a sheet of 2 contents x 3 styles would have 158x162 pixels, more than 0 mega" in err
    assert err.endswith("give fewer, or a --size below 32\n")
    assert not Path("sheet.png").exists()
