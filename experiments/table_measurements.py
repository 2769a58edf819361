"""What a model takes, for the paper's table: seconds and memory, each in a process of its own."""

import math
import shutil
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cdjax import Model, save_model
from experiments.measure import Worker as Process
from experiments.measure import WorkerError, photograph, worker
from experiments.ultra_benchmark import room

MULTIPLE = 16
"""What sides are multiples of, the deepest stage's stride; others are padded, and take more."""

_MOST_OFF = 0.1
"""Share of the measured rise by which a peak may be off the line; more is no line, and what small
images take beside their pixels (libraries, programs, the allocator's own) hides what pixels do."""


@dataclass(frozen=True)
class Ways:
    """How everything is measured.

    Attributes:
        size: pixels a side of content and style whose seconds and peak are reported.
        fit_sizes: further such sizes, whose peaks the line is fitted to, too.
        runs: timed runs at `size`.
        dtype: in which the networks compute.
        limit: bytes that the largest image may take.
        verify: whether the largest image is really made.
    """

    size: int
    fit_sizes: tuple[int, ...]
    runs: int
    dtype: str
    limit: int
    verify: bool = False


@dataclass(frozen=True)
class Peak:
    """The most bytes that a fresh process held which made one image of `size` pixels a side."""

    size: int
    bytes: int


@dataclass(frozen=True)
class Line:
    """Peak memory as a straight line in pixels.

    Attributes:
        base: bytes that no pixel accounts for.
        per_pixel: bytes a pixel.
        residual: bytes by which a measured peak is off the line, at most.
        rise: bytes by which the line rises from the smallest measured size to the largest.
    """

    base: float
    per_pixel: float
    residual: float
    rise: float

    @property
    def off(self) -> float:
        """The residual as a share of the rise; infinite for a line that does not rise."""
        return self.residual / self.rise if self.rise > 0 else math.inf

    def largest_side(self, limit: int) -> int | None:
        """Side of the largest square under a limit; None if the peaks are not on the line."""
        if not self.off <= _MOST_OFF:
            return None
        side = math.isqrt(max(0, int((limit - self.base) / self.per_pixel)))
        return side // MULTIPLE * MULTIPLE


@dataclass(frozen=True)
class Taken:
    """What was measured of one model.

    Attributes:
        platform: where it ran: `"cpu"`, whose peaks are of resident memory, or a GPU's.
        device: that device's name.
        seconds: of every timed run (of every step, for an optimisation).
        peaks: by size, ascending.
        line: fitted to them.
        largest: side of the largest image under the limit, in pixels, by that line; None if it
            does not tell.
        verified: the peak at `largest`, really run; in words, why there is none; or None where it
            was not asked for.
    """

    platform: str
    device: str
    seconds: tuple[float, ...]
    peaks: tuple[Peak, ...]
    line: Line
    largest: int | None
    verified: Peak | str | None = None

    @property
    def median(self) -> float:
        """Seconds of the run in the middle."""
        return statistics.median(self.seconds)

    def peak(self, size: int) -> int:
        """Bytes at a size that was measured."""
        return next(peak.bytes for peak in self.peaks if peak.size == size)


def fit_line(peaks: Sequence[Peak]) -> Line:
    """The least-squares line of peak memory in pixels.

    Args:
        peaks: of two different sizes at least.
    """
    pixels = np.array([peak.size**2 for peak in peaks], float)
    measured = np.array([peak.bytes for peak in peaks], float)
    # Around the means: columns of 1 and of 1e6 pixels lose digits together.
    away = pixels - pixels.mean()
    slope = float(away @ (measured - measured.mean()) / (away @ away))
    base = float(measured.mean() - slope * pixels.mean())
    residual = float(np.abs(base + slope * pixels - measured).max())
    return Line(base, slope, residual, slope * float(np.ptp(pixels)))


@dataclass(frozen=True)
class Worker:
    """Whose processes they are, as `experiments.measure.worker` knows them."""

    name: str = "cdjax"
    module: str = "experiments.measure"


def _compile(folder: Path, sizes: Sequence[int], dtype: str, kind: Worker) -> None:
    """Fills the compilation cache, in a process of its own, whose memory is not looked at."""
    _make_images(folder, sizes[0])
    with _worker(folder, dtype, kind) as process:
        for size in sizes:
            _make_images(folder, size)
            process.ask("images")
            process.ask("run")


def _make_images(folder: Path, size: int) -> None:
    for seed, name in enumerate(("content", "style")):
        np.save(folder / f"{name}.npy", photograph(size, seed=seed))


def _worker(folder: Path, dtype: str, kind: Worker) -> AbstractContextManager[Process]:
    return worker(kind.name, folder, dtype=dtype, module=kind.module)


def _run(
    folder: Path, size: int, *, runs: int, dtype: str, kind: Worker
) -> tuple[Peak, list[float], dict[str, str]]:
    """Peak of the first run in a fresh process, seconds of the runs after it, its own words."""
    _make_images(folder, size)
    with _worker(folder, dtype, kind) as process:
        peak = Peak(size, process.ask("run")["peak"])
        seconds = [process.ask("run")["seconds"] for _ in range(runs)]
        return peak, seconds, process.about


def measure_model(
    folder: Path,
    model: Model,
    ways: Ways,
    *,
    say: Callable[[str], None],
    kind: Worker | None = None,
) -> Taken:
    """Times a model and finds out what memory it takes.

    One process fills the compilation cache. Then every size has a fresh one, which makes one image,
    whose peak counts, and at `ways.size` goes on with the timed ones.

    Args:
        folder: for files; a checkpoint and a cache that are in it are replaced.
        model: what to run.
        ways: how.
        say: is told of every measurement, in a line.
        kind: whose processes; those of a stylisation by default.

    Raises:
        WorkerError: if a process comes to a bad end.
    """
    kind = kind or Worker()
    shutil.rmtree(folder / "cache", ignore_errors=True)
    save_model(folder / "checkpoint", model, overwrite=True)
    sizes = sorted({ways.size, *ways.fit_sizes})
    _compile(folder, sizes, ways.dtype, kind)
    peaks: list[Peak] = []
    seconds: list[float] = []
    about: dict[str, str] = {}
    for size in sizes:
        runs = ways.runs if size == ways.size else 0
        peak, timed, about = _run(folder, size, runs=runs, dtype=ways.dtype, kind=kind)
        peaks.append(peak)
        seconds += timed
        told = f", {statistics.median(timed):.3g} s" if timed else ""
        say(f"{size} pixels{told}, peak {peak.bytes / 1e6:.0f} MB")
    line = fit_line(peaks)
    largest = line.largest_side(ways.limit)
    return Taken(
        about["platform"],
        about["device"],
        tuple(seconds),
        tuple(peaks),
        line,
        largest,
        _verify(folder, largest, ways, say, kind) if ways.verify else None,
    )


def _verify(
    folder: Path,
    largest: int | None,
    ways: Ways,
    say: Callable[[str], None],
    kind: Worker,
) -> Peak | str:
    if not largest:
        return "no size to run"
    free = room(None)
    if ways.limit > free:
        return f"not run: {free / 1e9:.1f} GB are free for it"
    try:
        _compile(folder, [largest], ways.dtype, kind)
        peak, _, _ = _run(folder, largest, runs=0, dtype=ways.dtype, kind=kind)
    except WorkerError as error:
        return f"failed: {error}"
    say(f"{largest} pixels, peak {peak.bytes / 1e6:.0f} MB")
    return peak
