"""A process that optimises an image when told to, and says what a step took.

    python -m experiments.measure_gatys gatys FOLDER DTYPE PLATFORM

As `experiments/measure.py`; FOLDER/checkpoint is an encoder, and the lines that are answered are

    run     optimise content.npy in the style of style.npy, both in FOLDER, with Adam, which takes
            the losses and their gradient once a step; the seconds are those of one step
    images  read both images anew
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from cdjax import load_model
from cdjax.optimization.config import Optimization
from cdjax.optimization.optimize import optimize_image
from experiments.measure import Image, memory_of

_FEW, _MORE = 1, 4
"""Steps of two optimisations, whose difference is that of steps and of nothing else."""


def step_seconds(optimize: Callable[[int], None]) -> float:
    """Seconds of one step of something that makes as many as it is told, start and end left out."""

    def seconds(steps: int) -> float:
        start = time.perf_counter()
        optimize(steps)
        return time.perf_counter() - start

    few, more = seconds(_FEW), seconds(_MORE)
    return (more - few) / (_MORE - _FEW)


def main(folder: str) -> None:
    """Serves until standard input ends."""

    def answer(**facts: object) -> None:
        print(json.dumps(facts), flush=True)

    def images() -> tuple[Image, Image]:
        content, style = (np.load(Path(folder) / f"{name}.npy") for name in ("content", "style"))
        return content, style

    def optimize(steps: int) -> None:
        settings = Optimization(optimizer="adam", steps=steps, scales=1)
        optimize_image(model, content, style, settings=settings).block_until_ready()

    device = jax.devices()[0]
    model = load_model(Path(folder) / "checkpoint")
    content, style = images()
    answer(device=device.device_kind, platform=device.platform, version=jax.__version__)
    for line in sys.stdin:
        match line.strip():
            case "run":
                seconds = step_seconds(optimize)
                answer(seconds=seconds, peak=memory_of(device)[1])
            case "images":
                content, style = images()
                answer()
            case other:
                raise ValueError(f"cannot {other} now")


if __name__ == "__main__":
    main(sys.argv[2])
