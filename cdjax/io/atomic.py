"""Writing files and folders so that they appear whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

StrPath = str | os.PathLike[str]
"""A path as an argument."""


def temporary_beside(path: Path) -> Path:
    """A hidden path that nobody else can guess, in the same folder and thus on the same disk."""
    return path.with_name(f".cdjax-{secrets.token_hex(8)}.part")


@contextmanager
def atomic_file(path: StrPath) -> Iterator[Path]:
    """Yields the path of an empty temporary file that replaces `path` at the end of the context.

    The file is flushed to the disk before it is renamed. After an exception the temporary file is
    removed and `path` is what it was.

    Args:
        path: file to write; its folder must exist.

    Raises:
        OSError: if the file cannot be created, flushed or renamed.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: StrPath, data: bytes) -> None:
    """Writes a file, whole or not at all; replaces one that exists."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: StrPath, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all; replaces one that exists."""
    write_bytes(path, text.encode())


def replace_folder(source: Path, target: Path) -> None:
    """Renames a folder on one disk; a folder at `target` is removed, or stays after an OSError."""
    old = temporary_beside(target).with_suffix(".old")
    try:
        if target.exists():
            os.rename(target, old)
        os.rename(source, target)
    except BaseException:
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def atomic_folder(path: StrPath, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty temporary folder that becomes `path` at the end of the context.

    After an exception the temporary folder is removed and `path` is what it was.

    Args:
        path: folder to make; its parents are made.
        overwrite: whether a folder at `path` is replaced.

    Raises:
        OSError: if the folder cannot be made or renamed, or `path` exists, is not empty and is not
            to be replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        temporary.mkdir()
        yield temporary
        if overwrite:
            replace_folder(temporary, path)
        else:
            os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
