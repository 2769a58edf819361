"""`cdjax video`: a film, or a folder of its frames, repainted in the style of a painting."""

import argparse
import os
import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cdjax.cli.inputs import name_skipped
from cdjax.cli.outputs import is_an_input
from cdjax.cli.parser import (
    BAD_INPUT,
    Once,
    Parser,
    add_model_options,
    add_picture_options,
    add_style_options,
    within,
)
from cdjax.errors import UsageError

if TYPE_CHECKING:
    from cdjax.cli.filming import Source
    from cdjax.cli.interrupts import InterruptGuard
    from cdjax.cli.jobs import Job
    from cdjax.cli.progress import ProgressBar

_RATE = Fraction(25)


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    options = _parse(arguments)
    if options.quiet:
        warnings.simplefilter("ignore")
    from cdjax.cli.chosen_model import model_name
    from cdjax.cli.standard import make_file, refuse_existing

    job = _job(options)
    if _exists(job.output) and not options.overwrite:
        raise refuse_existing(job, json=options.json)
    model_name(options)
    skipped = name_skipped([job.content], quiet=options.quiet)
    make_file(job, partial(_film, options), json=options.json)
    return BAD_INPUT if skipped else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="cdjax video",
        description="Repaint FILM in the style of STYLE. FILM is a film or a folder of pictures, "
        "one a frame, in the order of their names. OUT is a film (.mp4, .mov, .mkv) or a folder, "
        "which gets the frames as PNG. The audio is kept as it is.",
    )
    add = parser.add_argument
    add("film", type=Path, metavar="FILM", help="a film, or a folder of frames")
    add("style", type=Path, metavar="STYLE", help="an image")
    add_picture_options(parser, leave_out=("--quality",))
    crf = "constant rate factor of H.264, 0 (no loss, large) to 51 (%(default)s)"
    add("--crf", type=within(int, 0, 51), default=18, metavar="N", help=crf)
    where = "where the style is used: one image for all frames, or a folder or film of masks"
    add("--mask", type=Path, action=Once, metavar="MASK", help=where)
    part = "which part of the painting counts"
    add("--style-masks", type=Path, nargs="+", metavar="MASK", help=part)
    add("--rate", type=_rate, metavar="R", help="frames a second of a folder of frames (25)")
    add_style_options(parser)
    frames = "frames over which statistics are averaged; 1: every frame by itself (%(default)s)"
    add("--smoothing", type=within(int, 1, 1000), default=8, metavar="N", help=frames)
    add_model_options(parser)
    return parser.parse_args(arguments)


def _rate(text: str) -> Fraction:
    """Frames a second, from `25`, `29.97` or `30000/1001`."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not Fraction(1, 10) <= rate <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate from 0.1 to 1000, such as 25")
    return rate.limit_denominator(1001)


def _job(options: argparse.Namespace) -> "Job":
    """The film to make, as far as it can be checked without reading a file."""
    from cdjax.cli.film_masks import mask_files
    from cdjax.cli.jobs import Job, check_folder, images_in
    from cdjax.cli.masks import check_masks
    from cdjax.video.encoding import CONTAINERS, check_container

    film, style, output = options.film, options.style, Path(options.output)
    images_in(film, "film") if film.is_dir() else _check_file(film, "film")
    _check_file(style, "style")
    if options.rate is not None and not film.is_dir():
        raise UsageError("--rate: is for folders of frames; a film has a rate")
    check_masks([style], [], options.style_masks or [])
    for path in options.style_masks or ():
        _check_file(path, "mask")
    mask_files(options.mask)
    masks = (options.mask,) if options.mask else ()
    job = Job(film, (style,), output, masks, tuple(options.style_masks or ()))
    if output.resolve() in {path.resolve() for path in job.inputs}:
        raise is_an_input(output)
    is_folder = output.suffix.lower() not in CONTAINERS
    if options.output.endswith(("/", os.sep)):
        if not is_folder:
            raise UsageError(f"output {options.output}: is named as a film, but / is for a folder")
    elif output.suffix and not output.is_dir():
        check_container(output)
    if output.is_file() if is_folder else output.is_dir():
        raise UsageError(f"output {output}: is {'a file' if is_folder else 'a folder'}")
    if not output.parent.is_dir():
        raise UsageError(f"output {output}: the folder {output.parent} does not exist")
    check_folder(output.parent)
    return job


def _check_file(path: Path, role: str) -> None:
    if not path.is_file():
        reason = "is not a file" if path.exists() else "no such file or folder"
        raise UsageError(f"{role} {path}: {reason}")


def _exists(output: Path) -> bool:
    """Whether there is anything in the output's place; an empty folder is nothing."""
    return os.path.lexists(output) and not (output.is_dir() and not any(output.iterdir()))


def _film(options: argparse.Namespace, job: "Job", guard: "InterruptGuard") -> tuple[int, int]:
    """Makes the film; returns its width and height."""
    from cdjax.cli.chosen_model import load_chosen
    from cdjax.cli.film_masks import mask_files, open_masks
    from cdjax.cli.filming import FilmSettings, film_style, frame_size, make_film
    from cdjax.cli.painting import within_memory
    from cdjax.cli.progress import ProgressBar
    from cdjax.io.digest import sha256
    from cdjax.io.streaming import read_picture
    from cdjax.tiling.resume import run_key
    from cdjax.video.segments import SEGMENT, SegmentFolder
    from cdjax.video.stylize import FrameSettings

    given = vars(options)
    with ProgressBar("frame", guard=guard, keep=True, quiet=options.quiet) as bar:
        source = _source(options, bar)
        size = frame_size(source, options.content_size)
        masks = open_masks(options.mask, source, size, bar)
        model = load_chosen(options)
        painting = read_picture(job.styles[0], options.style_size)
        frames = FrameSettings(**{f.name: given[f.name] for f in fields(FrameSettings)})
        last = (options.crf, options.strip, options.overwrite)
        settings = FilmSettings(frames, size, masks, *last)
        read = (*source.paths, *job.styles, *job.style_masks, *mask_files(options.mask))
        files = [sha256(path) for path in read]
        # Files count by what is in them. What only the last step needs may be another later.
        key = replace(settings, masks=None, strip=False, overwrite=False)
        roles = (len(job.style_masks), len(job.masks))
        made_of = (files, roles, key, options.style_size, source.rate, SEGMENT, job.output.name)
        kept = SegmentFolder(job.output.resolve().parent, run_key(model, *made_of))
        what = f"{job.content}: {size[1]}x{size[0]} pixels"
        with kept.made(), within_memory(what, "--content-size"):
            style = film_style(model, source, job, painting, settings, bar)
            if frames.preserve_color == "match":  # It has decided the style.
                settings = replace(settings, frames=replace(frames, preserve_color=None))
            make_film(model, source, style, job.output, settings, kept, guard, bar)
    return size[1], size[0]


def _source(options: argparse.Namespace, bar: "ProgressBar") -> "Source":
    from cdjax.cli.jobs import images_in
    from cdjax.video.encoding import CONTAINERS, check_audio
    from cdjax.video.films import open_film
    from cdjax.video.frame_folder import open_folder
    from cdjax.video.libav import library

    output = Path(options.output)
    if output.suffix.lower() in CONTAINERS:
        library()
    if options.film.is_dir():
        return open_folder(images_in(options.film, "film"), options.rate or _RATE)
    film = open_film(options.film, bar)
    if output.suffix.lower() in CONTAINERS:
        check_audio(film, output)
    return film
