"""The paper's table: compressed models and their originals.

An original has the same method and stages at the widths of VGG, and random weights, which change
neither time nor memory.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cdjax import Model, Optimization, load_model, save_model
from cdjax.checkpoints.pretrained import available_models, bundled_file
from cdjax.cli.report import document, facts, number, table
from cdjax.evaluation.compare import FLOPS_SIZE, measured_size
from cdjax.networks.spec import TEACHER_WIDTHS
from experiments.benchmarks.inputs import random_model, write_pair
from experiments.benchmarks.report import median, say
from experiments.benchmarks.worker import summary, worker

_MULTIPLE = 16
"""What sides are multiples of, the deepest stage's stride; other sizes are padded."""
_FIT_SIZES = (0.75, 1.375, 1.0)
"""Sizes whose peaks the line of memory is fitted to, as shares of the size that is timed, last."""

_COLUMNS = {
    "parameters": ("parameters", ",.0f", 1),
    "gflops": (f"GFLOP at {FLOPS_SIZE}x{FLOPS_SIZE}", ",.0f", 1),
    "seconds": ("s", ".3g", 1),
    "peak": ("peak memory, MB", ",.0f", 1e6),
    "largest": ("largest whole picture, 10^6 pixels", ",.1f", 1e6),
}


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


def _figures(name: str, model: Model, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What a model takes; every size has a fresh process, after one that compiles."""
    counted, lone = measured_size(model), model.config.method == "encoder"
    # The loss of an optimisation and its gradient by the image, which costs as much.
    gflops = counted.gflops or 2 * 2 * model.config.specs[0].encoder_macs * FLOPS_SIZE**2 / 1e9
    save_model(folder / "model", model, overwrite=True)
    function = "optimizer" if lone else "stylizer"
    task = {"load": f"experiments.benchmarks.cdjax_tasks:{function}", "dtype": "float32"}
    settings = dataclasses.asdict(Optimization(optimizer="adam", steps=4, scales=1))
    chosen = {**task, "model": str(folder / "model"), "finish": None, "settings": settings}
    peaks: dict[int, int] = {}
    for share in _FIT_SIZES:
        side = round(share * options.table_size / _MULTIPLE) * _MULTIPLE
        inputs = write_pair(folder, side, side, side)
        with worker(name, chosen, cache=folder / "cache") as (_, run):
            run(*inputs)
        with worker(name, chosen, cache=folder / "cache") as (_, run):
            peaks[side] = run(*inputs)["peak"]
            answers = [run(*inputs) for _ in range(options.runs if share == 1 else 0)]
        say(f"{name}, {side} pixels: peak {peaks[side] / 1e6:.0f} MB")
    seconds, largest = median(summary(answers)), largest_picture(peaks, options.limit)
    found = {"parameters": counted.parameters, "gflops": gflops, "seconds": seconds}
    return found | {"peak": peaks[side], "peaks": peaks, "largest": largest}


def _systems(models: Mapping[str, Model]) -> Iterator[tuple[str, Model]]:
    """The models, then the encoders of stage 5 alone, which an optimisation needs (Gatys)."""
    yield from models.items()
    for name, model in models.items():
        spec = model.config.specs[0]
        config = dataclasses.replace(model.config, method="encoder", specs=(spec,))
        if spec.stage == 5:
            stage = f"stage{spec.stage}"
            yield name, Model({stage: {"encoder": model.params[stage]["encoder"]}}, config)


def _row(name: str, model: Model, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    method = model.config.method
    specs = tuple(
        dataclasses.replace(spec, widths=TEACHER_WIDTHS[: spec.stage])
        for spec in model.config.specs
    )
    stages = " ".join(str(spec.stage) for spec in specs)
    label = f"{method.replace('encoder', 'gatys')}, {stages}"
    found = {
        role: _figures(f"{role} of {name}, {label}", of, options, folder)
        for role, of in (("original", random_model(specs, method)), ("compressed", model))
    }
    pairs = {key: [of.get(key) for of in found.values()] for key in _COLUMNS}
    ratio = {key: original / own for key, (original, own) in pairs.items() if original and own}
    return {"name": name, "method, stages": label, **found, "ratio": ratio}


def table_report(results: Mapping[str, Any]) -> str:
    """The Markdown of the table: of every system its original, itself and the ratio."""

    def cells(figures: Mapping[str, Any]) -> list[str]:
        columns = _COLUMNS.items()
        return [number(figures.get(key), form, scale=scale) for key, (_, form, scale) in columns]

    rows = []
    for row in results["rows"]:
        label = row["method, stages"]
        rows += [[f"{label}: original", *cells(row["original"])]]
        rows += [[f"{label}: {row['name']}", *cells(row["compressed"])]]
        rows += [["**ratio**", *(number(row["ratio"].get(key), ".2f") for key in _COLUMNS)]]
    text = table(["method, stages", *(head for head, _, _ in _COLUMNS.values())], rows)
    return document("The paper's table", facts(results), {"Table": text + _NOTE})


_NOTE = """
Parameters of encoders and decoders, conv0 included. GFLOP: two operations per multiply-accumulate
of the 3x3 convolutions; of every stage the encoder for content and style and the decoder once.
Gatys: the encoder alone, one step of Adam: the losses and their gradient by the image. Seconds and
peaks: float32, content and style of one size, programs compiled before; the peak of a fresh process
that makes one picture, or of its GPU. The largest picture is predicted by the line through the
peaks of three sizes; there is none where a peak is off that line.
"""


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures every model and its original; yields the results after each."""
    bundled = [model.name for model in available_models() if bundled_file(model.name)]
    models = {name: load_model(name) for name in options.table or bundled}
    if lone := [name for name, model in models.items() if model.config.method == "encoder"]:
        raise ValueError(f"{lone[0]}: a lone encoder, which cannot stylise")
    settings = {
        "pixels a side": options.table_size,
        "seconds": f"medians of {options.runs} runs after a warm-up",
        "largest picture": f"in {options.limit / 1e9:g} GB, whole",
    }
    results: dict[str, Any] = {"settings": settings, "rows": []}
    for name, model in _systems(models):
        results["rows"].append(_row(name, model, options, folder))
        yield results
