"""A training run as a process of its own, for the tests that kill it or give it more devices."""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax.data.loader import DataConfig
from cdjax.distillation.config import DistillationConfig
from cdjax.distillation.train_loop import train
from cdjax.distillation.train_step import State, initial_state
from cdjax.progress import Progress
from tests.distillation.test_train_step import networks, task

STEPS = 40


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


def run(
    folder: Path,
    *,
    stop_at: int | None = None,
    batches: Any = None,
    save_every: int = 10,
    keep: int = 3,
    **changes: Any,
) -> tuple[State | None, list[tuple[int, float]]]:
    """Trains for `STEPS`, or until it is interrupted after a step; the state, and all losses."""
    params, frozen = networks("student_encoder")
    work = task("student_encoder", **{"learning_rate": 1e-2, "steps": STEPS, **changes})
    losses: list[tuple[int, float]] = []

    def note(progress: Progress) -> None:
        losses.append((progress.done, progress.metrics["loss"]))
        if progress.done == stop_at:
            raise KeyboardInterrupt

    config = DistillationConfig(data=DataConfig("dead-leaves"), save_every=save_every, keep=keep)
    state = None
    with suppress(KeyboardInterrupt):
        state = train(
            initial_state(params, task=work),
            frozen,
            batches or Noise(),
            folder,
            task=work,
            config=config,
            on_progress=note,
        )
    return state, losses


if __name__ == "__main__":
    last = int(sys.argv[2]) if len(sys.argv) > 2 else None
    print(json.dumps(run(Path(sys.argv[1]), stop_at=last)[1]))
