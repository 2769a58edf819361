"""`cdjax sheet`: every photograph in every style, small and named on one picture, for choosing."""

import argparse
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdjax.cli.inputs import add_inputs, contents_and_styles, name_skipped
from cdjax.cli.outputs import already_exists, is_an_input
from cdjax.cli.parser import (
    BAD_INPUT,
    Once,
    Parser,
    add_model_options,
    add_picture_options,
    add_style_options,
    error_line,
    picture_path,
    printable,
    within,
)
from cdjax.errors import ImageError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cdjax.cli.interrupts import InterruptGuard
    from cdjax.cli.jobs import Outcome
    from cdjax.cli.picture_grid import Sheet
    from cdjax.cli.progress import ProgressBar
    from cdjax.io.images import Picture
    from cdjax.model import Model

_USAGE = """\
cdjax sheet CONTENTS STYLES -o OUT [OPTIONS]
       cdjax sheet CONTENT... -s STYLE... -o OUT [OPTIONS]"""

_MOST_PIXELS = 2**26
"""Of a sheet, whose memory is three bytes a pixel."""


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    options = _parse(arguments)
    if options.quiet:
        warnings.simplefilter("ignore")
    from cdjax.cli.chosen_model import model_name
    from cdjax.cli.interrupts import run_interruptibly
    from cdjax.cli.jobs import STDIN, files_in
    from cdjax.cli.masks import check_mask_files, check_masks
    from cdjax.cli.quiet import silence_decoders
    from cdjax.cli.standard import print_outcome, read_standard_input
    from cdjax.io.leftovers import remove_leftovers

    given = contents_and_styles(options, "cdjax sheet", options.output)
    options.style_masks = options.style_masks or []
    masks = [*([options.mask] if options.mask else []), *options.style_masks]
    if STDIN in (*given[0], *given[1], *masks):
        read_standard_input()
    check_masks(given[1], [], options.style_masks)
    check_mask_files(masks)
    contents, styles = files_in(given[0], "content"), files_in(given[1], "style")
    _check(options, contents, styles)
    model_name(options)  # Raises if there is none, before anything is read or computed.
    remove_leftovers([options.output])
    silence_decoders()
    skipped = name_skipped((*given[0], *given[1]), quiet=options.quiet)
    outcomes = run_interruptibly(partial(_make, options, contents, styles))
    for outcome in outcomes if options.json else ():
        print_outcome(outcome)
    return BAD_INPUT if skipped or any(outcome.error for outcome in outcomes) else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="cdjax sheet",
        usage=_USAGE,
        description="Show every content in every style on one picture, with the names of the "
        "files, to choose from. A CONTENT or STYLE is an image or a folder of images.",
    )
    add_inputs(parser)
    add_picture_options(parser, leave_out=("--content-size",))
    side = "pixels of the longer side of each picture (%(default)s)"
    parser.add_argument("--size", type=within(int, 16, 2048), default=256, metavar="PX", help=side)
    where = "where the styles are used: an image, white there and black where every CONTENT stays"
    parser.add_argument("--mask", type=picture_path, action=Once, metavar="MASK", help=where)
    parts = "one a style: which parts of the paintings count"
    parser.add_argument(
        "--style-masks", type=picture_path, nargs="+", action="extend", metavar="MASK", help=parts
    )
    add_style_options(parser)
    add_model_options(parser)
    return parser.parse_intermixed_args(arguments)


def _check(options: argparse.Namespace, contents: Sequence[Path], styles: Sequence[Path]) -> None:
    """Raises, before anything is computed, if the sheet is too large or cannot be written."""
    from cdjax.cli.jobs import check_file
    from cdjax.cli.picture_grid import Sheet
    from cdjax.io.images import check_size

    output = Path(options.output)
    check_file(output)
    masks = (*([options.mask] if options.mask else []), *options.style_masks)
    if any(output.resolve() == path.resolve() for path in (*contents, *styles, *masks)):
        raise is_an_input(output)
    if os.path.lexists(output) and not options.overwrite:
        raise already_exists(output)
    if output.exists() and not output.is_file():
        raise UsageError(f"output {output}: is not a regular file and cannot be replaced")
    height, width = Sheet.size(len(contents) + 1, len(styles) + 1, options.size)
    if height * width > _MOST_PIXELS:
        raise UsageError(
            f"a sheet of {len(contents)} contents x {len(styles)} styles would have {width}x"
            f"{height} pixels, more than {_MOST_PIXELS // 10**6} megapixels; give fewer, or a "
            f"--size below {options.size}"
        )
    check_size(output, height, width)


@dataclass(frozen=True)
class _Read:
    """A file of the sheet: its picture and mask, or why they cannot be read."""

    path: Path
    picture: "Picture | None"
    mask: Any = None
    fault: str | None = None


def _read(path: Path, read: "Callable[[], tuple[Picture, Any]]", bar: "ProgressBar") -> _Read:
    """Reads a picture and its mask; what cannot be read is reported."""
    try:
        return _Read(path, *read())
    except ImageError as error:
        bar.error(error_line(error))
        return _Read(path, None, None, str(error))


def _style(options: argparse.Namespace, path: Path, mask: Path | None) -> "tuple[Picture, Any]":
    """A style, and how much each of its pixels counts."""
    from cdjax.cli.painting import visible_style
    from cdjax.io.streaming import read_picture

    picture = read_picture(path, options.style_size or options.size)
    return picture, visible_style(picture, path, mask)


def _content(options: argparse.Namespace, path: Path) -> "tuple[Picture, Any]":
    """A content as large as it is shown, and its mask."""
    from cdjax.cli.painting import fitted_mask
    from cdjax.io.streaming import read_picture

    side = options.size
    picture = _fitted(read_picture(path, _shorter_side(path, side)), side)
    if options.mask is None:
        return picture, None
    return picture, fitted_mask(options.mask, picture.pixels.shape[:2], path)


def _make(
    options: argparse.Namespace,
    contents: Sequence[Path],
    styles: Sequence[Path],
    guard: "InterruptGuard",
) -> "list[Outcome]":
    """Makes the sheet and writes it; returns what became of each of its pictures."""
    import numpy as np

    from cdjax.cli.chosen_model import load_chosen
    from cdjax.cli.picture_grid import Sheet
    from cdjax.cli.progress import ProgressBar
    from cdjax.io.images import Picture, write_image
    from cdjax.progress import Progress

    model, sheet = load_chosen(options), Sheet(len(contents) + 1, len(styles) + 1, options.size)
    outcomes: list[Outcome] = []
    with ProgressBar("image", guard=guard, quiet=options.quiet) as bar:
        masks = options.style_masks or [None] * len(styles)
        columns = [
            _read(path, partial(_style, options, path, mask), bar)
            for path, mask in zip(styles, masks, strict=True)
        ]
        for column, style in enumerate(columns, 1):
            _put(sheet, 0, column, style)
        paint = _painter(options, model, columns)
        for row, path in enumerate(contents, 1):
            content = _read(path, partial(_content, options, path), bar)
            _put(sheet, row, 0, content)
            for column, style in enumerate(columns, 1):
                outcome, result = paint(content, style)
                if result is not None:
                    sheet.put(row, column, result)
                outcomes.append(outcome)
                name = f"{path.name}, {style.path.name}"
                bar(Progress(name, len(outcomes), len(contents) * len(styles)))
        with guard.protected():
            whole = Picture(np.asarray(sheet.image))
            write_image(options.output, whole, quality=options.quality, overwrite=options.overwrite)
    return outcomes


def _put(sheet: "Sheet", row: int, column: int, read: _Read) -> None:
    """Shows the name of a file and, if it could be read, its picture."""
    sheet.name(row, column, printable(read.path.name))
    if read.picture is not None:
        sheet.put(row, column, _shown(_fitted(read.picture, sheet.side)))


def _painter(
    options: argparse.Namespace, model: "Model", columns: Sequence[_Read]
) -> "Callable[[_Read, _Read], tuple[Outcome, NDArray[np.uint8] | None]]":
    """From a content and one of the styles to what became of the picture, and the picture."""
    import numpy as np

    from cdjax.cli.jobs import Job, Outcome
    from cdjax.io.masks import opacity
    from cdjax.transfer.masks import joint
    from cdjax.transfer.stylize import encode_style, stylize

    names = ("alpha", "transform", "regularization", "dtype")
    settings: Any = {name: getattr(options, name) for name in names}
    match = options.preserve_color == "match"
    if not match:
        settings["preserve_color"] = options.preserve_color
    encode = partial(encode_style, model, dtype=options.dtype)
    # Each style is encoded once, or with each content.
    encoded = {
        read.path: encode(read.picture.pixels, mask=read.mask)
        for read in columns
        if read.picture and not match
    }

    def paint(content: _Read, style: _Read) -> "tuple[Outcome, NDArray[np.uint8] | None]":
        job, began = Job(content.path, (style.path,), Path(options.output)), time.monotonic()
        if content.picture is None or style.picture is None:
            return Outcome(job, "failed", content.fault or style.fault), None
        picture, seen = content.picture, opacity(content.picture)
        pixels = picture.pixels
        used = encoded.get(style.path) or encode(
            style.picture.pixels,
            mask=style.mask,
            colors_of=pixels,
            colors_mask=joint(content.mask, seen),
        )
        result = stylize(model, pixels, used, mask=content.mask, opacity=seen, **settings)
        shown = _shown(replace(picture, pixels=np.asarray(result)))
        height, width = shown.shape[:2]
        return Outcome(job, "made", None, time.monotonic() - began, (width, height)), shown

    return paint


def _shorter_side(path: Path, longer_side: int) -> int:
    """The shorter side, rounded up, of a picture that is scaled to a longer side."""
    from cdjax.io.images import image_size

    size = image_size(path) or (1, 1)
    return max(1, -(-longer_side * min(size) // max(size)))


def _fitted(picture: "Picture", longer_side: int) -> "Picture":
    """A picture scaled to a longer side."""
    from cdjax.io.images import resized

    scale = longer_side / max(picture.pixels.shape[:2])
    height, width = (max(1, round(length * scale)) for length in picture.pixels.shape[:2])
    return resized(picture, (height, width))


def _shown(picture: "Picture") -> "NDArray[np.uint8]":
    """The pixels of a picture; a transparent one is shown over white."""
    import numpy as np

    from cdjax.io.images import levels

    pixels = levels(picture.pixels)
    if picture.alpha is None:
        return pixels
    share = picture.alpha[..., None] / np.float32(255)
    return levels((pixels * share + 255 * (1 - share)) / np.float32(255))
