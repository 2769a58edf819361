"""Processes that train with one implementation each, a step when told to, and say what it took.

    python -m experiments.measure_training cdjax|torch FOLDER DTYPE PLATFORM

As `experiments/measure.py`; the lines that a worker answers are

    run      one step on the batch of FOLDER/images.npy: its seconds, and the loss before it
    product  time matrix products (cdjax only)

FOLDER also holds `weights.npz`, as `experiments/plain_torch_training.py` describes it, and
`specs.json`, the stage and the depths of the networks.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.measure import Memory, matrix_products, memory_of

Step = Callable[[NDArray[np.uint8]], float]


@dataclass(frozen=True)
class _Implementation:
    about: dict[str, str]
    step: Step
    memory: Callable[[], Memory]


def _cdjax(folder: Path, dtype: str, platform: str) -> _Implementation:
    import jax

    from cdjax import Spec
    from cdjax.cli.allocator import run_in_calling_thread
    from cdjax.distillation.config import PAPER_WEIGHTS, Task
    from cdjax.distillation.train_step import initial_state, train_step
    from experiments.training_networks import from_torch_layout

    run_in_calling_thread()
    specs = json.loads((folder / "specs.json").read_text())
    stage, depths = specs["stage"], tuple(specs["depths"])
    with np.load(folder / "weights.npz") as arrays:
        networks = jax.device_put(from_torch_layout(arrays))
    small, big = (
        Spec(stage, tuple(specs[name]), depths) for name in ("student_widths", "teacher_widths")
    )
    weights = PAPER_WEIGHTS["student_encoder"]
    task = Task("student_encoder", small, big, weights, dtype=dtype)
    frozen = {name: networks[name] for name in ("teacher", "decoder")}
    trained = {"encoder": networks["student"], "embedding": networks["embedding"]}
    held = [initial_state(trained, task=task)]

    def step(images: NDArray[np.uint8]) -> float:
        batch = jax.block_until_ready(jax.device_put(images))
        state, metrics = train_step(held.pop(), frozen, batch, task=task)
        held.append(state)
        loss = float(metrics["loss"])
        jax.block_until_ready(state)
        return loss

    device = jax.devices()[0]
    about = {"device": device.device_kind, "platform": device.platform, "version": jax.__version__}
    return _Implementation(about, step, lambda: memory_of(device))


def _torch(folder: Path, dtype: str, platform: str) -> _Implementation:
    import torch

    from experiments.plain_torch_training import EncoderTraining
    from experiments.torch_worker import settled_torch, torch_memory

    about = settled_torch(platform)
    device = about["platform"]
    with np.load(folder / "weights.npz") as arrays:
        training = EncoderTraining(arrays, device=device, dtype=getattr(torch, dtype))

    def step(images: NDArray[np.uint8]) -> float:
        loss = training(images)
        if device == "cuda":
            torch.cuda.synchronize()
        return loss

    return _Implementation(about, step, lambda: torch_memory(device))


def main(name: str, folder: str, dtype: str, platform: str) -> None:
    """Serves one implementation until standard input ends."""

    def answer(**facts: Any) -> None:
        print(json.dumps(facts), flush=True)

    implementation = {"cdjax": _cdjax, "torch": _torch}[name](Path(folder), dtype, platform)
    images = np.load(Path(folder) / "images.npy")
    answer(**implementation.about, held=implementation.memory()[0])
    for line in sys.stdin:
        match line.strip():
            case "run":
                start = time.perf_counter()
                loss = implementation.step(images)
                seconds = time.perf_counter() - start
                answer(seconds=seconds, loss=loss, peak=implementation.memory()[1])
            case "product":
                answer(flops=matrix_products(dtype))
            case _:
                raise ValueError(f"cannot {line.strip()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
