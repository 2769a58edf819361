"""Ctrl-C: work runs in a thread of its own, and stops between two files."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class InterruptGuard:
    """Protects the writing of files and the printing of progress from an interruption."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _interrupted: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def protected(self) -> Iterator[None]:
        """Delays an interruption until the context ends; raises if one came before."""
        with self._lock:
            if self._interrupted.is_set():
                raise KeyboardInterrupt
            yield

    def interrupt(self) -> None:
        """Forbids further protected contexts, and waits for the one that is open, if any."""
        self._interrupted.set()  # First: another interruption may end the waiting.
        with self._lock:
            pass


def run_interruptibly(function: Callable[[InterruptGuard], _T]) -> _T:
    """Calls a function in another thread, so that Ctrl-C is answered at once.

    While JAX compiles or computes, the main thread would notice Ctrl-C only after minutes, or never
    if the exception is raised inside a callback.

    The function is called with the guard under which it writes files and prints. Its exceptions
    are raised here.

    Raises:
        KeyboardInterrupt: on Ctrl-C, once no protected context is open. The function may go on
            computing until the process ends, but writes nothing any more.
    """
    guard = InterruptGuard()
    worker = ThreadPoolExecutor(1, "cdjax-run")
    try:
        return worker.submit(function, guard).result()
    except KeyboardInterrupt:
        guard.interrupt()
        raise
    finally:
        worker.shutdown(wait=False)
