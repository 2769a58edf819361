"""What the worker processes of cdjax measure: each function makes a `Work` of a task.

Imports that not all of them need are within the functions: a cold start is measured, too.

Every task but that of training has `model`, a checkpoint; all but that of the optimisation have
`dtype`, in which the networks compute.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from cdjax import Optimization, load_model, student, stylize, stylize_by_windows, teacher
from experiments.benchmarks.worker import Run, Work

_COMPILATION = "/jax/core/compile/backend_compile_duration"


def _work(run: Callable[..., Run]) -> Work:
    compiling = [0.0]

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        compiling[0] += duration_secs if event == _COMPILATION else 0

    def memory(key: str) -> int | None:
        return (device.memory_stats() or {}).get(key)

    jax.monitoring.register_event_duration_secs_listener(listen)
    device = jax.devices()[0]
    about = {"device": device.device_kind, "platform": device.platform, "version": jax.__version__}
    about["limit"] = memory("bytes_limit")
    return Work(about, run, lambda: memory("peak_bytes_in_use"), lambda: compiling[0])


def stylizer(task: Mapping[str, Any]) -> Work:
    """Stylises a content with a style; by windows, to grey levels, if the task has `windows`.

    `windows` are the arguments `memory` and `host_memory` of `cdjax.stylize_by_windows`.
    """
    model, dtype, windows = load_model(task["model"]), task["dtype"], task.get("windows")

    def run(content: NDArray[np.uint8], style: NDArray[np.uint8]) -> Run:
        if windows:
            result = stylize_by_windows(model, content, style, dtype=dtype, levels=True, **windows)
        else:
            result = np.asarray(stylize(model, content, style, dtype=dtype))
        return {}, lambda: result

    return _work(run)


def filmer(task: Mapping[str, Any]) -> Work:
    """Stylises frames, (N, H, W, 3) uint8, with a style; the result is the last of them."""
    from cdjax import stylize_frames

    model, dtype = load_model(task["model"]), task["dtype"]

    def run(frames: NDArray[np.uint8], style: NDArray[np.uint8]) -> Run:
        result = frames[0]
        for result in stylize_frames(model, frames, style, dtype=dtype):  # noqa: B007
            pass
        return {}, lambda: result

    return _work(run)


def trainer(task: Mapping[str, Any]) -> Work:
    """Makes steps of the encoder of the task's `stage` on a batch of images."""
    from cdjax.cli.allocator import run_in_calling_thread
    from cdjax.distillation.config import PhaseConfig, TrainTask
    from cdjax.distillation.train_step import initial_state, train_step
    from experiments.benchmarks.inputs import training_networks

    run_in_calling_thread()
    small, big = student(task["stage"]), teacher(task["stage"])
    step = TrainTask("student_encoder", (small,), big, PhaseConfig(), dtype=task["dtype"])
    networks = jax.device_put(training_networks(small, big))
    frozen = {name: networks.pop(name) for name in ("teacher", "decoder")}
    held = [initial_state(networks, task=step)]

    def run(images: NDArray[np.uint8]) -> Run:
        batch = jax.block_until_ready(jax.device_put(images))
        state, metrics = train_step(held.pop(), frozen, batch, task=step)
        held.append(state)
        loss = float(metrics["loss"])
        jax.block_until_ready(state)
        return {"loss": loss}, lambda: np.array(loss)

    return _work(run)


def shortened(settings: Optimization) -> Optimization:
    """The same optimisation in one step of each encoder, which compiles all of its programs."""
    last = min(1, settings.finish_steps)
    return dataclasses.replace(settings, steps=1 + last, finish_steps=last)


def optimizer(task: Mapping[str, Any]) -> Work:
    """Optimises a picture (Gatys); `seconds` are those of a step at full size.

    The task has `settings`, the fields of `Optimization`, and `finish`, the checkpoint of the model
    that makes the last steps, or None. An untimed step of every encoder fetches the programs first.
    """
    from cdjax.optimization.optimize import optimize_image
    from cdjax.progress import Progress

    models = [task[name] and load_model(task[name]) for name in ("model", "finish")]
    fields: dict[str, Any] = task["settings"]
    fields |= {name: tuple(of) for name, of in fields.items() if isinstance(of, list)}
    settings = Optimization(**fields)

    def run(content: NDArray[np.uint8], style: NDArray[np.uint8]) -> Run:
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
        return {"seconds": seconds / settings.steps}, lambda: np.asarray(picture)

    return _work(run)
