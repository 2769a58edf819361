"""Fixtures for every test: where the shared material lies."""

import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

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


@pytest.fixture(scope="module")
def quick_compiler() -> Iterator[None]:
    """Compiles without LLVM's optimiser, here and in processes that the tests start.

    For modules whose programs are many and run for a moment only.
    """
    name = "jax_disable_most_optimizations"
    # JAX would go on with programs that were compiled otherwise, whose last bits differ.
    jax.clear_caches()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name.upper(), "1")
        jax.config.update(name, True)
        yield
        jax.config.update(name, False)
    jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def _programs_are_forgotten() -> Iterator[None]:
    """Every compiled program holds some of the 65,530 memory maps that Linux gives a process.

    XLA crashes where it gets no more of them.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 10_000:
        jax.clear_caches()
