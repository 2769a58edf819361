"""What a person sees of a distillation: a progress bar, JSON lines, TensorBoard and pictures."""

import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from cdjax.distillation.config import Phase
from cdjax.distillation.pipeline import PhaseObserver

_LOGGED = 1000
"""Steps of a phase that are logged, about."""
_TIMED = 20
"""Steps over which the images in a second are counted: the last two before a checkpoint are told
at once."""
_HEADER = 14
_LOSSES = ("embedding", "pixel", "perceptual", "content", "style")


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as beside:
        part = Path(beside) / path.name
        part.write_text(text)
        part.replace(path)


def picture_grid(columns: dict[str, NDArray[np.uint8]]) -> Image.Image:
    """A row for every image, a column for everything that has made one, names above."""
    count, height, width = next(iter(columns.values())).shape[:3]
    sheet = Image.new("RGB", (len(columns) * width, _HEADER + count * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, images) in enumerate(columns.items()):
        draw.text((i * width + 2, 1), name, fill="black")
        for j, image in enumerate(images):
            sheet.paste(Image.fromarray(image), (i * width, _HEADER + j * height))
    return sheet


class Silent:
    """The observer of every process but the first of a run on several machines."""

    def say(self, line: str) -> None:
        """Nothing."""

    @contextmanager
    def phase(
        self, stage: int, phase: Phase, folder: Path, *, steps: int, batch: int
    ) -> Iterator[PhaseObserver]:
        """Nothing."""
        yield _SilentPhase()


class _SilentPhase:
    def step(self, step: int, metrics: dict[str, float]) -> None:
        pass

    def pictures(self, step: int, columns: dict[str, NDArray[np.uint8]]) -> None:
        pass


class Watch:
    """Prints lines to stderr, prefixed with the time since the start; and watches phases."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """Prints a line, above a progress bar if there is one."""
        tqdm.write(f"[{time.monotonic() - self._began:6.0f} s] {line}", file=sys.stderr)

    def phase(
        self, stage: int, phase: Phase, folder: Path, *, steps: int, batch: int
    ) -> AbstractContextManager[PhaseObserver]:
        """A progress bar, `log.jsonl`, TensorBoard's events and `pictures/` of a phase."""
        return _phase(f"stage {stage} {phase}", folder, steps=steps, batch=batch)


@contextmanager
def _phase(label: str, folder: Path, *, steps: int, batch: int) -> Iterator[PhaseObserver]:
    from tensorboardX import SummaryWriter

    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    with (
        tqdm(total=steps, desc=label, unit="step", dynamic_ncols=True) as bar,
        SummaryWriter(str(folder / "tensorboard")) as board,
        open(folder / "log.jsonl", "a") as log,
    ):
        yield _Phase(bar, board, log, folder, every=max(1, steps // _LOGGED), batch=batch)


class _Phase:
    def __init__(
        self, bar: Any, board: Any, log: Any, folder: Path, *, every: int, batch: int
    ) -> None:
        self._bar, self._board, self._log, self._folder = bar, board, log, folder
        self._every, self._batch = every, batch
        self._past: deque[tuple[int, float]] = deque(maxlen=1 + _TIMED)

    def step(self, step: int, metrics: dict[str, float]) -> None:
        now = time.monotonic()
        if not self._past:
            # Of a run that goes on, earlier steps are done; compilation is behind the first one.
            self._bar.update(step - 1)
            self._bar.unpause()
        self._past.append((step, now))
        self._bar.update(1)
        if step % self._every and step != self._bar.total:
            return
        record: dict[str, float] = {"step": step, "time": time.time(), **metrics}
        before, then = self._past[0]
        if step > before and now > then:
            record["images_per_second"] = (step - before) * self._batch / (now - then)
        self._log.write(json.dumps(record) + "\n")
        self._log.flush()
        for name, value in record.items():
            if name not in ("step", "time"):
                self._board.add_scalar(name, value, step)
        shown = {name: record[name] for name in ("loss", "images_per_second") if name in record}
        losses = {n: metrics[n] for n in _LOSSES if n in metrics}
        self._bar.set_postfix({k: f"{v:.3g}" for k, v in (shown | losses).items()}, refresh=False)

    def pictures(self, step: int, columns: dict[str, NDArray[np.uint8]]) -> None:
        sheet = picture_grid(columns)
        path = self._folder / "pictures" / f"{step:07d}.png"
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as beside:
            sheet.save(Path(beside) / path.name)
            (Path(beside) / path.name).replace(path)
        self._board.add_image("pictures", np.asarray(sheet), step, dataformats="HWC")
