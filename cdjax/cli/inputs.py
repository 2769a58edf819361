"""Contents and styles on a command line, and what is not read of their folders."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from cdjax.cli.parser import error_line, picture_path, printable
from cdjax.errors import UsageError


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Adds CONTENT... and -s STYLE..., for `contents_and_styles`."""
    what = "photographs; without -s, STYLE"
    parser.add_argument("inputs", type=picture_path, nargs="+", metavar="CONTENT", help=what)
    parser.add_argument(
        "-s", "--styles", "--style", type=picture_path, nargs="+", action="extend",
        metavar="STYLE", help="paintings",
    )  # fmt: skip


def contents_and_styles(
    options: argparse.Namespace, command: str, folder: str
) -> tuple[list[Path], list[Path]]:
    """Contents and styles as given, files or folders.

    Args:
        options: with `inputs`, `styles` and, if the command has it, `mix`.
        command: such as `"cdjax stylize"`.
        folder: OUT for several pictures, in messages.

    Raises:
        UsageError: if it is not clear which is which; the message shows the right command.
    """
    inputs: list[Path] = options.inputs
    if options.styles:
        return inputs, options.styles
    if len(inputs) == 2:
        return inputs[:1], inputs[1:]
    if len(inputs) == 1:
        raise UsageError(f"a style is missing: {command} CONTENT STYLE -o OUT")
    if getattr(options, "mix", None) is not None:
        purpose = "to mix several paintings"
        shown = f"{inputs[0]} -s {_shortened(inputs[1:])} --mix -o {options.output}"
    else:
        purpose = "to paint several photographs"
        shown = f"{_shortened(inputs[:-1])} -s {inputs[-1]} -o {folder}"
    raise UsageError(f"{len(inputs)} files and no -s; {purpose}: {command} {shown}")


def _shortened(paths: Sequence[Path]) -> str:
    """The paths; of more than three, the first and the last."""
    names = [str(path) for path in paths]
    return " ".join(names if len(names) <= 3 else [names[0], "...", names[-1]])


def name_skipped(paths: Iterable[Path], *, quiet: bool) -> bool:
    """Prints what is not read of the folders among the paths; whether a picture is among it."""
    from cdjax.cli.progress import print_line
    from cdjax.io.folders import describe, skipped_in

    others = skipped_in(paths)
    for file in others:
        if file.picture:
            print_line(error_line(describe(file)))
        elif not quiet:
            print_line(f"cdjax: {printable(describe(file))}")
    return any(file.picture for file in others)
