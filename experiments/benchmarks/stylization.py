"""Whole pictures, WCT or AdaIN: seconds and peak memory by size."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdjax import load_model, save_model
from cdjax.cli.allocator import STYLISATION
from experiments.benchmarks.inputs import difference, write_pair
from experiments.benchmarks.report import median, say
from experiments.benchmarks.ways import NOTE, available, compare, torch_task


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures every size; yields the results after each."""
    sizes, weights = options.sizes or [512, 1024, 2048], options.weights or f"{options.method}-16x"
    model = load_model(weights)
    method, stride = model.config.method, model.config.specs[0].stride
    task = torch_task(model, options.dtype, folder)
    for size in sizes:
        if size % stride or size < 2 * stride:
            raise ValueError(
                f"a size must be a multiple of {stride}, at least {2 * stride}, not {size}"
            )
    save_model(folder / "model", model)
    task |= {"load": "stylizer", "model": str(folder / "model")}
    results: dict[str, Any] = {
        "title": f"{method}: cdjax and PyTorch",
        "settings": {
            "weights": f"{weights}; {options.dtype}",
            "seconds": f"medians of {options.runs} runs (fastest to slowest), in turns",
            "GLIBC_TUNABLES of cdjax and tuned PyTorch": STYLISATION,
        },
        "first": "pixels a side",
        "names": available(),
        "note": NOTE + _NOTE,
        "rows": {},
    }
    for size in sizes:
        inputs = write_pair(folder, size, size, size)
        shared: Any = {"folder": folder, "tunables": STYLISATION, "turns": options.runs}
        taken, _, results["workers"] = compare(task, inputs, **shared)
        figures = difference(folder / "cdjax.npy", folder / "tuned.npy") if "tuned" in taken else {}
        results["rows"][str(size)] = {"taken": taken, "figures": figures}
        say(f"{size} pixels: " + ", ".join(f"{w} {median(of):.3g} s" for w, of in taken.items()))
        yield results


_NOTE = """
Content and style are square and of one size; uint8 arrays in, a float32 array out.
"""
