"""Parsing of the command line: errors in one line, options and types that commands share."""

import argparse
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from cdjax.errors import UsageError

BAD_INPUT = 2
"""The exit status of wrong use and of bad input."""
_DASHES = "--end-of-options"


def printable(text: str) -> str:
    """A text whose control characters are escaped.

    File names may contain them, and bytes that are not UTF-8.
    """

    def shown(character: str) -> str:
        if unicodedata.category(character) in ("Cc", "Cs"):
            return character.encode("unicode_escape", "surrogatepass").decode()
        return character

    return text if text.isprintable() else "".join(map(shown, text))


def error_line(error: BaseException | str) -> str:
    """An error as one line, whatever its message contains."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        message = ": ".join([*names, error.strerror])
    return f"cdjax: error: {printable(' '.join(message.split()))}"


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that reports wrong use in one line on stderr, with status 2.

    Values may begin with a dash: the argument after an option that takes exactly one value is that
    value, unless it is an option itself. After `--`, all arguments are positional; those that begin
    with a dash are paths, and get `./` in front.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_argument(_DASHES, action="store_true", help=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        """Prints the line and exits."""
        self.exit(BAD_INPUT, f"{error_line(message)} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """As `ArgumentParser.parse_known_args`, with the rules above."""
        left = list(sys.argv[1:] if args is None else args)
        known = self._option_string_actions
        given: list[str] = []
        while left:
            argument = left.pop(0)
            action = known.get(argument)
            if argument == "--":
                # The parser of `parse_intermixed_args` loses what is after "--". An option without
                # a value ends the values of the option before it, too.
                given += [
                    _DASHES,
                    *(f"./{a}" if a.startswith("-") and a != "-" else a for a in left),
                ]
                left = []
            elif action and action.nargs is None and left and left[0] not in {*known, "--"}:
                given.append(f"{max(action.option_strings, key=len)}={left.pop(0)}")
            else:
                given.append(argument)
        return super().parse_known_args(given, namespace)


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


def add_picture_options(parser: argparse.ArgumentParser, *, leave_out: Sequence[str] = ()) -> None:
    """Adds the options of all commands that write pictures, but for those of some names."""

    def add(*names: str, **settings: Any) -> None:
        if names[-1] not in leave_out:
            parser.add_argument(*names, **settings)

    pixels = within(int, 1, 100_000)
    where = "file or folder to write"
    add("-o", "--output", required=True, action=Once, metavar="OUT", help=where)
    add("--content-size", type=pixels, metavar="PX", help="scale content to this shorter side")
    add("--style-size", type=pixels, metavar="PX", help="scale style to this shorter side")
    quality = within(int, 1, 100)
    add("--quality", type=quality, default=95, metavar="Q", help="of JPEG, WebP (%(default)s)")
    strip = "keep no metadata of content: EXIF with GPS, XMP, colour profile, resolution"
    add("--strip", action="store_true", help=strip)
    add("--overwrite", action="store_true", help="replace what already exists")
    add("-q", "--quiet", action="store_true", help="print errors only")
    json = "print one JSON object per picture: input, style, output, status, error, seconds, size"
    add("--json", action="store_true", help=json)


def add_transform_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option of the transform."""
    transform = "how features get the style's statistics (default: the model's own)"
    parser.add_argument("--transform", choices=["wct", "ot", "adain"], help=transform)


def add_style_options(parser: argparse.ArgumentParser, *, leave_out: Sequence[str] = ()) -> None:
    """Adds the options of how features get a style, but for those of some names."""

    def add(name: str, **settings: Any) -> None:
        if name not in leave_out:
            parser.add_argument(name, **settings)

    strength = "strength of the style, 0 to 1 (default), up to 2 for more than the model's own"
    add("--alpha", type=within(float, 0, 2), default=1.0, metavar="A", help=strength)
    add_transform_option(parser)
    tempered = "share of the mean variance added to all variances, e.g. 0.01 (default 0)"
    add("--regularization", type=within(float, 0, 1), default=0.0, metavar="R", help=tempered)
    color = (
        "keep the content's colours: luminance takes only the luminance of the result; match gives "
        "the style the content's mean colour and covariance of colours first"
    )
    add("--preserve-color", choices=["luminance", "match"], help=color)


def add_model_options(parser: argparse.ArgumentParser) -> Any:
    """Adds the options of `cdjax.cli.chosen_model`, and --dtype; returns their group."""
    group = parser.add_argument_group("model and computation")
    add = group.add_argument
    bundled = "the transform, and its bundled model METHOD-16x (default wct-16x)"
    add("--method", choices=["wct", "adain"], help=bundled)
    add("--weights", metavar="MODEL", help="another model (see cdjax models) or checkpoint")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="compute in this type")
    return group


def add_memory_options(group: Any) -> None:
    """Adds the options of commands that make large pictures in windows."""
    device = (
        "device memory for a picture, e.g. 2GB; one that needs more is made in windows (default: "
        "most of a GPU's, half of the free memory without one)"
    )
    group.add_argument("--memory", type=size, metavar="SIZE", help=device)
    host = "for pictures made in windows; the rest goes to files (default: half of the free)"
    group.add_argument("--host-memory", type=size, metavar="SIZE", help=host)


class Once(argparse.Action):
    """Stores the value of an option that cannot be given twice and is not empty."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any
    ) -> None:
        """Stores the value."""
        if getattr(namespace, self.dest) not in (None, values):
            raise argparse.ArgumentError(self, "given twice")
        if not values:
            raise argparse.ArgumentError(self, "is empty")
        setattr(namespace, self.dest, values)


def picture_path(text: str) -> Path:
    """The type of an argument that is a file or folder of pictures, or an address; `-` is stdin."""
    from cdjax.cli.jobs import STANDARD, STDIN
    from cdjax.io.remote import path_of

    if not text:  # It would be the current folder.
        raise argparse.ArgumentTypeError("an empty name")
    return STDIN if text == str(STANDARD) else path_of(text)


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
