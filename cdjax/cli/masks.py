"""Masks of `cdjax stylize`: which belongs to which picture, and their pixels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cdjax.cli.jobs import Job
from cdjax.cli.outputs import is_an_input
from cdjax.errors import ImageError, UsageError
from cdjax.io.images import Picture
from cdjax.io.masks import opacity, read_mask
from cdjax.io.vips import VipsImage
from cdjax.transfer.masks import as_float, fit_mask


def check_masks(styles: Sequence[Path], masks: Sequence[Path], style_masks: Sequence[Path]) -> None:
    """Checks that masks are files, and as many as the styles.

    Args:
        styles: files and folders.
        masks: one for each style, or none.
        style_masks: the same.

    Raises:
        UsageError: if they are not.
    """
    for option, paths in (("--masks", masks), ("--style-masks", style_masks)):
        for style in styles if paths else ():
            if style.is_dir():
                raise UsageError(f"{option}: style {style} is a folder; name its files, one a mask")
        if paths and len(paths) != len(styles):
            raise UsageError(
                f"{option}: {len(paths)} masks for {len(styles)} styles; give one each"
            )


def with_masks(
    jobs: Sequence[Job],
    masks: Sequence[Path],
    style_masks: Sequence[Path],
) -> list[Job]:
    """Adds to jobs the masks of their contents, and of their styles.

    Args:
        jobs: what to make.
        masks: of every content: one, or one for each style of a job.
        style_masks: of the styles of all jobs, in their order; none: no style has a mask.

    Raises:
        UsageError: if a mask is no file, or an output is a mask.
    """
    for path in (*masks, *style_masks):
        if not path.is_file():
            kind = "is a folder; give one image" if path.is_dir() else "no such file"
            raise UsageError(f"mask {path}: {kind}")
    styles = list(dict.fromkeys(path for job in jobs for path in job.styles))
    of_styles = dict(zip(styles, style_masks, strict=True)) if style_masks else {}
    read = {path.resolve() for path in (*masks, *style_masks)}
    for job in jobs:
        if job.output.resolve() in read:
            raise is_an_input(job.output)
    return [
        replace(
            job,
            masks=tuple(masks),
            style_masks=tuple(of_styles[path] for path in job.styles if of_styles),
        )
        for job in jobs
    ]


def masks_of(job: Job, size: tuple[int, int]) -> list[Any] | None:
    """The masks of a job's content, which has this height and width; None if it has none.

    Raises:
        ImageError: if one cannot be read or does not fit.
    """
    return [_fitted(path, size, job.content) for path in job.masks] or None


def visible_style(picture: Picture | VipsImage, path: Path, mask: Path | None) -> Any | None:
    """How much the pixels of a style count, by its alpha channel and its mask; None: all alike.

    Raises:
        ImageError: if the mask cannot be read, does not fit or is black where the style is visible.
    """
    seen = opacity(picture)
    if mask is None:
        return seen
    shape = picture.pixels.shape if isinstance(picture, Picture) else picture.shape
    fitted = _fitted(mask, shape[:2], path)
    if seen is not None:
        fitted = as_float(fitted[:, :]) * as_float(seen[:, :])
    if isinstance(fitted, np.ndarray) and not fitted.any():
        raise ImageError(f"style {path}: mask {mask} is black where the style is visible")
    return fitted


def _fitted(mask: Path, size: tuple[int, ...], picture: Path) -> Any:
    try:
        return fit_mask(read_mask(mask), size, f"mask {mask}")
    except ImageError:
        raise
    except ValueError as error:
        raise ImageError(f"{picture}: {error}") from error
