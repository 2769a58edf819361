"""The C library's allocator, so tuned that memory freed is not got anew from the kernel."""

import os
import sys

_KEEPING = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.hugetlb=1"
"""GLIBC_TUNABLES with which glibc keeps freed memory and takes it in huge pages."""

STYLISATION = f"{_KEEPING}:glibc.malloc.arena_max=1"
"""For windows: with more arenas, glibc maps what is too large for one and unmaps it again."""
TRAINING = f"{_KEEPING}:glibc.malloc.arena_max=2:glibc.malloc.top_pad={2**28}"
"""For training steps, which also take many small pieces at once, in several threads. A part of the
second arena that is empty goes back to the kernel, but for so much padding."""


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
