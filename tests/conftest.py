"""Fixtures for every test: where the shared material lies, and how programs are compiled."""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.compiling import AS_TESTS

# Here and in the processes that tests start; JAX reads it when it is imported.
os.environ.update(AS_TESTS)
if "PYTEST_XDIST_WORKER" not in os.environ:
    # What an earlier session or the user compiled or downloaded makes no test pass or fail.
    _cache = tempfile.TemporaryDirectory()
    os.environ["CDJAX_CACHE"] = _cache.name

import jax
import pytest

# JAX keeps very many objects, through which the collector would go again and again.
gc.set_threshold(200_000, 20, 100)

# A shell ignores Ctrl-C for what it runs in the background, and every process started from there
# would too, those among them that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights, goldens and images beside the repository."""
    if not (_SHARED / "METHOD.md").is_file():
        pytest.skip(
            f"no shared material at {_SHARED}; the small fixtures of our own cover this path"
        )
    return _SHARED


@pytest.fixture(autouse=True, scope="module")
def _programs_are_forgotten() -> Iterator[None]:
    """Every compiled program holds some of the 65,530 memory maps that Linux gives a process.

    XLA crashes where it gets no more of them.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 10_000:
        jax.clear_caches()
