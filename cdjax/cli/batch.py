"""Making the pictures of a command line: read ahead, stylise, write, report what failed."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import Job, Settings
from cdjax.cli.large import encode_large, fits_in_memory, make_large
from cdjax.cli.parser import error_line
from cdjax.cli.progress import ProgressBar
from cdjax.errors import ImageError
from cdjax.io.images import Picture, check_size, write_image
from cdjax.io.streaming import open_picture, raster
from cdjax.progress import Progress

if TYPE_CHECKING:
    from cdjax.io.vips import VipsImage
    from cdjax.model import Model
    from cdjax.transfer.stylize import Style

_T = TypeVar("_T")
_Reading: TypeAlias = "Future[Picture | VipsImage]"


def run(
    jobs: Sequence[Job],
    load: Callable[[], "Model"],
    settings: Settings,
    guard: InterruptGuard,
    *,
    strict: bool = False,
) -> int:
    """Makes the pictures, all of a style in a row, so that it is encoded once.

    Args:
        jobs: at least one; those of a style follow each other.
        load: returns the model; called while the first files are being read.
        settings: how every picture is made.
        guard: under which they are written.
        strict: whether the first failure raises `ImageError`; otherwise it is printed in one line.

    Returns:
        How many pictures could not be made.
    """
    by_style = [(paths, list(group)) for paths, group in groupby(jobs, key=lambda job: job.styles)]
    with ThreadPoolExecutor(2, "cdjax-read") as pool:
        try:
            contents = _read_ahead([job.content for job in jobs], settings.content_size, pool)
            paths = [path for mixture, _ in by_style for path in mixture]
            styles = _read_ahead(paths, settings.style_size, pool)
            return _make_all(load(), by_style, contents, styles, settings, guard, strict)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _make_all(
    model: "Model",
    by_style: Sequence[tuple[tuple[Path, ...], Sequence[Job]]],
    contents: Iterator[_Reading],
    styles: Iterator[_Reading],
    settings: Settings,
    guard: InterruptGuard,
    strict: bool,
) -> int:
    reported: set[str] = set()
    done, failed = 0, 0
    total = sum(len(jobs) for _, jobs in by_style)
    with ProgressBar("image", guard=guard, show=None if strict else True) as on_progress:
        for paths, jobs in by_style:
            encoded = [
                _attempt(_encode, model, path, next(styles), settings, guard) for path in paths
            ]
            style = _attempt(_mixed, model, encoded, settings)
            for job in jobs:
                on_progress(Progress(job.output.name, done, total))
                content, message = next(contents), ""
                try:
                    _make(model, job, content.result(), style.result(), settings, guard)
                except ImageError as error:
                    if strict:
                        raise
                    failed += 1
                    # A broken file is part of many pairs, and named once.
                    if (line := error_line(error)) not in reported:
                        message = line
                        reported.add(line)
                done += 1
                on_progress(Progress(job.output.name, done, total, message=message))
    return failed


def _attempt(function: Callable[..., _T], *arguments: Any) -> "Future[_T]":
    """The outcome of a function; an `ImageError` is raised whenever the result is asked for."""
    outcome: Future[_T] = Future()
    try:
        outcome.set_result(function(*arguments))
    except ImageError as error:
        outcome.set_exception(error)
    return outcome


def _read_ahead(
    paths: Sequence[Path], shorter_side: int | None, pool: ThreadPoolExecutor
) -> Iterator[_Reading]:
    """The pictures of the paths in order, each read while the one before is in use."""

    def pictures(ahead: _Reading) -> Iterator[_Reading]:
        for path in paths[1:]:
            current, ahead = ahead, pool.submit(open_picture, path, shorter_side)
            yield current
        yield ahead

    return pictures(pool.submit(open_picture, paths[0], shorter_side))


@contextmanager
def within_memory(what: str, remedy: str) -> Iterator[None]:
    """Turns exhausted memory into an `ImageError` that names what is computed and what helps."""
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
    model: "Model", path: Path, reading: _Reading, settings: Settings, guard: InterruptGuard
) -> "Style":
    from cdjax.transfer.stylize import encode_style

    picture = reading.result()
    if not fits_in_memory(model, picture, settings):
        return encode_large(model, path, picture, settings, guard)
    pixels = raster(picture)
    with within_memory(f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels", "--style-size"):
        return encode_style(model, pixels, dtype=settings.dtype)


def _mixed(model: "Model", encoded: "Sequence[Future[Style]]", settings: Settings) -> "Style":
    from cdjax.transfer.mixing import mix_styles

    styles = [outcome.result() for outcome in encoded]
    if len(styles) == 1:
        return styles[0]
    return mix_styles(model, styles, weights=settings.style_weights)


def _make(
    model: "Model",
    job: Job,
    content: "Picture | VipsImage",
    style: "Style",
    settings: Settings,
    guard: InterruptGuard,
) -> None:
    import numpy as np

    from cdjax.transfer.stylize import stylize

    pixels = raster(content)
    height, width = pixels.shape[:2]
    if not settings.deepzoom:
        check_size(job.output, height, width)

    def write(result: Any) -> None:
        _write(job.output, result, content, settings)

    # The style's statistics may still be being computed, and fail only here.
    with within_memory(
        f"{job.content} ({width}x{height} pixels) with {', '.join(map(str, job.styles))}",
        "--content-size or --style-size",
    ):
        if not fits_in_memory(model, content, settings):
            make_large(model, job, content, style, settings, guard, write)
            return
        result = np.asarray(
            stylize(model, pixels, style, alpha=settings.alpha, dtype=settings.dtype)
        )
    with guard.protected():
        job.output.parent.mkdir(parents=True, exist_ok=True)
        write(result)


def _write(path: Path, result: Any, content: "Picture | VipsImage", settings: Settings) -> None:
    if settings.deepzoom:
        from cdjax.io.deepzoom import write_deepzoom
        from cdjax.io.images import levels

        like = None if isinstance(content, Picture) else content
        write_deepzoom(
            path, levels(result), title=path.name, quality=settings.quality, like=like,
            overwrite=True,
        )  # fmt: skip
    elif isinstance(content, Picture):
        write_image(path, Picture(result, content.alpha), quality=settings.quality)
    else:
        from cdjax.io.vips_writer import write_image as write_streamed

        write_streamed(path, result, like=content, quality=settings.quality)
