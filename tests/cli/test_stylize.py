"""`cdjax stylize` through `main`; test_process.py has what only a process shows."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cdjax import load_model, stylize
from cdjax.cli.main import main
from cdjax.io.images import Picture, read_image, resize, write_image
from tests.cli.conftest import SIZE, draw, own_cache
from tests.cli.stylizing import error, names, run
from tests.models import random_image


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A compilation cache of these tests' own."""
    with own_cache(tmp_path_factory.mktemp("cache")):
        yield


def levels(image: jax.Array) -> NDArray[np.uint8]:
    return np.rint(np.asarray(image) * 255).astype(np.uint8)


def test_a_pair_is_what_the_library_makes_of_it(
    pair: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(weights, "c.png", "s.png", "-o", "out.png") == 0
    assert capsys.readouterr() == ("", "")
    content, style = read_image("c.png").pixels, read_image("s.png").pixels
    expected = levels(stylize(load_model(weights), content, style))
    np.testing.assert_array_equal(read_image("out.png").pixels, expected)
    assert names(pair) == ["c.png", "out.png", "s.png"]


def test_options_reach_the_library(pair: Path, weights: Path) -> None:
    options = ["--alpha", "0.25", "--transform", "ot", "--regularization", "0.02"]
    options += ["--content-size", "18", "--style-size", "30"]
    assert run(weights, "c.png", "s.png", "-o", "out.tif", *options) == 0
    content, style = resize(read_image("c.png"), 18), resize(read_image("s.png"), 30)
    model = load_model(weights)
    strength: Any = {"alpha": 0.25, "transform": "ot", "regularization": 0.02}
    expected = levels(stylize(model, content.pixels, style.pixels, **strength))
    result = read_image("out.tif").pixels
    assert result.shape == (18, 24, 3)
    np.testing.assert_array_equal(result, expected)

    assert run(weights, "c.png", "s.png", "-o", "low.png", "--dtype", "bfloat16") == 0
    content, style = read_image("c.png"), read_image("s.png")
    low, high = (
        levels(stylize(model, content.pixels, style.pixels, dtype=dtype))
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    np.testing.assert_array_equal(read_image("low.png").pixels, low)
    assert np.abs(low.astype(int) - high).max() > 0


def test_quality_reaches_the_file(pair: Path, weights: Path) -> None:
    assert run(weights, "c.png", "s.png", "-o", "out.jpg") == 0
    assert run(weights, "c.png", "s.png", "-o", "low.jpg", "--quality", "5") == 0
    assert Path("low.jpg").stat().st_size < Path("out.jpg").stat().st_size / 2


def test_alpha_of_the_content_is_kept(pair: Path, weights: Path) -> None:
    alpha = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)
    write_image("c.png", Picture(random_image(*SIZE), alpha))
    assert run(weights, "c.png", "s.png", "-o", "out.png") == 0
    np.testing.assert_array_equal(read_image("out.png").alpha, alpha)


def test_every_content_of_a_folder_gets_every_style(
    folders: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(weights, "in", "styles", "-o", "new/out") == 0
    assert names(folders / "new/out") == ["a__x.png", "a__y.png", "b__x.jpg", "b__y.jpg"]
    err = capsys.readouterr().err
    assert err.startswith("cdjax: 4 pictures: 2 contents x 2 styles -> new/out\n")
    assert err.endswith("cdjax: 4 written\n")
    content, style = read_image("in/a.png").pixels, read_image("styles/y.png").pixels
    expected = levels(stylize(load_model(weights), content, style))
    np.testing.assert_array_equal(read_image("new/out/a__y.png").pixels, expected)


def test_every_content_gets_every_style_that_is_given(
    folders: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(weights, "in/a.png", "c.png", "-s", "styles", "s.png", "-o", "out") == 0
    assert len(names(folders / "out")) == 6
    assert "cdjax: 6 pictures: 2 contents x 3 styles -> out\n" in capsys.readouterr().err
    # The order of options and files does not matter.
    assert run(weights, "-s", "s.png", "-o", "single.png", "in/a.png") == 0
    single, one = (read_image(name).pixels for name in ("single.png", "out/a__s.png"))
    np.testing.assert_array_equal(single, one)


def test_many_files_without_s_are_refused_with_the_right_command(
    folders: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(weights, "in/a.png", "in/b.jpg", "s.png", "-o", "out") == 2
    right = "cdjax stylize in/a.png in/b.jpg -s s.png -o FOLDER"
    assert f"3 files and no -s; to paint several photographs: {right}\n" in error(capsys)
    assert run(weights, *["c.png"] * 9, "s.png", "-o", "out") == 2
    assert ": cdjax stylize c.png ... c.png -s s.png -o FOLDER\n" in error(capsys)


def test_an_output_is_not_overwritten_unless_asked(
    pair: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out.png").write_bytes(b"mine")
    assert run(weights, "c.png", "s.png", "-o", "out.png") == 2
    assert "out.png: already exists; --overwrite" in error(capsys)
    assert Path("out.png").read_bytes() == b"mine"
    assert run(weights, "c.png", "s.png", "-o", "out.png", "--overwrite") == 0
    assert read_image("out.png").pixels.shape == (*SIZE, 3)


def test_an_interrupted_batch_goes_on_where_it_ended(
    folders: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "out").mkdir()
    Path("out/a__x.png").write_bytes(b"mine")
    assert run(weights, "in", "styles", "-o", "out") == 0
    assert capsys.readouterr().err.endswith("cdjax: 3 written, 1 skipped (already exist)\n")
    assert Path("out/a__x.png").read_bytes() == b"mine"
    assert run(weights, "in", "styles", "-o", "out") == 0
    assert capsys.readouterr().err.endswith("cdjax: 0 written, 4 skipped (already exist)\n")
    assert run(weights, "in", "styles", "-o", "out", "--overwrite") == 0
    assert capsys.readouterr().err.endswith("cdjax: 4 written\n")
    assert read_image("out/a__x.png").pixels.shape == (*SIZE, 3)


@pytest.mark.parametrize("broken", ["in/a.png", "styles/x.png"])
def test_a_broken_file_in_a_folder_is_reported_and_the_rest_goes_on(
    folders: Path, weights: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    draw(folders / "in/c.png", 9)
    whole = Path(broken).read_bytes()
    Path(broken).write_bytes(whole[: len(whole) // 2])
    assert run(weights, "in", "styles", "-o", "out") == 2
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    reports = [line for line in lines if "error" in line]
    assert len(reports) == 1
    assert reports[0].startswith(f"cdjax: error: {broken}: broken image")
    failed = 2 if broken.startswith("in") else 3
    assert lines[-1] == f"cdjax: {6 - failed} written, {failed} failed"
    assert len(names(folders / "out")) == 6 - failed


def test_each_s_adds_styles(folders: Path, weights: Path) -> None:
    assert run(weights, "c.png", "-s", "s.png", "-s", "styles", "--style", "in", "-o", "out") == 0
    assert names(folders / "out") == [f"c__{style}.png" for style in "absxy"]


def test_a_folder_can_be_content_and_output_again_and_again(
    folders: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for told in ("2 written", "0 written, 2 skipped (already exist)"):
        assert run(weights, "in", "s.png", "-o", "in") == 0
        assert capsys.readouterr().err.endswith(f"cdjax: {told}\n")
    expected = [".hidden.png", "a.png", "a__s.png", "b.jpg", "b__s.jpg", "deeper", "notes.txt"]
    assert names(folders / "in") == expected


def test_a_name_that_is_too_long_fails_alone(
    folders: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(folders / "in" / f"{'l' * 250}.png")
    assert run(weights, "in", "s.png", "-o", "out", "--quiet") == 2
    assert names(folders / "out") == ["a__s.png", "b__s.jpg"]
    assert error(capsys).endswith("l__s.png: a name of more than 255 bytes\n")
    # Found before anything is computed, too, whether something exists with that name or not.
    assert run(weights, "in", "s.png", "-o", "out", "--quiet", "--overwrite") == 2
    assert "a name of more than 255 bytes" in error(capsys)
    assert run(weights, "c.png", "s.png", "-o", f"{'l' * 255}.png") == 2
    assert "l.png: " in error(capsys)


def test_names_may_begin_with_a_dash(pair: Path, weights: Path) -> None:
    (pair / "c.png").rename(pair / "-c.png")
    (pair / "s.png").rename(pair / "--alpha")
    assert run(weights, "-o", "-one.png", "./-c.png", "./--alpha") == 0
    assert (
        main(["stylize", "-o", "./-two.png", "--weights", str(weights), "--", "-c.png", "--alpha"])
        == 0
    )
    assert (
        main(
            [
                "stylize",
                "--output=-three.png",
                "--weights",
                str(weights),
                "-s",
                "./--alpha",
                "--",
                "-c.png",
            ]
        )
        == 0
    )
    assert run(weights, "./-c.png", "--styles=--alpha", "-o", ".") == 0
    expected = ["--alpha", "-c.png", "-c__--alpha.png", "-one.png", "-three.png", "-two.png"]
    assert names(pair) == expected
    assert len({Path(name).read_bytes() for name in expected[2:]}) == 1


def test_json_is_an_object_per_picture(
    folders: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "in/a.png").write_bytes(b"no picture")
    arguments = ("in", "styles/x.png", "-o", "out", "--json", "--quiet")
    assert run(weights, *arguments) == 2
    out, err = capsys.readouterr()
    failed, made = map(json.loads, out.splitlines())
    assert err == f"cdjax: error: {failed['error']}\n"
    assert (failed["input"], failed["status"]) == ("in/a.png", "failed")
    assert failed["error"].startswith("in/a.png: not an image")
    assert made.pop("seconds") > 0
    pair = {"input": "in/b.jpg", "style": "styles/x.png", "output": "out/b__x.jpg"}
    assert made == pair | {"status": "made", "error": None, "size": [SIZE[1], SIZE[0]]}

    assert run(weights, *arguments) == 2
    again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [found["status"] for found in again] == ["already there", "failed"]
    assert again[0]["size"] == [SIZE[1], SIZE[0]]

    assert run(weights, "in/a.png", "s.png", "-o", "one.png", "--json") == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["status"] == "failed"
    assert err.startswith("cdjax: error: in/a.png: not an image")


def test_quiet_prints_nothing_but_errors(
    folders: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(weights, "in", "styles/x.png", "-o", "out", "-q") == 0
    assert run(weights, "in", "styles/x.png", "-o", "out", "-q") == 0
    assert run(weights, "in", "s.png", "-o", "in", "-q", "--memory", "1MB") == 0
    assert run(weights, "in", "s.png", "-o", "in", "-q") == 0
    assert capsys.readouterr() == ("", "")


def test_standard_output_gets_a_png(
    pair: Path, weights: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(weights, "c.png", "s.png", "-o", "out.png") == 0
    assert run(weights, "c.png", "s.png", "-o", "-") == 0
    assert capfdbinary.readouterr() == (Path("out.png").read_bytes(), b"")
    Path("s.png").write_bytes(b"no picture")
    assert run(weights, "c.png", "s.png", "-o", "-") == 2
    assert capfdbinary.readouterr().out == b""


def test_every_file_of_a_folder_that_is_no_result_is_named(
    folders: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (".hidden.png", "Thumbs.db", "desktop.ini", "in/.DS_Store"):
        (folders / "in" / Path(name).name).write_bytes(b"")
    shutil.copy("in/a.png", "in/c.dib")
    Image.open("in/a.png").save("in/d.jfif", "JPEG")
    assert run(weights, "in", "styles/x.png", "-o", "out") == 0
    err = capsys.readouterr().err
    assert "cdjax: in/notes.txt: not read: not a picture\n" in err
    assert "cdjax: in/deeper: not read: a folder\n" in err
    assert err.endswith("cdjax: 4 written\n")
    made = names(folders / "out")
    assert {"c__x.png", "d__x.png"} <= set(made)
    for name, reason in (
        ("drawing.svg", "a drawing"),
        ("raw.NEF", "a raw photograph"),
        ("gone.jpg", "a link to nothing"),
        ("photo", "PNG without its suffix"),
    ):
        path = folders / "in" / name
        if name == "gone.jpg":
            path.symlink_to("nowhere.jpg")
        else:
            shutil.copy("in/a.png", path)
        assert run(weights, "in", "styles/x.png", "-o", "out") == 2
        assert f"cdjax: error: in/{name}: not read: {reason}" in capsys.readouterr().err
        path.unlink()
    assert names(folders / "out") == made


def test_metadata_is_kept_unless_it_is_stripped(folders: Path, weights: Path) -> None:
    exif = Image.Exif()
    exif[0x8298], exif.get_ifd(0x8825)[1] = "Somebody", "N"
    content = Image.open("c.png").convert("RGB")
    content.save("c.jpg", exif=exif, dpi=(300, 300))
    for suffix in ("jpg", "png", "tif", "webp"):
        assert run(weights, "c.jpg", "s.png", "-o", f"kept.{suffix}") == 0
        with Image.open(f"kept.{suffix}") as file:
            assert file.getexif()[0x8298] == "Somebody"
            assert file.getexif().get_ifd(0x8825) == {1: "N"}
        assert run(weights, "c.jpg", "s.png", "-o", f"bare.{suffix}", "--strip") == 0
        assert b"Somebody" not in Path(f"bare.{suffix}").read_bytes()


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stylize", "--help"]) == 0
    text = capsys.readouterr().out
    options = "styles output mix method weights alpha content-size style-size dtype quality"
    for option in [
        *options.split(),
        "memory",
        "host-memory",
        "deepzoom",
        "overwrite",
        "json",
        "quiet",
    ]:
        assert f"--{option} " in text
    assert "default wct-16x" in " ".join(text.split())


def test_what_killed_runs_have_left_is_removed(pair: Path, weights: Path) -> None:
    (pair / "out").mkdir()
    (pair / "out" / ".cdjax-0123456789abcdef.part").write_text("half a picture")
    (pair / "out" / ".mine").write_text("mine")
    assert run(weights, "c.png", "s.png", "-o", "out/") == 0
    assert names(pair / "out") == [".mine", "c__s.png"]
