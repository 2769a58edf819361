"""Masks on a command line: which belongs to which content or style."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cdjax.cli.jobs import Job
from cdjax.cli.outputs import is_an_input
from cdjax.errors import UsageError


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


def check_mask_files(paths: Iterable[Path]) -> None:
    """Raises `UsageError` for a mask that is no file."""
    for path in paths:
        if not path.is_file():
            kind = "is a folder; give one image" if path.is_dir() else "no such file"
            raise UsageError(f"mask {path}: {kind}")


def with_masks(
    jobs: Sequence[Job],
    masks: Sequence[Path],
    style_masks: Mapping[Path, Path],
) -> list[Job]:
    """Adds to jobs the masks of their contents, and of their styles.

    Args:
        jobs: what to make.
        masks: of every content: one, or one for each style of a job.
        style_masks: by the style, for all styles or for none.

    Raises:
        UsageError: if a mask is no file, or an output is a mask.
    """
    read = (*masks, *style_masks.values())
    check_mask_files(read)
    kept = {path.resolve() for path in read}
    for job in jobs:
        if job.output.resolve() in kept:
            raise is_an_input(job.output)
    return [
        replace(
            job,
            masks=tuple(masks),
            style_masks=tuple(style_masks[path] for path in job.styles if style_masks),
        )
        for job in jobs
    ]
