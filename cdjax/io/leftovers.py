"""Temporary files and folders of cdjax: hidden, unguessable, and locked while they are in use.

A process that is killed removes nothing, but the system removes its locks. So what is not locked is
left over, and a later run removes it.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LEFT = re.compile(r"\.cdjax-([0-9a-f]{16}|[0-9a-f]{32})\.part")


def temporary_beside(path: Path) -> Path:
    """A hidden path that nobody else can guess, in the same folder and thus on the same disk."""
    return path.with_name(f".cdjax-{secrets.token_hex(8)}.part")


@contextmanager
def temporary_file(path: Path, mode: int) -> Iterator[Path]:
    """Yields a new empty file beside `path`; removes it at the end, unless it was renamed."""
    while True:
        temporary = temporary_beside(path)
        number = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        if _lock(number) and os.fstat(number).st_nlink:
            break
        os.close(number)  # Another process took it for left over before it was locked.
    try:
        yield temporary
    finally:
        os.close(number)
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Marks a folder as in use, where the system has such locks."""
    number = None
    with suppress(OSError):  # Windows opens no folders.
        number = os.open(folder, os.O_RDONLY)
        _lock(number)
    try:
        yield
    finally:
        if number is not None:
            os.close(number)


def remove_leftovers(outputs: Iterable[str | os.PathLike[str]], *, within: bool = False) -> None:
    """Removes what runs that were killed have left beside outputs; what cannot be removed stays.

    Args:
        outputs: files or folders, whether they exist or not.
        within: whether to look in outputs that are folders, too, however deep.
    """
    paths = [Path(os.path.realpath(output)) for output in outputs]
    folders = {(path.parent, ".cdjax-*.part") for path in paths}
    folders |= {(path, "**/.cdjax-*.part") for path in paths if within}
    for folder, pattern in folders:
        with suppress(OSError):
            for path in list(folder.glob(pattern)):
                if _LEFT.fullmatch(path.name):
                    _remove(path)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Locks a file or folder; yields whether no other process had, so that it is left over.

    Raises:
        OSError: if it cannot be opened.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        yield _lock(number, unknown=False)
    finally:
        os.close(number)


def _remove(path: Path) -> None:
    """Removes a file or folder unless a process has locked it."""
    with suppress(OSError), claimed(path) as unused:
        if unused and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif unused:
            path.unlink()


def _lock(number: int, *, unknown: bool = True) -> bool:
    """Locks an open file; False if another process has. `unknown`: where there are no locks."""
    try:
        import fcntl

        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return unknown
    return True
