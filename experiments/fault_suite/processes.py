"""Commands of cdjax in processes that can be limited, watched and killed.

They are forked from a server that has imported the modules already, so a command starts in a
fraction of the time. Where many commands follow each other, a `Worker` runs them in one process,
which keeps compiled programs.
"""

import ctypes
import importlib
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Self

MEMORY = 2**31
"""Bytes above what a worker holds before a command that the command may take."""
_HARD_MEMORY = 2**32
"""Bytes of address space above it, beyond which allocations fail; it spares the machine."""
_PRELOADED = (
    "jax", "flax", "numpy", "orbax.checkpoint", "tensorstore", "PIL.Image", "pyvips",
    "cdjax.cli.main", "cdjax.cli.stylize", "cdjax.cli.batch", "cdjax.cli.painting",
    "cdjax.cli.convert", "cdjax.cli.optimize", "cdjax.checkpoints.pytorch",
    "cdjax.checkpoints.store", "cdjax.optimization.optimize",
)  # fmt: skip
_PRELOADED_TO_TRAIN = (
    "tyro", "grain", "matplotlib.figure", "tensorboardX", "cdjax.cli.distill",
    "cdjax.cli.distill_options", "cdjax.cli.distill_report", "cdjax.cli.training_log",
    "cdjax.distillation.pipeline",
)  # fmt: skip
_QUICK = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_cpu_multi_thread_eigen=false"
)
_STEP, _PATIENCE = 0.5, 10
_MAIN = "cdjax.cli.main:main"
_DAC_OVERRIDE, _DAC_READ_SEARCH, _CAPABILITIES = 1, 2, 0x20080522  # Of linux/capability.h.


@dataclass(frozen=True)
class Limits:
    """What a command may do.

    Attributes:
        file_bytes: size of the largest file that it can write; None: any.
        without_root: whether root's right to ignore permissions is taken from it.
        environment: variables that differ.
    """

    file_bytes: int | None = None
    without_root: bool = False
    environment: tuple[tuple[str, str], ...] = ()


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: its exit status, negative if a signal ended it; None if it did not end in time.
        said: what it wrote to stderr, that of libraries included.
        printed: what it wrote to stdout.
        seconds: that it took.
        memory: bytes that it took at most, beyond what its process held; 0 if unknown.
    """

    status: int | None
    said: str
    printed: str
    seconds: float
    memory: int = 0


def server(cache: Path, *, train: bool) -> ForkServerContext:
    """The server that processes are forked from; it starts with the first of them.

    Args:
        cache: folder of the compiled programs.
        train: whether so many of them distil that it imports what that needs.
    """
    os.environ |= {
        "CDJAX_CACHE": str(cache),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
        # Programs that compile fast: what they compute is the same in every run.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {_QUICK}",
        # Otherwise commands start again to tune the allocator.
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=134217728"),
    }
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_PRELOADED, *(_PRELOADED_TO_TRAIN if train else ())])
    return context


class Command:
    """A command that runs in a process of its own.

    Args:
        context: `server`.
        arguments: of `cdjax`.
        folder: the current folder of the process.
        limits: of the process.
    """

    def __init__(
        self,
        context: ForkServerContext,
        arguments: Sequence[str],
        folder: Path,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self._streams = Path(tempfile.mkdtemp())
        names = tuple(str(self._streams / name) for name in ("out", "err"))
        self._process: ForkServerProcess = context.Process(
            target=_run, args=(list(arguments), str(folder), limits, names)
        )
        self._began = time.monotonic()
        self._process.start()

    def kill(self) -> None:
        """Ends the process by SIGKILL."""
        self._process.kill()

    def running(self, seconds: float) -> bool:
        """Waits for the end, but not longer; whether it is still running."""
        self._process.join(seconds)
        return self._process.exitcode is None

    def wait(self, seconds: float) -> Ended:
        """How it ended; it is killed after so much processor time, or ten times as long."""
        if not _patiently(lambda step: not self.running(step), self._process, seconds):
            self.kill()
            self._process.join()
            status = None
        else:
            status = self._process.exitcode
        taken = time.monotonic() - self._began
        said, printed = (_text(str(self._streams / name)) for name in ("err", "out"))
        shutil.rmtree(self._streams)
        return Ended(status, said, printed, taken)


def _patiently(ended: Callable[[float], bool], process: ForkServerProcess, seconds: float) -> bool:
    """Whether something ends before a process took so much processor time, or ten times that.

    On a machine that is shared, processes wait for each other, and may be stopped for a while.
    """
    begun = _processor_time(process)
    for _ in range(max(1, round(_PATIENCE * seconds / _STEP))):
        if ended(_STEP):
            return True
        if _processor_time(process) - begun > seconds:
            return False
    return False


def _processor_time(process: ForkServerProcess) -> float:
    """Seconds of processor time that a process has taken; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _text(path: str) -> str:
    file = Path(path)
    return file.read_text(errors="replace") if file.exists() else ""


def _run(arguments: list[str], folder: str, limits: Limits, names: tuple[str, ...]) -> None:
    """The process of a command, which ends with its exit status."""
    _redirect(names)
    os.chdir(folder)
    os.environ.update(limits.environment)
    if limits.without_root:
        _drop_root()
    if limits.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes,) * 2)
    from cdjax.cli.main import command

    command(arguments)


def _redirect(names: tuple[str, ...]) -> None:
    """Has this process write what goes to stdout and stderr to files, at their ends."""
    for name, descriptor in zip(names, (1, 2), strict=True):
        file = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(file, descriptor)
        os.close(file)


def _drop_root() -> None:
    """Takes from root the right to read and write what permissions forbid."""
    if os.geteuid():
        return
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    sets = (ctypes.c_uint32 * 6)()
    library.capget(header, sets)
    kept = ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    for number in range(3):  # The first word of the effective, permitted and inheritable sets.
        sets[number] &= kept
    if library.capset(header, sets):
        raise OSError(ctypes.get_errno(), "root's rights cannot be dropped")


class Worker:
    """A process that runs one command after the other; a context.

    A command that does not end in time, or ends the process, costs a new process.

    Args:
        context: `server`.
    """

    def __init__(self, context: ForkServerContext) -> None:
        self._context = context
        self._process: ForkServerProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(
        self, arguments: Sequence[str], folder: Path, *, seconds: float, call: str = ""
    ) -> Ended:
        """Runs a command in a folder.

        Args:
            arguments: of `cdjax`.
            folder: the current folder.
            seconds: of processor time after which the process is ended, or ten times as long.
            call: `module:function` that is called with the arguments instead.
        """
        if self._process is None:
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        assert self._pipe is not None
        began = time.monotonic()
        with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
            request = (call or _MAIN, list(arguments), str(folder), (out.name, err.name))
            answer: tuple[int, int] | None = None
            with suppress(EOFError, OSError):
                self._pipe.send(request)
                if _patiently(self._pipe.poll, self._process, seconds):
                    answer = self._pipe.recv()
            taken = time.monotonic() - began
            if answer is not None:
                status, memory = answer
                return Ended(status, _text(err.name), _text(out.name), taken, memory)
            self._process.join(2)  # If the command ended its process.
            code = self._process.exitcode
            self._end()
            return Ended(code, _text(err.name), _text(out.name), taken)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None


def _serve(pipe: Connection) -> None:
    """Runs what comes through a pipe, until that is closed."""
    started = False
    while True:
        try:
            call, arguments, folder, names = pipe.recv()
        except EOFError:
            return
        _redirect(names)
        os.chdir(folder)
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # The peak starts anew.
        if started:
            space = _memory("VmSize") + _HARD_MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (space, resource.RLIM_INFINITY))
        status = _status(call, arguments)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        os.chdir("/")
        pipe.send((status, max(0, _memory("VmHWM") - before)))
        started = True  # Once the backend has its threads and arenas.


def _status(call: str, arguments: list[str]) -> Any:
    """The exit status of a command in this process; of an uncaught exception, its traceback."""
    module, _, function = call.partition(":")
    try:
        return getattr(importlib.import_module(module), function)(arguments)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _memory(name: str) -> int:
    """A figure of /proc/self/status in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))
