"""Options of `experiments.gatys`: refused in one line before anything heavy is imported."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from cdjax import Optimization


class _Parser(argparse.ArgumentParser):
    """One line for wrong use, as for every other error."""

    def error(self, message: str) -> NoReturn:
        """Prints the line and exits with status 2."""
        self.exit(2, f"gatys: {message} (see {self.prog} --help)\n")


def _layer(text: str) -> tuple[str, float]:
    """A layer and its share, from `relu4_2` or `relu4_2=0.5`."""
    name, equals, share = text.partition("=")
    try:
        return name, float(share) if equals else 1.0
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no LAYER or LAYER=SHARE") from None


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def _pixels(text: str) -> int:
    if not 1 <= _count(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 100000")
    return int(text)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; ends the process, with status 2, if they are wrong."""
    parser = _Parser(
        prog="python -m experiments.gatys",
        description="Repaint CONTENT in the style of STYLE by optimising the picture itself. "
        "What is left out is as in cdjax.Optimization.",
    )
    add = parser.add_argument
    add("content", type=Path, metavar="CONTENT", help="an image")
    add("style", type=Path, metavar="STYLE", help="an image")
    add("-o", "--output", required=True, metavar="OUT", help="file to write")
    add(
        "--model",
        default="wct-16x",
        help="whose encoder is in the losses: a bundled model, a checkpoint, vgg16, a PyTorch file "
        "of a VGG (default %(default)s)",
    )
    add(
        "--finish",
        metavar="MODEL",
        help="whose encoder is in the losses of the last steps at every scale, such as --model's "
        "teacher: nearer to the style for a few of its slow steps",
    )
    layers: Any = {"type": _layer, "nargs": "+", "metavar": "LAYER[=SHARE]"}
    add("--content-layers", **layers, help="that keep the content, such as relu4_2")
    add("--style-layers", **layers, help="that take on the style, such as relu1_1=2 relu2_1=1")
    add("--content-weight", type=float, metavar="W", help="of the content loss")
    add("--style-weight", type=float, metavar="W", help="of the style loss")
    add("--tv-weight", type=float, metavar="W", help="of the total variation, which smoothes")
    add("--optimizer", choices=["lbfgs", "adam"])
    add("--learning-rate", type=float, metavar="R", help="Adam's")
    add("--steps", type=_count, metavar="N", help="at every scale")
    add(
        "--finish-steps",
        type=_count,
        metavar="N",
        help="how many of them are made with --finish (default: a quarter)",
    )
    add(
        "--scales",
        type=_count,
        metavar="N",
        help="sizes, each half of the next (default: 3; 1 of a stylized start)",
    )
    add(
        "--start",
        choices=["content", "noise", "stylized"],
        help="of the coarsest scale (default content); stylized: what --model's decoders make of "
        "the content",
    )
    add("--seed", type=_count, metavar="N", help="of the noise")
    add("--content-size", type=_pixels, metavar="PX", help="scale content to this shorter side")
    add("--style-size", type=_pixels, metavar="PX", help="scale style to this shorter side")
    add(
        "--preview-every",
        type=_count,
        default=50,
        metavar="N",
        help="steps between two pictures so far, beside OUT; 0: none (default %(default)s)",
    )
    add("--quality", type=int, choices=range(1, 101), default=95, metavar="Q", help="of JPEG, WebP")
    add("--overwrite", action="store_true", help="replace OUT if it is there already")
    return parser.parse_args(arguments)


def settings_of(options: argparse.Namespace) -> "Optimization":
    """What the options say of the optimisation.

    Raises:
        OptimizationError: if it makes no sense.
    """
    from cdjax import Optimization

    chosen = {
        name: getattr(options, name)
        for name in (
            "content_weight",
            "style_weight",
            "tv_weight",
            "optimizer",
            "learning_rate",
            "steps",
            "finish_steps",
            "scales",
            "start",
            "seed",
        )
        if getattr(options, name) is not None
    }
    for role in ("content", "style"):
        if layers := getattr(options, f"{role}_layers"):
            chosen[f"{role}_layers"], chosen[f"{role}_shares"] = zip(*layers, strict=True)
    settings = Optimization(**chosen)
    if options.finish is None or options.finish_steps is not None:
        return settings
    return replace(settings, finish_steps=-(-settings.steps // 4))
