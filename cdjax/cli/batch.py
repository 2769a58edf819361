"""Making the pictures of a command line: read ahead, stylise, write, report what failed."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import Job, Outcome, Settings
from cdjax.cli.parser import error_line
from cdjax.cli.progress import ProgressBar
from cdjax.cli.quiet import silence_decoders
from cdjax.errors import ImageError
from cdjax.io.streaming import open_picture, raster
from cdjax.progress import Progress

if TYPE_CHECKING:
    from cdjax.cli.painting import Reading
    from cdjax.io.images import Picture
    from cdjax.io.vips import VipsImage
    from cdjax.model import Model
    from cdjax.transfer.stylize import Style

_Result = TypeVar("_Result")


def run(
    jobs: Sequence[Job],
    load: Callable[[], "Model"],
    settings: Settings,
    guard: InterruptGuard,
    *,
    strict: bool = False,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> int:
    """Makes the pictures, all of a style in a row, so that it is encoded once.

    Args:
        jobs: at least one; those of a style follow each other.
        load: returns the model; called while the first files are being read.
        settings: how every picture is made.
        guard: under which they are written.
        strict: whether the first failure raises `ImageError`; otherwise it is printed in one line.
        on_outcome: called under the guard with the outcome of every job.

    Returns:
        How many pictures could not be made.
    """
    silence_decoders()
    by_style = [(paths, list(group)) for paths, group in groupby(jobs, key=lambda job: job.styles)]
    with ThreadPoolExecutor(2, "cdjax-read") as pool:
        try:
            contents = _read_ahead([job.content for job in jobs], settings.content_size, pool)
            paths = [path for mixture, _ in by_style for path in mixture]
            styles = _read_ahead(paths, settings.style_size, pool)
            return _make_all(
                load(), by_style, contents, styles, settings, guard, strict, on_outcome
            )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _make_all(
    model: "Model",
    by_style: Sequence[tuple[tuple[Path, ...], Sequence[Job]]],
    contents: "Iterator[Reading]",
    styles: "Iterator[Reading]",
    settings: Settings,
    guard: InterruptGuard,
    strict: bool,
    on_outcome: Callable[[Outcome], None],
) -> int:
    from cdjax.cli.painting import compile_for

    reported: set[str] = set()
    done, failed = 0, 0
    total = sum(len(jobs) for _, jobs in by_style)
    # Of a single picture, only the windows count.
    every = math.inf if strict else 0
    with ProgressBar("image", guard=guard, quiet=settings.quiet, every=every) as bar:
        bar(Progress("compiling", done, total))
        compile_for(model, settings)
        for _, jobs in by_style:
            used = _used(model, jobs[0], styles, settings, guard)
            for job in jobs:
                bar(Progress(job.output.name, done, total))
                outcome = _make(model, job, next(contents), used, settings, guard)
                with guard.protected():
                    on_outcome(outcome)
                done += 1
                name = job.output.name
                if strict and outcome.status == "already there":
                    raise ImageError(f"output {job.output}: already exists by now and is kept")
                if outcome.error is not None:
                    if strict:
                        raise ImageError(outcome.error)
                    failed += 1
                    name = f"{name} failed"
                    # A broken file is part of many pairs, and named once.
                    if outcome.error not in reported:
                        reported.add(outcome.error)
                        bar.error(error_line(outcome.error))
                bar(Progress(name, done, total))
    return failed


def _make(
    model: "Model",
    job: Job,
    content: "Reading",
    styles: "Callable[[Picture | VipsImage], tuple[Style, ...]]",
    settings: Settings,
    guard: InterruptGuard,
) -> Outcome:
    """Makes a picture; a file that cannot be read or written is the outcome's error.

    A picture that another process made in the meantime is kept, and not made unless that happened
    during the work.
    """
    from cdjax.cli.painting import make
    from cdjax.cli.standard import already_there

    if not settings.overwrite and os.path.lexists(job.output):
        return already_there(job)
    began = time.monotonic()
    size: tuple[int, int] | None = None
    try:
        job.check_name()
        picture = content.result()
        height, width = raster(picture).shape[:2]
        make(model, job, picture, styles(picture), settings, guard)
        size = (width, height)
    except ImageError as error:
        if isinstance(error.__cause__, FileExistsError):
            return already_there(job)
        fault: str | None = str(error)
    except OSError as error:
        fault = f"{job.output}: cannot be written ({error.strerror or error})"
    else:
        fault = None
    seconds = time.monotonic() - began
    return Outcome(job, "made" if fault is None else "failed", fault, seconds, size)


def _used(
    model: "Model",
    job: Job,
    readings: "Iterator[Reading]",
    settings: Settings,
    guard: InterruptGuard,
) -> "Callable[[Picture | VipsImage], tuple[Style, ...]]":
    """From a content to its styles: encoded now, or with each content whose colours they get."""
    from cdjax.cli.painting import encode, encode_in_turn, used_styles

    if settings.preserve_color == "match":
        pictures = [next(readings) for _ in job.styles]
        return partial(encode_in_turn, model, job, pictures, settings, guard)
    encoded = [
        _attempt(encode, model, path, mask, next(readings), settings, guard)
        for path, mask in job.masked_styles
    ]
    used = _attempt(
        lambda: used_styles(model, job, [style.result() for style in encoded], settings)
    )
    return lambda content: used.result()


def _attempt(function: Callable[..., _Result], *arguments: Any) -> Future[_Result]:
    """The outcome of a function; its `ImageError` or `OSError` is raised by `result`."""
    outcome: Future[_Result] = Future()
    try:
        outcome.set_result(function(*arguments))
    except (ImageError, OSError) as error:
        outcome.set_exception(error)
    return outcome


def _read_ahead(
    paths: Sequence[Path], shorter_side: int | None, pool: ThreadPoolExecutor
) -> "Iterator[Reading]":
    """The pictures of the paths in order, each read while the one before is in use."""

    def read(path: Path) -> "Reading":
        return pool.submit(open_picture, path, shorter_side)

    readings = chain([read(paths[0])], map(read, paths[1:]), [None])
    return (reading for reading, _ in pairwise(readings) if reading)
