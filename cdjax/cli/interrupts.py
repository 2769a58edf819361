"""Ctrl-C: a gate that closes between two files."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gate:
    """Through which files are written and progress is shown, until another thread closes it."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Keeps the gate open for as long as the context lasts.

        Raises:
            KeyboardInterrupt: if it is closed.
        """
        with self._lock:
            if self._closed.is_set():
                raise KeyboardInterrupt
            yield

    def close(self) -> None:
        """Returns when nothing is being written, and nothing will be any more."""
        with self._lock:
            self._closed.set()
