"""The training loop: batches -> train steps -> checkpoints, resumable at any moment.

A checkpoint holds the state, the position in the data and the task. It is written atomically, the
newest few are kept, and a run that is started again continues from the newest exactly as if it had
not stopped. A state that is not finite is never saved.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from cdjax.checkpoints.store import checkpoint_size, reason_of
from cdjax.data.loader import Batches
from cdjax.data.pairs import Pairs
from cdjax.distillation.config import DistillationConfig, TrainTask
from cdjax.distillation.objectives import Networks
from cdjax.distillation.train_step import State, train_step
from cdjax.errors import TrainingError
from cdjax.io.atomic import check_space
from cdjax.io.processes import is_first
from cdjax.progress import OnProgress, Progress, ignore_progress


def train(
    state: State,
    frozen: Networks,
    batches: Batches | Pairs,
    folder: str | os.PathLike[str],
    *,
    task: TrainTask,
    config: DistillationConfig,
    on_progress: OnProgress = ignore_progress,
    on_preview: Callable[[int, State], None] | None = None,
) -> State:
    """Trains to the last step of a task, from the newest checkpoint in `folder` if there is one.

    The batch is divided over all devices of all processes and the state is copied to each.

    Args:
        state: where a new run starts; it is donated.
        frozen: networks that the task uses and does not train.
        batches: this process's share of each global batch, of images or of pairs.
        folder: of the checkpoints; created if missing.
        task: what to train, and for how many steps.
        config: of the distillation, with when to save and preview; stored with every checkpoint.
        on_progress: called with every step's metrics, one step behind the device.
        on_preview: called with the number of a step and the state after it, which it must not
            keep, every `config.pictures_every` steps and at the end.

    Returns:
        The state after the last step.

    Raises:
        TrainingError: if a loss or gradient is not finite, a checkpoint cannot be written, the
            checkpoints are of another task, or a batch cannot be divided over the devices. Existing
            checkpoints stay valid.
    """
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    everywhere, divided = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("batch",)))
    state, frozen = jax.device_put((state, frozen), everywhere)
    directory, steps = Path(folder).resolve(), task.config.steps
    with _checkpointer(directory, config.keep) as checkpoints:
        state = _restore(checkpoints, state, batches, task, directory)
        saved = int(state.step)
        pending: tuple[int, Any] | None = None
        for step in range(saved + 1, steps + 1):
            # On a CPU, a program that is called before its arguments are ready runs in another
            # thread, in memory that is not kept (`cdjax.cli.allocator`).
            images = jax.block_until_ready(_divide(next(batches), divided))
            state, metrics = train_step(state, frozen, images, task=task)
            saves = step % config.save_every == 0 or step == steps
            # One step late, so that the device has work while the host waits for the metrics.
            for number, values in filter(None, (pending, (step, metrics) if saves else None)):
                found = _finite(number, values, saved, directory)
                on_progress(Progress(task.name, number, steps, found))
            pending = None if saves else (step, metrics)
            if saves:
                about = {"task": task.to_json(), "about": config.to_json()}
                _save(checkpoints, state, about | {"data": batches.state()}, saved, directory)
                saved = step
            if on_preview is not None and (step % config.pictures_every == 0 or step == steps):
                on_preview(step, state)
    return state


@contextmanager
def _checkpointer(folder: Path, keep: int) -> Iterator[Any]:
    from orbax.checkpoint import v1 as ocp

    policy = ocp.training.preservation_policies.LatestN(keep)
    checkpoints = ocp.training.Checkpointer(
        folder, preservation_policy=policy, cleanup_tmp_directories=True
    )
    try:
        yield checkpoints
    except BaseException:
        with suppress(Exception):  # It would raise what went wrong in writing once more.
            checkpoints.close()
        raise
    checkpoints.close()


def _restore(
    checkpoints: Any, state: State, batches: Batches | Pairs, task: TrainTask, folder: Path
) -> State:
    """The state of the newest checkpoint, or the one passed in if there is none."""
    if checkpoints.latest is None:
        return state
    step = checkpoints.latest.step
    stored = checkpoints.metadata(step).custom_metadata or {}
    if stored.get("task") != task.to_json():
        raise TrainingError(
            f"{folder}: its checkpoints are of another task; choose another folder or remove them"
        )
    batches.restore(stored["data"])
    return checkpoints.load(step, state)


def _divide(batch: NDArray[np.uint8], sharding: NamedSharding) -> jax.Array:
    devices = jax.local_device_count()
    if len(batch) % devices:
        raise TrainingError(f"a batch of {len(batch)} cannot be divided over {devices} devices")
    return jax.make_array_from_process_local_data(sharding, batch)


def _save(
    checkpoints: Any, state: State, metadata: dict[str, Any], saved: int, folder: Path
) -> None:
    """Writes the checkpoint of a state; `saved` is the step of the one before."""
    step = int(state.step)
    try:
        if is_first():  # Otherwise Orbax's threads print tracebacks on a full disk.
            check_space(folder, checkpoint_size(state))
        checkpoints.save(step, state, force=True, custom_metadata=metadata)
    except Exception as error:  # Orbax and TensorStore promise no particular exceptions.
        raise TrainingError(
            f"{folder}: the checkpoint of step {step} cannot be written ({reason_of(error)}); "
            f"last good checkpoint: {_last(saved, folder)}"
        ) from error


def _last(saved: int, folder: Path) -> str:
    return f"the checkpoint of step {saved} in {folder}" if saved else "none was written yet"


def _finite(step: int, metrics: Any, saved: int, folder: Path) -> dict[str, float]:
    """The metrics of a step as numbers; TrainingError if one is not finite."""
    values = {name: float(value) for name, value in metrics.items()}
    wrong = [name for name, value in values.items() if not np.isfinite(value)]
    if wrong:
        raise TrainingError(
            f"step {step}, on batch {step} of the run: {', '.join(wrong)} not finite; "
            f"last good checkpoint: {_last(saved, folder)}"
        )
    return values
