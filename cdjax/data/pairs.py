"""Batches of pairs of a content and a style, from two sources of images."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax.data.loader import Batches, DataConfig
from cdjax.errors import DataError


class Pairs(Iterator[NDArray[np.uint8]], AbstractContextManager["Pairs"]):
    """Endless batches (N, 2, crop, crop, 3), uint8 RGB: a content and a style each.

    Positions, broken images and worker processes are handled as by `cdjax.data.loader.Batches`.

    Args:
        contents: the images on the first side.
        styles: those on the second side; crop and batch size must be those of `contents`.
        contents_as_styles: share of the styles that are drawn from the source of `contents`
            instead, with the scales and `colors` of `styles`.
        process_index, process_count: as for `cdjax.data.loader.Batches`.

    Raises:
        DataError: if a source cannot be opened, or the two do not fit.
    """

    def __init__(
        self,
        contents: DataConfig,
        styles: DataConfig,
        *,
        contents_as_styles: float = 0.0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        if (contents.crop, contents.batch) != (styles.crop, styles.batch):
            raise DataError("contents and styles must be of one crop and one batch size")
        if not 0 <= contents_as_styles <= 1:
            raise DataError(f"the share of contents must be from 0 to 1, not {contents_as_styles}")
        configs = {"contents": contents, "styles": styles}
        if contents_as_styles:
            # The contents' source as the styles are drawn, in another order.
            configs["contents as styles"] = replace(
                contents, seed=styles.seed + 1, scales=styles.scales, colors=styles.colors
            )
        hosts = {"process_index": process_index, "process_count": process_count}
        self._sides = {name: Batches(config, **hosts) for name, config in configs.items()}
        self._share, self._styles = contents_as_styles, styles
        self._first = process_index * (styles.batch // process_count)

    @property
    def skipped(self) -> int:
        """As for `Batches`."""
        return sum(side.skipped for side in self._sides.values())

    @property
    def broken(self) -> tuple[str, ...]:
        """As for `Batches`."""
        return tuple(name for side in self._sides.values() for name in side.broken)

    def state(self) -> dict[str, Any]:
        """As for `Batches`."""
        return {name: side.state() for name, side in self._sides.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """As for `Batches`."""
        if set(state) != set(self._sides):
            raise DataError("the saved position is not one of pairs; start again")
        for name, side in self._sides.items():
            side.restore(state[name])

    def close(self) -> None:
        """Ends the worker processes; `next` then raises `ValueError`."""
        for side in self._sides.values():
            side.close()

    def __next__(self) -> NDArray[np.uint8]:
        before = self.state()
        try:
            contents, styles, *others = (next(side) for side in self._sides.values())
            if others:
                # A function of the position, like everything else in a batch.
                rng = np.random.default_rng([self._styles.seed, before["styles"]["batch"]])
                chosen = rng.random(self._styles.batch) < self._share
                chosen = chosen[self._first : self._first + len(styles)]
                styles = np.where(chosen[:, None, None, None], others[0], styles)
            return np.stack([contents, styles], axis=1)
        except BaseException:
            self.restore(before)  # Neither side may be a batch ahead.
            raise

    def __exit__(self, *error: object) -> None:
        self.close()
