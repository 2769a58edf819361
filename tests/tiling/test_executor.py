"""Work spread over devices and hosts: all of it once, the same result wherever it was done."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.tiling.executor import execute
from tests import windows_run
from tests.distillation.test_hosts import ROOT, finish, free_port


def run(output: Path, devices: int, *hosts: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.windows_run", str(output), *hosts],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_devices_and_hosts_change_nothing(tmp_path: Path) -> None:
    windows_run.main(str(tmp_path / "one.npy"))
    finish([run(tmp_path / "three.npy", 3)])
    address = f"127.0.0.1:{free_port()}"
    finish([run(tmp_path / f"host{i}.npy", 1, address, "2", str(i)) for i in range(2)])
    one, *others = (
        np.load(tmp_path / f"{name}.npy") for name in ("one", "three", "host0", "host1")
    )
    assert one.std() > 0.01
    for other in others:
        np.testing.assert_array_equal(other, one)


def test_every_job_is_done_once_and_summed() -> None:
    written: dict[int, np.ndarray] = {}
    threads: set[str] = set()

    def read(job: int) -> np.ndarray:
        threads.add(threading.current_thread().name)
        return np.full(3, job, np.float32)

    def write(job: int, part: np.ndarray | None) -> None:
        threads.add(threading.current_thread().name)
        assert job not in written
        assert part is not None
        written[job] = part

    (total,) = execute(range(7), read, lambda job, piece: (piece + job, (jnp.sum(piece),)), write)
    assert total == 3 * sum(range(7))
    assert sorted(written) == list(range(7))
    assert all((part == 2 * job).all() for job, part in written.items())
    assert len(threads) == 2  # Not the one that starts the computations.


@pytest.mark.parametrize("where", ["read", "run", "write"])
def test_a_failure_anywhere_ends_it(where: str) -> None:
    def fail(step: str) -> None:
        if step == where:
            raise OSError("the disk is gone")

    def read(job: int) -> np.ndarray:
        fail("read")
        return np.zeros(1, np.float32)

    def work(job: int, piece: object) -> tuple[object, tuple[()]]:
        fail("run")
        return piece, ()

    with pytest.raises(OSError, match="the disk is gone"):
        execute(range(50), read, work, lambda job, part: fail("write"))  # type: ignore[arg-type]
