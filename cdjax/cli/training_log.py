"""What a distillation shows and writes: a progress bar, JSON lines, TensorBoard and pictures."""

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cdjax.cli.progress import ProgressBar
from cdjax.distillation.config import Phase
from cdjax.distillation.pipeline import PhaseObserver
from cdjax.io.atomic import atomic_file
from cdjax.progress import Progress

_LOGGED = 1000
"""Steps of a phase that are logged, approximately."""
_TIMED = 20
"""Steps over which images per second are counted: the last two before a checkpoint are reported
together."""
_HEADER = 14
_SHOWN = ("loss", "images_per_second", "embedding", "pixel", "perceptual", "content", "style")


def picture_grid(columns: dict[str, NDArray[np.uint8]]) -> Image.Image:
    """A sheet with a row for each image and a column, with its name, for each set of images.

    Args:
        columns: by name, (N, H, W, 3) uint8 RGB, all of one shape.
    """
    count, height, width = next(iter(columns.values())).shape[:3]
    sheet = Image.new("RGB", (len(columns) * width, _HEADER + count * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, images) in enumerate(columns.items()):
        draw.text((i * width + 2, 1), name, fill="black")
        for j, image in enumerate(images):
            sheet.paste(Image.fromarray(image), (i * width, _HEADER + j * height))
    return sheet


class Silent:
    """The observer in every process but the first of a run on several machines: does nothing."""

    def say(self, line: str) -> None:
        """Does nothing."""

    @contextmanager
    def phase(
        self, stage: int, phase: Phase, folder: Path, *, steps: int, batch: int
    ) -> Iterator[PhaseObserver]:
        """Yields an observer that does nothing."""
        yield _SilentPhase()


class _SilentPhase:
    def step(self, step: int, metrics: dict[str, float]) -> None:
        pass

    def pictures(self, step: int, columns: dict[str, NDArray[np.uint8]]) -> None:
        pass


class Watch:
    """Prints lines to stderr, after the seconds since the start, and logs phases."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._bar = ProgressBar(show=True, keep=True)

    def say(self, line: str) -> None:
        """Prints a line, above the progress bar if there is one."""
        seconds = time.monotonic() - self._began
        self._bar(Progress("", message=f"[{seconds:6.0f} s] {line}"))

    def phase(
        self, stage: int, phase: Phase, folder: Path, *, steps: int, batch: int
    ) -> AbstractContextManager[PhaseObserver]:
        """A progress bar, `log.jsonl`, TensorBoard's events and `pictures/` of a phase."""
        return _phase(f"stage {stage} {phase}", folder, steps=steps, batch=batch)


@contextmanager
def _phase(name: str, folder: Path, *, steps: int, batch: int) -> Iterator[PhaseObserver]:
    from tensorboardX import SummaryWriter

    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    with (
        ProgressBar(show=True, keep=True) as bar,
        SummaryWriter(str(folder / "tensorboard")) as board,
        open(folder / "log.jsonl", "a") as log,
    ):
        yield _Phase(name, folder, bar, board, log, steps=steps, batch=batch)


class _Phase:
    def __init__(
        self,
        name: str,
        folder: Path,
        bar: ProgressBar,
        board: Any,
        log: IO[str],
        *,
        steps: int,
        batch: int,
    ) -> None:
        self._name, self._folder, self._steps, self._batch = name, folder, steps, batch
        self._bar, self._board, self._log = bar, board, log
        self._past: deque[tuple[int, float]] = deque(maxlen=1 + _TIMED)

    def step(self, step: int, metrics: dict[str, float]) -> None:
        now = time.monotonic()
        self._past.append((step, now))
        shown: dict[str, float] = {}
        if step % max(1, self._steps // _LOGGED) == 0 or step == self._steps:
            record: dict[str, float] = {"step": step, "time": time.time(), **metrics}
            before, then = self._past[0]
            if step > before and now > then:
                record["images_per_second"] = (step - before) * self._batch / (now - then)
            self._log.write(json.dumps(record) + "\n")
            self._log.flush()
            for name, value in record.items():
                if name not in ("step", "time"):
                    self._board.add_scalar(name, value, step)
            shown = {name: record[name] for name in _SHOWN if name in record}
        self._bar(Progress(self._name, step, self._steps, shown))

    def pictures(self, step: int, columns: dict[str, NDArray[np.uint8]]) -> None:
        sheet = picture_grid(columns)
        with atomic_file(self._folder / "pictures" / f"{step:07d}.png") as temporary:
            sheet.save(temporary, format="png")
        self._board.add_image("pictures", np.asarray(sheet), step, dataformats="HWC")
