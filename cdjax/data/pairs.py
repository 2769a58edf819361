"""Contents beside styles: two sources of crops -> endless batches of pairs, for AdaIN."""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cdjax.data.loader import (
    Batches,
    DataConfig,
    batches,
)
from cdjax.errors import DataError


class Pairs(Iterator[NDArray[np.uint8]]):
    """Batches (N, 2, crop, crop, 3), uint8 RGB: a content and a style each.

    Positions are stored and found again, broken images skipped and workers ended as by the
    `cdjax.data.loader.Batches` of each side; both must be of one crop and batch size.

    Raises:
        DataError: if a source cannot be had, or the two do not fit.
    """

    def __init__(
        self,
        contents: DataConfig,
        styles: DataConfig,
        *,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        if (contents.crop, contents.batch) != (styles.crop, styles.batch):
            raise DataError("contents and styles must be of one crop and one batch size")
        hosts = {"process_index": process_index, "process_count": process_count}
        self._sides: dict[str, Batches] = {
            name: batches(config, **hosts)
            for name, config in (("contents", contents), ("styles", styles))
        }

    @property
    def skipped(self) -> int:
        """How many different images this process has found broken so far."""
        return sum(side.skipped for side in self._sides.values())

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the first of them, and what is wrong with each."""
        return tuple(name for side in self._sides.values() for name in side.broken)

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {name: side.state() for name, side in self._sides.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Makes the next batch the one that came next when `state` was taken.

        Raises:
            DataError: if the state is of other images, another batch size or another seed.
        """
        if set(state) != set(self._sides):
            raise DataError("this position is not one of pairs; start anew")
        for name, side in self._sides.items():
            side.restore(state[name])

    def close(self) -> None:
        """Ends the worker processes; there is no next batch after it."""
        for side in self._sides.values():
            side.close()

    def __next__(self) -> NDArray[np.uint8]:
        before = self.state()
        try:
            return np.stack([next(side) for side in self._sides.values()], axis=1)
        except BaseException:
            self.restore(before)  # One side must not be a batch ahead of the other.
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
