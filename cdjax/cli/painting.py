"""How one picture is made: whole or, if it is too large for memory, in windows, and resumed."""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import Job, Settings
from cdjax.cli.progress import ProgressBar
from cdjax.errors import ImageError, first_line
from cdjax.io import vips_writer
from cdjax.io.deepzoom import write_deepzoom
from cdjax.io.digest import sha256
from cdjax.io.images import Picture, check_size, levels, write_image
from cdjax.io.masks import opacity, read_mask
from cdjax.io.remote import Address, stored
from cdjax.io.streaming import raster, without_metadata
from cdjax.io.vips import VipsImage
from cdjax.model import Model
from cdjax.progress import OnProgress, Progress
from cdjax.tiling import budget
from cdjax.tiling.resume import ResumeState, run_key
from cdjax.tiling.stylize import encode_style_by_windows, stylize_by_windows
from cdjax.transfer.masks import fit_mask, joint
from cdjax.transfer.mixing import mix_styles
from cdjax.transfer.patches import compile_programs, in_patches
from cdjax.transfer.stylize import Style, encode_style, stylize
from cdjax.transfer.transforms import with_transform

Reading = Future[Picture | VipsImage]
"""A picture that is read in another thread."""


@contextmanager
def within_memory(what: str, remedy: str) -> Iterator[None]:
    """Turns exhausted memory into an `ImageError` that names what is computed and what helps."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            message = f"{what}: does not fit in memory; {remedy} makes it smaller"
            raise ImageError(message) from error
        raise


def compile_for(model: Model, settings: Settings) -> None:
    """Compiles what all pictures need, if there are such programs."""
    if in_patches(model):
        config = with_transform(model, settings.transform).config
        compile_programs(config, dtype=settings.dtype)


def encode(
    model: Model,
    path: Path,
    mask: Path | None,
    reading: Reading,
    settings: Settings,
    guard: InterruptGuard,
    colors: tuple[Picture | VipsImage, Any | None] | None = None,
) -> Style:
    """The style of the picture at `path` with its mask, in the colours of a content if it is given.

    With the content comes how much each of its pixels counts.

    Raises:
        ImageError: as `make`.
    """
    picture = reading.result()
    pixels = raster(picture)
    options: Any = {"dtype": settings.dtype, "mask": visible_style(picture, path, mask)}
    pictures = [picture]
    if colors is not None:
        content, counts = colors
        options |= {"colors_of": raster(content), "colors_mask": counts}
        pictures.append(content)
    if not all(_fits_in_memory(model, one, settings) for one in pictures):
        with _reported(path, path, settings, guard) as on_progress:
            return encode_style_by_windows(
                model, pixels, memory=settings.memory, on_progress=on_progress, **options
            )
    with within_memory(f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels", "--style-size"):
        return encode_style(model, pixels, **options)


def encode_in_turn(
    model: Model,
    readings: Sequence[Reading],
    settings: Settings,
    guard: InterruptGuard,
    job: Job,
    content: Picture | VipsImage,
) -> tuple[Style, ...]:
    """The styles of a job in the colours of a content, mixed if they are to be."""
    masks = _masks_of(job, raster(content).shape[:2]) or [None]
    counts = [joint(mask, opacity(content)) for mask in masks]
    if len(counts) < len(readings):  # All styles are used in the same place.
        counts *= len(readings)
    styles = [
        encode(model, path, mask, reading, settings, guard, (content, seen))
        for (path, mask), reading, seen in zip(job.masked_styles, readings, counts, strict=True)
    ]
    return used_styles(model, job, styles, settings)


def used_styles(
    model: Model, job: Job, styles: Sequence[Style], settings: Settings
) -> tuple[Style, ...]:
    """The styles of a job's regions, or a mixture of all."""
    if not job.mixed:
        return tuple(styles)
    return (mix_styles(model, styles, weights=settings.style_weights),)


def make(
    model: Model,
    job: Job,
    content: Picture | VipsImage,
    styles: Sequence[Style],
    settings: Settings,
    guard: InterruptGuard,
) -> None:
    """Stylises a content and writes the result; of a large one, continues an interrupted run.

    There is one style, or one for each of the job's masks.
    Finished stages of a large picture are kept beside the output, in a hidden folder named after
    the run, until the result is written; not so if a file is at an address.

    Raises:
        ImageError: if the memory is too small or a file cannot be written.
    """
    pixels, state = raster(content), None
    local = not any(isinstance(path, Address) for path in (job.output, *job.inputs))
    height, width = pixels.shape[:2]
    if not settings.deepzoom:
        check_size(job.output, height, width)
    names = ("alpha", "transform", "regularization", "dtype")
    common: Any = {name: getattr(settings, name) for name in names}
    common["opacity"], masks = opacity(content), _masks_of(job, (height, width))
    common["masks"], style = masks, styles if masks else styles[0]
    if settings.preserve_color == "luminance":  # What else there is decides the style.
        common["preserve_color"] = settings.preserve_color
    # The style's statistics may still be being computed, and fail only here.
    with within_memory(
        f"{job.content} ({width}x{height} pixels) with {', '.join(map(str, job.styles))}",
        "--content-size or --style-size",
    ):
        if _fits_in_memory(model, content, settings):
            result = np.asarray(stylize(model, pixels, style, **common))
        else:
            if local:
                state = ResumeState(job.output.parent, _key(model, job, content, settings))
            limits: Any = {"memory": settings.memory, "host_memory": settings.host_memory}
            with _reported(job.output, job.content, settings, guard) as on_progress:
                result = stylize_by_windows(
                    model, pixels, style, **common, **limits, levels=True, resume=state,
                    on_progress=on_progress,
                )  # fmt: skip
        with guard.protected():
            with stored(job.output, overwrite=settings.overwrite) as path:
                _make_folder(path)
                _write(path, result, content, settings)
            if state:
                state.clear()


def _masks_of(job: Job, size: tuple[int, ...]) -> list[Any] | None:
    """The masks of a job's content, which has this height and width; None if it has none."""
    return [fitted_mask(path, size, job.content) for path in job.masks] or None


def visible_style(picture: Picture | VipsImage, path: Path, mask: Path | None) -> Any | None:
    """How much each pixel of a style counts, by its alpha and its mask; None if all count 1."""
    seen = opacity(picture)
    if mask is None:
        return seen
    fitted = joint(fitted_mask(mask, raster(picture).shape[:2], path), seen)
    if isinstance(fitted, np.ndarray) and not fitted.any():
        raise ImageError(f"style {path}: mask {mask} is black where the style is visible")
    return fitted


def fitted_mask(mask: Path, size: tuple[int, ...], picture: Path) -> Any:
    """The mask in a file, fitted to a picture of this height and width; ImageError if it is not."""
    try:
        return fit_mask(read_mask(mask), size, f"mask {mask}")
    except ImageError:
        raise
    except ValueError as error:
        raise ImageError(f"{picture}: {error}") from error


def _make_folder(output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{output}: cannot be written ({error.strerror})") from error


def _fits_in_memory(model: Model, picture: Picture | VipsImage, settings: Settings) -> bool:
    """Whether a picture is in host memory and the device's memory is enough to compute it whole."""
    return isinstance(picture, Picture) and budget.fits_in_memory(
        picture.pixels.shape[:2], model.config, memory=settings.memory
    )


@contextmanager
def _reported(
    result: Path, source: Path, settings: Settings, guard: InterruptGuard
) -> Iterator[OnProgress]:
    """Shows and reports progress with the name of the result; errors name the source."""
    with ProgressBar("px", guard=guard, quiet=settings.quiet) as bar:

        def report(progress: Progress) -> None:
            message = progress.message and f"cdjax: {result}: {progress.message}"
            bar(replace(progress, task=f"{result.name}, {progress.task}", message=message))
            settings.on_progress(progress)

        try:
            yield report
        except ImageError:
            raise
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise ImageError(
                f"{source}: intermediate results cannot be kept ({reason}); free space beside the "
                f"output and in {tempfile.gettempdir()}, or set TMPDIR"
            ) from error
        except ValueError as error:
            raise ImageError(f"{source}: {error}; give more with --memory") from error


def _key(model: Model, job: Job, content: Picture | VipsImage, settings: Settings) -> str:
    """A checksum of everything on which a result depends, and of its name.

    The files count by their content: one that was replaced may have the size and time of the old.
    """
    try:
        files = [sha256(path) for path in job.inputs]
    except OSError as error:
        raise ImageError(f"{job.content}: cannot be read again ({error.strerror})") from error
    reader = type(content).__name__  # Where Pillow and libvips differ, so do the pixels.
    sizes = (settings.content_size, settings.style_size, settings.style_weights)
    transform = (settings.alpha, settings.transform, settings.regularization)
    options = (transform, settings.preserve_color, settings.dtype)
    roles = (len(job.styles), len(job.masks))
    return run_key(model, files, roles, reader, sizes, options, job.output.name)


def _write(path: Path, result: Any, content: Picture | VipsImage, settings: Settings) -> None:
    options: Any = {"quality": settings.quality, "overwrite": settings.overwrite}
    if settings.strip:
        content = without_metadata(content)
    if settings.deepzoom:
        like = None if isinstance(content, Picture) else content
        write_deepzoom(path, levels(result), title=path.name, like=like, **options)
    elif isinstance(content, Picture):
        write_image(path, Picture(result, content.alpha, content.metadata), **options)
    else:
        vips_writer.write_image(path, result, like=content, **options)
