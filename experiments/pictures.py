"""Pairs of a content and a style, as squares."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax.cli.jobs import images_in
from cdjax.cli.parser import within
from cdjax.cli.samples import landscape, painting
from cdjax.io.images import levels, read_image, resize


@dataclass(frozen=True)
class Pairs:
    """Contents and styles: `names`, and the central squares, (N, size, size, 3) uint8."""

    names: tuple[str, ...]
    contents: NDArray[np.uint8]
    styles: NDArray[np.uint8]


def add_pair_options(add: Callable[..., Any], *, pairs: int) -> None:
    """Adds the options of `read_pairs`, of which `--pairs` defaults to `pairs`."""
    paths: Any = {"type": Path, "nargs": "+", "default": [], "metavar": "PATH"}
    add("--contents", **paths, help="images or folders (default: a synthetic landscape)")
    add("--styles", **paths, help="images or folders (default: a synthetic painting)")
    count = within(int, 1, 10_000)
    add("--pairs", type=count, default=pairs, help="of both in turn, at most (%(default)s)")


def read_pairs(contents: Sequence[Path], styles: Sequence[Path], *, size: int, count: int) -> Pairs:
    """Contents and styles in turn; of a folder with more images than pairs, evenly spaced ones.

    Args:
        contents: image files and folders; none: a synthetic landscape.
        styles: image files and folders; none: a synthetic painting.
        size: pixels a side; the shorter side of an image is scaled to it.
        count: pairs at most.

    Raises:
        UsageError: if there is no such file or folder, or no image in a folder.
        ImageError: if an image cannot be read.
    """
    found = [list(_files(contents, "content", count)), list(_files(styles, "style", count))]
    rows = min(count, max(1, *map(len, found)))
    sides: list[list[tuple[str, NDArray[np.uint8]]]] = []
    for files, make in zip(found, (landscape, painting), strict=True):
        if files:
            turns = [files[row % len(files)] for row in range(rows)]
            sides.append([(path.stem, _square(path, size)) for path in turns])
        else:
            picture = make(max(size, 64), max(size, 64))[:size, :size]
            sides.append([(make.__name__, picture)] * rows)
    names = tuple(f"{content[0]} in {style[0]}" for content, style in zip(*sides, strict=True))
    return Pairs(names, *(np.stack([square for _, square in side]) for side in sides))


def _files(paths: Sequence[Path], role: str, count: int) -> Iterator[Path]:
    for path in paths:
        inside = images_in(path, role)
        most = min(count, len(inside))
        yield from (inside[i * len(inside) // most] for i in range(most))


def _square(path: Path, size: int) -> NDArray[np.uint8]:
    pixels = levels(resize(read_image(path), size).pixels)
    top, left = ((side - size) // 2 for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]
