"""A training step of a student's encoder: cdjax, tuned PyTorch and plain PyTorch."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cdjax import Spec, student, teacher
from cdjax.cli.allocator import TRAINING
from cdjax.data.dead_leaves import dead_leaves
from experiments.benchmarks.inputs import training_networks, write_torch_weights
from experiments.benchmarks.report import add_row, median
from experiments.benchmarks.ways import NOTE, beside_pytorch, compare

_REPEATS = 6
"""Timed steps of a turn: in training, a step follows its like, with its data in the caches."""


def flops(small: Spec, big: Spec, pixels: int) -> float:
    """Operations of the 3x3 convolutions of a step, two per multiply-accumulate.

    The teacher's encoder on the image; its decoder and its encoder on the reconstruction, forward
    and the gradient of their input; the student's encoder, forward and both gradients. Embeddings
    and conv0 are not counted.
    """
    return 2 * pixels * (5 * big.encoder_macs + 3 * small.encoder_macs)


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures a step at every stage, from the same weights and images; yields after each."""
    batch, crop, images = options.batch, options.crop, folder / "images.npy"
    np.save(images, np.stack([dead_leaves(0, index, size=crop) for index in range(batch)]))
    settings = {
        "networks": "VGG-19's widths and the paper's 16x student, random weights",
        "step": f"{batch} crops of {crop} pixels; {options.dtype}; embedding, pixel and "
        "perceptual loss with the paper's weights; Adam",
        "seconds": f"medians of {_REPEATS * options.runs} steps (fastest to slowest), in turns "
        f"of {_REPEATS} after one that is not timed",
    }
    title = "Training step of a student's encoder"
    results = beside_pytorch(title, "stage", NOTE + _NOTE, TRAINING, settings)
    for stage in options.stages:
        small, big, weights = student(stage), teacher(stage), folder / "weights.npz"
        write_torch_weights(weights, training_networks(small, big))
        task = {"load": "trainer", "weights": str(weights), "dtype": options.dtype, "stage": stage}
        shared: Any = {"folder": folder, "tunables": TRAINING, "turns": options.runs}
        taken, results["workers"] = compare(task, [images], repeats=_REPEATS, **shared)
        step = median(taken["cdjax"])
        figures = {"cdjax, images/s": batch / step}
        figures["cdjax, GFLOP/s"] = flops(small, big, batch * crop**2) / step / 1e9
        if "tuned" in taken:
            ratio = taken["tuned"]["loss"] / taken["cdjax"]["loss"]
            figures["relative difference of the last loss"] = abs(ratio - 1)
        add_row(results, str(stage), taken, figures)
        yield results


_NOTE = """
A step goes from a uint8 batch in host memory to updated parameters and the loss as a number. GFLOP
count the 3x3 convolutions, two operations per multiply-accumulate; frozen networks have no
gradients of their weights, and none are counted.
"""
