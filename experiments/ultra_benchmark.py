"""Images too large for memory: windows, the whole image and PyTorch (`benchmark --ultra`)."""

import importlib.util
import json
import math
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from cdjax.cli.allocator import STYLISATION
from experiments.measure import WorkerError, photograph, worker

STYLE_SIZE = 512
WARM_UP_TO = 4
"""Megapixels up to which a run that is not timed comes first; with more it takes too long."""

WAYS = ("windows", "whole", "torch")
BYTES_PER_PIXEL = {"whole": 600, "torch": 1800}
"""What an image may take that is stylised as a whole with the 16x student: an estimate, rather too
much, because a process that takes all memory endangers what else runs on the machine."""

NO_ROOM = "does not fit"
_SHARE = 0.7
_SIDES = 16  # The stride of the deepest stage: the plain version knows no padding.
_PANORAMA = {40.0: (4096, 10240)}
_BAND = 256
_BRIGHTNESS_SCALES = tuple(2**level for level in range(1, 10))
_COLOUR_SCALES = (32, 128, 512)


@dataclass(frozen=True)
class Taken:
    """What one way took at one size.

    Attributes:
        seconds: of every timed run.
        compiling: seconds of the first of them that went into compilation.
        peak: bytes, the most that its process ever held, compiler and warm-up included.
        device_peak: the same of a GPU; None where the device is the processor.
    """

    seconds: tuple[float, ...]
    compiling: float
    peak: int
    device_peak: int | None

    @property
    def median(self) -> float:
        """Seconds of the run in the middle."""
        return statistics.median(self.seconds)

    @property
    def computing(self) -> float:
        """The same without compilation, which takes as long for images of all sizes."""
        return self.median - (self.compiling if len(self.seconds) == 1 else 0)


@dataclass(frozen=True)
class Size:
    """All ways at one size.

    Attributes:
        megapixels: as asked for.
        shape: height and width.
        warm: whether an untimed run came first; else the seconds include compilation.
        taken: what each way took or, in words, why that is not known.
        apart: by which a way's grey levels differ from those of windows, at most and in the mean.
    """

    megapixels: float
    shape: tuple[int, int]
    warm: bool
    taken: dict[str, Taken | str]
    apart: dict[str, tuple[int, float]]

    @property
    def millions(self) -> float:
        """Pixels, in millions."""
        return self.shape[0] * self.shape[1] / 1e6


def shape_of(megapixels: float) -> tuple[int, int]:
    """Height and width of an image of so many times 2^20 pixels, about: a square, or a panorama."""
    side = max(2 * _SIDES, round(math.sqrt(megapixels) * 1024 / _SIDES) * _SIDES)
    return _PANORAMA.get(megapixels, (side, side))


def _upsampled(grid: NDArray[np.float32], rows: slice, scale: int, width: int) -> Any:
    """Rows of a grid of noise that is a scale times as large, bilinear."""
    positions = np.arange(rows.start, rows.stop)
    above, share = positions // scale, (positions % scale / np.float32(scale))[:, None]
    coarse = grid[above] * (1 - share) + grid[above + 1] * share
    ramp = np.arange(scale, dtype=np.float32) / np.float32(scale)
    fine = coarse[:, :-1, None] + np.diff(coarse)[:, :, None] * ramp
    return fine.reshape(len(positions), -1)[:, :width]


def _bands(shape: tuple[int, int], *, seed: int) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    height, width = shape
    generator = np.random.default_rng(seed)

    def grids(scales: Sequence[int]) -> list[tuple[int, NDArray[np.float32]]]:
        sizes = [(scale, -(-height // scale) + 1, -(-width // scale) + 1) for scale in scales]
        return [
            (scale, generator.standard_normal((rows, columns), np.float32))
            for scale, rows, columns in sizes
        ]

    brightness, colours = grids(_BRIGHTNESS_SCALES), [grids(_COLOUR_SCALES) for _ in range(3)]
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height))
        # As in photographs every octave counts as much, and colours change slowly.
        grey = 120 + 20 * sum(_upsampled(grid, rows, scale, width) for scale, grid in brightness)
        band = 4 * generator.standard_normal((*grey.shape, 3), np.float32)
        for channel, noise in enumerate(colours):
            tint = sum(_upsampled(grid, rows, scale, width) for scale, grid in noise)
            band[..., channel] += grey + 12 * tint
        yield rows, np.clip(band, 0, 255).astype(np.uint8)


def write_content(path: Path, shape: tuple[int, int], *, seed: int = 0) -> None:
    """Writes a made-up photograph, (H, W, 3) uint8, as .npy; takes memory for a few rows only.

    Smooth noise of scales from 2 to 512 pixels, and a little of single pixels.
    """
    target = np.lib.format.open_memmap(path, "w+", np.uint8, (*shape, 3))
    for rows, band in _bands(shape, seed=seed):
        target[rows] = band
    target.flush()


def differences(first: Path, second: Path) -> tuple[int, float]:
    """The largest and the mean difference of two uint8 images in .npy files."""
    one, other = (np.load(path, mmap_mode="r") for path in (first, second))
    largest, total = 0, 0
    for top in range(0, len(one), _BAND):
        bands = [np.asarray(image[top : top + _BAND], np.int16) for image in (one, other)]
        apart = np.abs(bands[0] - bands[1])
        largest, total = max(largest, int(apart.max())), total + int(apart.sum(dtype=np.int64))
    return largest, total / one.size


def room(device_limit: int | None) -> float:
    """Bytes that a whole image may take: of the free host memory and of what JAX has of a GPU."""
    free = _SHARE * psutil.virtual_memory().available
    return free if device_limit is None else min(free, device_limit)


def _measure(
    way: str, folder: Path, *, warm: bool, runs: int, dtype: str, platform: str
) -> tuple[Taken, dict[str, Any]]:
    # What another process has compiled would be no first run.
    shutil.rmtree(folder / "cache", ignore_errors=True)
    module = "experiments.measure_ultra"
    # As `cdjax stylize` starts; PyTorch's process, too.
    started = {"module": module, "allocator": STYLISATION}
    with worker(way, folder, dtype=dtype, platform=platform, **started) as process:
        if warm:
            process.ask("run")
        answers = [process.ask("run") for _ in range(runs if warm else 1)]
        process.ask("save")
    taken = Taken(
        tuple(answer["seconds"] for answer in answers),
        answers[0]["compiling"],
        answers[-1]["peak"],
        answers[-1]["device_peak"],
    )
    return taken, process.about


def _obstacle(way: str, shape: tuple[int, int], device_limit: int | None) -> str | None:
    """Why a way of computing the whole image is not tried."""
    if way == "torch" and importlib.util.find_spec("torch") is None:
        return "PyTorch is missing"
    needed = BYTES_PER_PIXEL[way] * shape[0] * shape[1]
    return NO_ROOM if needed > room(device_limit) else None


def measure_size(
    folder: Path, megapixels: float, *, runs: int, dtype: str, say: Callable[[str], None]
) -> tuple[Size, dict[str, dict[str, Any]]]:
    """Times all ways at one size, each in a process of its own, one after the other.

    Args:
        folder: holds `checkpoint`, `weights.npz` and `limits.json`; gets images and results.
        megapixels: of the content.
        runs: timed runs of each way, of sizes that are warmed up.
        dtype: in which the networks compute.
        say: is told of every measurement, in a line.

    Returns:
        The result, and what the workers say of themselves by way.

    Raises:
        WorkerError: if windows come to a bad end; for the others that is their result.
    """
    shape, warm = shape_of(megapixels), megapixels <= WARM_UP_TO
    write_content(folder / "content.npy", shape)
    np.save(folder / "style.npy", photograph(STYLE_SIZE, seed=1))
    taken: dict[str, Taken | str] = {}
    about: dict[str, dict[str, Any]] = {}
    apart: dict[str, tuple[int, float]] = {}
    for way in WAYS:
        here = about.get("windows", {"platform": "", "limit": None})
        obstacle = None if way == "windows" else _obstacle(way, shape, here["limit"])
        if obstacle is None:
            try:
                shared: Any = {"runs": runs, "dtype": dtype, "platform": here["platform"]}
                taken[way], about[way] = _measure(way, folder, warm=warm, **shared)
            except WorkerError as error:
                if way == "windows":
                    raise
                # What was measured before, for hours perhaps, is not lost by an estimate.
                obstacle = f"failed: {str(error).replace('|', '/')}"
        if obstacle is not None:
            taken[way] = obstacle
        elif way != "windows":
            apart[way] = differences(folder / "windows.npy", folder / f"{way}.npy")
        say(f"{megapixels:g} megapixels, {way}: {_told(taken[way])}")
    return Size(megapixels, shape, warm, taken, apart), about


def _told(taken: Taken | str) -> str:
    if isinstance(taken, str):
        return taken
    return f"{taken.median:.3g} s, peak {taken.peak / 2**20:.0f} MiB"


def measure_sizes(
    folder: Path,
    megapixels: Sequence[float],
    *,
    limits: dict[str, int],
    runs: int,
    dtype: str,
) -> Iterator[tuple[dict[str, dict[str, Any]], list[Size]]]:
    """Times all ways at all sizes; after every one yields what is known so far.

    Args:
        folder: holds `checkpoint` and `weights.npz`.
        megapixels: the sizes.
        limits: bytes of `memory` and `host_memory` for windows.
        runs: see `measure_size`.
        dtype: likewise.

    Yields:
        What the workers said of themselves, by way, and the sizes so far.

    Raises:
        WorkerError: if windows come to a bad end.
    """
    (folder / "limits.json").write_text(json.dumps(limits))
    sizes: list[Size] = []
    told: dict[str, dict[str, Any]] = {}
    for size in megapixels:
        result, about = measure_size(
            folder, size, runs=runs, dtype=dtype, say=lambda line: print(line, file=sys.stderr)
        )
        sizes.append(result)
        told |= about
        yield told, sizes
