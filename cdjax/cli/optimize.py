"""`cdjax optimize`: optimisation-based style transfer (Gatys et al. 2016), with any encoder.

Shows the losses while it runs, and the picture so far in a file beside OUT (for out.png
out.preview.png, or out.preview2.png if that exists), which is removed once OUT is written.
`cdjax.optimize_image` does the work.
"""

import argparse
import os
import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cdjax.cli.outputs import check_local
from cdjax.cli.parser import Parser, add_picture_options, error_line, picture_path, within

if TYPE_CHECKING:
    from jax import Array

    from cdjax.cli.interrupts import InterruptGuard
    from cdjax.cli.jobs import Job
    from cdjax.optimization.config import Optimization


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    options = _parse(arguments)
    if options.quiet:
        warnings.simplefilter("ignore")
    from cdjax.cli.jobs import STDIN
    from cdjax.cli.standard import make_reported, read_standard_input

    if STDIN in (options.content, options.style):
        read_standard_input()
    planned, settings = _job(options), _settings(options)
    make_reported(planned, partial(_optimize, options, settings), json=options.json)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="cdjax optimize",
        description="Repaint CONTENT in the style of STYLE by optimising the picture itself. "
        "Settings that are not given are those of cdjax.Optimization.",
    )
    add, count = parser.add_argument, within(int, 0, 10**9)
    add("content", type=picture_path, metavar="CONTENT", help="an image; - is standard input")
    add("style", type=picture_path, metavar="STYLE", help="an image")
    add_picture_options(parser)
    color = "as for cdjax stylize; luminance takes effect at the end"
    add("--preserve-color", choices=["luminance", "match"], help=color)
    every = "steps between two previews beside OUT; 0: none (%(default)s)"
    add("--preview-every", type=count, default=50, metavar="N", help=every)
    add = parser.add_argument_group("losses").add_argument
    model = (
        "whose encoder computes the losses: a name (see cdjax models), a checkpoint, or a PyTorch "
        "file of a VGG (%(default)s)"
    )
    add("--model", default="wct-16x", help=model)
    layers: Any = {"type": _layer, "nargs": "+", "metavar": "LAYER[=SHARE]"}
    add("--content-layers", **layers, help="of the content loss, such as relu4_2")
    add("--style-layers", **layers, help="of the style loss, such as relu1_1=2 relu2_1=1")
    add("--content-weight", type=float, metavar="W", help="of the content loss")
    add("--style-weight", type=float, metavar="W", help="of the style loss")
    add("--tv-weight", type=float, metavar="W", help="of the total variation, which smooths")
    add = parser.add_argument_group("steps").add_argument
    add("--optimizer", choices=["lbfgs", "adam"])
    add("--learning-rate", type=float, metavar="R", help="of Adam")
    add("--steps", type=count, metavar="N", help="at every scale")
    finish = (
        "whose encoder computes the losses of the last steps at every scale, such as the teacher "
        "of --model: nearer to the style for a few of its slow steps"
    )
    add("--finish", metavar="MODEL", help=finish)
    add("--finish-steps", type=count, metavar="N", help="steps with --finish (a quarter)")
    scales = "sizes, each half of the next (3; 1 with a stylized start)"
    add("--scales", type=count, metavar="N", help=scales)
    start = "at the coarsest scale (content); stylized: what cdjax stylize makes with --model"
    add("--start", choices=["content", "noise", "stylized"], help=start)
    add("--seed", type=count, metavar="N", help="of the noise")
    return parser.parse_args(arguments)


def _layer(text: str) -> tuple[str, float]:
    """A layer and its share, from `relu4_2` or `relu4_2=0.5`."""
    name, equals, share = text.partition("=")
    try:
        return name, float(share) if equals else 1.0
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not LAYER or LAYER=SHARE") from None


def _job(options: argparse.Namespace) -> "Job":
    from cdjax.cli.jobs import one_job
    from cdjax.cli.standard import refuse_existing

    job = one_job(options.content, [options.style], options.output)
    check_local(job.output)
    if os.path.lexists(job.output) and not options.overwrite:
        raise refuse_existing(job, json=options.json)
    return job


def _settings(options: argparse.Namespace) -> "Optimization":
    from cdjax.optimization.config import Optimization

    given = vars(options)
    names = [field.name for field in fields(Optimization)]
    chosen = {name: given[name] for name in names if given.get(name) is not None}
    for role in ("content", "style"):
        if layers := given[f"{role}_layers"]:
            chosen[f"{role}_layers"], chosen[f"{role}_shares"] = zip(*layers, strict=True)
    settings = Optimization(**chosen)
    if options.finish is None or options.finish_steps is not None:
        return settings
    return replace(settings, finish_steps=-(-settings.steps // 4))


def _optimize(
    options: argparse.Namespace, settings: "Optimization", job: "Job", guard: "InterruptGuard"
) -> tuple[int, int]:
    """Makes the picture; returns its width and height."""
    import numpy as np

    from cdjax.checkpoints.load import load_model
    from cdjax.cli.backend import start_backend
    from cdjax.cli.compilation_cache import use_compilation_cache
    from cdjax.cli.painting import within_memory
    from cdjax.cli.preview import PreviewFile
    from cdjax.cli.progress import ProgressBar
    from cdjax.cli.quiet import silence_decoders
    from cdjax.io.images import Picture, check_size, write_image
    from cdjax.io.leftovers import remove_leftovers
    from cdjax.io.masks import opacity
    from cdjax.io.metadata import NO_METADATA
    from cdjax.io.streaming import read_picture
    from cdjax.optimization.optimize import optimize_image

    remove_leftovers([job.output])
    silence_decoders()
    use_compilation_cache()
    start_backend()
    model = load_model(options.model)
    finish = load_model(options.finish) if options.finish is not None else None
    content = read_picture(job.content, options.content_size)
    style = read_picture(job.styles[0], options.style_size)
    metadata = NO_METADATA if options.strip else content.metadata
    height, width = content.pixels.shape[:2]
    check_size(job.output, height, width)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    preview = PreviewFile(job.output)
    with (
        ProgressBar(guard=guard, keep=True, quiet=options.quiet) as bar,
        within_memory(f"{job.content}: {width}x{height} pixels", "--content-size or --style-size"),
    ):

        def write_preview(picture: "Array") -> None:
            with guard.protected():
                failure = preview.write(Picture(np.asarray(picture)))
            if failure:  # The result may still be written, hours later.
                bar.error(f"{error_line(failure)}; goes on without this preview")

        result = optimize_image(
            model, content.pixels, style.pixels, settings=settings, finish=finish,
            opacity=opacity(content), style_mask=opacity(style), on_progress=bar,
            on_preview=write_preview if options.preview_every else None,
            preview_every=options.preview_every,
        )  # fmt: skip
    with guard.protected():
        whole = Picture(np.asarray(result), content.alpha, metadata)
        write_image(job.output, whole, quality=options.quality, overwrite=options.overwrite)
        preview.remove()
    return width, height
