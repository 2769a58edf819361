"""Damaged pictures and weights, each given to a command as a person might."""

import hashlib
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from experiments.fault_suite.mutations import mutate
from experiments.fault_suite.samples import weight_files
from experiments.fault_suite.tries import RESULTS, Tries
from experiments.fault_suite.verdicts import Fault, Tally

_USES = ("content", "content", "content", "style", "scaled", "folder", "optimize", "data")
_READ = "experiments.fault_suite.mutants:read_as_data"


def read_as_data(arguments: Sequence[str]) -> int:
    """Reads the only picture of a folder as `cdjax distill` reads its data."""
    from cdjax.cli.main import exit_status
    from cdjax.data.sources import Folder

    def read() -> int:
        Folder(arguments[0]).read(0, shorter_side=32)
        return 0

    return exit_status(read)


def pictures(tries: Tries, samples: Sequence[Path], numbers: Sequence[int]) -> Tally:
    """Damaged pictures as contents, styles, in a folder, and as data of a distillation."""
    return tries.each("damaged pictures", 0, numbers, partial(_picture, tries, samples))


def _picture(
    tries: Tries, samples: Sequence[Path], generator: np.random.Generator
) -> tuple[str, list[Fault], bool]:
    use = _USES[int(generator.integers(len(_USES)))]
    small = [path for path in samples if not path.name.startswith("large")]
    choice = samples if use in ("scaled", "data") else small
    sample, other = (choice[int(generator.integers(len(choice)))] for _ in range(2))
    how, data = mutate(sample.read_bytes(), other.read_bytes(), generator)
    result = RESULTS[int(generator.integers(len(RESULTS)))]
    (tries.place / "in" / sample.name).write_bytes(data)
    return f"{sample.name}, {how}, {use}", *_use(tries, f"in/{sample.name}", use, f"out{result}")


def _use(tries: Tries, name: str, use: str, output: str) -> tuple[list[Fault], bool]:
    """Makes a picture of a damaged file, or reads it."""
    model = ["--weights", "../model"]
    if use == "data":
        return tries.run(["in"], [], call=_READ)
    if use == "folder":
        shutil.copy(tries.folder / "c.png", tries.place / "in" / "a.png")
        return tries.run(["stylize", "in", "../s.png", "-o", "out", *model], ["out"])
    if use == "optimize":
        small = ["--content-size", "32", "--style-size", "32", "--preview-every", "1"]
        once = ["--steps", "1", "--scales", "1", "--model", "../model"]
        layers = ["--content-layers", "relu2_1", "--style-layers", "relu1_1", "relu2_1"]
        arguments = ["optimize", name, "../s.png", "-o", "out.png", *small, *once, *layers]
        return tries.run(arguments, ["out.png"])
    pair = ["../c.png", name] if use == "style" else [name, "../s.png"]
    scaled = ["--content-size", "32"] if use == "scaled" else []
    return tries.run(["stylize", *pair, "-o", output, *model, *scaled], [output])


def weights(tries: Tries, numbers: Sequence[int]) -> Tally:
    """Damaged weights that are converted, or stylised with."""
    samples = list(weight_files(tries.folder / "weights"))
    return tries.each("damaged weights", 1, numbers, partial(_weights, tries, samples))


def _weights(
    tries: Tries, samples: Sequence[tuple[Path, Path]], generator: np.random.Generator
) -> tuple[str, list[Fault], bool]:
    (sample, source), (other, _) = (
        samples[int(generator.integers(len(samples)))] for _ in range(2)
    )
    how, data = mutate(sample.read_bytes(), other.read_bytes(), generator)
    given = tries.place / "in" / source.name
    shutil.copytree(source, given) if source.is_dir() else shutil.copy(source, given)
    damaged = given / sample.relative_to(source) if source.is_dir() else given
    damaged.write_bytes(data)
    if generator.random() < 0.5:  # The damage is not found by sums alone.
        _sum_anew(given)
    use = "stylize" if generator.random() < 0.4 else "convert"
    name, output = f"in/{source.name}", "out.png"
    if use == "stylize":
        arguments = ["stylize", "../c.png", "../s.png", "--weights", name, "-o", output]
    else:
        output = "out.safetensors" if generator.random() < 0.5 else "out"
        kind = {"paper-16x": ["paper-16x"], "wct": ["wct-vgg19"]}.get(source.name, [])
        arguments = ["convert", *kind, name, "-o", output]
    return f"{source.name}/{sample.name}, {how}, {use}", *tries.run(arguments, [output])


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
