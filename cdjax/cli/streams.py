"""Standard streams that may be closed, full, or a pipe or terminal whose other end is gone."""

import errno
import io
import os
import select
import signal
import sys
from typing import Any


class Descriptor(io.RawIOBase):
    """Writes to a file descriptor; a failure is kept in `error` instead of raised.

    Printing must not end the work. After the first failure nothing more is written, so that what
    was written has no gaps.

    Args:
        descriptor: open for writing.
        error: a failure that is known already.
    """

    def __init__(self, descriptor: int, error: OSError | None = None) -> None:
        self._descriptor = descriptor
        self._known = error
        self.error: OSError | None = None

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        """Writes all bytes, or keeps the error; returns their number in both cases."""
        left = memoryview(data).cast("B")
        size = len(left)
        if left:
            self.error = self.error or self._known
        while left and self.error is None:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # Somebody made it non-blocking, and the reader is slow.
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.error = error
        return size


def ignore_hangup() -> None:
    """Goes on after the terminal was closed; the setting survives a new start of the process."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def use_forgiving_streams() -> Descriptor:
    """Replaces `sys.stdout` and `sys.stderr` by streams that never raise; returns stdout's.

    A standard descriptor that is closed is opened on the null device. Otherwise the next file that
    the process opens would get its number, and receive what libraries print.
    """
    closed = [_reserve(descriptor) for descriptor in (0, 1, 2)]
    out, err = (Descriptor(number, closed[number]) for number in (1, 2))
    for name, raw in (("stdout", out), ("stderr", err)):
        encoding = getattr(getattr(sys, name), "encoding", None) or "utf-8"
        buffer = io.BufferedWriter(raw)
        stream = io.TextIOWrapper(
            buffer, encoding=encoding, errors="backslashreplace", line_buffering=True
        )
        setattr(sys, name, stream)
    return out


def _reserve(descriptor: int) -> OSError | None:
    """Opens the null device on a descriptor that is closed; returns the error of its use."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
        return OSError(errno.EBADF, os.strerror(errno.EBADF))
    return None
