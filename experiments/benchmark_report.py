"""The Markdown that the benchmark writes, and the numbers that go into it."""

import argparse
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cdjax.cli.allocator import STYLISATION
from experiments.measure import product_sizes

MIB = 2**20
_SPEED = (
    "pixels",
    "cdjax, s",
    "PyTorch, s",
    "times faster",
    "compilations",
    "GFLOP/s",
    "of matrix products",
    "share",
    "largest (mean) difference",
)
_MEMORY = (
    "pixels",
    "cdjax",
    "PyTorch",
    "ratio",
    "cdjax above start",
    "PyTorch above start",
    "ratio",
    "programs not cached",
)


@dataclass(frozen=True)
class Measurement:
    """What one implementation took at one size.

    Attributes:
        seconds: of every timed run.
        peak: bytes, the most that its process ever held.
        held: bytes that the process held before its first run.
        compilations: programs compiled, or fetched from the cache, in the timed runs.
        cache_misses: programs that the process found in no cache, from its start on.
    """

    seconds: tuple[float, ...]
    peak: int = 0
    held: int = 0
    compilations: int = 0
    cache_misses: int = 0

    @property
    def median(self) -> float:
        """Seconds of the run in the middle."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Comparison:
    """Both implementations at one size.

    Attributes:
        size: height and width of content and style.
        ours: cdjax.
        theirs: plain PyTorch.
        difference: largest difference of the two results, in grey levels of 255.
        mean_difference: the same in the mean.
        flops: floating-point operations of the 3x3 convolutions.
        product: FLOP/s of matrix products, in the same minutes.
    """

    size: int
    ours: Measurement
    theirs: Measurement
    difference: float
    mean_difference: float
    flops: float = 0.0
    product: float = 0.0


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _seconds(measurement: Measurement) -> str:
    low, high = min(measurement.seconds), max(measurement.seconds)
    return f"{measurement.median:.3g} ({low:.3g} to {high:.3g})"


def _speed_row(result: Comparison) -> list[str]:
    speed = result.flops / result.ours.median
    return [
        f"{result.size}",
        _seconds(result.ours),
        _seconds(result.theirs),
        f"{result.theirs.median / result.ours.median:.2f}",
        f"{result.ours.compilations}",
        f"{speed / 1e9:.1f}",
        f"{result.product / 1e9:.1f}",
        f"{100 * speed / result.product:.0f} %",
        f"{result.difference:.2f} ({result.mean_difference:.3f})",
    ]


def _memory_row(result: Comparison) -> list[str]:
    peaks = [measurement.peak / MIB for measurement in (result.ours, result.theirs)]
    above = [(m.peak - m.held) / MIB for m in (result.ours, result.theirs)]
    cells = [str(result.size)]
    for ours, theirs in (peaks, above):
        cells += [f"{ours:.0f}", f"{theirs:.0f}", f"{theirs / max(ours, 1):.2f}"]
    return [*cells, f"{result.ours.cache_misses}"]


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        part = Path(beside) / path.name
        part.write_bytes(content)
        part.replace(path)


def processor() -> str:
    """What the machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


_TITLES = {"wct": "WCT cascade", "adain": "AdaIN"}


def report(
    options: argparse.Namespace,
    method: str,
    command: str,
    about: dict[str, Any],
    results: Sequence[Comparison],
    cold: Comparison | None,
) -> str:
    """The Markdown that says what was measured, how and on what."""
    versions = {"Python": platform.python_version(), "cdjax": version("cdjax")}
    versions |= {"JAX": about["cdjax"]["version"], "PyTorch": about["torch"]["version"]}
    devices = " and ".join(f"{about[name]['device']} ({name})" for name in ("cdjax", "torch"))
    weights = options.weights or (
        "random, of the paper's 16x student (neither speed nor memory depends on the values)"
    )
    kind = "resident memory" if about["cdjax"]["platform"] == "cpu" else "device memory"
    sizes = " and ".join(map(str, product_sizes(about["cdjax"]["platform"])))
    # Measured with the published weights: 7 in the mean from float32, in either implementation.
    amplified = options.dtype == "bfloat16" and method == "wct"
    rounding = "; whitening amplifies bfloat16's rounding" if amplified else ""
    as_started = f"of cdjax, as cdjax stylize starts: {STYLISATION}"
    text = f"""# {_TITLES[method]}: cdjax against plain PyTorch

- command: `{command}`
- machine: {processor()}, {os.cpu_count()} cores, {platform.system()}
- devices: {devices}
- versions: {", ".join(f"{name} {number}" for name, number in versions.items())}
- weights: {weights}
- {options.dtype}; medians of {options.runs} runs (fastest to slowest), the two in turns after one
  warm-up run each; both use all cores
- GLIBC_TUNABLES: {os.environ.get("GLIBC_TUNABLES", as_started)}

## Speed

{table(_SPEED, [_speed_row(result) for result in results])}
Content and style are square, of the same size; from uint8 arrays to a float32 array. PyTorch is
`experiments/plain_torch.py`. Compilations are cdjax's in the timed runs. GFLOP/s are cdjax's:
two a multiply-accumulate of the 3x3 convolutions (encoders for content and style, decoders for
content; conv0 and the transforms not counted). Matrix products: the best of products
of {sizes} rows and columns in JAX, {options.dtype}, in the same minutes. The
differences of the two results are in grey levels of 255{rounding}.

## Peak {kind}, MiB

{table(_MEMORY, [_memory_row(result) for result in results])}
Of a fresh process each size; "above start" is beyond what it held before its first run, with
libraries and weights loaded. cdjax finds its programs in a persistent compilation cache that
another process filled, so its memory holds no compiler unless programs were not cached.
"""
    if cold is None:
        return text
    rows = [
        ["cdjax stylize", _seconds(cold.ours)],
        ["plain PyTorch", _seconds(cold.theirs)],
        ["times faster", f"{cold.theirs.median / cold.ours.median:.2f}"],
        ["largest (mean) difference", f"{cold.difference:.0f} ({cold.mean_difference:.3f})"],
    ]
    return f"""{text}
## Cold start, {cold.size} pixels

{table(("process", "s"), rows)}
From the start of a process to its end, float32: import, load the weights, read both images, stylise
once, write the result. Caches (files, cdjax's compiled programs) are warm.
"""
