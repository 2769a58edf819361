"""Compiled programs in files: damaged ones are not read, the least recently used are removed.

This module knows files only; `cdjax.cli.compilation_cache` has JAX use them.
"""

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from cdjax.io.cache import cache_folder
from cdjax.io.leftovers import temporary_file

LIMIT = 500_000_000
"""Bytes of all programs together; a program of a picture's size takes less than one million."""
_SUFFIX = ".program"
_CHECKSUM = hashlib.sha256
_MADE = re.compile(
    r"([^/]+/)?(xla_gpu_.+|\.cdjax-[0-9a-f]{16}\.part"
    rf"|[^/]+-[0-9a-f]{{64}}({re.escape(_SUFFIX)}|-cache|-atime))"
)
"""Paths below the folder that cdjax made, or JAX, which names its own entries `*-cache`."""


def programs_folder() -> Path:
    """The folder of compiled programs, `xla` in `cache_folder()`, which raises as that does."""
    return cache_folder() / "xla"


class ProgramCache:
    """Programs by key, as JAX's compiler wants a cache: with `get` and `put`, for many threads.

    A file begins with a checksum of its program, of the key and of `built_for`. A file that was cut
    off, altered, renamed or moved here from another machine is as good as none, and is replaced.
    Files appear whole, so any number of processes may read, write and clear the same folder.

    Errors of the disk raise nothing: a program that cannot be kept is compiled again.

    Args:
        root: folder of all programs.
        built_for: name of what the programs run on; they lie in a folder of this name in `root`.
        limit: bytes of all files in `root`; above them the least recently used are removed.
    """

    def __init__(self, root: Path, built_for: str, *, limit: int = LIMIT) -> None:
        self._path = root / built_for  # JAX logs it under this name.
        self._root, self._built_for, self._limit = root, built_for, limit
        self._size: int | None = None
        self._counting = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """The program of a key, or None."""
        file = self._file(key)
        try:
            content = file.read_bytes()
        except OSError:
            return None
        length = _CHECKSUM().digest_size
        program = content[length:]
        if content[:length] != self._checksum(key, program):
            return None
        with suppress(OSError):
            os.utime(file)  # Used now.
        return program

    def put(self, key: str, value: bytes) -> None:
        """Keeps the program of a key, in place of what is there."""
        file = self._file(key)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            # Unlike `atomic_file`, this does not wait for the disk: what a power cut leaves behind
            # is found damaged.
            with temporary_file(file, 0o666) as temporary:
                temporary.write_bytes(self._checksum(key, value) + value)
                os.replace(temporary, file)
            self._count(len(value))

    def _file(self, key: str) -> Path:
        return self._path / f"{key}{_SUFFIX}"

    def _checksum(self, key: str, program: bytes) -> bytes:
        checksum = _CHECKSUM(f"{self._built_for}\n{key}\n".encode())
        checksum.update(program)
        return checksum.digest()

    def _count(self, written: int) -> None:
        """Removes what is too much; looks at all files first, and each time the limit is passed."""
        with self._counting:
            if self._size is None or self._size + written > self._limit:
                self._size = remove_least_used(self._root, self._limit)
            else:
                self._size += written


def made_files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files in `root` that cdjax or JAX made; files that vanish in the meantime are left out.

    Links to folders are not followed.
    """
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if _MADE.fullmatch(path.relative_to(root).as_posix()):
                with suppress(FileNotFoundError):
                    yield path, path.lstat()


def remove_least_used(root: Path, limit: int) -> int:
    """Removes the files that were not used for longest, if all take more than `limit` bytes.

    An eighth of the limit becomes free then, so that this is not necessary for every program.

    Returns:
        The bytes of the files that are left.
    """
    files = sorted(made_files(root), key=lambda file: file[1].st_mtime_ns)
    size = sum(status.st_size for _, status in files)
    if size <= limit:
        return size
    removed = []
    for path, status in files:
        if size <= limit - limit // 8:
            break
        with suppress(OSError):
            path.unlink(missing_ok=True)
            size -= status.st_size
            removed.append(path)
    _remove_emptied(root, removed)
    return size


def clear(root: Path) -> tuple[int, int]:
    """Removes all that cdjax and JAX made in `root`; returns how many files and bytes.

    Raises:
        OSError: if a file cannot be removed.
    """
    found = list(made_files(root))
    for path, _ in found:
        path.unlink(missing_ok=True)
    _remove_emptied(root, [path for path, _ in found])
    return len(found), sum(status.st_size for _, status in found)


def _remove_emptied(root: Path, files: Iterable[Path]) -> None:
    """Removes folders in `root` that became empty with their files, such as an earlier jaxlib's."""
    folders = {folder for path in files for folder in path.relative_to(root).parents}
    for folder in sorted(folders - {Path()}, reverse=True):  # The deepest first.
        with suppress(OSError):  # Not empty, or a link.
            (root / folder).rmdir()
