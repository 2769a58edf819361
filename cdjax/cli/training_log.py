"""What a distillation shows and writes: a progress bar, JSON lines, TensorBoard and pictures."""

import json
import os
import secrets
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cdjax.cli.picture_grid import picture_grid
from cdjax.cli.progress import ProgressBar, print_line
from cdjax.distillation.config import TrainTask
from cdjax.distillation.pipeline import Observer, PhaseObserver
from cdjax.io.images import Picture, write_image
from cdjax.progress import Progress

_LOGGED = 1000
"""Steps of a phase that are logged, approximately."""
_TIMED = 20
"""Reports over which images per second are counted; two come at once before a checkpoint."""
_SHOWN = ("loss", "images_per_second", "embedding", "pixel", "perceptual", "content", "style")


class Watch(Observer):
    """Prints messages to stderr, after the seconds since the start, and logs phases.

    Args:
        quiet: whether nothing is printed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._began, self._quiet = time.monotonic(), quiet

    def say(self, line: str) -> None:
        """Prints a line, above the progress bar if there is one."""
        seconds = time.monotonic() - self._began
        if not self._quiet:
            print_line(f"[{seconds:6.0f} s] {line}")

    def on_progress(self, progress: Progress) -> None:
        """Prints the message of a report."""
        if progress.message:
            self.say(progress.message)

    @contextmanager
    def phase(self, task: TrainTask, folder: Path, *, batch: int) -> Iterator[PhaseObserver]:
        """A progress bar, `log.jsonl`, TensorBoard's events and `pictures/` of a phase."""
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        with (
            ProgressBar(keep=True, quiet=self._quiet) as bar,
            closing(_Board(folder / "tensorboard")) as board,
            open(folder / "log.jsonl", "a+b") as log,
        ):
            if log.tell():
                log.seek(-1, os.SEEK_END)
                if log.read() != b"\n":  # A run that was killed left half a line.
                    log.write(b"\n")
            yield _Phase(folder, batch, bar, board, log)


class _Board:
    """TensorBoard's file of events in a folder.

    It is written in the calling thread: that of tensorboardX dies on a full disk, and then its
    queue waits for ever.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        # A name of its own, because the writer empties a file that exists.
        name = f"events.out.tfevents.{int(time.time())}.{secrets.token_hex(8)}"
        self._records = RecordWriter(str(folder / name))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())

    def add(self, summary: Any, step: int) -> None:
        """Adds a summary of a step; OSError if the file cannot be written."""
        from tensorboardX.proto.event_pb2 import Event

        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Writes what was added to the disk."""
        self._records.flush()

    def close(self) -> None:
        """Writes what was added and closes the file."""
        self._records.close()


@dataclass(frozen=True)
class _Phase(PhaseObserver):
    folder: Path
    batch: int
    bar: ProgressBar
    board: _Board
    log: IO[bytes]
    past: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=1 + _TIMED))

    def on_progress(self, progress: Progress) -> None:
        from tensorboardX.summary import scalar

        step, steps, now = progress.done, progress.total or 0, time.monotonic()
        self.past.append((step, now))
        shown: dict[str, float] = {}
        if step % max(1, steps // _LOGGED) == 0 or step == steps:
            shown = dict(progress.metrics)
            before, then = self.past[0]
            if step > before and now > then:
                shown["images_per_second"] = (step - before) * self.batch / (now - then)
            record = {"step": step, "time": time.time(), **shown}
            self.log.write(json.dumps(record).encode() + b"\n")
            self.log.flush()
            for name, value in shown.items():
                self.board.add(scalar(name, value), step)
            self.board.flush()
        self.bar(replace(progress, metrics={name: shown[name] for name in _SHOWN if name in shown}))

    def on_preview(self, step: int, columns: Mapping[str, NDArray[np.uint8]]) -> None:
        from tensorboardX.summary import image

        sheet = np.asarray(picture_grid(columns))
        write_image(self.folder / "pictures" / f"{step:07d}.png", Picture(sheet))
        self.board.add(image("pictures", sheet, dataformats="HWC"), step)
