"""Processes that run one implementation each, when told to, and say what it took.

    python -m experiments.measure cdjax|torch FOLDER DTYPE PLATFORM

A worker loads the weights, answers with what it is and holds, and then waits on its standard
input, using no processor, for one of these lines; each is answered by one line of JSON:

    run      stylise content.npy in the style of style.npy, both in FOLDER
    save     write the last result to FOLDER/{cdjax,torch}.npy
    images   read both images anew
    product  time matrix products (cdjax only)

FOLDER holds `checkpoint/` for cdjax and `weights.npz` for PyTorch, whose worker never imports
JAX; hence the imports inside the functions.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
_PRODUCT_RUNS = 3

Image = NDArray[np.uint8]
Result = NDArray[np.float32]
Memory = tuple[int, int]


class BenchmarkError(ValueError):
    """Something that cannot be compared; the message is one line that says why."""


class WorkerError(RuntimeError):
    """A worker that came to a bad end; the message is one line."""


class Worker:
    """A worker process, as its parent sees it.

    Attributes:
        about: what it said of itself: `device`, `platform`, `version` and `held`, the bytes in
            use before the first run.
    """

    def __init__(self, process: "subprocess.Popen[str]", name: str, errors: Any) -> None:
        self._process, self._name, self._errors = process, name, errors
        self.about = self._answer()

    def ask(self, line: str) -> dict[str, Any]:
        """Has the worker do one thing and waits for its answer.

        Raises:
            WorkerError: if the worker ends instead.
        """
        assert self._process.stdin
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended; reading the answer says so.
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self._process.wait()
        raise WorkerError(f"the {self._name} worker ended with {ending(code, self._errors)}")


def ending(code: int, errors: Any) -> str:
    """Exit status and last line of errors of a process, in one line.

    Args:
        code: as `subprocess` gives it, negative for a signal.
        errors: the binary file that it wrote its standard error to.
    """
    errors.seek(0)
    lines = errors.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
    return f"{code} (out of memory?)" if code == -9 else f"{code}: {last[:300]}"


def photograph(size: int, *, seed: int) -> NDArray[np.uint8]:
    """A made-up (size, size, 3) uint8 image with a photograph's spectrum, 1/f, and some noise."""
    generator = np.random.default_rng(seed)
    frequencies = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequencies[0, 0] = np.inf  # No power in the mean.
    planes = []
    for _ in range(4):
        spectrum = np.fft.rfft2(generator.standard_normal((size, size), np.float32))
        plane = np.fft.irfft2(spectrum / frequencies, (size, size))
        planes.append(plane / plane.std())
    # As in photographs the channels share their brightness and differ in a little colour.
    image = 120 + 45 * planes[0][..., None] + 15 * np.stack(planes[1:], -1)
    image += 4 * generator.standard_normal(image.shape, np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def _environment(folder: Path) -> dict[str, str]:
    caches = {"CDJAX_CACHE": str(folder / "cache")}
    # A GPU is shared with the other worker.
    return os.environ | caches | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def time_process(command: Sequence[str], name: str, *, folder: Path) -> float:
    """Seconds from the start to the end of a Python process; its caches are in `folder`.

    Raises:
        WorkerError: if it fails; the message calls it `name`.
    """
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        code = subprocess.call(
            [sys.executable, *command],
            cwd=ROOT,
            env=_environment(folder),
            stdout=errors,
            stderr=errors,
        )
        seconds = time.perf_counter() - start
        if code:
            raise WorkerError(f"the {name} process ended with {ending(code, errors)}")
    return seconds


@contextmanager
def worker(
    name: str,
    folder: Path,
    *,
    dtype: str,
    platform: str = "",
    module: str = "experiments.measure",
    allocator: str = "",
) -> Iterator[Worker]:
    """A worker that has loaded its weights and waits; it ends with the context.

    Args:
        name: `"cdjax"` or `"torch"`.
        folder: as in the module's description; a persistent compilation cache is kept there too.
        dtype: in which the networks compute.
        platform: as a cdjax worker calls it, for PyTorch: `"cpu"` or a GPU's.
        module: whose worker it is.
        allocator: GLIBC_TUNABLES of the process, unless the environment has some.

    Raises:
        WorkerError: if it cannot start.
    """
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache" / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, "-m", module, name, str(folder), dtype, platform]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=({"GLIBC_TUNABLES": allocator} if allocator else {}) | _environment(folder) | cache,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Worker(process, name, errors)
        finally:
            process.kill()


@dataclass(frozen=True)
class _Implementation:
    about: dict[str, str]
    run: Callable[[Image, Image], Result]
    memory: Callable[[], Memory]
    compilations: Callable[[], tuple[int, int]]
    """How many programs were sought so far, and how many the compilation cache did not have."""
    product: Callable[[], dict[str, float]]


def resident() -> Memory:
    """Bytes of memory that this process holds, and the most that it ever held."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        fields = {line.partition(":")[0]: line.split()[1:] for line in lines}
        return int(fields["VmRSS"][0]) * 1024, int(fields["VmHWM"][0]) * 1024
    except (OSError, KeyError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
        return peak, peak


def memory_of(device: Any) -> Memory:
    """Bytes that a JAX device holds, and the most that it ever held; on a CPU, the process's."""
    statistics = device.memory_stats()
    if not statistics:
        return resident()
    return statistics["bytes_in_use"], statistics["peak_bytes_in_use"]


def product_sizes(platform: str) -> tuple[int, ...]:
    """Of the matrices whose products show a device's speed; small ones are too short for a GPU."""
    return (2048, 3072) if platform == "cpu" else (8192,)


def matrix_products(dtype: str) -> float:
    """The most FLOP/s that products of square matrices reach in JAX."""
    import jax
    import jax.numpy as jnp

    multiply = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
    best = 0.0
    for size in product_sizes(jax.default_backend()):
        matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
        multiply(matrix, matrix).block_until_ready()
        for _ in range(_PRODUCT_RUNS):
            start = time.perf_counter()
            multiply(matrix, matrix).block_until_ready()
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def _cdjax(folder: Path, dtype: str, platform: str) -> _Implementation:
    import jax

    from cdjax import stylize
    from cdjax.checkpoints.load import load_model

    counted: Counter[str] = Counter()

    def count(event: str, *_: float, **__: Any) -> None:
        counted[event] += 1

    jax.monitoring.register_event_duration_secs_listener(count)
    jax.monitoring.register_event_listener(count)
    device = jax.devices()[0]
    model = load_model(folder / "checkpoint")
    return _Implementation(
        {"device": device.device_kind, "platform": device.platform, "version": jax.__version__},
        lambda content, style: np.asarray(stylize(model, content, style, dtype=dtype)),
        lambda: memory_of(device),
        lambda: (
            counted["/jax/core/compile/backend_compile_duration"],
            counted["/jax/compilation_cache/cache_misses"],
        ),
        lambda: {"flops": matrix_products(dtype)},
    )


def _torch(folder: Path, dtype: str, platform: str) -> _Implementation:
    import torch

    from experiments.plain_torch import Cascade
    from experiments.torch_worker import settled_torch, torch_memory

    about = settled_torch(platform)

    def product() -> dict[str, float]:
        raise NotImplementedError("cdjax times the matrix products")

    with np.load(folder / "weights.npz") as arrays:
        cascade = Cascade(arrays, device=about["platform"], dtype=getattr(torch, dtype))
    return _Implementation(
        about,
        cascade,
        lambda: torch_memory(about["platform"]),
        lambda: (0, 0),
        product,
    )


def _serve(name: str, folder: Path, implementation: _Implementation) -> None:
    def answer(**facts: Any) -> None:
        print(json.dumps(facts), flush=True)

    def run() -> Result:
        before, _ = implementation.compilations()
        start = time.perf_counter()
        result = implementation.run(content, style)
        seconds = time.perf_counter() - start
        peak = implementation.memory()[1]
        after, misses = implementation.compilations()
        answer(seconds=seconds, peak=peak, compilations=after - before, cache_misses=misses)
        return result

    def images() -> Iterator[Image]:
        return (np.load(folder / f"{image}.npy") for image in ("content", "style"))

    content, style = images()
    result = None
    answer(**implementation.about, held=implementation.memory()[0])
    for line in sys.stdin:
        match line.strip(), result:
            case "run", _:
                result = None  # Two results at once are not part of a run's memory.
                result = run()
            case "save", np.ndarray():
                np.save(folder / f"{name}.npy", result)
                answer()
            case "images", _:
                content, style = images()
                answer()
            case "product", _:
                answer(**implementation.product())
            case _:
                raise ValueError(f"cannot {line.strip()} now")


def main(name: str, folder: str, dtype: str, platform: str) -> None:
    """Serves one implementation until standard input ends."""
    load = {"cdjax": _cdjax, "torch": _torch}[name]
    _serve(name, Path(folder), load(Path(folder), dtype, platform))


if __name__ == "__main__":
    main(*sys.argv[1:])
