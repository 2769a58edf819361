"""`cdjax.stylize_file`: the file that `cdjax stylize` writes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cdjax import (
    CdjaxError,
    ImageError,
    Model,
    Picture,
    UsageError,
    load_model,
    read_image,
    stylize_file,
    write_image,
)
from cdjax.cli.main import main
from tests.models import random_image


@pytest.fixture(scope="module")
def model(weights: Path) -> Model:
    return load_model(weights)


@pytest.fixture
def photo(pair: Path, uncached: None) -> Path:
    """c.jpg with metadata, and a.png, which is transparent in part, beside those of `pair`."""
    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.fromarray(random_image(24, 32)).save("c.jpg", exif=exif, dpi=(300, 300))
    alpha = np.full((72, 80), 255, np.uint8)
    alpha[:20] = 90
    write_image("a.png", Picture(random_image(72, 80), alpha))
    return pair


def test_it_writes_the_commands_bytes(photo: Path, weights: Path, model: Model) -> None:
    def command(*arguments: str) -> bytes:
        given = ["stylize", *arguments, "--weights", str(weights), "--overwrite"]
        assert main([*given, "-o", f"command{Path(arguments[0]).suffix}"]) == 0
        return Path(f"command{Path(arguments[0]).suffix}").read_bytes()

    written = stylize_file(model, "c.jpg", "s.png", "one.jpg", alpha=0.7, quality=80)
    assert written == Path("one.jpg")
    assert b"a description" in written.read_bytes()
    options = ("--alpha", "0.7", "--quality", "80")
    assert written.read_bytes() == command("c.jpg", "s.png", *options)
    made = stylize_file(model, Path("a.png"), "s.png", Path("two.png"), memory=350_000)
    assert made.read_bytes() == command("a.png", "s.png")
    mixed = stylize_file(model, "c.jpg", ["s.png", "a.png"], "m.jpg", style_weights=(2, 1))
    assert mixed.read_bytes() == command("c.jpg", "-s", "s.png", "a.png", "--mix", "2", "1")
    stripped = stylize_file(
        model, "c.jpg", "s.png", "one.jpg", strip=True, overwrite=True, content_size=18,
        preserve_color="match",
    )  # fmt: skip
    assert b"a description" not in stripped.read_bytes()
    options = ("--strip", "--content-size", "18", "--preserve-color", "match")
    assert stripped.read_bytes() == command("c.jpg", "s.png", *options)
    masks = ["m.png", "n.png"]
    for name, part in zip(masks, (slice(0, 16), slice(16, 32)), strict=True):
        pixels = np.zeros((24, 32, 3), np.uint8)
        pixels[:, part] = 255
        write_image(name, pixels)
    styles = ["s.png", "s2.png"]
    write_image("s2.png", random_image(24, 32, seed=9))
    regions = stylize_file(model, "c.jpg", styles, "r.jpg", masks=masks, style_masks=masks)
    options = ("-s", *styles, "--masks", *masks, "--style-masks", *masks)
    assert regions.read_bytes() == command("c.jpg", *options)
    one = stylize_file(model, "c.jpg", styles, "r.jpg", mask="m.png", overwrite=True)
    assert one.read_bytes() == command("c.jpg", "-s", *styles, "--mix", "--mask", "m.png")
    assert not list(photo.glob(".cdjax-*"))


def test_what_does_not_fit_is_refused_and_nothing_is_lost(
    photo: Path, model: Model, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("mine.png").write_bytes(b"mine")
    refusals: list[tuple[type[Exception], str, dict[str, object]]] = [
        (UsageError, "mine.png: already exists; overwrite=True replaces it", {}),
        (UsageError, "content nowhere.png: no such file or folder", {"content": "nowhere.png"}),
        (UsageError, "style .: is a folder; give one image", {"style": "."}),
        (UsageError, "c.png: is one of the inputs", {"output": "c.png", "overwrite": True}),
        (ImageError, "not an image", {"content": "mine.png", "output": "out.png"}),
        (ImageError, "unknown suffix", {"output": "out.txt"}),
        (ValueError, "style_size must be at least 1, not 0", {"style_size": 0}),
        (UsageError, "--masks: 2 masks for 1 styles; give one each", {"masks": ["c.png"] * 2}),
        (UsageError, "neither mask nor weights", {"masks": ["c.png"], "mask": "c.png"}),
        (UsageError, "mask nowhere.png: no such file", {"mask": "nowhere.png"}),
        (ValueError, "None or one of luminance, match", {"preserve_color": "hue"}),
        (ValueError, "no transform 'gram'", {"transform": "gram"}),
        (ValueError, "float32 or bfloat16", {"dtype": "float16"}),
        (TypeError, "strong", {"strong": True}),
    ]
    before = {path.name: path.read_bytes() for path in photo.iterdir()}
    for kind, message, change in refusals:
        given = {"content": "c.png", "style": "s.png", "output": "mine.png"} | change
        with pytest.raises(kind, match=message) as caught:
            stylize_file(model, **given)  # type: ignore[arg-type]
        assert isinstance(caught.value, CdjaxError) == issubclass(kind, CdjaxError)
    assert {path.name: path.read_bytes() for path in photo.iterdir()} == before
    assert capfd.readouterr() == ("", "")


def test_public_reading_and_writing_keep_what_a_file_has(photo: Path) -> None:
    picture = read_image("c.jpg")
    assert picture.pixels.shape == (24, 32, 3)
    write_image("again.jpg", picture)
    assert b"a description" in Path("again.jpg").read_bytes()
    write_image("bare.png", picture.pixels / np.float32(255))
    np.testing.assert_array_equal(read_image("bare.png").pixels, picture.pixels)
    for wrong, message in (
        (picture.pixels[..., 0], r"pixels must be \(H, W, 3\), not \(24, 32\)"),
        (picture.pixels.astype(np.float32), "divide 0 to 255 by 255"),
    ):
        with pytest.raises(ValueError, match=message):
            write_image("wrong.png", wrong)
    assert not Path("wrong.png").exists()
