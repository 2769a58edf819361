"""A training run as a process of its own, for the tests that kill it or give it more devices."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax.distillation.train_loop import train
from cdjax.distillation.train_step import State, initial_state
from tests.distillation.test_train_step import networks, task


class Noise:
    """Batch n is made from the number n, which is the position."""

    def __init__(self, size: int = 8) -> None:
        self.position = 0
        self.size = size

    def __next__(self) -> NDArray[np.uint8]:
        self.position += 1
        generator = np.random.default_rng(self.position)
        return generator.integers(0, 256, (self.size, 16, 16, 3), dtype=np.uint8)

    def state(self) -> Any:
        return {"position": self.position}

    def restore(self, state: Any) -> None:
        self.position = state["position"]


def run(folder: Path, steps: int, **options: Any) -> tuple[State, list[tuple[int, float]]]:
    params, frozen = networks("student_encoder")
    work = task("student_encoder", learning_rate=1e-2)
    losses: list[tuple[int, float]] = []
    state = train(
        initial_state(params, task=work),
        frozen,
        options.pop("batches", Noise()),
        folder,
        task=options.pop("task", work),
        steps=steps,
        report=lambda step, metrics: losses.append((step, metrics["loss"])),
        **options,
    )
    return state, losses


if __name__ == "__main__":
    _, written = run(Path(sys.argv[1]), int(sys.argv[2]), save_every=5)
    print(json.dumps(written))
