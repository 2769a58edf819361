"""What a step has taken stays with the process; on Linux with glibc, whose allocator is tuned."""

import os
import platform
import subprocess
import sys

import pytest

from cdjax.cli.allocator import TRAINING

PROGRAM = """
import os
import sys
import time
import jax
import jax.numpy as jnp
from cdjax.cli.allocator import run_in_calling_thread

if sys.argv[1] == "here":
    run_in_calling_thread()

@jax.jit
def step(x):
    # By way of 256 MiB; with a loop, without which JAX runs little programs where they are called.
    return jax.lax.fori_loop(0, 2, lambda _, product: product / 2, x.T @ x) @ jnp.ones(8192)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def kept():
    step(x).block_until_ready()
    # A result is there before the thread that made it has freed what it took.
    samples = []
    for _ in range(20):
        time.sleep(0.05)
        samples.append(resident())
    return min(samples)

x = jax.block_until_ready(jnp.ones((8, 8192)))
print(max(kept(), kept()) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_a_step_takes_is_kept_if_it_runs_in_the_thread_that_calls_it() -> None:
    def held(where: str) -> int:
        environment = os.environ | {"GLIBC_TUNABLES": TRAINING, "PYTHONPATH": os.getcwd()}
        command = [sys.executable, "-c", PROGRAM, where]
        return int(subprocess.check_output(command, env=environment, text=True))

    here, elsewhere = held("here"), held("elsewhere")
    assert here > elsewhere + 200
