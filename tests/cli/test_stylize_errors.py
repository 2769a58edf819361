"""What `cdjax stylize` says of what cannot be done, and what it leaves."""

import signal
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cdjax import Model, ModelConfig, Spec, save_model
from cdjax.cli.main import main
from tests.cli.conftest import SIZE
from tests.cli.stylizing import error, names, run
from tests.models import random_image, random_model


def test_an_output_that_cannot_be_written_is_reported_and_the_rest_goes_on(
    folders: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # No WebP can be so wide.
    Image.new("RGB", (16384, 99)).save("in/wide.png")
    (folders / "in/wide.png").rename(folders / "in/wide.webp")
    assert run(weights, "in", "styles/x.png", "-o", "out") == 2
    err = capsys.readouterr().err
    assert "wide__x.webp: 16384x99 pixels, but WEBP is limited to 16383" in err
    assert err.endswith("cdjax: 2 written, 1 failed\n")


PAIR = ["stylize", "c.png", "s.png", "-o", "o.png"]
WRONG = {
    "no style": (["stylize", "c.png", "-o", "o.png"], "a style is missing: cdjax stylize CONTENT"),
    "no output": (PAIR[:3], "required: -o/--output"),
    "no content": (["stylize", "none.png", *PAIR[2:]], "content none.png: no such file"),
    "unknown option": ([*PAIR, "--x"], "arguments: --x"),
    "unknown suffix": ([*PAIR[:4], "o.gif"], "written as .jpg"),
    "alpha above 2": ([*PAIR, "--alpha", "2.1"], "0 to 2"),
    "alpha below 0": ([*PAIR, "--alpha", "-1"], "0 to 2"),
    "alpha nan": ([*PAIR, "--alpha", "nan"], "0 to 2"),
    "alpha text": ([*PAIR, "--alpha", "x"], "'x' is not a number"),
    "empty output": ([*PAIR[:4], ""], "-o/--output: is empty"),
    "two outputs": ([*PAIR, "-o", "p.png"], "-o/--output: given twice"),
    "empty content": (["stylize", "", *PAIR[2:]], "CONTENT: an empty name"),
    "no value": ([*PAIR[:4], "--overwrite"], "-o/--output: expected one argument"),
    "two to stdout": (["stylize", ".", "s.png", "-o", "-"], "standard output takes one picture"),
    "json and a picture": ([*PAIR[:4], "-", "--json"], "--json: standard output takes the picture"),
    "no weights' name": ([*PAIR, "--weights", ""], "cdjax: error: "),
    "size": ([*PAIR, "--style-size", "0"], "whole number"),
    "size text": ([*PAIR, "--content-size", "1.5"], "'1.5'"),
    "quality": ([*PAIR, "--quality", "101"], "1 to 100"),
    "dtype": ([*PAIR, "--dtype", "int8"], "'int8'"),
    "no weights": (
        [*PAIR, "--weights", "w"],
        "w: no such file or folder; models",
    ),
    "a file as weights": ([*PAIR, "--weights", "c.png"], "c.png: not a PyTorch file"),
    "other weights": ([*PAIR, "--weights", "empty"], "empty: not a checkpoint"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_line(
    pair: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (pair / "empty").mkdir()
    assert main(arguments) == 2
    assert message in error(capsys)
    assert names(pair) == ["c.png", "empty", "s.png"]


@pytest.mark.parametrize("broken", ["c.png", "s.png"])
def test_a_broken_file_of_a_pair_is_one_line(
    pair: Path, weights: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    Path(broken).write_bytes(Path(broken).read_bytes()[:100])
    assert run(weights, "c.png", "s.png", "-o", "out.png") == 2
    assert f"{broken}: broken image" in error(capsys)
    assert not Path("out.png").exists()


def test_sizes_that_cannot_be_are_one_line(
    pair: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(weights, "c.png", "s.png", "-o", "out.png", "--content-size", "50000") == 2
    assert "c.png: a shorter side of 50000 would make it 66667x50000" in error(capsys)
    Image.new("L", (1, 9000)).save("long.png")
    assert run(weights, "c.png", "long.png", "-o", "out.png", "--style-size", "8") == 2
    narrow = "long.png: a shorter side of 8 would make it 8x72000 pixels, too long and narrow"
    assert narrow in error(capsys)


def test_a_model_that_cannot_stylise_is_one_line(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_model((Spec(1, (4,)),))
    params = {"stage1": {"encoder": model.params["stage1"]["encoder"]}}
    save_model(
        tmp_path / "encoder", Model(params, ModelConfig("encoder", model.config.specs, "tiny"))
    )
    assert run(tmp_path / "encoder", "c.png", "s.png", "-o", "out.png") == 2
    assert "tiny encoder and cannot stylise" in error(capsys)


def test_after_an_interruption_nothing_is_written(
    folders: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()
    main_thread = threading.get_ident()
    finished: list[threading.Thread] = []

    def interrupted(model: Model, content: NDArray[np.uint8], *_: object, **__: object) -> object:
        if Path("out").exists() and not finished:
            finished.append(threading.current_thread())
            signal.pthread_kill(main_thread, signal.SIGINT)
            assert answered.wait(60)
        return content

    monkeypatch.setattr("cdjax.cli.painting.stylize", interrupted)
    assert run(weights, "in", "styles", "-o", "out") == 130
    assert capsys.readouterr().err.endswith("\ncdjax: interrupted\n")
    answered.set()
    finished[0].join(60)
    assert len(names(folders / "out")) == 1


@pytest.mark.parametrize("damage", ["pixels", "samples per pixel"])
def test_libraries_do_not_print_what_is_said_in_one_line(
    pair: Path,
    weights: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    path = pair / "broken.tif"
    Image.fromarray(random_image(*SIZE)).save(path, compression="tiff_adobe_deflate")
    data = path.read_bytes()
    if damage == "pixels":
        path.write_bytes(data[:20] + bytes(100) + data[120:])
    else:
        tag = struct.pack("<HHI", 277, 3, 1)
        path.write_bytes(data.replace(tag + b"\3\0", tag + b"\0\1", 1))
    assert run(weights, "broken.tif", "s.png", "-o", "out.png") == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("cdjax: error: broken.tif: ")
    assert not caplog.records  # Without pytest, they would be on stderr.
