"""Parsing of the command line: errors in one line, options and types that commands share."""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from cdjax.errors import UsageError

BAD_INPUT = 2
"""The exit status of wrong use and of bad input."""


def error_line(error: BaseException | str) -> str:
    """An error as one line, whatever its message contains."""
    return f"cdjax: error: {' '.join(str(error).split())}"


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that reports wrong use in one line on stderr, with status 2."""

    def error(self, message: str) -> NoReturn:
        """Prints the line and exits."""
        self.exit(BAD_INPUT, f"{error_line(message)} (see {self.prog} --help)\n")


def within(number: type[int] | type[float], low: int, high: int) -> Callable[[str], float]:
    """The type of an option that takes an `int` or a `float` from `low` to `high`."""
    kind = "a whole number" if number is int else "a number"

    def parse(text: str) -> float:
        try:
            value = number(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {kind} from {low} to {high}")
        return value

    return parse


def size(text: str) -> int:
    """The type of an option that takes a number of bytes, such as `2GB`."""
    from cdjax.tiling.budget import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of all commands that write pictures."""
    add, pixels = parser.add_argument, within(int, 1, 100_000)
    add("-o", "--output", required=True, metavar="OUT", help="file or folder to write")
    add("--content-size", type=pixels, metavar="PX", help="scale content to this shorter side")
    add("--style-size", type=pixels, metavar="PX", help="scale style to this shorter side")
    quality = within(int, 1, 100)
    add("--quality", type=quality, default=95, metavar="Q", help="of JPEG, WebP (%(default)s)")
    add("--overwrite", action="store_true", help="replace what already exists")


def new_file(text: str) -> Path:
    """The type of an option that takes a file to write."""
    path = Path(text)
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path} cannot be written: it is a folder, or in none")
    return path


def require(what: str, *modules: str) -> None:
    """Makes sure that optional packages are installed; imports none of them.

    Raises:
        UsageError: if modules are missing; the message has the command that installs them.
    """
    missing = [name.replace("_", "-") for name in modules if find_spec(name) is None]
    if missing:
        raise UsageError(f"{what} needs {', '.join(missing)}: pip install {' '.join(missing)}")
