"""The one protocol between a benchmark and the processes that it measures.

    python -m experiments.benchmarks.worker

A worker reads a line of JSON, its task, from standard input. The task's `load` names a function,
`module:function`, that is called with the task and returns a `Work`. The worker answers with a line
of JSON that says what it is. Every further line requests a run, `{"inputs": [FILE.npy, ...],
"save": FILE.npy or null}`, and is answered with a line that holds `seconds`, `compiling`, the
`peak` of memory, of the GPU or else of the process, and what the run itself reports.

This module imports neither JAX nor PyTorch: a worker holds only the one that it measures.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
PAUSE = 0.5
"""Seconds before a turn, in which the threads of the other workers go to sleep."""

Answer = dict[str, Any]
Run = tuple[Answer, Callable[[], NDArray[Any]]]
"""What a run reports beside its time, and a function that returns the resulting array."""


class WorkerError(RuntimeError):
    """A process that failed; the message is one line."""


@dataclass(frozen=True)
class Work:
    """What a worker measures.

    Attributes:
        about: `device`, `platform` and `version` of the library.
        run: computes once, from the arrays of the request's inputs.
        device_peak: the most bytes that a GPU ever held; None where the device is the processor.
        compiling: seconds spent in compilation since the start.
    """

    about: dict[str, Any]
    run: Callable[..., Run]
    device_peak: Callable[[], int | None]
    compiling: Callable[[], float] = lambda: 0.0


def failure(name: str, code: int, errors: IO[bytes]) -> WorkerError:
    """The error of a process that ended with a code; `errors` is the file of what it printed."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().split("\n")
    last = "out of memory?" if code == -signal.SIGKILL else lines[-1].strip()[:300]
    return WorkerError(f"the {name} process ended with {code}: {last}")


@contextmanager
def worker(
    name: str, task: Mapping[str, Any], *, cache: Path, allocator: str = ""
) -> Iterator[tuple[Answer, Callable[..., Answer]]]:
    """A worker that has loaded its task and waits; it ends with the context.

    Yields what the worker reported of itself, and a function `run(*inputs, save=None)` of .npy
    files, which returns the answer; the result is written to `save` after the time is taken. Both
    raise `WorkerError` if the process ends before it answers.

    Args:
        name: what messages call it.
        task: `load`, and what that function needs.
        cache: folder of compiled programs.
        allocator: GLIBC_TUNABLES of the process.
    """
    # The allocator is tuned as told, not as the parent's.
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment |= ({"GLIBC_TUNABLES": allocator} if allocator else {}) | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # Several processes share a GPU.
    }
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):

        def ask(request: Mapping[str, Any]) -> Answer:
            assert process.stdin
            assert process.stdout
            with suppress(BrokenPipeError):  # That it has ended is found out below.
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            if line := process.stdout.readline():
                return dict(json.loads(line))
            raise failure(name, process.wait(), errors)

        def run(*inputs: Path, save: Path | None = None) -> Answer:
            return ask({"inputs": [str(path) for path in inputs], "save": save and str(save)})

        try:
            yield ask(task), run
        finally:
            process.kill()


def summary(answers: Sequence[Answer]) -> Answer:
    """The seconds of several runs, and the peak of the process's memory."""
    return {
        "seconds": [answer["seconds"] for answer in answers],
        "compiling": answers[0]["compiling"],
        "peak": answers[-1]["peak"],
    }


def host_peak(process: int | str = "self") -> int:
    """The most bytes of memory that a process ever held, by default this one; `/proc` has it."""
    # Not getrusage: its figure starts at what the parent held when it forked.
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def main() -> None:
    """Serves one task until standard input ends."""
    task = json.loads(sys.stdin.readline())
    module, _, function = task["load"].partition(":")
    work: Work = getattr(importlib.import_module(module), function)(task)
    print(json.dumps(work.about), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        inputs = [np.load(path) for path in request["inputs"]]
        before, start = work.compiling(), time.perf_counter()
        facts, result = work.run(*inputs)
        answer = {"seconds": time.perf_counter() - start, "compiling": work.compiling() - before}
        answer |= {"peak": work.device_peak() or host_peak(), **facts}
        if request["save"]:
            np.save(request["save"], result())
        del result  # Two results at once are not part of a run's memory.
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
