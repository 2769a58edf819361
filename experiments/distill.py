"""`python -m experiments.distill`: from a teacher and images to a compressed model, in one folder.

Started again with the same folder it goes on where it was, and makes nothing twice.
"""

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cdjax.cli.allocator import TRAINING, run_in_calling_thread, start_again_tuned

if TYPE_CHECKING:
    from experiments.distill_options import Command

_NEEDED = ("tyro", "matplotlib", "tensorboardX")
_REAL = {
    "wct": """\
This is the quick preset: dead-leaves images, made on the spot, stand in for photographs, three of
five stages for the cascade, and a few steps for a training. For the real thing, give photographs
and a recipe:
  python -m experiments.distill --preset bundled --data.source FOLDER_OF_PHOTOGRAPHS
  python -m experiments.distill --preset paper --teacher vgg19.pth (COCO: tfds build coco/2014
  --file_format=array_record; VGG-19: python convert_weights.py vgg19 --help)""",
    "adain": """\
This is the quick preset: dead-leaves images, made on the spot, stand in for photographs and
paintings, and a few steps for a training. For the real thing, give both and a recipe:
  python -m experiments.distill --method adain --preset bundled --data.source FOLDER_OF_PHOTOGRAPHS
  --styles.source FOLDER_OF_PAINTINGS
  python -m experiments.distill --method adain --preset paper --teacher vgg19.pth --styles.source
  WIKIART (COCO: tfds build coco/2014 --file_format=array_record; VGG-19: python convert_weights.py
  vgg19 --help; WIKIART: a folder of its paintings, such as kaggle.com/c/painter-by-numbers has)""",
}


def _run(command: "Command") -> None:
    from cdjax.cli.main import use_compilation_cache
    from cdjax.distillation import hosts
    from cdjax.distillation.pipeline import distill
    from cdjax.io.processes import is_first
    from experiments.distill_report import images_of, write_report
    from experiments.watch import Silent, Watch, write_text

    hosts.initialize(command.hosts.coordinator, command.hosts.processes, command.hosts.index)
    use_compilation_cache()
    output, recipe = command.output, command.recipe
    watch = Watch() if is_first() else Silent()
    if command.preset == "quick":
        watch.say(_REAL[recipe.method])
    watch.say(f"teacher {recipe.teacher}, {images_of(recipe)}, output {output}")
    if is_first():
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "recipe.json", json.dumps(recipe.to_json(), indent=2) + "\n")
    distill(recipe, output, watch)
    if is_first():
        path = write_report(output, recipe)
        watch.say(f"{output / 'model'} is the model, {path} the report; try it:")
        watch.say(f"  cdjax stylize CONTENT STYLE --weights {output / 'model'} -o OUT.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(f"distill: {', '.join(missing)} missing: pip install 'cdjax[train]'", file=sys.stderr)
        return 2
    from cdjax.errors import TrainingError
    from experiments.distill_options import parse

    try:
        _run(parse(arguments))
    except TrainingError as error:
        print(f"distill: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"distill: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("distill: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    start_again_tuned(TRAINING)
    run_in_calling_thread()
    sys.exit(main())
