"""The processes that are measured, and the one protocol of those that wait for requests.

    python -m experiments.benchmarks.worker

A worker reads a line of JSON, its task, from standard input. The task's `load` names a function of
this package, `module:function`, that is called with the task and returns a `Run`. The worker
answers with a line of JSON that says what it is: `about` of the module, called with the task. Every
further line requests a run, `{"inputs": [FILE.npy, ...], "save": FILE.npy or null}`, and is
answered with a line that holds `seconds`, `compiling`, the `peak` of memory, of the GPU or else of
the process, and what the run itself reports. `counters` of the module returns the seconds of
`compiling` since the start, and the `peak` of a GPU, which is 0 or None without one.

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
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
PAUSE = 0.5
"""Seconds before a turn, in which the threads of the other workers go to sleep."""

Answer = dict[str, Any]
Run = Callable[..., tuple[NDArray[Any], Answer]]
"""Computes once, from the arrays of a request's inputs: the result, and what the run reports."""


class WorkerError(RuntimeError):
    """A process that failed; the message is one line."""


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
    """The last of several answers, with the seconds of all and the highest peak."""
    peak = max(answer["peak"] for answer in answers)
    return answers[-1] | {"seconds": [answer["seconds"] for answer in answers], "peak": peak}


def host_peak(process: int | str = "self") -> int:
    """The most bytes of memory that a process ever held, by default this one; `/proc` has it."""
    # Not getrusage: its figure starts at what the parent held when it forked.
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


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
                time.sleep(0.02)
        finally:
            process.kill()
        # A file that is renamed once it is whole keeps the time at which it was written.
        times = [path.stat().st_ctime for path in output.iterdir()]
        if process.returncode or len(times) != files:
            raise failure(name, process.returncode, errors)
    return {"seconds": max(times) - began, "peak": peak}


def main() -> None:
    """Serves one task until standard input ends."""
    task = json.loads(sys.stdin.readline())
    name, _, function = task["load"].partition(":")
    module: Any = importlib.import_module(f"experiments.benchmarks.{name}")
    compute: Run = getattr(module, function)(task)
    print(json.dumps(module.about(task)), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        inputs = [np.load(path) for path in request["inputs"]]
        before, start = module.counters()["compiling"], time.perf_counter()
        result, facts = compute(*inputs)
        answer = {"seconds": time.perf_counter() - start, **module.counters(), **facts}
        answer["compiling"] -= before
        answer["peak"] = answer["peak"] or host_peak()
        if request["save"]:
            np.save(request["save"], result)
        del result  # Two results at once are not part of a run's memory.
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
