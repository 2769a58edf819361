"""Pictures from standard input and to standard output."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdjax.cli.jobs import STDIN
from cdjax.errors import ImageError, UsageError

_MOST = 2**32
"""Bytes that are read from standard input."""
_AT_ONCE = 2**20


def read_standard_input() -> None:
    """Makes `/dev/stdin` a file that can be opened any number of times.

    What comes through a pipe is copied to a temporary file without a name, which becomes the
    process's standard input.

    Raises:
        UsageError: if standard input is closed or a terminal, or the system has no `/dev/stdin`
            that is opened anew.
        ImageError: if it is larger than 4 GiB.
    """
    if sys.stdin is None:
        raise UsageError("-: standard input is closed")
    if not Path("/proc/self/fd/0").exists():
        raise UsageError("-: this system cannot open standard input as a file; give a file")
    if os.isatty(0):
        raise UsageError("-: standard input is a terminal; give it a picture: ... < FILE")
    if STDIN.is_file():
        return
    with tempfile.TemporaryFile() as file:
        left = _MOST
        while data := os.read(0, min(left + 1, _AT_ONCE)):
            left -= len(data)
            if left < 0:
                raise ImageError(f"-: more than {_MOST // 2**30} GiB on standard input")
            file.write(data)
        file.flush()
        os.dup2(file.fileno(), 0)


@contextmanager
def standard_output() -> Iterator[Path]:
    """Yields a path; the PNG that is there at the end of the context goes to standard output.

    Raises:
        UsageError: if standard output is a terminal.
    """
    if sys.stdout.isatty():
        raise UsageError("output -: standard output is a terminal; redirect it: ... > FILE.png")
    with tempfile.TemporaryDirectory(prefix="cdjax-") as folder:
        path = Path(folder, "stdout.png")
        yield path
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer, _AT_ONCE)
        sys.stdout.buffer.flush()
