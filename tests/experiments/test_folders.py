"""The benchmark of photographs of many sizes: which processes run, and what is made of them."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdjax import Spec, save_model
from cdjax.cli.allocator import STYLISATION
from cdjax.io.images import read_image
from experiments import benchmark
from experiments.benchmarks import folders, ways
from experiments.benchmarks.inputs import write_photographs
from experiments.benchmarks.worker import WorkerError, run_process
from tests.experiments.fakes import tables
from tests.models import random_model
from tests.pictures import numbers, picture


def sizes_in(folder: Path) -> list[tuple[int, int]]:
    """Heights and widths."""
    return [read_image(path).pixels.shape[:2] for path in sorted(folder.iterdir())]


class Processes:
    """Stands in for `run_process`: cdjax takes 2 s, and 8 s and 10 MiB for each new size.

    Attributes:
        ran: the name of each, its folder of contents, and how many sizes its cache had.
        environments: the last by name.
    """

    def __init__(self) -> None:
        self.ran: list[tuple[str, str, int]] = []
        self.environments: dict[str, Mapping[str, str]] = {}

    def __call__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: Path,
        files: int,
    ) -> dict[str, Any]:
        assert command[:2] == [sys.executable, "-m"]
        assert not list(output.iterdir())
        self.environments[name] = environment
        seconds, peak, known = 4.0 if name == "tuned PyTorch" else 6.0, 300, 0
        if name == "cdjax":
            assert command[2:4] == ["cdjax", "stylize"]
            contents, cache = Path(command[4]), Path(environment["CDJAX_CACHE"])
            known, made = len(list(cache.iterdir())), {f"{h}x{w}" for h, w in sizes_in(contents)}
            new = [name for name in made if not (cache / name).exists()]
            for size in new:
                (cache / size).touch()
            seconds, peak = 2.0 + 8 * len(new), 300 + 10 * len(made)
        else:
            assert command[2] == "experiments.benchmarks.torch_networks"
            contents = Path(json.loads(command[3])["contents"])
        assert files == len(list(contents.iterdir()))
        for path in contents.iterdir():
            shutil.copy(path, output)
        self.ran.append((name, contents.name, known))
        return {"seconds": seconds, "peak": peak * 2**20}


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processes:
    """All implementations, in a folder with a small model; photographs are small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "SIZES", ((40, 60), (50, 44), (64, 48)))
    monkeypatch.setattr(folders, "FIRST", (48, 64))
    monkeypatch.setattr(folders, "SEEN", (50, 44))
    monkeypatch.setattr(folders, "NEW", (49, 45))
    monkeypatch.setattr(folders, "STYLE", (32, 32))
    for module in (folders, ways):
        monkeypatch.setattr(module, "available", lambda: ways.NAMES)
    monkeypatch.setattr(folders.importlib.metadata, "version", lambda name: "1")
    stand_in = Processes()
    monkeypatch.setattr(folders, "run_process", stand_in)
    save_model("small", random_model((Spec(2, (3, 4)), Spec(1, (5,)))))
    return stand_in


OPTIONS = ["--folder", "--weights", "small", "--runs", "2"]


def test_a_folder_with_and_without_programs_beside_pytorch(
    processes: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main([*OPTIONS, "--many", "10"]) == 0
    found = tables(capsys.readouterr().out)
    header, *rows = found["Seconds"]
    assert header == [
        "what", "tuned PyTorch / cdjax", "plain PyTorch / cdjax", "cdjax, s", "tuned PyTorch, s",
        "plain PyTorch, s",
    ]  # fmt: skip
    assert {row[0]: row[1:] for row in rows} == {
        "3 pictures, empty cache": ["0.15", "0.23", "26", "4", "6"],
        "3 pictures, programs cached": ["2.00", "3.00", "2", "4", "6"],
        "first picture, empty cache": ["0.40", "0.60", "10", "4", "6"],
        "a size seen before, programs cached": ["2.00", "3.00", "2", "4", "6"],
        "a new size, programs cached": ["0.40", "0.60", "10", "4", "6"],
        "5 small sizes, empty cache": ["0.10", "0.14", "42", "4", "6"],
        "10 small sizes, empty cache": ["0.05", "0.07", "82", "4", "6"],
    }
    peaks = [row[3] for row in found["Peak memory"][1:]]
    assert peaks == ["330", "330", "310", "310", "310", "350", "400"]


def test_processes_run_in_turns_each_with_its_cache(processes: Processes) -> None:
    assert benchmark.main(OPTIONS) == 0
    torch = ["tuned PyTorch", "plain PyTorch"]
    turn = [("cdjax", 0), ("cdjax", 3), *((name, 0) for name in torch)]
    ran = [(name, known) for name, contents, known in processes.ran if contents == "3 pictures"]
    assert ran == 2 * turn
    # A run with a filled cache leaves no programs to the next one.
    assert [known for name, of, known in processes.ran if of == "a new size"] == 2 * [3, 0, 0]
    settings = {name: of.get("GLIBC_TUNABLES") for name, of in processes.environments.items()}
    assert settings == {"cdjax": None, "tuned PyTorch": STYLISATION, "plain PyTorch": None}


def test_photographs_have_the_sizes_and_show_the_picture(tmp_path: Path) -> None:
    sizes = [(30, 40), (41, 20), (8, 8)]
    write_photographs(tmp_path / "out", sizes, lambda: np.asarray(picture(3)))
    assert sizes_in(tmp_path / "out") == sizes
    shown = [read_image(path).pixels for path in sorted((tmp_path / "out").iterdir())]
    assert [numbers(pixels[None]) for pixels in shown] == 3 * [[3]]


def test_a_process_is_timed_to_its_last_file(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time; held = bytearray(100_000_000)\n"
        "pathlib.Path(sys.argv[1], 'a').touch(); time.sleep(0.2)\n"
        "print('why', file=sys.stderr); sys.exit(len(sys.argv) - 2)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    answer = run_process("small", command, {}, tmp_path, 1)
    assert answer["seconds"] > 0
    assert 10**8 < answer["peak"] < 10**9
    with pytest.raises(WorkerError, match="the small process ended with 1: why"):
        run_process("small", [*command, "fail"], {}, tmp_path, 1)
    with pytest.raises(WorkerError, match="the small process ended with 0: why"):
        run_process("small", command, {}, tmp_path, 2)
