"""Whole pictures, WCT or AdaIN: seconds and peak memory by size."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdjax.cli.allocator import STYLISATION
from experiments.benchmarks.inputs import difference, write_pair
from experiments.benchmarks.report import add_row
from experiments.benchmarks.ways import NOTE, beside_pytorch, chosen_model, compare


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures every size; yields the results after each."""
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


_NOTE = """
Content and style are square and of one size; uint8 arrays in, a float32 array out.
"""
