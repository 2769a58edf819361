"""Tries of commands with inputs that may be damaged, each in a folder of its own."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from experiments.fault_suite.processes import Worker
from experiments.fault_suite.verdicts import (
    Fault,
    Tally,
    different,
    file_faults,
    files_in,
    picture_faults,
    said_faults,
    wrong_files,
)

RESULTS = (".png", ".png", ".jpg", ".tif", ".webp")
"""Suffixes of results that are pictures; those that are here twice are tried twice as often."""
_SECONDS = 60
Attempt = Callable[[np.random.Generator], tuple[str, list[Fault], bool]]
"""From a source of chance to what was tried, its faults, and whether a result was made."""
FIT, UNFIT = "fit-", "unfit-"
"""How names of sound samples begin of which a command makes something, and of which it does not."""


class Tries:
    """Tries of one seed; number n is the same input and command every time.

    Args:
        worker: runs the commands.
        folder: with `model`, `weights`, `c.png` and `s.png`; tries are made in `try`.
        seed: of all tries.
        keep: folder for the inputs of tries that failed; None: they are not kept.

    Attributes:
        folder: as given.
        place: the current folder of commands. Their inputs are in `in`.
    """

    def __init__(self, worker: Worker, folder: Path, seed: int, keep: Path | None) -> None:
        self._worker, self._seed, self._keep = worker, seed, keep
        self.folder, self.place = folder, folder / "try"

    def each(self, kind: str, stream: int, numbers: Sequence[int], attempt: Attempt) -> Tally:
        """Makes the tries of these numbers.

        Args:
            kind: of the tally.
            stream: one of its own for each kind, so that the kinds differ by chance.
            numbers: of the tries.
            attempt: makes a try in a new folder, in which there is a file that is not of cdjax.
        """
        tally = Tally(kind)
        for number in numbers:
            shutil.rmtree(self.place, ignore_errors=True)
            (self.place / "in").mkdir(parents=True)
            (self.place / "mine.txt").write_text("not of cdjax")
            name, faults, made = attempt(np.random.default_rng([self._seed, stream, number]))
            tally.add(f"{number} ({name})", faults, made=made)
            if faults and self._keep is not None:
                kept = self._keep / f"{kind.split()[-1]}-{number}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(self.place, kept, symlinks=True)
        return tally

    def run(
        self, arguments: Sequence[str], new: list[str], *, call: str = ""
    ) -> tuple[list[Fault], bool]:
        """The faults of a command, and whether it made its output.

        Args:
            arguments: of `cdjax`.
            new: what it may make; of a folder `out`, a part may be missing.
            call: as `Worker.run`.
        """
        before = files_in(self.place)
        ended = self._worker.run(arguments, self.place, seconds=_SECONDS, call=call)
        after = files_in(self.place)
        made = ended.status == 0
        faults = said_faults(ended, errors="out" in new)
        faults += file_faults(before, after, new=new if made or "out" in new else [])
        if made and new and new[0] not in after:
            faults.append(wrong_files(f"{new[0]} was not made"))
        for path in self.place.glob("out*"):
            pictures = [path] if path.is_file() else sorted(path.glob("*.png"))
            for picture in pictures:
                if picture.suffix in RESULTS:
                    faults += picture_faults(picture)
        return faults, made


def expected_faults(sample: str, *, made: bool) -> list[Fault]:
    """The fault if a sample that is not damaged is refused or, if it has to be, is not."""
    if sample.startswith(UNFIT if made else FIT):
        return [different(f"{sample} was {'not ' * (not made)}made")]
    return []
