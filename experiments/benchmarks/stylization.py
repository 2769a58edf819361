"""Whole pictures and films, WCT or AdaIN: seconds and peak memory by size."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cdjax import Model, encode_style, stylize_frames
from cdjax.cli.allocator import STYLISATION
from cdjax.cli.samples import landscape, painting
from experiments.benchmarks.inputs import difference, write_pair
from experiments.benchmarks.report import add_row, median
from experiments.benchmarks.ways import NAMES, NOTE, beside_pytorch, chosen_model, compare

_STILL = (160, 240)


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures pictures of every size; yields the results after each."""
    name, model, task = chosen_model(options, folder)
    settings = {
        "weights": f"{name}; {options.dtype}",
        "seconds": f"medians of {options.runs} runs (fastest to slowest), in turns",
    }
    method = model.config.method
    results = beside_pytorch(method, "pixels a side", NOTE + _NOTE, STYLISATION, settings)
    for size in options.sizes or [512, 1024, 2048]:
        inputs = write_pair(folder, size, size, size)
        taken, results["workers"] = compare(
            task, inputs, folder=folder, tunables=STYLISATION, turns=options.runs
        )
        figures = difference(folder / "cdjax.npy", folder / "tuned.npy") if "tuned" in taken else {}
        add_row(results, str(size), taken, figures)
        yield results


def measure_films(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures films of every height, 16 pixels wide for 9 high; yields the results after each."""
    name, model, task = chosen_model(options, folder)
    alone, smoothed = (_flicker(model, smoothing) for smoothing in (1, 8))
    settings = {
        "weights": f"{name}; {options.dtype}",
        "seconds": f"of {options.frames} frames, style included; medians of {options.runs} "
        "runs (fastest to slowest), in turns",
        "change from frame to frame of a still picture with noise of 4 levels": f"{alone:.3g} "
        f"levels if every frame is stylised by itself, {smoothed:.3g} as cdjax does it",
    }
    title = f"{model.config.method}, films"
    results = beside_pytorch(title, "frames", NOTE + _NOTE_OF_FILMS, STYLISATION, settings)
    for height in options.sizes or [720]:
        width = 16 * round(height / 9)
        inputs = write_pair(folder, height, width, 512)
        picture = np.load(inputs[0])  # A camera moves over it.
        np.save(inputs[0], np.stack([np.roll(picture, 4 * i, 1) for i in range(options.frames)]))
        taken, results["workers"] = compare(
            task, inputs, folder=folder, tunables=STYLISATION, turns=options.runs
        )
        rates = {f"{NAMES[way]}, frames/s": options.frames / median(taken[way]) for way in taken}
        add_row(results, f"{width} x {height}", taken, rates)
        yield results


def _flicker(model: Model, smoothing: int) -> float:
    """The mean change of levels from frame to frame of a still picture with noise."""
    noise = 4.0 * np.random.default_rng(0).normal(size=(12, *_STILL, 3))
    frames = np.rint(landscape(*_STILL) + noise).clip(0, 255).astype(np.uint8)
    style = encode_style(model, painting(*_STILL))
    results = np.stack(list(stylize_frames(model, frames, style, smoothing=smoothing)))
    return float(np.abs(np.diff(results.astype(float), axis=0)).mean())


_NOTE = """
Content and style are square and of one size; uint8 arrays in, a float32 array out.
"""
_NOTE_OF_FILMS = """
All frames are in memory before and none is kept after. cdjax smooths them over time
(`cdjax.stylize_frames`) and returns uint8; PyTorch stylises every frame by itself. The style is a
square of 512 pixels a side and encoded once.
"""
