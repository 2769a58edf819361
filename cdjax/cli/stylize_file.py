"""What `cdjax stylize` does for one picture, as a function."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from cdjax.cli.batch import run
from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import STANDARD, Settings, one_job
from cdjax.cli.masks import check_masks, with_masks
from cdjax.errors import UsageError
from cdjax.io.atomic import StrPath
from cdjax.io.remote import lexists, path_of
from cdjax.model import Model
from cdjax.transfer.color import PreserveColor, check_preserve_color
from cdjax.transfer.pixels import compute_dtype
from cdjax.transfer.transforms import with_transform


class FileOptions(TypedDict, total=False):
    """The options of `stylize_file`, which are those of `cdjax.cli.jobs.Settings`."""

    alpha: float
    transform: str | None
    regularization: float
    preserve_color: PreserveColor | None
    content_size: int | None
    style_size: int | None
    style_weights: tuple[float, ...] | None
    dtype: str
    quality: int
    memory: int | None
    host_memory: int | None
    strip: bool
    overwrite: bool


def stylize_file(
    model: Model,
    content: StrPath,
    style: StrPath | Sequence[StrPath],
    output: StrPath,
    *,
    mask: StrPath | None = None,
    masks: Sequence[StrPath] = (),
    style_masks: Sequence[StrPath] = (),
    **options: Unpack[FileOptions],
) -> Path:
    """Does what `cdjax stylize` does for one picture: reads, repaints and writes it.

    A picture that does not fit in memory is made in windows, and an interrupted run is continued.
    The result has the transparency and the metadata of the content, and appears whole or not at
    all. Nothing is printed.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        content: the file of the photograph. It and the others may be addresses of fsspec.
        style: the file of the painting, or several to mix or, with masks, for regions.
        output: the file to write, whose suffix chooses the format, or a folder.
        mask: the file of a mask: where the style is used, or the mixture.
        masks: files of masks, one for each style: where each of them is used.
        style_masks: the same: which parts of the paintings count.
        **options: `alpha`, `transform`, `regularization`, `preserve_color`, `memory` and
            `host_memory`, as for `cdjax.stylize_by_windows`; `dtype`, `"float32"` or `"bfloat16"`;
            `content_size` and `style_size`, the shorter sides in pixels that images are scaled to;
            `style_weights`, one for each style of a mixture, by default equal ones; `quality` of
            JPEG and WebP, 1 to 100, by default 95; `strip`, whether the metadata is left out;
            `overwrite`, whether a file that exists is replaced.

    Returns:
        The path of the file.

    Raises:
        ImageError: if a file cannot be read or written, or does not fit in memory.
        UsageError: if a file does not exist, the output exists or cannot be what it has to be.
        ValueError: if an option does not fit.
    """
    settings = Settings(**options, quiet=True)
    _check(model, settings)
    if masks and (mask is not None or settings.style_weights):
        raise UsageError("masks: each style has its own; they go with neither mask nor weights")
    styles = [style] if isinstance(style, str | os.PathLike) else style
    photograph, *paintings = _paths([content, *styles])
    regions, parts = _paths(masks or ([] if mask is None else [mask])), _paths(style_masks)
    check_masks(paintings, regions if masks else [], parts)
    job = one_job(photograph, paintings, os.fspath(output))
    (job,) = with_masks([job], regions, dict(zip(paintings, parts, strict=False)))
    if job.output == STANDARD:
        raise UsageError("output -: standard output takes no picture here; give a file")
    if lexists(job.output) and not settings.overwrite:
        raise UsageError(f"output {job.output}: already exists; overwrite=True replaces it")
    run([job], lambda: model, settings, InterruptGuard(), strict=True)
    return job.output


def _check(model: Model, settings: Settings) -> None:
    """Raises `ValueError` for settings that do not fit."""
    with_transform(model, settings.transform, settings.regularization)
    check_preserve_color(settings.preserve_color, encoded=False)
    compute_dtype(settings.dtype)
    for name in ("content_size", "style_size", "quality"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")


def _paths(files: Sequence[StrPath]) -> list[Path]:
    return [path_of(os.fspath(path)) for path in files]
