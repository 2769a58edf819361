"""Pictures at addresses such as s3://bucket/photo.jpg, read and written through fsspec.

A picture is copied to a local file before it is read, and put to its address when it is whole.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PosixPath
from typing import Any, cast

from cdjax.errors import ImageError, first_line
from cdjax.io.atomic import StrPath
from cdjax.io.leftovers import locked_folder, remove_leftovers, temporary_beside

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://")


class Address(PosixPath):
    """A file or folder at an address; its name and its parents are those of a path.

    The methods below, unlike those of a path, ask the address's file system. They raise
    `ImageError` if it cannot be asked.
    """

    def __str__(self) -> str:
        scheme, _, rest = super().__str__().partition(":")
        return f"{scheme}://{rest.lstrip('/')}"

    def store(self) -> tuple[Any, str]:
        """The file system of fsspec, and the name in it."""
        with _reported(self):
            from fsspec.core import url_to_fs

            return cast(tuple[Any, str], url_to_fs(str(self)))

    def _kind(self) -> str | None:
        """`"file"`, `"directory"`, or None if there is nothing."""
        store, key = self.store()
        with _reported(self), suppress(FileNotFoundError, NotADirectoryError):
            return str(store.info(key)["type"])
        return None

    def is_file(self, **_: Any) -> bool:
        """As for a path."""
        return self._kind() == "file"

    def is_dir(self, **_: Any) -> bool:
        """As for a path."""
        return self._kind() == "directory"

    def exists(self, **_: Any) -> bool:
        """As for a path; what is known of the folder is asked anew."""
        store, key = self.store()
        store.invalidate_cache(store._parent(key))
        return self._kind() is not None

    def iterdir(self) -> "Generator[Address, None, None]":
        """As for a path."""
        store, key = self.store()
        with _reported(self):
            names = [name.rstrip("/") for name in store.ls(key, detail=False)]
        # An object store may list a folder as a file in itself.
        return (self / name.rpartition("/")[2] for name in names if name != key.rstrip("/"))

    def resolve(self, strict: bool = False) -> "Address":
        """The address itself: there are no links."""
        return self

    def open(self, *_: Any, **__: Any) -> Any:
        """Opens the file for reading bytes, of which only those that are asked for are fetched."""
        store, key = self.store()
        return store.open(key, "rb")


def path_of(text: str) -> Path:
    """The path or address that a text names; file:// names a path. Windows has no addresses."""
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return Address(text) if _ADDRESS.match(text) and os.name != "nt" else Path(text)


def lexists(path: Path) -> bool:
    """Whether there is something at a path, such as a link to nothing, or at an address."""
    return path.exists() if isinstance(path, Address) else os.path.lexists(path)


def existing(paths: Iterable[Path]) -> set[Path]:
    """Those of the paths at which there is something; a folder at an address is listed once."""

    @cache
    def files(folder: Address) -> set[Path]:
        with suppress(FileNotFoundError, NotADirectoryError):
            return set(folder.iterdir())
        return set()

    return {
        path
        for path in paths
        if (path in files(path.parent) if isinstance(path, Address) else os.path.lexists(path))
    }


@contextmanager
def fetched(path: StrPath) -> Iterator[Path]:
    """Yields a local file with the content of a file at a path or an address.

    Raises:
        ImageError: if it cannot be fetched; errors in the context name the address.
    """
    if not isinstance(path, Address):
        yield Path(path)
        return
    with _copy_of(path) as local:
        store, key = path.store()
        with _reported(path, "cannot be read"):
            try:
                store.get_file(key, str(local))
            except FileNotFoundError:
                raise ImageError(f"{path}: no such file") from None
        yield local


@contextmanager
def stored(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yields the local file to write, which is at a path or an address after the context.

    At an address it appears whole or not at all. A file that is at a path is replaced, or not, by
    whoever writes it.

    Raises:
        ImageError: if it cannot be written, or exists and is not to be replaced, with a
            `FileExistsError` as its cause; errors in the context name the address.
    """
    if not isinstance(path, Address):
        yield path
        return
    with _copy_of(path) as local:
        yield local
        try:
            if not overwrite and path.exists():
                raise FileExistsError
            with _reported(path, "cannot be written"):
                _put(local, path, {} if overwrite else {"mode": "create"})
        except FileExistsError as error:
            raise ImageError(f"{path}: already exists") from error


def _put(local: Path, address: Address, options: dict[str, str]) -> None:
    """Puts a file to an address: in one piece to a store of objects, else under another name."""
    store, key = address.store()
    if store.async_impl:
        store.put_file(str(local), key, **options)
        return
    part = f"{store._parent(key)}/{temporary_beside(local).name}"
    store.makedirs(store._parent(key), exist_ok=True)
    try:
        store.put_file(str(local), part)
        store.mv(part, key)
    except BaseException:
        with suppress(Exception):
            store.rm_file(part)
        raise


@contextmanager
def _copy_of(address: Address) -> Iterator[Path]:
    """Yields the name of a local copy; errors that name it name the address instead."""
    folder = temporary_beside(_scratch())
    folder.mkdir()
    local = folder / f"copy{address.suffix}"
    try:
        with locked_folder(folder):
            yield local
    except ImageError as error:
        if str(local) not in str(error):
            raise
        named = str(error).replace(str(local), str(address))
        raise type(error)(named) from error.__cause__
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _scratch() -> Path:
    """Beside which copies are kept; those of processes that were killed are removed first."""
    scratch = Path(tempfile.gettempdir(), "copies")
    remove_leftovers([scratch])
    return scratch


@contextmanager
def _reported(address: Address, what: str = "cannot be reached") -> Iterator[None]:
    """Turns errors, of which every file system has its own, into `ImageError`.

    Those of what exists, or does not, remain.
    """
    try:
        yield
    except (FileExistsError, FileNotFoundError, NotADirectoryError, ImageError):
        raise
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        raise ImageError(f"{address}: needs {name}: pip install {name}") from error
    except Exception as error:
        raise ImageError(f"{address}: {what} ({first_line(error)})") from error
