"""A program for tests: 100 megapixels within a limit on memory that the operating system keeps.

Its image repeats itself, so its result must too, to the last bit, wherever windows were cut.
"""

import resource
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERIOD, SIDE = 1024, 10240


class Repeated:
    """A picture side by side and one below the other, made where it is read."""

    def __init__(self, tile: NDArray[np.uint8]) -> None:
        self._tile = tile
        self.shape, self.dtype = (SIDE, SIDE, 3), tile.dtype

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[Any]:
        rows, columns = (np.arange(part.start, part.stop) % PERIOD for part in region)
        return self._tile[rows][:, columns]


def main(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    from cdjax import Spec, stylize_by_windows
    from tests.models import random_image, random_model

    model = random_model((Spec(1, (2,)),))
    tile = random_image(PERIOD, PERIOD, seed=1)
    result = stylize_by_windows(
        model, Repeated(tile), random_image(64, 64, seed=2),
        memory=100 * 10**6, host_memory=200 * 10**6, levels=True,
    )  # fmt: skip
    assert result.shape == (SIDE, SIDE, 3)
    first = np.asarray(result[PERIOD : 2 * PERIOD, PERIOD : 2 * PERIOD])
    assert first.std() > 1
    for row in range(1, SIDE // PERIOD - 1):
        for column in range(1, SIDE // PERIOD - 1):
            there = result[row * PERIOD :, column * PERIOD :][:PERIOD, :PERIOD]
            np.testing.assert_array_equal(there, first)
    print("done", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]))
