"""Keeps other libraries from printing what reaches us as an exception, and is said in one line."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
