"""Runs many jobs on all devices of all hosts: reading, computing and writing at the same time."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from numpy.typing import NDArray

_Job = TypeVar("_Job")
_Input = TypeVar("_Input")

_Numbers = Array | NDArray[Any]
Made = tuple[_Numbers | None, tuple[_Numbers, ...]]
"""A part of the result, or None, and numbers to be summed over all jobs."""

_IN_FLIGHT = 2
"""Jobs on a device at once: one computes while the next one is transferred."""


def execute(
    jobs: Sequence[_Job],
    read: Callable[[_Job], _Input],
    run: Callable[[_Job, _Input], Made],
    write: Callable[[_Job, NDArray[Any] | None], None],
) -> list[NDArray[Any]]:
    """Runs every job once, distributed over all devices of all hosts in turn.

    Args:
        jobs: at least one; the same list on every host.
        read: returns the input of a job, an array or a pytree of arrays; called in a separate
            thread, ahead of time.
        run: from a job and its input on a device to what it makes. On a GPU, it must only start
            the computation.
        write: stores a job's part; called on every host, in a separate thread.

    Returns:
        The sums of the numbers over all jobs of all hosts, float64.
    """
    devices, hosts, index = jax.local_devices(), jax.process_count(), jax.process_index()
    rounds = -(-len(jobs) // hosts)
    # All hosts take part in every exchange. If the jobs cannot be divided evenly, some hosts run
    # the last job as well and its result is ignored.
    mine = [jobs[min(turn * hosts + index, len(jobs) - 1)] for turn in range(rounds)]
    sums: list[Any] = []

    def load(turn: int) -> _Input:
        return jax.device_put(read(mine[turn]), devices[turn % len(devices)])

    def store(turn: int, part: _Numbers | None, numbers: tuple[_Numbers, ...]) -> None:
        counted = turn * hosts + index < len(jobs)
        values = [np.asarray(number, np.float64) * counted for number in numbers]
        sums[:] = [s + v for s, v in zip(sums, values, strict=True)] if sums else values
        parts = _from_all(None if part is None else np.asarray(part))
        for job, result in zip(jobs[turn * hosts : (turn + 1) * hosts], parts, strict=False):
            write(job, result)

    with ThreadPoolExecutor(1, "cdjax-cut") as reader, ThreadPoolExecutor(1, "cdjax-paste") as pen:
        ahead: deque[Future[_Input]] = deque()
        behind: deque[Future[None]] = deque()
        try:
            for turn in range(rounds):
                while len(ahead) < min(len(devices), rounds - turn):
                    ahead.append(reader.submit(load, turn + len(ahead)))
                behind.append(pen.submit(store, turn, *run(mine[turn], ahead.popleft().result())))
                if len(behind) >= _IN_FLIGHT * len(devices):
                    behind.popleft().result()
            for pending in behind:
                pending.result()
        except BaseException:
            for executor in (reader, pen):
                executor.shutdown(wait=False, cancel_futures=True)
            raise
    return [sum(_from_all(value)) for value in sums]


def _from_all(value: NDArray[Any] | None) -> list[Any]:
    """The values of all hosts, in the order of the hosts."""
    if jax.process_count() == 1 or value is None:
        return [value] * jax.process_count()
    # As bytes, because JAX would convert float64 to float32.
    raw = np.ascontiguousarray(value)
    everywhere = np.asarray(multihost_utils.process_allgather(raw.reshape(-1).view(np.uint8)))
    return [one.view(raw.dtype).reshape(raw.shape) for one in everywhere]
