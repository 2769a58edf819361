"""Pictures of many megapixels: by windows and, where it fits, as a whole."""

import argparse
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from cdjax import load_model, save_model
from cdjax.cli.allocator import STYLISATION
from experiments.benchmarks.inputs import difference, write_pair
from experiments.benchmarks.report import add_row, comparison, median
from experiments.benchmarks.worker import Answer, summary, worker

WAYS = {"windows": "windows", "whole": "whole picture"}
WARM_UP_TO = 4
"""Megapixels up to which a run that is not timed comes first; with more it takes too long."""

_STYLE_SIZE = 512
_BYTES_PER_PIXEL, _SHARE = 600, 0.7
"""A generous estimate of what a whole picture takes with the 16x student, and the share of the free
memory that it may take: a process that takes all endangers whatever else runs on the machine."""


def shape_of(megapixels: float) -> tuple[int, int]:
    """Height and width of a picture of about so many times 2^20 pixels: a square, or a panorama."""
    side = max(32, round(math.sqrt(megapixels) * 1024 / 16) * 16)
    return (4096, 10240) if megapixels == 40 else (side, side)


def _measure(way: str, task: Mapping[str, Any], folder: Path, runs: int) -> tuple[Answer, Answer]:
    """Summary of the runs; of several, the first is not timed. And `about`."""
    # With programs that another process compiled, a first run would be no first run.
    shutil.rmtree(folder / "cache", ignore_errors=True)
    inputs, cache = [folder / "content.npy", folder / "style.npy"], folder / "cache"
    with worker(WAYS[way], task, cache=cache, allocator=STYLISATION) as (about, run):
        answers = [run(*inputs, save=folder / f"{way}.npy") for _ in range(runs)]
        return summary(answers[1:] or answers), about


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures both ways at every size, in fresh processes; yields the results after each."""
    weights = options.weights or "wct-16x"
    save_model(folder / "model", load_model(weights))
    model = str(folder / "model")
    task = {"load": "cdjax_tasks:stylizer", "dtype": options.dtype, "model": model}
    limits = {"memory": options.memory, "host_memory": options.host_memory}
    settings = {
        "weights": f"{weights}; {options.dtype}",
        "windows": f"`cdjax.stylize_by_windows` with {limits} (bytes)",
        "seconds": f"up to {WARM_UP_TO} megapixels medians of {options.runs} runs after a warm-up, "
        f"above one run; a style of {_STYLE_SIZE} x {_STYLE_SIZE}, encoded in each",
        "GLIBC_TUNABLES": STYLISATION,
    }
    results = comparison("Pictures of many megapixels", "2^20 pixels", WAYS, _NOTE, settings)
    for megapixels in options.megapixels:
        height, width = shape_of(megapixels)
        write_pair(folder, height, width, _STYLE_SIZE)
        warm = megapixels <= WARM_UP_TO
        runs = 1 + options.runs if warm else 1
        windows, about = _measure("windows", {**task, "windows": limits}, folder, runs)
        lost = 0 if warm else windows["compiling"]
        per_million = (median(windows) - lost) / (height * width / 1e6)
        figures = {"compiling, s": lost, "s per 10^6 pixels without": per_million}
        taken: dict[str, Any] = {"windows": windows, "whole": "does not fit"}
        room = _SHARE * psutil.virtual_memory().available
        if _BYTES_PER_PIXEL * height * width <= min(room, about["limit"] or room):
            taken["whole"], _ = _measure("whole", task, folder, runs)
            figures |= difference(folder / "windows.npy", folder / "whole.npy")
        results["workers"] = {"cdjax": about}
        add_row(results, f"{megapixels:g}: {height} x {width}", taken, figures)
        yield results


_NOTE = """\
A fresh process each; seconds of larger pictures and all peaks include compilation. A whole picture
is not tried if it would take more than 70 % of the free memory. "Compiling" and the column after
it are of windows.
"""
