"""Standard streams whose other end is closed, full or slow."""

import errno
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cdjax.cli.streams import Descriptor


def test_what_is_printed_arrives() -> None:
    read, write = os.pipe()
    with io.TextIOWrapper(io.BufferedWriter(Descriptor(write)), line_buffering=True) as stream:
        print("a line", file=stream)
    os.close(write)
    assert os.read(read, 100) == b"a line\n"
    os.close(read)


def test_a_full_disk_is_kept_and_not_raised() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        stream = Descriptor(full.fileno())
        assert stream.write(b"") == 0
        assert stream.error is None
        assert stream.write(b"line") == 4
    assert stream.error is not None
    assert stream.error.errno == errno.ENOSPC


def test_after_a_failure_nothing_more_is_written() -> None:
    read, write = os.pipe()
    stream = Descriptor(write, OSError(errno.EBADF, "closed"))
    assert stream.error is None
    assert stream.write(b"first") == stream.write(b"after") == 5
    assert stream.error is not None
    os.close(write)
    assert os.read(read, 100) == b""
    os.close(read)


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_everything() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    data, received = bytes(300_000), bytearray()

    def receive() -> None:
        while part := os.read(read, 50_000):
            time.sleep(0.001)
            received.extend(part)

    thread = threading.Thread(target=receive)
    thread.start()
    stream = Descriptor(write)
    assert stream.write(data) == len(data)
    os.close(write)
    thread.join(10)
    os.close(read)
    assert bytes(received) == data
    assert stream.error is None


@pytest.mark.parametrize(
    ("redirected", "status", "error"),
    [
        ("", 0, ""),
        (
            ">/dev/full",
            2,
            "cdjax: error: standard output cannot be written (No space left on device)",
        ),
        (">&-", 2, "cdjax: error: standard output cannot be written (Bad file descriptor)"),
        (">/dev/full 2>/dev/full", 2, ""),
        (">&- 2>&- <&-", 2, ""),
        ("2>&-", 0, ""),
    ],
)
def test_the_exit_status_tells_whether_stdout_took_everything(
    tmp_path: Path, redirected: str, status: int, error: str
) -> None:
    command = f'"$0" -m cdjax models {redirected}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable], capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert done.stderr == (f"{error}\n" if error else "")
    assert ("wct-16x" in done.stdout) == (status == 0)


def test_the_reader_of_a_pipe_may_leave() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "cdjax", "models"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (2, "")
