"""What runs that were killed leave behind goes with the next run; what is in use stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cdjax.io.atomic import atomic_file, atomic_folder
from cdjax.io.leftovers import remove_leftovers

_WRITER = """
import sys
from pathlib import Path
from cdjax.io import atomic

make = getattr(atomic, sys.argv[1])
with make(Path(sys.argv[2])) as temporary:
    if temporary.is_dir():
        (temporary / "half").write_text("new")
    print(flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["atomic_file", "atomic_folder"])
def test_only_what_no_process_writes_any_more_is_removed(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "below" / "out"
    output.parent.mkdir()
    arguments = [sys.executable, "-c", _WRITER, kind, str(output)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        (temporary,) = os.listdir(output.parent)
        remove_leftovers([output])
        assert os.listdir(output.parent) == [temporary]
        writer.send_signal(signal.SIGKILL)
    remove_leftovers([tmp_path / "out"])  # In another folder.
    assert os.listdir(output.parent) == [temporary]
    remove_leftovers([output.parent], within=True)
    assert os.listdir(output.parent) == []


def test_names_of_others_are_left_alone(tmp_path: Path) -> None:
    names = {".cdjax-mine.part", ".cdjax-0123456789abcdef.stages", "0123456789abcdef.part"}
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".cdjax-0123456789abcdef.part").symlink_to(tmp_path / ".cdjax-mine.part")
    remove_leftovers([tmp_path / "out", tmp_path / "none" / "out"], within=True)
    assert names < set(os.listdir(tmp_path))
    assert (tmp_path / ".cdjax-mine.part").read_text() == "mine"


def test_a_writer_keeps_its_file_from_those_that_clear_up(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as temporary, atomic_folder(tmp_path / "b") as folder:
        temporary.write_text("a")
        remove_leftovers([tmp_path / "a"])
        assert temporary.exists()
        assert folder.exists()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
