"""The suite of faults: what it counts as one, and a slice of it."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.fault_suite.mutations import MUTATIONS, mutate, with_checksums
from experiments.fault_suite.processes import Ended
from experiments.fault_suite.samples import painted
from experiments.fault_suite.tries import expected_faults
from experiments.fault_suite.verdicts import (
    FAULTS,
    Fault,
    Tally,
    difference_faults,
    file_faults,
    files_in,
    picture_faults,
    said_faults,
)
from tests.experiments.fakes import tables

ROOT = Path(__file__).parents[2]
TRACEBACKS, HANGS, MEMORY, FILES, DIFFERENT = FAULTS


def kinds(faults: list[Fault]) -> list[str]:
    return [kind for kind, _ in faults]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif"])
def test_mutations_change_files_and_are_the_same_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(painted(53, 43)).save(path)
    data, changed = path.read_bytes(), set()
    for seed in range(30):
        tries = [mutate(data, b"other" * 99, np.random.default_rng(seed)) for _ in range(2)]
        assert tries[0] == tries[1]
        changed.add(tries[0][1])
    assert len(changed) > 20
    for mutation in MUTATIONS:
        results = {mutation(data, b"other", np.random.default_rng(seed)) for seed in range(9)}
        assert results != {data}, mutation.__name__


def test_checksums_of_damaged_chunks_are_right(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(painted(53, 43)).save(path)
    data = path.read_bytes()
    assert with_checksums(data) == data
    damaged = with_checksums(data[:16] + b"\xff" + data[17:])
    assert damaged[29:33] == zlib.crc32(damaged[12:29]).to_bytes(4, "big")
    assert with_checksums(damaged[:-1])[:29] == damaged[:29]


@pytest.mark.parametrize(
    ("status", "said", "found"),
    [
        (0, "", []),
        (0, "cdjax: warning: a clock jumps\n", []),
        (2, "cdjax: error: a.png: broken image\n", []),
        (None, "", [HANGS]),
        (2, "", [TRACEBACKS]),
        (2, "cdjax: error: a\ncdjax: error: b\n", [TRACEBACKS]),
        (2, "cdjax: error: a\nlibtiff: b\n", [TRACEBACKS]),
        (1, "Traceback (most recent call last):\nValueError: a\n", [TRACEBACKS]),
        (-11, "", [TRACEBACKS]),
        (0, "cdjax: error: a\n", [TRACEBACKS]),
    ],
)
def test_what_is_said_is_judged(status: int | None, said: str, found: list[str]) -> None:
    assert kinds(said_faults(Ended(status, said, "", 1.0), errors=False)) == found


def test_memory_is_judged() -> None:
    assert kinds(said_faults(Ended(0, "", "", 1.0, 3 * 2**30), errors=False)) == [MEMORY]


def test_files_are_judged(tmp_path: Path) -> None:
    for name in ("kept", "changed", "gone"):
        (tmp_path / name).write_text("mine")
    before = files_in(tmp_path)
    (tmp_path / "changed").write_text("other")
    (tmp_path / "gone").unlink()
    for name in (".cdjax-0.part", "out/a.png", "outside"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("new")
    faults = file_faults(before, files_in(tmp_path), new=["out"])
    assert [what for _, what in faults] == [
        "changed changed",
        "gone is gone",
        ".cdjax-0.part left",
        "outside left",
    ]
    assert {kind for kind, _ in faults} == {FILES}
    assert kinds(picture_faults(tmp_path / "outside")) == [FILES]
    assert kinds(difference_faults(before, files_in(tmp_path)))[0] == DIFFERENT


@pytest.mark.parametrize(
    ("sample", "made", "found"),
    [
        ("fit-mask.png", True, []),
        ("fit-mask.png", False, [DIFFERENT]),
        ("unfit-mask.png", True, [DIFFERENT]),
        ("unfit-mask.png", False, []),
        ("mask.png", False, []),
    ],
)
def test_sound_samples_are_made_or_refused(sample: str, made: bool, found: list[str]) -> None:
    assert kinds(expected_faults(sample, made=made)) == found


def test_a_try_counts_once_for_each_sort_of_fault(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally("kind")
    tally.add("1", [], made=True)
    tally.add("2", [], made=False)
    tally.add("3", [(FILES, "a"), (FILES, "b"), (HANGS, "c")], made=True)
    assert (tally.tries, tally.made, tally.refused) == (3, 1, 1)
    assert tally.faults == {FILES: 1, HANGS: 1}
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_slice_of_the_suite_finds_nothing() -> None:
    sizes = (
        "--slice",
        "--mutants",
        "12",
        "--kills",
        "1",
        "--kinds",
        "pictures",
        "weights",
        "stylize",
        "disk",
    )
    done = subprocess.run(
        [sys.executable, "-m", "experiments.faults", *sizes],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    head, *rows = tables(done.stdout)["Kinds"]
    assert head[4:] == list(FAULTS)
    # Every kind ran: 12 damaged files, a kill and a full disk at least.
    assert sum(int(row[1]) for row in rows) >= 14
    assert all(row[4:] == ["0"] * len(FAULTS) for row in rows)
