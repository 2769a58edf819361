"""Masks of the frames of a film: one picture for all of them, or a folder or film of masks."""

from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from cdjax.cli.jobs import images_in
from cdjax.cli.painting import fitted_mask
from cdjax.errors import VideoError
from cdjax.io.formats import FORMATS
from cdjax.io.images import image_size
from cdjax.io.masks import brightness
from cdjax.progress import OnProgress
from cdjax.transfer.masks import fit_mask, is_full, resampled
from cdjax.video.films import Film, open_film, read_film
from cdjax.video.frame_folder import FrameFolder

Masks = Callable[[], Iterator[Any]]
"""Reads the masks of the frames of a film, in order, from the first one."""


def mask_files(mask: Path | None) -> list[Path]:
    """The files of a mask: the file itself, or the pictures in a folder.

    Raises:
        UsageError: if there is no such file or folder, or no picture in it.
    """
    return [] if mask is None else images_in(mask, "mask")


def open_masks(
    mask: Path | None, source: Film | FrameFolder, size: tuple[int, int], on_progress: OnProgress
) -> Masks | None:
    """The masks of the frames of a source at its constant rate, scaled to (height, width).

    One picture is the mask of all frames. None if the style is used everywhere.

    Raises:
        ImageError: if a mask cannot be read, or has another aspect ratio than the frames.
        VideoError: if a folder or film has not as many masks as the source has frames.
    """
    if mask is None:
        return None
    if mask.is_dir():
        paths = images_in(mask, "mask")
        _check_length(mask, len(paths), source)
        return lambda: (_picture(path, source, size) for path in paths)
    if mask.suffix.lower() in FORMATS or image_size(mask):
        only = _picture(mask, source, size)
        return None if is_full(only) else lambda: repeat(only)
    film = open_film(mask, on_progress)
    _check_length(mask, film.length, source)
    try:
        fit_mask(np.zeros(film.size, bool), source.size, f"mask {mask}")
    except ValueError as error:
        raise VideoError(str(error)) from error

    def masks() -> Iterator[Any]:
        for frame, times in read_film(film, size, on_progress):
            yield from repeat(brightness(frame), times)

    return masks


def _picture(mask: Path, source: Film | FrameFolder, size: tuple[int, int]) -> Any:
    """A picture as a mask of frames that are scaled to (height, width)."""
    fitted = fitted_mask(mask, source.size, source.paths[0])
    # Scaled frames have even sides, and only nearly the aspect ratio of the source.
    return fitted[:, :] if fitted.shape == size else resampled(fitted, size)[:, :]


def _check_length(mask: Path, length: int, source: Film | FrameFolder) -> None:
    if length != source.length:
        raise VideoError(
            f"mask {mask}: {length} frames for the {source.length} of the film; give one a frame, "
            "or one picture for all"
        )
