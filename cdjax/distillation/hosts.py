"""Runs on several machines."""

import jax

from cdjax.errors import HostsError


def initialize(coordinator: str | None, processes: int | None, index: int | None) -> None:
    """Joins a run on several machines; to be called before anything else uses JAX.

    Without arguments, this process runs alone.

    Args:
        coordinator: ADDRESS:PORT at which the first process listens.
        processes: number of processes.
        index: of this process, from 0.

    Raises:
        HostsError: if only some of them are given, or the index is out of range.
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
