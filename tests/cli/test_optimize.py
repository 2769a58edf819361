"""`cdjax optimize`, as a person runs it: its picture, its preview, its errors."""

import json
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cdjax.io.images
from cdjax import Optimization, Spec, load_model, optimize_image, save_model
from cdjax.cli.main import main
from cdjax.cli.preview import PreviewFile
from cdjax.errors import ImageError
from cdjax.io.images import Picture, levels, read_image, write_image
from tests.models import random_image, random_model

SIZE = (19, 13)
LAYERS = ["--content-layers", "relu1_2", "--style-layers", "relu1_1", "relu2_1=3"]
SETTINGS = Optimization(
    content_layers=("relu1_2",),
    style_layers=("relu1_1", "relu2_1"),
    style_shares=(1.0, 3.0),
    steps=12,
    scales=1,
)
COMMON = ["--model", "tiny", "--scales", "1", "--steps", "12", *LAYERS]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_model(path, random_model((Spec(2, (4, 6)), Spec(1, (4,)))))
    return path


@pytest.fixture
def work(uncached: None, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny, "tiny")
    alpha = np.full(SIZE, 255, np.uint8)
    alpha[:4] = 0  # What is hidden gets colours of what is visible.
    write_image("c.png", Picture(random_image(*SIZE), alpha))
    write_image("s.png", Picture(random_image(16, 24, seed=2) // 2))
    return tmp_path


def test_from_files_to_a_picture(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def watched(path: Path, picture: Picture, **options: int) -> None:
        write_image(path, picture, **options)
        written.append((path.name, sorted(p.name for p in work.glob("out*"))))

    monkeypatch.setattr(cdjax.io.images, "write_image", watched)
    options = ["--preview-every", "5", "--style-weight", "20", "--tv-weight", "0.1"]
    assert main(["optimize", "c.png", "s.png", "-o", "out.png", *COMMON, *options]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cdjax: 13x19: 12 of 12 steps, ")
    assert ", style " in err.splitlines()[-1]
    assert err.count("\n") == 1
    # A preview before the last step, and in the end nothing but the picture.
    assert written[0] == ("out.preview.png", ["out.preview.png"])
    assert written[1][0] == "out.png"
    assert {path.name for path in work.iterdir()} == {"c.png", "s.png", "out.png", "tiny"}
    found = read_image("out.png")
    assert found.alpha is not None
    assert (found.alpha[:4] == 0).all()
    settings = replace(SETTINGS, style_weight=20.0, tv_weight=0.1)
    content, style = (read_image(name) for name in ("c.png", "s.png"))
    given = load_model("tiny"), content.pixels, style.pixels
    wanted = optimize_image(*given, settings=settings, opacity=content.alpha)
    np.testing.assert_array_equal(found.pixels[4:], levels(np.asarray(wanted))[4:])


def test_files_beside_the_output_that_look_like_previews_are_left_alone(work: Path) -> None:
    (work / "c.png").rename("out.preview.png")  # The content itself.
    (work / "out.preview2.png").write_bytes(b"mine")
    before = {path.name: path.read_bytes() for path in work.glob("*.png")}
    command = ["optimize", "out.preview.png", "s.png", "-o", "out.png", *COMMON]
    assert main([*command, "--preview-every", "5"]) == 0
    after = {path.name: path.read_bytes() for path in work.glob("*.png")}
    assert after.pop("out.png")
    assert after == before


def test_a_preview_that_somebody_changed_is_left_alone(tmp_path: Path) -> None:
    preview = PreviewFile(tmp_path / "out.png")
    picture = Picture(random_image(*SIZE))
    assert preview.write(picture) is None
    assert preview.write(picture) is None
    assert [path.name for path in tmp_path.iterdir()] == ["out.preview.png"]
    (tmp_path / "out.preview.png").write_bytes(b"theirs")
    assert preview.write(picture) is None
    assert (tmp_path / "out.preview.png").read_bytes() == b"theirs"
    preview.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["out.preview.png"]


def test_without_room_for_a_preview_the_work_goes_on(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, picture: Picture, **options: Any) -> None:
        if "preview" in path.name:
            raise ImageError(f"{path}: cannot be written (No space left on device)")
        write_image(path, picture, **options)

    monkeypatch.setattr(cdjax.io.images, "write_image", full)
    options = [*COMMON, "--preview-every", "3"]
    assert main(["optimize", "c.png", "s.png", "-o", "out.png", *options]) == 0
    assert capsys.readouterr().err.count("No space left on device); goes on without") == 1
    assert read_image("out.png").pixels.shape == (*SIZE, 3)


def test_another_model_finishes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model("teacher", random_model((Spec(2, (5, 7)),), seed=3))
    content, style = (read_image(name) for name in ("c.png", "s.png"))
    given = content.pixels, style.pixels
    # A quarter of the steps unless told otherwise.
    for chosen, last in (([], 3), (["--finish-steps", "5"], 5)):
        command = ["c.png", "s.png", "-o", f"out{last}.png", *COMMON, "--finish", "teacher"]
        assert main(["optimize", *command, *chosen]) == 0
        assert "13x19, finishing: 12 of 12 steps, " in capsys.readouterr().err
        settings = replace(SETTINGS, finish_steps=last)
        options = {"finish": load_model("teacher"), "opacity": content.alpha}
        wanted = optimize_image(load_model("tiny"), *given, settings=settings, **options)
        found = read_image(f"out{last}.png").pixels
        np.testing.assert_array_equal(found[4:], levels(np.asarray(wanted))[4:])


def test_a_stylized_start(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["c.png", "s.png", "-o", "out.png", "--model", "tiny", "--steps", "2", *LAYERS]
    assert main(["optimize", *command, "--start", "stylized"]) == 0
    assert "2 of 2 steps" in capsys.readouterr().err
    content, style = (read_image(name) for name in ("c.png", "s.png"))
    settings = replace(SETTINGS, steps=2, scales=None, start="stylized")
    given = load_model("tiny"), content.pixels, style.pixels
    wanted = optimize_image(*given, settings=settings, opacity=content.alpha)
    np.testing.assert_array_equal(read_image("out.png").pixels[4:], levels(np.asarray(wanted))[4:])


def test_json_and_quiet(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["optimize", "c.png", "s.png", "-o", "out.png", *COMMON, "--json", "--quiet"]
    statuses = []
    for arguments in (command, command, [*command, "--overwrite", "--content-size", "3"]):
        status = main([*arguments, "--steps", "2"])
        out, err = capsys.readouterr()
        found = json.loads(out)
        assert (found["input"], found["style"], found["output"]) == ("c.png", "s.png", "out.png")
        assert (status == 0) == (err == "") == (found["status"] == "made")
        statuses.append((found["status"], found["size"]))
    assert statuses == [("made", [13, 19]), ("already there", [13, 19]), ("failed", None)]


def test_standard_output_gets_a_png(work: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["optimize", "c.png", "s.png", "-o", "-", *COMMON, "--steps", "1", "-q"]) == 0
    (work / "out.png").write_bytes(capfdbinary.readouterr().out)
    assert read_image(work / "out.png").pixels.shape == (*SIZE, 3)


def test_sizes_and_overwriting(work: Path) -> None:
    sizes = ["--content-size", "11", "--style-size", "8", "--steps", "1"]
    command = ["optimize", "c.png", "s.png", "-o", "out.jpg", *COMMON, *sizes]
    assert main([*command, "--preview-every", "0"]) == 0
    assert read_image("out.jpg").pixels.shape == (16, 11, 3)
    before = (work / "out.jpg").read_bytes()
    assert main(command) == 2
    assert main([*command, "--overwrite", "--quality", "10"]) == 0
    assert (work / "out.jpg").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png", "s.png", "-o", "out.png"], "content none.png: no such file or folder"),
        (["c.png", "tiny", "-o", "out.png"], "style tiny: is a folder; give one image"),
        (["c.png", "s.png", "-o", "c.png"], "output c.png: is"),
        (["c.png", "s.png", "-o", "out.xyz"], "unknown suffix '.xyz'"),
        (["c.png", "s.png", "-o", "no/out.png"], "the folder no does not exist"),
        (["c.png", "s.png", "-o", "old.png"], "old.png: already exists; --overwrite"),
        (["c.png", "broken.png", "-o", "out.png"], "broken.png: not an image, or broken"),
        (["c.png", "s.png", "-o", "out.png", "--model", "none"], "none: no such file"),
        (["c.png", "s.png", "-o", "out.png", "--model", "c.png"], "c.png"),
        (["c.png", "s.png", "-o", "out.png", "--style-layers", "relu9_9"], "no layer relu9_9"),
        (["c.png", "s.png", "-o", "out.png", "--style-layers", "relu1_1=x"], "LAYER=SHARE"),
        (["c.png", "s.png", "-o", "out.png", "--content-size", "3"], "needs at least 4"),
        (["c.png", "s.png", "-o", "out.png", "--style-weight", "-1"], "at least 0"),
        (["c.png", "s.png", "-o", "out.png", "--steps", "-1"], "not a whole number from 0"),
        (["c.png", "s.png", "-o", "out.png", "--finish", "none"], "none: no such file"),
        (["c.png", "s.png", "-o", "out.png", "--finish-steps", "2"], "need a model"),
        (["c.png", "s.png"], "--output"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    work: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (work / "old.png").write_bytes(b"old")
    (work / "broken.png").write_bytes(b"\x89PNG\r\n")
    before = {path.name for path in work.iterdir()}
    assert main(["optimize", *arguments[:2], *COMMON, *arguments[2:]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cdjax: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert {path.name for path in work.iterdir()} == before
    assert (work / "old.png").read_bytes() == b"old"


def test_ctrl_c_leaves_the_preview_and_no_output(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main_thread = threading.get_ident()
    working: list[threading.Thread] = []

    def interrupted(path: Path, picture: Picture, **options: int) -> None:
        write_image(path, picture, **options)
        if not working:  # A second one could come before the first is answered.
            working.append(threading.current_thread())
            signal.pthread_kill(main_thread, signal.SIGINT)

    monkeypatch.setattr(cdjax.io.images, "write_image", interrupted)
    options = [*COMMON, "--optimizer", "adam", "--steps", "10000000", "--preview-every", "10"]
    assert main(["optimize", "c.png", "s.png", "-o", "out.png", *options]) == 130
    err = capsys.readouterr().err
    assert err == "cdjax: interrupted\n"
    working[0].join(60)
    assert not working[0].is_alive(), "it goes on for all other tests"
    assert "Traceback" not in err
    assert read_image(work / "out.preview.png").pixels.shape == (*SIZE, 3)
    assert sorted(p.name for p in work.glob("*.p*")) == ["c.png", "out.preview.png", "s.png"]
    assert not list(work.glob(".cdjax*"))
