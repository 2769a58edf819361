"""Writing files and folders so that they appear whole or not at all.

Everything that cdjax writes goes to a hidden temporary name in the folder of the result, which is
renamed at the end. Symbolic links stay links: what they point to is replaced.
"""

import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from cdjax.io.leftovers import claimed, locked_folder, temporary_beside, temporary_file

StrPath = str | os.PathLike[str]
"""A path as an argument."""

Ours = Callable[[Path], bool]
"""Whether cdjax made the file at a path relative to a folder that it wrote."""


@contextmanager
def atomic_file(path: StrPath, *, overwrite: bool = True) -> Iterator[Path]:
    """Yields the path of an empty temporary file that becomes `path` at the end of the context.

    The file is flushed to the disk before it is renamed. After an exception the temporary file is
    removed and `path` is what it was.

    Args:
        path: file to write; its folder must exist. Of a symbolic link, the target is written.
        overwrite: whether a file that exists, or appears in the meantime, is replaced; the new file
            keeps its mode and, where the system allows it, its owner.

    Raises:
        FileExistsError: if the file exists and is not to be replaced.
        OSError: if the file cannot be created, flushed or renamed, or is not a regular file.
    """
    path = Path(os.path.realpath(path))
    old = _replaceable(path, overwrite)
    # Nobody may read the new content who may not read the old one.
    with temporary_file(path, 0o666 if old is None else 0o600) as temporary:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if old is not None:
            _give_owner_and_mode(temporary, old)
        if overwrite:
            os.replace(temporary, path)
        else:
            _rename_to_new(temporary, path)


def _replaceable(path: Path, overwrite: bool) -> os.stat_result | None:
    """What is at a path, or None; raises if it may not be replaced by a file."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if not overwrite:
        raise FileExistsError(errno.EEXIST, "already exists", str(path))
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):  # A device or a pipe would be gone.
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return found


def _give_owner_and_mode(path: Path, old: os.stat_result) -> None:
    # Suppressed, because some file systems have neither and only root may give files away.
    if hasattr(os, "chown") and path.stat().st_uid != old.st_uid:
        with suppress(OSError):
            os.chown(path, old.st_uid, old.st_gid)
    with suppress(OSError):
        path.chmod(stat.S_IMODE(old.st_mode))


def _rename_to_new(source: Path, target: Path) -> None:
    """Renames a file; FileExistsError if the target exists by now."""
    try:
        os.link(source, target)  # Unlike a renaming, this never replaces a file.
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "already exists", str(target)) from None
    except OSError:  # The file system has no hard links.
        _replaceable(target, overwrite=False)
        os.rename(source, target)


def write_bytes(path: StrPath, data: bytes, *, overwrite: bool = True) -> None:
    """Writes a file, whole or not at all; see `atomic_file`."""
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def write_text(path: StrPath, text: str, *, overwrite: bool = True) -> None:
    """Writes a UTF-8 text file, whole or not at all; see `atomic_file`."""
    write_bytes(path, text.encode(), overwrite=overwrite)


def flush(folder: Path) -> None:
    """Flushes all files in a folder to the disk; OSError if one cannot be written."""

    def flush_file(path: Path) -> None:
        with open(path, "rb") as file:
            os.fsync(file.fileno())

    files = [path for path in folder.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(16) as pool:  # The disk flushes many at once in the time of one.
        for _ in pool.map(flush_file, files):
            pass


def check_space(folder: Path, size: int) -> None:
    """Raises OSError if a file of `size` bytes does not fit into an existing folder.

    For files written by libraries that end badly on a full disk.
    """
    with temporary_file(folder / "probe", 0o600) as probe, open(probe, "rb+") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
        elif shutil.disk_usage(folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def replace_folder(source: Path, target: Path, *, ours: Ours) -> None:
    """Renames a folder to `target`; of a folder that is there, only what cdjax made is replaced.

    Everything else in the old folder is moved to the new one, which keeps the old one's mode. If
    its place is taken there, it stays in a hidden folder beside `target`. If the process is killed
    in between, `finish_replacing` does what is left to do.

    Raises:
        OSError: if the folder cannot be renamed; `target` is then what it was.
    """
    target = Path(os.path.realpath(target))
    if not target.exists():
        os.rename(source, target)
        return
    old = _old_name(target)
    shutil.copymode(target, source)
    with locked_folder(source), locked_folder(target):
        os.rename(source, old)
        if not _exchange(old, target):  # There is no folder for a moment.
            aside = temporary_beside(target)
            os.rename(old, aside)
            os.rename(target, old)
            try:
                os.rename(aside, target)
            except BaseException:
                os.rename(old, target)
                os.rename(aside, source)
                raise
        _empty(old, target, ours)


def finish_replacing(target: Path, ours: Callable[[Path], Ours]) -> None:
    """Ends, or undoes, what `replace_folder` did when its process was killed.

    Args:
        target: the folder that was being replaced.
        ours: what recognises the files of cdjax, made from the old folder.
    """
    target = Path(os.path.realpath(target))
    name = _old_name(target).name
    for old in target.parent.glob(f"{name[: name.rindex('-')]}-*.old"):
        with suppress(OSError), claimed(old) as unused:
            if unused and target.exists():
                _empty(old, target, ours(old))
            elif unused:
                os.rename(old, target)


def _old_name(target: Path) -> Path:
    """A hidden name beside a folder; its first half is the same every time."""
    of_target = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    return target.with_name(f".cdjax-{of_target}-{secrets.token_hex(8)}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges the names of two folders at once; False where the system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    names = os.fsencode(one), os.fsencode(other)
    return rename is not None and rename(here, names[0], here, names[1], exchange) == 0


def _empty(old: Path, target: Path, ours: Ours) -> None:
    """Moves what is not ours from an old folder to its place in the new one; removes the rest."""
    _move_others(old, target, old, ours)
    if all(ours(path.relative_to(old)) for path in old.rglob("*") if not _is_folder(path)):
        # Under this name a later run removes what is left of it if this one is killed.
        left = temporary_beside(target)
        os.rename(old, left)
        shutil.rmtree(left, ignore_errors=True)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _move_others(folder: Path, target: Path, top: Path, ours: Ours) -> None:
    """Moves what is not ours in a folder of `top` to its place in `target`."""
    for path in list(folder.iterdir()):
        within = path.relative_to(top)
        into = target / within
        with suppress(OSError):
            if _is_folder(path) and (os.path.lexists(into) or _has_ours(path, top, ours)):
                _move_others(path, target, top, ours)
            elif not os.path.lexists(into) and (_is_folder(path) or not ours(within)):
                into.parent.mkdir(parents=True, exist_ok=True)
                os.rename(path, into)


def _has_ours(folder: Path, top: Path, ours: Ours) -> bool:
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return any(ours(path.relative_to(top)) for path in files)


@contextmanager
def atomic_folder(path: StrPath, *, ours: Ours | None = None) -> Iterator[Path]:
    """Yields an empty temporary folder that becomes `path` at the end of the context.

    After an exception the temporary folder is removed and `path` is what it was.

    Args:
        path: folder to make; its parents are made.
        ours: recognises the files of a folder at `path` that are replaced; everything else in it is
            kept. None: nothing is replaced.

    Raises:
        OSError: if the folder cannot be made, flushed or renamed, or `path` exists, is not empty
            and is not to be replaced.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        temporary.mkdir()
        with locked_folder(temporary):
            yield temporary
            flush(temporary)
            if ours is not None:
                replace_folder(temporary, path, ours=ours)
            else:
                os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
