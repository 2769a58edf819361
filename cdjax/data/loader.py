"""A folder, a TensorFlow Datasets name or nothing but a seed -> endless batches of crops.

Everything about an image (which one, which crop, whether it is mirrored) is a function of the seed
and of its position in the endless sequence. Worker processes therefore cannot change the sequence,
and a position is all that it takes to go on from any batch. Grain moves the work into processes.

Batches are uint8 NHWC RGB. Worker processes are spawned: they import the main module, so a script
that uses them needs the usual `if __name__ == "__main__":`.
"""

import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cdjax.data.dead_leaves import dead_leaves
from cdjax.data.sources import (
    Folder,
    Source,
    TfdsImages,
)
from cdjax.errors import BrokenImageError, DataError

DEAD_LEAVES_PER_EPOCH = 10_000
"""No dead-leaves image ever comes again; this many are called an epoch."""

_NAMED = 10  # Broken images whose names are kept.
_MOST_TRIED = 64  # Broken images in a row that end the run.
_ENDLESS = 2**40  # Batches; Grain's data sets have a length.
_ORDER, _REPLACEMENT, _CROP = range(3)  # Streams of random numbers of a seed.


@dataclass(frozen=True)
class DataConfig:
    """Which images, and what becomes of them.

    Attributes:
        source: a folder (searched to any depth), `"tfds:NAME"` for a data set prepared by
            TensorFlow Datasets as in `"tfds:coco/2014"`, or `"dead-leaves"` for images made on
            the spot (of the size of the crop; the shorter side means nothing to them).
        shorter_side: to which each image is scaled, up or down, aspect kept, in pixels.
        crop: side of the random square cut from it, at most `shorter_side`.
        batch: images in a batch, over all processes of a run.
        flip: whether half of the crops are mirrored left to right.
        seed: of all that is random, at least 0.
        workers: processes that read and decode; with 0 it happens in `next` itself. The
            batches are the same for every number.
        split: of a TensorFlow Datasets source, e.g. `"train"` or `"train[:90%]"`.
        data_dir: where TensorFlow Datasets has prepared it; `None` for its own default.

    Raises:
        DataError: if a number is out of its range.
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

    def __post_init__(self) -> None:
        for name, least in (("crop", 1), ("batch", 1), ("seed", 0), ("workers", 0)):
            if getattr(self, name) < least:
                raise DataError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.source != "dead-leaves" and self.crop > self.shorter_side:
            raise DataError(
                f"crop {self.crop} does not fit into a shorter side of {self.shorter_side}"
            )


def batches(config: DataConfig, *, process_index: int = 0, process_count: int = 1) -> "Batches":
    """Opens the source and returns its batches, none of which is read yet.

    Args:
        config: which images; the same in every process of a run.
        process_index: of this process, from 0. Each yields its own part of every batch: joined
            in the order of the processes, the parts are what a single process would yield.
        process_count: how many processes the run has; must divide the batch.

    Raises:
        DataError: if the source cannot be had (each message says what to do), or the processes
            do not fit the batch.
    """
    return Batches(config, process_index=process_index, process_count=process_count)


class Batches(Iterator[NDArray[np.uint8]]):
    """The iterator that `batches` returns: (batch / processes, crop, crop, 3), without end.

    Its worker processes start at the first `next` and end at `close`, at the end of a `with`
    block, when the iterator is no longer referred to, and when this process ends, however it does.
    `next` raises `DataError` where many images in a row are broken; a few are skipped and counted.
    """

    def __init__(self, config: DataConfig, *, process_index: int, process_count: int) -> None:
        self._closed = False
        # Grain's iterator, once there is one. It must end with this object, and before the modules
        # that it needs when Python exits: more than `__del__` can promise.
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
        self._batch = 0
        self._skipped: set[int] = set()
        self._broken: list[str] = []

    @property
    def examples_per_epoch(self) -> int:
        """How many images the source has; batches run on over the end of an epoch."""
        return len(self._examples)

    @property
    def skipped(self) -> int:
        """How many different images of the source this process has found broken so far."""
        return len(self._skipped)

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the first of them, and what is wrong with each."""
        return tuple(self._broken)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on with the batch after the last one: a JSON object."""
        return {
            **self._identity(),
            "batch": self._batch,
            "skipped": sorted(self._skipped),
            "broken": list(self._broken),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Makes the next batch the one that came next when `state` was taken.

        The number of workers and of processes, the crop and the folder's place may differ.

        Raises:
            DataError: if the state is of other images, another batch size or another seed.
        """
        for name, mine in self._identity().items():
            if state.get(name) != mine:
                raise DataError(
                    f"this position is not of these batches: {name} was {state.get(name)} and is "
                    f"{mine}; restore it with the data it was saved with, or start anew"
                )
        _stop(self._running)
        self._batch = int(state["batch"])
        self._skipped = set(state["skipped"])
        self._broken = list(state["broken"])

    def close(self) -> None:
        """Ends the worker processes; there is no next batch after it."""
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
            # Grain's iterator cannot go on after an error; a new one tries the same batch again.
            _stop(self._running)
            raise
        self._batch += 1
        for index, reason in batch.broken:
            if index not in self._skipped and len(self._broken) < _NAMED:
                self._broken.append(reason)
            self._skipped.add(index)
        return batch.images

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _identity(self) -> dict[str, Any]:
        return {
            "source": self._examples.fingerprint,
            "seed": self._config.seed,
            "batch_size": self._config.batch,
        }

    def _start(self) -> Any:
        import grain

        parts = _Parts(self._examples, self._config.batch, self._offset, self._part, self._batch)
        dataset: Any = grain.MapDataset.source(parts).to_iter_dataset(
            grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        )
        if self._config.workers:
            from absl import flags

            # Grain reads its flags when it starts processes, which absl allows only after the
            # parsing of a command line, and ours is not absl's.
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
    """A batch on its way from a worker process.

    Not a tuple: Grain would look into it and lay the array into shared memory, of which a
    container has 64 MB unless told otherwise, and a worker dies where it is full.
    """

    images: NDArray[np.uint8]
    broken: list[tuple[int, str]]


@dataclass(frozen=True)
class _Parts:
    """This process's parts of the batches from `first` on, as a Grain source."""

    examples: "_DeadLeaves | _Photographs"
    batch: int
    offset: int
    part: int
    first: int

    def __len__(self) -> int:
        return _ENDLESS

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
        return DEAD_LEAVES_PER_EPOCH

    def example(self, position: int, broken: list[tuple[int, str]]) -> NDArray[np.uint8]:
        return dead_leaves(self.config.seed, position, size=self.config.crop)


@dataclass(frozen=True)
class _Photographs:
    """The crop at each position of the endless sequence; broken images are added to a list."""

    config: DataConfig
    source: Source

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def example(self, position: int, broken: list[tuple[int, str]]) -> NDArray[np.uint8]:
        image = self._image(position, broken)
        crop = self.config.crop
        rng = np.random.default_rng([self.config.seed, _CROP, position])
        top, left = rng.integers(0, [image.shape[0] - crop + 1, image.shape[1] - crop + 1])
        image = image[top : top + crop, left : left + crop]
        return image[:, ::-1] if rng.random() < 0.5 and self.config.flip else image

    def _image(self, position: int, broken: list[tuple[int, str]]) -> NDArray[np.uint8]:
        tried = 0
        for index in self._candidates(position):
            try:
                return self.source.read(index, shorter_side=self.config.shorter_side)
            except BrokenImageError as error:
                broken.append((index, str(error)))
                tried += 1
        raise DataError(
            f"{self.config.source}: {tried} images in a row are broken; the last: {broken[-1][1]}"
        )

    def _candidates(self, position: int) -> Iterator[int]:
        """The image for a position, then those that take its place while they are broken."""
        seed, count = self.config.seed, len(self.source)
        epoch, place = divmod(position, count)
        order = _order(seed, epoch, count)
        yield int(order[place])
        # Not the next in the order: as a rule it is in the same batch already.
        start = int(np.random.default_rng([seed, _REPLACEMENT, position]).integers(count))
        for i in range(min(count, _MOST_TRIED)):
            yield int(order[(start + i) % count])


def _open(config: DataConfig) -> _DeadLeaves | _Photographs:
    if config.source == "dead-leaves":
        return _DeadLeaves(config)
    scheme, _, name = config.source.partition(":")
    if scheme == "tfds":
        source: Source = TfdsImages(name, split=config.split, data_dir=config.data_dir)
    else:
        source = Folder(config.source)
    return _Photographs(config, source)


@lru_cache(maxsize=2)  # A batch may lie across the end of an epoch.
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def _start_worker(index: int, count: int) -> None:
    # Ctrl-C is for the main process, which ends its workers in its own time. A main process that
    # is killed cannot: each worker watches it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
