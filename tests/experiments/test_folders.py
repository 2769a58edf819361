"""The benchmark of photographs of many sizes: which processes run, and what is made of them."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cdjax import Spec, save_model
from cdjax.cli.allocator import STYLISATION
from cdjax.io.images import read_image
from experiments import benchmark
from experiments.benchmarks import folders, ways
from experiments.benchmarks.inputs import write_photographs
from experiments.benchmarks.processes import run_process
from experiments.benchmarks.worker import WorkerError
from tests.experiments.fakes import tables
from tests.models import random_image, random_model
from tests.pictures import picture


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
            assert command[2] == "experiments.benchmarks.torch_folder"
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
    monkeypatch.setattr(folders, "available", lambda: ways.NAMES)
    monkeypatch.setattr(folders.importlib.metadata, "version", lambda name: "1")
    stand_in = Processes()
    monkeypatch.setattr(folders, "run_process", stand_in)
    save_model("small", random_model((Spec(2, (3, 4)), Spec(1, (5,)))))
    picture(1).save("given.png")
    return stand_in


OPTIONS = ["--folder", "--weights", "small", "--contents", "given.png", "--styles", "given.png"]


def test_a_folder_with_and_without_programs_beside_pytorch(
    processes: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main([*OPTIONS, "--runs", "2", "--many", "9"]) == 0
    found = tables(capsys.readouterr().out)
    header, *rows = found["Seconds"]
    assert header[:6] == [
        "what", "tuned PyTorch / cdjax", "plain PyTorch / cdjax", "cdjax, s", "tuned PyTorch, s",
        "plain PyTorch, s",
    ]  # fmt: skip
    cells = {row[0]: row[1:] for row in rows}
    assert {name: row[:5] for name, row in cells.items()} == {
        "3 pictures, empty cache": ["0.15", "0.23", "26", "4", "6"],
        "3 pictures, programs cached": ["2.00", "3.00", "2", "4", "6"],
        "first picture, empty cache": ["0.40", "0.60", "10", "4", "6"],
        "a size seen before, programs cached": ["2.00", "3.00", "2", "4", "6"],
        "a new size, programs cached": ["0.40", "0.60", "10", "4", "6"],
        "5 small pictures, empty cache": ["0.10", "0.14", "42", "4", "6"],
        "9 small sizes, empty cache": ["0.05", "0.08", "74", "4", "6"],
    }
    columns = zip(*(row[5:] for row in cells.values()), strict=True)
    figures = dict(zip(header[6:], columns, strict=True))
    assert figures["mean difference, of 255"][:3] == ("0", "0", "-")
    assert figures["cdjax, s more than a size seen before"][4] == "8"
    assert figures["cdjax, MiB more than 5 pictures"][6] == "40"
    assert [row[3] for row in found["Peak memory"][1:]][-2:] == ["350", "390"]


def test_processes_run_in_turns_each_with_its_cache(processes: Processes) -> None:
    assert benchmark.main([*OPTIONS, "--runs", "2", "--many", "0"]) == 0
    torch = ["tuned PyTorch", "plain PyTorch"]
    turn = [("cdjax", 0), ("cdjax", 3), *((name, 0) for name in torch)]
    ran = [(name, known) for name, contents, known in processes.ran if contents == "3 pictures"]
    assert ran == 2 * turn
    # A run with a filled cache leaves no programs to the next one.
    assert [known for name, of, known in processes.ran if of == "a new size"] == 2 * [3, 0, 0]
    settings = {name: of.get("GLIBC_TUNABLES") for name, of in processes.environments.items()}
    assert settings == {"cdjax": None, "tuned PyTorch": STYLISATION, "plain PyTorch": None}


def test_photographs_have_the_sizes_and_are_the_given_images_in_turn(tmp_path: Path) -> None:
    for level in (50, 200):
        Image.new("RGB", (80, 60), (level, level, level)).save(tmp_path / f"{level}.png")
    given = [tmp_path / "50.png", tmp_path / "200.png"]
    write_photographs(tmp_path / "out", [(30, 40), (41, 20), (8, 8)], given)
    assert sizes_in(tmp_path / "out") == [(30, 40), (41, 20), (8, 8)]
    shown = [read_image(path).pixels.mean() for path in sorted((tmp_path / "out").iterdir())]
    assert shown == pytest.approx([50, 200, 50], abs=1)
    write_photographs(tmp_path / "own", [(30, 40)], [], make=lambda: random_image(20, 30))
    assert sizes_in(tmp_path / "own") == [(30, 40)]


def test_small_sizes_are_all_different() -> None:
    sizes = folders.many_sizes(200)
    assert len(set(sizes)) == 200
    assert max(height * width for height, width in sizes) < 10**5


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


def test_a_style_that_is_missing_is_one_line(
    processes: Processes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main([*OPTIONS[:-1], "none"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "benchmark: style none: no such file or folder"
