"""Damaged pictures and weights, each given to a command as a person might."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.fault_suite.mutations import mutate
from experiments.fault_suite.processes import Worker
from experiments.fault_suite.samples import weight_files
from experiments.fault_suite.verdicts import (
    Fault,
    Tally,
    file_faults,
    files_in,
    picture_faults,
    said_faults,
)

_SECONDS = 60
_USES = ("content", "content", "content", "style", "scaled", "folder", "optimize", "data")
_RESULTS = (".png", ".png", ".jpg", ".tif", ".webp")
_READ = "experiments.fault_suite.mutants:read_as_data"


def read_as_data(arguments: Sequence[str]) -> int:
    """Reads the only picture of a folder as `cdjax distill` reads its data."""
    from cdjax.cli.main import exit_status
    from cdjax.data.sources import Folder

    def read() -> int:
        Folder(arguments[0]).read(0, shorter_side=32)
        return 0

    return exit_status(read)


class Mutants:
    """Tries of one seed; number n is the same input and command every time.

    Args:
        worker: runs the commands.
        folder: with `model`, `weights`, `c.png` and `s.png`; tries are made in `try`.
        seed: of all tries.
        keep: folder for the inputs of tries that failed; None: they are not kept.
    """

    def __init__(self, worker: Worker, folder: Path, seed: int, keep: Path | None) -> None:
        self._worker, self._folder, self._seed, self._keep = worker, folder, seed, keep
        self._try = folder / "try"

    def pictures(self, samples: Sequence[Path], numbers: Sequence[int]) -> Tally:
        """Pictures as contents, styles, in a folder, and as data of a distillation."""
        tally = Tally("damaged pictures")
        small = [path for path in samples if not path.name.startswith("large")]
        for number in numbers:
            generator = np.random.default_rng([self._seed, 0, number])
            use = _USES[int(generator.integers(len(_USES)))]
            choice = samples if use in ("scaled", "data") else small
            sample, other = (choice[int(generator.integers(len(choice)))] for _ in range(2))
            how, data = mutate(sample.read_bytes(), other.read_bytes(), generator)
            name = f"{number} ({sample.name}, {how}, {use})"
            result = _RESULTS[int(generator.integers(len(_RESULTS)))]
            self._begin()
            bad = self._try / "in" / sample.name
            bad.write_bytes(data)
            faults, made = self._picture(bad, use, result)
            tally.add(name, faults, made=made)
            self._end(f"picture-{number}", faults)
        return tally

    def _picture(self, bad: Path, use: str, result: str) -> tuple[list[Fault], bool]:
        """Makes a picture of a damaged file, or reads it."""
        name, model = f"in/{bad.name}", ["--weights", "../model"]
        output = f"out{result}"
        if use == "data":
            return self._run(["in"], [], call=_READ)
        if use == "folder":
            shutil.copy(self._folder / "c.png", self._try / "in" / "a.png")
            return self._run(["stylize", "in", "../s.png", "-o", "out", *model], ["out"])
        if use == "optimize":
            small = ["--content-size", "32", "--style-size", "32", "--preview-every", "1"]
            once = ["--steps", "1", "--scales", "1", "--model", "../model"]
            layers = ["--content-layers", "relu2_1", "--style-layers", "relu1_1", "relu2_1"]
            arguments = ["optimize", name, "../s.png", "-o", "out.png", *small, *once, *layers]
            return self._run(arguments, ["out.png"])
        pair = ["../c.png", name] if use == "style" else [name, "../s.png"]
        scaled = ["--content-size", "32"] if use == "scaled" else []
        return self._run(["stylize", *pair, "-o", output, *model, *scaled], [output])

    def weights(self, numbers: Sequence[int]) -> Tally:
        """Weights that are converted, or stylised with."""
        tally = Tally("damaged weights")
        samples = list(weight_files(self._folder / "weights"))
        for number in numbers:
            generator = np.random.default_rng([self._seed, 1, number])
            (sample, source), (other, _) = (
                samples[int(generator.integers(len(samples)))] for _ in range(2)
            )
            how, data = mutate(sample.read_bytes(), other.read_bytes(), generator)
            self._begin()
            given = self._try / "in" / source.name
            shutil.copytree(source, given) if source.is_dir() else shutil.copy(source, given)
            damaged = given / sample.relative_to(source) if source.is_dir() else given
            damaged.write_bytes(data)
            if generator.random() < 0.5:  # The damage is not found by sums alone.
                _sum_anew(given)
            use = "stylize" if generator.random() < 0.4 else "convert"
            name = f"in/{source.name}"
            if use == "stylize":
                arguments = ["stylize", "../c.png", "../s.png", "--weights", name, "-o", "out.png"]
                faults, made = self._run(arguments, ["out.png"])
            else:
                output = "out.safetensors" if generator.random() < 0.5 else "out"
                kind = {"paper-16x": ["paper-16x"], "wct": ["wct-vgg19"]}.get(source.name, [])
                faults, made = self._run(["convert", *kind, name, "-o", output], [output])
            tally.add(f"{number} ({source.name}/{sample.name}, {how}, {use})", faults, made=made)
            self._end(f"weights-{number}", faults)
        return tally

    def _begin(self) -> None:
        shutil.rmtree(self._try, ignore_errors=True)
        (self._try / "in").mkdir(parents=True)
        (self._try / "mine.txt").write_text("not of cdjax")

    def _run(
        self, arguments: Sequence[str], new: list[str], *, call: str = ""
    ) -> tuple[list[Fault], bool]:
        """The faults of a command, and whether it made its output."""
        before = files_in(self._try)
        ended = self._worker.run(arguments, self._try, seconds=_SECONDS, call=call)
        after = files_in(self._try)
        made = ended.status == 0
        faults = said_faults(ended, errors="out" in new)
        faults += file_faults(before, after, new=new if made or "out" in new else [])
        if made and new and new[0] not in after:
            faults += [("files lost, changed or left", f"{new[0]} was not made")]
        for path in self._try.glob("out*"):
            pictures = [path] if path.is_file() else sorted(path.glob("*.png"))
            for picture in pictures:
                if picture.suffix in _RESULTS:
                    faults += picture_faults(picture)
        return faults, made

    def _end(self, name: str, faults: Sequence[Fault]) -> None:
        if faults and self._keep is not None:
            shutil.rmtree(self._keep / name, ignore_errors=True)
            shutil.copytree(self._try, self._keep / name, symlinks=True)


def _sum_anew(folder: Path) -> None:
    """Gives a checkpoint the sums of its files; what has none stays as it is."""
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        return
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != sums:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    sums.write_text("".join(lines))
