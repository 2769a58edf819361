"""Several machines on one run: who is first, and where all wait for each other."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np


class HostsError(ValueError):
    """Half-given options; the message says which are missing."""


def initialize(coordinator: str | None, processes: int | None, index: int | None) -> None:
    """Joins this process to a run on several machines, before JAX is used for anything.

    Args:
        coordinator: ADDRESS:PORT at which the first process listens.
        processes: how many there are.
        index: which one this is, from 0. With none of the three given this process runs alone.

    Raises:
        HostsError: if only some are given, or the index is none of the processes'.
    """
    given = {"coordinator": coordinator, "processes": processes, "index": index}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return
    if coordinator is None or processes is None or index is None:
        raise HostsError(f"a run on several machines also needs: {', '.join(missing)}")
    if not 0 <= index < processes:
        raise HostsError(f"index must be from 0 to {processes - 1}, not {index}")
    jax.distributed.initialize(coordinator, processes, index)


def is_first() -> bool:
    """Whether this process is the one that writes files and talks to people."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Returns once every process has come to the barrier of this name."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


@contextmanager
def shared_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target`, the same in every process, gone at the end.

    Args:
        target: what will be made in the folder and then moved; its parents are made.
    """
    number = np.uint32(secrets.randbits(32))
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        number = multihost_utils.broadcast_one_to_all(number)
    folder = target.parent / f".{target.name}.{int(number):08x}"
    if is_first():
        folder.mkdir(parents=True)
    barrier(f"{folder} is there")
    try:
        yield folder
    finally:
        barrier(f"{folder} is done with")
        if is_first():
            shutil.rmtree(folder, ignore_errors=True)
