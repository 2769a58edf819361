"""Many pieces of work through all devices of all hosts: reading, computing and writing at once."""

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

_IN_FLIGHT = 2
"""Pieces on a device at once: one computes while the next one travels."""


def flow(
    jobs: Sequence[_Job],
    read: Callable[[_Job], NDArray[Any]],
    run: Callable[[_Job, Array], tuple[Array | None, tuple[Array, ...]]],
    write: Callable[[_Job, NDArray[Any] | None], None],
) -> list[NDArray[Any]]:
    """Does every job once, on this host's devices in turn, the hosts taking turns as well.

    Args:
        jobs: at least one; the same list on every host.
        read: the input of a job, for `run`; called in a thread of its own, a little ahead.
        run: from a job and its input on a device to a part of the result, or None, and numbers to
            be summed over all jobs; must only start the computation.
        write: takes a job's part in, on every host; called in a thread of its own.

    Returns:
        The sums of the numbers, float64, over all jobs of all hosts.
    """
    devices, hosts, index = jax.local_devices(), jax.process_count(), jax.process_index()
    rounds = -(-len(jobs) // hosts)
    # Where the jobs do not divide among the hosts, some do the last one too, to no end: what
    # hosts say to each other is said by all of them.
    mine = [jobs[min(turn * hosts + index, len(jobs) - 1)] for turn in range(rounds)]
    sums: list[Any] = []

    def load(turn: int) -> Array:
        return jax.device_put(read(mine[turn]), devices[turn % len(devices)])

    def store(turn: int, part: Array | None, numbers: tuple[Array, ...]) -> None:
        values = [np.asarray(number, np.float64) for number in numbers]
        if turn * hosts + index < len(jobs):
            sums[:] = [s + v for s, v in zip(sums, values, strict=True)] if sums else values
        elif not sums:
            sums[:] = [np.zeros_like(value) for value in values]
        parts = _from_all(None if part is None else np.asarray(part))
        for job, result in zip(jobs[turn * hosts : (turn + 1) * hosts], parts, strict=False):
            write(job, result)

    with ThreadPoolExecutor(1, "cdjax-cut") as reader, ThreadPoolExecutor(1, "cdjax-paste") as pen:
        ahead: deque[Future[Array]] = deque()
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
    """What every host has here, in the order of the hosts."""
    if jax.process_count() == 1 or value is None:
        return [value] * jax.process_count()
    # As bytes: JAX would make float32 of float64.
    raw = np.ascontiguousarray(value)
    everywhere = np.asarray(multihost_utils.process_allgather(raw.reshape(-1).view(np.uint8)))
    return [one.view(raw.dtype).reshape(raw.shape) for one in everywhere]
