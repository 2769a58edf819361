"""`cdjax stylize` of a picture that does not fit: windows, memory, kill -9 and going on."""

import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cdjax.io.limits
import cdjax.io.streaming
import cdjax.io.vips
from cdjax import Spec, save_model
from cdjax.cli.main import main
from cdjax.io.images import Picture, read_image, write_image
from cdjax.tiling.budget import parse_size
from cdjax.tiling.resume import ResumeState
from tests.compiling import AS_USERS
from tests.models import random_image, random_model

LITTLE = "500kB"
"""Enough for windows of 64 pixels."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny"
    save_model(path, random_model((Spec(3, (4, 6, 8)), Spec(2, (4, 6)), Spec(1, (5,)))))
    return path


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test, with c.png, which is opaque only in part, and s.png in it."""
    alpha = np.full((100, 120), 255, np.uint8)
    alpha[:50] = 90
    write_image(tmp_path / "c.png", Picture(random_image(100, 120), alpha))
    write_image(tmp_path / "s.png", Picture(random_image(90, 80, seed=2)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stylize(weights: Path, output: str, *more: str) -> int:
    return main(["stylize", "c.png", "s.png", "-o", output, "--weights", str(weights), *more])


def test_a_picture_that_does_not_fit_is_made_in_windows_all_the_same(
    pair: Path, weights: Path
) -> None:
    assert stylize(weights, "whole.png") == 0
    assert stylize(weights, "windows.png", "--memory", LITTLE, "--host-memory", "100kB") == 0
    whole, windows = (read_image(name) for name in ("whole.png", "windows.png"))
    np.testing.assert_array_equal(windows.pixels, whole.pixels)
    np.testing.assert_array_equal(windows.alpha, whole.alpha)
    left = {path.name for path in pair.iterdir()}
    assert left == {"c.png", "s.png", "whole.png", "windows.png"}


def test_too_little_memory_is_one_line(
    pair: Path, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert stylize(weights, "out.png", "--memory", "10kB") == 2
    error = capfd.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert "stage 3 needs at least 1 MB of device memory for a window" in error[0]
    assert error[0].endswith("give more with --memory")
    assert not (pair / "out.png").exists()


@pytest.mark.parametrize("text", ["2 apples", "-1GB", "0", "GB", "1.2.3MB"])
def test_sizes_that_are_none_are_refused(
    text: str, pair: Path, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert stylize(weights, "out.png", f"--memory={text}") == 2
    said = capfd.readouterr().err
    assert f"argument --memory: {text!r} is no " in said


def test_sizes_are_read_with_their_units() -> None:
    sizes = [parse_size(text) for text in ("2GB", "1.5 MiB", "300", "12kb")]
    assert sizes == [2 * 10**9, 3 * 2**19, 300, 12_000]


def test_kill_9_loses_no_finished_stage(
    pair: Path, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_image(pair / "c.png", Picture(random_image(180, 200)))
    arguments = ["--memory", LITTLE, "--weights", str(weights)]
    command = [sys.executable, "-m", "cdjax", "stylize", "c.png", "s.png", *arguments]
    process = subprocess.Popen([*command, "-o", "out.png"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    stages = ".cdjax-*.stages/stage*.raw"
    while not list(pair.glob(stages)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(pair.glob(stages)), "killed before a stage was finished, or after all were"
    assert not (pair / "out.png").exists()

    assert stylize(weights, "out.png", "--memory", LITTLE) == 0
    assert "cdjax: out.png: continues after stage " in capfd.readouterr().err
    assert stylize(weights, "fresh.png", "--memory", LITTLE) == 0
    assert "continues" not in capfd.readouterr().err
    np.testing.assert_array_equal(read_image("out.png").pixels, read_image("fresh.png").pixels)
    assert {path.name for path in pair.iterdir()} == {"c.png", "s.png", "out.png", "fresh.png"}


def test_what_was_kept_of_another_run_with_the_same_output_is_not_used(
    pair: Path, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    little = ("--memory", LITTLE)
    assert stylize(weights, "whole.png") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumeState, "clear", lambda _: None)
        assert stylize(weights, "out.png", *little, "--alpha", "0.5") == 0
    (pair / "out.png").rename("half.png")  # As if the run had been killed just before.
    (kept,) = pair.glob(".cdjax-*")
    assert stylize(weights, "out.png", *little) == 0
    assert "continues" not in capfd.readouterr().err
    np.testing.assert_array_equal(read_image("out.png").pixels, read_image("whole.png").pixels)
    assert list(pair.glob(".cdjax-*")) == [kept]
    # The content has the old name, but is another picture.
    (pair / "c.png").rename("old.png")
    write_image("c.png", Picture(random_image(100, 120, seed=5)))
    again = (*little, "--alpha", "0.5", "--overwrite")
    assert stylize(weights, "out.png", *again) == 0
    assert "continues" not in capfd.readouterr().err
    (pair / "old.png").replace("c.png")
    assert stylize(weights, "out.png", *again) == 0
    assert "continues after stage " in capfd.readouterr().err
    np.testing.assert_array_equal(read_image("out.png").pixels, read_image("half.png").pixels)
    assert not list(pair.glob(".cdjax-*"))


def test_large_pictures_are_streamed_and_keep_resolution(
    pair: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stylize(weights, "whole.png") == 0
    with Image.open("c.png") as picture:
        picture.save("c.png", dpi=(300, 300))
    monkeypatch.setattr(cdjax.io.streaming, "STREAMED_PIXELS", 1000)
    assert stylize(weights, "out.tif", "--memory", LITTLE) == 0
    whole, result = read_image("whole.png"), read_image("out.tif")
    np.testing.assert_array_equal(result.pixels, whole.pixels)
    np.testing.assert_array_equal(result.alpha, whole.alpha)
    with Image.open("out.tif") as written:
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_without_libvips_too_large_a_picture_names_the_package(
    pair: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cdjax.io.streaming, "STREAMED_PIXELS", 1000)
    monkeypatch.setattr(cdjax.io.limits, "MAX_PIXELS", 1000)
    monkeypatch.setattr(cdjax.io.vips, "available", lambda: False)
    assert stylize(weights, "out.png") == 2
    error = capfd.readouterr().err
    assert "c.png: 120x100 pixels, more than 0 megapixels; to read them: pip install" in error
    assert stylize(weights, "out", "--deepzoom") == 2
    assert "--deepzoom needs libvips: pip install 'pyvips[binary]'" in capfd.readouterr().err


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm fetches OpenSeadragon")
def test_deepzoom_writes_a_page_of_the_result(pair: Path, weights: Path) -> None:
    assert stylize(weights, "zoom", "--deepzoom") == 0
    assert (pair / "zoom" / "index.html").exists()
    assert 'Width="120"' in (pair / "zoom" / "image.dzi").read_text()
    assert stylize(weights, "zoom", "--deepzoom") == 2  # It is there already.
    assert stylize(weights, "zoom", "--deepzoom", "--overwrite") == 0
    assert {p.name for p in pair.iterdir()} == {"c.png", "s.png", "zoom"}


def test_deepzoom_takes_two_files_and_makes_a_folder(
    pair: Path, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert stylize(weights, "s.png", "--deepzoom") == 2
    assert "--deepzoom makes a folder, but this is a file" in capfd.readouterr().err
    assert stylize(weights, "missing/zoom", "--deepzoom") == 2
    assert "the folder missing does not exist" in capfd.readouterr().err
    assert main(["stylize", ".", "s.png", "-o", "zoom", "--deepzoom"]) == 2
    assert "--deepzoom takes one content and one style, both files" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts allocations on Linux only")
def test_a_hundred_megapixels_under_a_limit_of_the_operating_system() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hundred_megapixels", str(1_500_000_000)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=AS_USERS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("done")


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="measured with Linux's /proc and glibc's malloc_trim"
)
def test_windows_stay_within_the_memory_and_use_it() -> None:
    memory = 300_000_000  # What the interpreter itself takes and gives back is small beside it.
    done = subprocess.run(
        [sys.executable, "-m", "tests.peak_memory", str(memory)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=AS_USERS,
    )
    assert memory / 20 < int(done.stdout) < memory
