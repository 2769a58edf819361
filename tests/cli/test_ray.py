"""`cdjax stylize --ray`: a cluster of two workers makes what this process makes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from cdjax.cli.main import main
from cdjax.io.images import Picture, write_image
from tests.models import random_image

# A process of the command starts Ray before JAX, but this one has JAX already.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two machines, both this one, with a core each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for _ in range(2):
        cluster.add_node(num_cpus=1, include_dashboard=False)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def folders(pair: Path) -> Path:
    """Three contents of which one takes a while, one that is broken, and two styles, in folders."""
    for folder in ("in", "styles"):
        (pair / folder).mkdir()
    for seed, name in enumerate(("in/a.png", "in/c.jpg", "styles/x.png", "styles/y.png")):
        write_image(pair / name, Picture(random_image(24, 32, seed=seed)))
    write_image(pair / "in/b.png", Picture(random_image(500, 700)))
    (pair / "in/broken.png").write_bytes(b"not a picture")
    return pair


def outcomes(text: str, output: str) -> list[dict[str, Any]]:
    """The lines of JSON about the files in a folder, without the seconds."""
    lines = [json.loads(line.replace(f"{output}/", "")) for line in text.splitlines()]
    return [line | {"seconds": 0} for line in lines]


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill_a_worker(killed: list[int]) -> None:
    """Kills the first worker that is seen making a picture."""
    for _ in range(2400):
        for process in psutil.Process().children(recursive=True):
            try:
                if process.cmdline()[:1] == ["ray::_Painter.make"]:
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
            except (psutil.Error, ProcessLookupError):
                continue
        time.sleep(0.05)


@needs_ray
def test_a_worker_that_is_killed_changes_nothing(
    folders: Path, weights: Path, address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["stylize", "in", "-s", "styles", "--weights", str(weights), "--json"]
    assert main([*command, "-o", "here"]) == 2
    here = capfd.readouterr()
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(killed,))
    killer.start()
    assert main([*command, "-o", "there", "--ray", address]) == 2
    killer.join()
    assert killed
    there = capfd.readouterr()
    assert outcomes(there.out, "there") == outcomes(here.out, "here")
    assert there.err.replace("there", "here") == here.err
    assert results(folders / "there") == results(folders / "here")
    assert len(results(folders / "there")) == 6
    # Nothing is made again.
    kept = {path: path.stat() for path in (folders / "there").iterdir()}
    command[1:2] = ["in/a.png", "in/b.png", "in/c.jpg"]
    assert main([*command, "-o", "there", "--ray", address]) == 0
    again = outcomes(capfd.readouterr().out, "there")
    assert [line["status"] for line in again] == ["already there"] * 6
    assert {path: path.stat() for path in (folders / "there").iterdir()} == kept


@needs_ray
def test_a_picture_of_which_every_worker_dies_is_an_error(
    folders: Path,
    weights: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from cdjax.cli import ray_batch

    class Dying(ray_batch._Painter):
        def start(self, *_: Any) -> None:
            pass

        def encode(self, job: Any) -> Any:
            return ()

        def make(self, job: Any, styles: Any) -> Any:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ray_batch, "_Painter", Dying)
    command = ["stylize", "c.png", "s.png", "-o", "r.png", "--weights", str(weights)]
    assert main([*command, "--ray", address]) == 2
    said = "cdjax: error: c.png: 3 workers died of it; it may take more memory than there is\n"
    assert capfd.readouterr() == ("", said)
    assert not (folders / "r.png").exists()


@needs_ray
def test_regions_and_colours_on_ray_of_this_machine(folders: Path, weights: Path) -> None:
    command = ["stylize", "in/a.png", "in/c.jpg", "-s", "styles/x.png", "styles/y.png"]
    command += ["--masks", "c.png", "s.png", "--style-masks", "s.png", "c.png"]
    command += ["--preserve-color", "match", "--weights", str(weights)]
    assert main([*command, "-o", "here", "--quiet"]) == 0
    options = ["-o", "there", "--json", "--quiet", "--ray"]
    done = subprocess.run(
        [sys.executable, "-m", "cdjax", *command, *options], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [line["status"] for line in outcomes(done.stdout, "there")] == ["made"] * 2
    assert results(folders / "there") == results(folders / "here")


def test_what_cannot_be_is_one_line(
    pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["stylize", "c.png", "s.png", "--ray", "-o"]
    monkeypatch.setattr("cdjax.cli.parser.find_spec", lambda name: None)
    assert main([*command, "r.png"]) == 2
    assert capsys.readouterr().err == "cdjax: error: --ray needs ray: pip install ray\n"
    monkeypatch.setattr("cdjax.cli.parser.find_spec", lambda name: name)
    for arguments, message in (
        (["-"], "--ray: the workers see no standard input or output"),
        (["r", "--deepzoom"], "--deepzoom makes a folder, not at an address and not with --ray"),
    ):
        assert main([*command, *arguments]) == 2
        assert message in capsys.readouterr().err

    def init(*_: Any, **__: Any) -> None:
        raise Exception("The current node timed out during startup.\nMore.")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    assert main([*command, "r.png"]) == 2
    said = capsys.readouterr().err
    assert said == "cdjax: error: --ray local: The current node timed out during startup.\n"
