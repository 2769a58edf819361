"""Writing files and folders so that they appear whole or not at all.

Everything that cdjax writes goes to a hidden temporary name in the folder of the result, which is
renamed at the end. Symbolic links stay links: what they point to is replaced.
"""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

StrPath = str | os.PathLike[str]
"""A path as an argument."""

Ours = Callable[[Path], bool]
"""Whether cdjax made the file at a path relative to a folder that it wrote."""


def temporary_beside(path: Path) -> Path:
    """A hidden path that nobody else can guess, in the same folder and thus on the same disk."""
    return path.with_name(f".cdjax-{secrets.token_hex(8)}.part")


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
    temporary = temporary_beside(path)
    try:
        # Nobody may read the new content who may not read the old one.
        temporary.touch(0o666 if old is None else 0o600, exist_ok=False)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if old is not None:
            _give_owner_and_mode(temporary, old)
        if overwrite:
            os.replace(temporary, path)
        else:
            _rename_to_new(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


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
    probe = temporary_beside(folder / "probe")
    try:
        with open(probe, "xb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
            elif shutil.disk_usage(folder).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    finally:
        with suppress(OSError):
            probe.unlink()


def replace_folder(source: Path, target: Path, *, ours: Ours) -> None:
    """Renames a folder to `target`; of a folder that is there, only what cdjax made is replaced.

    Everything else in the old folder is moved to the new one, which keeps the old one's mode. If
    its place is taken there, it stays in a hidden folder beside `target`.

    Raises:
        OSError: if the folder cannot be renamed; `target` is then what it was.
    """
    target = Path(os.path.realpath(target))
    if not target.exists():
        os.rename(source, target)
        return
    old = temporary_beside(target).with_suffix(".old")
    shutil.copymode(target, source)
    os.rename(target, old)
    try:
        os.rename(source, target)
    except BaseException:
        os.rename(old, target)
        raise
    _remove_ours(old, target, old, ours)


def _remove_ours(folder: Path, target: Path, top: Path, ours: Ours) -> None:
    """Removes what cdjax made in a folder of `top`, and moves the rest to its place in `target`."""
    for path in list(folder.iterdir()):
        within = path.relative_to(top)
        into = target / within
        with suppress(OSError):
            is_folder = path.is_dir() and not path.is_symlink()
            if is_folder and (os.path.lexists(into) or _has_ours(path, top, ours)):
                _remove_ours(path, target, top, ours)
            elif not is_folder and ours(within):
                path.unlink()
            elif not os.path.lexists(into):
                into.parent.mkdir(parents=True, exist_ok=True)
                os.rename(path, into)
    with suppress(OSError):  # Not empty: something could not be moved, and is kept.
        folder.rmdir()


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
        yield temporary
        flush(temporary)
        if ours is not None:
            replace_folder(temporary, path, ours=ours)
        else:
            os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
