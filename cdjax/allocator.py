"""The C library's allocator, so tuned that memory freed is not got anew from the kernel."""

import os
import sys

ALLOCATOR = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.hugetlb=1"
"""GLIBC_TUNABLES with which glibc keeps freed memory and takes it in huge pages."""


def start_again_tuned() -> None:
    """On Linux, starts this process anew with `ALLOCATOR`; for commands, before all else.

    Every window and every training step allocates again what the one before it freed; to have it
    back from the kernel page by page takes a good part of the time. glibc looks at the variable
    only when a process starts. Who has set it already keeps it.
    """
    name = "GLIBC_TUNABLES"
    if sys.platform == "linux" and name not in os.environ:
        os.environ[name] = ALLOCATOR
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
