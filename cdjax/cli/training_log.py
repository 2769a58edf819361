"""What a distillation shows and writes: a progress bar, JSON lines, TensorBoard and pictures."""

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cdjax.cli.picture_grid import picture_grid
from cdjax.cli.progress import ProgressBar, print_line
from cdjax.distillation.config import TrainTask
from cdjax.distillation.pipeline import Observer, PhaseObserver
from cdjax.io.atomic import atomic_file
from cdjax.progress import Progress

_LOGGED = 1000
"""Steps of a phase that are logged, approximately."""
_TIMED = 20
"""Reports over which images per second are counted; two come at once before a checkpoint."""
_SHOWN = ("loss", "images_per_second", "embedding", "pixel", "perceptual", "content", "style")


class Watch(Observer):
    """Prints messages to stderr, after the seconds since the start, and logs phases."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """Prints a line, above the progress bar if there is one."""
        seconds = time.monotonic() - self._began
        print_line(f"[{seconds:6.0f} s] {line}")

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
            ProgressBar(keep=True) as bar,
            SummaryWriter(str(folder / "tensorboard")) as board,
            open(folder / "log.jsonl", "a") as log,
        ):
            yield _Phase(folder, batch, bar, board, log)


@dataclass(frozen=True)
class _Phase(PhaseObserver):
    folder: Path
    batch: int
    bar: ProgressBar
    board: Any
    log: IO[str]
    past: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=1 + _TIMED))

    def on_progress(self, progress: Progress) -> None:
        step, steps, now = progress.done, progress.total or 0, time.monotonic()
        self.past.append((step, now))
        shown: dict[str, float] = {}
        if step % max(1, steps // _LOGGED) == 0 or step == steps:
            shown = dict(progress.metrics)
            before, then = self.past[0]
            if step > before and now > then:
                shown["images_per_second"] = (step - before) * self.batch / (now - then)
            self.log.write(json.dumps({"step": step, "time": time.time(), **shown}) + "\n")
            self.log.flush()
            for name, value in shown.items():
                self.board.add_scalar(name, value, step)
        self.bar(replace(progress, metrics={name: shown[name] for name in _SHOWN if name in shown}))

    def on_preview(self, step: int, columns: Mapping[str, NDArray[np.uint8]]) -> None:
        sheet = picture_grid(columns)
        with atomic_file(self.folder / "pictures" / f"{step:07d}.png") as temporary:
            sheet.save(temporary, format="png")
        self.board.add_image("pictures", np.asarray(sheet), step, dataformats="HWC")
