"""The C library's allocator, so tuned that memory freed is not got anew from the kernel."""

import os
import sys

_KEEPING = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.hugetlb=1"
"""GLIBC_TUNABLES with which glibc keeps freed memory and takes it in huge pages."""

STYLISATION = f"{_KEEPING}:glibc.malloc.arena_max=1"
"""For windows: with more arenas, glibc maps what is too large for one and unmaps it again."""
TRAINING = f"{_KEEPING}:glibc.malloc.top_pad={2**28}"
"""For training steps, whose threads take many small pieces at once: each from an arena of its own.
In one for all, they would wait for each other while it is searched, and long where a compiler has
left it in pieces. Parts of an arena that are empty go back to the kernel, but for so much."""


def start_again_tuned(tunables: str) -> None:
    """On Linux, starts this process anew with GLIBC_TUNABLES; for commands, before all else.

    Every window and every training step allocates again what the one before it freed; to have it
    back from the kernel page by page takes a good part of the time. glibc looks at the variable
    only when a process starts. Who has set it already keeps it.

    Args:
        tunables: `STYLISATION` or `TRAINING`.
    """
    name = "GLIBC_TUNABLES"
    if sys.platform == "linux" and name not in os.environ:
        os.environ[name] = tunables
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run_in_calling_thread() -> None:
    """Has JAX run a program on a CPU in the thread that calls it; to be called before any other.

    What a step takes at once is too large for any arena but the main thread's. Only there it is
    kept; in a thread of JAX's own it would go back to the kernel after every step. That is also
    where a program runs that is called before its arguments are ready.
    """
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
