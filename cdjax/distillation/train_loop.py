"""Batches -> train steps -> checkpoints: a run that survives being killed and never saves NaN.

A checkpoint holds the state, the position in the data and what was being trained. It appears whole
or not at all, the newest few are kept, and a run that is started again goes on from the newest
exactly as if it had not stopped.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from cdjax.distillation.config import Task
from cdjax.distillation.train_step import State, train_step
from cdjax.errors import TrainingError
from cdjax.model import Params

Report = Callable[[int, dict[str, float]], None]
Inspect = Callable[[int, State], None]


class Batches(Protocol):
    """Image batches whose position can be stored and found again."""

    def __next__(self) -> NDArray[np.uint8]:
        """The next batch of this process, (N, S, S, 3) or, of pairs, (N, 2, S, S, 3), uint8."""
        ...

    def state(self) -> Any:
        """The position behind the last batch, as JSON."""
        ...

    def restore(self, state: Any) -> None:
        """Goes to a position, so that the same batches follow."""
        ...


def train(
    state: State,
    frozen: dict[str, Params],
    batches: Batches,
    folder: str | os.PathLike[str],
    *,
    task: Task,
    steps: int,
    save_every: int = 500,
    keep: int = 3,
    report: Report | None = None,
    inspect: Inspect | None = None,
    inspect_every: int = 500,
    about: Any = None,
) -> State:
    """Trains until step `steps`, from the newest checkpoint in `folder` if there is one.

    The batch is divided over all devices of all processes, the state copied to each; the losses
    are those of one device.

    Args:
        state: where a new run starts; its memory is given up.
        frozen: networks that the task needs and does not train.
        batches: this process's share of each global batch.
        folder: of the checkpoints; made if it is not there.
        task: what to train.
        steps: the step at which to end; a checkpoint is written there.
        save_every: steps between checkpoints.
        keep: how many checkpoints stay.
        report: called with every step's number and metrics, one step behind the device.
        inspect: called with a step's number and the state after it, which it must not keep, every
            `inspect_every` steps and at the end.
        inspect_every: steps.
        about: JSON that is stored with every checkpoint: the whole configuration of the run.

    Returns:
        The state at step `steps`.

    Raises:
        TrainingError: if a loss or gradient is not finite, the checkpoints are of another task, or
            a batch cannot be divided over the devices. Checkpoints that are there stay good.
    """
    from orbax.checkpoint import v1 as ocp

    mesh = Mesh(np.array(jax.devices()), ("batch",))
    everywhere, divided = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("batch",)))
    state, frozen = jax.device_put((state, frozen), everywhere)
    policy = ocp.training.preservation_policies.LatestN(keep)
    directory = Path(folder).resolve()
    with ocp.training.Checkpointer(
        directory, preservation_policy=policy, cleanup_tmp_directories=True
    ) as checkpoints:
        stored = {"task": dataclasses.asdict(task), "about": about}
        latest = checkpoints.latest
        if latest is not None:
            state = _restore(checkpoints, latest.step, state, batches, stored["task"], directory)
        saved = int(state.step)
        pending: tuple[int, Any] | None = None
        for step in range(saved, steps):
            # On a CPU, a program that is called before its arguments are ready runs elsewhere, in
            # memory that is not kept (`cdjax.cli.allocator`).
            images = jax.block_until_ready(_divide(next(batches), divided))
            state, metrics = train_step(state, frozen, images, task=task)
            # One step behind, so that the device has work while the last one is looked at.
            _examine(pending, report, saved, directory)
            pending = step + 1, metrics
            if (step + 1) % save_every == 0 or step + 1 == steps:
                _examine(pending, report, saved, directory)
                pending = None
                metadata = {**stored, "data": batches.state()}
                checkpoints.save(step + 1, state, force=True, custom_metadata=metadata)
                saved = step + 1
            if inspect is not None and ((step + 1) % inspect_every == 0 or step + 1 == steps):
                inspect(step + 1, state)
    return state


def _restore(
    checkpoints: Any, step: int, state: State, batches: Batches, task: Any, folder: Path
) -> State:
    stored = checkpoints.metadata(step).custom_metadata or {}
    if _plain(stored.get("task")) != _plain(task):
        raise TrainingError(
            f"{folder}: its checkpoints are of another task; choose another folder or remove them"
        )
    batches.restore(stored["data"])
    restored: State = checkpoints.load(step, state)
    return restored


def _plain(value: Any) -> Any:
    """A value as JSON gives it back: tuples are lists there."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _divide(batch: NDArray[np.uint8], sharding: NamedSharding) -> jax.Array:
    devices = jax.local_device_count()
    if len(batch) % devices:
        raise TrainingError(f"a batch of {len(batch)} cannot be divided over {devices} devices")
    return jax.make_array_from_process_local_data(sharding, batch)


def _examine(
    pending: tuple[int, Any] | None, report: Report | None, saved: int, folder: Path
) -> None:
    if pending is None:
        return
    step, metrics = pending[0], {name: float(value) for name, value in pending[1].items()}
    wrong = [name for name, value in metrics.items() if not np.isfinite(value)]
    if wrong:
        last = f"the checkpoint of step {saved} in {folder}" if saved else "none was written yet"
        raise TrainingError(
            f"step {step}, on batch {step} of the run: {', '.join(wrong)} not finite; "
            f"last good checkpoint: {last}"
        )
    if report is not None:
        report(step, metrics)
