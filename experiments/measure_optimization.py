"""Processes that optimise a picture with one encoder, a chunk of steps when told to.

    python -m experiments.measure_optimization student|teacher FOLDER DTYPE PLATFORM

As `experiments/measure.py`; the lines that a worker answers are

    next     optimise until the next moment at which the losses are known: what it took
    save     write the picture of this moment to FOLDER/{student,teacher}.npy

FOLDER holds the models of these names, content.npy, style.npy and settings.json, of a
`cdjax.Optimization`, whose `finish_steps` and `start` are the student's course's: those are made
with the teacher, whose own course starts from the content.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.measure import memory_of


def main(name: str, folder: str, dtype: str, platform: str) -> None:
    """Serves one encoder until standard input ends."""
    import jax

    from cdjax import Optimization, load_model
    from cdjax.optimization.optimize import optimization

    def answer(**facts: Any) -> None:
        print(json.dumps(facts), flush=True)

    device = jax.devices()[0]
    model = load_model(Path(folder) / name)
    chosen: dict[str, Any] = json.loads((Path(folder) / "settings.json").read_text())
    chosen |= {name: tuple(value) for name, value in chosen.items() if isinstance(value, list)}
    finish = None
    if name == "teacher":
        chosen |= {"finish_steps": 0, "start": "content"}
    elif chosen["finish_steps"]:
        finish = load_model(Path(folder) / "teacher")
    settings = Optimization(**chosen)
    content, style = (np.load(Path(folder) / f"{image}.npy") for image in ("content", "style"))
    course = optimization(model, content, style, settings=settings, finish=finish)
    progress = None
    about = {"device": device.device_kind, "platform": device.platform, "version": jax.__version__}
    answer(**about, held=memory_of(device)[0])
    for line in sys.stdin:
        match line.strip():
            case "next":
                start = time.perf_counter()
                progress = next(course)
                seconds = time.perf_counter() - start
                last = (progress.scale + 1, progress.step) == (progress.scales, settings.steps)
                answer(
                    seconds=seconds,
                    size=progress.size,
                    step=progress.step,
                    finishing=progress.finishing,
                    losses=progress.losses,
                    last=last,
                    peak=memory_of(device)[1],
                )
            case "save" if progress is not None:
                np.save(Path(folder) / f"{name}.npy", np.asarray(progress.picture()))
                answer()
            case _:
                raise ValueError(f"cannot {line.strip()} now")


if __name__ == "__main__":
    main(*sys.argv[1:])
