"""Several machines on one run: who is first, and where all wait for each other."""

import jax

from cdjax.errors import HostsError


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
