"""The C library's allocator, so tuned that memory freed is not got anew from the kernel."""

import os
import sys

STYLISATION_ARENAS = 1
"""For windows: with more of them, glibc maps what is too large for an arena and unmaps it again."""
TRAINING_ARENAS = 2
"""For training steps, which also take many small pieces at once, in several threads."""


def tunables(arenas: int) -> str:
    """GLIBC_TUNABLES with which glibc keeps freed memory and takes it in huge pages.

    Args:
        arenas: how many heaps threads share.
    """
    return (
        "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:"
        f"glibc.malloc.hugetlb=1:glibc.malloc.arena_max={arenas}"
    )


def start_again_tuned(arenas: int) -> None:
    """On Linux, starts this process anew with `tunables`; for commands, before all else.

    Every window and every training step allocates again what the one before it freed; to have it
    back from the kernel page by page takes a good part of the time. glibc looks at the variable
    only when a process starts. Who has set it already keeps it.

    Args:
        arenas: how many heaps threads share.
    """
    name = "GLIBC_TUNABLES"
    if sys.platform == "linux" and name not in os.environ:
        os.environ[name] = tunables(arenas)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
