"""What the worker processes of cdjax measure: a function for every kind of task returns its `Run`.

Imports that not all of them need are within the functions: a cold start is measured, too.

Every task but that of training has `model`, a checkpoint; all but that of the optimisation have
`dtype`, in which the networks compute.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

import cdjax
from experiments.benchmarks.worker import Answer, Run

_compiled: list[float] = []


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(duration_secs)


jax.monitoring.register_event_duration_secs_listener(_listen)


def _memory(key: str) -> int | None:
    return (jax.devices()[0].memory_stats() or {}).get(key)


def counters() -> Answer:
    """Seconds of compilation since the start, and the most bytes that a GPU ever held."""
    return {"compiling": sum(_compiled), "peak": _memory("peak_bytes_in_use")}


def about(task: Mapping[str, Any]) -> Answer:
    """What the worker is: also the `limit` of a GPU's memory."""
    device, limit = jax.devices()[0], _memory("bytes_limit")
    found = {"device": device.device_kind, "platform": device.platform, "version": jax.__version__}
    return found | {"limit": limit}


def stylizer(task: Mapping[str, Any]) -> Run:
    """Stylises a content, or the frames of a film, with a style; the result is the last picture.

    If the task has `windows`, the arguments `memory` and `host_memory` of
    `cdjax.stylize_by_windows`, it stylises by windows, to grey levels.
    """
    model, dtype, windows = cdjax.load_model(task["model"]), task["dtype"], task.get("windows")

    def run(content: NDArray[np.uint8], style: NDArray[np.uint8]) -> tuple[NDArray[Any], Answer]:
        if content.ndim == 4:
            result = deque(cdjax.stylize_frames(model, content, style, dtype=dtype), maxlen=1).pop()
        elif windows:
            result = cdjax.stylize_by_windows(
                model, content, style, dtype=dtype, levels=True, **windows
            )
        else:
            result = np.asarray(cdjax.stylize(model, content, style, dtype=dtype))
        return result, {}

    return run


def trainer(task: Mapping[str, Any]) -> Run:
    """Makes steps of the encoder of the task's `stage` on a batch of images."""
    from cdjax.cli.allocator import run_in_calling_thread
    from cdjax.distillation.config import PhaseConfig, TrainTask
    from cdjax.distillation.train_step import initial_state, train_step
    from experiments.benchmarks.inputs import training_networks

    run_in_calling_thread()
    small, big = cdjax.student(task["stage"]), cdjax.teacher(task["stage"])
    step = TrainTask("student_encoder", (small,), big, PhaseConfig(), dtype=task["dtype"])
    networks = jax.device_put(training_networks(small, big))
    frozen = {name: networks.pop(name) for name in ("teacher", "decoder")}
    held = [initial_state(networks, task=step)]

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[Any], Answer]:
        batch = jax.block_until_ready(jax.device_put(images))
        state, metrics = train_step(held.pop(), frozen, batch, task=step)
        held.append(state)
        loss = float(metrics["loss"])
        jax.block_until_ready(state)
        return np.array(loss), {"loss": loss}

    return run


def shortened(settings: cdjax.Optimization) -> cdjax.Optimization:
    """The same optimisation in one step of each encoder, which compiles all of its programs."""
    last = min(1, settings.finish_steps)
    return dataclasses.replace(settings, steps=1 + last, finish_steps=last)


def optimizer(task: Mapping[str, Any]) -> Run:
    """Optimises a picture (Gatys); `seconds` are those of a step at full size.

    The task has `settings`, the fields of `Optimization`, and `finish`, the checkpoint of the model
    that makes the last steps, or None. An untimed step of every encoder fetches the programs first.
    """
    from cdjax.optimization.optimize import optimize_image
    from cdjax.progress import Progress

    models = [task[name] and cdjax.load_model(task[name]) for name in ("model", "finish")]
    fields: dict[str, Any] = task["settings"]
    fields |= {name: tuple(of) for name, of in fields.items() if isinstance(of, list)}
    settings = cdjax.Optimization(**fields)

    def run(content: NDArray[np.uint8], style: NDArray[np.uint8]) -> tuple[NDArray[Any], Answer]:
        optimize_image(models[0], content, style, settings=shortened(settings), finish=models[1])
        full_size = f"{content.shape[1]}x{content.shape[0]}"
        before, done, seconds = time.perf_counter(), 0, 0.0

        def note(progress: Progress) -> None:
            nonlocal before, done, seconds
            now = time.perf_counter()  # The host waits for the losses of every chunk of steps.
            if progress.task.startswith(full_size) and progress.done > done:
                seconds += now - before
            before, done = now, progress.done

        picture = optimize_image(
            models[0], content, style, settings=settings, finish=models[1], on_progress=note
        )
        return np.asarray(picture), {"seconds": seconds / settings.steps}

    return run
