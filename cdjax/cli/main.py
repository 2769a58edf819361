"""The command `cdjax`: finds the subcommand, runs it, and turns errors into an exit status.

A subcommand is a module of this package with a function `run(arguments)`, imported only when it is
called; within it, heavy modules are imported only when they are needed. So help and wrong use are
answered at once.
"""

import argparse
import errno
import gc
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn

from cdjax.cli.allocator import STYLISATION, TRAINING, check_address_space, start_again_tuned
from cdjax.cli.parser import BAD_INPUT, Parser, error_line
from cdjax.cli.progress import print_line
from cdjax.cli.streams import ignore_hangup, use_forgiving_streams
from cdjax.errors import TrainingError, first_line

COMMANDS = {
    "stylize": "repaint photographs in the style of paintings",
    "sheet": "show every photograph in every style on one picture, for choosing",
    "video": "repaint films, without flicker where nothing moves",
    "texture": "make a texture of a painting from noise",
    "optimize": "repaint a photograph by optimising its pixels (Gatys et al.); much slower",
    "distill": "compress a style-transfer network by collaborative distillation",
    "evaluate": "measure models against their teacher on photographs",
    "convert": "convert PyTorch weights, or combine models, into a checkpoint",
    "export": "write a model as a program for other runtimes: ONNX or StableHLO",
    "serve": "open a page on which photographs are painted",
    "models": "list the models that can be loaded by name",
    "samples": "make a landscape and a painting to try it on",
    "cache": "show or clear the folder of compiled programs",
}
"""The subcommands and what they do."""

_TUNABLES = {
    **dict.fromkeys(("stylize", "serve", "sheet", "video", "texture"), STYLISATION),
    **dict.fromkeys(("optimize", "distill"), TRAINING),
}
_WITHOUT_JAX = ("models", "samples", "cache")
_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "can't start new thread")
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
    """Runs a command as a process: `main`, with the process tuned for it, then the end.

    Whatever stdout and stderr are, the work goes on. The status is 2 if stdout could not take all
    that was printed.
    """
    ignore_hangup()
    given = sys.argv[1:] if arguments is None else list(arguments)
    name = given[0] if given else ""
    if name in _TUNABLES:
        start_again_tuned(_TUNABLES[name])
    out = use_forgiving_streams()
    if name == "distill":  # JAX ends a run on several machines at exit.
        sys.exit(main(given))
    # Most of the objects that tracing creates live on: to search them for garbage takes long.
    gc.set_threshold(100_000)
    try:
        status = main(given)
    except KeyboardInterrupt:  # A second one.
        status = _INTERRUPTED
    except BaseException:  # At its usual end, the interpreter would wait for all threads.
        traceback.print_exc()
        status = _TRAINING_FAILED
    sys.stdout.flush()
    if out.error:
        status = status or BAD_INPUT
        if out.error.errno != errno.EPIPE:  # The reader of a pipe chose to read no more.
            reason = out.error.strerror
            print_line(error_line(f"standard output cannot be written ({reason})"))
    sys.stderr.flush()
    # All files are written; to take the interpreter apart would take long, too.
    os._exit(status)


def exit_status(run: Callable[[], int]) -> int:
    """The exit status that `run` returns; its errors are printed in one line on stderr."""
    try:
        with warnings.catch_warnings():
            # What users need to know about a file is printed as our own lines.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.showwarning = _print_warning
            return run()
    except SystemExit as done:
        return int(done.code or 0)
    except (ValueError, OSError) as error:
        print_line(error_line(_without_folder(error) or error))
        return _TRAINING_FAILED if isinstance(error, TrainingError) else BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(n in str(error) for n in _OUT_OF_MEMORY):
            raise
        print_line(error_line(f"out of memory ({first_line(error)})"))
        return BAD_INPUT
    except ImportError as error:
        if "shared object" not in str(error):
            raise
        what = f"a library cannot be loaded ({first_line(error)}); give it more memory (ulimit -v)"
        print_line(error_line(f"{what}, or install it again"))
        return BAD_INPUT
    except KeyboardInterrupt as interrupt:
        # On a terminal, the line begins below a progress bar.
        begin = "\n" if sys.stderr and sys.stderr.isatty() else ""
        hint = f"; {interrupt}" if str(interrupt) else ""
        print(f"{begin}cdjax: interrupted{hint}", file=sys.stderr, flush=True)
        return _INTERRUPTED


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    text = " ".join(str(message).split())
    # What cannot be read from the cache, or kept there, is compiled again.
    if "persistent compilation cache" not in text:
        print_line(f"cdjax: warning: {text}")


def _without_folder(error: Exception) -> str:
    """What is wrong if an error is only that the current folder was deleted, else nothing."""
    if isinstance(error, FileNotFoundError) and error.filename is None:
        try:
            os.getcwd()
        except FileNotFoundError:
            return "the current folder does not exist any more; change to another one"
    return ""


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
    if options.command not in _WITHOUT_JAX and not {"-h", "--help"} & set(arguments):
        check_address_space()
    return int(import_module(f"cdjax.cli.{options.command}").run(arguments[1:]))
