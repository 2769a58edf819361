"""Making the pictures of a command line: read ahead, stylise, write, report what failed."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import Job, Settings
from cdjax.cli.parser import error_line
from cdjax.cli.progress import ProgressBar
from cdjax.errors import ImageError
from cdjax.io.streaming import open_picture
from cdjax.progress import Progress

if TYPE_CHECKING:
    from cdjax.cli.painting import Reading
    from cdjax.model import Model
    from cdjax.transfer.stylize import Style


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
    contents: "Iterator[Reading]",
    styles: "Iterator[Reading]",
    settings: Settings,
    guard: InterruptGuard,
    strict: bool,
) -> int:
    from cdjax.cli.painting import encode, make

    reported: set[str] = set()
    done, failed = 0, 0
    total = sum(len(jobs) for _, jobs in by_style)
    with ProgressBar("image", guard=guard, show=None if strict else True) as on_progress:
        for paths, jobs in by_style:
            encoded = [
                _attempt(encode, model, path, next(styles), settings, guard) for path in paths
            ]
            style = _attempt(_mixed, model, encoded, settings)
            for job in jobs:
                on_progress(Progress(job.output.name, done, total))
                content, message = next(contents), ""
                try:
                    make(model, job, content.result(), style.result(), settings, guard)
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


def _attempt(function: Callable[..., "Style"], *arguments: Any) -> "Future[Style]":
    """The outcome of a function; an `ImageError` is raised whenever the result is asked for."""
    outcome: Future[Style] = Future()
    try:
        outcome.set_result(function(*arguments))
    except ImageError as error:
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


def _mixed(model: "Model", encoded: "Sequence[Future[Style]]", settings: Settings) -> "Style":
    from cdjax.transfer.mixing import mix_styles

    styles = [outcome.result() for outcome in encoded]
    return mix_styles(model, styles, weights=settings.style_weights)
