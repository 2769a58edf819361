"""How one film is made: read ahead, stylised, written in segments, joined at the end."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cdjax.cli.film_masks import Masks
from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import Job
from cdjax.cli.painting import visible_style
from cdjax.errors import VideoError
from cdjax.io.atomic import replace_folder
from cdjax.io.images import Picture, scaled_size
from cdjax.model import Model
from cdjax.progress import OnProgress, Progress
from cdjax.tiling.budget import fits_in_memory
from cdjax.transfer.stylize import Style, encode_style
from cdjax.video import encoding, frame_folder
from cdjax.video.films import Film, read_film
from cdjax.video.frame_folder import FrameFolder, read_folder
from cdjax.video.segments import SEGMENT, SegmentFolder
from cdjax.video.smoothing import initial_state
from cdjax.video.stylize import FrameSettings, frames_and_states

_T = TypeVar("_T")

Source = Film | FrameFolder
Write = Callable[[NDArray[np.uint8]], None]


@dataclass(frozen=True)
class FilmSettings:
    """How a film is made.

    Attributes:
        frames: how every frame is stylised.
        size: height and width to which frames are scaled.
        masks: where the style is used, as `cdjax.cli.film_masks.open_masks` found them.
        crf: constant rate factor of the encoder.
        strip: whether metadata is left out.
        overwrite: whether an output that exists is replaced.
    """

    frames: FrameSettings
    size: tuple[int, int]
    masks: Masks | None
    crf: int
    strip: bool
    overwrite: bool


def frame_size(source: Source, shorter_side: int | None) -> tuple[int, int]:
    """Height and width of the frames of a source that are scaled to a shorter side, if any.

    Scaled sides are even, so that nothing is added to encode them.
    """
    if shorter_side is None:
        return source.size
    height, width = (2 * round(side / 2) for side in scaled_size(source.size, shorter_side))
    return max(height, 2), max(width, 2)


def film_style(
    model: Model,
    source: Source,
    job: Job,
    painting: Picture,
    settings: FilmSettings,
    on_progress: OnProgress,
) -> Style:
    """The style of the painting of a job, if asked for in the colours of the first frame.

    Raises:
        ImageError, VideoError: as `make_film`, of masks.
    """
    ((path, mask),) = job.masked_styles
    options: Any = {"dtype": settings.frames.dtype, "mask": visible_style(painting, path, mask)}
    if settings.frames.preserve_color == "match":
        frames = _masked_frames(source, settings, on_progress)
        options["colors_of"], _, options["colors_mask"] = next(frames)
    return encode_style(model, painting.pixels, **options)


def make_film(
    model: Model,
    source: Source,
    style: Style,
    output: Path,
    settings: FilmSettings,
    kept: SegmentFolder,
    guard: InterruptGuard,
    on_progress: OnProgress,
) -> int:
    """Stylises a film, and continues where an interrupted run of the same film was.

    To be called in the context of `kept.made()`. The output is a film if it has the suffix of one,
    else a folder of frames.

    Returns:
        The number of frames of the result.

    Raises:
        ImageError: if a mask cannot be read or does not fit the frames.
        VideoError: if frames do not fit in memory or masks in number, or a film cannot be used.
        OSError: if a file cannot be written.
    """
    height, width = settings.size
    if not fits_in_memory(settings.size, model.config):
        what = f"frames of {width}x{height} pixels do not fit in memory"
        raise VideoError(f"{output}: {what}; --content-size makes them smaller")
    is_film = output.suffix.lower() in encoding.CONTAINERS
    part = kept.segment if is_film else lambda number: kept.frames
    done, state = kept.load(initial_state(model.config, settings.size), part)
    pace = _Pace(output.name, source.length, on_progress)
    frames = _read_ahead(_masked_frames(source, settings, on_progress))
    pace.start(sum(times for _, times, _ in islice(frames, done * SEGMENT)))
    waiting: deque[int] = deque()  # How often the frames that are being computed are shown.

    def pixels() -> Iterator[tuple[NDArray[np.uint8], Any]]:
        for frame, times, mask in frames:
            waiting.append(times)
            yield frame, mask

    results = frames_and_states(model, pixels(), style, settings.frames, state)
    for number in count(done):
        group = islice(results, SEGMENT)
        if (first := next(group, None)) is None:
            break
        with _writer(part(number), is_film, source, settings, pace.shown) as write:
            for image, after in chain([first], group):
                state = after
                for _ in range(times := waiting.popleft()):
                    write(image)
                pace.add(times)
        kept.save(number + 1, state)
        done = number + 1
    with guard.protected():
        if is_film:
            _join([part(number) for number in range(done)], output, source, settings)
        else:
            replace_folder(kept.frames, output, ours=frame_folder.is_frame)
        kept.clear()
    return pace.shown


class _Pace:
    """Counts the frames of the result and reports them with their number a second."""

    def __init__(self, task: str, total: int, on_progress: OnProgress) -> None:
        self._task, self._total, self._on_progress = task, total, on_progress
        self.shown = self._first = 0
        self._began = time.monotonic()

    def start(self, shown: int) -> None:
        self.shown = shown
        if shown:
            message = f"cdjax: continues after frame {shown}"
            self._on_progress(Progress(self._task, shown, self._total, message=message))

    def add(self, frames: int) -> None:
        now = time.monotonic()
        self.shown += frames
        if not self._first:  # Before it, programs are compiled.
            self._first, self._began = self.shown, now
        pace = (self.shown - self._first) / max(now - self._began, 1e-9)
        metrics = {"frames/s": pace} if self.shown > self._first else {}
        # What is damaged may decode to more frames than there are packets.
        self._on_progress(Progress(self._task, self.shown, max(self._total, self.shown), metrics))


def read_frames(
    source: Source, size: tuple[int, int], on_progress: OnProgress
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The frames of a source, and how often each is shown; see `read_film` and `read_folder`."""
    if isinstance(source, FrameFolder):
        return read_folder(source, size)
    return read_film(source, size, on_progress)


def _masked_frames(
    source: Source, settings: FilmSettings, on_progress: OnProgress
) -> Iterator[tuple[NDArray[np.uint8], int, Any]]:
    """The frames and how often each is shown, with masks; where masks are damaged, the last one."""
    masks = settings.masks() if settings.masks else iter(())
    mask = None
    for frame, times in read_frames(source, settings.size, on_progress):
        for number, found in enumerate(islice(masks, times)):
            mask = found if number == 0 else mask
        yield frame, times, mask


def _read_ahead(items: Iterator[_T]) -> Iterator[_T]:
    """The items; the next one is made in another thread while one is in use."""
    with ThreadPoolExecutor(1, "cdjax-read") as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


def _writer(
    path: Path, is_film: bool, source: Source, settings: FilmSettings, shown: int
) -> AbstractContextManager[Write]:
    """Yields a function that writes a frame of a segment, which follows `shown` frames."""
    if not is_film:
        return _frame_writer(path, shown)
    size, crf = settings.size, settings.crf
    return encoding.segment_writer(path, size, source.rate, crf=crf, aspect=source.aspect)


@contextmanager
def _frame_writer(folder: Path, shown: int) -> Iterator[Write]:
    folder.mkdir(exist_ok=True)
    numbers = count(shown + 1)
    yield lambda pixels: frame_folder.write_frame(folder, next(numbers), pixels)


def _join(segments: list[Path], output: Path, source: Source, settings: FilmSettings) -> None:
    film = source if isinstance(source, Film) else None
    options: Any = {"strip": settings.strip, "overwrite": settings.overwrite}
    encoding.join(segments, output, source.rate, film=film, **options)
