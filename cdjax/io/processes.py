"""Runs of several processes (`jax.distributed`): the first process, barriers, a shared folder."""

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from cdjax.io.leftovers import locked_folder


def is_first() -> bool:
    """Whether this process is the first, which writes files and prints messages."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has called this with the same name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextmanager
def shared_folder(target: Path) -> Iterator[Path]:
    """A hidden temporary folder beside `target`, the same in every process; makes its parents."""
    drawn = np.frombuffer(secrets.token_bytes(16), np.uint32)
    name = np.asarray(multihost_utils.broadcast_one_to_all(drawn)).tobytes().hex()
    folder = target.parent / f".cdjax-{name}.part"
    if is_first():
        folder.mkdir(parents=True)
    barrier(f"{folder} made")
    try:
        with locked_folder(folder) if is_first() else nullcontext():
            yield folder
    finally:
        barrier(f"{folder} used")
        if is_first():
            _remove(folder)


def _remove(folder: Path) -> None:
    """Removes a folder in which threads that failed may still be writing for a moment."""
    deadline = time.monotonic() + 2
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)
