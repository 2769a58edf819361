"""Options of `evaluate --table`: refused in one line before anything takes time."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cdjax.errors import ImageError
from cdjax.io.images import check_suffix
from cdjax.tiling.budget import parse_size
from experiments.picture_pairs import add_pair_options
from experiments.table_measurements import MULTIPLE, Ways
from experiments.table_rows import METHODS
from experiments.whole_numbers import at_least, positive

_SMALLEST = 32
"""Pixels a side of the smallest image that every encoder can read."""


class _Parser(argparse.ArgumentParser):
    """One line for wrong use, as for every other error."""

    def error(self, message: str) -> NoReturn:
        """Prints the line and exits with status 2."""
        self.exit(2, f"evaluate: {message} (see {self.prog} --help)\n")


def _runs(text: str) -> int:
    return at_least(0, text)


def _pixels(text: str) -> int:
    return at_least(_SMALLEST, text)


def _twice_pixels(text: str) -> int:
    return at_least(2 * _SMALLEST, text)  # Three quarters of it are measured, too.


def _bytes(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m experiments.evaluate --table",
        description="The paper's table: every method and model, its original, and the ratio; and "
        "a sheet of pictures.",
    )
    add = parser.add_argument
    add("--table", action="store_true", help=argparse.SUPPRESS)
    add(
        "models",
        nargs="*",
        metavar="MODEL",
        help="checkpoint folder, folder of published .pth files, or name of a bundled model "
        "(default: every bundled one and all in --models)",
    )
    add(
        "--models",
        dest="folder",
        type=Path,
        default=Path("models"),
        metavar="FOLDER",
        help="where models lie if none is named (models)",
    )
    add(
        "--teacher",
        metavar="MODEL",
        help="an original with trained decoders, for the sheet; likewise named (default: those of "
        "VGG's widths among the models)",
    )
    add(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(METHODS),
        help="these alone (all; gatys optimises with the encoders of models of stage 5)",
    )
    add("--stages", type=int, nargs="+", choices=range(1, 6), help="of all models these alone")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="compute in this type")
    add("--json", type=Path, metavar="OUT", help="file for all figures")
    measured = parser.add_argument_group("what is measured").add_argument
    measured("--runs", type=_runs, default=3, help="timed runs of each model; 0: only count (3)")
    measured(
        "--table-size",
        type=_twice_pixels,
        default=1024,
        metavar="PX",
        help="pixels a side of content and style (1024)",
    )
    measured(
        "--fit-sizes",
        type=_pixels,
        nargs="+",
        metavar="PX",
        help="further sizes, for the line of memory (0.75 and 1.375 of --table-size)",
    )
    measured(
        "--limit",
        type=_bytes,
        default=parse_size("12GB"),
        metavar="SIZE",
        help="memory that the largest image may take (12GB)",
    )
    measured("--verify", action="store_true", help="really make the largest image")
    sheet = parser.add_argument_group("the sheet of pictures").add_argument
    sheet("--sheet", type=Path, metavar="OUT", help="image file to write")
    add_pair_options(sheet, pairs=4)
    sheet("--gatys-steps", type=positive, default=100, help="of the optimisation, a scale (100)")
    sheet("--sheet-size", type=_pixels, default=320, metavar="PX", help="of each picture (320)")
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; the process ends with status 2 after one line if they cannot be followed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for name in ("json", "sheet"):
        path: Path | None = getattr(options, name)
        if path and not path.resolve().parent.is_dir():
            parser.error(f"--{name}: there is no directory {path.resolve().parent}")
        if path and path.is_dir():
            parser.error(f"--{name}: {path} is a directory")
    if options.sheet:
        try:
            check_suffix(options.sheet)
        except ImageError as error:
            parser.error(f"--sheet: {error}")
    if options.json and options.sheet and options.json.resolve() == options.sheet.resolve():
        parser.error("--json and --sheet are one file")
    if len(set(options.models)) != len(options.models):
        parser.error("a model is given twice")
    if options.fit_sizes and set(options.fit_sizes) <= {options.table_size}:
        parser.error("--fit-sizes: a line needs another size than --table-size")
    if options.verify and not options.runs:
        parser.error("--verify needs --runs of 1 at least")
    return options


def ways_of(options: argparse.Namespace) -> Ways | None:
    """How to measure; None if there is nothing but counting."""
    size = options.table_size
    fit_sizes = options.fit_sizes or [round(f * size / MULTIPLE) * MULTIPLE for f in (0.75, 1.375)]
    ways = Ways(size, tuple(fit_sizes), options.runs, options.dtype, options.limit, options.verify)
    return ways if options.runs else None
