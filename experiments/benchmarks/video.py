"""Films: frames a second, and how much a still picture with noise changes from frame to frame."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cdjax import Model, encode_style, load_model, save_model, stylize_frames
from cdjax.cli.allocator import STYLISATION
from experiments.benchmarks.inputs import write_image
from experiments.benchmarks.report import median, say
from experiments.benchmarks.ways import NOTE, available, compare, torch_task

_STYLE = 512
_NOISE = 4.0
_STILL = (160, 240)


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures films of every height, 16 pixels wide for 9 high; yields the results after each."""
    weights, heights = options.weights or f"{options.method}-16x", options.sizes or [720]
    model = load_model(weights)
    save_model(folder / "model", model)
    task = torch_task(model, options.dtype, folder) | {"load": "filmer"}
    task |= {"model": str(folder / "model")}
    alone, smoothed = (_flicker(model, smoothing) for smoothing in (1, 8))
    results: dict[str, Any] = {
        "title": f"{model.config.method}: films by cdjax and PyTorch",
        "settings": {
            "weights": f"{weights}; {options.dtype}",
            "seconds": f"of {options.frames} frames, style included; medians of {options.runs} "
            "runs (fastest to slowest), in turns",
            "GLIBC_TUNABLES of cdjax and tuned PyTorch": STYLISATION,
            "change from frame to frame of a still picture with noise of 4 levels": f"{alone:.3g} "
            f"levels if every frame is stylised by itself, {smoothed:.3g} as cdjax does it",
        },
        "first": "frames",
        "names": available(),
        "note": NOTE + _NOTE,
        "rows": {},
    }
    for height in heights:
        width = 16 * round(height / 9)
        inputs = _write_film(folder, (height, width), options.frames)
        shared: Any = {"folder": folder, "tunables": STYLISATION, "turns": options.runs}
        taken, _, results["workers"] = compare(task, inputs, **shared)
        names = results["names"]
        rates = {f"{names[way]}, frames/s": options.frames / median(taken[way]) for way in taken}
        results["rows"][f"{width} x {height}"] = {"taken": taken, "figures": rates}
        say(f"{height} lines: " + ", ".join(f"{name} {of:.3g}" for name, of in rates.items()))
        yield results


def _write_film(folder: Path, size: tuple[int, int], frames: int) -> list[Path]:
    """Writes frames over which a camera moves, and a style; the two files."""
    paths = [folder / "frames.npy", folder / "style.npy"]
    write_image(paths[0], *size)
    write_image(paths[1], _STYLE, _STYLE, seed=1)
    picture = np.load(paths[0])
    np.save(paths[0], np.stack([np.roll(picture, 4 * number, 1) for number in range(frames)]))
    return paths


def _flicker(model: Model, smoothing: int) -> float:
    """The mean change of levels from frame to frame of a still picture with noise."""
    from cdjax.cli.samples import landscape, painting

    picture, generator = landscape(*_STILL).astype(float), np.random.default_rng(0)
    frames = [
        np.clip(np.rint(picture + _NOISE * generator.normal(size=picture.shape)), 0, 255)
        for _ in range(12)
    ]
    style = encode_style(model, painting(*_STILL))
    levels = [frame.astype(np.uint8) for frame in frames]
    results = np.stack(list(stylize_frames(model, levels, style, smoothing=smoothing)))
    return float(np.abs(np.diff(results.astype(float), axis=0)).mean())


_NOTE = """
All frames are in memory before and none is kept after. cdjax smooths them over time
(`cdjax.stylize_frames`) and returns uint8; PyTorch stylises every frame by itself. The style is a
square of 512 pixels a side and encoded once.
"""
