"""The picture so far of a long optimisation, in a file that is nobody else's."""

from contextlib import suppress
from pathlib import Path

from cdjax.errors import ImageError
from cdjax.io import images
from cdjax.io.images import Picture


class PreviewFile:
    """A file beside an output that is written again and again, and removed at the end.

    For out.png it is out.preview.png or, if that exists, out.preview2.png and so on. A file that
    this object did not write, or that somebody changed since, is neither replaced nor removed.

    Args:
        output: the file beside which it lies.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._path: Path | None = None
        self._identity: tuple[int, ...] | None = None
        self._failure = ""

    def write(self, picture: Picture) -> ImageError | None:
        """Writes the file, whole or not at all; returns an error if that fails as never before."""
        try:
            if self._is_ours() and self._path is not None:
                images.write_image(self._path, picture)
            else:
                self._path = self._write_new(picture)
        except ImageError as error:
            known, self._failure = self._failure, str(error)
            return None if known == self._failure else error
        self._identity = _identity(self._path)
        return None

    def remove(self) -> None:
        """Removes the file if it was written."""
        if self._is_ours() and self._path is not None:
            with suppress(OSError):
                self._path.unlink()

    def _is_ours(self) -> bool:
        return self._path is not None and _identity(self._path) == self._identity

    def _write_new(self, picture: Picture) -> Path:
        number = 1
        while True:
            name = f"{self._output.stem}.preview{number if number > 1 else ''}.png"
            path = self._output.with_name(name)
            try:
                images.write_image(path, picture, overwrite=False)
                return path
            except ImageError as error:
                if not isinstance(error.__cause__, FileExistsError):
                    raise
            number += 1


def _identity(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is replaced or changed; None if there is none."""
    with suppress(OSError):
        found = path.lstat()
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
    return None
