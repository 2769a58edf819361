"""Speed of the student-encoder step: cdjax against plain PyTorch (`benchmark --training`)."""

import json
import os
import platform
import statistics
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cdjax import Spec
from cdjax.cli.allocator import TRAINING
from experiments.benchmark_report import MIB, processor, table
from experiments.measure import Worker, photograph, worker
from experiments.training_networks import to_torch_layout, training_networks

_PAUSE = 0.5
_TURN = 6
"""Timed steps of a turn, behind one that is not timed and finds the other's data in the caches: in
training, steps follow their like."""
_HEADER = (
    "stage",
    "cdjax, s",
    "PyTorch, s",
    "times faster",
    "images/s",
    "GFLOP/s",
    "of matrix products",
    "share",
    "peak, MiB",
    "PyTorch's",
    "largest difference of the losses",
)


@dataclass(frozen=True)
class TrainingComparison:
    """Both implementations at one stage.

    Attributes:
        stage: whose encoder is trained.
        seconds: of every timed step, by implementation.
        losses: before each of them, by implementation.
        peak: bytes that each process, or its device, held at most.
        images: in a batch.
        flops: floating-point operations of a step.
        product: FLOP/s of matrix products in the same minutes.
    """

    stage: int
    seconds: dict[str, tuple[float, ...]]
    losses: dict[str, tuple[float, ...]]
    peak: dict[str, int]
    images: int
    flops: float
    product: float

    @property
    def apart(self) -> float:
        """The largest relative difference of the two losses of a step."""
        ours, theirs = (np.array(self.losses[name]) for name in ("cdjax", "torch"))
        return float(np.max(np.abs(ours - theirs) / theirs))


def step_flops(small: Spec, big: Spec, pixels: int) -> float:
    """Floating-point operations of a step's 3x3 convolutions, two a multiply-accumulate.

    The teacher's encoder on the image; its decoder and its encoder on the reconstruction, forward
    and the gradient of their input; the student's encoder, forward and both gradients. Embeddings
    and conv0 are not counted.
    """
    return 2 * pixels * (5 * big.encoder_macs + 3 * small.encoder_macs)


def _turn(process: Worker) -> list[dict[str, Any]]:
    time.sleep(_PAUSE)
    return [process.ask("run") for _ in range(1 + _TURN)]


def compare_steps(
    folder: Path, small: Spec, big: Spec, *, batch: int, crop: int, runs: int, dtype: str
) -> tuple[TrainingComparison, dict[str, Any]]:
    """Times both implementations at one stage, in turns, from the same weights and images.

    Args:
        folder: gets weights, images and caches.
        small: the student.
        big: the teacher, of the same stage and depths.
        batch: crops in a step.
        crop: their side in pixels.
        runs: turns of each that are timed, after one that is not.
        dtype: in which the networks compute.

    Raises:
        WorkerError: if one of the processes comes to a bad end.
    """
    np.savez(folder / "weights.npz", **to_torch_layout(training_networks(small, big)))  # type: ignore[arg-type]
    crops = [photograph(crop, seed=seed) for seed in range(batch)]
    np.save(folder / "images.npy", np.stack(crops))
    specs = {"student_widths": small.widths, "teacher_widths": big.widths}
    specs |= {"stage": big.stage, "depths": big.depths}  # type: ignore[dict-item]
    (folder / "specs.json").write_text(json.dumps(specs))
    module = "experiments.measure_training"
    # As `experiments.distill` starts.
    started = {"allocator": TRAINING, "module": module}
    with worker("cdjax", folder, dtype=dtype, **started) as ours:
        device = ours.about["platform"]
        with worker("torch", folder, dtype=dtype, platform=device, module=module) as theirs:
            pair = {"cdjax": ours, "torch": theirs}
            turns: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in pair}
            for _ in range(1 + runs):
                for name, process in pair.items():
                    turns[name].append(_turn(process))
            product = ours.ask("product")["flops"]
            about = {name: process.about for name, process in pair.items()}
    comparison = TrainingComparison(
        big.stage,
        {name: tuple(a["seconds"] for t in turns[name][1:] for a in t[1:]) for name in pair},
        {name: tuple(a["loss"] for turn in turns[name] for a in turn) for name in pair},
        {name: turns[name][-1][-1]["peak"] for name in pair},
        batch,
        step_flops(small, big, batch * crop**2),
        product,
    )
    return comparison, about


def _range(seconds: tuple[float, ...]) -> str:
    return f"{statistics.median(seconds):.3g} ({min(seconds):.3g} to {max(seconds):.3g})"


def _row(result: TrainingComparison) -> list[str]:
    ours, theirs = (statistics.median(result.seconds[name]) for name in ("cdjax", "torch"))
    speed = result.flops / ours
    return [
        str(result.stage),
        _range(result.seconds["cdjax"]),
        _range(result.seconds["torch"]),
        f"{theirs / ours:.2f}",
        f"{result.images / ours:.1f}",
        f"{speed / 1e9:.0f}",
        f"{result.product / 1e9:.0f}",
        f"{100 * speed / result.product:.0f} %",
        *(f"{result.peak[name] / MIB:.0f}" for name in ("cdjax", "torch")),
        f"{result.apart:.1e}",
    ]


def training_report(
    command: str,
    about: dict[str, Any],
    results: list[TrainingComparison],
    *,
    crop: int,
    runs: int,
    dtype: str,
) -> str:
    """The Markdown that says what was measured, how and on what."""
    versions = {"Python": platform.python_version(), "cdjax": version("cdjax")}
    versions |= {"JAX": about["cdjax"]["version"], "PyTorch": about["torch"]["version"]}
    as_started = f"of cdjax, as experiments.distill starts: {TRAINING}"
    devices = " and ".join(f"{about[name]['device']} ({name})" for name in ("cdjax", "torch"))
    return f"""# Student-encoder step: cdjax against plain PyTorch

- command: `{command}`
- machine: {processor()}, {os.cpu_count()} cores, {platform.system()}
- devices: {devices}
- versions: {", ".join(f"{name} {number}" for name, number in versions.items())}
- networks: VGG-19's widths and the paper's 16x student, random weights, the same in both
- {results[0].images} crops of {crop} pixels a step, embedding, pixel and perceptual loss with the
  paper's weights, Adam; {dtype}; medians of {_TURN * runs} steps (fastest to slowest), in turns of
  {_TURN} behind one that is not timed
- GLIBC_TUNABLES: {os.environ.get("GLIBC_TUNABLES", as_started)}

{table(_HEADER, [_row(result) for result in results])}
From a uint8 batch in host memory to updated parameters and the loss as a number. PyTorch is
`experiments/plain_torch_training.py`. GFLOP/s are cdjax's: two a multiply-accumulate of the 3x3
convolutions, of which the frozen networks have no gradients of their weights. Matrix products: the
best of JAX's in {dtype}, in the same minutes. The last column is the largest relative difference of
the two losses over all steps.
"""
