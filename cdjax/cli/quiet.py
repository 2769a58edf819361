"""Keeps other libraries from printing what reaches us as an exception, and is said in one line."""

import ctypes
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def only_our_lines() -> Iterator[None]:
    """Silences tracebacks of other libraries' threads, and what Orbax logs, until the context ends.

    When a checkpoint cannot be written, Orbax and TensorStore print hundreds of lines, and then
    raise the error to us.
    """
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    log = logging.getLogger("absl")
    disabled = log.disabled
    sys.excepthook = threading.excepthook = sys.unraisablehook = _say_nothing
    log.disabled = True
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        log.disabled = disabled


def _say_nothing(*_: object) -> None:
    pass


def silence_decoders() -> None:
    """Keeps Pillow, its libtiff, and pyvips from printing what is wrong with a file.

    They raise it, too. To be called when Pillow is imported; without /proc libtiff is not found.
    """
    for library in ("PIL", "pyvips"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    with suppress(OSError, AttributeError):
        maps = Path("/proc/self/maps").read_text().splitlines()
        names = {line.split(maxsplit=5)[-1] for line in maps if "/libtiff" in line}
        for name in names:
            ctypes.CDLL(name).TIFFSetErrorHandler(None)
