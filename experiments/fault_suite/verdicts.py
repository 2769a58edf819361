"""What is right after a command: whole outputs or one line, inputs as before, nothing left over."""

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from experiments.benchmarks.report import say
from experiments.fault_suite.processes import MEMORY, Ended

FAULTS = ("tracebacks", "hangs", "over 2 GiB", "files lost, changed or left", "results differ")
"""The kinds of faults; each has a column in the table."""
_TRACEBACK, _HANG, _MEMORY, _FILES, _DIFFERENT = FAULTS
_BAD_STATUS = (1, 2)

Files = Mapping[str, str]
"""What is in a folder: a digest, or what it is, by relative path."""
Fault = tuple[str, str]
"""One of `FAULTS`, and what was wrong."""


def files_in(folder: Path) -> dict[str, str]:
    """The files, links and folders below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def said_faults(ended: Ended, *, errors: bool) -> list[Fault]:
    """Faults of the exit status and of the lines on stderr.

    Args:
        ended: how the command ended.
        errors: whether a command that made something may have lines about errors, too.
    """
    if ended.status is None:
        return [(_HANG, f"did not end in {ended.seconds:.0f} s")]
    lines = ended.said.splitlines()
    wrong = [line for line in lines if not line.startswith(("cdjax: ", "["))]
    told = [line for line in lines if line.startswith("cdjax: error: ")]
    faults = []
    if "Traceback" in ended.said or ended.status not in (0, *_BAD_STATUS):
        faults.append((_TRACEBACK, f"status {ended.status}: {' / '.join(lines[-3:])[:400]}"))
    elif wrong:
        faults.append((_TRACEBACK, f"not a line of ours: {wrong[0][:300]}"))
    elif ended.status and len(told) != 1 and not (errors and told):
        faults.append((_TRACEBACK, f"status {ended.status} with {len(told)} lines of errors"))
    elif not ended.status and told and not errors:
        faults.append((_TRACEBACK, f"status 0, but: {told[0][:300]}"))
    if ended.memory > MEMORY:
        faults.append((_MEMORY, f"{ended.memory / 2**30:.1f} GiB"))
    return faults


def file_faults(before: Files, after: Files, *, new: Collection[str] = ()) -> list[Fault]:
    """Faults of files that are gone, changed or left over; `new` are those that may be new."""
    faults = []
    for name, content in before.items():
        if name not in new and after.get(name) != content:
            faults.append((_FILES, f"{name} {'changed' if name in after else 'is gone'}"))
    left = [name for name in after if name not in before and not _is_new(name, new)]
    return faults + [(_FILES, f"{name} left") for name in left]


def _is_new(name: str, new: Collection[str]) -> bool:
    return any(name == other or name.startswith(f"{other}/") for other in new)


def picture_faults(path: Path) -> list[Fault]:
    """Faults of a picture that should be whole."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # Pillow raises exceptions of many kinds.
        return [(_FILES, f"{path.name} is not whole: {error}")]
    return []


def difference_faults(expected: Files, found: Files) -> list[Fault]:
    """Faults of results that are not those of a run without any trouble."""
    names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    return [(_DIFFERENT, f"{name} differs") for name in names]


def different(what: str) -> Fault:
    """A result that is not that of a run without any trouble."""
    return _DIFFERENT, what


def wrong_files(what: str) -> Fault:
    """A fault of files."""
    return _FILES, what


@dataclass
class Tally:
    """What became of the tries of one kind.

    Attributes:
        kind: its name.
        tries: how many there were.
        made: how many ended with a whole result.
        refused: how many ended with one line about an error.
        faults: how many faults of each kind there were.
        note: what was left out.
    """

    kind: str
    tries: int = 0
    made: int = 0
    refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    note: str = ""

    def add(self, name: str, faults: Collection[Fault], *, made: bool) -> None:
        """Counts a try, and prints a line to stderr about each of its faults."""
        self.tries += 1
        if not faults:
            self.made += made
            self.refused += not made
        for kind in {kind for kind, _ in faults}:
            self.faults[kind] += 1
        for kind, what in faults:
            say(f"{self.kind}, {name}: {kind}: {what}")
