"""What `benchmark --ultra` writes: Markdown, the same numbers as JSON, and a plot of them."""

import io
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from cdjax.cli.allocator import STYLISATION
from experiments.benchmark_report import MIB, processor, table
from experiments.ultra_benchmark import STYLE_SIZE, WARM_UP_TO, WAYS, Size, Taken

_NAMES = {"windows": "windows", "whole": "whole image", "torch": "PyTorch"}
_RATIOS = (("windows", "whole"), ("torch", "windows"))
_MISSING = "-"


def _heads(unit: str) -> list[str]:
    return [f"{_NAMES[way]}, {unit}" for way in WAYS]


_RATIO_HEADS = [f"{_NAMES[above]} / {_NAMES[below]}" for above, below in _RATIOS]


def ratios(size: Size, number: Callable[[Taken], float]) -> list[float | None]:
    """Of a number of windows over that of the whole image, of PyTorch's over that of windows."""
    found: list[float | None] = []
    for way, other in _RATIOS:
        above, below = size.taken[way], size.taken[other]
        both = isinstance(above, Taken) and isinstance(below, Taken)
        found.append(number(above) / number(below) if both else None)  # type: ignore[arg-type]
    return found


def _seconds(taken: Taken) -> float:
    return taken.median


def _peak(taken: Taken) -> float:
    return taken.peak / MIB


def _device_peak(taken: Taken) -> float:
    return (taken.device_peak or 0) / MIB


def _shape(size: Size) -> str:
    return f"{size.megapixels:g}: {size.shape[0]} x {size.shape[1]}"


def _cells(size: Size, number: Callable[[Taken], float], form: str) -> list[str]:
    """A cell a way: the number, or the reason why there is none."""
    return [
        format(number(taken), form) if isinstance(taken, Taken) else taken.partition(":")[0]
        for taken in (size.taken[way] for way in WAYS)
    ]


def _ratio_cells(size: Size, number: Callable[[Taken], float]) -> list[str]:
    return [_MISSING if value is None else f"{value:.2f}" for value in ratios(size, number)]


def _time_row(size: Size) -> list[str]:
    def per_million(taken: Taken) -> float:
        return taken.computing / size.millions

    def compiling(way: str) -> str:
        taken = size.taken[way]
        return f"{taken.compiling:.3g}" if isinstance(taken, Taken) else _MISSING

    return [
        _shape(size),
        *_cells(size, _seconds, ".3g"),
        *_cells(size, per_million, ".3g"),
        *_ratio_cells(size, _seconds),
        "after a warm-up" if size.warm else "first run",
        f"{compiling('windows')}; {compiling('whole')}",
    ]


def _apart(size: Size, way: str) -> str:
    return "{} ({:.4f})".format(*size.apart[way]) if way in size.apart else _MISSING


def _memory_table(sizes: Sequence[Size], number: Callable[[Taken], float]) -> str:
    rows = [[_shape(s), *_cells(s, number, ".0f"), *_ratio_cells(s, number)] for s in sizes]
    return table(["megapixels", *_NAMES.values(), *_RATIO_HEADS], rows)


def ultra_report(
    about: dict[str, Any], told: dict[str, dict[str, Any]], sizes: Sequence[Size], plot: str | None
) -> str:
    """The Markdown that says what was measured, how and on what.

    Args:
        about: `command`, `weights`, `dtype`, `runs`, and `memory` and `host_memory` of windows.
        told: what the workers said of themselves.
        sizes: the results.
        plot: the name of the file of the plot, if there is one.
    """
    versions = {"Python": platform.python_version(), "cdjax": version("cdjax")}
    versions |= {"JAX": told["windows"]["version"]}
    versions |= {"PyTorch": told["torch"]["version"]} if "torch" in told else {}
    heads = ["megapixels", *_heads("s"), *_heads("s a megapixel"), *_RATIO_HEADS, "timed"]
    heads.append("of it compiling, s: windows; whole")
    equality = [[_shape(size), _apart(size, "whole"), _apart(size, "torch")] for size in sizes]
    failures = [
        f"- {_shape(size)}, {_NAMES[way]}: {taken}\n"
        for size in sizes
        for way, taken in size.taken.items()
        if isinstance(taken, str) and ":" in taken
    ]
    text = f"""# Images of many megapixels: windows, the whole image and plain PyTorch

- command: `{about["command"]}`
- machine: {processor()}, {os.cpu_count()} cores, {platform.system()}
- device: {told["windows"]["device"]}
- versions: {", ".join(f"{name} {number}" for name, number in versions.items())}
- weights: {about["weights"]}; {about["dtype"]}
- windows: `cdjax.stylize_by_windows` with memory={about["memory"]},
  host_memory={about["host_memory"]} (bytes), to grey levels
- whole image: `cdjax.stylize`; PyTorch: `experiments/plain_torch.py`, whole too; to float32
- one style of {STYLE_SIZE} x {STYLE_SIZE}, encoded in every run; a fresh process each
- GLIBC_TUNABLES of all: {os.environ.get("GLIBC_TUNABLES", STYLISATION)}

## Speed

{table(heads, [_time_row(size) for size in sizes])}
Sizes are asked for in 2^20 pixels; "a megapixel" is 10^6 of them. Up to {WARM_UP_TO} megapixels:
medians of {about["runs"]} runs after one that is not timed. Larger ones run once; their seconds
include compilation, which the last column tells (XLA's part) and seconds a megapixel leave out.

## Peak resident memory, MiB

{_memory_table(sizes, _peak)}
The most that the process ever held: interpreter, libraries, compiler, content (3 bytes a pixel) and
result (3 bytes of windows, else 12) included. "does not fit" was not tried: by estimate more than
70 % of the free memory, or more than JAX has of the GPU.

## Differences from windows, in grey levels: largest (mean)

{table(["megapixels", _NAMES["whole"], _NAMES["torch"]], equality)}"""
    if any(isinstance(s.taken["windows"], Taken) and s.taken["windows"].device_peak for s in sizes):
        text += f"\n## Peak device memory, MiB\n\n{_memory_table(sizes, _device_peak)}"
    if failures:
        text += f"\n## Failures\n\n{''.join(failures)}"
    return text + (f"\n![time and memory]({plot})\n" if plot else "")


def ultra_json(
    about: dict[str, Any], told: dict[str, dict[str, Any]], sizes: Sequence[Size]
) -> str:
    """The same as JSON; a way that was not measured has a string instead of numbers."""
    results = [
        asdict(size)
        | {"ratios of seconds": dict(zip(_RATIO_HEADS, ratios(size, _seconds), strict=True))}
        | {"ratios of peaks": dict(zip(_RATIO_HEADS, ratios(size, _peak), strict=True))}
        for size in sizes
    ]
    everything = about | {"processor": processor(), "workers": told, "sizes": results}
    return json.dumps(everything, indent=2) + "\n"


def ultra_plot(sizes: Sequence[Size]) -> bytes:
    """A PNG: seconds a megapixel, and peak memory, over megapixels; a line each way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    ordered = sorted(sizes, key=lambda size: size.millions)
    for way in WAYS:
        found = [(size.millions, size.taken[way]) for size in ordered]
        points = [(millions, taken) for millions, taken in found if isinstance(taken, Taken)]
        across = [millions for millions, _ in points]
        speeds = [taken.computing / millions for millions, taken in points]
        time_axes.plot(across, speeds, marker="o", label=_NAMES[way])
        peaks = [taken.peak / 2**30 for _, taken in points]
        memory_axes.plot(across, peaks, marker="o", label=_NAMES[way])
    time_axes.set(ylabel="seconds a megapixel, compilation left out", ylim=(0, None))
    memory_axes.set(ylabel="peak resident memory, GiB", ylim=(0, None))
    for axes in (time_axes, memory_axes):
        axes.set(xlabel="megapixels", xscale="log")
        ticks = sorted({size.millions for size in sizes})
        axes.set_xticks(ticks, [f"{millions:.3g}" for millions in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
