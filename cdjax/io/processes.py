"""Processes that write to one place: which one is first, barriers, and a shared folder."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np


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
