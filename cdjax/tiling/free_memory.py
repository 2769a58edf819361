"""How much host memory this process may still take: the machine's, a control group's, a limit's."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_V1, _V2 = ("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")


def free_memory() -> int:
    """Bytes of host memory that this process may still take, at least 0.

    The least of what is free on the machine, below the memory limits of the control groups that
    the process is in (containers, batch systems), and below its own limits of address space and
    data (`ulimit -v` and `ulimit -d`).
    """
    free = [psutil.virtual_memory().available, *_below_limits()]
    free += free_in_cgroups(_CGROUPS, _read(_OWN_CGROUPS))
    return max(0, min(free))


def free_in_cgroups(root: Path, membership: str) -> list[int]:
    """What is free in each control group with a limit, of both versions.

    Args:
        root: where the hierarchies are mounted.
        membership: the text of `/proc/self/cgroup`.
    """
    free = []
    for line in membership.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            top, names = root, _V2
        elif "memory" in controllers.split(","):
            top, names = root / "memory", _V1
        else:
            continue
        # A container often sees its own group as the root, under whatever path it is given.
        own = top / path.strip("/")
        groups = [own, *own.parents] if own.is_relative_to(top) and own.is_dir() else [top]
        for group in groups:
            limit, used = (_read(group / name).strip() for name in names)
            if limit.isdigit() and used.isdigit():
                free.append(int(limit) - int(used) + _reclaimable(group))
            if group == top:
                break
    return free


def _reclaimable(group: Path) -> int:
    """Bytes of cached files, which the kernel gives up when memory is needed."""
    rows = (line.split() for line in _read(group / "memory.stat").splitlines())
    statistics = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
    return statistics.get("total_inactive_file", statistics.get("inactive_file", 0))


def _below_limits() -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    memory = psutil.Process().memory_info()
    limits = {resource.RLIMIT_AS: memory.vms, resource.RLIMIT_DATA: getattr(memory, "data", 0)}
    for limit, used in limits.items():
        allowed, _ = resource.getrlimit(limit)
        if allowed != resource.RLIM_INFINITY:
            yield allowed - used


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""
