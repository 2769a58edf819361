"""A picture too large for memory, from file to file: in windows, with a progress bar, resumed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import Job, Settings
from cdjax.cli.progress import ProgressBar
from cdjax.errors import ImageError
from cdjax.io.images import Picture
from cdjax.io.streaming import raster
from cdjax.io.vips import VipsImage
from cdjax.progress import OnProgress, Progress

if TYPE_CHECKING:
    from cdjax.model import Model
    from cdjax.transfer.stylize import Style


def fits_in_memory(model: "Model", picture: Picture | VipsImage, settings: Settings) -> bool:
    """Whether a picture is in host memory and the device's memory is enough to compute it whole."""
    from cdjax.tiling import budget

    size = raster(picture).shape[:2]
    return isinstance(picture, Picture) and budget.fits_in_memory(
        size, model.config, memory=settings.memory
    )


def encode_large(
    model: "Model",
    path: Path,
    picture: Picture | VipsImage,
    settings: Settings,
    guard: InterruptGuard,
) -> "Style":
    """A large painting's style; raises `ImageError` as `make_large`."""
    from cdjax.tiling.stylize import encode_style_by_windows

    with _reported(path, path, guard) as on_progress:
        return encode_style_by_windows(
            model,
            raster(picture),
            dtype=settings.dtype,
            memory=settings.memory,
            on_progress=on_progress,
        )


def make_large(
    model: "Model",
    job: Job,
    content: Picture | VipsImage,
    style: "Style",
    settings: Settings,
    guard: InterruptGuard,
    write: Callable[[np.ndarray[Any, Any]], None],
) -> None:
    """Stylises a large picture; continues where a run that was interrupted stopped.

    Finished stages are kept beside the output, in a folder `.{output's name}.cdjax`, until `write`
    has written the result, (H, W, 3) uint8.

    Raises:
        ImageError: if the memory is too small or a file cannot be written.
    """
    from cdjax.tiling.resume import ResumeState
    from cdjax.tiling.stylize import stylize_by_windows

    folder = job.output.with_name(f".{job.output.name}.cdjax")
    state = ResumeState(folder, _key(model, job, settings))
    with guard.protected():
        job.output.parent.mkdir(parents=True, exist_ok=True)
    with _reported(job.output, job.content, guard) as on_progress:
        result = stylize_by_windows(
            model,
            raster(content),
            style,
            alpha=settings.alpha,
            dtype=settings.dtype,
            memory=settings.memory,
            host_memory=settings.host_memory,
            levels=True,
            resume=state,
            on_progress=on_progress,
        )
    with guard.protected():
        write(result)
        state.clear()


@contextmanager
def _reported(result: Path, source: Path, guard: InterruptGuard) -> Iterator[OnProgress]:
    """Shows progress with the name of the result; errors name the source."""
    with ProgressBar("px", guard=guard) as bar:

        def report(progress: Progress) -> None:
            message = progress.message and f"cdjax: {result}: {progress.message}"
            bar(replace(progress, task=f"{result.name}, {progress.task}", message=message))

        try:
            yield report
        except ImageError:
            raise
        except OSError as error:
            raise ImageError(f"{source}: intermediate results cannot be kept ({error})") from error
        except ValueError as error:
            raise ImageError(f"{source}: {error}; give more with --memory") from error


def _key(model: "Model", job: Job, settings: Settings) -> str:
    """A checksum of everything on which a result depends."""
    from cdjax.tiling.resume import run_key

    files = [
        (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
        for path in (job.content, *job.styles)
    ]
    sizes = (settings.content_size, settings.style_size, settings.style_weights)
    return run_key(model, files, sizes, settings.alpha, settings.dtype)
