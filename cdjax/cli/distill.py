"""`cdjax distill`: from a teacher and images to a compressed model, in one folder.

Started again with the same folder it continues, and makes nothing twice.
"""

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cdjax.cli.allocator import run_in_calling_thread
from cdjax.cli.parser import printable, require
from cdjax.cli.quiet import only_our_lines, silence_decoders
from cdjax.errors import DataError, TrainingError, UsageError

if TYPE_CHECKING:
    from cdjax.cli.distill_options import Command

NEEDED = ("tyro", "matplotlib", "tensorboardX", "grain")
"""The packages without which no training runs."""

_RECIPE = "recipe.json"

_REAL = """\
This is the quick preset: computed dead-leaves images in place of photographs and paintings, and few
steps of training. A real distillation needs photographs, AdaIN needs paintings too, and a recipe:
  cdjax distill --preset bundled --data.source FOLDER_OF_PHOTOGRAPHS
  cdjax distill --method adain --preset bundled --data.source FOLDER_OF_PHOTOGRAPHS
    --styles.source FOLDER_OF_PAINTINGS
  cdjax distill --preset paper --teacher vgg19.pth
    (COCO: tfds build coco/2014 --file_format=array_record; VGG-19: cdjax convert vgg19 --help;
    WikiArt: a folder of its paintings, such as those of kaggle.com/c/painter-by-numbers)"""


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    require("distill", *NEEDED)
    from cdjax.cli.distill_options import parse

    command = parse(arguments)
    run_in_calling_thread()
    if command.quiet:
        warnings.simplefilter("ignore")
    try:
        with only_our_lines():
            _distill(command)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command continues from here") from None
    except OSError as error:
        raise TrainingError(
            f"{error.filename or command.output}: {error.strerror or error}; once that is mended, "
            "the same command continues from the last checkpoint"
        ) from error
    return 0


def _distill(command: "Command") -> None:
    from cdjax.cli.backend import start_backend
    from cdjax.cli.compilation_cache import use_compilation_cache
    from cdjax.cli.distill_report import images_of, write_report
    from cdjax.cli.training_log import Watch
    from cdjax.distillation import hosts
    from cdjax.distillation.pipeline import distill
    from cdjax.io.atomic import write_text
    from cdjax.io.leftovers import remove_leftovers
    from cdjax.io.processes import is_first

    hosts.initialize(command.hosts.coordinator, command.hosts.processes, command.hosts.index)
    use_compilation_cache()
    start_backend()
    silence_decoders()
    output, recipe = command.output, command.recipe
    if any(data.source.startswith("tfds:") for data in (recipe.data, recipe.style_data)):
        require("a source tfds:NAME", "tensorflow_datasets")
    if not is_first():
        distill(recipe, output)
        return
    watch = Watch(quiet=command.quiet)
    if command.preset == "quick":
        watch.say(_REAL)
    watch.say(f"teacher {recipe.teacher}, {images_of(recipe)}, output {output}")
    for source in {data.source: None for data in (recipe.data, recipe.style_data)}:
        if line := _not_read(source):
            watch.say(printable(line))
    _check_output(output)
    with _made(output), _alone_in(output), _kept_if_not_begun(output):
        remove_leftovers([output], within=True)
        write_text(output / _RECIPE, json.dumps(recipe.to_json(), indent=2) + "\n")
        distill(recipe, output, watch)
        path = write_report(output, recipe)
    watch.say(f"{output / 'model'} is the model, {path} the report; try it:")
    watch.say(f"  cdjax stylize CONTENT STYLE --weights {output / 'model'} -o OUT.png")


def _not_read(source: str) -> str:
    """A line about files of a source that are not read, or nothing."""
    from cdjax.data.sources import Folder

    if source == "dead-leaves" or not Path(source).is_dir():
        return ""
    with suppress(DataError):  # Which is said where it is needed.
        return Folder(source).not_read
    return ""


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Makes a folder; removes it, and those around it that were made, if nothing is in it after."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"output {folder}: cannot be made ({error.strerror})") from error
        yield
    finally:
        for path in new:
            with suppress(OSError):  # It is not empty, or was not made.
                path.rmdir()


@contextmanager
def _kept_if_not_begun(folder: Path) -> Iterator[None]:
    """Makes the recipe in a folder what it was if an error ends the context and nothing is new."""
    from cdjax.io.atomic import write_bytes

    recipe = folder / _RECIPE
    old = recipe.read_bytes() if recipe.is_file() else None
    before = {recipe, *folder.rglob("*")}
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if before >= set(folder.rglob("*")):
                recipe.unlink(missing_ok=True) if old is None else write_bytes(recipe, old)
        raise


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Refuses a folder in which another process distils, until the context ends."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks.
        yield
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(number)
        raise UsageError(f"output {folder}: another cdjax distill is running in it") from error
    except OSError:  # A file system without locks.
        pass
    try:
        yield
    finally:
        os.close(number)


def _check_output(folder: Path) -> None:
    """Refuses a folder with files of others, which could have the names of ours."""
    if not folder.is_dir() or all(path.name.startswith(".") for path in folder.iterdir()):
        return
    try:
        known = json.loads((folder / _RECIPE).read_text())
    except (OSError, ValueError):
        known = None
    if not isinstance(known, dict) or not {"teacher", "stages"} <= known.keys():
        raise UsageError(
            f"output {folder}: has files, but not of a distillation; name a new or an empty folder"
        )
