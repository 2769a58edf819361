"""The Markdown of `benchmark --gatys`, and the numbers that go into it."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import jax

from cdjax import Optimization
from cdjax.cli.allocator import TRAINING
from experiments.benchmark_report import MIB, processor, table

ENCODERS = ("student", "teacher")

_SPEED = (
    "pixels, pair",
    "student, s a step",
    "teacher, s a step",
    "times faster",
    "student, s in all",
    "teacher, s in all",
    "times faster",
)
_MEMORY = (
    "pixels, pair",
    "student",
    "teacher",
    "ratio",
    "student above start",
    "teacher's",
    "ratio",
)
_DISTANCE = ("pixels, pair, layer", "content", "student", "teacher", "student over teacher")


@dataclass(frozen=True)
class Course:
    """One encoder's optimisation.

    Attributes:
        steps: seconds a step in every chunk at full size but the first, which begins with fetching
            the program.
        seconds: of the whole course, all scales.
        held: bytes that the process held before it.
        peak: bytes that it, or its device, held at most.
        distance: {layer: the result's style distance, in the teacher's features}.
        similarity: SSIM of the result and the content.
    """

    steps: tuple[float, ...]
    seconds: float
    held: int
    peak: int
    distance: dict[str, float]
    similarity: float

    @property
    def step(self) -> float:
        """The median of the seconds a step."""
        return statistics.median(self.steps)


@dataclass(frozen=True)
class GatysComparison:
    """Both encoders with one pair at one size.

    Attributes:
        size: pixels a side.
        pair: content and style, by name.
        courses: by encoder.
        unstylized: {layer: the content's own style distance}.
    """

    size: int
    pair: str
    courses: dict[str, Course]
    unstylized: dict[str, float]

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.size}, {self.pair}"

    @property
    def faster(self) -> float:
        """How many of the student's steps fit in one of the teacher's."""
        return self.courses["teacher"].step / self.courses["student"].step

    @property
    def distances(self) -> list[dict[str, float]]:
        """Style distances by layer: of the content, and of the encoders' results."""
        return [self.unstylized, *(self.courses[name].distance for name in ENCODERS)]

    @property
    def sums(self) -> list[float]:
        """The same, summed over the layers."""
        return [sum(distance.values()) for distance in self.distances]

    @property
    def farther(self) -> float:
        """The student's sum over the teacher's."""
        return self.sums[1] / self.sums[2]


def _speed_row(result: GatysComparison) -> list[str]:
    student, teacher = (result.courses[name] for name in ENCODERS)
    cells = [f"{c.step:.3g} ({min(c.steps):.3g} to {max(c.steps):.3g})" for c in (student, teacher)]
    whole = [f"{course.seconds:.3g}" for course in (student, teacher)]
    ratio = f"{teacher.seconds / student.seconds:.2f}"
    return [result.name, *cells, f"{result.faster:.2f}", *whole, ratio]


def _memory_row(result: GatysComparison) -> list[str]:
    cells = [result.name]
    peaks = [result.courses[name].peak for name in ENCODERS]
    above = [result.courses[name].peak - result.courses[name].held for name in ENCODERS]
    for student, teacher in (peaks, above):
        cells += [f"{student / MIB:.0f}", f"{teacher / MIB:.0f}"]
        cells.append(f"{teacher / max(student, 1):.2f}")
    return cells


def _distance_rows(result: GatysComparison) -> list[list[str]]:
    columns = result.distances
    rows = [(layer, [column[layer] for column in columns]) for layer in result.unstylized]
    rows.append(("sum", result.sums))
    return [
        [f"{result.name}, {layer}", *(f"{v:.4g}" for v in values), f"{values[1] / values[2]:.3f}"]
        for layer, values in rows
    ]


def _of_several_pairs(results: Sequence[GatysComparison]) -> list[list[GatysComparison]]:
    """The results of every size that more than one pair was measured at."""
    sizes = sorted({result.size for result in results})
    by_size = [[result for result in results if result.size == size] for size in sizes]
    return [same for same in by_size if len(same) > 1]


def _median_speed_rows(results: Sequence[GatysComparison]) -> list[list[str]]:
    rows = []
    for same in _of_several_pairs(results):
        cells = [f"{same[0].size}, {len(same)} pairs, medians"]
        for values in ("step", "seconds"):
            student, teacher = (
                statistics.median(getattr(result.courses[name], values) for result in same)
                for name in ENCODERS
            )
            cells += [f"{student:.3g}", f"{teacher:.3g}", f"{teacher / student:.2f}"]
        rows.append(cells)
    return rows


def _mean_distance_rows(results: Sequence[GatysComparison]) -> list[list[str]]:
    rows = []
    for same in _of_several_pairs(results):
        size = same[0].size
        means = [
            statistics.mean(values)
            for values in zip(*(result.sums for result in same), strict=True)
        ]
        name = f"{size}, {len(same)} pairs, mean of the sums"
        rows.append([name, *(f"{v:.4g}" for v in means), f"{means[1] / means[2]:.3f}"])
        ratio = statistics.geometric_mean(result.farther for result in same)
        rows.append([f"{size}, geometric mean of the sums' ratios", "", "", "", f"{ratio:.3f}"])
    return rows


def gatys_report(
    command: str,
    settings: Optimization,
    encoders: dict[str, str],
    results: Sequence[GatysComparison],
) -> str:
    """The Markdown that says what was measured, how and on what."""
    versions = (
        f"Python {platform.python_version()}, cdjax {version('cdjax')}, JAX {jax.__version__}"
    )
    distances = [row for result in results for row in _distance_rows(result)]
    speeds = [_speed_row(result) for result in results] + _median_speed_rows(results)
    similar = [
        [r.name, *(f"{r.courses[name].similarity:.3f}" for name in ENCODERS)] for r in results
    ]
    alike = replace(settings, start="content").scale_count
    scales = f"{settings.scale_count} scales"
    if alike != settings.scale_count:
        scales = f"{settings.scale_count} (student) and {alike} (teacher) scales"
    return f"""# Optimising a picture: the student's encoder against its teacher's

- command: `{command}`
- machine: {processor()}, {os.cpu_count()} cores, {platform.system()}; {versions}
- student: {encoders["student"]}; teacher: {encoders["teacher"]}
- {settings.optimizer}, {settings.steps} steps at each of {scales}; content weight
  {settings.content_weight:g} ({", ".join(settings.content_layers)}), style weight
  {settings.style_weight:g} ({", ".join(settings.style_layers)})
- of every pair a process each, which optimise in turns, ten steps at a time
- GLIBC_TUNABLES, as experiments.gatys starts: {os.environ.get("GLIBC_TUNABLES", TRAINING)}

## Speed

{table(_SPEED, speeds)}
A step is at full size: medians (fastest to slowest) over chunks but the first, the mean of both
encoders' where the teacher finishes. In all: every scale, and programs fetched from the compilation
cache.

## Peak memory, MiB

{table(_MEMORY, [_memory_row(result) for result in results])}
Of fresh processes that find their programs in the cache.

## Style distance to the style, in the teacher's features

{table(_DISTANCE, distances + _mean_distance_rows(results))}
Mean squared difference of Gram matrices; "content" is the picture before.

## SSIM with the content

{table(("pixels, pair", *ENCODERS), similar)}"""
