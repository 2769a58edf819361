"""What standard input and output are for: pictures, and lines of JSON."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from cdjax.cli.interrupts import InterruptGuard, run_interruptibly
from cdjax.cli.jobs import STANDARD, STDIN, Job, Outcome
from cdjax.cli.outputs import already_exists
from cdjax.cli.progress import print_line
from cdjax.errors import ImageError, UsageError
from cdjax.io.images import image_size

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


def print_outcome(outcome: Outcome) -> None:
    """Prints an outcome as a line of JSON on standard output."""
    print_line(outcome.to_json(), sys.stdout)


def already_there(job: Job) -> Outcome:
    """The outcome of a job whose output exists."""
    found = image_size(job.output)
    return Outcome(job, "already there", size=found and (found[1], found[0]))


def refuse_existing(job: Job, *, json: bool) -> UsageError:
    """The error of a job whose output exists; prints the outcome before if `json`."""
    if json:
        print_outcome(already_there(job))
    return already_exists(job.output)


def make_reported(
    planned: Job, make: Callable[[Job, InterruptGuard], tuple[int, int]], *, json: bool
) -> None:
    """Does what `make_file` does; the result may also go to standard output."""
    with standard_output([planned], json=json) as (job,):
        make_file(job, make, json=json)


def make_file(
    job: Job, make: Callable[[Job, InterruptGuard], tuple[int, int]], *, json: bool
) -> None:
    """Makes the result of a job in an interruptible thread, and prints the outcome if `json`.

    `make` returns the width and height of the result; its errors are raised again.
    """
    began = time.monotonic()
    try:
        size = run_interruptibly(partial(make, job))
    except (ValueError, OSError) as error:
        if json:
            print_outcome(Outcome(job, "failed", str(error), time.monotonic() - began))
        raise
    if json:
        print_outcome(Outcome(job, "made", None, time.monotonic() - began, size))


@contextmanager
def standard_output(jobs: Sequence[Job], *, json: bool) -> Iterator[Sequence[Job]]:
    """Yields jobs that write files; if the only one was for standard output, its file goes there.

    Only a whole PNG is written, at the end of the context.

    Args:
        jobs: one for standard output, or any number of others.
        json: whether outcomes are printed there.

    Raises:
        UsageError: if standard output is to take a picture, and is a terminal or takes outcomes.
    """
    if jobs[0].output != STANDARD:
        yield jobs
        return
    if json:
        raise UsageError("--json: standard output takes the picture; give OUT a name")
    if sys.stdout.isatty():
        raise UsageError("output -: standard output is a terminal; redirect it: ... > FILE.png")
    with tempfile.TemporaryDirectory(prefix="cdjax-") as folder:
        path = Path(folder, "stdout.png")
        yield [replace(jobs[0], output=path)]
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer, _AT_ONCE)
        sys.stdout.buffer.flush()
