"""Making the pictures of a command line on the machines of a Ray cluster.

Every machine, or every one of its GPUs, has a worker. It loads the model once, keeps its compiled
programs, and makes one picture after the other as `cdjax.cli.batch` makes them.
"""

import logging
import os
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdjax.cli.batch import Make, attempt, encode_all, make_one, styles_of
from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import Job, Outcome, Settings
from cdjax.cli.quiet import silence_decoders
from cdjax.errors import ImageError, UsageError, first_line
from cdjax.io.leftovers import temporary_file
from cdjax.io.remote import Address
from cdjax.io.streaming import open_picture

if TYPE_CHECKING:
    from cdjax.model import Model
    from cdjax.transfer.stylize import Style

_TRIES = 3
"""Workers that may die of one task, or one after the other before they have started."""


@contextmanager
def cluster(address: str) -> Iterator[Make]:
    """Connects to a Ray cluster until the context ends; yields what makes pictures there.

    To be called in the main thread: when the thread that started a local Ray ends, so does Ray.

    Args:
        address: of a cluster, or `"local"` to start Ray on this machine alone.

    Raises:
        UsageError: if there is no Ray at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Asks nobody else.
    import ray

    with suppress(ImportError):  # Ray says on stdout, in many lines, that a worker died.
        from ray._private import worker

        worker.print_to_stdstream = lambda *_, **__: None
    options: Any = {"include_dashboard": False} if address == "local" else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, **options, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # So says Ray that it takes too long to start.
        raise UsageError(f"--ray {address}: {first_line(error)}") from error
    signal.signal(signal.SIGTERM, handler)
    idle = threading.Event()
    idle.set()
    try:
        yield partial(_there, idle)
    finally:
        idle.wait(5)  # For the thread that an interruption left.
        ray.shutdown()


@contextmanager
def _there(
    idle: threading.Event,
    jobs: Sequence[Job],
    load: Callable[[], "Model"],
    settings: Settings,
    guard: InterruptGuard,
) -> Iterator[Iterator[Outcome]]:
    """Does what `cdjax.cli.batch.here` does on the cluster; `idle` is set when that is done."""
    import jax
    import numpy as np
    import ray

    idle.clear()
    team = None
    try:
        jax.config.update("jax_platforms", "cpu")  # The GPUs are for the workers.
        model = ray.put(jax.tree.map(np.asarray, load()))
        with _seen_by_all(jobs) as seen:
            team = _Team((model, settings, os.getcwd(), seen), len(jobs), guard)
            yield _outcomes(team, jobs, settings)
    finally:
        if team:
            team.dismiss()
        idle.set()


def _outcomes(team: "_Team", jobs: Sequence[Job], settings: Settings) -> Iterator[Outcome]:
    """Encodes the styles, and then makes the pictures."""
    import ray

    encoded: dict[tuple[Path, ...], Any] = {}
    if settings.preserve_color != "match":  # There, every content has its own.
        firsts = [next(group) for _, group in groupby(jobs, key=lambda job: job.styles)]
        for job, (styles, _) in zip(
            firsts, team.results("encode", [(job,) for job in firsts]), strict=True
        ):
            lost = styles is None
            encoded[job.styles] = ray.put(_given_up(job.styles[0]) if lost else styles)
    tasks = [(job, encoded.get(job.styles)) for job in jobs]
    for job, (outcome, deaths) in zip(jobs, team.results("make", tasks), strict=True):
        if outcome is None:
            yield Outcome(job, "failed", str(_given_up(job.content)))
        elif deaths and outcome.status == "already there":  # By the worker that died since.
            yield replace(outcome, status="made")
        else:
            yield outcome


def _given_up(path: Path) -> ImageError:
    return ImageError(f"{path}: {_TRIES} workers died of it; it may take more memory than there is")


@contextmanager
def _seen_by_all(jobs: Sequence[Job]) -> Iterator[str | None]:
    """Yields a file on the file system of the outputs; None if they are at addresses."""
    outputs = [job.output.absolute() for job in jobs if not isinstance(job.output, Address)]
    if not outputs:
        yield None
        return
    folder = next(parent for parent in outputs[0].parents if parent.is_dir())
    with temporary_file(folder / "seen", 0o644) as file:
        yield str(file)


class _Painter:
    """What a worker does; its instances live in processes of their own, on any machine."""

    _model: "Model"
    _settings: Settings

    def __init__(self) -> None:
        self._guard = InterruptGuard()
        self._used: tuple[tuple[Path, ...], Any] = ((), None)

    def start(self, model: "Model", settings: Settings, folder: str, seen: str | None) -> None:
        """Compiles what all pictures need.

        Args:
            model: with arrays of NumPy.
            settings: how every picture is made.
            folder: where relative paths begin.
            seen: a file that is there if the machine shares the file system of the outputs.

        Raises:
            UsageError: if it does not, or JAX does not start.
        """
        import jax

        from cdjax.cli.backend import start_backend
        from cdjax.cli.compilation_cache import use_compilation_cache
        from cdjax.cli.painting import compile_for

        if seen and not os.path.exists(seen):
            raise UsageError(
                f"--ray: {socket.gethostname()} does not see {os.path.dirname(seen)}; OUT and all "
                "inputs must be in folders that all machines share, or at addresses such as s3://"
            )
        with suppress(OSError):
            os.chdir(folder)
        silence_decoders()
        use_compilation_cache()
        start_backend()
        self._model = jax.tree.map(jax.numpy.asarray, model)
        self._settings = replace(settings, quiet=True)
        compile_for(self._model, self._settings)

    def encode(self, job: Job) -> "tuple[Style, ...] | Exception":
        """The styles of a job with arrays of NumPy, or why they cannot be encoded."""
        import jax
        import numpy as np

        styles = attempt(
            encode_all, self._model, job, self._read_styles(job), self._settings, self._guard
        )
        error = styles.exception()
        if isinstance(error, Exception):
            return error
        encoded: tuple[Style, ...] = jax.tree.map(np.asarray, styles.result())
        return encoded

    def make(self, job: Job, styles: "tuple[Style, ...] | Exception | None") -> Outcome:
        """Makes a picture in the styles that `encode` returned, or without them reads the files."""

        def given(*_: Any) -> "tuple[Style, ...]":
            if isinstance(styles, Exception):
                raise styles
            assert styles is not None
            return styles

        if styles is None and self._used[0] != job.styles:
            readings = self._read_styles(job)
            used = styles_of(self._model, job, readings, self._settings, self._guard)
            self._used = job.styles, used
        content = attempt(open_picture, job.content, self._settings.content_size)
        take = self._used[1] if styles is None else given
        return make_one(self._model, job, content, take, self._settings, self._guard)

    def _read_styles(self, job: Job) -> Iterator[Any]:
        return (attempt(open_picture, path, self._settings.style_size) for path in job.styles)


@dataclass
class _Worker:
    """A place in the cluster, whose actor is replaced when it dies.

    Attributes:
        options: what Ray needs to know to start the actor there.
        actor: the one that is there now.
        deaths: one after the other, before they had started.
    """

    options: dict[str, Any]
    actor: Any = None
    deaths: int = 0


class _Team:
    """The workers of all machines.

    Args:
        start: arguments of `_Painter.start`.
        most: workers that have something to do.
        guard: after an interruption of which nothing is waited for.
    """

    def __init__(self, start: tuple[Any, ...], most: int, guard: InterruptGuard) -> None:
        self._start, self._guard = start, guard
        self._idle: list[_Worker] = []
        self._busy: dict[Any, tuple[_Worker, int | None]] = {}
        for options in _places()[:most]:
            self._hire(_Worker(options))

    def results(
        self, method: str, tasks: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[Any | None, int]]:
        """What a method of `_Painter` returns for the arguments of every task, in their order.

        Yields:
            The result, or None if too many workers died of the task, and how many did.

        Raises:
            UsageError: if no worker starts, or none is left.
            Exception: of any kind, which the method raised.
        """
        waiting, done = deque(range(len(tasks))), dict[int, Any]()
        deaths: Counter[int] = Counter()
        for index in range(len(tasks)):
            while index not in done:
                while waiting and self._idle:
                    worker, task = self._idle.pop(), waiting.popleft()
                    running = getattr(worker.actor, method).remote(*tasks[task])
                    self._busy[running] = worker, task
                for worker, finished, result, alive in self._finished():
                    if alive:
                        worker.deaths = 0
                        self._idle.append(worker)
                    elif finished is None:
                        worker.deaths += 1
                    if not alive and worker.deaths < _TRIES:
                        self._hire(worker)
                    if finished is None:
                        continue
                    deaths[finished] += not alive
                    if alive or deaths[finished] == _TRIES:
                        done[finished] = result
                    else:
                        waiting.appendleft(finished)
            yield done.pop(index), deaths[index]

    def dismiss(self) -> None:
        """Ends all workers, whatever they do."""
        import ray

        for worker in (*self._idle, *(worker for worker, _ in self._busy.values())):
            with suppress(Exception):
                ray.kill(worker.actor)

    def _hire(self, worker: _Worker) -> None:
        import ray

        worker.actor = ray.remote(_Painter).options(**worker.options).remote()
        self._busy[worker.actor.start.remote(*self._start)] = worker, None

    def _finished(self) -> Iterator[tuple[_Worker, int | None, Any, bool]]:
        """Waits a moment; the workers that have done their task or start, or died of it.

        Yields:
            The worker, its task or None for its start, the result, and whether it is alive.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        with self._guard.protected():  # Raises after an interruption.
            pass
        if not self._busy:
            raise UsageError("--ray: no worker is alive; see the logs of Ray")
        for reference in ray.wait(list(self._busy), timeout=0.5)[0]:
            worker, task = self._busy.pop(reference)
            try:
                yield worker, task, ray.get(reference), True
            except RayTaskError as error:
                raise error.cause from None
            except RayError:
                with suppress(Exception):
                    ray.kill(worker.actor)  # Which may only be out of reach.
                yield worker, task, None, False


def _places() -> list[dict[str, Any]]:
    """The options of an actor for each GPU, or for all cores of a machine without one."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # The allocator of a worker is tuned as that of this process: `cdjax.cli.allocator`.
    tuned = {name: os.environ[name] for name in ("GLIBC_TUNABLES",) if name in os.environ}
    common = {"runtime_env": {"env_vars": tuned}} if tuned else {}
    places = []
    for node in ray.nodes():
        cores, gpus = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
        count = gpus or min(cores, 1)
        if node["Alive"] and count:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            own = {"num_cpus": cores // count, "num_gpus": gpus // count}
            places += [common | own | {"scheduling_strategy": strategy}] * count
    return places
