"""`cdjax texture`: a texture of a painting, made from noise."""

import argparse
import os
import re
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cdjax.cli.outputs import check_local
from cdjax.cli.parser import (
    Parser,
    add_memory_options,
    add_model_options,
    add_picture_options,
    add_style_options,
    picture_path,
    within,
)
from cdjax.errors import UsageError

if TYPE_CHECKING:
    from cdjax.cli.interrupts import InterruptGuard
    from cdjax.cli.jobs import Job


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    options = _parse(arguments)
    if options.quiet:
        warnings.simplefilter("ignore")
    from cdjax.cli.chosen_model import model_name
    from cdjax.cli.jobs import STDIN
    from cdjax.cli.standard import make_reported, read_standard_input

    if options.style == STDIN:
        read_standard_input()
    planned = _job(options)
    model_name(options)
    make_reported(planned, partial(_synthesize, options), json=options.json)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="cdjax texture",
        description="Make a texture of any size with the patterns of STYLE from noise.",
    )
    add = parser.add_argument
    add("style", type=picture_path, metavar="STYLE", help="an image; - is standard input")
    add("--size", type=_size, required=True, metavar="WxH", help="pixels, such as 2048x1024")
    more = "through the whole cascade; more make larger patterns (%(default)s)"
    add("--passes", type=within(int, 1, 1000), default=3, metavar="N", help=more)
    seed = "of the noise; another one gives another texture (%(default)s)"
    add("--seed", type=within(int, 0, 2**63), default=0, metavar="N", help=seed)
    tileable = "copies fit side by side without a seam; sides must be multiples of 16"
    add("--tileable", action="store_true", help=tileable)
    add_picture_options(parser, leave_out=("--content-size", "--strip"))
    add_style_options(parser, leave_out=("--alpha", "--preserve-color"))
    add_memory_options(add_model_options(parser))
    return parser.parse_args(arguments)


def _size(text: str) -> tuple[int, int]:
    """Height and width, from `2048x1024`, a width and a height."""
    from cdjax.io.limits import MAX_PIXELS

    found = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8})", text.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a width and a height such as 2048x1024")
    width, height = map(int, found.groups())
    if width * height > MAX_PIXELS:
        limit = f"{MAX_PIXELS // 10**6} megapixels"
        raise argparse.ArgumentTypeError(f"{text} is more than the limit of {limit}")
    return height, width


def _job(options: argparse.Namespace) -> "Job":
    from cdjax.cli.jobs import STANDARD, images_in, plan
    from cdjax.cli.standard import refuse_existing
    from cdjax.io.images import check_size

    if images_in(options.style, "style") != [options.style]:
        raise UsageError(f"style {options.style}: is a folder; give one image")
    if Path(options.output).is_dir() or options.output.endswith(("/", os.sep)):
        raise UsageError(f"output {options.output}: is a folder; give a file")
    job = plan([options.style], [options.style], options.output)[0]
    check_local(job.output)
    if job.output != STANDARD:
        check_size(job.output, *options.size)
    if os.path.lexists(job.output) and not options.overwrite:
        raise refuse_existing(job, json=options.json)
    return job


def _synthesize(
    options: argparse.Namespace, job: "Job", guard: "InterruptGuard"
) -> tuple[int, int]:
    """Makes the texture; returns its width and height."""
    from cdjax.cli.chosen_model import load_chosen
    from cdjax.cli.painting import within_memory
    from cdjax.cli.progress import ProgressBar
    from cdjax.io.images import Picture, write_image
    from cdjax.io.streaming import read_picture
    from cdjax.tiling.texture import synthesize_texture

    model = load_chosen(options)
    style = read_picture(job.styles[0], options.style_size)
    shared = ("size", "passes", "seed", "tileable", "transform", "regularization", "dtype")
    chosen = {name: getattr(options, name) for name in (*shared, "memory", "host_memory")}
    height, width = options.size
    with (
        ProgressBar(guard=guard, quiet=options.quiet) as bar,
        within_memory(f"{job.output}: {width}x{height} pixels", "--size or --memory"),
    ):
        result = synthesize_texture(model, style.pixels, on_progress=bar, **chosen)
    with guard.protected():
        quality, overwrite = options.quality, options.overwrite
        write_image(job.output, Picture(result), quality=quality, overwrite=overwrite)
    return width, height
