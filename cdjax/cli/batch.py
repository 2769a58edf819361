"""Making the pictures of a command line: read ahead, stylise, write, report what failed."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
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
from cdjax.io.remote import lexists
from cdjax.io.streaming import open_picture, raster
from cdjax.progress import Progress

if TYPE_CHECKING:
    from cdjax.cli.painting import Reading
    from cdjax.io.images import Picture
    from cdjax.io.vips import VipsImage
    from cdjax.model import Model
    from cdjax.transfer.stylize import Style

Make = Callable[
    [Sequence[Job], Callable[[], "Model"], Settings, InterruptGuard],
    AbstractContextManager[Iterator[Outcome]],
]
"""Makes pictures as `here` does, and yields their outcomes in the order of the jobs."""

_Result = TypeVar("_Result")


@contextmanager
def here(
    jobs: Sequence[Job], load: Callable[[], "Model"], settings: Settings, guard: InterruptGuard
) -> Iterator[Iterator[Outcome]]:
    """Yields the outcomes of jobs, which are done one after the other by this process.

    Args:
        jobs: at least one; those of a style follow each other, so that it is encoded once.
        load: returns the model; called while the first files are being read.
        settings: how every picture is made.
        guard: under which they are written.
    """
    from cdjax.cli.painting import compile_for

    by_style = [(paths, list(group)) for paths, group in groupby(jobs, key=lambda job: job.styles)]

    def outcomes() -> Iterator[Outcome]:
        for _, group in by_style:
            used = styles_of(model, group[0], styles, settings, guard)
            for job in group:
                yield make_one(model, job, next(contents), used, settings, guard)

    with ThreadPoolExecutor(2, "cdjax-read") as pool:
        try:
            contents = _read_ahead([job.content for job in jobs], settings.content_size, pool)
            paths = [path for mixture, _ in by_style for path in mixture]
            styles = _read_ahead(paths, settings.style_size, pool)
            model = load()
            compile_for(model, settings)
            yield outcomes()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run(
    jobs: Sequence[Job],
    load: Callable[[], "Model"],
    settings: Settings,
    guard: InterruptGuard,
    *,
    make: Make = here,
    strict: bool = False,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> int:
    """Makes the pictures and reports them.

    Args:
        jobs: as for `here`, as are `load`, `settings` and `guard`.
        load: see there.
        settings: see there.
        guard: see there; what is printed is, too.
        make: who makes the pictures.
        strict: whether the first failure raises `ImageError`; otherwise it is printed in one line.
        on_outcome: called under the guard with the outcome of every job.

    Returns:
        How many pictures could not be made.
    """
    silence_decoders()
    reported: set[str] = set()
    failed, total = 0, len(jobs)
    # Of a single picture, only the windows count.
    every = math.inf if strict else 0
    with ProgressBar("image", guard=guard, quiet=settings.quiet, every=every) as bar:
        bar(Progress("compiling", 0, total))
        with make(jobs, load, settings, guard) as outcomes:
            for done, job in enumerate(jobs):
                name = job.output.name
                bar(Progress(name, done, total))
                outcome = next(outcomes)
                with guard.protected():
                    on_outcome(outcome)
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
                bar(Progress(name, done + 1, total))
    return failed


def make_one(
    model: "Model",
    job: Job,
    content: "Reading",
    styles: "Callable[[Job, Picture | VipsImage], tuple[Style, ...]]",
    settings: Settings,
    guard: InterruptGuard,
) -> Outcome:
    """Makes a picture; a file that cannot be read or written is the outcome's error.

    A picture that another process made in the meantime is kept, and not made unless that happened
    during the work.
    """
    from cdjax.cli.painting import make
    from cdjax.cli.standard import already_there

    if not settings.overwrite and lexists(job.output):
        return already_there(job)
    began = time.monotonic()
    size: tuple[int, int] | None = None
    try:
        job.check_name()
        picture = content.result()
        height, width = raster(picture).shape[:2]
        make(model, job, picture, styles(job, picture), settings, guard)
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


def styles_of(
    model: "Model",
    job: Job,
    readings: "Iterator[Reading]",
    settings: Settings,
    guard: InterruptGuard,
) -> "Callable[[Job, Picture | VipsImage], tuple[Style, ...]]":
    """From a job and its content to styles: encoded now, or with each content in its colours."""
    from cdjax.cli.painting import encode_in_turn

    if settings.preserve_color == "match":
        pictures = [next(readings) for _ in job.styles]
        return partial(encode_in_turn, model, pictures, settings, guard)
    used = attempt(encode_all, model, job, readings, settings, guard)
    return lambda _, content: used.result()


def encode_all(
    model: "Model",
    job: Job,
    readings: "Iterator[Reading]",
    settings: Settings,
    guard: InterruptGuard,
) -> "tuple[Style, ...]":
    """The styles of a job; as many readings are taken, even if one of them fails."""
    from cdjax.cli.painting import encode, used_styles

    encoded = [
        attempt(encode, model, path, mask, next(readings), settings, guard)
        for path, mask in job.masked_styles
    ]
    return used_styles(model, job, [style.result() for style in encoded], settings)


def attempt(function: Callable[..., _Result], *arguments: Any) -> Future[_Result]:
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
