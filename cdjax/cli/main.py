"""The command `cdjax`: finds the subcommand, runs it, and turns errors into an exit status.

A subcommand is a module of this package with a function `run(arguments)`, imported only when it is
called; within it, heavy modules are imported only when they are needed. So help and wrong use are
answered at once.
"""

import argparse
import gc
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn

from cdjax.cli.allocator import STYLISATION, TRAINING, start_again_tuned
from cdjax.cli.parser import BAD_INPUT, Parser, error_line
from cdjax.errors import TrainingError

COMMANDS = {
    "stylize": "repaint photographs in the style of paintings",
    "optimize": "repaint a photograph by optimising its pixels (Gatys et al.); much slower",
    "distill": "compress a style-transfer network by collaborative distillation",
    "evaluate": "measure models against their teacher on photographs",
    "convert": "convert PyTorch weights, or combine models, into a checkpoint",
    "models": "list the models that can be loaded by name",
    "samples": "make a landscape and a painting to try it on",
}
"""The subcommands and what they do."""

_TUNABLES = {"stylize": STYLISATION, "optimize": TRAINING, "distill": TRAINING}
_TRAINING_FAILED = 1
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command, by default that of the process; returns the exit status.

    It is 0: done; 1: a training that cannot go on; 2: wrong use or bad input, after one line on
    stderr; 130: interrupted. Nothing more is written then, but a computation may go on in its
    thread until the process ends.
    """
    given = sys.argv[1:] if arguments is None else arguments
    return exit_status(lambda: _dispatch(given))


def command(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command as a process: `main`, with the process tuned for it, then the end."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    name = given[0] if given else ""
    if name in _TUNABLES:
        start_again_tuned(_TUNABLES[name])
    if name == "distill":  # JAX ends a run on several machines at exit.
        sys.exit(main(given))
    # Most of the objects that tracing creates live on: to search them for garbage takes long.
    gc.set_threshold(100_000)
    status = main(given)
    sys.stdout.flush()
    sys.stderr.flush()
    # All files are written; to take the interpreter apart would take long, too.
    os._exit(status)


def exit_status(run: Callable[[], int]) -> int:
    """The exit status that `run` returns; its errors are printed in one line on stderr."""
    try:
        with warnings.catch_warnings():
            # What users need to know about a file or the cache is printed as our own lines.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.filterwarnings("ignore", message="Error writing persistent compilation cache")
            return run()
    except SystemExit as done:
        return int(done.code or 0)
    except (ValueError, OSError) as error:
        print(error_line(error), file=sys.stderr)
        return _TRAINING_FAILED if isinstance(error, TrainingError) else BAD_INPUT
    except KeyboardInterrupt as interrupt:
        # The line begins below a progress bar.
        hint = f"; {interrupt}" if str(interrupt) else ""
        print(f"\ncdjax: interrupted{hint}", file=sys.stderr, flush=True)
        return _INTERRUPTED


def _dispatch(arguments: Sequence[str]) -> int:
    width = max(map(len, COMMANDS)) + 2
    listed = "\n".join(f"  {name:{width}}{about}" for name, about in COMMANDS.items())
    parser = Parser(
        prog="cdjax",
        usage="cdjax COMMAND ...",
        description="Universal style transfer in JAX with compressed networks.",
        epilog=f"commands:\n{listed}\n\ncdjax COMMAND --help shows the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="see below")
    options = parser.parse_args(arguments[:1])
    if options.version:
        print(f"cdjax {version('cdjax')}")
        return 0
    if options.command is None:
        parser.print_help()
        return 0
    if options.command not in COMMANDS:
        parser.error(f"no command {options.command!r}; there are {', '.join(COMMANDS)}")
    return int(import_module(f"cdjax.cli.{options.command}").run(arguments[1:]))
