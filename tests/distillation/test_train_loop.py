"""Runs that are stopped, killed, poisoned and spread over devices."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.distillation.config import DistillationConfig
from cdjax.distillation.train_loop import train
from cdjax.distillation.train_step import initial_state
from cdjax.errors import TrainingError
from tests.distillation.test_train_step import networks, task
from tests.training_run import STEPS, Noise, run


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def assert_equal(left: object, right: object) -> None:
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole, losses = run(tmp_path / "whole", save_every=16)
    _, earlier = run(tmp_path / "parts", save_every=16, stop_at=20)
    parts, later = run(tmp_path / "parts", save_every=16)
    assert_equal(whole, parts)
    assert [step for step, _ in losses] == list(range(1, STEPS + 1))
    assert earlier == losses[:20]
    assert later == losses[16:]
    again, nothing = run(tmp_path / "parts", save_every=16)
    assert nothing == []
    assert_equal(again, whole)


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    run(tmp_path, save_every=8, keep=2)
    assert steps_in(tmp_path) == [32, 40]


def test_killed_at_any_moment_it_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    _, expected = run(tmp_path / "whole")
    command = [sys.executable, "-m", "tests.training_run", str(tmp_path / "killed")]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    folder = tmp_path / "killed"
    deadline = time.monotonic() + 120
    while not (folder.is_dir() and steps_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    reached = steps_in(folder)[-1]
    assert reached < STEPS
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(finished.stdout) == [list(pair) for pair in expected[reached:]]


def test_a_loss_that_is_not_finite_stops_the_run_with_good_checkpoints(tmp_path: Path) -> None:
    class Poisoned(Noise):
        def __next__(self) -> np.ndarray:  # type: ignore[type-arg]
            batch = super().__next__()
            return batch * np.float32("nan") if self.position == 7 else batch / np.float32(255)

    with pytest.raises(TrainingError, match=r"step 7, .*loss.*not finite.*step 6 in"):
        run(tmp_path, save_every=3, batches=Poisoned())
    assert steps_in(tmp_path) == [3, 6]
    state, _ = run(tmp_path, save_every=20)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_checkpoints_of_another_task_are_not_continued(tmp_path: Path) -> None:
    run(tmp_path, save_every=1, stop_at=2)
    with pytest.raises(TrainingError, match="another task"):
        run(tmp_path, learning_rate=2e-2)
    # More steps are no other task, unless the learning rate depends on their number.
    first, more = (task("student_encoder", steps=steps) for steps in (4, 8))
    assert first.to_json() == more.to_json()
    first, more = (task("student_encoder", steps=steps, decay=True) for steps in (4, 8))
    assert first.to_json() != more.to_json()


def test_eight_devices_lose_what_one_does(tmp_path: Path) -> None:
    _, expected = run(tmp_path / "one", stop_at=4)
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, "-m", "tests.training_run", str(tmp_path / "eight"), "4"]
    root = Path(__file__).parents[2]
    finished = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    np.testing.assert_allclose(json.loads(finished.stdout), expected, rtol=1e-4)


def test_the_state_passed_in_is_the_start(tmp_path: Path) -> None:
    params, frozen = networks("student_decoder")
    work = task("student_decoder", learning_rate=1e-9, steps=1)
    before = jax.tree.map(jnp.copy, params)
    start = initial_state(params, task=work)
    state = train(start, frozen, Noise(), tmp_path, task=work, config=DistillationConfig())
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-8)


def test_a_full_disk_is_one_line_and_the_run_goes_on_from_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    expected, _ = run(tmp_path / "whole", save_every=16)
    sizes: list[int] = []

    def full(folder: Path, size: int) -> None:
        sizes.append(size)
        if len(sizes) == 2:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("cdjax.distillation.train_loop.check_space", full)
        reason = r"checkpoint of step 32 cannot be written \(No space left on device\).* step 16 in"
        with pytest.raises(TrainingError, match=reason):
            run(tmp_path / "parts", save_every=16)
    assert sizes[0] > sum(leaf.nbytes for leaf in jax.tree.leaves(expected))
    assert capfd.readouterr().err == ""
    assert steps_in(tmp_path / "parts") == [16]
    parts, _ = run(tmp_path / "parts", save_every=16)
    assert_equal(parts, expected)
