"""One distillation on several machines: here, two processes that talk over the loopback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cdjax import load_model
from cdjax.cli.distill_report import read_log
from cdjax.distillation.hosts import initialize
from cdjax.errors import HostsError
from tests.distillation.test_pipeline import vgg

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "--data.crop": "32",
    "--data.batch": "4",
    "--stages": "1",
    "--start.images": "8",
    "--start.crop": "32",
    "--start.decoder-images": "8",
    "--start.positions": "500",
    "--start.iterations": "1",
    "--student-autoencoder.steps": "4",
    "--student-decoder.steps": "0",
    "--save-every": "2",
}


def start(teacher: str, output: Path, *extra: str) -> subprocess.Popen[str]:
    options = [part for option in OPTIONS.items() for part in option]
    command = [sys.executable, "-m", "cdjax", "distill", "--teacher", teacher]
    command += ["--output", str(output), *options, *extra]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def finish(processes: list[subprocess.Popen[str]]) -> list[str]:
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text[-2000:]
    return said


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def losses(output: Path) -> list[float]:
    log = output / "stage1/student_autoencoder/log.jsonl"
    return [record["loss"] for record in read_log(log)]


def test_two_processes_make_what_one_makes(tmp_path: Path) -> None:
    teacher = vgg(tmp_path / "vgg")
    finish([start(teacher, tmp_path / "one")])
    coordinator = f"127.0.0.1:{free_port()}"
    both = [
        start(
            teacher,
            tmp_path / "two",
            *("--hosts.coordinator", coordinator),
            *("--hosts.processes", "2", "--hosts.index", str(index)),
        )
        for index in range(2)
    ]
    said = finish(both)
    assert "is the model" in said[0]
    assert "stage 1" not in said[1]
    one, two = (losses(tmp_path / name) for name in ("one", "two"))
    assert len(two) == 4
    np.testing.assert_allclose(two, one, rtol=1e-3)
    models = [load_model(tmp_path / name / "model") for name in ("one", "two")]
    for left, right in zip(*(jax.tree.leaves(m.params) for m in models), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-3 * np.abs(left).max())
    # The checkpoints of both go on in one: nothing is left to do.
    assert "already exists" in finish([start(teacher, tmp_path / "two")])[0]


def test_half_given_hosts_are_refused() -> None:
    initialize(None, None, None)
    with pytest.raises(HostsError, match="also needs: processes, index"):
        initialize("here:1", None, None)
    with pytest.raises(HostsError, match="index must be from 0 to 1, not 2"):
        initialize("here:1", 2, 2)
