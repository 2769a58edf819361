"""Endless batches of image crops, from a folder, a TensorFlow Datasets name or dead leaves.

Everything about a crop (the image, the place, the scale, whether it is mirrored) is a function of
the seed and of its position in the endless sequence. So the number of worker processes does not
change the sequence, and a position is enough to resume from any batch. Grain runs the workers.

Batches are uint8 NHWC RGB. Worker processes are spawned and import the main module, so a script
that uses them needs `if __name__ == "__main__":`.
"""

import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax.data.dead_leaves import dead_leaves
from cdjax.data.sources import Folder, TfdsImages
from cdjax.errors import BrokenImageError, DataError

_MOST_NAMED = 10  # Broken images whose names are kept.
_MOST_TRIED = 64  # Broken images in a row after which the run ends.
_ORDER, _REPLACEMENT, _CROP, _SCALE, _COLORS = range(5)  # Independent random streams of a seed.


@dataclass(frozen=True)
class DataConfig:
    """Which images to read, and how crops are taken from them.

    Attributes:
        source: a folder (searched to any depth), `"tfds:NAME"` for a data set prepared by
            TensorFlow Datasets, as in `"tfds:coco/2014"`, or `"dead-leaves"` for synthetic images
            of the size of the crop, for which `shorter_side` and `scales` have no meaning.
        shorter_side: length in pixels to which each image's shorter side is scaled, up or down.
        crop: side of the random square crop, in pixels; at most `shorter_side`.
        batch: images in a batch, over all processes of a run.
        flip: whether half of the crops are mirrored left to right.
        seed: of everything random, at least 0.
        workers: processes that read and decode images; with 0, `next` does it. The batches are the
            same for every number.
        split: of a TensorFlow Datasets source, e.g. `"train"` or `"train[:90%]"`.
        data_dir: where TensorFlow Datasets has prepared it; `None` for its default.
        scales: lowest and highest factor of `shorter_side`, drawn log-uniformly for every crop.
            The scaled side is never smaller than the crop.
        colors: whether every crop gets other colours: `recolored`, at random.

    Raises:
        DataError: if a number is out of range.
    """

    source: str
    shorter_side: int = 300
    crop: int = 256
    batch: int = 16
    flip: bool = True
    seed: int = 0
    workers: int = 0
    split: str = "train"
    data_dir: str | None = None
    scales: tuple[float, float] = (1.0, 1.0)
    colors: bool = False

    def __post_init__(self) -> None:
        for name, least in (("crop", 1), ("batch", 1), ("seed", 0), ("workers", 0)):
            if getattr(self, name) < least:
                raise DataError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise DataError(f"scales must be two ascending numbers above 0, not {self.scales}")
        if self.source != "dead-leaves" and self.crop > self.shorter_side:
            raise DataError(
                f"crop {self.crop} does not fit into a shorter side of {self.shorter_side}"
            )


class Batches(Iterator[NDArray[np.uint8]], AbstractContextManager["Batches"]):
    """Endless iterator over batches, (batch / process_count, crop, crop, 3) uint8.

    Worker processes start at the first `next`. They end at `close`, at the end of a `with` block,
    when the iterator is no longer referenced, and when this process ends in any way.
    `next` skips and counts broken images, and raises `DataError` if many in a row are broken.

    Args:
        config: which images; the same in every process of a run.
        process_index: of this process, from 0. Each process yields its own part of every batch;
            the parts, joined in this order, equal the batch of a single process.
        process_count: number of processes; must divide the batch.

    Raises:
        DataError: if the source cannot be opened (the message says what to do), or the processes
            do not fit the batch.
    """

    def __init__(
        self, config: DataConfig, *, process_index: int = 0, process_count: int = 1
    ) -> None:
        self._closed = False
        # Grain's iterator, once there is one. It must end with this object, and on exit before the
        # modules that it needs; `__del__` cannot guarantee that.
        self._running: list[Any] = []
        weakref.finalize(self, _stop, self._running)
        if not 0 <= process_index < process_count:
            raise DataError(f"no process {process_index} among {process_count}")
        if config.batch % process_count:
            raise DataError(f"a batch of {config.batch} cannot be cut into {process_count} parts")
        self._config = config
        self._part = config.batch // process_count
        self._offset = process_index * self._part
        self._examples = _open(config)
        self._identity = {
            "source": self._examples.fingerprint,
            "seed": config.seed,
            "batch_size": config.batch,
        }
        self._batch = 0
        self._skipped: set[int] = set()
        self._broken: list[str] = []

    @property
    def examples_per_epoch(self) -> int:
        """Number of images of the source; a batch may span the end of an epoch."""
        return len(self._examples)

    @property
    def skipped(self) -> int:
        """Number of different images that this process has found broken so far."""
        return len(self._skipped)

    @property
    def broken(self) -> tuple[str, ...]:
        """For the first of them, the name and what is wrong."""
        return tuple(self._broken)

    def state(self) -> dict[str, Any]:
        """The position after the last batch, for `restore`: a JSON object."""
        return {
            **self._identity,
            "batch": self._batch,
            "skipped": sorted(self._skipped),
            "broken": list(self._broken),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes to the position at which `state` was taken.

        The number of workers and processes, the crop and the location of the folder may differ.

        Raises:
            DataError: if the state belongs to other images, another batch size or another seed.
        """
        for name, mine in self._identity.items():
            if state.get(name) != mine:
                raise DataError(
                    f"the saved position belongs to other data: {name} was {state.get(name)}, not "
                    f"{mine}; use the data that it was saved with, or start again"
                )
        _stop(self._running)
        self._batch = int(state["batch"])
        self._skipped = set(state["skipped"])
        self._broken = list(state["broken"])

    def close(self) -> None:
        """Ends the worker processes; `next` then raises `ValueError`."""
        self._closed = True
        _stop(self._running)

    def __next__(self) -> NDArray[np.uint8]:
        if self._closed:
            raise ValueError("these batches are closed")
        if not self._running:
            self._running.append(self._start())
        try:
            batch: _Batch = next(self._running[0])
        except BaseException:
            # Grain's iterator cannot continue after an error; a new one repeats the batch.
            _stop(self._running)
            raise
        self._batch += 1
        for index, reason in batch.broken:
            if index not in self._skipped and len(self._broken) < _MOST_NAMED:
                self._broken.append(reason)
            self._skipped.add(index)
        return batch.images

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self) -> Any:
        import grain

        parts = _Parts(self._examples, self._config.batch, self._offset, self._part, self._batch)
        dataset: Any = grain.MapDataset.source(parts).to_iter_dataset(
            grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        )
        if self._config.workers:
            from absl import flags

            # Grain reads absl flags when it starts processes, which is an error before absl has
            # parsed a command line.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(
                num_workers=self._config.workers, per_worker_buffer_size=2
            )
            dataset = dataset.mp_prefetch(options, worker_init_fn=_start_worker)
        return iter(dataset)


def _stop(running: list[Any]) -> None:
    while running:
        running.pop().close()


@dataclass(frozen=True)
class _Batch:
    """A batch that a worker process returns.

    Not a tuple: Grain would put the array of a tuple into shared memory. Containers have 64 MB of
    it by default, and a worker dies when it is full.
    """

    images: NDArray[np.uint8]
    broken: list[tuple[int, str]]


@dataclass(frozen=True)
class _Parts:
    """A Grain source: this process's parts of the batches, starting at batch `first`."""

    examples: "_DeadLeaves | _Photographs"
    batch: int
    offset: int
    part: int
    first: int

    def __len__(self) -> int:
        return 2**40  # Endless, but Grain's data sets need a length.

    def __getitem__(self, index: int) -> _Batch:
        start = (self.first + index) * self.batch + self.offset
        broken: list[tuple[int, str]] = []
        crops = [self.examples.example(start + i, broken) for i in range(self.part)]
        return _Batch(np.stack(crops), broken)


@dataclass(frozen=True)
class _DeadLeaves:
    config: DataConfig
    fingerprint: str = "dead-leaves"

    def __len__(self) -> int:
        return 10_000  # They never repeat; this many are called an epoch.

    def example(self, position: int, broken: list[tuple[int, str]]) -> NDArray[np.uint8]:
        return dead_leaves(self.config.seed, position, size=self.config.crop)


@dataclass(frozen=True)
class _Photographs:
    """The crop at each position of the endless sequence."""

    config: DataConfig
    source: Folder | TfdsImages

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def example(self, position: int, broken: list[tuple[int, str]]) -> NDArray[np.uint8]:
        crop, side = self.config.crop, self.config.shorter_side
        if self.config.scales != (1.0, 1.0):
            low, high = np.log(self.config.scales)
            scale = np.random.default_rng([self.config.seed, _SCALE, position]).uniform(low, high)
            side = max(crop, round(side * float(np.exp(scale))))
        image = self._image(position, side, broken)
        rng = np.random.default_rng([self.config.seed, _CROP, position])
        top, left = rng.integers(0, [image.shape[0] - crop + 1, image.shape[1] - crop + 1])
        image = image[top : top + crop, left : left + crop]
        if self.config.colors:
            seeds = [self.config.seed, _COLORS, position]
            image = recolored(image, np.random.default_rng(seeds))
        return image[:, ::-1] if rng.random() < 0.5 and self.config.flip else image

    def _image(self, position: int, side: int, broken: list[tuple[int, str]]) -> NDArray[np.uint8]:
        seed, count = self.config.seed, len(self.source)
        epoch, place = divmod(position, count)
        # The next in the order would replace a broken image by one that is in the batch already.
        start = int(np.random.default_rng([seed, _REPLACEMENT, position]).integers(count))
        places = [place, *((start + i) % count for i in range(min(count, _MOST_TRIED)))]
        for index in _order(seed, epoch, count)[places].tolist():
            try:
                return self.source.read(index, shorter_side=side)
            except BrokenImageError as error:
                broken.append((index, str(error)))
        found = f"{len(places)} images in a row are broken; the last: {broken[-1][1]}"
        raise DataError(f"{self.config.source}: {found}")


def recolored(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """An image (H, W, 3), uint8, with exchanged channels and another saturation and gradation.

    What is drawn are the order of the channels, for each of them an exponent of 0.6 to 1.7 of its
    values in [0, 1], and a factor of 0.5 to 1.5 of their differences from grey.
    """
    exponents = np.exp(rng.uniform(np.log(0.6), np.log(1.7), 3))
    values = (image[..., rng.permutation(3)] / np.float32(255)) ** exponents.astype(np.float32)
    grey = values.mean(-1, keepdims=True)
    values = grey + np.float32(rng.uniform(0.5, 1.5)) * (values - grey)
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def _open(config: DataConfig) -> _DeadLeaves | _Photographs:
    if config.source == "dead-leaves":
        return _DeadLeaves(config)
    scheme, _, name = config.source.partition(":")
    if scheme != "tfds":
        return _Photographs(config, Folder(config.source))
    return _Photographs(config, TfdsImages(name, split=config.split, data_dir=config.data_dir))


@lru_cache(maxsize=2)  # A batch may span the end of an epoch.
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def _start_worker(index: int, count: int) -> None:
    # Only the main process handles Ctrl-C, and ends its workers itself. It cannot if it is killed,
    # so each worker also watches it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
