"""`cdjax distill`: from a teacher and images to a compressed model, in one folder.

Started again with the same folder it continues, and makes nothing twice.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cdjax.cli.allocator import run_in_calling_thread
from cdjax.cli.parser import require

if TYPE_CHECKING:
    from cdjax.cli.distill_options import Command

NEEDED = ("tyro", "matplotlib", "tensorboardX", "grain")
"""The packages without which no training runs."""

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
    try:
        _distill(command)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command continues from here") from None
    return 0


def _distill(command: "Command") -> None:
    from cdjax.cli.backend import start_backend
    from cdjax.cli.compilation_cache import use_compilation_cache
    from cdjax.cli.distill_report import images_of, write_report
    from cdjax.cli.training_log import Watch
    from cdjax.distillation import hosts
    from cdjax.distillation.pipeline import distill
    from cdjax.io.atomic import write_text
    from cdjax.io.processes import is_first

    hosts.initialize(command.hosts.coordinator, command.hosts.processes, command.hosts.index)
    use_compilation_cache()
    start_backend()
    output, recipe = command.output, command.recipe
    if any(data.source.startswith("tfds:") for data in (recipe.data, recipe.style_data)):
        require("a source tfds:NAME", "tensorflow_datasets")
    watch = Watch() if is_first() else None
    if watch:
        if command.preset == "quick":
            watch.say(_REAL)
        watch.say(f"teacher {recipe.teacher}, {images_of(recipe)}, output {output}")
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "recipe.json", json.dumps(recipe.to_json(), indent=2) + "\n")
    distill(recipe, output, watch)
    if watch:
        path = write_report(output, recipe)
        watch.say(f"{output / 'model'} is the model, {path} the report; try it:")
        watch.say(f"  cdjax stylize CONTENT STYLE --weights {output / 'model'} -o OUT.png")
