"""`cdjax stylize` as a process: its compilation cache, its start, its end by Ctrl-C."""

import os
import signal
import subprocess
import sys
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
        folder = Path(environment["CDJAX_CACHE"]) / "xla"
        entries.append({path.name: path.stat().st_mtime_ns for path in folder.glob("*-cache")})
    assert {name.split("-")[0] for name in entries[0]} >= {"jit__encode_style", "jit__stylize"}
    assert entries[1] == entries[0]
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
