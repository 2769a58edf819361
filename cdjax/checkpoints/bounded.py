"""Files of weights that are read in pieces of a limited length.

A few bytes can claim that gigabytes follow, and a file with a hole really has them.
"""

from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

MAX_TENSOR = 2**29
"""Bytes of the largest tensor that is read; the largest of VGG-19 has 411 million."""

MAX_TENSORS = 5 * 2**28
"""Bytes of all tensors of a file; VGG-19 has 575 million, and with momentum twice as many."""

MAX_ZIP = 2**26
"""Bytes of the directory of a zip."""

TOO_LARGE = "save only the state_dict() of a network that cdjax knows"
"""What to do about a file that has more."""

_BLOCK = 2**20
_LINE = 2**16


def bounded(file: Any, length: int, *, at_once: int) -> IO[bytes]:
    """A binary file of which only so many bytes are read at once; more raise ValueError.

    Args:
        file: open for reading.
        length: bytes that it has at most; memory for more is not asked for.
        at_once: the limit.
    """
    return cast("IO[bytes]", _Bounded(file, length, at_once))


class _Bounded:
    def __init__(self, file: Any, length: int, at_once: int) -> None:
        self._file, self._at_once, self._most = file, at_once, min(at_once + 1, length)
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        data: bytes = self._file.read(count if 0 <= count < self._most else self._most)
        if len(data) > self._at_once:
            raise ValueError(f"more than {self._at_once:,} bytes in one piece")
        return data

    def readline(self) -> bytes:
        data: bytes = self._file.readline(_LINE)
        if len(data) == _LINE:
            raise ValueError(f"a line of more than {_LINE:,} bytes")
        return data


def read_exactly(file: Any, size: int) -> NDArray[np.uint8]:
    """The next bytes of a file, which are writable; fewer at its end."""
    raw, at = np.empty(size, np.uint8), 0
    while at < size and (piece := file.read(min(_BLOCK, size - at))):
        raw[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
    return raw[:at]
