"""`cdjax stylize` as a process: its compilation cache, its start, its end by Ctrl-C."""

import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest

from cdjax.io.images import read_image
from tests.cli.conftest import SIZE


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the processes, with a compilation cache of their own."""
    environment = os.environ | {"CDJAX_CACHE": str(tmp_path_factory.mktemp("cache"))}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    return environment


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cdjax", "stylize", *arguments]


def test_a_second_process_compiles_nothing(
    pair: Path, weights: Path, environment: dict[str, str]
) -> None:
    entries = []
    for name in ("first.png", "second.png"):
        arguments = ("c.png", "s.png", "-o", name, "--weights", str(weights))
        done = subprocess.run(
            command(*arguments), env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        files = (Path(environment["CDJAX_CACHE"]) / "xla").glob("*/*.program")
        entries.append({path.name: path.stat().st_ino for path in files})
    assert entries[1] == entries[0] != {}
    np.testing.assert_array_equal(read_image("first.png").pixels, read_image("second.png").pixels)


def test_wrong_use_is_answered_before_jax_is_imported(pair: Path, weights: Path) -> None:
    script = (
        "import sys; from cdjax.cli.main import main; status = main(sys.argv[1:]); "
        "print(*{'jax', 'orbax', 'flax'} & set(sys.modules)); sys.exit(status)"
    )
    arguments = ["stylize", "c.png", "s.png", "-o", "s.png", "--weights", str(weights)]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    expected = "cdjax: error: output s.png: is one of the inputs, which are never replaced\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "\n", expected)


def many_contents(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        os.link("c.png", folder / f"{number}.png")


def test_the_work_goes_on_whatever_the_standard_streams_are(
    pair: Path, weights: Path, environment: dict[str, str]
) -> None:
    many_contents(pair / "in", 4)
    arguments = [*command("in", "s.png", "--weights", str(weights), "-o")]
    for output, redirected, status in (
        ("full", "2>/dev/full", 0),
        ("closed", "--json <&- >&- 2>&-", 2),
    ):
        shell = ["sh", "-c", f'"$@" {output} {redirected}', "sh", *arguments]
        assert subprocess.run(shell, env=environment, check=False, timeout=120).returncode == status
        assert sorted(os.listdir(output)) == [f"{number}__s.png" for number in range(4)]


def test_the_work_goes_on_after_the_terminal_was_closed(
    pair: Path, weights: Path, environment: dict[str, str]
) -> None:
    many_contents(pair / "in", 60)
    master, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    arguments = ("in", "s.png", "-o", "out", "--weights", str(weights))
    process = subprocess.Popen(command(*arguments), env=environment, stderr=terminal)
    os.close(terminal)
    shown = b""
    while b"/60" not in shown:  # The bar is drawn.
        shown += os.read(master, 1000)
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(120) == 0
    assert len(os.listdir("out")) == 60


def test_standard_input_is_a_picture(
    pair: Path, weights: Path, environment: dict[str, str]
) -> None:
    picture = Path("c.png").read_bytes()
    arguments = command("-", "s.png", "-o", "-", "--weights", str(weights))
    done = subprocess.run(
        arguments, env=environment, input=picture, capture_output=True, check=True
    )
    assert done.stderr == b""
    Path("piped.png").write_bytes(done.stdout)
    with open("c.png", "rb") as file:
        arguments = command("-", "s.png", "-o", ".", "--weights", str(weights))
        subprocess.run(arguments, env=environment, stdin=file, check=True)
    assert Path("stdin__s.png").read_bytes() == done.stdout
    assert read_image("piped.png").pixels.shape == (*SIZE, 3)


def test_ctrl_c_ends_a_batch_quietly(
    pair: Path, weights: Path, environment: dict[str, str]
) -> None:
    (pair / "many").mkdir()
    for number in range(3000):
        os.link("c.png", f"many/{number:04}.png")
    # Pictures of this size take minutes on any machine, and an interruption milliseconds.
    larger = ("--content-size", "512")
    arguments = ("many", "s.png", "-o", "out", "--weights", str(weights), *larger)
    process = subprocess.Popen(
        command(*arguments), env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(pair.glob("out/*.png")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("\ncdjax: interrupted\n")
    assert "Traceback" not in err
    written = os.listdir("out")
    assert 0 < len(written) < 3000
    for name in written:
        assert name.endswith("__s.png")
        height, width, _ = read_image(pair / "out" / name).pixels.shape
        assert (height, width) == (512, round(512 * SIZE[1] / SIZE[0]))
