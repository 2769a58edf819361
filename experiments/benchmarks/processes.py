"""Whole processes, from their start to the last file that they write."""

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from experiments.benchmarks.worker import ROOT, Answer, failure, host_peak

_PAUSE = 0.02
"""Seconds between two looks at the memory of a process."""


def run_process(
    name: str, command: Sequence[str], environment: Mapping[str, str], output: Path, files: int
) -> Answer:
    """Runs a process that writes `files` files to the empty folder `output`.

    Returns:
        `seconds` to the last file, and `peak`, the most bytes of memory that the process held.

    Raises:
        WorkerError: if the process fails, or writes another number of files.
    """
    peak, began = 0, time.time()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=errors
        ) as process,
    ):
        try:
            while process.poll() is None:
                with suppress(OSError, StopIteration):  # It has just ended.
                    peak = max(peak, host_peak(process.pid))
                time.sleep(_PAUSE)
        finally:
            process.kill()
        # A file that is renamed once it is whole keeps the time at which it was written.
        times = [path.stat().st_ctime for path in output.iterdir()]
        if process.returncode or len(times) != files:
            raise failure(name, process.returncode, errors)
    return {"seconds": max(times) - began, "peak": peak}
