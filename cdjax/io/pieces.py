"""Files put together from pieces of another one, and files searched, without reading them whole."""

import io
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import IO, Any

from cdjax.io.limits import LimitError

_BLOCK = 2**22
_METERED_BLOCK = 2**14

Piece = bytes | range
"""Bytes, or the positions of some in another file."""


def joined(file: IO[bytes], pieces: Sequence[Piece]) -> IO[bytes]:
    """A file of pieces one after the other; ranges are read from `file` when they are needed."""
    return io.BufferedReader(_Joined(file, pieces), _BLOCK // 4)


def metered(file: IO[bytes], most: int) -> tuple[IO[bytes], Callable[[int], None]]:
    """A file of which `most` bytes can be read, and a function that allows to read others then.

    At first, bytes that are read many at a time hardly count: to go through a few at a time takes
    long. Further reading raises `LimitError`.
    """
    raw = _Joined(file, [range(file.seek(0, io.SEEK_END))])
    raw.left, raw.weight = most, 1 / 32

    def allow(most: int) -> None:
        raw.left, raw.weight = most, 1

    return io.BufferedReader(raw, _METERED_BLOCK), allow


class _Joined(io.RawIOBase):
    def __init__(self, file: IO[bytes], pieces: Sequence[Piece]) -> None:
        self._file, self._pieces = file, [piece for piece in pieces if piece]
        self._starts = list(accumulate(map(len, self._pieces), initial=0))
        self._at = 0
        self.left, self.weight = math.inf, 1.0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._starts[-1])[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._starts[-1]:
            return 0
        if self.left <= 0:
            raise LimitError("broken image (it does not end where it should)")
        number = bisect_right(self._starts, self._at) - 1
        begin = self._at - self._starts[number]
        piece = self._pieces[number][begin : begin + min(len(buffer), _BLOCK)]
        if isinstance(piece, range):
            self._file.seek(piece.start)
            piece = self._file.read(len(piece))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        self.left -= len(piece) * (self.weight if len(buffer) > _METERED_BLOCK else 1)
        return len(piece)


class Slices:
    """A file whose slices are bytes; what cannot be read of it is missing.

    Unlike a file mapped to memory, it may become shorter.

    Args:
        file: open for reading; its position changes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getitem__(self, part: slice) -> bytes:
        begin = part.start or 0
        with suppress(OSError, OverflowError):  # A position that no file has.
            self._file.seek(begin)
            return self._file.read(part.stop - begin)
        return b""


class Search:
    """Looks for bytes in a file, of which it holds one block.

    Args:
        file: open for reading; its position changes.

    Attributes:
        length: of the file in bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._block, self._begin = file, b"", 0
        self.length = file.seek(0, io.SEEK_END)

    def at(self, position: int, count: int) -> bytes:
        """Some bytes from a position; fewer at the end of the file."""
        if not self._begin <= position <= self._begin + len(self._block) - count:
            self._read(position)
        start = position - self._begin
        return self._block[start : start + count]

    def find(self, pattern: re.Pattern[bytes], begin: int, end: int) -> tuple[bytes, int] | None:
        r"""The first group and the end of the next match, looked for from `begin` to about `end`.

        A match must be found from its last two bytes, as one of `\xff+\xd8` is.
        """
        if not self._begin <= begin < self._begin + len(self._block):
            self._read(begin)
        while self._block:
            if found := pattern.search(self._block, max(begin - self._begin, 0)):
                return found[1], self._begin + found.end()
            after = self._begin + len(self._block)
            if after >= min(end, self.length):
                break
            self._read(after - 1)
        return None

    def _read(self, position: int) -> None:
        self._file.seek(position)
        self._block, self._begin = self._file.read(_BLOCK), position
