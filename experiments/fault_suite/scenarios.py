"""Runs of commands that are killed, run out of disk or meet each other, and what they should make.

Each has a folder of its own for every try: inputs are outside of it, results are in it.
"""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

from cdjax.checkpoints.orbax_file import array_names, open_array, read_array
from cdjax.cli.distill_report import read_log
from experiments.fault_suite.processes import NO_LIMITS, Command, Ended, Limits
from experiments.fault_suite.verdicts import Fault, Files, files_in, wrong_files

SECONDS = 300
"""In which every run ends."""
OURS = "mine.txt"
"""A file in the folder of every run that is not of cdjax."""


@dataclass(frozen=True)
class Scenario:
    """A command and its results.

    Attributes:
        name: for messages.
        arguments: of `cdjax`, with `{inputs}` for the folder of the inputs.
        results: from the folder to what has to be the same in every run, by name.
        before: the arguments of a run before, for results that are replaced.
    """

    name: str
    arguments: str
    results: Callable[[Path], Files] = files_in
    before: str = ""


class Runs:
    """Runs of commands that share their inputs.

    Args:
        context: `experiments.fault_suite.processes.server`.
        inputs: the folder of inputs.
        folder: for the runs.

    Attributes:
        inputs: as given.
        folder: as given.
    """

    def __init__(self, context: ForkServerContext, inputs: Path, folder: Path) -> None:
        self._context, self.inputs, self.folder = context, inputs, folder
        self._expected: dict[str, Files] = {}

    def begin(self, scenario: Scenario, folder: Path) -> Path:
        """Makes a folder anew, with a file that is not of cdjax and what the run before makes."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / OURS).write_text("not of cdjax")
        if scenario.before:
            self.start(scenario.before, folder).wait(SECONDS)
        return folder

    def start(self, arguments: str, folder: Path, limits: Limits = NO_LIMITS) -> Command:
        """Starts `cdjax` with arguments in a folder; `{inputs}` stands for that of the inputs."""
        given = [argument.replace("{inputs}", str(self.inputs)) for argument in arguments.split()]
        return Command(self._context, given, folder, limits)

    def run(self, scenario: Scenario, folder: Path, limits: Limits = NO_LIMITS) -> Ended:
        """Runs a scenario to its end, however long that takes within `SECONDS`."""
        return self.start(scenario.arguments, folder, limits).wait(SECONDS)

    def expected(self, scenario: Scenario) -> Files:
        """The results of a run without any trouble."""
        if scenario.name not in self._expected:
            folder = self.begin(scenario, self.folder / "expected")
            self.run(scenario, folder)
            self._expected[scenario.name] = dict(scenario.results(folder))
        return self._expected[scenario.name]


def models_in(folder: Path) -> dict[str, str]:
    """The arrays of every checkpoint below a folder; the bytes of its files differ every time."""
    found = {}
    for sums in sorted(folder.rglob("SHA256SUMS")):
        name, digest = sums.parent.relative_to(folder).as_posix(), hashlib.sha256()
        try:
            for array in sorted(array_names(sums.parent / "params")):
                values = read_array(open_array(sums.parent / "params", array))
                digest.update(f"{array} {values.shape}".encode() + values.tobytes())
            found[name] = digest.hexdigest()
        except Exception as error:  # TensorStore's are of many kinds.
            found[name] = f"damaged: {error}"
    return found


def distilled(folder: Path) -> dict[str, str]:
    """The models of a distillation, and the loss of every step."""
    found = models_in(folder)
    for log in sorted(folder.glob("run/**/log.jsonl")):
        losses = [f"{record['step']}: {record['loss']!r}" for record in read_log(log)]
        found[log.relative_to(folder).as_posix()] = "\n".join(losses)
    return found


def is_hidden(name: str) -> bool:
    """Whether a relative path is of a temporary file."""
    return any(part.startswith(".cdjax") or "orbax-checkpoint-tmp" in part for part in
               Path(name).parts)  # fmt: skip


def left_faults(folder: Path) -> list[Fault]:
    """Faults of temporary files that are left in a folder."""
    return [wrong_files(f"{name} left") for name in files_in(folder) if is_hidden(name)]


_MODEL = "--weights {inputs}/model"
_MANY = "stylize {inputs}/contents {inputs}/s.png -o out"
_ONCE = "--scales 1 --model {inputs}/model --content-layers relu2_1 --style-layers relu1_1 relu2_1"

STYLIZE = (
    Scenario("batch", f"{_MANY} {_MODEL}"),
    Scenario(
        "batch that overwrites",
        f"{_MANY} --overwrite {_MODEL}",
        before="stylize {inputs}/contents {inputs}/c.png -o out --alpha 0.5 " + _MODEL,
    ),
    Scenario(
        "windows", "stylize {inputs}/large.png {inputs}/s.png -o out.png --memory 2MB " + _MODEL
    ),
)
OPTIMIZE = (
    Scenario(
        "optimize",
        "optimize {inputs}/c.png {inputs}/s.png -o out.png --steps 40 --preview-every 2 " + _ONCE,
    ),
)
DISTILL = (
    Scenario(
        "distill",
        "distill --quiet --output run --teacher {inputs}/teacher --stages 1 --data.crop 32 "
        "--data.batch 2 --start.method random --start.images 4 --start.crop 32 "
        "--start.decoder-images 4 --start.positions 600 --student-autoencoder.whitened False "
        "--student-decoder.whitened False --student-autoencoder.steps 4 --student-decoder.steps 4 "
        "--save-every 2 --pictures-every 4",
        distilled,
    ),
)
CONVERT = (
    Scenario(
        "convert a checkpoint",
        "convert {inputs}/model -o out --overwrite",
        models_in,
        before="convert {inputs}/teacher -o out",
    ),
)
