"""A program for tests: one picture by windows on the devices and hosts that its options name."""

import sys

import jax
import numpy as np

from cdjax import Spec, stylize_by_windows
from cdjax.distillation.hosts import initialize
from tests.models import random_image, random_model


def main(output: str, *hosts: str) -> None:
    if hosts:
        coordinator, processes, index = hosts
        initialize(coordinator, int(processes), int(index))
    model = random_model((Spec(3, (4, 6, 8)), Spec(1, (5,))))
    stages: set[float] = set()
    result = stylize_by_windows(
        model,
        random_image(130, 110, seed=3),
        random_image(70, 60, seed=4),
        memory=500_000,
        on_progress=lambda progress: stages.update(progress.metrics.values()),
    )
    assert stages == {3, 1}
    np.save(output, result)
    print(jax.local_device_count(), jax.process_count())


if __name__ == "__main__":
    main(*sys.argv[1:])
