"""The C library's allocator: tuned to keep freed memory instead of returning it to the kernel."""

import os
import sys

from cdjax.errors import UsageError

_KEEPING = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.hugetlb=1"
"""GLIBC_TUNABLES with which glibc keeps freed memory and takes it in huge pages."""

STYLISATION = _KEEPING
"""For patches, which threads allocate at the same time, each from its own arena."""
TRAINING = f"{_KEEPING}:glibc.malloc.top_pad={2**28}"
"""For training steps, whose threads allocate many small pieces at once, each from its own arena.
In a single arena they would wait for each other during searches, which take long once a compiler
has fragmented it. Empty parts of an arena are returned to the kernel, except this much."""


_LEAST_SPACE = 22 * 10**8
"""Bytes of address space; with less, native libraries end the process or wait for ever."""


def check_address_space() -> None:
    """Raises `UsageError` if the limit of address space (`ulimit -v`) is too low to compute."""
    limit = _address_space()
    if limit is not None and limit < _LEAST_SPACE:
        raise UsageError(
            f"the limit of address space, {limit / 1e9:.1f} GB, is too low for JAX, which needs "
            f"{_LEAST_SPACE / 1e9:.1f} GB; raise it: ulimit -v {_LEAST_SPACE // 1000}"
        )


def _address_space() -> int | None:
    """Bytes of address space that this process may have; None if there is no limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def start_again_tuned(tunables: str) -> None:
    """Starts this process again with GLIBC_TUNABLES, on Linux; to be called before all else.

    Every window and every training step allocates again what the one before it freed. To get it
    from the kernel page by page takes a good part of the time. glibc reads the variable only when
    a process starts. A variable that is set already is kept. Nothing is tuned where address space
    is limited: what is kept would count.
    """
    name = "GLIBC_TUNABLES"
    if sys.platform == "linux" and name not in os.environ and _address_space() is None:
        os.environ[name] = tunables
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run_in_calling_thread() -> None:
    """Has JAX run programs on a CPU in the thread that calls them; to be called before any other.

    What a step allocates at once is too large for any arena but the main thread's. Only there it is
    kept; in a thread of JAX's own it would return to the kernel after every step. Without this, a
    program runs in such a thread if it is called before its arguments are ready.
    """
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
