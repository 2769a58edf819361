"""Files and folders that may not be read or written."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from experiments.fault_suite.processes import Limits
from experiments.fault_suite.scenarios import SECONDS, Runs
from experiments.fault_suite.verdicts import Tally, different, file_faults, files_in, said_faults

_NOTHING, _READ_ONLY = 0o000, 0o555
_STYLIZE = "stylize c.png s.png --weights model -o"
_MANY = "stylize many s.png --weights model -o"
_DISTILL = (
    "distill --quiet --teacher {inputs}/teacher --stages 1 --data.crop 32 --start.images 8 "
    "--start.crop 32 --start.positions 600 --student-autoencoder.steps 2 --student-decoder.steps 2 "
)
_OPTIMIZE = (
    "optimize c.png s.png --steps 1 --scales 1 --model model --content-layers relu2_1 "
    "--style-layers relu1_1 -o"
)


@dataclass(frozen=True)
class _Case:
    """A command where something is forbidden.

    Attributes:
        name: what is forbidden.
        path: of the file or folder.
        mode: its permissions.
        arguments: of `cdjax`, with `{inputs}` for the folder of the inputs.
        made: whether the command does its work all the same.
        environment: variables that differ.
    """

    name: str
    path: str
    mode: int
    arguments: str
    made: bool = False
    environment: tuple[tuple[str, str], ...] = ()


_OTHER_HOME = (("CDJAX_CACHE", ""), ("HOME", "locked"), ("XDG_CACHE_HOME", ""))
_CASES = (
    _Case("content", "c.png", _NOTHING, f"{_STYLIZE} out.png"),
    _Case("style", "s.png", _NOTHING, f"{_STYLIZE} out.png"),
    _Case("content to optimise", "c.png", _NOTHING, f"{_OPTIMIZE} out.png"),
    _Case("folder of the model", "model", _NOTHING, f"{_STYLIZE} out.png"),
    _Case("file of the model", "model/_CHECKPOINT_METADATA", _NOTHING, f"{_STYLIZE} o.png"),
    _Case("folder of contents", "many", _NOTHING, f"{_MANY} out"),
    _Case("one of many contents", "many/a.png", _NOTHING, f"{_MANY} o"),
    _Case("folder of the result", "locked", _READ_ONLY, f"{_STYLIZE} locked/out.png"),
    _Case("parent of the folder", "locked", _READ_ONLY, f"{_STYLIZE} locked/a/"),
    _Case("hidden folder", "locked", _NOTHING, f"{_STYLIZE} locked/out.png"),
    _Case("folder to optimise in", "locked", _READ_ONLY, f"{_OPTIMIZE} locked/out.png"),
    _Case("folder to convert to", "locked", _READ_ONLY, "convert model -o locked/out"),
    _Case("folder of safetensors", "locked", _READ_ONLY, "convert model -o locked/out.safetensors"),
    _Case("model to convert", "model", _NOTHING, "convert model -o out"),
    _Case("folder to distil in", "locked", _READ_ONLY, _DISTILL + "--output locked/run"),
    _Case("folder of a distillation", "locked", _READ_ONLY, _DISTILL + "--output locked"),
    _Case("data", "many", _NOTHING, _DISTILL + "--data.source many --output run"),
    _Case("a file that is replaced", "old.png", 0o444, f"{_STYLIZE} old.png --overwrite", True),
    _Case(
        "the cache", "locked", _READ_ONLY, f"{_STYLIZE} out.png", True, (("CDJAX_CACHE", "locked"),)
    ),
    _Case("home", "locked", _READ_ONLY, f"{_STYLIZE} out.png", True, _OTHER_HOME),
    _Case(
        "temporary files",
        "locked",
        _READ_ONLY,
        f"{_STYLIZE} out.png",
        True,
        (("TMPDIR", "locked"),),
    ),
)


def permissions(runs: Runs) -> Tally:
    """Runs each case, as nobody may ignore permissions."""
    tally, folder = Tally("no permission"), runs.folder / "forbidden"
    for case in _CASES:
        _prepare(runs.inputs, folder)
        (folder / case.path).chmod(case.mode)
        before = files_in(folder)
        limits = Limits(without_root=True, environment=case.environment)
        ended = runs.start(case.arguments, folder, limits).wait(SECONDS)
        output = case.arguments.removesuffix(" --overwrite").split()[-1]
        kept = case.made or (folder / output).is_dir()  # What could be made of many.
        new = [output] if kept else []
        faults = said_faults(ended, errors=(folder / output).is_dir())
        if (ended.status == 0) != case.made:
            faults.append(different(f"status {ended.status}: {ended.said[-300:]}"))
        (folder / case.path).chmod(0o755)
        faults += file_faults(before, files_in(folder), new=new)
        tally.add(case.name, faults, made=ended.status == 0)
    shutil.rmtree(folder, ignore_errors=True)
    return tally


def _prepare(inputs: Path, folder: Path) -> None:
    """A folder with inputs of its own, whose permissions may be changed."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "many").mkdir(parents=True)
    (folder / "locked").mkdir()
    for name in ("c.png", "s.png"):
        shutil.copy(inputs / name, folder / name)
    for name in ("old.png", "many/a.png", "many/b.png"):
        shutil.copy(inputs / "c.png", folder / name)
    shutil.copytree(inputs / "model", folder / "model")
