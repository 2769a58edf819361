"""Pairs of a content and a style, as squares: for a sheet of pictures, and to optimise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax.cli.jobs import images_in
from cdjax.cli.samples import landscape, painting
from cdjax.io.images import levels, read_image, resize
from experiments.whole_numbers import positive

Squares = NDArray[np.uint8]
"""(N, size, size, 3), RGB."""


@dataclass(frozen=True)
class Pairs:
    """Contents and styles, one beside the other.

    Attributes:
        names: two lines each: the content's and the style's.
        contents: their central squares.
        styles: likewise.
    """

    names: tuple[str, ...]
    contents: Squares
    styles: Squares


def add_pair_options(add: Callable[..., Any], *, pairs: int) -> None:
    """Adds the options that `read_pairs` follows.

    Args:
        add: a parser's `add_argument`.
        pairs: how many there are at most without `--pairs`.
    """
    add(
        "--contents",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="images or folders (default: a landscape that is made)",
    )
    add(
        "--styles",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="likewise (default: a painting)",
    )
    add("--pairs", type=positive, default=pairs, help=f"of both in turn, at most ({pairs})")


def read_pairs(contents: Sequence[Path], styles: Sequence[Path], *, size: int, count: int) -> Pairs:
    """Contents and styles in turn, so that as many as there are take part.

    Args:
        contents: image files and folders of them; none: a landscape that is made here.
        styles: likewise; none: a painting.
        size: pixels a side; the shorter side of an image is scaled to it.
        count: pairs at most; of a folder with more images, that many, evenly spaced.

    Raises:
        UsageError: if there is no such file or folder, or no image in a folder.
        ImageError: if an image cannot be read.
    """
    found = [
        _files(paths, role, count) for paths, role in ((contents, "content"), (styles, "style"))
    ]
    rows = min(count, max(1, *map(len, found)))
    made = (("landscape", landscape), ("painting", painting))
    sides: list[list[tuple[str, Squares]]] = []
    for files, (name, make) in zip(found, made, strict=True):
        if files:
            turns = [files[row % len(files)] for row in range(rows)]
            sides.append([(path.stem, _square(path, size)) for path in turns])
        else:
            picture = make(max(size, 64), max(size, 64))[:size, :size]
            sides.append([(name, picture)] * rows)
    names = tuple(f"{content[0]}\n{style[0]}" for content, style in zip(*sides, strict=True))
    squares = [np.stack([square for _, square in side]) for side in sides]
    return Pairs(names, squares[0], squares[1])


def _files(paths: Sequence[Path], role: str, count: int) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        inside = images_in(path, role)
        most = min(count, len(inside))
        files += [inside[i * len(inside) // most] for i in range(most)]
    return files


def _square(path: Path, size: int) -> Squares:
    pixels = levels(resize(read_image(path), size).pixels)
    top, left = ((side - size) // 2 for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]
