"""Pairs of a content and a style, as squares, and a sheet that shows them with their results."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax import Model, Optimization, optimize_image, stylize
from cdjax.cli.jobs import images_in
from cdjax.cli.parser import within
from cdjax.cli.samples import landscape, painting
from cdjax.cli.training_log import picture_grid
from cdjax.io.images import check_suffix, levels, read_image, resize


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


def add_sheet_options(add: Callable[..., Any]) -> None:
    """Adds the options of a sheet of pictures."""
    count = within(int, 1, 10_000)
    add("--sheet", type=Path, metavar="OUT", help="image file that shows pairs with each model")
    add("--sheet-size", type=within(int, 32, 4096), default=320, help="pixels a side (320)")
    add("--gatys-steps", type=count, default=100, help="of the sheet's optimisation, a scale (100)")
    add_pair_options(add, pairs=4)


def sheet_pairs(options: argparse.Namespace) -> Pairs | None:
    """The pairs of a sheet; None if none is wanted. Raises ImageError, UsageError."""
    if not options.sheet:
        return None
    check_suffix(options.sheet)
    size, count = options.sheet_size, options.pairs
    return read_pairs(options.contents, options.styles, size=size, count=count)


def sheet(models: Mapping[str, Model], pairs: Pairs, *, steps: int) -> NDArray[np.uint8]:
    """A picture of all pairs: contents, styles, and what every model makes of them.

    Args:
        models: by the names above their columns; a last one is optimised (Gatys) with the encoder
            of the first model of stage 5.
        pairs: the rows.
        steps: of the optimisation, at every scale.
    """

    def column(transfer: Callable[[Any, Any], Any]) -> NDArray[np.uint8]:
        results = (transfer(*pair) for pair in zip(pairs.contents, pairs.styles, strict=True))
        return np.stack([levels(np.asarray(result)) for result in results])

    columns = {"content": pairs.contents, "style": pairs.styles}
    for name, model in models.items():
        title = f"{Path(name).name}, {model.config.method}"
        columns[title] = column(partial(stylize, model))
    for name in [name for name, of in models.items() if of.config.specs[0].stage == 5][:1]:
        optimize = partial(optimize_image, models[name], settings=Optimization(steps=steps))
        columns[f"{Path(name).name}, gatys"] = column(optimize)
    return np.asarray(picture_grid(columns))
