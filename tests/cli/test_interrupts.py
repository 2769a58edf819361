"""Ctrl-C, and again Ctrl-C."""

import signal
import threading

import pytest

from cdjax.cli.interrupts import InterruptGuard


def test_a_second_interruption_does_not_undo_the_first() -> None:
    guard, opened, close = InterruptGuard(), threading.Event(), threading.Event()

    def write() -> None:
        with guard.protected():
            opened.set()
            close.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    opened.wait(60)
    again = threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    again.start()
    with pytest.raises(KeyboardInterrupt):
        guard.interrupt()
    close.set()
    writer.join()
    with pytest.raises(KeyboardInterrupt), guard.protected():
        raise AssertionError("a file would be written after the interruption")
