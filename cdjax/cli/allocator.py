"""The C library's allocator: tuned to keep freed memory instead of returning it to the kernel."""

import os
import sys

_KEEPING = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.hugetlb=1"
"""GLIBC_TUNABLES with which glibc keeps freed memory and takes it in huge pages."""

STYLISATION = _KEEPING
"""For patches, which threads allocate at the same time, each from its own arena."""
TRAINING = f"{_KEEPING}:glibc.malloc.top_pad={2**28}"
"""For training steps, whose threads allocate many small pieces at once, each from its own arena.
In a single arena they would wait for each other during searches, which take long once a compiler
has fragmented it. Empty parts of an arena are returned to the kernel, except this much."""


def start_again_tuned(tunables: str) -> None:
    """Starts this process again with GLIBC_TUNABLES, on Linux; to be called before all else.

    Every window and every training step allocates again what the one before it freed. To get it
    from the kernel page by page takes a good part of the time. glibc reads the variable only when
    a process starts. A variable that is set already is kept.
    """
    name = "GLIBC_TUNABLES"
    if sys.platform == "linux" and name not in os.environ:
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
