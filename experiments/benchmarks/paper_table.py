"""The paper's table: compressed models and their originals.

An original has the same method and stages at the widths of VGG, and random weights, which change
neither time nor memory.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from cdjax import Model, Optimization, load_model, save_model
from cdjax.checkpoints.pretrained import available_models, bundled_file
from cdjax.cli.report import number
from cdjax.evaluation.compare import FLOPS_SIZE, measured_size
from cdjax.networks.spec import TEACHER_WIDTHS
from cdjax.networks.teachers import deepest_encoder
from experiments.benchmarks.inputs import random_model, write_pair
from experiments.benchmarks.report import add_row, comparison, say
from experiments.benchmarks.worker import Answer, summary, worker

_MULTIPLE = 16
"""What sides are multiples of, the deepest stage's stride; other sizes are padded."""
_FIT_SIZES = (0.75, 1.375, 1.0)
"""Sizes whose peaks the line of memory is fitted to, as shares of the size that is timed, last."""

_COLUMNS = {
    "parameters": ("parameters", ",.0f", 1),
    "gflops": (f"GFLOP at {FLOPS_SIZE}x{FLOPS_SIZE}", ",.0f", 1),
    "largest": ("largest whole picture, 10^6 pixels", ",.1f", 1e6),
}
"""Beside seconds and peak memory: the heading, the form and the scale of each."""


def largest_picture(peaks: Mapping[int, int], limit: int) -> int | None:
    """Pixels of the largest square picture in a limit of bytes, by a straight line through peaks.

    The peaks are bytes by pixels a side. None if one is off the line by a tenth of the line's rise.
    """
    pixels, measured = np.square(np.array([*peaks], float)), np.array([*peaks.values()], float)
    # Around the mean: columns of 1 and of 1e6 pixels would lose digits together.
    slope, middle = np.polyfit(pixels - pixels.mean(), measured, 1)
    line = middle + slope * (pixels - pixels.mean())
    if slope <= 0 or not np.abs(line - measured).max() <= 0.1 * slope * np.ptp(pixels):
        return None
    side = np.sqrt(max(0.0, pixels.mean() + (limit - middle) / slope))
    return int(side // _MULTIPLE * _MULTIPLE) ** 2


def _measured(name: str, model: Model, options: argparse.Namespace, folder: Path) -> Answer:
    """What a model takes; every size has a fresh process, after one that compiles."""
    counted = measured_size(model)
    # The loss of an optimisation and its gradient by the image, which costs as much.
    gflops = counted.gflops or 2 * 2 * model.config.specs[0].encoder_macs * FLOPS_SIZE**2 / 1e9
    save_model(folder / "model", model, overwrite=True)
    function = "optimizer" if model.config.method == "encoder" else "stylizer"
    task: dict[str, Any] = {"load": f"cdjax_tasks:{function}", "dtype": "float32", "finish": None}
    settings = asdict(Optimization(optimizer="adam", steps=4, scales=1))
    task |= {"model": str(folder / "model"), "settings": settings}
    peaks: dict[int, int] = {}
    for share in _FIT_SIZES:
        side = round(share * options.table_size / _MULTIPLE) * _MULTIPLE
        inputs = write_pair(folder, side, side, side)
        with worker(name, task, cache=folder / "cache") as (_, run):
            run(*inputs)
        with worker(name, task, cache=folder / "cache") as (_, run):
            peaks[side] = run(*inputs)["peak"]
            answers = [run(*inputs) for _ in range(options.runs if share == 1 else 0)]
        say(f"{name}, {side} pixels: peak {peaks[side] / 1e6:.0f} MB")
    largest = largest_picture(peaks, options.limit)
    found = {"parameters": counted.parameters, "gflops": gflops, "largest": largest}
    return summary(answers) | {"peak": peaks[side], "peaks": peaks} | found


def _systems(models: Mapping[str, Model]) -> Iterator[tuple[str, Model]]:
    """The models, then the encoders of stage 5 alone, which an optimisation needs (Gatys)."""
    yield from models.items()
    for name, model in models.items():
        if model.config.specs[0].stage == 5:
            spec, encoder = deepest_encoder(model)
            config = replace(model.config, method="encoder", specs=(spec,))
            yield name, Model({"stage5": {"encoder": encoder}}, config)


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures every model and its original; yields the results after each."""
    bundled = [model.name for model in available_models() if bundled_file(model.name)]
    models = {name: load_model(name) for name in options.table or bundled}
    if lone := [name for name, model in models.items() if model.config.method == "encoder"]:
        raise ValueError(f"{lone[0]}: a lone encoder, which cannot stylise")
    settings = {
        "pixels a side": options.table_size,
        "seconds": f"medians of {options.runs} runs (fastest to slowest) after a warm-up",
        "largest picture": f"in {options.limit / 1e9:g} GB, whole",
    }
    names = {"compressed": "compressed", "original": "original"}
    results = comparison("The paper's table", "method, stages", names, _NOTE, settings)
    for name, model in _systems(models):
        config = model.config
        specs = tuple(replace(spec, widths=TEACHER_WIDTHS[: spec.stage]) for spec in config.specs)
        method = config.method.replace("encoder", "gatys")
        label = f"{method}, {' '.join(str(spec.stage) for spec in specs)}: {name}"
        original = random_model(specs, config.method)
        taken = {
            role: _measured(f"{role} of {label}", of, options, folder)
            for role, of in (("original", original), ("compressed", model))
        }
        figures = {
            f"original / compressed, {head}": _beside(
                taken["original"][key], taken["compressed"][key], form, scale
            )
            for key, (head, form, scale) in _COLUMNS.items()
        }
        add_row(results, label, taken, figures)
        yield results


def _beside(original: float | None, compressed: float | None, form: str, scale: float) -> str:
    """Two numbers and, if there are both, their ratio."""
    both = f"{number(original, form, scale=scale)} / {number(compressed, form, scale=scale)}"
    return f"{both} = {original / compressed:.2f}" if original and compressed else both


_NOTE = """
Parameters of encoders and decoders, conv0 included. GFLOP: two operations per multiply-accumulate
of the 3x3 convolutions; of every stage the encoder for content and style and the decoder once.
Gatys: the encoder alone, one step of Adam: the losses and their gradient by the image. Seconds and
peaks: float32, content and style of one size, programs compiled before; the peak of a fresh process
that makes one picture, or of its GPU. The largest picture is predicted by the line through the
peaks of three sizes; there is none where a peak is off that line.
"""
