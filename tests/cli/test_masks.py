"""`cdjax stylize` with masks, and with transparent pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import cdjax.io.streaming
from cdjax import Model, Spec, encode_style, save_model, stylize
from cdjax.cli.main import main
from cdjax.io.images import Picture, read_image, write_image
from tests.models import random_image, random_model

LITTLE = "330kB"
"""Enough for windows of 64 pixels."""
SIZE = (72, 100)
CONTENT, STYLE, OTHER = (random_image(*SIZE, seed=seed) for seed in (1, 2, 3))
STYLE[:, 60:] //= 4
LEFT = np.clip(np.linspace(400, -144, 100), 0, 255).astype(np.uint8) * np.ones((72, 1), np.uint8)


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model((Spec(2, (4, 8)),))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Path:
    path = tmp_path_factory.mktemp("weights") / "one"
    save_model(path, model)
    return path


@pytest.fixture(autouse=True)
def files(uncached: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: c.png, the styles a.png and b.png, the masks l.png and r.png."""
    monkeypatch.chdir(tmp_path)
    for name, image in (("c", CONTENT), ("a", STYLE), ("b", OTHER)):
        write_image(tmp_path / f"{name}.png", Picture(image))
    for name, mask in (("l", LEFT), ("r", 255 - LEFT), ("low", LEFT[:60])):
        Image.fromarray(mask).save(f"{name}.png")
    return tmp_path


def made(weights: Path, *arguments: str) -> NDArray[np.uint8]:
    assert (
        main(["stylize", *arguments, "-o", "o.png", "--overwrite", "--weights", f"{weights}"]) == 0
    )
    return read_image("o.png").pixels


def levels(result: Any) -> NDArray[np.float32]:
    return np.rint(np.asarray(result) * 255)


def test_regions_are_those_of_the_library_whole_and_by_windows(
    model: Model, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("c.png", "-s", "a.png", "b.png", "--masks", "l.png", "r.png")
    found = made(weights, *command)
    expected = stylize(model, CONTENT, [STYLE, OTHER], masks=[LEFT, 255 - LEFT])
    np.testing.assert_array_equal(found, levels(expected))
    np.testing.assert_array_equal(made(weights, *command, "--memory", LITTLE), found)
    pytest.importorskip("pyvips")
    monkeypatch.setattr(cdjax.io.streaming, "STREAMED_PIXELS", 1000)
    np.testing.assert_array_equal(made(weights, *command, "--memory", LITTLE), found)


def test_match_takes_the_colours_of_the_region(
    model: Model, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = np.maximum(255 - LEFT[::-1], 1)
    write_image("c.png", Picture(CONTENT, alpha))
    counts = LEFT / np.float32(255) * (alpha / np.float32(255))
    style = encode_style(model, STYLE, mask=LEFT, colors_of=CONTENT, colors_mask=counts)
    expected = levels(stylize(model, CONTENT, style, mask=LEFT, opacity=alpha))
    options = ("--mask", "l.png", "--style-masks", "l.png", "--preserve-color", "match")
    found = made(weights, "c.png", "a.png", *options)
    np.testing.assert_allclose(found, expected, atol=1)
    pytest.importorskip("pyvips")
    monkeypatch.setattr(cdjax.io.streaming, "STREAMED_PIXELS", 1000)
    np.testing.assert_array_equal(
        made(weights, "c.png", "a.png", *options, "--memory", LITTLE), found
    )


def test_one_mask_serves_every_pair_and_black_stays_photograph(
    weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "stylize",
        "c.png",
        "-s",
        "a.png",
        "b.png",
        "--mask",
        "l.png",
        "-o",
        "out",
        "--json",
    ]
    assert main([*arguments, "--weights", str(weights)]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["output"] for line in lines] == ["out/c__a.png", "out/c__b.png"]
    for line in lines:
        pixels = read_image(line["output"]).pixels
        np.testing.assert_array_equal(pixels[LEFT == 0], CONTENT[LEFT == 0])
        assert (pixels[LEFT > 200] != CONTENT[LEFT > 200]).mean() > 0.5


def test_a_white_mask_changes_nothing_and_a_scaled_one_fits(model: Model, weights: Path) -> None:
    plain = made(weights, "c.png", "a.png")
    Image.new("1", (50, 36), 1).save("white.png")
    np.testing.assert_array_equal(made(weights, "c.png", "a.png", "--mask", "white.png"), plain)
    Image.fromarray(LEFT).resize((50, 36), Image.Resampling.BOX).save("small.png")
    small = made(weights, "c.png", "a.png", "--mask", "small.png")
    full = made(weights, "c.png", "a.png", "--mask", "l.png")
    assert np.abs(small.astype(int) - full).mean() < 1
    assert np.abs(plain.astype(int) - full).mean() > 5


def test_masks_and_alpha_of_styles_weigh_their_statistics(model: Model, weights: Path) -> None:
    expected = levels(stylize(model, CONTENT, encode_style(model, STYLE, mask=LEFT)))
    found = made(weights, "c.png", "a.png", "--style-masks", "l.png")
    np.testing.assert_array_equal(found, expected)
    write_image("a.png", Picture(STYLE, np.maximum(LEFT, 1)))
    shown = levels(stylize(model, CONTENT, encode_style(model, STYLE, mask=np.maximum(LEFT, 1))))
    np.testing.assert_array_equal(made(weights, "c.png", "a.png"), shown)
    assert np.abs(shown - levels(stylize(model, CONTENT, STYLE))).mean() > 0.2


def test_the_alpha_of_a_content_weighs_its_statistics(model: Model, weights: Path) -> None:
    alpha = np.maximum(LEFT, 1)
    write_image("c.png", Picture(CONTENT, alpha))
    found = made(weights, "c.png", "a.png")
    np.testing.assert_array_equal(found, levels(stylize(model, CONTENT, STYLE, opacity=alpha)))
    np.testing.assert_array_equal(read_image("o.png").alpha, alpha)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-s a.png --mask none.png", "mask none.png: no such file"),
        ("-s a.png --mask .", "mask .: is a folder; give one image"),
        ("-s a.png --mask low.png", "c.png: mask low.png: 100x60 pixels are another aspect ratio"),
        ("-s a.png --style-masks low.png", "a.png: mask low.png: 100x60 pixels are another aspect"),
        ("-s a.png b.png --masks l.png", "--masks: 1 masks for 2 styles; give one each"),
        (
            "-s a.png --style-masks l.png r.png",
            "--style-masks: 2 masks for 1 styles; give one each",
        ),
        ("-s a.png --mask l.png --masks r.png", "give only one of them"),
        ("-s a.png b.png --mix --masks l.png r.png", "--masks and --mix"),
        ("-s a.png b.png --masks l.png broken.png", "broken.png: not an image"),
        ("-s styles --masks l.png", "--masks: style styles is a folder; name its files"),
        ("-s a.png --mask l.png --mask r.png", "argument --mask: given twice"),
        ("-s a.png --style-masks black.png", "mask black.png is black where the style is visible"),
    ],
)
def test_wrong_masks_are_one_line(
    options: str, message: str, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("broken.png").write_text("no image")
    Path("styles").mkdir()
    Image.new("L", (100, 72)).save("black.png")
    arguments = ["stylize", "c.png", *options.split(), "-o", "o.png", "--weights", str(weights)]
    try:
        status = main(arguments)
    except SystemExit as exit_:
        status = int(str(exit_.code))
    assert status == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert message in line
    assert not Path("o.png").exists()


def test_a_mask_is_never_replaced(weights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for option in ("--mask", "--style-masks"):
        arguments = [
            "stylize",
            "c.png",
            "-s",
            "a.png",
            option,
            "l.png",
            "-o",
            "l.png",
            "--overwrite",
        ]
        assert main([*arguments, "--weights", str(weights)]) == 2
        assert "is one of the inputs" in capfd.readouterr().err


def test_in_a_batch_the_contents_that_a_mask_fits_are_made(
    weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(CONTENT).resize((72, 72)).save("square.png")
    arguments = ["stylize", "c.png", "square.png", "-s", "a.png", "--mask", "l.png", "-o", "out"]
    assert main([*arguments, "--weights", str(weights)]) == 2
    said = capfd.readouterr().err
    assert "square.png: mask l.png: 100x72 pixels are another aspect ratio" in said
    assert sorted(path.name for path in Path("out").iterdir()) == ["c__a.png"]
    options = ["--preserve-color", "match", "--overwrite", "--weights", str(weights)]
    assert main([*arguments, *options]) == 2
    assert "square.png: mask l.png: 100x72 pixels" in capfd.readouterr().err
