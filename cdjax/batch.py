"""Carrying out the jobs of a command line: read ahead, stylise, write, report what failed."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cdjax.image import ImageError, Picture, check_size, read_image, resize, write_image
from cdjax.jobs import Job

if TYPE_CHECKING:
    from cdjax.model import Model
    from cdjax.stylization import Style

_T = TypeVar("_T")


@dataclass(frozen=True)
class Settings:
    """How every picture is made.

    Attributes:
        alpha: strength of the style, 0 to 1.
        content_size: shorter side that contents are scaled to, or None to leave them as they are.
        style_size: likewise for styles.
        dtype: `"float32"` or `"bfloat16"`, the networks' compute dtype.
        quality: of JPEG and WebP, 1 to 100.
    """

    alpha: float = 1.0
    content_size: int | None = None
    style_size: int | None = None
    dtype: str = "float32"
    quality: int = 95


@dataclass(frozen=True)
class Gate:
    """Through which files are written and progress is shown, until another thread closes it."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Keeps the gate open for as long as the context lasts.

        Raises:
            KeyboardInterrupt: if it is closed.
        """
        with self._lock:
            if self._closed.is_set():
                raise KeyboardInterrupt
            yield

    def close(self) -> None:
        """Returns when nothing is being written, and nothing will be any more."""
        with self._lock:
            self._closed.set()


def run(
    jobs: Sequence[Job],
    load: Callable[[], "Model"],
    settings: Settings,
    gate: Gate,
    *,
    strict: bool = False,
) -> int:
    """Makes the pictures, each style's in a row, so that it is encoded once.

    Args:
        jobs: at least one; those of a style follow each other.
        load: hands out the model; called when the first files are being read.
        settings: how every picture is made.
        gate: through which they are written.
        strict: whether the first failure ends the run; otherwise it is a line on stderr.

    Returns:
        How many pictures could not be made.

    Raises:
        ImageError: if one could not be made, and the run is strict.
    """
    by_style = [(style, list(group)) for style, group in groupby(jobs, key=lambda job: job.style)]
    with ThreadPoolExecutor(2, "cdjax-read") as pool:
        try:
            contents = _read_ahead([job.content for job in jobs], settings.content_size, pool)
            styles = _read_ahead([style for style, _ in by_style], settings.style_size, pool)
            return _make_all(load(), by_style, contents, styles, settings, gate, strict)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _make_all(
    model: "Model",
    by_style: Sequence[tuple[Path, Sequence[Job]]],
    contents: Iterator[Picture | ImageError],
    styles: Iterator[Picture | ImageError],
    settings: Settings,
    gate: Gate,
    strict: bool,
) -> int:
    from tqdm import tqdm

    reported: set[str] = set()
    failed = 0
    total = sum(len(jobs) for _, jobs in by_style)
    quiet = strict and not sys.stderr.isatty()
    with tqdm(total=total, unit="image", disable=quiet, leave=False) as progress:
        try:
            for path, jobs in by_style:
                style = _encode(model, path, next(styles), settings.dtype)
                for job in jobs:
                    with gate.passed():
                        progress.set_postfix_str(job.output.name)
                    content = next(contents)
                    try:
                        _make(model, job, _sound(content), _sound(style), settings, gate)
                    except ImageError as error:
                        if strict:
                            raise
                        failed += 1
                        # A broken file is part of many pairs, and named once.
                        if (line := error_line(error)) not in reported:
                            progress.write(line, file=sys.stderr)
                            reported.add(line)
                    with gate.passed():
                        progress.update()
        except KeyboardInterrupt:
            progress.disable = True  # The last word has been said: not even remove the bar.
            raise
    return failed


def error_line(error: BaseException) -> str:
    """What is printed of an error: one line, whatever its message holds."""
    return f"cdjax: error: {' '.join(str(error).split())}"


def _sound(outcome: _T | ImageError) -> _T:
    """Raises the error that a step before this one ended with, if it did."""
    if isinstance(outcome, ImageError):
        raise outcome
    return outcome


def _read_ahead(
    paths: Sequence[Path], shorter_side: int | None, pool: ThreadPoolExecutor
) -> Iterator[Picture | ImageError]:
    """The pictures of the paths in order, each being read while the one before is in use."""

    def read(path: Path) -> Picture | ImageError:
        try:
            picture = read_image(path)
        except ImageError as error:
            return error
        try:
            return resize(picture, shorter_side) if shorter_side else picture
        except (ImageError, MemoryError) as error:
            return ImageError(f"{path}: {str(error) or 'does not fit in memory'}")

    def pictures(ahead: Future[Picture | ImageError]) -> Iterator[Picture | ImageError]:
        for path in paths[1:]:
            current, ahead = ahead, pool.submit(read, path)
            yield current.result()
        yield ahead.result()

    return pictures(pool.submit(read, paths[0]))


@contextmanager
def _within_memory(what: str, remedy: str) -> Iterator[None]:
    import jax

    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise ImageError(
                f"{what}: does not fit in memory; {remedy} makes it smaller"
            ) from error
        raise


def _encode(
    model: "Model", path: Path, picture: Picture | ImageError, dtype: str
) -> "Style | ImageError":
    from cdjax.stylization import encode_style

    try:
        pixels = _sound(picture).pixels
        with _within_memory(f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels", "--style-size"):
            return encode_style(model, pixels, dtype=dtype)
    except ImageError as error:
        return error


def _make(
    model: "Model",
    job: Job,
    content: Picture,
    style: "Style",
    settings: Settings,
    gate: Gate,
) -> None:
    import numpy as np

    from cdjax.stylization import stylize

    height, width = content.pixels.shape[:2]
    check_size(job.output, height, width)
    # The style's statistics may still be being computed, and fail only here.
    with _within_memory(
        f"{job.content} ({width}x{height} pixels) with {job.style}",
        "--content-size or --style-size",
    ):
        result = np.asarray(
            stylize(model, content.pixels, style, alpha=settings.alpha, dtype=settings.dtype)
        )
    with gate.passed():
        job.output.parent.mkdir(parents=True, exist_ok=True)
        write_image(job.output, Picture(result, content.alpha), quality=settings.quality)
