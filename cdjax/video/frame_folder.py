"""Films as folders of pictures, one a frame, in the order of their names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cdjax.errors import VideoError
from cdjax.io.images import Picture, image_size, levels, resized, write_image
from cdjax.io.streaming import read_picture


@dataclass(frozen=True)
class FrameFolder:
    """A folder of frames.

    Attributes:
        paths: of the pictures, in order; at least one.
        size: height and width of the first of them.
        rate: frames a second.
    """

    paths: tuple[Path, ...]
    size: tuple[int, int]
    rate: Fraction

    @property
    def length(self) -> int:
        """The number of frames."""
        return len(self.paths)

    @property
    def aspect(self) -> Fraction:
        """Width of a pixel relative to its height: 1."""
        return Fraction(1)


def open_folder(paths: Sequence[Path], rate: Fraction) -> FrameFolder:
    """The folder of some pictures.

    Raises:
        ImageError: if the first of them cannot be read.
        VideoError: if one says that it is of another size than the first.
    """
    sizes = [image_size(path) for path in paths]
    for path, size in zip(paths, sizes, strict=True):
        if size and sizes[0] and size != sizes[0]:
            raise _of_another_size(path, size, paths[0], sizes[0])
    height, width = read_picture(paths[0]).pixels.shape[:2]
    return FrameFolder(tuple(paths), (height, width), rate)


def read_folder(
    folder: FrameFolder, size: tuple[int, int]
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The frames scaled to (height, width), uint8, each with the number 1.

    Raises:
        ImageError: if a picture cannot be read.
        VideoError: if one is not of the first one's size.
    """
    for path in folder.paths:
        picture = read_picture(path)
        height, width = picture.pixels.shape[:2]
        if (height, width) != folder.size:
            raise _of_another_size(path, (height, width), folder.paths[0], folder.size)
        yield levels(resized(picture, size).pixels), 1


def _of_another_size(
    path: Path, size: tuple[int, int], first: Path, its: tuple[int, int]
) -> VideoError:
    other = f"{first.name} has {its[1]}x{its[0]}"
    return VideoError(f"{path}: {size[1]}x{size[0]} pixels, but {other}; frames have one size")


def write_frame(folder: Path, number: int, pixels: NDArray[np.uint8]) -> None:
    """Writes a frame as PNG, named after its number; ImageError if it cannot be written."""
    write_image(folder / f"{number:06}.png", Picture(pixels))


def is_frame(path: Path) -> bool:
    """Whether a path in a folder of frames has the name of one that cdjax wrote."""
    return len(path.parts) == 1 and path.suffix == ".png" and path.stem.isdecimal()
