"""A picture too large for memory, from file to file: in windows, with a progress bar, resumed."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import Job, Settings
from cdjax.cli.progress import ProgressBar
from cdjax.errors import ImageError
from cdjax.io.images import MAX_PIXELS, Picture, image_size, read_image, resize
from cdjax.progress import OnProgress, Progress

if TYPE_CHECKING:
    from cdjax.io.vips import VipsImage
    from cdjax.model import Model
    from cdjax.transfer.stylize import Style

STREAMED_PIXELS = 2**24
"""Pictures of more than 16.8 megapixels are read and written by libvips, if it is installed."""


def open_picture(path: Path, shorter_side: int | None) -> "Picture | VipsImage":
    """A picture, read and scaled; or a large one, of which parts are read when they are needed.

    Args:
        path: the file.
        shorter_side: what to scale its shorter side to, in pixels, or None to leave it as it is.

    Raises:
        ImageError: if it cannot be read, or is too large for what is installed.
    """
    size = image_size(path)
    if size is not None and size[0] * size[1] > STREAMED_PIXELS and not shorter_side:
        from cdjax.io import vips

        if vips.available():
            return vips.open_image(path)
        if size[0] * size[1] > MAX_PIXELS:
            raise ImageError(
                f"{path}: {size[1]}x{size[0]} pixels, more than {MAX_PIXELS // 10**6} megapixels; "
                "to read them: pip install 'pyvips[binary]'"
            )
    picture = read_image(path)
    try:
        return resize(picture, shorter_side) if shorter_side else picture
    except (ImageError, MemoryError) as error:
        raise ImageError(f"{path}: {str(error) or 'does not fit in memory'}") from error


def raster(picture: "Picture | VipsImage") -> Any:
    """The pixels, or the file, that windows are cut from."""
    return picture.pixels if isinstance(picture, Picture) else picture


def fits_in_memory(model: "Model", picture: "Picture | VipsImage", settings: Settings) -> bool:
    """Whether the device's memory is enough for a picture without windows."""
    from cdjax.tiling.budget import default_memory, fits

    memory = default_memory() if settings.memory is None else settings.memory
    height, width = raster(picture).shape[:2]
    return isinstance(picture, Picture) and fits((height, width), model.config, memory)


def encode_large(
    model: "Model",
    path: Path,
    picture: "Picture | VipsImage",
    settings: Settings,
    guard: InterruptGuard,
) -> "Style":
    """A large painting's style.

    Raises:
        ImageError: if it cannot be read, or the memory is too small.
    """
    from cdjax.tiling.stylize import encode_style_by_windows

    area = raster(picture).shape[0] * raster(picture).shape[1]
    total = len(model.config.specs) * area
    with ProgressBar("px", guard=guard) as on_progress, _explained(path):
        return encode_style_by_windows(
            model,
            raster(picture),
            dtype=settings.dtype,
            memory=settings.memory,
            note=partial(_added(on_progress, path.name, total), 0),
        )


def make_large(
    model: "Model",
    job: Job,
    content: "Picture | VipsImage",
    style: "Style",
    settings: Settings,
    guard: InterruptGuard,
    write: Callable[[np.ndarray[Any, Any]], None],
) -> None:
    """Stylises a large picture; continues where a run that was interrupted stopped.

    Finished stages are kept beside the output, in a folder `.{output's name}.cdjax`, until the
    output is written.

    Args:
        model: a model that can stylise.
        job: the files.
        content: the picture.
        style: the encoded style.
        settings: how it is made.
        guard: under which files are written and progress is shown.
        write: takes the result, (H, W, 3) uint8, to its file.

    Raises:
        ImageError: if the memory is too small or a file cannot be written.
    """
    from cdjax.tiling.buffers import Progress as Kept
    from cdjax.tiling.stylize import stylize_by_windows

    folder = job.output.with_name(f".{job.output.name}.cdjax")
    kept = Kept(folder, _key(model, job, settings))
    area = raster(content).shape[0] * raster(content).shape[1]
    with guard.protected():
        job.output.parent.mkdir(parents=True, exist_ok=True)
        if (found := kept.load()) is not None:
            print(f"cdjax: {job.output}: continues after stage {found[0]}", file=sys.stderr)
    stages = [spec.stage for spec in model.config.specs]
    passes = 2 * len(stages)
    done = 0 if found is None else 2 * (stages.index(found[0]) + 1)
    del found
    with ProgressBar("px", guard=guard) as on_progress, _explained(job.content):
        result = stylize_by_windows(
            model,
            raster(content),
            style,
            alpha=settings.alpha,
            dtype=settings.dtype,
            memory=settings.memory,
            host_memory=settings.host_memory,
            levels=True,
            progress=kept,
            note=_added(on_progress, job.output.name, passes * area, done * area),
        )
    with guard.protected():
        write(result)
        kept.clear()


def _added(
    on_progress: OnProgress, name: str, total: int, done: int = 0
) -> Callable[[int, int], None]:
    """Reports the sum of the pixels that it is called with, and the stage (0: of the style)."""

    def note(stage: int, pixels: int) -> None:
        nonlocal done
        done += pixels
        on_progress(Progress(f"{name}, {f'stage {stage}' if stage else 'style'}", done, total))

    return note


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except OSError as error:
        raise ImageError(f"{path}: intermediate results cannot be kept ({error})") from error
    except ValueError as error:
        raise ImageError(f"{path}: {error}; give more with --memory") from error


def _key(model: "Model", job: Job, settings: Settings) -> str:
    """What a result depends on, as a checksum."""
    import jax

    digest = hashlib.sha256()
    for path in (job.content, *job.styles):
        file = path.stat()
        digest.update(repr((str(path.resolve()), file.st_size, file.st_mtime_ns)).encode())
    made = (settings.alpha, settings.content_size, settings.style_size, settings.dtype)
    digest.update(repr((made, settings.style_weights, model.config)).encode())
    for leaf in jax.tree.leaves(model.params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
