"""What a distillation shows and writes: a progress bar, JSON lines, TensorBoard and pictures."""

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cdjax.cli.progress import ProgressBar
from cdjax.distillation.config import TrainTask
from cdjax.distillation.pipeline import Observer, PhaseObserver
from cdjax.io.atomic import atomic_file
from cdjax.progress import Progress

_LOGGED = 1000
"""Steps of a phase that are logged, approximately."""
_TIMED = 20
"""Steps over which images per second are counted: the last two before a checkpoint are reported
together."""
_HEADER = 14
_SHOWN = ("loss", "images_per_second", "embedding", "pixel", "perceptual", "content", "style")


def picture_grid(columns: Mapping[str, NDArray[np.uint8]]) -> Image.Image:
    """A row for each image and a column, with its name, for each set of images, (N, H, W, 3)."""
    count, height, width = next(iter(columns.values())).shape[:3]
    sheet = Image.new("RGB", (len(columns) * width, _HEADER + count * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, images) in enumerate(columns.items()):
        draw.text((i * width + 2, 1), name, fill="black")
        for j, image in enumerate(images):
            sheet.paste(Image.fromarray(image), (i * width, _HEADER + j * height))
    return sheet


class Watch(Observer):
    """Prints messages to stderr, after the seconds since the start, and logs phases."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._bar = ProgressBar(show=True, keep=True)

    def say(self, line: str) -> None:
        """Prints a line, above the progress bar if there is one."""
        seconds = time.monotonic() - self._began
        self._bar(Progress("", message=f"[{seconds:6.0f} s] {line}"))

    def on_progress(self, progress: Progress) -> None:
        """Prints the message of a report."""
        if progress.message:
            self.say(progress.message)

    @contextmanager
    def phase(self, task: TrainTask, folder: Path, *, batch: int) -> Iterator[PhaseObserver]:
        """A progress bar, `log.jsonl`, TensorBoard's events and `pictures/` of a phase."""
        from tensorboardX import SummaryWriter

        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        with (
            ProgressBar(show=True, keep=True) as bar,
            SummaryWriter(str(folder / "tensorboard")) as board,
            open(folder / "log.jsonl", "a") as log,
        ):
            yield _Phase(folder, bar, board, log, batch=batch)


class _Phase(PhaseObserver):
    def __init__(
        self, folder: Path, bar: ProgressBar, board: Any, log: IO[str], *, batch: int
    ) -> None:
        self._folder, self._batch = folder, batch
        self._bar, self._board, self._log = bar, board, log
        self._past: deque[tuple[int, float]] = deque(maxlen=1 + _TIMED)

    def on_progress(self, progress: Progress) -> None:
        step, steps, now = progress.done, progress.total or 0, time.monotonic()
        self._past.append((step, now))
        shown: dict[str, float] = {}
        if step % max(1, steps // _LOGGED) == 0 or step == steps:
            record: dict[str, float] = {"step": step, "time": time.time(), **progress.metrics}
            before, then = self._past[0]
            if step > before and now > then:
                record["images_per_second"] = (step - before) * self._batch / (now - then)
            self._log.write(json.dumps(record) + "\n")
            self._log.flush()
            for name, value in record.items():
                if name not in ("step", "time"):
                    self._board.add_scalar(name, value, step)
            shown = {name: record[name] for name in _SHOWN if name in record}
        self._bar(replace(progress, metrics=shown))

    def on_preview(self, step: int, columns: Mapping[str, NDArray[np.uint8]]) -> None:
        sheet = picture_grid(columns)
        with atomic_file(self._folder / "pictures" / f"{step:07d}.png") as temporary:
            sheet.save(temporary, format="png")
        self._board.add_image("pictures", np.asarray(sheet), step, dataformats="HWC")
